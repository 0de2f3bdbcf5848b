"""Apportioning lanes: how many each worker gets, given how fast each is. Pure.

Workers hold contiguous ranges of lanes, in order; a plan is how many each gets.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from trivium.core.lanes import Part, share

__all__ = ["best_counts", "ranges"]


def ranges(counts: Sequence[int]) -> tuple[Part, ...]:
    """The ranges of workers with ``counts`` lanes, in order.

    >>> ranges([3, 0, 2])
    (Part(lo=0, hi=3), Part(lo=3, hi=3), Part(lo=3, hi=5))
    """
    found, lo = [], 0
    for count in counts:
        found.append(Part(lo, lo + count))
        lo += count
    return tuple(found)


def best_counts(
    seconds_per_lane: Sequence[float],
    lanes: int,
    *,
    held: Sequence[int] | None = None,
    most: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Lanes for each worker: the least ``max(count * seconds)``, then the least sum of these, then the fewest moves.

    ``held``: what each has now (default: as even as can be); ``most``: what each may have. A worker may get none.
    ValueError where seconds are not above 0, or ``most`` leaves no room.

    >>> best_counts([1.0, 4.0, 1.0, 1.0], 8), best_counts([1.0, 4.0, 1.0, 1.0], 16)
    ((3, 0, 3, 2), (5, 1, 5, 5))
    >>> best_counts([1.0, 4.0, 1.0, 1.0], 8, held=[2, 0, 3, 3])
    (2, 0, 3, 3)
    """
    seconds = list(seconds_per_lane)
    if not seconds or not all(0 < one < math.inf for one in seconds):
        raise ValueError(f"seconds per lane {seconds}: expected one number above 0 for each worker")
    limits = [lanes] * len(seconds) if most is None else [min(one, lanes) for one in most]
    if sum(limits) < lanes:
        raise ValueError(f"at most {limits} lanes: expected room for {lanes}")
    bound = _bound(seconds, lanes, limits)
    room = [_fit(bound, one, limit) for one, limit in zip(seconds, limits, strict=True)]
    counts, left, tied = [0] * len(seconds), lanes, list[int]()
    for speed in sorted(set(seconds)):
        alike = [i for i, one in enumerate(seconds) if one == speed]
        whole = sum(room[i] for i in alike)
        if whole > left:
            tied = alike
            break
        left -= whole
        for i in alike:
            counts[i] = room[i]
    if not left:
        return tuple(counts)
    now = ranges(held) if held is not None else tuple(share(lanes, len(seconds)))
    return _fewest_moves(counts, left, {i: room[i] for i in tied}, now)


def _bound(seconds: Sequence[float], lanes: int, limits: Sequence[int]) -> float:
    """The least time in which all lanes can be done: lane by lane to whoever would end first."""
    heap = [(one, i, 1) for i, one in enumerate(seconds) if limits[i]]
    heapq.heapify(heap)
    bound = 0.0
    for _ in range(lanes):
        bound, i, count = heap[0]
        if count < limits[i]:
            heapq.heapreplace(heap, ((count + 1) * seconds[i], i, count + 1))
        else:
            heapq.heappop(heap)
    return bound


def _fit(bound: float, seconds: float, limit: int) -> int:
    """The most lanes that take no longer than ``bound``, judged by the very products that are compared."""
    count = min(limit, math.ceil(min(bound / seconds, limit)) + 1)
    while count and count * seconds > bound:
        count -= 1
    return count


def _fewest_moves(counts: Sequence[int], left: int, room: dict[int, int], now: Sequence[Part]) -> tuple[int, ...]:
    """``left`` lanes among the workers of ``room`` such that the fewest change their owner; earlier ones first.

    Dynamic programme over the workers; its state is how many of ``left`` are given.
    """
    reached: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    fixed, to_come = 0, sum(room.values())
    for i, count in enumerate(counts):
        to_come -= room.get(i, 0)
        following: dict[int, tuple[int, tuple[int, ...]]] = {}
        for used, (moved, chosen) in reached.items():
            lo = fixed + used
            for more in range(max(0, left - used - to_come), min(room.get(i, 0), left - used) + 1):
                hi = lo + count + more
                kept = max(0, min(hi, now[i].hi) - max(lo, now[i].lo))
                option = (moved + hi - lo - kept, (*chosen, -(count + more)))
                if used + more not in following or option < following[used + more]:
                    following[used + more] = option
        fixed += count
        reached = following
    return tuple(-one for one in reached[left][1])
