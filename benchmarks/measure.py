"""How each script of the benchmarks takes time and says what it found: one JSON line on standard output."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

__all__ = ["Cases", "emit", "least", "pin", "rate", "seconds", "wanted"]

Cases = dict[str, dict[str, float | str]]


def pin(cores: int, first: int = 0) -> None:
    """Keep this process (and the children it starts) on ``cores`` of the cores it may use."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(allowed[first : first + cores]) or set(allowed))


def rate(step: Callable[[], object], rows: int, *, warm: int = 30, window: float = 1.5, windows: int = 3) -> float:
    """Rows a second: the median of ``windows`` windows of ``window`` seconds, after ``warm`` steps."""
    for _ in range(warm):
        step()
    found = []
    for _ in range(windows):
        steps, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < window:
            step()
            steps += 1
        found.append(steps * rows / spent)
    return statistics.median(found)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def wanted(case: str) -> bool:
    """Whether ``case`` is to run: all do where no case is named on the command line."""
    return len(sys.argv) < 2 or case in sys.argv[1:]


def emit(peer: str, version: str, cases: Cases) -> None:
    """Print the one line: the peer, its version, and of each case ``value``, ``unit`` and what else was seen."""
    print(json.dumps({"peer": peer, "version": version, "cases": cases}), flush=True)


def least(fit: Callable[[int], float], goal: float, most: int = 4096) -> int | None:
    """The fewest iterations with which ``fit(iterations)`` gives an objective of ``goal`` or below.

    Doubles, then halves the bracket; None where ``most`` are not enough. Right for methods whose first iterations do
    not depend on how many are allowed.
    """
    low, high = 0, 4
    while fit(high) > goal:
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if fit(middle) <= goal else (middle, high)
    return high
