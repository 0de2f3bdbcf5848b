"""Sorted keys: their signature, and a table from key to slot that grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.compiled import elementwise, frozen

__all__ = ["Slots", "signature"]

Keys = NDArray[np.uint64]
Positions = NDArray[np.int64]

FEWEST = 1024  # places of a new table


@elementwise
def _mix(x: np.uint64) -> np.uint64:
    """Each bit of ``x`` in each bit of the result: the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@elementwise
def _signature(keys: Keys) -> np.uint64:
    # Each key is mixed with its place before it is added: no order in which one addition must wait for the last.
    total = _mix(np.uint64(keys.size))
    for i in range(keys.size):
        total += _mix(keys[i] ^ _mix(np.uint64(i) + np.uint64(0x9E3779B97F4A7C15)))
    return _mix(total)


@elementwise
def _find(keys: Keys, places: Positions, known: Keys, count: int, add: bool, slots: Positions) -> int:
    """Write each key's slot (−1: none); with ``add``, one at the end for a new key. Returns the new count."""
    mask = np.uint64(places.size - 1)
    for i in range(keys.size):
        at = _mix(keys[i]) & mask
        while places[at] >= 0 and known[places[at]] != keys[i]:
            at = (at + np.uint64(1)) & mask
        if places[at] < 0 and add:
            places[at] = count
            known[count] = keys[i]
            count += 1
        slots[i] = places[at]
    return count


@elementwise
def _replace(known: Keys, count: int, places: Positions) -> None:
    mask = np.uint64(places.size - 1)
    for slot in range(count):
        at = _mix(known[slot]) & mask
        while places[at] >= 0:
            at = (at + np.uint64(1)) & mask
        places[at] = slot


def signature(keys: Keys) -> int:
    """64 bits that stand for ``keys``: as good as never the same for others, but not proof against malice.

    >>> signature(np.array([1, 2], np.uint64)) == signature(np.array([2, 1], np.uint64))
    False
    """
    return int(_signature(frozen(keys)))


class Slots:
    """Numbers keys in the order they are first seen.

    >>> Slots().of(np.array([7, 9, 7], np.uint64)).tolist()
    [0, 1, 0]
    """

    def __init__(self) -> None:
        self.count = 0
        self._known = np.empty(FEWEST // 2, np.uint64)
        self._places = np.full(FEWEST, -1, np.int64)

    @property
    def keys(self) -> Keys:
        """All keys seen, by slot."""
        return self._known[: self.count]

    def of(self, keys: Keys) -> Positions:
        """The slot of each key, new ones after all others."""
        self._room(self.count + keys.size)
        slots = np.empty(keys.size, np.int64)
        self.count = int(_find(frozen(keys), self._places, self._known, self.count, True, slots))
        return slots

    def _room(self, count: int) -> None:
        """Keep the table half empty at ``count`` keys."""
        if count <= self._known.size:
            return
        size = 1 << (2 * count - 1).bit_length()
        known = np.empty(size // 2, np.uint64)
        known[: self.count] = self.keys
        self._known, self._places = known, np.full(size, -1, np.int64)
        _replace(known, self.count, self._places)
