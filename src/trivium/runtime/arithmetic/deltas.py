"""Lanes' deltas: each into its lane's own block, sums of whole subtrees up the tree into the first lane's.

Rows that are too many for memory are gone over in strips; rows of the next clock may be gathered ahead.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.messages import Ahead
from trivium.core.reduce import tree_additions
from trivium.core.spans import COMPUTE, READ
from trivium.data.batches import Batch, LaneReader, NoPager, Pager
from trivium.data.table import Table
from trivium.program.program import Kernel
from trivium.runtime.arithmetic.arrays import Bench
from trivium.runtime.paging import RowPager
from trivium.runtime.shelf import KernelShelf

__all__ = ["Deltas"]

LEAST_SPLIT = 1 << 17  # elements: below, handing a piece to a thread costs more than it saves


class Deltas:
    """Computes Δ of lanes with the kernels that it compiles for their rows."""

    def __init__(self, bench: Bench, tables: dict[str, Table], shelf: KernelShelf) -> None:
        facts = bench.facts
        self.bench, self.shelf = bench, shelf
        self.view = bench.arrays.a[0]  # of A, that Δ is computed with
        strides = facts.batches.strides
        self.pagers: dict[str, Pager] = {
            name: RowPager(table) if strides is not None and table.mapped else NoPager()
            for name, table in tables.items()
        }
        train = tables.get("train")
        self._reader = None if train is None else LaneReader(train, facts.batches, self.pagers["train"])
        self.strip = strides.strip if strides is not None else sys.maxsize
        self.kernels: list[Kernel] = []
        self._blocks = list(bench.arrays.blocks)
        self._scratch: dict[int, NDArray[Any]] = {}  # of each kernel that goes over its rows in strips
        self._rows = 0
        self._gathered: tuple[int, int, int, Any] | None = None  # rows read ahead: clock, lanes, what the kernel made

    # -- kernels ------------------------------------------------------------------------------------------------------
    def compile(self, rows: int) -> None:
        """Kernels for up to ``rows`` rows at a time; threads where the plan has several."""
        bench, facts = self.bench, self.bench.facts
        count = facts.threads if facts.reproducible else 1
        threads = 1 if facts.reproducible else facts.threads
        self._rows = rows
        self.kernels = [self.shelf.take(facts.program, threads, rows, facts.reproducible, i) for i in range(count)]
        if facts.threads > 1 and bench.pool is None:
            from concurrent.futures import ThreadPoolExecutor

            bench.pool = ThreadPoolExecutor(facts.threads)
            large = facts.shards == 1 and facts.layout.size >= LEAST_SPLIT
            if large and facts.optimizer.scalar_count == 0:
                bench.pieces = facts.layout.shards(facts.threads)

    def compile_for(self, lanes: range) -> None:
        """Kernels for ``lanes``, unless there are any."""
        if not self.kernels:
            self.compile(self._most_rows(lanes))

    def warm(self, part: Part, views: list[NDArray[Any]]) -> None:
        """Compile for the rows of ``part`` and run once with each of ``views``."""
        facts = self.bench.facts
        self.compile(self._most_rows(range(*part)))
        assert self._reader is not None
        out = facts.program.delta_layout.empty()
        for kernel in self.kernels:
            for view in views:
                kernel.refresh(view)
            lanes = range(part.lo, part.lo + 1) if facts.reproducible else range(*part)
            batch = self._reader.batch(lanes, 0)
            ready = kernel.read(batch if batch.index is not None else batch.strips(self._rows)[0])
            kernel.delta(views[0], ready, out, 0)
        self.kernels[0].evaluate(views[0], ready)

    def _most_rows(self, lanes: range) -> int:
        """Rows of a compiled shape. Bits follow from it: reproducible, it is the same whoever has which lanes."""
        facts = self.bench.facts
        if facts.reproducible:
            return max(1, min(self.strip, max(facts.batches.quota(lane) for lane in range(facts.lanes))))
        return max(1, min(self.strip, facts.batches.largest(lanes)))

    # -- Δ ------------------------------------------------------------------------------------------------------------
    def compute(self, parts: tuple[Part, ...], clock: int) -> None:
        """Δ of ``clock`` for each part."""
        for part in parts:
            if self.bench.facts.reproducible:
                self._alone(part, clock)
            else:
                self._delta(0, range(part.lo, part.hi), clock)

    def read_ahead(self, work: Ahead) -> None:
        """Gather the rows of ``work`` now."""
        (part,) = work.parts
        assert self._reader is not None
        batch = self._reader.batch(range(part.lo, part.hi), work.clock)
        if self.kernels and len(batch) <= self._rows:
            self.bench.mark(READ)
            self._gathered = (work.clock, part.lo, part.hi, self.kernels[0].read(batch))

    def forget_ahead(self) -> None:
        """The buffer of what was gathered is about to be used."""
        self._gathered = None

    def _alone(self, part: Part, clock: int) -> None:
        """Each lane by itself, then up the tree into the first one's block."""
        lanes = [range(lane, lane + 1) for lane in range(part.lo, part.hi)]
        if len(self.kernels) <= 1 or len(lanes) == 1:
            self._some(0, lanes, clock)
        else:
            count, pool = len(self.kernels), self.bench.pool
            tasks = [pool.submit(self._some, i, lanes[i::count], clock) for i in range(count)]
            for task in tasks:
                task.result()
        blocks, stats = self._blocks, self.bench.arrays.stats
        for into, other in tree_additions(part):
            np.add(blocks[into], blocks[other], out=blocks[into])
            stats[into] += stats[other]

    def _some(self, kernel: int, lanes: list[range], clock: int) -> None:
        for one in lanes:
            self.bench.tick()
            self._delta(kernel, one, clock)

    def _delta(self, index: int, lanes: range, clock: int) -> None:
        try:
            self._delta_of(index, lanes, clock)
        except Exception as error:  # of the person's program: it is told where it was
            error.add_note(f"lanes {lanes.start} to {lanes.stop - 1}, clock {clock}")
            raise

    def _delta_of(self, index: int, lanes: range, clock: int) -> None:
        assert self._reader is not None
        self.compile_for(lanes)
        kernel = self.kernels[index]
        gathered, self._gathered = self._gathered, None
        if gathered is not None and gathered[:3] == (clock, lanes.start, lanes.stop):
            self._differentiate(kernel, gathered[3], lanes.start, clock)
            return
        batch = self._reader.batch(lanes, clock)
        if batch.index is None and len(batch) > self.strip:
            self._delta_by_strips(index, batch, lanes.start, clock)
            return
        if len(batch) > self._rows:
            self.compile(len(batch))  # more lanes than before: another worker's were moved here
            kernel = self.kernels[index]
        self.bench.mark(READ)
        self._differentiate(kernel, kernel.read(batch), lanes.start, clock)

    def _differentiate(self, kernel: Kernel, ready: Any, lane: int, clock: int) -> None:
        bench = self.bench
        bench.mark(COMPUTE)
        row = bench.stats[lane]
        key = bench.facts.batches.key(lane, clock) if kernel.random else 0
        row[0], row[1], row[2] = kernel.delta(self.view, ready, self._blocks[lane], key)

    def _delta_by_strips(self, index: int, batch: Batch, lane: int, clock: int) -> None:
        """Δ of more rows than are to be in memory at a time."""
        bench, kernel, pager, out = self.bench, self.kernels[index], self.pagers["train"], self._blocks[lane]
        scratch = self._scratch.get(index)
        if scratch is None:
            scratch = self._scratch[index] = bench.facts.program.delta_layout.empty()
        rows, weight, loss = 0.0, 0.0, 0.0
        out[:] = 0
        for number, strip in enumerate(batch.strips(self.strip)):
            bench.tick()
            pager.soon([(strip.stop, min(strip.stop + self.strip, batch.stop))])
            bench.mark(READ)
            ready = kernel.read(strip)
            bench.mark(COMPUTE)
            key = bench.facts.batches.key(lane, clock) + number if kernel.random else 0
            r, w, x = kernel.delta(self.view, ready, scratch, key)
            np.add(out, scratch, out=out)
            rows, weight, loss = rows + r, weight + w, loss + x
            pager.over([(strip.start, strip.stop)])
        row = bench.stats[lane]
        row[0], row[1], row[2] = rows, weight, loss
