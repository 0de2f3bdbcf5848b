"""Lanes: the unit of work, of order, and of exactly-once.

A lane is a fixed share of the rows. Workers run contiguous ranges of lanes; ranges are cut anew when workers come or
go, always at a clock boundary. Sums go over one binary tree whose leaves are the lanes, so that their bits do not
depend on who computed which leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Part", "lane_mask", "share", "subtrees"]


class Part(NamedTuple):
    """The summed delta of lanes ``lo`` to ``hi`` (exclusive); its block is named by ``lo``."""

    lo: int
    hi: int


def share(lanes: int, workers: int) -> list[Part]:
    """Cut ``lanes`` into ``workers`` contiguous ranges, as even as can be.

    >>> share(8, 3)
    [Part(lo=0, hi=2), Part(lo=2, hi=5), Part(lo=5, hi=8)]
    """
    return [Part(lanes * i // workers, lanes * (i + 1) // workers) for i in range(workers)]


def middle(part: Part) -> int:
    """Where the tree splits ``part``."""
    return (part.lo + part.hi) // 2


def subtrees(lanes: int, range_: Part) -> list[Part]:
    """The maximal whole subtrees of the tree over ``lanes`` that lie in ``range_``, from left to right.

    >>> subtrees(8, Part(2, 5))
    [Part(lo=2, hi=4), Part(lo=4, hi=5)]
    """
    found: list[Part] = []

    def descend(node: Part) -> None:
        if node.hi <= range_.lo or node.lo >= range_.hi:
            return
        if range_.lo <= node.lo and node.hi <= range_.hi:
            found.append(node)
            return
        mid = middle(node)
        descend(Part(node.lo, mid))
        descend(Part(mid, node.hi))

    descend(Part(0, lanes))
    return found


def lane_mask(parts: Sequence[Part]) -> int:
    """Bit set of the lanes in ``parts``."""
    mask = 0
    for lo, hi in parts:
        mask |= (1 << hi) - (1 << lo)
    return mask
