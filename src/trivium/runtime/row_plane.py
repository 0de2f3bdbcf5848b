"""The plane of a node whose program has row tables: their shards are shards of the protocol, after the dense ones.

Rules
-----
* A shard of a table takes part in the protocol as any other. What its messages carry are sorted keys and a summed delta
  for each; a step of F is one ``RowShard.push``. Rows are changed in place: there is one version, the newest.
* A push is as it was handed in, or divided by the weight of its rows where the table takes the mean (``means``): then
  a part of a clock is weighted by its share, as with dense parameters.
* A worker sums what a unit pushes, cuts it by shards, and lays it into its first lane's range of the node's memory,
  which grows as needed. The server reads it there.
* A node that holds no copy of a shard keeps no rows of it: ``Fresh`` tells only how far the primary is. What its
  workers pull they ask for (see ``row_plane_asking``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Advance, Combine, Entry, Forget, Gather, Seek, Serve, Show, TakeUp
from trivium.core.lanes import Part
from trivium.core.messages import Adopt, Gradient, KeepShard
from trivium.core.reduce import tree_additions
from trivium.core.role import Address, Message, Work
from trivium.core.spans import APPLY, COMPUTE
from trivium.data.batches import LaneReader
from trivium.data.table import Table
from trivium.errors import RunError
from trivium.program.tables import Keys, RowBlock, TableSpec
from trivium.runtime.arithmetic.applying import Applied
from trivium.runtime.arithmetic.arrays import Facts, NodeArrays, Stats, node_arrays
from trivium.runtime.arithmetic.desk import OWN, Outgoing, Sum
from trivium.runtime.arithmetic.parcels import bytes_of
from trivium.runtime.arithmetic.sums import Piece
from trivium.runtime.child import Hands
from trivium.runtime.memory import Arena
from trivium.runtime.node_plane import NodePlane
from trivium.runtime.own_loop import Loop, LoopProgram
from trivium.runtime.own_loop_units import Pushed
from trivium.runtime.row_plane_asking import ASK_WORDS, Asking
from trivium.runtime.row_plane_lanes import LaneRows, kept, lane_words, summed
from trivium.runtime.row_plane_memory import WORDS, Lodging, Yard
from trivium.runtime.row_plane_post import RowDesk, RowPost, Rows
from trivium.runtime.rows import warm

__all__ = ["ROWS", "RowPlane"]

Flat = NDArray[Any]
Pieces = list[Piece]


def row_arrays(facts: Facts) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The arrays of ``node_arrays``, and what is fixed of the tables: where shards and lanes have their ranges."""
    shards = cast(LoopProgram, facts.program).row_shards
    return {
        **node_arrays(facts),
        "row_yard": ("int64", (facts.processes,)),
        "row_shards": ("int64", (shards, WORDS)),
        "row_blocks": ("int64", (facts.lanes, lane_words(shards))),
        "row_asks": ("int64", (facts.processes, ASK_WORDS)),
    }


def row_plane(facts: Facts, arena: Arena, me: int, tables: Any, sample: Any, spans: Any, shelf: Any) -> RowPlane:
    """The plane of process ``me`` over ``arena``."""
    arrays = NodeArrays(**{name: arena[name] for name in NodeArrays.__dataclass_fields__})
    return RowPlane(facts, arrays, me, tables, sample, spans, shelf, arena=arena)


ROWS = Hands(row_arrays, row_plane, yard=True)


class RowPlane(NodePlane):
    """One process's hands on a node with row tables."""

    def __init__(
        self,
        facts: Facts,
        arrays: NodeArrays,
        me: int,
        tables: dict[str, Table],
        sample: NDArray[np.int64] | None = None,
        spans: Any = None,
        shelf: Any = None,
        *,
        arena: Arena,
    ) -> None:
        program = facts.program
        assert isinstance(program, LoopProgram)
        assert arena.yard >= 0
        self.program = program
        self.yard = Yard(arena.yard, me, arena["row_yard"])
        self._lanes_rows = LaneRows(arena["row_blocks"], self.yard, program.tables, program.cuts)
        self._loop: Loop | None = None
        self.lodgings = [
            Lodging(spec, arena["row_shards"][number * program.cuts + cut], self.yard, _expected(spec, program.cuts))
            for number, spec in enumerate(program.tables)
            for cut in range(program.cuts)
        ]
        super().__init__(facts, arrays, me, tables, sample, spans, shelf)
        self.first = len(self.held)  # shards before it are dense
        self._row_desks = [RowDesk(self.first + i, one) for i, one in enumerate(self.lodgings)]
        self._asking = Asking(arena["row_asks"], self.yard, me, self._asks)
        self._row_post = RowPost(self._row_desks, self._asking)

    def _works(self) -> dict[type[Work], Callable[[Any], Any]]:
        dense = super()._works()
        mine: dict[type[Work], Callable[[RowDesk, Any], Any]] = {
            Adopt: self._adopt_rows,
            Gather: self._gather_rows,
            Combine: self._combine_rows,
            Advance: self._advance_rows,
            Show: self._show_rows,
            TakeUp: self._take_up_rows,
            Forget: self._forget_rows,
            Serve: self._serve_rows,
            KeepShard: lambda _desk, _work: None,  # rows of an earlier clock are not kept
        }

        def routed(kind: type[Work]) -> Callable[[Any], Any]:
            other = dense.get(kind)
            return lambda work: (
                other(work) if other and work.shard < self.first else mine[kind](self._row_desk(work), work)
            )

        return {**dense, **{kind: routed(kind) for kind in mine}}

    def _row_desk(self, work: Any) -> RowDesk:
        shard: int = work.shard
        return self._row_desks[shard - self.first]

    def _spec(self, desk: RowDesk) -> TableSpec:
        return desk.lodging.spec

    # -- start and end ------------------------------------------------------------------------------------------------
    def first_version(self, a: Flat, clock: int = 0) -> None:
        """Commit ``a``, and tables without rows."""
        super().first_version(a, clock)
        for one in self.lodgings:
            one.begin(self._tag(clock), None, self._room(one))

    def restore_rows(self, shard: int, load_rows: Callable[[], RowBlock], clock: int) -> None:
        """Begin a table's ``shard`` with what ``snapshot`` took of it; among nodes, once it is known who holds it."""
        lodging, tag = self.lodgings[shard - self.first], self._tag(clock)
        if self.program.cuts == 1:
            lodging.begin(tag, load_rows(), self._room(lodging))
        else:
            lodging.pend(tag, load_rows, lambda: self._room(lodging))

    def warm(self, part: Part) -> None:  # noqa: ARG002 - the function is not tried: it would push
        """Load what reads and sums rows."""
        for spec in self.program.tables:
            warm(spec)

    def close(self) -> None:
        """Let the function end, then hold nothing any more."""
        if self._loop is not None:
            self._loop.end()
            self._loop = None
        super().close()
        for one in self.lodgings:
            one.close()
        self._row_desks.clear()
        self._lanes_rows.close()

    def _room(self, lodging: Lodging) -> int | None:
        """Bytes that ``lodging`` may take of what a node may hold."""
        if self.program.limit is None:
            return None
        return self.program.limit - sum(one.nbytes for one in self.lodgings if one is not lodging)

    # -- the loop -----------------------------------------------------------------------------------------------------
    def _gradient(self, work: Gradient) -> None:
        self.bench.mark(COMPUTE)
        for part in work.parts:
            if not self.facts.reproducible:
                self._lay(part.lo, self._run(part, work.clock))
                continue
            units = {lane: self._run(Part(lane, lane + 1), work.clock) for lane in range(*part)}
            for into, other in tree_additions(part):
                units[into] = self._added(units[into], units[other])
            self._lay(part.lo, units[part.lo])

    def _run(self, part: Part, clock: int) -> Pushed:
        if self._loop is None:
            worker = int(self.name.rpartition(" ")[2] or 0) if self.name else 0
            reader = LaneReader(self.tables["train"], self.facts.batches)
            self._loop = Loop(self.program, self.facts.batches, reader, worker, self.pull, self.tell)
        pushed = self._loop.run(part, clock)
        self.bench.tick()
        return pushed

    def _added(self, one: Pushed, other: Pushed) -> Pushed:
        tables: dict[int, list[tuple[Keys, Flat]]] = {}
        for number in range(len(self.program.tables)):
            found = [Rows(*rows) for rows in (one.of(number), other.of(number)) if rows is not None]
            if found:
                tables[number] = [Rows.joined(found)]
        return Pushed(tables, one.rows + other.rows, one.weight + other.weight, one.loss + other.loss)

    def _lay(self, lane: int, pushed: Pushed) -> None:
        """Put what a unit came to where the server finds it."""
        row = self.bench.stats[lane]
        row[0], row[1], row[2] = pushed.rows, pushed.weight, pushed.loss
        self.arrays.blocks[lane][0] = pushed.rows
        tables = [pushed.of(number) for number in range(len(self.program.tables))]
        self.moved[0] += self._lanes_rows.lay(lane, [None if one is None else Rows(*one) for one in tables])

    # -- reading ------------------------------------------------------------------------------------------------------
    def pull(self, table: int, keys: Keys) -> Flat:
        """The rows of ``keys`` of a table, by its number."""
        cuts, spec = self.program.cuts, self.program.tables[table]
        if cuts == 1:
            rows = self._pull_cut(table, keys)
        else:
            rows = np.empty((len(keys), spec.width), spec.dtype)
            for cut, part in enumerate(self._lanes_rows.places_of(keys)):
                if len(part):
                    rows[part] = self._pull_cut(table * cuts + cut, keys[part])
        self.moved[1] += rows.nbytes
        return rows

    def _pull_cut(self, index: int, keys: Keys) -> Flat:
        lodging = self.lodgings[index]
        rows = lodging.pull(keys)
        return rows if rows is not None else self._asking.ask(self.first + index, lodging.spec, keys)

    def tell(self, values: dict[str, Any]) -> None:
        """Keep what a unit reported."""
        if self.folder is not None:
            with (self.folder / f"reports-{self.name.replace(' ', '-')}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def _asks(self, question: Seek) -> None:
        self.ask(question)

    def _serve_rows(self, desk: RowDesk, work: Serve) -> None:
        self._asking.serve(work.process, work.number, desk.lodging)

    # -- sums ---------------------------------------------------------------------------------------------------------
    def _here(self, desk: RowDesk, part: Part) -> Piece:
        rows = self._lanes_rows.here(part.lo, desk.index - self.first)
        return Piece(part, cast(Any, rows), self._stats(part), False)

    def _row_pieces(self, desk: RowDesk, entries: Sequence[Entry]) -> Pieces:
        pieces: Pieces = []
        whole_deltas: set[tuple[int, int]] = set()
        for entry in entries:
            if entry.node < 0:
                pieces += [self._here(desk, part) for part in entry.parts]
                continue
            came, key = desk.delta(entry), (entry.node, entry.number)
            if key not in whole_deltas:
                pieces += came.of(entry)
            if came.listed:
                whole_deltas.add(key)
        return pieces

    def _summed(self, desk: RowDesk, entries: Sequence[Entry], whole: bool) -> tuple[Rows, Stats]:
        pieces = self._row_pieces(desk, entries)
        return summed(pieces, Part(0, self.facts.lanes) if whole else None)

    def _gather_rows(self, desk: RowDesk, work: Gather) -> None:
        self.bench.mark(APPLY)
        pieces = self._row_pieces(desk, work.entries)
        made = []
        for part in work.parts:
            own = [piece for piece in pieces if part.lo <= piece.part.lo and piece.part.hi <= part.hi]
            made.append(summed(own, part))
        if not work.parts:
            made = [summed(pieces, None)]
        arrays = [kept(rows) for rows, _stats in made]
        desk.outgoing[work.number] = Outgoing(tuple(stats for _rows, stats in made), cast(Any, arrays))

    def _combine_rows(self, desk: RowDesk, work: Combine) -> None:
        self.bench.mark(APPLY)
        rows, stats = self._summed(desk, work.entries, work.whole)
        desk.keep_sum(work.tag, Sum(cast(Any, kept(rows)), stats, OWN, whole=work.whole, lent=True))

    # -- F ------------------------------------------------------------------------------------------------------------
    def _advance_rows(self, desk: RowDesk, work: Advance) -> Applied:
        self.bench.mark(APPLY)
        if desk.tag != work.tag:
            raise RunError(f"shard {work.shard} is at tag {desk.tag}, a step from tag {work.tag} was asked for")
        if work.entries:
            rows, stats = self._summed(desk, work.entries, work.whole)
        else:
            made = desk.sum_of(work.tag)
            rows, stats = cast(Any, made.array), made.stats
        lodging, after = desk.lodging, sum(work.applied)
        if len(rows.keys):
            lodging.push(*rows, *self._weights(desk, stats, work.whole), self._room(lodging))
        lodging.advanced(after)
        desk.advanced(work.tag, work.applied)
        return (False, after // self.facts.lanes, *stats)

    def _weights(self, desk: RowDesk, stats: Stats, whole: bool) -> tuple[float, float]:
        """What a push is multiplied by, and its share of a step."""
        if not self.program.means[(desk.index - self.first) // self.program.cuts] or not stats[1]:
            return 1.0, 1.0
        return 1.0 / stats[1], 1.0 if whole else min(1.0, stats[0] / self._clock_rows)

    def _adopt_rows(self, desk: RowDesk, _work: Adopt) -> tuple[int, bool]:
        desk.lodging.attach()
        return desk.tag, False

    def _forget_rows(self, desk: RowDesk, work: Forget) -> None:
        desk.forget(work.number)

    # -- what goes between nodes --------------------------------------------------------------------------------------
    def pack(self, message: Message) -> list[Any]:
        """See ``NodePlane``."""
        if getattr(message, "shard", -1) < self.first:
            return super().pack(message)
        buffers = self._row_post.pack(message)
        for into in (self.traffic.packed, self.traffic.plain):
            self.traffic.count(into, message, bytes_of(buffers))
        return buffers

    def unpack(self, sender: Address, message: Message, buffers: Sequence[Any]) -> None:
        """See ``NodePlane``."""
        if getattr(message, "shard", -1) < self.first:
            super().unpack(sender, message, buffers)
            return
        self.traffic.count(self.traffic.unpacked, message, bytes_of(buffers))
        self._row_post.unpack(sender, message, buffers)

    # -- values that came ---------------------------------------------------------------------------------------------
    def _show_rows(self, desk: RowDesk, work: Show) -> None:
        desk.lodging.leave(sum(work.applied))
        desk.advanced(sum(work.applied), work.applied)

    def _take_up_rows(self, desk: RowDesk, work: TakeUp) -> None:
        tag, lodging = sum(work.applied), desk.lodging
        block: RowBlock = desk.whole(tag)
        lodging.leave(lodging.tag)  # two of them would not fit
        lodging.begin(tag, block, self._room(lodging))
        desk.advanced(tag, work.applied)

    # -- what a store writes ------------------------------------------------------------------------------------------
    def snapshot(self, shard: int, clock: int) -> Any:
        """A copy of ``shard`` as of ``clock``; of a table's, what makes it once it is written (``SavedRows``)."""
        if shard < self.first:
            return super().snapshot(shard, clock)
        saved = SavedRows(self.lodgings[shard - self.first], self._tag(clock))
        saved.check()
        return saved


@dataclass(frozen=True)
class SavedRows:
    """The rows of a shard at ``tag``, copied when they are asked for: all at once may not fit beside themselves.

    Nothing changes while a save is under way: the driver goes on only once all is written. That is checked.
    """

    lodging: Lodging
    tag: int

    def check(self) -> None:
        """RunError unless the shard is at ``tag``."""
        if self.lodging.tag != self.tag:
            raise RunError(
                f"a shard of table {self.lodging.spec.name!r} has no rows of tag {self.tag} to save: it is at "
                f"{self.lodging.tag}"
            )

    def __call__(self) -> dict[str, Flat]:
        """``keys``, ``rows`` and ``counts``."""
        self.check()
        block = self.lodging.snapshot()
        self.check()
        return {"keys": block.keys, "rows": block.rows, "counts": block.counts}


def _expected(spec: TableSpec, cuts: int) -> int | None:
    """Rows of a shard, at most, by and large: keys are spread evenly, and a little unevenly."""
    if spec.rows is None:
        return None
    fair = -(-spec.rows // cuts)
    return min(spec.rows, fair + int(8 * fair**0.5)) if cuts > 1 else spec.rows
