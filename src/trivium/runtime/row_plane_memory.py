"""Where row tables lie in a node's memory: in a file without a name that grows, which all its processes map in parts.

Rules
-----
* A **yard** is one sparse ``memfd``. Each process takes ranges from a window of its own, so that no two ever take the
  same; pages are allocated when a range is taken (``StorageError`` there and then) and given back when it is freed.
* A shard's arrays are one range. A larger one takes over by a new *generation* (even; odd while it changes). Readers
  look at the generation, read in place, and look again: where it has moved they read again, so that what a freed range
  shows them is never used.
* ``LIVE`` says whether this node's copy is one that is kept up: a node that has only heard how far others are holds no
  rows.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import RunError, StorageError
from trivium.program.tables import Keys, RowBlock, TableSpec
from trivium.runtime.atomics import load, store
from trivium.runtime.memory import available_memory
from trivium.runtime.rows import RowShard, RowView, shard_arrays, shard_nbytes

__all__ = ["GENERATION", "LIVE", "TAG", "WORDS", "Lodging", "Plot", "Yard", "laid"]

Flat = NDArray[Any]
WINDOW = 1 << 44  # bytes of file that each process takes ranges from; only what is taken is memory
ALIGN = 64
GENERATION, OFFSET, NBYTES, CAPACITY, LIVE, TAG = range(6)
WORDS = 8  # of a shard
LEAST_ROWS = 1024
LOOKS = 1000


class Plot:
    """A range of a yard, mapped: ``raw`` are its bytes."""

    def __init__(self, fd: int, offset: int, nbytes: int) -> None:
        self.offset, self.nbytes = offset, nbytes
        self._map = mmap.mmap(fd, nbytes, offset=offset)
        self.raw: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def free(self) -> None:
        """Give the pages back; whoever still reads sees zeros."""
        self._map.madvise(mmap.MADV_REMOVE)


class Yard:
    """One process's way to the node's growing memory. ``ends[me]`` is how much of its window was ever taken.

    ``fd`` belongs to whoever made it.
    """

    def __init__(self, fd: int, me: int, ends: NDArray[np.int64]) -> None:
        self.fd, self._me, self._ends = fd, me, ends

    @staticmethod
    def create(processes: int) -> int:
        """A descriptor of a new one for so many processes."""
        fd = os.memfd_create("rows", os.MFD_CLOEXEC)
        os.ftruncate(fd, processes * WINDOW)
        return fd

    def take(self, nbytes: int) -> Plot:
        """So many bytes or more, all zero; StorageError where the memory cannot be had."""
        size = -(-max(1, nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        room = available_memory()
        if size > room:
            raise StorageError(_too_much(size, room))
        used = int(self._ends[self._me])
        offset = self._me * WINDOW + used
        try:
            os.posix_fallocate(self.fd, offset, size)
        except OSError as error:
            raise StorageError(f"{_too_much(size, room)} ({error.strerror})") from None
        self._ends[self._me] = used + size
        return Plot(self.fd, offset, size)

    def open(self, offset: int, nbytes: int) -> Plot:
        """A range that somebody has taken."""
        return Plot(self.fd, offset, nbytes)


def _too_much(nbytes: int, room: int) -> str:
    return (
        f"rows of a table need {nbytes:,} bytes of memory at once, and {room:,} are available here; add nodes, lower "
        "copies or the table's width, or raise the memory limit"
    )


def laid(raw: NDArray[np.uint8], forms: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Flat]:
    """Arrays of ``forms`` (type and shape) one after another in ``raw``, each on a 64-byte boundary."""
    found, at = {}, 0
    for name, (dtype, shape) in forms.items():
        count = int(np.prod(shape, dtype=np.int64))
        size = count * np.dtype(dtype).itemsize
        found[name] = raw[at : at + size].view(dtype).reshape(shape)
        at += -(-size // ALIGN) * ALIGN
    return found


class Lodging:
    """One shard of a table as a process of a node has it: all may read it, the server alone writes.

    ``words``: the shard's row of the node's memory. ``expected``: the rows that it will have at most, by and large.
    """

    def __init__(self, spec: TableSpec, words: NDArray[np.int64], yard: Yard, expected: int | None) -> None:
        self.spec, self.words, self.yard, self.expected = spec, words, yard, expected
        self.shard: RowShard | None = None  # the writer's
        self._pending: tuple[Callable[[], RowBlock], Callable[[], int | None]] | None = None
        self._settling = threading.Lock()
        self._plot: Plot | None = None
        self._seen = -1  # the generation of ``_view``
        self._view: RowView | None = None

    # -- readers ------------------------------------------------------------------------------------------------------
    @property
    def live(self) -> bool:
        """Whether the rows are here."""
        return bool(load(self.words, LIVE))

    @property
    def tag(self) -> int:
        """How far the shard is, as this node knows it."""
        return int(load(self.words, TAG))

    def pull(self, keys: Keys) -> Flat | None:
        """The rows of ``keys``; None where they are not here."""
        words = self.words
        for _ in range(LOOKS):
            if not load(words, LIVE):
                return None
            generation = load(words, GENERATION)
            try:
                rows = self._reading(generation).pull(keys)
            except (StorageError, ValueError, OSError):
                if load(words, GENERATION) == generation:
                    raise
                continue
            if load(words, GENERATION) == generation:
                return rows
        raise StorageError(f"table {self.spec.name!r}: a shard moved {LOOKS} times while it was read; start it anew")

    def _reading(self, generation: int) -> RowView:
        if generation == self._seen and self._view is not None:
            return self._view
        offset, nbytes, capacity = (int(load(self.words, at)) for at in (OFFSET, NBYTES, CAPACITY))
        if generation % 2 or load(self.words, GENERATION) != generation:
            raise ValueError("it moves")
        plot = self.yard.open(offset, nbytes)
        self._view = RowView(self.spec, self._laid(plot, capacity))
        self._seen = generation
        return self._view

    # -- the writer ---------------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return 0 if self.shard is None else len(self.shard)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return 0 if self._plot is None else self._plot.nbytes

    def begin(self, tag: int, rows: RowBlock | None = None, room: int | None = None) -> None:
        """Hold ``rows`` (none), at ``tag``; ``room``: bytes that it may take. StorageError where that is too little."""
        count = 0 if rows is None else len(rows)
        capacity = max(LEAST_ROWS, count + count // 4)
        if self.expected is not None:
            capacity = max(count, 4, min(capacity, self.expected))
        self._within(capacity, room)
        old, self._pending = self._plot, None
        plot = self._plot_for(capacity)
        shard = RowShard(self.spec, self._laid(plot, capacity))
        if rows is not None:
            shard.restore(rows)
        store(self.words, TAG, tag)
        self._publish(plot, shard)
        if old is not None:
            old.free()

    def pend(self, tag: int, load_rows: Callable[[], RowBlock], room: Callable[[], int | None]) -> None:
        """Hold what ``load_rows`` gives, at ``tag``, from when it is needed: a node may come to hold none of it."""
        self.leave(tag)
        self._pending = load_rows, room

    def _settle(self) -> RowShard:
        """The rows, which are here or can be had; RunError where they are not. Any thread of the writer may ask."""
        with self._settling:
            if self._pending is not None:
                load_rows, room = self._pending
                self.begin(self.tag, load_rows(), room())
        if self.shard is None:
            raise RunError(f"table {self.spec.name!r}: this node holds no rows of the shard that it is asked for")
        return self.shard

    def attach(self) -> None:
        """Write from now on what another process of the node has begun."""
        if self.live and self.shard is None:
            offset, nbytes, capacity = (int(load(self.words, at)) for at in (OFFSET, NBYTES, CAPACITY))
            self._plot = self.yard.open(offset, nbytes)
            self.shard = RowShard(self.spec, self._laid(self._plot, capacity))

    def _within(self, capacity: int, room: int | None) -> None:
        need = shard_nbytes(self.spec, capacity)
        if room is not None and need > room:
            raise StorageError(
                f"table {self.spec.name!r}: {capacity:,} rows of a shard need {need:,} bytes, and {max(0, room):,} are "
                "left of what a node may hold: allow more memory, or spread the table over more nodes"
            )

    def _plot_for(self, capacity: int) -> Plot:
        return self.yard.take(shard_nbytes(self.spec, capacity) + 4 * ALIGN)

    def _laid(self, plot: Plot, capacity: int) -> dict[str, Flat]:
        return laid(plot.raw, shard_arrays(self.spec, capacity))

    def _publish(self, plot: Plot, shard: RowShard) -> None:
        generation = int(load(self.words, GENERATION))
        store(self.words, GENERATION, generation + 1)
        for at, value in ((OFFSET, plot.offset), (NBYTES, plot.nbytes), (CAPACITY, shard.capacity), (LIVE, 1)):
            store(self.words, at, value)
        store(self.words, GENERATION, generation + 2)
        self._plot, self.shard = plot, shard

    def push(self, keys: Keys, deltas: Flat, scale: float, share: float, room: int | None) -> None:
        """Update rows; ``keys`` ascend, none twice. ``room``: bytes that old and new arrays may take together."""
        shard = self._settle()
        if len(keys) > shard.capacity - len(shard):
            shard = self._with_room(shard, keys, room)
        shard.push(keys, deltas, scale=scale, share=share)

    def _with_room(self, shard: RowShard, keys: Keys, room: int | None) -> RowShard:
        need = len(shard) + int((shard.counts(keys) < 0).sum())
        if need <= shard.capacity:
            return shard
        shard.limit = room
        capacity = shard.wanted(keys)
        if self.expected is not None and need <= self.expected < capacity:
            capacity = self.expected
        plot = self._plot_for(capacity)
        grown = shard.grown(self._laid(plot, capacity))
        old = self._plot
        self._publish(plot, grown)
        assert old is not None
        old.free()
        return grown

    def advanced(self, tag: int) -> None:
        """The rows are those of ``tag`` now."""
        store(self.words, TAG, tag)

    def leave(self, tag: int) -> None:
        """Hold no rows any more; others are at ``tag``."""
        store(self.words, LIVE, 0)
        store(self.words, TAG, tag)
        old, self._plot, self.shard, self._pending = self._plot, None, None, None
        if old is not None:
            old.free()

    def reach(self, keys: Keys) -> Flat:
        """The rows of ``keys``, for any thread of the writer; RunError where they are not here."""
        rows = self.pull(keys)
        if rows is None:
            self._settle()
            rows = self.pull(keys)
        if rows is None:
            raise RunError(f"table {self.spec.name!r}: this node has let go of the rows of a shard while it read them")
        return rows

    def snapshot(self) -> RowBlock:
        """All rows, between two pushes. Any process may ask where they are here; RunError where they are not."""
        if self.shard is None and self.live:  # of another process
            return self._reading(int(load(self.words, GENERATION))).snapshot()
        return self._settle().snapshot()

    def close(self) -> None:
        """Let go of all that is mapped."""
        self._view = self.shard = self._plot = self._pending = None
        with contextlib.suppress(AttributeError):
            del self.yard
