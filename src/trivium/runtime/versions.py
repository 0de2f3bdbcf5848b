"""Versioned buffer of one shard: K slots, of which one is the current version, and readers that pin what they read.

Rules
-----
* A slot is never written while it is one of the last two committed versions or pinned. The writer fills a free slot
  (``begin``), then makes it the current version (``commit``) with one 8-byte store of (clock, slot before, slot).
* What is not committed does not exist. A slot's clock is stored before the commit, so that a reader who finds the slot
  finds its clock. A writer that dies leaves a slot that nobody reads; its successor goes on from the committed version.
* A reader publishes its pin, then looks again: only if the current word has not moved does the pin hold, else it tries
  anew (hazard pointers: Michael, IEEE TPDS 2004). The writer commits first and looks for pins afterwards. All words are
  sequentially consistent, so one of the two sees the other. A reader retries only because a version was committed.
* One writer at a time; one pin a reader. Whoever reaps a dead reader drops its pin.

The same source runs in ``trivium.testing.explore`` in every order, with a crash at every step.

What it does not do: guard a slot against readers that did not pin it, or hold more than the last two versions for
readers that come later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import UsageError
from trivium.runtime.atomics import load, step, store

__all__ = ["SLOTS", "Versions"]

SLOTS = 4
LINE = 8  # words of one cache line
CURRENT, TAGS = 0, 8  # the current word has a line of its own; a tag is the slot's clock + 1
CLOCK, BEFORE, BYTE = 1 << 16, 8, 255  # the current word: clock + 1, slot before + 1, slot + 1; 0 is no version yet


@step
def pin_at(slots: int, reader: int) -> int:
    """Word of the reader's pin (slot + 1, or 0), on a line of its own."""
    return TAGS + (slots + LINE - 1) // LINE * LINE + reader * LINE


@step
def pinned(words: Any, slots: int, readers: int, slot: int) -> bool:
    """Whether any reader holds ``slot``."""
    for reader in range(readers):  # noqa: SIM110 - any() over a generator is not compiled
        if load(words, pin_at(slots, reader)) == slot + 1:
            return True
    return False


@step
def begin_slot(words: Any, slots: int, readers: int) -> int:
    """A free slot, the nearest after the current one in rotation; -1 if there is none."""
    now = load(words, CURRENT)
    last, before = now % 256 - 1, (now >> BEFORE) % 256 - 1
    for k in range(1, slots + 1):
        slot = (last + k) % slots
        if slot not in (last, before) and not pinned(words, slots, readers, slot):
            return slot
    return -1


@step
def commit_slot(words: Any, slot: int, clock: int) -> None:
    """Make ``slot`` the current version."""
    now = load(words, CURRENT)
    store(words, TAGS + slot, clock + 1)
    store(words, CURRENT, (clock + 1) * CLOCK + (now % 256 << BEFORE) + slot + 1)


@step
def replace_slot(words: Any, slot: int, clock: int) -> None:
    """Make ``slot`` the current version in the place of the current one: the one before that stays the one before."""
    now = load(words, CURRENT)
    store(words, TAGS + slot, clock + 1)
    store(words, CURRENT, (clock + 1) * CLOCK + ((now >> BEFORE) % 256 << BEFORE) + slot + 1)


@step
def find(words: Any, now: int, clock: int) -> int:
    """The slot of ``clock`` (-1: the newest) if the current word ``now`` still names it, else -1."""
    if clock < 0 or now // CLOCK == clock + 1:
        return now % 256 - 1
    before = (now >> BEFORE) % 256 - 1
    if before >= 0 and load(words, TAGS + before) == clock + 1:
        return before
    return -1


@step
def pin_slot(words: Any, slots: int, reader: int, clock: int) -> int:
    """Pin the version of ``clock`` (-1: the newest) for ``reader``; -1 if it is not among the last two."""
    mine = pin_at(slots, reader)
    while True:
        now = load(words, CURRENT)
        slot = find(words, now, clock)
        if slot >= 0:
            store(words, mine, slot + 1)
        if load(words, CURRENT) == now:
            if slot < 0:
                store(words, mine, 0)
            return slot


class Versions:
    """One shard's versions over shared memory, as its writer, its readers and its watcher use them.

    ``words`` is an int64 array of ``Versions.words(readers, slots)`` words that all processes map, zero at first.
    The slots' contents lie elsewhere; here are only their clocks and who reads them.

    >>> shard = Versions(np.zeros(Versions.words(2), np.int64), readers=2)
    >>> slot = shard.begin(); shard.commit(slot, clock=0)
    >>> shard.current(), shard.pin(1), shard.begin()
    ((0, 0), 0, 1)
    """

    def __init__(self, words: NDArray[np.int64], readers: int, slots: int = SLOTS) -> None:
        need = self.words(readers, slots)
        if words.dtype != np.int64 or words.ndim != 1 or len(words) < need or not words.flags.c_contiguous:
            raise UsageError(
                f"versions of {slots} slots for {readers} readers need a contiguous int64 array of {need} words, got "
                f"{words.dtype} of shape {words.shape}; size it with Versions.words"
            )
        self.readers, self.slots = readers, slots
        self._memory = words
        self._pins = [int(pin_at(slots, reader)) for reader in range(readers)]

    @staticmethod
    def words(readers: int, slots: int = SLOTS) -> int:
        """int64 words of shared memory."""
        if not 3 <= slots < BYTE:
            raise UsageError(f"slots must be 3 to {BYTE - 1} (the last two versions stay, one is written), got {slots}")
        if readers < 0:
            raise UsageError(f"readers must be 0 or more, got {readers}")
        return int(pin_at(slots, readers))

    def begin(self) -> int:
        """Writer: a slot to fill, neither one of the last two versions nor pinned; -1 if there is none for now."""
        slot: int = begin_slot(self._memory, self.slots, self.readers)
        return slot

    def commit(self, slot: int, clock: int) -> None:
        """Writer: publish ``slot``, filled, as the version of ``clock`` (0 or more)."""
        commit_slot(self._memory, slot, clock)

    def replace(self, slot: int, clock: int) -> None:
        """Writer: as ``commit``, but ``slot`` takes the place of the current version, which never was.

        >>> shard = Versions(np.zeros(Versions.words(1), np.int64), readers=1)
        >>> for clock in (3, 4):
        ...     shard.commit(shard.begin(), clock)
        >>> shard.replace(shard.begin(), 4)
        >>> shard.current(), shard.pin(0, 3) >= 0
        ((4, 2), True)
        """
        replace_slot(self._memory, slot, clock)

    def pin(self, reader: int, clock: int = -1) -> int:
        """Reader: the slot of the newest version, or of exactly ``clock``; it stays as it is until ``unpin``.

        -1, and nothing pinned, if that clock is not among the last two committed (or nothing was committed yet).
        """
        slot: int = pin_slot(self._memory, self.slots, reader, clock)
        return slot

    def unpin(self, reader: int) -> None:
        """Reader: let go of the pinned slot."""
        store(self._memory, self._pins[reader], 0)

    def drop(self, reader: int) -> None:
        """Watcher: let go of what a reaped reader had pinned."""
        store(self._memory, self._pins[reader], 0)

    def current(self) -> tuple[int, int]:
        """(clock, slot) of the newest version; (-1, -1) before the first."""
        now: int = load(self._memory, CURRENT)
        return now // CLOCK - 1, now % 256 - 1

    def clock_of(self, slot: int) -> int:
        """Clock of ``slot`` as last committed, -1 if never; of use while the slot is pinned or current."""
        clock: int = load(self._memory, TAGS + slot) - 1
        return clock
