"""Which rows a lane reads at a clock: a pure function of (seed, lane, clock).

Shuffling is without replacement, within the lane, one permutation an epoch. Lanes hold contiguous shares of the rows,
so a full batch is a range and needs no gathering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Table

__all__ = ["Batch", "BatchPlan", "LaneReader", "lane_rows"]

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Batch:
    """Rows of ``table``: those of ``index``, or ``start`` to ``stop`` where ``index`` is None."""

    table: Table
    start: int = 0
    stop: int = 0
    index: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.stop - self.start if self.index is None else len(self.index)


def lane_rows(rows: int, lanes: int, lane: int) -> tuple[int, int]:
    """The contiguous share ``[start, stop)`` of ``rows`` that belongs to ``lane``."""
    return rows * lane // lanes, rows * (lane + 1) // lanes


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
        stream = np.random.Generator(np.random.Philox(key=[self.seed, (lane << 32) | epoch]))
        return start + stream.permutation(stop - start)

    def key(self, lane: int, clock: int) -> int:
        """Seed of what is random inside Δ for (lane, clock): 64 bits, mixed by splitmix64 (Steele et al., 2014)."""
        z = (self.seed * GOLDEN + (lane << 40) + clock + 1) * GOLDEN & MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return z ^ z >> 31


class LaneReader:
    """Keeps the current order of each lane, so that a clock costs one slice."""

    def __init__(self, table: Table, plan: BatchPlan) -> None:
        self.table, self.plan = table, plan
        self._steps, self._full = plan.steps, plan.full
        self._ranges: dict[range, Batch] = {}
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

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
        picks = [self._pick(lane, clock) for lane in lanes]
        index = picks[0] if len(picks) == 1 else np.concatenate(picks)
        return Batch(self.table, index=index)

    def _pick(self, lane: int, clock: int) -> NDArray[Any]:
        epoch, step = divmod(clock, self._steps)
        held = self._orders.get(lane)
        if held is None or held[0] != epoch:
            held = (epoch, self.plan.order(lane, epoch))
            self._orders[lane] = held
        quota = self.plan.quota(lane)
        return held[1][step * quota : (step + 1) * quota]
