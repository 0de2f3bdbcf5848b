"""The plane of one node among several: what ``ArrayPlane`` does on the node's own memory, and what servers exchange.

Rules
-----
* Versions are tagged with the sum of their lanes' applied clocks. Clock c, where every lane is there, is the tag
  lanes × c; so is it in ``read``, and in works that name a clock. ``read(NEWEST)`` copies whatever is newest of each
  shard and holds nothing afterwards: under rules that let lanes run apart versions come by the push, and readers that
  held one each would leave no slot to write.
* The server alone makes versions. It may find every slot pinned while readers copy, and waits for them, for a while.
* The primary's F and its copies' run on the same bits: those that a Copy carries, the totals and stats included.
* A step on part of a clock is weighted by its rows: ``Step.share``; where in a clock it stands is ``Step.done``.
* Summing is in place where the blocks may be written: one node of one copy computes what ``Apply`` does, as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import HERE, NEWEST, Advance, Combine, Entry, Forget, Gather, Scale, Show, TakeUp
from trivium.core.lanes import Part
from trivium.core.messages import Adopt, Ahead, EvaluateRows, Gradient, KeepShard
from trivium.core.role import Address, Message, Work
from trivium.core.spans import APPLY, Spans
from trivium.data.table import Table
from trivium.errors import RunError
from trivium.program.optimizers.base import Step
from trivium.runtime.arithmetic import snapshots
from trivium.runtime.arithmetic.applying import Applied
from trivium.runtime.arithmetic.arrays import Facts, HeldShard, NodeArrays, Stats, read_only
from trivium.runtime.arithmetic.desk import OWN, Bound, Desk, Sum
from trivium.runtime.arithmetic.filtering import Filters
from trivium.runtime.arithmetic.post import Post, Traffic
from trivium.runtime.arithmetic.sums import Piece, Summing
from trivium.runtime.plane import ArrayPlane
from trivium.runtime.shelf import KernelShelf

__all__ = ["NodePlane"]

FREE_WITHIN = 10.0  # seconds: readers hold a version for as long as copying takes; a dead one's pins are dropped
LOOK_EVERY = 2e-5  # seconds


class NodePlane(ArrayPlane):
    """One process's hands on a node; the server's also make sums, versions, and what goes to other nodes.

    ``traffic``: bytes packed and unpacked by kind of message. ``free_within``: seconds to wait for a version to write.
    ``clock()``: seconds, for a bandwidth.
    """

    def __init__(
        self,
        facts: Facts,
        arrays: NodeArrays,
        me: int,
        tables: dict[str, Table],
        sample: NDArray[np.int64] | None = None,
        spans: Spans | None = None,
        shelf: KernelShelf | None = None,
        *,
        free_within: float = FREE_WITHIN,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.traffic = Traffic()
        self.free_within, self._lanes = free_within, facts.lanes
        super().__init__(facts, arrays, me, tables, sample, spans, shelf)
        self._desks = [Desk(held) for held in self.held]
        self._filters = Filters(self.bench, clock)
        self._post = Post(self.bench, self._desks, self._filters, self.traffic)
        self._summing = Summing(facts.lanes)
        self._private = facts.layout.empty()  # touched, and so in memory, only once something was copied there
        self._clock_rows = max(1, facts.batches.largest(range(facts.lanes)))
        self._two_step = facts.optimizer.scalar_count > 0
        self._local: dict[tuple[tuple[Part, ...], ...], tuple[Part, ...]] = {}

    def _works(self) -> dict[type[Work], Callable[[Any], Any]]:
        return {
            Adopt: self._adopt,
            Gradient: self._gradient,
            Ahead: self._deltas.read_ahead,
            EvaluateRows: self._evaluate,
            KeepShard: self._keep,
            Gather: self._gather,
            Combine: self._combine,
            Scale: self._scale,
            Advance: self._advance,
            Show: self._show,
            TakeUp: self._take_up,
            Forget: self._forget,
        }

    def _tag(self, clock: int) -> int:
        return clock * self._lanes

    def warm_optimizer(self) -> None:
        """Likewise, and the filters: a server's, which is process 0 where there are other nodes."""
        super().warm_optimizer()
        if self.me == 0:
            self._filters.warm()

    # -- reading ------------------------------------------------------------------------------------------------------
    def read(self, clock: int) -> None:
        """Hold every shard at ``clock``, where all lanes are; ``NEWEST``: copy what there is of each."""
        if clock != NEWEST:
            self._pin(clock, self._tag(clock))
            return
        for held in self.held:
            slot = held.pinned(self.me, NEWEST, "any clock to read")
            self._private[held.shard.start : held.shard.stop] = held.a[slot]
            held.versions.unpin(self.me)
        self._view, self._clock = self._private, NEWEST

    def close(self) -> None:
        """Hold nothing any more; not to be used again."""
        super().close()
        self._post.close()
        self._desks.clear()

    # -- what goes between nodes --------------------------------------------------------------------------------------
    def pack(self, message: Message) -> list[Any]:
        """The buffers that go beside ``message``: read-only, never written again. RunError where they are not here."""
        return self._post.pack(message)

    def unpack(self, sender: Address, message: Message, buffers: Sequence[Any]) -> None:
        """Keep what came beside ``message`` for the works that its role may ask for. RunError where it cannot be."""
        self._post.unpack(sender, message, buffers)

    # -- sums ---------------------------------------------------------------------------------------------------------
    def _pieces(self, desk: Desk, entries: Sequence[Entry]) -> list[Piece]:
        """What ``entries`` name, in their order; a Delta of one array once."""
        pieces: list[Piece] = []
        whole_deltas: set[tuple[int, int]] = set()
        for entry in entries:
            if entry.node == HERE:
                pieces += [Piece(part, desk.held.blocks[part.lo], self._stats(part), True) for part in entry.parts]
                continue
            came, key = desk.delta(entry), (entry.node, entry.number)
            if key not in whole_deltas:
                pieces += came.of(entry)
            if came.listed:
                whole_deltas.add(key)
        return pieces

    def _stats(self, part: Part) -> Stats:
        row = self.bench.stats[part.lo]
        return row[0], row[1], row[2]

    def _sum(
        self, desk: Desk, entries: Sequence[Entry], whole: bool, out: NDArray[Any] | None
    ) -> tuple[NDArray[Any], Stats]:
        pieces = self._pieces(desk, entries)
        return (self._summing.whole if whole else self._summing.listed)(desk.held, pieces, out)

    def _sum_in_blocks(self, desk: Desk, entries: tuple[Entry, ...], whole: bool) -> tuple[NDArray[Any], Stats]:
        """Likewise, with nothing kept: a clock whose deltas are all here is summed as in one memory."""
        key: list[tuple[Part, ...]] = []
        for entry in entries:
            if entry.node != HERE or not whole:
                summed, stats = self._sum(desk, entries, whole, None)
                return read_only(summed), stats
            key.append(entry.parts)
        parts = self._local.get(tuple(key))
        if parts is None:
            parts = self._local[tuple(key)] = tuple(sorted(part for some in key for part in some))
        block, stats = self._applying.sum_blocks(desk.held, parts)
        return desk.held.sums[block], stats

    def _gather(self, work: Gather) -> None:
        self.bench.mark(APPLY)
        desk = self._desks[work.shard]
        pieces = self._pieces(desk, work.entries)
        arrays, all_stats, used = [], [], 0
        for part in work.parts:
            own = [piece for piece in pieces if part.lo <= piece.part.lo and piece.part.hi <= part.hi]
            array, stats = self._summing.subtree(desk.held, part, own, desk.empty())
            arrays.append(array)
            all_stats.append(stats)
            used += len(own)
        if not work.parts:
            array, stats = self._summing.listed(desk.held, pieces, desk.empty())
            arrays, all_stats, used = [array], [stats], len(pieces)
        if used != len(pieces):
            raise RunError(f"shard {work.shard}: {len(pieces)} deltas are to go, {used} of them lie in {work.parts}")
        self._post.lay_out(desk, work.number, work.entries[0].clock, arrays, all_stats)

    def _combine(self, work: Combine) -> None:
        self.bench.mark(APPLY)
        desk = self._desks[work.shard]
        array, stats = self._sum(desk, work.entries, work.whole, desk.empty())
        desk.keep_sum(work.tag, Sum(array, stats, OWN, whole=work.whole))

    # -- F ------------------------------------------------------------------------------------------------------------
    def _scale(self, work: Scale) -> None:
        self.bench.mark(APPLY)
        desk = self._desks[work.shard]
        slot, made = self._current(desk, work.tag), desk.sum_of(work.tag)
        step = self._step(desk.held, work.tag, made.stats, made.whole)
        self._applying.scale(desk.held, slot, read_only(made.array), step)
        desk.rows = (OWN, step.clock)

    def _advance(self, work: Advance) -> Applied:
        self.bench.mark(APPLY)
        desk, tag, index = self._desks[work.shard], work.tag, work.shard
        held, slot = desk.held, self._current(desk, tag)
        new = held.versions.begin()
        if new < 0:
            new = self._free_slot(held)
        totals = self.arrays.totals[new, index]
        if work.entries:
            if self._two_step:
                raise RunError(f"shard {index}: F has two steps, so its sum is combined and scaled before")
            summed, stats = self._sum_in_blocks(desk, work.entries, work.whole)
        else:
            made = desk.sum_of(tag)
            if self._two_step:
                np.copyto(totals, self._bind(made, tag, work.authority))
            summed, stats = read_only(made.array), made.stats
        step, after = self._step(held, tag, stats, work.whole), sum(work.applied)
        clocks = after, after // self._lanes
        result = self._applying.commit(held, (slot, new), summed, totals, step, stats, clocks)
        if self._two_step:
            desk.bound = Bound(tag, totals.copy(), stats)
        desk.advanced(tag, work.applied)
        return result

    def _bind(self, made: Sum, tag: int, authority: int) -> NDArray[np.float64]:
        """The totals of a step of F in two steps; its stats may change with them."""
        if authority < 0:
            return made.totals if made.totals is not None else self._post.bind(made, tag)
        bound = self._desks[authority].bound
        if bound is None or bound.tag != tag:
            raise RunError(f"shard {authority} is to bind the step from tag {tag}, and its totals are not here")
        made.totals, made.stats = bound.totals, bound.stats
        return bound.totals

    def _step(self, held: HeldShard, tag: int, stats: Stats, whole: bool) -> Step:
        lanes = self._lanes
        if whole:
            return self.bench.step(held, tag // lanes, stats)
        share = min(1.0, stats[0] / self._clock_rows)
        return self.bench.step(held, tag // lanes, stats, share, tag % lanes / lanes)

    def _current(self, desk: Desk, tag: int) -> int:
        """The slot of the newest version, which must be that of ``tag``."""
        slot: int
        now, slot = desk.held.versions.current()
        if now != tag:
            raise RunError(f"shard {desk.held.shard.index} is at tag {now}, a step from tag {tag} was asked for")
        if not desk.full:
            raise RunError(
                f"shard {desk.held.shard.index} has values of tag {tag} here, and no state for F to go on from"
            )
        return slot

    def _free_slot(self, held: HeldShard) -> int:
        """A slot to write; readers that copy may hold all of them for a moment."""
        slot: int = held.versions.begin()
        until = perf_counter() + self.free_within
        while slot < 0:
            if perf_counter() > until:
                raise RunError(
                    f"no free version of shard {held.shard.index} for {self.free_within:g} s: every slot is being "
                    "read; a process of this node has stopped while it read, or one that died was not reaped"
                )
            self.bench.tick()
            time.sleep(LOOK_EVERY)
            slot = held.versions.begin()
        return slot

    # -- values that came ---------------------------------------------------------------------------------------------
    def _show(self, work: Show) -> None:
        desk, tag = self._desks[work.shard], sum(work.applied)
        values = desk.fresh(tag)
        slot = self._free_slot(desk.held)
        np.copyto(desk.held.a[slot], values)
        self.arrays.step[slot, work.shard] = 0
        desk.full = False
        self._put(desk, slot, tag)
        desk.advanced(tag, work.applied)

    @staticmethod
    def _put(desk: Desk, slot: int, tag: int) -> None:
        """A version that came; one of its tag or beyond it was made of a step that was never settled, or is the same.

        It must not push the settled version before that out of the last two: lanes may have to go back there.
        """
        if tag > desk.tag:
            desk.held.versions.commit(slot, tag)
        else:
            desk.held.versions.replace(slot, tag)

    def _take_up(self, work: TakeUp) -> None:
        desk, tag, lanes = self._desks[work.shard], sum(work.applied), self._lanes
        content, kept_clock = desk.whole(tag)
        slot = self._free_slot(desk.held)
        snapshots.lay(self.bench, desk.held, slot, content)
        self.arrays.kept_clock[work.shard] = kept_clock
        desk.full = True
        self._put(desk, slot, tag)
        desk.advanced(tag, work.applied)
        if self._two_step and tag % lanes == 0:
            rows, weight, loss, _finished = content["step"].tolist()
            desk.bound = Bound(tag - lanes, content["totals"].copy(), (rows, weight, loss))

    def _forget(self, work: Forget) -> None:
        for desk in self._desks if work.shard < 0 else [self._desks[work.shard]]:
            if work.number < 0:
                self._filters.undo(desk)
            desk.forget(work.number)
