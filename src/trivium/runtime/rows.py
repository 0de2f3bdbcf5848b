"""One shard of a row table over plain arrays that processes of a node may share: one writes, the others read in place.

The rules that keep reads whole are in ``row_steps``. Arrays (``shard_arrays`` says their sizes, the owner makes them,
all zero, on 64-byte boundaries where it can): ``index`` the hash table; ``rows`` each row's values and state, with
spare slots; ``counters`` how many rows there are, and whether larger arrays have taken over.

What it costs: 24 bytes of index for each row that there is room for, and the padding of ``TableSpec.stride``; an update
reads one cache line of the index and those of the row, and writes the row once, to a slot that is still in the cache.

What it does not do: decide when to grow (``RowShard.wanted`` says what is needed, ``grown`` moves the rows, the owner
makes the arrays and tells the readers), apply a push to all its rows at once (each row is whole, rows are not of one
moment), or free rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError, ProtocolError, StorageError, UsageError
from trivium.program.kernels.keys import increasing
from trivium.program.tables import RowBlock, TableSpec, combine, unique
from trivium.runtime import row_steps
from trivium.runtime.atomics import load, store

__all__ = ["RowShard", "RowView", "capacity_within", "private_arrays", "shard_arrays", "shard_nbytes", "warm"]

Flat = NDArray[Any]
Keys = NDArray[np.int64]
Arrays = Mapping[str, Flat]

COUNTERS = 16  # words: a cache line each
MOVED = 8  # the counter that is 1 once larger arrays have taken over
BLOCK = 512  # rows updated between two commits, at most, and spare slots
LEAST = 4
ALIGN = 64
PUT = 16  # rows placed at a time, at least


def _buckets(capacity: int) -> int:
    return -(-capacity * 3 // 8) * 4  # two thirds full at most, four to a cache line


def _spares(capacity: int) -> int:
    return min(BLOCK, max(PUT, capacity // 8))


def shard_arrays(spec: TableSpec, capacity: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each array of a shard with room for ``capacity`` rows.

    >>> shard_arrays(TableSpec("w", width=8), 1024)
    {'index': ('int64', (3072,)), 'rows': ('float32', (18432,)), 'counters': ('int64', (16,))}
    """
    slots = capacity + _spares(capacity)
    if capacity < LEAST or slots > row_steps.MOST_SLOTS or _buckets(capacity) >= 1 << 32:
        raise UsageError(f"capacity={capacity}: a shard has room for {LEAST} to some 2.8·10⁹ rows; make more shards")
    return {
        "index": ("int64", (2 * _buckets(capacity),)),
        "rows": (spec.dtype, (slots * spec.stride,)),
        "counters": ("int64", (COUNTERS,)),
    }


def shard_nbytes(spec: TableSpec, capacity: int) -> int:
    """Bytes of a shard's arrays."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in shard_arrays(spec, capacity).values())


def capacity_within(spec: TableSpec, nbytes: int) -> int:
    """The most rows whose arrays take at most ``nbytes`` bytes; 0 where not even the smallest shard does."""
    low, high = 0, max(LEAST, nbytes // 24 + 1)
    while high - low > 1:
        middle = (low + high) // 2
        fits = middle < LEAST or shard_nbytes(spec, middle) <= nbytes
        low, high = (middle, high) if fits else (low, middle)
    return low if low >= LEAST else 0


def private_arrays(spec: TableSpec, capacity: int) -> dict[str, Flat]:
    """The arrays of a shard in this process's own memory."""
    return {name: _aligned(*form) for name, form in shard_arrays(spec, capacity).items()}


def _aligned(dtype: str, shape: tuple[int, ...]) -> Flat:
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    skip = -raw.ctypes.data % ALIGN
    return raw[skip : skip + nbytes].view(dtype).reshape(shape)


def warm(spec: TableSpec) -> None:
    """Compile, or load, all that shards of ``spec`` run, so that no push waits for it."""
    ones = np.ones((1, spec.width), spec.dtype)
    shard = RowShard(spec, private_arrays(spec, LEAST))
    shard.push([0, 0], np.concatenate([ones, ones]))
    block = shard.snapshot()
    shard.push([0], ones)
    copy = shard.grown(private_arrays(spec, LEAST + 1))
    copy.put(RowBlock(block.keys, block.rows, block.counts + 2))
    copy.pull(np.arange(2 if spec.rows is None else min(2, spec.rows)))
    copy.wanted(np.zeros(LEAST + 2, np.int64))


class RowView:
    """A shard as a process that only reads has it.

    >>> spec = TableSpec("w", update="add")
    >>> arrays = private_arrays(spec, 8)
    >>> shard, view = RowShard(spec, arrays), RowView(spec, arrays)
    >>> shard.push([7, 3, 7], [[1.0], [2.0], [3.0]])
    >>> view.pull([3, 5, 7]).ravel(), view.counts([3, 5, 7]), len(view)
    (array([2., 0., 4.], dtype=float32), array([ 1, -1,  1]), 2)
    """

    def __init__(self, spec: TableSpec, arrays: Arrays) -> None:
        self.spec = spec
        self.index, self.rows, self.counters = (arrays[name] for name in ("index", "rows", "counters"))
        self.capacity = _capacity(spec, arrays)
        first = spec.initial
        self._first = (spec.seed, first.code, first.scale, first.lead)

    def pull(self, keys: Any) -> Flat:
        """The rows of ``keys``, copied, (n, width): each whole. One that nobody pushed is what rows begin with."""
        wanted, spec = self.spec.checked(keys), self.spec
        out = np.empty((len(wanted), spec.width), spec.dtype)
        failed = row_steps.pull(self.index, self.rows, spec.stride, wanted, *self._first, out)
        if failed >= 0:
            raise self._unread(int(wanted[failed]))
        return out

    def counts(self, keys: Any) -> Keys:
        """How often the row of each key was updated, -1 where there is none: two reads of one count are the same."""
        wanted = self.spec.checked(keys)
        out = np.empty(len(wanted), np.int64)
        row_steps.counts_of(self.index, wanted, out)
        return out

    def snapshot(self, low: int = 0, high: int = (1 << 64) - 1) -> RowBlock:
        """The rows whose hash lies in ``low`` to ``high``, sorted by key, with state. Between pushes: of one moment."""
        spec = self.spec
        entries = row_steps.live_entries(self.index, np.uint64(low), np.uint64(high))
        keys = self.index[2 * entries + 1]
        order = np.argsort(keys, kind="stable")
        rows, counts = np.empty((len(keys), spec.size), spec.dtype), np.empty(len(keys), np.int64)
        failed = row_steps.take(self.index, self.rows, spec.stride, entries[order], rows, counts)
        if failed >= 0:
            raise self._unread(int(keys[order[failed]]))
        return RowBlock(keys[order], rows, counts)

    def _unread(self, key: int) -> StorageError:
        return StorageError(
            f"table {self.spec.name!r}: the row of key {key} changed during each of {row_steps.LOOKS} copies; is this "
            "process starved of its core? Start fewer workers"
        )

    @property
    def moved(self) -> bool:
        """Whether larger arrays have taken over: what is read here no longer changes."""
        return bool(load(self.counters, MOVED))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(self.index.nbytes + self.rows.nbytes + self.counters.nbytes)

    def __len__(self) -> int:
        return int(load(self.counters, row_steps.LIVE))


def _capacity(spec: TableSpec, arrays: Arrays) -> int:
    """The capacity that ``arrays`` were made for; UsageError where they do not fit together."""
    slots = len(arrays["rows"]) // spec.stride
    low, high = LEAST, max(LEAST, slots)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle + _spares(middle) < slots else (low, middle)
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    if shard_arrays(spec, low) != found:
        raise UsageError(f"arrays {found} are not those of a shard of table {spec.name!r}; size them with shard_arrays")
    return low


class RowShard:
    """A shard as its one writer has it.

    ``limit`` bounds the bytes of its arrays; while it grows, of the old and the new ones together. A writer that comes
    after one that died finds each row as it was before or after the push that was under way.

    >>> spec = TableSpec("w", width=2, update="sgd", lr=0.5)
    >>> shard = RowShard(spec, private_arrays(spec, 4))
    >>> shard.push([5, 2], [[1.0, 0.0], [0.0, 2.0]])
    >>> shard.pull([2, 3, 5])
    array([[ 0. , -1. ],
           [ 0. ,  0. ],
           [-0.5,  0. ]], dtype=float32)
    """

    def __init__(self, spec: TableSpec, arrays: Arrays, *, limit: int | None = None) -> None:
        self.spec, self.limit, self.view = spec, limit, RowView(spec, arrays)
        self.capacity = self.view.capacity
        self._index, self._rows, self._counters = self.view.index, self.view.rows, self.view.counters
        self._first = (spec.seed, spec.initial.code, spec.initial.scale, spec.initial.lead)
        spec.rule.ready(spec.width, spec.dtype)
        self._begin = spec.rule.begin(spec.width, spec.dtype)
        self._spare, self._head = np.empty(_spares(self.capacity), np.int64), 0
        scratch = np.empty(self.capacity + len(self._spare), np.uint8)
        live = row_steps.spare_slots(self._index, len(self._index) // 2, self._spare, scratch)
        store(self._counters, row_steps.LIVE, live)

    def pull(self, keys: Any) -> Flat:
        """As ``RowView.pull``."""
        return self.view.pull(keys)

    def counts(self, keys: Any) -> Keys:
        """As ``RowView.counts``."""
        return self.view.counts(keys)

    def snapshot(self, low: int = 0, high: int = (1 << 64) - 1) -> RowBlock:
        """As ``RowView.snapshot``."""
        return self.view.snapshot(low, high)

    def __len__(self) -> int:
        return len(self.view)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.view.nbytes

    @property
    def full(self) -> bool:
        """Whether there is room for no further row."""
        return len(self) == self.capacity

    def push(self, keys: Any, deltas: Any, *, scale: float = 1.0, share: float = 1.0) -> None:
        """Update the rows of ``keys`` by ``deltas`` (n, width), once each, by the sum of what is pushed to it.

        ``scale`` and ``share`` as in ``row_updates``. StorageError, and nothing changed, where rows lack room.
        """
        spec = self.spec
        wanted, summed = combine(spec.checked(keys), self._deltas(deltas))
        self._settle(wanted)
        block = len(self._spare)
        entries, bases, counts = (np.empty(min(block, len(wanted)), np.int64) for _ in range(3))
        for lo in range(0, len(wanted), block):
            k = min(block, len(wanted) - lo)
            e, b, c = entries[:k], bases[:k], counts[:k]
            self._reach(wanted, lo, e)
            row_steps.stage(self._index, self._rows, spec.stride, spec.size, e, self._spare, self._head, b, c)
            spec.rule.apply(self._rows, b, c, summed[lo : lo + k], spec.width, scale, share)
            row_steps.commit(self._index, e, self._spare, self._head)
            self._head = (self._head + k) % block

    def _deltas(self, deltas: Any) -> Flat:
        given, spec = np.asarray(deltas), self.spec
        if given.ndim == 1 and spec.width == 1:
            given = given[:, None]
        if given.ndim != 2 or given.shape[1] != spec.width:
            raise DataError(f"table {spec.name!r}: deltas of shape {given.shape}: expected (keys, {spec.width})")
        if not np.can_cast(given.dtype, spec.dtype, "same_kind"):
            raise DataError(
                f"table {spec.name!r}: deltas of {given.dtype} for rows of {spec.dtype}; convert them first"
            )
        return np.ascontiguousarray(given, spec.dtype)

    def _settle(self, keys: Keys) -> None:
        """StorageError unless there is room for the rows that lack."""
        if self.view.moved:
            raise ProtocolError(f"table {self.spec.name!r}: a push to arrays that larger ones have taken over")
        short = self._short(keys)
        if short > 0:
            raise StorageError(
                f"table {self.spec.name!r}: a shard with room for {self.capacity:,} rows needs {short:,} more; "
                "ask wanted() and grow it first"
            )

    def _short(self, keys: Keys) -> int:
        """How many rows more than there is room for; ``keys`` are distinct."""
        room = self.capacity - len(self)
        return 0 if len(keys) <= room else max(0, row_steps.missing(self._index, keys) - room)

    def _reach(self, keys: Keys, lo: int, entries: Keys) -> None:
        """The entries of the keys from ``lo`` on; rows that lack are made."""
        spec, buckets, live = self.spec, len(self._index) // 2, len(self)
        if row_steps.locate(self._index, buckets, self._rows, spec.stride, spec.size, keys, lo, entries):
            slot = live + len(self._spare)
            after = row_steps.create(
                self._index, self._rows, spec.stride, spec.width, keys, lo, entries, slot, self._begin, *self._first
            )
            store(self._counters, row_steps.LIVE, live + after - slot)

    def wanted(self, keys: Any) -> int:
        """The capacity with which a push to ``keys`` fits: this one, or twice it as often as needed.

        StorageError where ``limit`` does not allow it.
        """
        found = self.spec.checked(keys)
        if len(found) <= self.capacity - len(self):
            return self.capacity
        need, capacity = self.capacity + self._short(unique(found).keys), self.capacity
        while capacity < need:
            capacity *= 2
        if capacity == self.capacity or self.limit is None:
            return capacity
        most = capacity_within(self.spec, self.limit - self.nbytes)
        if most < need:
            raise StorageError(
                f"table {self.spec.name!r}: {need:,} rows of a shard need {shard_nbytes(self.spec, need):,} bytes, "
                f"beside the {self.nbytes:,} that it has until they are moved; its limit is {self.limit:,} bytes in "
                "all: allow more memory, or spread the table over more shards and nodes"
            )
        return min(capacity, most)

    def grown(self, arrays: Arrays) -> RowShard:
        """The shard in larger ``arrays`` (zeros), with all its rows. Here ``moved`` is set: readers go over there."""
        larger, spec = RowShard(self.spec, arrays, limit=self.limit), self.spec
        if len(larger) or larger.capacity < len(self):
            raise UsageError(
                f"table {spec.name!r}: {len(self)} rows move to new arrays with room for them, all zero; these hold "
                f"{len(larger)} of {larger.capacity}"
            )
        slot = len(larger._spare)
        row_steps.move(self._index, self._rows, larger._index, larger._rows, spec.stride, spec.size, slot)
        store(larger._counters, row_steps.LIVE, len(self))
        store(self._counters, MOVED, 1)
        return larger

    def put(self, block: RowBlock) -> int:
        """Take over the rows of ``block`` that were updated more often than ours, or are not here; how many these are.

        So a copy or a view gets rows in any order, and twice, and ends the same.
        """
        if block.rows.shape != (len(block), self.spec.size) or block.rows.dtype.name != self.spec.dtype:
            raise DataError(
                f"table {self.spec.name!r}: rows of {block.rows.dtype} {block.rows.shape}: expected "
                f"{self.spec.dtype} ({len(block)}, {self.spec.size}), values and state"
            )
        keys = self.spec.checked(block.keys)
        if not increasing(keys):
            raise DataError(
                f"table {self.spec.name!r}: the keys of a block ascend, none twice; merge makes such blocks"
            )
        self._settle(keys)
        held = self.counts(block.keys)
        self._insert(block.take(np.flatnonzero(held < 0)))
        newer = block.take(np.flatnonzero((held >= 0) & (held < block.counts)))
        spec, size = self.spec, len(self._spare)
        for lo in range(0, len(newer), size):
            entries = np.empty(min(size, len(newer) - lo), np.int64)
            row_steps.locate(
                self._index, len(self._index) // 2, self._rows, spec.stride, spec.size, newer.keys, lo, entries
            )
            row_steps.place(
                self._index, self._rows, spec.stride, entries, self._spare, self._head, newer.rows, lo, newer.counts
            )
            self._head = (self._head + len(entries)) % size
        return int((held < block.counts).sum())

    def _insert(self, block: RowBlock) -> None:
        if len(block):
            slot = len(self) + len(self._spare)
            after = row_steps.insert(
                self._index, self._rows, self.spec.stride, block.keys, block.rows, block.counts, slot
            )
            store(self._counters, row_steps.LIVE, after - len(self._spare))

    def restore(self, block: RowBlock) -> None:
        """Begin with the rows of ``block``; UsageError unless there are none yet."""
        if len(self):
            raise UsageError(f"table {self.spec.name!r}: a shard of {len(self)} rows is not restored; use new arrays")
        self.put(block)
