"""Does it pay? The rows a second of this run beside those of one process with as many threads.

A run over several processes that is slower than one process must say so; this file says it in words. Measuring the
other side is the session's (``yardstick``); here are the budget for it and the sentence.

The bands are a matter of measurement noise, not of taste: a few steps on a busy machine repeat within about 10 %, so a
ratio within 10 % of 1 is called equal.
"""

from __future__ import annotations

from trivium.observe.figures import duration, rate
from trivium.record import Record

__all__ = ["EQUAL", "budget", "threads_of", "verdict", "why_not"]

EQUAL = 0.10  # ratios within this of 1 are called equal
MOST = 2.0  # seconds that the measurement may take
SHARE = 0.10  # or this share of the run, whichever is less
LEAST = 0.05  # seconds under which nothing can be told
LONG_SHARE = 0.25  # of training: a long run may spend it on compiling the yardstick anew
ENOUGH = 0.5  # seconds beyond which nothing more is learned
LAUNCH = 0.1  # seconds until a process that is warm trains


def threads_of(record: Record, cores: int) -> int:
    """Threads of the one process that ``record`` is compared with: as many as the run used, at most ``cores``."""
    return max(1, min(record.workers * max(1, record.threads), cores))


def budget(record: Record, step_rows: int) -> float:
    """Seconds of steps that the yardstick may take; 0 where it is not worth it or would take too long.

    What comes before its first step (launch, data, compiling) counts too. One step of one process takes at most
    ``workers`` times as long as ours; five steps must fit.
    """
    before = record.startup_seconds + record.load_seconds + record.compile_seconds
    whole = before + record.seconds + record.evaluate_seconds
    allowed = min(ENOUGH, min(MOST, SHARE * whole) - LAUNCH - record.compile_seconds)
    if LAUNCH + record.compile_seconds + ENOUGH <= LONG_SHARE * record.seconds:
        allowed = ENOUGH
    if record.design == "sequential" or record.samples_per_second <= 0 or _lost_somebody(record):
        return 0.0
    five_steps = 5 * record.workers * step_rows / record.samples_per_second
    return allowed if allowed >= LEAST and five_steps <= allowed else 0.0


def _lost_somebody(record: Record) -> bool:
    return any(" died (" in notice for notice in record.notices)


def why_not(record: Record) -> str:
    """The sentence where nothing was measured."""
    if record.design == "sequential":
        return "one process with all its threads: this is the baseline itself"
    if record.samples_per_second <= 0:
        return "not measured: no step was finished"
    if _lost_somebody(record):
        return "not measured: a process died on the way, so the speed is not that of the plan"
    overhead = record.startup_seconds + record.compile_seconds
    text = f"not measured: to time one process too is more than {duration(record.seconds)} of training are worth"
    if record.compile_seconds > LAUNCH:
        text += f" (it compiles anew, {duration(record.compile_seconds)} here)"
    if overhead > record.seconds:
        text += f"; starting and compiling took longer ({duration(overhead)}) than training, so it cannot have paid"
    return text


def verdict(record: Record, alone: float, threads: int) -> str:
    """In words, with the ratio: ``alone`` is rows a second of one process with ``threads`` threads."""
    if not alone > 0:
        return "not measured: one process finished no step in the time allowed"
    ratio = record.samples_per_second / alone
    facts = f"{rate(record.samples_per_second)} against {rate(alone)} of one process with {threads} threads"
    if threads == 1:
        facts = facts.replace("1 threads", "one thread")
    if abs(ratio - 1) <= EQUAL:
        return f"it makes no difference: {facts} ({ratio:.2f}×)"
    if ratio > 1:
        return f"it pays: {facts} ({ratio:.2f}×)"
    return f"it does not pay: {facts} ({ratio:.2f}×); --design sequential is the faster way on this machine"
