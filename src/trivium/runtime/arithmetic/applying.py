"""F on shards: sums in place in the lanes' blocks, partial scalars, a new version from the current one."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.messages import Apply, Fold
from trivium.core.reduce import additions
from trivium.core.spans import APPLY
from trivium.errors import RunError
from trivium.program.optimizers.base import State, Step
from trivium.program.optimizers.totals import total
from trivium.program.params import BLOCK, Shard
from trivium.runtime.arithmetic.arrays import Bench, Facts, HeldShard, Stats, read_only

__all__ = ["Applied", "Applying", "warm_optimizer"]

TRIALS = 6  # of F before the first clock: enough for a line search to accept a step or two

Applied = tuple[bool, int, float, float, float]  # finished, iterations, rows, weight, loss


class Applying:
    """Carries out ``Fold`` and ``Apply``; ``commit`` is what every step of F ends with."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._additions: dict[tuple[Part, ...], list[tuple[int, int]]] = {}

    def sum_blocks(self, held: HeldShard, parts: tuple[Part, ...]) -> tuple[int, Stats]:
        """Sum the shard's cut of ``parts``, a whole clock's, in place; the block it ends in, and the summed stats."""
        pairs = self._additions.get(parts)
        if pairs is None:
            pairs = self._additions[parts] = additions(self.bench.facts.lanes, parts)
        first, blocks, rows = parts[0].lo, held.blocks, self.bench.stats
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

    def fold(self, work: Fold) -> None:
        """Sum, and write F's partial scalars."""
        bench = self.bench
        bench.mark(APPLY)
        held = bench.held[work.shard]
        clock, slot = held.versions.current()
        block, stats = self.sum_blocks(held, work.parts)
        bench.arrays.stats[block, 3 : 3 + 3] = stats
        self.scale(held, slot, held.sums[block], bench.step(held, clock, stats))

    def scale(self, held: HeldShard, slot: int, summed: NDArray[Any], step: Step) -> None:
        """Write F's partial scalars of ``summed`` to the shard's rows."""
        blocks = held.shard.blocks
        out = self.bench.arrays.partials[blocks.start : blocks.stop]
        self.bench.facts.optimizer.scalars(held.a_read[slot], summed, held.states_read[slot], step, out)

    def apply(self, work: Apply) -> Applied:
        """Sum unless folded, apply F, commit the next clock."""
        bench = self.bench
        bench.mark(APPLY)
        held, index = bench.held[work.shard], work.shard
        clock, slot = held.versions.current()
        if clock != work.clock:
            raise RunError(f"clock {work.clock} applied to shard {work.shard} at {clock}")
        new = held.versions.begin()
        if new < 0:
            raise RunError(f"no free version of shard {work.shard}: every slot is being read")
        if work.folded:
            block, stats = work.parts[0].lo, self._folded_stats(work)
            totals = self._totals(work)
            bench.arrays.totals[new, index] = totals
        else:
            block, stats = self.sum_blocks(held, work.parts)
            totals = bench.arrays.totals[new, index]
        step = bench.step(held, clock, stats)
        return self.commit(held, (slot, new), held.sums[block], totals, step, stats, (clock + 1, clock + 1))

    def commit(
        self,
        held: HeldShard,
        slots: tuple[int, int],
        summed: NDArray[Any],
        totals: NDArray[np.float64],
        step: Step,
        stats: Stats,
        after: tuple[int, int],
    ) -> Applied:
        """Apply F to ``summed`` from one slot into another; ``after`` are tag and clock of what is committed."""
        (slot, new), optimizer = slots, self.bench.facts.optimizer
        state = held.states[new]
        if self.bench.pieces:
            self._update_pieces(held, slots, summed, totals, step)
        else:
            optimizer.update(held.a_read[slot], summed, held.states_read[slot], totals, step, held.a[new], state)
        iterations = optimizer.iterations(state.head, after[1])
        finished = optimizer.finished(state.head)
        record, (rows, weight, loss) = held.steps[new], stats
        record[0], record[1], record[2], record[3] = rows, weight, loss, finished
        held.versions.commit(new, after[0])
        return finished, iterations, rows, weight, loss

    def _update_pieces(
        self,
        held: HeldShard,
        slots: tuple[int, int],
        summed: NDArray[Any],
        totals: NDArray[np.float64],
        step: Step,
    ) -> None:
        """An elementwise F over pieces of the shard, a thread each: the baseline is to use its cores here too."""
        (slot, new), bench = slots, self.bench
        optimizer, heads = bench.facts.optimizer, [held.states[new].head]
        heads += [np.empty_like(heads[0]) for _ in bench.pieces[1:]]  # all pieces compute the same scalars

        def update(piece: Shard, head: NDArray[np.float64]) -> None:
            cut = slice(piece.start, piece.stop)
            old, fresh = held.states_read[slot], held.states[new]
            optimizer.update(
                held.a_read[slot][cut],
                summed[cut],
                State(old.head, old.slots[:, cut], old.ring),
                totals,
                msgspec.structs.replace(step, penalised=bench.facts.layout.penalised(cut.start, cut.stop)),
                held.a[new][cut],
                State(head, fresh.slots[:, cut], fresh.ring),
            )

        tasks = [bench.pool.submit(update, *one) for one in zip(bench.pieces[1:], heads[1:], strict=True)]
        update(bench.pieces[0], heads[0])
        for task in tasks:
            task.result()

    def _folded_stats(self, work: Apply) -> Stats:
        bench = self.bench
        if work.authority >= 0:
            _clock, slot = bench.held[work.authority].versions.current()
            rows, weight, loss, _finished = bench.arrays.step[slot, work.authority].tolist()
            return rows, weight, loss
        rows, weight, loss = bench.arrays.stats[work.parts[0].lo, 3 : 3 + 3].tolist()
        return rows, weight, loss

    def _totals(self, work: Apply) -> NDArray[np.float64]:
        bench = self.bench
        if work.authority >= 0:
            _clock, slot = bench.held[work.authority].versions.current()
            bound: NDArray[np.float64] = bench.arrays.totals[slot, work.authority]
            return bound
        return total(bench.arrays.partials)


def warm_optimizer(facts: Facts) -> None:
    """Minimise a small bowl on scratch memory, so that F's compiled functions are loaded, those of later steps too.

    What is compiled depends on how arrays lie and whether they may be written: as those of a shard.
    """
    layout, optimizer = facts.layout, facts.optimizer
    size = min(layout.size, BLOCK)
    ring = np.zeros((optimizer.ring, size), layout.dtype)
    spaces = [
        State(np.zeros(optimizer.head_size), np.zeros((optimizer.slots, size), layout.dtype), ring) for _ in range(2)
    ]
    points = [np.linspace(0.5, 1.0, size, dtype=layout.dtype), np.zeros(size, layout.dtype)]
    bowl = np.linspace(0.5, 1.0, size, dtype=layout.dtype)
    optimizer.init(points[0], spaces[0])
    penalised = read_only(np.zeros((0, 2), np.int64))
    partials = np.zeros((1, max(1, optimizer.scalar_count)))
    for clock in range(TRIALS):
        a, old = read_only(points[clock % 2]), spaces[clock % 2]
        old = State(read_only(old.head), read_only(old.slots), ring)
        with np.errstate(all="ignore"):  # a rate that diverges does so here too; the run itself will say it
            g, loss = read_only(bowl * a), 0.5 * float(np.sum(bowl * a * a))
        step = Step(clock, 1.0, loss, facts.l1, facts.l2, penalised)
        if optimizer.scalar_count:
            optimizer.scalars(a, g, old, step, partials)
        optimizer.update(a, g, old, total(partials), step, points[1 - clock % 2], spaces[1 - clock % 2])
