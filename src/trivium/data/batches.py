"""Which rows a lane reads at a clock: a pure function of (seed, lane, clock).

Shuffling is without replacement, within the lane, one permutation an epoch. Lanes hold contiguous shares of the rows,
so a full batch is a range and needs no gathering.

Rows that are too many for memory are taken in **strides**: a lane is cut into chunks of contiguous rows, which an epoch
takes in random order; so many chunks at a time make a window, within which rows are shuffled. Then a lane needs one
window in memory, and the disk is read in chunks. A full batch goes over its rows in strips. Strides follow from the
data and the plan alone, never from who reads: the order, and the bits, are the same for any number of workers.

Prior art: windowed shuffling over shards (tf.data's ``shuffle``; Meng et al., *Convergence analysis of distributed
stochastic gradient descent with shuffling*, Neurocomputing 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Table

__all__ = ["Batch", "BatchPlan", "LaneReader", "NoPager", "Pager", "Strides", "lane_rows", "strides"]

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
LARGE = 1 << 30  # bytes of training rows from which on they are taken in strides
CHUNK = 1 << 20  # bytes of a chunk: enough for a disk to read it at its full speed
WINDOW = 32 << 20  # bytes of a lane's window, at most
STRIP = 16 << 20  # bytes of a strip, at most
SHARE = 4  # of the memory of a worker is for the windows of all lanes, and for a strip


@dataclass(frozen=True)
class Batch:
    """Rows of ``table``: those of ``index``, or ``start`` to ``stop`` where ``index`` is None."""

    table: Table
    start: int = 0
    stop: int = 0
    index: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.stop - self.start if self.index is None else len(self.index)

    def strips(self, rows: int) -> list[Batch]:
        """A range of rows, cut into ranges of at most ``rows``."""
        return [Batch(self.table, at, min(at + rows, self.stop)) for at in range(self.start, self.stop, rows)]


def lane_rows(rows: int, lanes: int, lane: int) -> tuple[int, int]:
    """The contiguous share ``[start, stop)`` of ``rows`` that belongs to ``lane``."""
    return rows * lane // lanes, rows * (lane + 1) // lanes


@dataclass(frozen=True)
class Strides:
    """Rows of a chunk, of a window, and of a strip."""

    chunk: int
    window: int
    strip: int


def strides(rows: int, nbytes: int, lanes: int, memory: int | None = None) -> Strides | None:
    """How ``rows`` rows of ``nbytes`` bytes are taken under ``memory`` bytes a worker; None: all at will.

    >>> strides(1000, 1 << 20, 8) is None
    True
    >>> strides(40_000_000, 8 << 30, 8, memory=1 << 30)
    Strides(chunk=4882, window=156250, strip=78125)
    """
    if nbytes <= LARGE and (memory is None or nbytes <= memory // SHARE):
        return None
    row = max(1.0, nbytes / rows)
    window, strip = WINDOW, STRIP
    if memory is not None:
        window, strip = min(window, memory // (SHARE * lanes)), min(strip, memory // SHARE)
    chunk = min(CHUNK, window // 4)
    return Strides(*(max(1, int(size / row)) for size in (chunk, window, strip)))


@dataclass(frozen=True)
class BatchPlan:
    """How ``rows`` training rows become clocks.

    ``batch_size`` is global: rows a clock over all lanes; None is the full batch. ``steps`` clocks make one epoch.
    """

    rows: int
    lanes: int
    batch_size: int | None
    seed: int
    shuffle: bool = True
    strides: Strides | None = None

    @property
    def full(self) -> bool:
        """Whether each clock reads every row."""
        return self.batch_size is None or self.batch_size >= self.rows

    def quota(self, lane: int) -> int:
        """Rows that ``lane`` reads a clock (fewer at the end of an epoch)."""
        if self.full:
            start, stop = lane_rows(self.rows, self.lanes, lane)
            return stop - start
        assert self.batch_size is not None
        return self.batch_size * (lane + 1) // self.lanes - self.batch_size * lane // self.lanes

    @property
    def steps(self) -> int:
        """Clocks in an epoch: until the slowest lane has read all its rows."""
        if self.full:
            return 1
        most = 1
        for lane in range(self.lanes):
            start, stop = lane_rows(self.rows, self.lanes, lane)
            quota = self.quota(lane)
            if quota:
                most = max(most, -(-(stop - start) // quota))
        return most

    def rows_until(self, clock: int) -> int:
        """Rows that all lanes together have read after ``clock`` clocks."""
        epochs, step = divmod(clock, self.steps)
        if self.full or step == 0:
            return epochs * self.rows
        part = 0
        for lane in range(self.lanes):
            start, stop = lane_rows(self.rows, self.lanes, lane)
            part += min(step * self.quota(lane), stop - start)
        return epochs * self.rows + part

    def largest(self, lanes: range) -> int:
        """Most rows that ``lanes`` together read at one clock."""
        return sum(self.quota(lane) for lane in lanes)

    def order(self, lane: int, epoch: int) -> NDArray[np.int64]:
        """The lane's rows in the order of ``epoch``."""
        start, stop = lane_rows(self.rows, self.lanes, lane)
        if not self.shuffle:
            return np.arange(start, stop, dtype=np.int64)
        return start + self._stream(lane, epoch).permutation(stop - start)

    def _stream(self, lane: int, epoch: int, window: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, (lane << 32) | epoch], counter=[0, 0, 0, window]))

    def windows(self, lane: int, epoch: int) -> Windows:
        """The lane's windows in the order of ``epoch``; only with strides."""
        assert self.strides is not None
        start, stop = lane_rows(self.rows, self.lanes, lane)
        count = max(1, -(-(stop - start) // self.strides.chunk))
        order = self._stream(lane, epoch).permutation(count) if self.shuffle else np.arange(count)
        edges = start + (stop - start) * np.arange(count + 1) // count
        together = max(1, self.strides.window // self.strides.chunk)
        return Windows(self, lane, epoch, edges, order, together)

    def key(self, lane: int, clock: int) -> int:
        """Seed of what is random inside Δ for (lane, clock): 64 bits, mixed by splitmix64 (Steele et al., 2014)."""
        z = (self.seed * GOLDEN + (lane << 40) + clock + 1) * GOLDEN & MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return z ^ z >> 31


class Windows:
    """A lane's rows in one epoch, a window at a time: chunks ``order`` of those between ``edges``, so many together."""

    def __init__(
        self, plan: BatchPlan, lane: int, epoch: int, edges: NDArray[np.int64], order: NDArray[np.int64], together: int
    ) -> None:
        self._plan, self._lane, self._epoch = plan, lane, epoch
        self._chunks = np.stack([edges[order], edges[order + 1]], axis=1)
        self._together = together
        sizes = np.add.reduceat(self._chunks[:, 1] - self._chunks[:, 0], np.arange(0, len(order), together))
        self.ends = np.cumsum(sizes)  # of the windows, in positions of the epoch

    def __len__(self) -> int:
        return len(self.ends)

    def ranges(self, window: int) -> list[tuple[int, int]]:
        """The rows of ``window`` as ranges; none beyond the last."""
        chunks: list[tuple[int, int]] = self._chunks[window * self._together : (window + 1) * self._together].tolist()
        return [(lo, hi) for lo, hi in chunks]

    def rows(self, window: int) -> NDArray[np.int64]:
        """The rows of ``window`` in the order in which they are read."""
        rows = np.concatenate([np.arange(lo, hi, dtype=np.int64) for lo, hi in self.ranges(window)])
        if self._plan.shuffle:
            self._plan._stream(self._lane, self._epoch, window + 1).shuffle(rows)  # noqa: SLF001 - same module
        return rows


class Pager(Protocol):
    """Told which rows of the training table are needed soon, and which not any more."""

    def soon(self, ranges: list[tuple[int, int]]) -> None:
        """These rows will be read."""

    def over(self, ranges: list[tuple[int, int]]) -> None:
        """These rows were read, and will not be again for a while."""


class NoPager:
    """Everything stays where it is."""

    def soon(self, ranges: list[tuple[int, int]]) -> None:
        """Ignore."""

    def over(self, ranges: list[tuple[int, int]]) -> None:
        """Ignore."""


@dataclass
class _Lane:
    """Where a lane is: the window's rows, and the positions in the epoch that they are at."""

    epoch: int
    windows: Windows
    window: int
    start: int
    rows: NDArray[np.int64]


class LaneReader:
    """Keeps the current order of each lane, so that a clock costs one slice."""

    def __init__(self, table: Table, plan: BatchPlan, pager: Pager | None = None) -> None:
        self.table, self.plan = table, plan
        self._pager = pager or NoPager()
        self._steps, self._full = plan.steps, plan.full
        self._quotas = [plan.quota(lane) for lane in range(plan.lanes)]
        self._ranges: dict[range, Batch] = {}
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}
        self._lanes: dict[int, _Lane] = {}
        self._left: list[list[tuple[int, int]]] = []  # windows whose last rows are in the batch that was given last

    def batch(self, lanes: range, clock: int) -> Batch:
        """The rows of ``lanes`` (contiguous) at ``clock``, in lane order."""
        plan = self.plan
        if self._full:
            whole = self._ranges.get(lanes)
            if whole is None:
                start, _ = lane_rows(plan.rows, plan.lanes, lanes.start)
                _, stop = lane_rows(plan.rows, plan.lanes, lanes.stop - 1)
                whole = self._ranges[lanes] = Batch(self.table, start, stop)
            return whole
        pick = self._pick
        if plan.strides is not None:
            pick = self._pick_striding
            while self._left:
                self._pager.over(self._left.pop())
        picks = [pick(lane, clock) for lane in lanes]
        index = picks[0] if len(picks) == 1 else np.concatenate(picks)
        return Batch(self.table, index=index)

    def _pick(self, lane: int, clock: int) -> NDArray[Any]:
        epoch, step = divmod(clock, self._steps)
        held = self._orders.get(lane)
        if held is None or held[0] != epoch:
            held = (epoch, self.plan.order(lane, epoch))
            self._orders[lane] = held
        quota = self._quotas[lane]
        return held[1][step * quota : (step + 1) * quota]

    def _pick_striding(self, lane: int, clock: int) -> NDArray[Any]:
        """Positions of the clock, from one window or from several that follow one another."""
        epoch, step = divmod(clock, self._steps)
        quota, held = self._quotas[lane], self._lanes.get(lane)
        if held is None or held.epoch != epoch or step * quota < held.start:
            if held is not None:
                self._left.append(held.windows.ranges(held.window))
            held = self._enter(lane, epoch, self.plan.windows(lane, epoch), 0)
        at, end = step * quota, min((step + 1) * quota, int(held.windows.ends[-1]))
        pieces = []
        while at < end:
            while at >= held.start + len(held.rows):
                self._left.append(held.windows.ranges(held.window))
                held = self._enter(lane, epoch, held.windows, held.window + 1)
            piece = held.rows[at - held.start : end - held.start]
            pieces.append(piece)
            at += len(piece)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def _enter(self, lane: int, epoch: int, windows: Windows, window: int) -> _Lane:
        self._pager.soon(windows.ranges(window + 1))
        start = int(windows.ends[window - 1]) if window else 0
        held = self._lanes[lane] = _Lane(epoch, windows, window, start, windows.rows(window))
        return held
