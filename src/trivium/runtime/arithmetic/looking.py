"""Evaluation: float64 sums over each lane's share of a set's rows, in strips where they are too many for memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.messages import EvaluateRows
from trivium.data.batches import Batch, lane_rows
from trivium.data.table import Table
from trivium.program.program import EVALUATION
from trivium.runtime.arithmetic.arrays import Bench
from trivium.runtime.arithmetic.deltas import Deltas

__all__ = ["Looking"]


class Looking:
    """Evaluates with the kernels of ``deltas``; ``sample`` are rows of the training table."""

    def __init__(
        self, bench: Bench, deltas: Deltas, tables: dict[str, Table], sample: NDArray[np.int64] | None
    ) -> None:
        self.bench, self.deltas, self.tables, self.sample = bench, deltas, tables, sample

    def evaluate(self, work: EvaluateRows, view: NDArray[Any]) -> tuple[tuple[tuple[float, ...], ...], ...]:
        """``Sums.sums`` of ``work`` with the parameters in ``view``."""
        self.deltas.forget_ahead()
        lanes = range(work.lanes.lo, work.lanes.hi)
        return tuple(tuple(self._lane_sums(view, name, lane) for lane in lanes) for name in work.sets)

    def _rows(self, name: str, lane: int) -> Batch:
        lanes = self.bench.facts.lanes
        if name == "sample":
            assert self.sample is not None
            start, stop = lane_rows(len(self.sample), lanes, lane)
            return Batch(self.tables["train"], index=self.sample[start:stop])
        table = self.tables[name]
        return Batch(table, *lane_rows(len(table), lanes, lane))

    def _lane_sums(self, view: NDArray[Any], name: str, lane: int) -> tuple[float, ...]:
        self.bench.tick()
        batch = self._rows(name, lane)
        if not len(batch):
            return (0.0,) * len(EVALUATION)
        self.deltas.compile_for(range(lane, lane + 1))
        kernel, strip_rows = self.deltas.kernels[0], self.deltas.strip
        if batch.index is not None or len(batch) <= strip_rows:
            return tuple(float(value) for value in kernel.evaluate(view, kernel.read(batch)))
        sums = np.zeros(len(EVALUATION))
        for strip in batch.strips(strip_rows):
            self.bench.tick()
            sums += kernel.evaluate(view, kernel.read(strip))
            self.deltas.pagers[name].over([(strip.start, strip.stop)])
        return tuple(sums.tolist())
