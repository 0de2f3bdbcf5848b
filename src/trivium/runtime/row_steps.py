"""How one process writes a shard's rows while others read them in place: step functions, and loops of them.

Rules
-----
* The index is open addressing with linear probing, two int64 words an entry: ``word`` (0: empty) and key. The word says
  in which slot the row lies and how often it was updated: ``count << 32 | slot + 1``. Entries are never moved or freed.
* **A row that can be found is never written.** An update copies the row to a spare slot, changes it there, and then
  flips the word: one 8-byte store. The slot left is spare again. What is not committed does not exist, row by row:
  values, state and count change together, and a writer that dies leaves each row as it was before or as it is after.
* A reader copies a row, then looks at its word again: only if it has not moved is the copy whole, else it copies anew.
  It never waits for the writer, and copies again only because that very row was committed meanwhile. A slot may return
  to the same row between the two looks, but not with the same count: counts of a row only grow.
* A new entry's key is written before its word, so whoever sees the word finds the key.
* Slots in use and spare ones together are always the first ``rows + spares`` of the array, so a successor finds the
  spares by looking at the index alone (``spare_slots``): none is ever lost.

One writer. Orders: the word is stored sequentially consistent, after the row; before spares are written a fence keeps
these writes behind the flips that freed them; the reader's fence keeps its second look behind its copy. (Boehm, *Can
seqlocks get along with programming language memory models?*, MSPC 2012: the same on both sides.)

The same source runs in ``trivium.testing.explore`` in every order, with a crash at every step.
"""

# ruff: noqa: ARG001 - numba passes its contexts and takes the arity from the signature
from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from trivium.program.kernels.elementary import prefetch
from trivium.program.kernels.keys import begin_row, compiled, hash_of
from trivium.runtime.atomics import load, store

__all__ = [
    "LIVE",
    "MOST_SLOTS",
    "commit",
    "commit_row",
    "counts_of",
    "create",
    "find_entry",
    "insert",
    "live_entries",
    "missing",
    "move",
    "place",
    "pull",
    "read_row",
    "spare_slots",
    "stage",
    "take",
]

Flat = NDArray[Any]
Words = NDArray[np.int64]

LIVE = 0  # the counter of rows that there are
_intrinsic = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)

COUNT = 32  # bits below the count in a word
SLOT = (1 << COUNT) - 1
MOST_SLOTS = SLOT - 1
TURNED = 1 << 30  # what a count of 2^31 goes on from: never small again
LOOKS = 1 << 16  # copies of one row before a reader gives up
AHEAD = 64  # rows asked for at a time, before any is read
LINES = 4  # cache lines of a row that are asked for


@_intrinsic
def _fence_acquire(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.void(), generate


@_intrinsic
def _fence_release(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def fence_acquire() -> None:
    """Keep later loads behind earlier ones."""
    _fence_acquire()


@compiled
def fence_release() -> None:
    """Keep later stores behind earlier loads and stores."""
    _fence_release()


# --- steps: one row --------------------------------------------------------------------------------------------------
@compiled
def bucket_of(key: int, buckets: int) -> int:
    """Where the search for ``key`` begins: the lower half of the hash, as a share of ``buckets``."""
    lower: Any = hash_of(key) & np.uint64(0xFFFFFFFF)
    place: int = np.int64((lower * np.uint64(buckets)) >> np.uint64(32))  # type: ignore[assignment]
    return place


@compiled
def find_entry(index: Any, buckets: int, key: int, at: int) -> int:
    """The entry of ``key``, looked for from ``at`` on; ``-1 - entry`` of the first empty one if there is none."""
    while True:
        if load(index, 2 * at) == 0:
            return -1 - at
        if index[2 * at + 1] == key:
            return at
        at += 1
        if at == buckets:
            at = 0


@compiled
def read_row(index: Any, rows: Any, stride: int, width: int, entry: int, out: Any, to: int) -> int:
    """Copy a row, whole, to ``out[to:]``; how often it was updated, or -1 where no copy was whole."""
    word = load(index, 2 * entry)
    for _ in range(LOOKS):
        base = ((word & SLOT) - 1) * stride
        for j in range(width):
            out[to + j] = rows[base + j]
        fence_acquire()
        again = load(index, 2 * entry)
        if again == word:
            return int(word >> COUNT)
        word = again
    return -1


@compiled
def enter(index: Any, entry: int, key: int, word: int) -> None:
    """Publish a new entry, whose row is written."""
    index[2 * entry + 1] = key
    store(index, 2 * entry, word)


@compiled
def copy_row(rows: Any, stride: int, size: int, source: int, slot: int) -> None:
    """Copy the row in slot ``source`` to a spare one."""
    for j in range(size):
        rows[slot * stride + j] = rows[source * stride + j]


@compiled
def commit_row(index: Any, entry: int, slot: int) -> int:
    """Make the row in ``slot`` the entry's, updated once more; the slot that it leaves."""
    word = load(index, 2 * entry)
    count = (word >> COUNT) + 1
    if count == 2 * TURNED:
        count = TURNED
    store(index, 2 * entry, (count << COUNT) + slot + 1)
    return int((word & SLOT) - 1)


@compiled
def spare_slots(index: Any, buckets: int, spare: Any, free: Any) -> int:
    """Fill ``spare`` with the lowest slots that no entry has; ``free`` (slots,) is scratch. How many rows there are."""
    live, found = 0, 0
    for slot in range(len(free)):
        free[slot] = 1
    for at in range(buckets):
        word = load(index, 2 * at)
        if word != 0:
            free[(word & SLOT) - 1] = 0
            live += 1
    for slot in range(len(free)):
        if found == len(spare):
            break
        if free[slot] != 0:
            spare[found] = slot
            found += 1
    return live


# --- loops of a reader -----------------------------------------------------------------------------------------------
@compiled
def ask(rows: Flat, base: int, size: int) -> None:
    """Ask for the cache lines of a row."""
    line = 64 // rows.itemsize
    for j in range(0, min(size, LINES * line), line):
        prefetch(rows, np.uint64(base + j))
    prefetch(rows, np.uint64(base + min(size, LINES * line) - 1))


@compiled
def locate(index: Words, buckets: int, rows: Flat, stride: int, size: int, keys: Flat, lo: int, entries: Words) -> int:
    """The entries of the keys from ``lo`` on, or ``-1 - empty`` (``find_entry``); asks for the rows. How many lack."""
    lacking = 0
    for i in range(len(entries)):
        entries[i] = bucket_of(keys[lo + i], buckets)
        prefetch(index, np.uint64(2 * entries[i]))
    for i in range(len(entries)):
        entries[i] = find_entry(index, buckets, keys[lo + i], entries[i])
        if entries[i] < 0:
            lacking += 1
        else:
            ask(rows, ((load(index, 2 * entries[i]) & SLOT) - 1) * stride, size)
    return lacking


@compiled
def pull(
    index: Words, rows: Flat, stride: int, keys: Flat, seed: int, kind: int, scale: float, lead: int, out: Flat
) -> int:  # fmt: skip
    """Copy the rows of ``keys`` to ``out`` (keys, width), what they begin with where they lack; -1, or whose failed."""
    buckets, width = len(index) // 2, out.shape[1]
    entries, flat = np.empty(AHEAD, np.int64), out.reshape(-1)
    for lo in range(0, len(keys), AHEAD):
        k = min(AHEAD, len(keys) - lo)
        locate(index, buckets, rows, stride, width, keys, lo, entries[:k])
        for i in range(k):
            to = (lo + i) * width
            if entries[i] < 0:
                begin_row(keys[lo + i], seed, kind, scale, lead, width, flat, to)
            elif read_row(index, rows, stride, width, entries[i], flat, to) < 0:
                return lo + i
    return -1


@compiled
def counts_of(index: Words, keys: Flat, out: Words) -> None:
    """How often the row of each key was updated; -1 where it lacks."""
    buckets = len(index) // 2
    for i in range(len(keys)):
        entry = find_entry(index, buckets, keys[i], bucket_of(keys[i], buckets))
        out[i] = -1 if entry < 0 else load(index, 2 * entry) >> COUNT


@compiled
def missing(index: Words, keys: Flat) -> int:
    """How many of ``keys`` have no row."""
    buckets, lacking = len(index) // 2, 0
    for i in range(len(keys)):
        if find_entry(index, buckets, keys[i], bucket_of(keys[i], buckets)) < 0:
            lacking += 1
    return lacking


@compiled
def live_entries(index: Words, low: Any, high: Any) -> Words:
    """The entries whose keys' hash is from ``low`` to ``high``, both included (uint64)."""
    buckets, found = len(index) // 2, 0
    for at in range(buckets):
        if load(index, 2 * at) != 0 and low <= hash_of(index[2 * at + 1]) <= high:
            found += 1
    out = np.empty(found, np.int64)
    found = 0
    for at in range(buckets):
        if found < len(out) and load(index, 2 * at) != 0 and low <= hash_of(index[2 * at + 1]) <= high:
            out[found] = at
            found += 1
    return out[:found]


@compiled
def take(index: Words, rows: Flat, stride: int, entries: Words, out: Flat, counts: Words) -> int:
    """Copy whole rows with their state to ``out`` (entries, size); -1, or whose failed."""
    size, flat = out.shape[1], out.reshape(-1)
    for lo in range(0, len(entries), AHEAD):
        k = min(AHEAD, len(entries) - lo)
        for i in range(lo, lo + k):
            ask(rows, ((load(index, 2 * entries[i]) & SLOT) - 1) * stride, size)
        for i in range(lo, lo + k):
            counts[i] = read_row(index, rows, stride, size, entries[i], flat, i * size)
            if counts[i] < 0:
                return i
    return -1


# --- loops of the writer ---------------------------------------------------------------------------------------------
@compiled
def create(
    index: Words, rows: Flat, stride: int, width: int, keys: Flat, lo: int, entries: Words, slot: int, begin: Flat,
    seed: int, kind: int, scale: float, lead: int,
) -> int:  # fmt: skip
    """Make the rows that lack among ``entries``, in slots from ``slot`` on; the slot after the last."""
    buckets = len(index) // 2
    for i in range(len(entries)):
        if entries[i] >= 0:
            continue
        key = keys[lo + i]
        entry = -1 - find_entry(index, buckets, key, -1 - entries[i])  # an earlier one may have taken the place
        base = slot * stride
        begin_row(key, seed, kind, scale, lead, width, rows, base)
        for j in range(len(begin)):
            rows[base + width + j] = begin[j]
        enter(index, entry, key, slot + 1)
        entries[i] = entry
        slot += 1
    return slot


@compiled
def stage(
    index: Words, rows: Flat, stride: int, size: int, entries: Any, spare: Any, head: int, bases: Any, counts: Any
) -> None:
    """Copy the rows of ``entries`` to spare slots from ``head`` on: where each begins, how often it was updated."""
    fence_release()
    for i in range(len(entries)):
        word = load(index, 2 * entries[i])
        slot = spare[(head + i) % len(spare)]
        copy_row(rows, stride, size, (word & SLOT) - 1, slot)
        bases[i], counts[i] = slot * stride, word >> COUNT


@compiled
def commit(index: Any, entries: Any, spare: Any, head: int) -> None:
    """Publish what ``stage`` copied and an update changed; the slots left become spare."""
    for i in range(len(entries)):
        at = (head + i) % len(spare)
        spare[at] = commit_row(index, entries[i], spare[at])


@compiled
def place(
    index: Words, rows: Flat, stride: int, entries: Words, spare: Words, head: int, given: Flat, lo: int, counts: Words
) -> None:
    """Put whole rows, ``given[lo:]`` with ``counts[lo:]`` updates, in the place of those of ``entries``."""
    fence_release()
    for i in range(len(entries)):
        at = (head + i) % len(spare)
        slot, word = spare[at], load(index, 2 * entries[i])
        for j in range(given.shape[1]):
            rows[slot * stride + j] = given[lo + i, j]
        spare[at] = (word & SLOT) - 1
        store(index, 2 * entries[i], (counts[lo + i] << COUNT) + slot + 1)


@compiled
def insert(index: Words, rows: Flat, stride: int, keys: Flat, given: Flat, counts: Words, slot: int) -> int:
    """Enter whole rows whose keys have none, in slots from ``slot`` on; the slot after the last."""
    buckets = len(index) // 2
    for i in range(len(keys)):
        entry = -1 - find_entry(index, buckets, keys[i], bucket_of(keys[i], buckets))
        for j in range(given.shape[1]):
            rows[slot * stride + j] = given[i, j]
        enter(index, entry, keys[i], (counts[i] << COUNT) + slot + 1)
        slot += 1
    return slot


@compiled
def move(
    old: Words, old_rows: Flat, index: Words, rows: Flat, stride: int, size: int, slot: int
) -> None:  # fmt: skip
    """Enter the rows of ``old`` in new arrays, in slots from ``slot`` on."""
    buckets, ends = len(index) // 2, len(old) // 2
    for at in range(ends):
        ahead = load(old, 2 * min(at + AHEAD, ends - 1))
        if ahead != 0:
            ask(old_rows, ((ahead & SLOT) - 1) * stride, size)
        word = load(old, 2 * at)
        if word != 0:
            key, base = old[2 * at + 1], ((word & SLOT) - 1) * stride
            entry = -1 - find_entry(index, buckets, key, bucket_of(key, buckets))
            for j in range(size):
                rows[slot * stride + j] = old_rows[base + j]
            enter(index, entry, key, word - (word & SLOT) + slot + 1)
            slot += 1
