"""The plane of real arithmetic: carries work out on the node's arrays.

All processes of a node see the same ``NodeArrays`` (over shared memory, or private under simulation). A lane's delta
lies in the lane's own block; sums are made in place, up the tree, in the block of the first lane. Versions of A, with
the optimizer's state and scalars, lie in slots; what is not committed does not exist.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.messages import BEST, Adopt, Ahead, Apply, EvaluateRows, Fold, Gradient, KeepShard
from trivium.core.reduce import additions, tree_additions
from trivium.core.role import Work
from trivium.core.spans import APPLY, COMPUTE, READ, Spans
from trivium.data.batches import Batch, BatchPlan, LaneReader, NoPager, Pager, lane_rows
from trivium.data.table import Table
from trivium.errors import RunError
from trivium.program.optimizers.base import Optimizer, State, Step
from trivium.program.optimizers.totals import total
from trivium.program.params import BLOCK, Layout, Shard
from trivium.program.program import EVALUATION, Kernel, Program
from trivium.runtime.paging import RowPager
from trivium.runtime.shelf import KernelShelf
from trivium.runtime.versions import SLOTS, Versions

__all__ = ["ArrayPlane", "Facts", "NodeArrays", "node_arrays"]

LEAST_SPLIT = 1 << 17  # elements: below, handing a piece to a thread costs more than it saves
STATS = 8  # float64 words of a block's header: rows, weight, loss, spare
TRIALS = 6  # of F before the first clock: enough for a line search to accept a step or two
PINS = 3  # of a process in each shard: what it computes with, what it keeps, what it saves
STEP = 4  # rows, weight, loss, finished


@dataclass(frozen=True)
class Facts:
    """All that planes of one run agree on."""

    program: Program
    optimizer: Optimizer
    batches: BatchPlan
    lanes: int
    shards: int
    processes: int
    reproducible: bool
    threads: int
    l1: float
    l2: float
    seed: int

    @property
    def layout(self) -> Layout:
        """A's layout."""
        return self.program.layout


@dataclass
class NodeArrays:
    """The node's arrays by name; see ``node_arrays`` for shapes."""

    a: NDArray[Any]
    slots: NDArray[Any]
    ring: NDArray[Any]
    head: NDArray[np.float64]
    totals: NDArray[np.float64]
    step: NDArray[np.float64]
    partials: NDArray[np.float64]
    blocks: NDArray[Any]
    stats: NDArray[np.float64]
    kept: NDArray[Any]
    kept_clock: NDArray[np.int64]
    versions: NDArray[np.int64]


def node_arrays(facts: Facts) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of each of the node's arrays.

    In ``slots`` and ``ring`` the rows of a shard lie together, so that they are as those of an uncut A: a kernel that
    is compiled for rows with gaps may add in another order.
    """
    layout, optimizer = facts.layout, facts.optimizer
    delta = facts.program.delta_layout
    width = max(1, optimizer.scalar_count)
    return {
        "a": (layout.dtype, (SLOTS, layout.size)),
        "slots": (layout.dtype, (SLOTS, optimizer.slots * layout.size)),
        "ring": (layout.dtype, (optimizer.ring * layout.size,)),
        "head": ("float64", (SLOTS, facts.shards, optimizer.head_size)),
        "totals": ("float64", (SLOTS, facts.shards, width)),
        "step": ("float64", (SLOTS, facts.shards, STEP)),
        "partials": ("float64", (layout.blocks, width)),
        "blocks": (delta.dtype, (facts.lanes, delta.size)),
        "stats": ("float64", (facts.lanes, STATS)),
        "kept": (layout.dtype, (layout.size,)),
        "kept_clock": ("int64", (facts.shards,)),
        "versions": ("int64", (facts.shards, Versions.words(PINS * facts.processes))),
    }


@dataclass
class _Held:
    """Views of one shard's part of the arrays, made once."""

    shard: Shard
    versions: Versions
    a: list[NDArray[Any]]
    states: list[State]
    penalised: NDArray[np.int64]
    blocks: list[NDArray[Any]]
    sums: list[NDArray[Any]]  # the same blocks, read-only, as F sees them
    a_read: list[NDArray[Any]]  # likewise
    states_read: list[State]
    steps: list[memoryview[float]]  # the record of each slot's step


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass
class ArrayPlane:
    """One process's hands. ``me`` is its index among the readers of the versions; ``tables`` by set name."""

    facts: Facts
    arrays: NodeArrays
    me: int
    tables: dict[str, Table]
    sample: NDArray[np.int64] | None = None
    spans: Spans | None = None
    shelf: KernelShelf = field(default_factory=KernelShelf)
    alive: Callable[[], None] | None = None  # called between the lanes of a work
    moved: Any = field(default_factory=lambda: [0.0, 0.0])  # bytes of deltas handed over, of parameters read for them
    held: list[_Held] = field(default_factory=list)

    def __post_init__(self) -> None:
        facts, arrays = self.facts, self.arrays
        self.shards = facts.layout.shards(facts.shards)
        self.held = [self._hold(shard) for shard in self.shards]
        self._private = facts.layout.empty() if len(self.shards) > 1 else arrays.a[0]
        self._view = arrays.a[0]
        self._clock = -1
        self._sizes = float(facts.program.delta_layout.nbytes), float(facts.layout.nbytes)
        self._blocks = list(arrays.blocks)
        self._stats = [memoryview(row).cast("B").cast("d") for row in arrays.stats]
        striding = facts.batches.strides is not None
        self._pagers: dict[str, Pager] = {
            name: RowPager(table) if striding and table.mapped else NoPager() for name, table in self.tables.items()
        }
        train = self.tables.get("train")
        self._reader = None if train is None else LaneReader(train, facts.batches, self._pagers["train"])
        self._strip = facts.batches.strides.strip if facts.batches.strides is not None else sys.maxsize
        self._scratch: dict[int, NDArray[Any]] = {}  # of each kernel that goes over its rows in strips
        self._kernels: list[Kernel] = []
        self._rows = 0
        self._gathered: tuple[int, int, int, Any] | None = None  # rows read ahead: clock, lanes, what the kernel made
        self._additions: dict[tuple[Part, ...], list[tuple[int, int]]] = {}
        self._pool: Any = None
        self._pieces: tuple[Shard, ...] = ()  # of the only shard, for a process with several threads
        self._do: dict[type[Work], Callable[[Any], Any]] = {
            Gradient: self._gradient,
            Apply: self._apply,
            Fold: self._fold,
            Ahead: self._read_ahead,
            Adopt: self._adopt,
            EvaluateRows: self._evaluate,
            KeepShard: self._keep,
        }

    def _hold(self, shard: Shard) -> _Held:
        n, facts, cut = self.arrays, self.facts, slice(shard.start, shard.stop)
        rows = facts.optimizer.slots * shard.start, facts.optimizer.slots * shard.stop
        ring = n.ring[facts.optimizer.ring * shard.start : facts.optimizer.ring * shard.stop].reshape(-1, shard.size)
        states = [
            State(n.head[slot, shard.index], n.slots[slot, slice(*rows)].reshape(-1, shard.size), ring)
            for slot in range(SLOTS)
        ]
        blocks = [block[cut] for block in n.blocks] if n.blocks.shape[1] == facts.layout.size else list(n.blocks)
        a = [n.a[slot, cut] for slot in range(SLOTS)]
        return _Held(
            shard,
            Versions(n.versions[shard.index], PINS * facts.processes),
            a,
            states,
            _read_only(facts.layout.penalised(shard.start, shard.stop)),
            blocks,
            [_read_only(block) for block in blocks],
            [_read_only(one) for one in a],
            [State(_read_only(one.head), _read_only(one.slots), one.ring) for one in states],
            [memoryview(n.step[slot, shard.index]).cast("B").cast("d") for slot in range(SLOTS)],
        )

    # -- start --------------------------------------------------------------------------------------------------------
    def first_version(self, a: NDArray[Any], clock: int = 0) -> None:
        """Commit ``a`` as the version of ``clock``, with a fresh optimizer state."""
        for held in self.held:
            slot = held.versions.begin()
            held.a[slot][:] = a[held.shard.start : held.shard.stop]
            state = held.states[slot]
            state.head[:] = 0
            state.slots[:] = 0
            self.facts.optimizer.init(held.a[slot], state)
            self.arrays.step[slot, held.shard.index] = 0
            held.versions.commit(slot, clock)

    def warm(self, part: Part) -> None:
        """Compile for the rows of ``part`` and run once, so that the first step is like all others."""
        try:
            self._warm(part)
        except Exception as error:
            error.add_note(f"lanes {part.lo} to {part.hi - 1}, before clock 0")
            raise

    def _warm(self, part: Part) -> None:
        facts = self.facts
        self._compile(self._most_rows(range(*part)))
        assert self._reader is not None
        out = facts.program.delta_layout.empty()
        for kernel in self._kernels:
            for view in (*self.arrays.a, self.arrays.kept, self._private):
                kernel.refresh(view)
            lanes = range(part.lo, part.lo + 1) if facts.reproducible else range(*part)
            batch = self._reader.batch(lanes, 0)
            ready = kernel.read(batch if batch.index is not None else batch.strips(self._rows)[0])
            kernel.delta(self.arrays.a[0], ready, out, 0)
        self._kernels[0].evaluate(self.arrays.a[0], ready)

    def warm_optimizer(self) -> None:
        """Minimise a small bowl on scratch memory, so that F's compiled functions are loaded, those of later steps too.

        What is compiled depends on how arrays lie and whether they may be written: as those of a shard.
        """
        facts = self.facts
        layout, optimizer = facts.layout, facts.optimizer
        size = min(layout.size, BLOCK)
        ring = np.zeros((optimizer.ring, size), layout.dtype)
        spaces = [
            State(np.zeros(optimizer.head_size), np.zeros((optimizer.slots, size), layout.dtype), ring)
            for _ in range(2)
        ]
        points = [np.linspace(0.5, 1.0, size, dtype=layout.dtype), np.zeros(size, layout.dtype)]
        bowl = np.linspace(0.5, 1.0, size, dtype=layout.dtype)
        optimizer.init(points[0], spaces[0])
        penalised = _read_only(np.zeros((0, 2), np.int64))
        partials = np.zeros((1, max(1, optimizer.scalar_count)))
        for clock in range(TRIALS):
            a, old = _read_only(points[clock % 2]), spaces[clock % 2]
            old = State(_read_only(old.head), _read_only(old.slots), ring)
            with np.errstate(all="ignore"):  # a rate that diverges does so here too; the run itself will say it
                g, loss = _read_only(bowl * a), 0.5 * float(np.sum(bowl * a * a))
            step = Step(clock, 1.0, loss, facts.l1, facts.l2, penalised)
            if optimizer.scalar_count:
                optimizer.scalars(a, g, old, step, partials)
            optimizer.update(a, g, old, total(partials), step, points[1 - clock % 2], spaces[1 - clock % 2])

    def _most_rows(self, lanes: range) -> int:
        """Rows of a compiled shape. Bits follow from it: reproducible, it is the same whoever has which lanes."""
        batches = self.facts.batches
        if self.facts.reproducible:
            return max(1, min(self._strip, max(batches.quota(lane) for lane in range(self.facts.lanes))))
        return max(1, min(self._strip, batches.largest(lanes)))

    def _compile(self, rows: int) -> None:
        facts = self.facts
        count = facts.threads if facts.reproducible else 1
        threads = 1 if facts.reproducible else facts.threads
        self._rows = rows
        shelf = self.shelf
        self._kernels = [shelf.take(facts.program, threads, rows, facts.reproducible, i) for i in range(count)]
        if facts.threads > 1 and self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(facts.threads)
            large = facts.shards == 1 and facts.layout.size >= LEAST_SPLIT
            if large and facts.optimizer.scalar_count == 0:
                self._pieces = facts.layout.shards(facts.threads)

    # -- the contract -------------------------------------------------------------------------------------------------
    def carry_out(self, work: Work) -> Any:
        """Do ``work``."""
        return self._do[type(work)](work)

    def read(self, clock: int) -> None:
        """Pin every shard at ``clock``; A is then one of the slots, or a private copy where shards lie apart."""
        if len(self.held) == 1:
            slots = [self.held[0].versions.pin(self.me, clock)]
        else:
            slots = [held.versions.pin(self.me, clock) for held in self.held]
        if min(slots) < 0:
            raise RunError(f"process {self.me} found no version of clock {clock} to read")
        if len(slots) == 1 or min(slots) == max(slots):
            self._view = self.arrays.a[slots[0]]
        else:
            self._view = self._private
            for held, slot in zip(self.held, slots, strict=True):
                self._private[held.shard.start : held.shard.stop] = held.a[slot]
        self._clock = clock

    def view(self) -> NDArray[Any]:
        """A at the clock that was read last."""
        view: NDArray[Any] = self._view
        return view

    def release(self) -> None:
        """Hold nothing any more."""
        for held in self.held:
            held.versions.unpin(self.me)

    def drop(self, process: int) -> None:
        """Watcher: let go of all that a reaped ``process`` had pinned."""
        for held in self.held:
            for reader in range(process, held.versions.readers, self.facts.processes):
                held.versions.drop(reader)

    def close(self) -> None:
        """Hold nothing any more, end the threads; not to be used again."""
        self.release()
        self.alive = None
        self._do.clear()  # a cycle: memory is to be given back now, not at some collection
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool, self._pieces = None, ()

    # -- Δ ------------------------------------------------------------------------------------------------------------
    def _gradient(self, work: Gradient) -> None:
        if self._clock != work.clock:
            raise RunError(f"clock {work.clock} computed with parameters of {self._clock}")
        for part in work.parts:
            if self.facts.reproducible:
                self._alone(part, work.clock)
            else:
                self._delta(0, range(part.lo, part.hi), work.clock)
        self.moved[0] += self._sizes[0] * len(work.parts)
        self.moved[1] += self._sizes[1]

    def _alone(self, part: Part, clock: int) -> None:
        """Each lane by itself, then up the tree into the first one's block."""
        lanes = [range(lane, lane + 1) for lane in range(part.lo, part.hi)]
        if len(self._kernels) <= 1 or len(lanes) == 1:
            for one in lanes:
                self._tick()
                self._delta(0, one, clock)
        else:
            count = len(self._kernels)
            tasks = [self._pool.submit(self._some, i, lanes[i::count], clock) for i in range(count)]
            for task in tasks:
                task.result()
        for into, other in tree_additions(part):
            self._add(into, other, slice(None))

    def _some(self, kernel: int, lanes: list[range], clock: int) -> None:
        for one in lanes:
            self._tick()
            self._delta(kernel, one, clock)

    def _delta(self, index: int, lanes: range, clock: int) -> None:
        try:
            self._delta_of(index, lanes, clock)
        except Exception as error:  # of the person's program: it is told where it was
            error.add_note(f"lanes {lanes.start} to {lanes.stop - 1}, clock {clock}")
            raise

    def _delta_of(self, index: int, lanes: range, clock: int) -> None:
        assert self._reader is not None
        if not self._kernels:
            self._compile(self._most_rows(lanes))
        kernel = self._kernels[index]
        gathered, self._gathered = self._gathered, None
        if gathered is not None and gathered[:3] == (clock, lanes.start, lanes.stop):
            self._differentiate(kernel, gathered[3], lanes.start, clock)
            return
        batch = self._reader.batch(lanes, clock)
        if batch.index is None and len(batch) > self._strip:
            self._delta_by_strips(index, batch, lanes.start, clock)
            return
        if len(batch) > self._rows:
            self._compile(len(batch))  # more lanes than before: another worker's were moved here
            kernel = self._kernels[index]
        self._mark(READ)
        self._differentiate(kernel, kernel.read(batch), lanes.start, clock)

    def _differentiate(self, kernel: Kernel, ready: Any, lane: int, clock: int) -> None:
        self._mark(COMPUTE)
        row = self._stats[lane]
        key = self.facts.batches.key(lane, clock) if kernel.random else 0
        row[0], row[1], row[2] = kernel.delta(self._view, ready, self._blocks[lane], key)

    def _delta_by_strips(self, index: int, batch: Batch, lane: int, clock: int) -> None:
        """Δ of more rows than are to be in memory at a time."""
        kernel, pager, out = self._kernels[index], self._pagers["train"], self._blocks[lane]
        scratch = self._scratch.get(index)
        if scratch is None:
            scratch = self._scratch[index] = self.facts.program.delta_layout.empty()
        rows, weight, loss = 0.0, 0.0, 0.0
        out[:] = 0
        for number, strip in enumerate(batch.strips(self._strip)):
            self._tick()
            pager.soon([(strip.stop, min(strip.stop + self._strip, batch.stop))])
            self._mark(READ)
            ready = kernel.read(strip)
            self._mark(COMPUTE)
            key = self.facts.batches.key(lane, clock) + number if kernel.random else 0
            r, w, x = kernel.delta(self._view, ready, scratch, key)
            np.add(out, scratch, out=out)
            rows, weight, loss = rows + r, weight + w, loss + x
            pager.over([(strip.start, strip.stop)])
        row = self._stats[lane]
        row[0], row[1], row[2] = rows, weight, loss

    def _read_ahead(self, work: Ahead) -> None:
        (part,) = work.parts
        assert self._reader is not None
        batch = self._reader.batch(range(part.lo, part.hi), work.clock)
        if self._kernels and len(batch) <= self._rows:
            self._mark(READ)
            self._gathered = (work.clock, part.lo, part.hi, self._kernels[0].read(batch))

    def _mark(self, kind: int) -> None:
        spans = self.spans
        if spans is not None:
            spans.switch(kind, perf_counter())

    def _add(self, into: int, other: int, cut: slice) -> None:
        blocks, stats = self.arrays.blocks, self.arrays.stats
        np.add(blocks[into, cut], blocks[other, cut], out=blocks[into, cut])
        if cut == slice(None):
            stats[into] += stats[other]

    # -- F ------------------------------------------------------------------------------------------------------------
    def _sum(self, held: _Held, parts: tuple[Part, ...]) -> tuple[int, tuple[float, float, float]]:
        """Sum the shard's cut of ``parts`` in place; the block it ends in, and the summed stats."""
        pairs = self._additions.get(parts)
        if pairs is None:
            pairs = self._additions[parts] = additions(self.facts.lanes, parts)
        first, blocks, rows = parts[0].lo, held.blocks, self._stats
        if len(pairs) == 1:  # two workers: the usual case, and the one where each microsecond counts
            ((into, other),) = pairs
            np.add(blocks[into], blocks[other], blocks[into])
            one, two = rows[into], rows[other]
            return first, (one[0] + two[0], one[1] + two[1], one[2] + two[2])
        stats = {}
        for part in parts:
            row = rows[part.lo]
            stats[part.lo] = (row[0], row[1], row[2])
        for into, other in pairs:
            np.add(blocks[into], blocks[other], blocks[into])
            (r, w, x), (s, v, y) = stats[into], stats[other]
            stats[into] = (r + s, w + v, x + y)
        return first, stats[first]

    def _fold(self, work: Fold) -> None:
        self._mark(APPLY)
        held = self.held[work.shard]
        clock, slot = held.versions.current()
        block, stats = self._sum(held, work.parts)
        self.arrays.stats[block, 3 : 3 + 3] = stats
        blocks = held.shard.blocks
        self.facts.optimizer.scalars(
            held.a_read[slot],
            held.sums[block],
            held.states_read[slot],
            self._step(held, clock, stats),
            self.arrays.partials[blocks.start : blocks.stop],
        )

    def _step(self, held: _Held, clock: int, stats: tuple[float, float, float]) -> Step:
        return Step(clock, stats[1], stats[2], self.facts.l1, self.facts.l2, held.penalised)

    def _apply(self, work: Apply) -> tuple[bool, int, float, float, float]:
        self._mark(APPLY)
        held, arrays, optimizer = self.held[work.shard], self.arrays, self.facts.optimizer
        clock, slot = held.versions.current()
        if clock != work.clock:
            raise RunError(f"clock {work.clock} applied to shard {work.shard} at {clock}")
        new = held.versions.begin()
        if new < 0:
            raise RunError(f"no free version of shard {work.shard}: every slot is being read")
        index = held.shard.index
        if work.folded:
            block, stats = work.parts[0].lo, self._folded_stats(work)
            totals = self._totals(work)
            arrays.totals[new, index] = totals
        else:
            block, stats = self._sum(held, work.parts)
            totals = arrays.totals[new, index]
        state, step = held.states[new], self._step(held, clock, stats)
        if self._pieces:
            self._update_pieces(held, (slot, new, block), totals, step)
        else:
            optimizer.update(
                held.a_read[slot], held.sums[block], held.states_read[slot], totals, step, held.a[new], state
            )
        iterations = optimizer.iterations(state.head, clock + 1)
        finished = optimizer.finished(state.head)
        record, (rows, weight, loss) = held.steps[new], stats
        record[0], record[1], record[2], record[3] = rows, weight, loss, finished
        held.versions.commit(new, clock + 1)
        return finished, iterations, rows, weight, loss

    def _update_pieces(
        self, held: _Held, places: tuple[int, int, int], totals: NDArray[np.float64], step: Step
    ) -> None:
        """An elementwise F over pieces of the shard, a thread each: the baseline is to use its cores here too."""
        slot, new, block = places
        optimizer, heads = self.facts.optimizer, [held.states[new].head]
        heads += [np.empty_like(heads[0]) for _ in self._pieces[1:]]  # all pieces compute the same scalars

        def update(piece: Shard, head: NDArray[np.float64]) -> None:
            cut = slice(piece.start, piece.stop)
            old, fresh = held.states_read[slot], held.states[new]
            optimizer.update(
                held.a_read[slot][cut],
                held.sums[block][cut],
                State(old.head, old.slots[:, cut], old.ring),
                totals,
                msgspec.structs.replace(step, penalised=self.facts.layout.penalised(cut.start, cut.stop)),
                held.a[new][cut],
                State(head, fresh.slots[:, cut], fresh.ring),
            )

        assert self._pool is not None
        tasks = [self._pool.submit(update, *one) for one in zip(self._pieces[1:], heads[1:], strict=True)]
        update(self._pieces[0], heads[0])
        for task in tasks:
            task.result()

    def _folded_stats(self, work: Apply) -> tuple[float, float, float]:
        if work.authority >= 0:
            _clock, slot = self.held[work.authority].versions.current()
            rows, weight, loss, _finished = self.arrays.step[slot, work.authority].tolist()
            return rows, weight, loss
        rows, weight, loss = self.arrays.stats[work.parts[0].lo, 3 : 3 + 3].tolist()
        return rows, weight, loss

    def _totals(self, work: Apply) -> NDArray[np.float64]:
        if work.authority >= 0:
            _clock, slot = self.held[work.authority].versions.current()
            bound: NDArray[np.float64] = self.arrays.totals[slot, work.authority]
            return bound
        return total(self.arrays.partials)

    def _adopt(self, work: Adopt) -> tuple[int, bool]:
        clock, slot = self.held[work.shard].versions.current()
        return clock, bool(self.arrays.step[slot, work.shard, 3])

    # -- looking ------------------------------------------------------------------------------------------------------
    def _evaluate(self, work: EvaluateRows) -> tuple[tuple[tuple[float, ...], ...], ...]:
        self._gathered = None  # its buffer is about to be used
        if work.clock == BEST:
            view = self.arrays.kept
        else:
            self.read(work.clock)
            view = self._view
        return tuple(
            tuple(self._lane_sums(view, name, lane) for lane in range(work.lanes.lo, work.lanes.hi))
            for name in work.sets
        )

    def _tick(self) -> None:
        if self.alive is not None:
            self.alive()

    def _lane_sums(self, view: NDArray[Any], name: str, lane: int) -> tuple[float, ...]:
        self._tick()
        if name == "sample":
            assert self.sample is not None
            start, stop = lane_rows(len(self.sample), self.facts.lanes, lane)
            batch = Batch(self.tables["train"], index=self.sample[start:stop])
        else:
            table = self.tables[name]
            start, stop = lane_rows(len(table), self.facts.lanes, lane)
            batch = Batch(table, start, stop)
        if not len(batch):
            return (0.0,) * len(EVALUATION)
        if not self._kernels:
            self._compile(self._most_rows(range(lane, lane + 1)))
        kernel = self._kernels[0]
        if batch.index is not None or len(batch) <= self._strip:
            return tuple(float(value) for value in kernel.evaluate(view, kernel.read(batch)))
        sums = np.zeros(len(EVALUATION))
        for strip in batch.strips(self._strip):
            self._tick()
            sums += kernel.evaluate(view, kernel.read(strip))
            self._pagers[name].over([(strip.start, strip.stop)])
        return tuple(sums.tolist())

    def _keep(self, work: KeepShard) -> None:
        held, keeper = self.held[work.shard], self.facts.processes + self.me
        slot = held.versions.pin(keeper, work.clock)
        if slot < 0:
            raise RunError(f"shard {work.shard} has no version of clock {work.clock} to keep")
        self.arrays.kept[held.shard.start : held.shard.stop] = held.a[slot]
        self.arrays.kept_clock[work.shard] = work.clock
        held.versions.unpin(keeper)

    # -- what a store writes ------------------------------------------------------------------------------------------
    def snapshot(self, shard: int, clock: int) -> dict[str, NDArray[Any]]:
        """A copy of ``shard`` as of ``clock``: parameters, optimizer state, scalars, and the kept parameters."""
        held, n, saver = self.held[shard], self.arrays, 2 * self.facts.processes + self.me
        slot = held.versions.pin(saver, clock)
        if slot < 0:
            raise RunError(f"shard {shard} has no version of clock {clock} to save")
        try:
            return {
                "a": held.a[slot].copy(),
                "slots": held.states[slot].slots.copy(),
                "ring": held.states[slot].ring.copy(),
                "head": held.states[slot].head.copy(),
                "totals": n.totals[slot, shard].copy(),
                "step": n.step[slot, shard].copy(),
                "kept": n.kept[held.shard.start : held.shard.stop].copy(),
            }
        finally:
            held.versions.unpin(saver)

    def restore(self, saved: dict[str, NDArray[Any]], clock: int, kept_clock: int) -> None:
        """Commit what ``snapshot`` took, joined over shards, as the version of ``clock``."""
        for held in self.held:
            slot, cut, index = held.versions.begin(), slice(held.shard.start, held.shard.stop), held.shard.index
            held.a[slot][:] = saved["a"][cut]
            held.states[slot].slots[:] = saved["slots"][..., cut]
            held.states[slot].ring[:] = saved["ring"][..., cut]
            held.states[slot].head[:] = saved["head"][min(index, len(saved["head"]) - 1)]
            self.arrays.totals[slot, index] = saved["totals"][min(index, len(saved["totals"]) - 1)]
            self.arrays.step[slot, index] = saved["step"][min(index, len(saved["step"]) - 1)]
            self.arrays.kept[cut] = saved["kept"][cut]
            self.arrays.kept_clock[index] = kept_clock
            held.versions.commit(slot, clock)
