"""What goes to other nodes for shards of row tables and what comes: keys that ascend, and a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Copy, Delta, Found, Fresh, Seek, Whole
from trivium.core.lanes import Part
from trivium.core.role import Address, Message
from trivium.errors import RunError
from trivium.program.tables import Keys, RowBlock, combine
from trivium.runtime.arithmetic.arrays import Stats
from trivium.runtime.arithmetic.desk import Came, Desk, Sum
from trivium.runtime.arithmetic.parcels import Head, as_array, opened, sealed
from trivium.runtime.arithmetic.sums import Piece
from trivium.runtime.row_plane_asking import Asking
from trivium.runtime.row_plane_memory import Lodging

__all__ = ["RowDesk", "RowPost", "Rows"]

Flat = NDArray[Any]
NOTHING = -1  # rows, or keys: who asked has been answered
ALL = Part(0, 0)  # the part of a piece that stands for whatever was summed


class Rows(NamedTuple):
    """Keys that ascend, none twice, and a row for each."""

    keys: Keys
    deltas: Flat

    @staticmethod
    def joined(many: Sequence[Rows]) -> Rows:
        """Their sum, in the order given."""
        if len(many) == 1:
            return many[0]
        keys = np.concatenate([one.keys for one in many])
        return Rows(*combine(keys, np.concatenate([one.deltas for one in many])))


class _Number(NamedTuple):
    """A shard's number, by the name that a dense one has it."""

    index: int  # type: ignore[assignment]  # it hides a method of tuples that nobody calls


class _Held:
    """What a desk asks of a shard: its number, and how far it is."""

    def __init__(self, index: int, lodging: Lodging) -> None:
        self.shard, self._lodging, self.versions = _Number(index), lodging, self

    def current(self) -> tuple[int, int]:
        """Tag, and no slot."""
        return self._lodging.tag, 0


class RowDesk(Desk):
    """A desk whose sums are ``Rows``: nothing of theirs is used again."""

    def __init__(self, index: int, lodging: Lodging) -> None:
        super().__init__(cast(Any, _Held(index, lodging)))
        self.index, self.lodging = index, lodging

    def give(self, array: Any) -> None:
        """It is let go."""


class RowPost:
    """Packs and unpacks for ``desks``."""

    def __init__(self, desks: Sequence[RowDesk], asking: Asking) -> None:
        self._desks, self._asking = desks, asking
        self._first = desks[0].index if desks else 0

    def _desk(self, message: Any) -> RowDesk:
        shard: int = message.shard
        return self._desks[shard - self._first]

    def pack(self, message: Message) -> list[Any]:
        """The buffers that go beside ``message``."""
        if isinstance(message, Fresh):
            return sealed(Head(), [])  # how far it is, and no rows
        if isinstance(message, Seek):
            return _one(self._asking.keys(message.process, message.number))
        desk = self._desk(message)
        if isinstance(message, Found):
            return _one(self._asking.found(message, desk.lodging))
        if isinstance(message, Whole):
            block = desk.lodging.snapshot()
            return sealed(Head(number=len(block)), [block.keys, block.rows, block.counts])
        if isinstance(message, Copy):
            made = desk.sum_of(sum(message.before))
            return _sealed((made.stats,), [cast(Any, made.array)])
        assert isinstance(message, Delta)
        outgoing = desk.outgoing.get(message.number)
        if outgoing is None:
            raise RunError(f"Delta {message.number} of shard {message.shard} is to be sent, and was not gathered")
        return _sealed(outgoing.stats, cast(Any, outgoing.arrays))

    def unpack(self, sender: Address, message: Message, buffers: Sequence[Any]) -> None:
        """Keep what came beside ``message``."""
        desk = self._desk(message)
        what = f"{type(message).__name__} of shard {desk.index} from node {sender.node}"
        head, rest = opened(what, buffers)
        spec = desk.lodging.spec
        if isinstance(message, Whole):
            desk.take_whole(sum(message.applied), message.term, _block(what, desk, head.number, rest))
        elif isinstance(message, Delta):
            parts = message.parts or (ALL,)
            rows = _opened(what, desk, head, rest, len(parts))
            pieces = [Piece(*one, False) for one in zip(parts, cast(Any, rows), head.stats, strict=True)]
            came = Came(message.term, message.entries, tuple(pieces), not message.parts)
            desk.take_delta((sender.node, message.number), came)
        elif isinstance(message, Copy):
            (one,) = _opened(what, desk, head, rest, 1)
            made = Sum(cast(Any, one), head.stats[0], message.term, whole=message.whole, lent=True)
            desk.keep_sum(sum(message.before), made)
        elif isinstance(message, Seek) and head.number != NOTHING:
            self._asking.sought(sender.node, message, as_array(what, rest[0], "int64", (head.number,)))
        elif isinstance(message, Found) and head.number != NOTHING:
            self._asking.answer(message, as_array(what, rest[0], spec.dtype, (head.number, spec.width)))


def _one(array: Flat | None) -> list[Any]:
    return sealed(Head(number=NOTHING), []) if array is None else sealed(Head(number=len(array)), [array])


def _sealed(stats: tuple[Stats, ...], many: Sequence[Rows]) -> list[Any]:
    head = Head(stats, counts=tuple(len(one.keys) for one in many))
    return sealed(head, [array for one in many for array in one])


def _opened(what: str, desk: RowDesk, head: Head, rest: Sequence[Any], count: int) -> list[Rows]:
    spec = desk.lodging.spec
    if not len(head.stats) == len(head.counts) == count or len(rest) != 2 * count:
        raise RunError(f"{what} came with {len(head.stats)} stats and {len(rest)} buffers for {count} sums")
    return [
        Rows(
            as_array(what, rest[2 * i], "int64", (n,)),
            as_array(what, rest[2 * i + 1], spec.dtype, (n, spec.width)),
        )
        for i, n in enumerate(head.counts)
    ]


def _block(what: str, desk: RowDesk, count: int, rest: Sequence[Any]) -> RowBlock:
    spec = desk.lodging.spec
    if len(rest) != 3:
        raise RunError(f"{what} came with {len(rest)} arrays where 3 belong")
    keys, rows, counts = rest
    return RowBlock(
        as_array(what, keys, "int64", (count,)),
        as_array(what, rows, spec.dtype, (count, spec.size)),
        as_array(what, counts, "int64", (count,)),
    )
