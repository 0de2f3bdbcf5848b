"""What goes to other nodes beside a message and what came beside one: packs it, checks it, lays it on the desks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Copy, Delta, Fresh, Partial, Whole
from trivium.core.lanes import Part
from trivium.core.role import Address, Message
from trivium.core.spans import ENCODE
from trivium.errors import RunError
from trivium.program.optimizers.totals import total
from trivium.runtime.arithmetic import snapshots
from trivium.runtime.arithmetic.arrays import Bench, HeldShard, Stats
from trivium.runtime.arithmetic.desk import OWN, Bound, Came, Desk, Outgoing, Sum
from trivium.runtime.arithmetic.filtering import COPY, DELTA, Filters
from trivium.runtime.arithmetic.parcels import Head, as_array, bytes_of, opened, sealed
from trivium.runtime.arithmetic.sums import Piece

__all__ = ["WHOLE", "Filters", "Post", "Traffic"]

WHOLE = ("a", "slots", "ring", "head", "totals", "step", "kept")  # in this order
ALL = Part(0, 0)  # the part of a piece that stands for whatever was summed


@dataclass
class Traffic:
    """Bytes by the name of the message: ``packed``, ``unpacked``, and what would have been packed without filters."""

    packed: dict[str, int] = field(default_factory=dict)
    unpacked: dict[str, int] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def count(into: dict[str, int], message: Message, nbytes: int) -> None:
        """Add ``nbytes`` to what goes with messages like ``message``."""
        name = type(message).__name__
        into[name] = into.get(name, 0) + nbytes


class Post:
    """Packs and unpacks bulk messages for the shards of one node."""

    def __init__(self, bench: Bench, desks: Sequence[Desk], filters: Filters, traffic: Traffic) -> None:
        self.bench, self.desks, self.filters, self.traffic = bench, desks, filters, traffic
        self._pack: dict[type[Message], Callable[[Any], list[Any]]] = {
            Delta: self._pack_delta,
            Copy: self._pack_copy,
            Fresh: self._pack_fresh,
            Partial: self._pack_partial,
            Whole: self._pack_whole,
        }
        self._unpack: dict[type[Message], Callable[[Address, Any, Sequence[Any]], None]] = {
            Delta: self._unpack_delta,
            Copy: self._unpack_copy,
            Fresh: self._unpack_fresh,
            Partial: self._unpack_partial,
            Whole: self._unpack_whole,
        }

    def pack(self, message: Message) -> list[Any]:
        """The buffers that go beside ``message``: read-only, and never written again."""
        again = isinstance(message, Copy) and self._is_written(message)
        with self._encoding():
            buffers = self._pack[type(message)](message)
        nbytes = bytes_of(buffers)
        if again or not isinstance(message, Delta | Copy):
            self.filters.charge(nbytes)
        self.traffic.count(self.traffic.packed, message, nbytes)
        plain = nbytes
        if self.filters and isinstance(message, Delta | Copy):
            count = max(1, len(message.parts)) if isinstance(message, Delta) else 1
            plain = count * self.desks[message.shard].held.blocks[0].nbytes
        self.traffic.count(self.traffic.plain, message, plain)
        return buffers

    def unpack(self, sender: Address, message: Message, buffers: Sequence[Any]) -> None:
        """Keep what came beside ``message``; RunError where it is not what it should be."""
        self.traffic.count(self.traffic.unpacked, message, bytes_of(buffers))
        with self._encoding():
            self._unpack[type(message)](sender, message, buffers)

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Time goes to encoding meanwhile, and to what it went to before afterwards."""
        spans, before = self.bench.spans, ENCODE if self.bench.spans is None else self.bench.spans.kind
        self.bench.mark(ENCODE)
        try:
            yield
        finally:
            if spans is not None:
                self.bench.mark(before)

    def close(self) -> None:
        """Not to be used again: what it holds is given back now."""
        self._pack.clear()
        self._unpack.clear()

    # -- Delta --------------------------------------------------------------------------------------------------------
    def lay_out(self, desk: Desk, number: int, clock: int, arrays: list[NDArray[Any]], stats: Sequence[Stats]) -> None:
        """Delta ``number`` carries ``arrays`` (of ``desk.empty``), deltas of ``clock``; they are encoded here, once."""
        outgoing = Outgoing(tuple(stats), arrays)
        if self.filters:
            self.bench.mark(ENCODE)
            encoded = [
                self.filters.encode(DELTA, desk.held, one, (clock, weight), position)
                for position, (one, (_rows, weight, _loss)) in enumerate(zip(arrays, stats, strict=True))
            ]
            outgoing.counts = tuple(len(one.buffers) for one in encoded)
            outgoing.buffers = [buffer for one in encoded for buffer in one.buffers]
            outgoing.residuals = [one.residual for one in encoded]
            outgoing.arrays = []
            for array in arrays:
                desk.give(array)
        desk.outgoing[number] = outgoing

    def _pack_delta(self, message: Delta) -> list[Any]:
        outgoing = self.desks[message.shard].outgoing.get(message.number)
        if outgoing is None:
            raise RunError(f"Delta {message.number} of shard {message.shard} is to be sent, and was not gathered")
        head = Head(outgoing.stats, counts=outgoing.counts)
        return [*sealed(head, outgoing.arrays), *outgoing.buffers]

    def _unpack_delta(self, sender: Address, message: Delta, buffers: Sequence[Any]) -> None:
        desk = self.desks[message.shard]
        what = f"Delta {message.number} of shard {message.shard} from node {sender.node}"
        head, rest = opened(what, buffers)
        parts = message.parts or (ALL,)
        arrays = self._arrays(what, desk.held, head, rest, len(parts))
        pieces = [Piece(*one, False) for one in zip(parts, arrays, head.stats, strict=True)]
        came = Came(message.term, message.entries, tuple(pieces), not message.parts)
        desk.take_delta((sender.node, message.number), came)

    def _arrays(self, what: str, held: HeldShard, head: Head, buffers: Sequence[Any], count: int) -> list[NDArray[Any]]:
        """``count`` deltas of a shard, each with its stats."""
        encoded = bool(head.counts)
        need = sum(head.counts) if encoded else count
        if len(head.stats) != count or (encoded and len(head.counts) != count) or len(buffers) != need:
            raise RunError(f"{what} came with {len(head.stats)} stats and {len(buffers)} buffers for {count} arrays")
        if not encoded:
            like = held.blocks[0]
            return [as_array(what, buffer, like.dtype, like.shape) for buffer in buffers]
        if not self.filters:
            raise RunError(f"{what} came through filters, and this node has none: do all nodes have the same plan?")
        arrays, at = [], 0
        for number in head.counts:
            arrays.append(self.filters.decode(held, buffers[at : at + number]))
            at += number
        return arrays

    # -- Copy ---------------------------------------------------------------------------------------------------------
    def _pack_copy(self, message: Copy) -> list[Any]:
        desk, tag = self.desks[message.shard], sum(message.before)
        made = desk.sum_of(tag)
        if self.bench.facts.optimizer.scalar_count and made.totals is None:
            self.bind(made, tag)
        if self.filters and made.buffers is None and made.term == OWN and desk.tag == tag:
            about = (tag // self.bench.facts.lanes, made.stats[1])
            encoded = self.filters.encode(COPY, desk.held, made.array, about)
            made.buffers, made.residual = encoded.buffers, encoded.residual
            np.copyto(made.array, encoded.applied())  # this node, too, applies what the copies can
        totals = () if made.totals is None else tuple(made.totals.tolist())
        if made.buffers is not None:
            return [*sealed(Head((made.stats,), totals, (len(made.buffers),)), []), *made.buffers]
        made.lent = True
        return sealed(Head((made.stats,), totals), [made.array])

    def _is_written(self, message: Copy) -> bool:
        """Whether filters wrote it before, for another node."""
        return self.desks[message.shard].sum_of(sum(message.before)).buffers is not None

    def bind(self, made: Sum, tag: int) -> NDArray[np.float64]:
        """Give ``made`` the totals of its step: those that another shard was advanced with, else those of all rows."""
        for desk in self.desks:
            if desk.bound is not None and desk.bound.tag == tag:
                made.totals, made.stats = desk.bound.totals, desk.bound.stats
                return made.totals
        made.totals = total(self.bench.arrays.partials)
        return made.totals

    def _unpack_copy(self, sender: Address, message: Copy, buffers: Sequence[Any]) -> None:
        desk, what = self.desks[message.shard], f"Copy of shard {message.shard} from node {sender.node}"
        head, rest = opened(what, buffers)
        (array,) = self._arrays(what, desk.held, head, rest, 1)
        totals = self._came_totals(what, head) if head.totals else None
        desk.keep_sum(sum(message.before), Sum(array, head.stats[0], message.term, totals))

    def _came_totals(self, what: str, head: Head) -> NDArray[np.float64]:
        if len(head.totals) != self.bench.arrays.totals.shape[-1]:
            raise RunError(f"{what} came with {len(head.totals)} totals: do all nodes run the same optimizer?")
        return np.array(head.totals)

    # -- Fresh --------------------------------------------------------------------------------------------------------
    def _pack_fresh(self, message: Fresh) -> list[Any]:
        tag, held = sum(message.applied), self.desks[message.shard].held
        reader = 2 * self.bench.facts.processes + self.bench.me
        slot = held.pinned(reader, tag, "it to be shown")
        try:
            return sealed(Head(), [held.a[slot].copy()])
        finally:
            held.versions.unpin(reader)

    def _unpack_fresh(self, sender: Address, message: Fresh, buffers: Sequence[Any]) -> None:
        desk, what = self.desks[message.shard], f"Fresh of shard {message.shard} from node {sender.node}"
        _head, rest = opened(what, buffers)
        like = desk.held.a[0]
        if len(rest) != 1:
            raise RunError(f"{what} came with {len(rest)} arrays where 1 belongs")
        desk.take_fresh(sum(message.applied), message.term, as_array(what, rest[0], like.dtype, like.shape))

    # -- Partial ------------------------------------------------------------------------------------------------------
    def _rows(self, shard: int) -> NDArray[np.float64]:
        blocks = self.desks[shard].held.shard.blocks
        rows: NDArray[np.float64] = self.bench.arrays.partials[blocks.start : blocks.stop]
        return rows

    def _pack_partial(self, message: Partial) -> list[Any]:
        if not message.settled:
            return sealed(Head(), [self._rows(message.shard).copy()])
        bound = self.desks[message.shard].bound
        tag = message.clock * self.bench.facts.lanes
        if bound is None or bound.tag != tag:
            raise RunError(f"shard {message.shard} has no totals of clock {message.clock} that bind")
        return sealed(Head((bound.stats,), tuple(bound.totals.tolist())), [])

    def _unpack_partial(self, sender: Address, message: Partial, buffers: Sequence[Any]) -> None:
        desk, what = self.desks[message.shard], f"Partial of shard {message.shard} from node {sender.node}"
        head, rest = opened(what, buffers)
        if message.settled:
            stats: Stats = head.stats[0]
            tag = message.clock * self.bench.facts.lanes
            if desk.bound is None or desk.bound.tag <= tag:
                desk.bound = Bound(tag, self._came_totals(what, head), stats, came=True)
            return
        if (message.term, message.clock) <= desk.rows:
            return  # late, or again
        rows = self._rows(message.shard)
        rows[:] = as_array(what, rest[0], rows.dtype, rows.shape)
        desk.rows = (message.term, message.clock)

    # -- Whole --------------------------------------------------------------------------------------------------------
    def _pack_whole(self, message: Whole) -> list[Any]:
        saved = snapshots.saved(self.bench, message.shard, sum(message.applied), "it to be copied whole")
        kept_clock = int(self.bench.arrays.kept_clock[message.shard])
        return sealed(Head(number=kept_clock), [saved[name] for name in WHOLE])

    def _unpack_whole(self, sender: Address, message: Whole, buffers: Sequence[Any]) -> None:
        desk, what = self.desks[message.shard], f"Whole of shard {message.shard} from node {sender.node}"
        head, rest = opened(what, buffers)
        shapes = snapshots.shapes(self.bench, desk.held)
        if len(rest) != len(WHOLE):
            raise RunError(f"{what} came with {len(rest)} arrays where {len(WHOLE)} belong")
        content = {
            name: as_array(f"{what}: {name}", buffer, *shapes[name]) for name, buffer in zip(WHOLE, rest, strict=True)
        }
        desk.take_whole(sum(message.applied), message.term, (content, head.number))
