"""The end of ``train`` and ``resume``: follow the run, say what came out, return the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from trivium.cli.evaluate import score_lines
from trivium.cli.follow import Followed, follow
from trivium.cli.screen import Screen
from trivium.cli.signals import Interrupted, Signals
from trivium.errors import RunError, StorageError
from trivium.observe.progress import Display
from trivium.observe.rundir import read_run
from trivium.observe.summary import Line, next_lines, notice_lines, result_lines, short_line, start_lines, time_lines
from trivium.record import Record

__all__ = ["conclude"]

Start = Callable[[Display], Followed]
Judge = Callable[[Record], str]
Measure = Callable[[], Mapping[str, float]]


def conclude(
    begin: Start,
    display: Display,
    screen: Screen,
    signals: Signals,
    judge: Judge,
    as_json: bool,
    out: Path,
    reading: float = 0.0,
    measure: Measure | None = None,
) -> int:
    """Start a run with ``begin``, follow it, print; 0 where it ended by itself, 128 + n after signal n.

    ``reading`` seconds went into reading rows before the run, and count as its loading; ``measure`` gives further
    metrics of the model. Where the run fails, the error passes through, after a word on what is left of it.
    """
    try:
        ended = follow(begin(display), signals, display)
    except (RunError, Interrupted):
        display.close()
        screen.told(_left(out))
        raise
    finally:
        display.close()
    signals.undefer()
    record = replace(ended.record, load_seconds=ended.record.load_seconds + reading)
    scores = measure() if measure is not None and ended.signum is None else {}
    _print(record, scores, screen, judge if ended.signum is None else None, as_json)
    if screen.out.lost:
        raise StorageError(f"the result could not be written to stdout ({screen.out.lost}); it is in {out}/record.json")
    return 0 if ended.signum is None else 128 + ended.signum


def _print(record: Record, scores: Mapping[str, float], screen: Screen, judge: Judge | None, as_json: bool) -> None:
    if screen.quiet:
        if not as_json:
            told = [f"{name} {value:.6g}" for name, value in scores.items()]
            screen.text(", ".join([short_line(record), *told]))
    else:
        seen = screen.out.isatty() and screen.err.isatty()  # notices are on the screen already
        screen.result([*start_lines(record), *([] if seen else notice_lines(record.notices))])
        screen.result([*result_lines(record), *score_lines(scores), *time_lines(record)])
        if judge is not None:
            screen.result([("verdict", judge(record))])
        screen.result(next_lines(record.run, resumable="interrupt" in record.stopped_by))
    if as_json:
        screen.json({**record.as_json(), "metrics": dict(scores)} if scores else record.as_json())


def _left(out: Path) -> list[Line]:
    """What a run that failed has left, in commands."""
    try:
        return next_lines(str(out), resumable=read_run(out).resumable)
    except (OSError, ValueError):
        return []
