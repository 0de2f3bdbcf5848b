"""What lanes push to row tables, on its way within a node: cut by shards, laid into a lane's range, summed from there.

A lane's range lies in the node's memory and grows as needed; who runs the lane writes it, the server reads it. Sums of
``Rows`` are in fixed order: up the tree over lanes where bits must not depend on who computed what, else from left to
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.reduce import additions
from trivium.program.tables import TableSpec, even_starts, split
from trivium.runtime.arithmetic.arrays import Stats
from trivium.runtime.arithmetic.sums import Piece
from trivium.runtime.row_plane_memory import Plot, Yard, laid
from trivium.runtime.row_plane_post import Rows

__all__ = ["LaneRows", "kept", "lane_words", "summed"]

Flat = NDArray[Any]
HEAD = 8  # words before a lane's places: where its range lies
ALIGN = 64


def lane_words(shards: int) -> int:
    """Words that say where a lane's rows lie."""
    return HEAD + 2 * shards


class LaneRows:
    """The lanes' ranges, as one process has them. ``places`` has a row for each lane; ``specs`` are the tables."""

    def __init__(self, places: NDArray[np.int64], yard: Yard, specs: Sequence[TableSpec], cuts: int) -> None:
        self._places, self._yard, self._specs, self._cuts = places, yard, specs, cuts
        self._starts = even_starts(cuts)
        self._plots: dict[int, Plot] = {}

    def lay(self, lane: int, tables: Sequence[Rows | None]) -> int:
        """Put what was pushed to each table into the lane's range; how many bytes it was."""
        places = self._places[lane]
        places[HEAD:] = 0
        found: list[tuple[int, Rows]] = []
        for number, rows in enumerate(tables):
            if rows is not None:
                found += [(number * self._cuts + i, one) for i, one in self.cut(rows)]
        need = sum(_aligned(array.nbytes) for _index, one in found for array in one)
        if not need:
            return 0
        raw, at = self._range(lane, need), 0
        for index, one in found:
            places[HEAD + 2 * index : HEAD + 2 * index + 2] = at, len(one.keys)
            for array in one:
                raw[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
                at += _aligned(array.nbytes)
        return need

    def cut(self, rows: Rows) -> list[tuple[int, Rows]]:
        """``rows`` by the shards of their table, those that get any."""
        if self._cuts == 1:
            return [(0, rows)]
        parts = split(rows.keys, self._starts)
        return [(i, Rows(rows.keys[part], rows.deltas[part])) for i, part in enumerate(parts) if len(part)]

    def places_of(self, keys: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """For each shard of a table where in ``keys`` its own are."""
        return split(keys, self._starts)

    def here(self, lane: int, index: int) -> Rows:
        """What lies in the lane's range for the shard ``index`` of all tables'; not copied."""
        spec = self._specs[index // self._cuts]
        at, count = self._places[lane, HEAD + 2 * index : HEAD + 2 * index + 2].tolist()
        plot = self._plot(lane) if count else None
        raw = np.zeros(0, np.uint8) if plot is None else plot.raw[at:]
        return Rows(**laid(raw, {"keys": ("int64", (count,)), "deltas": (spec.dtype, (count, spec.width))}))

    def _range(self, lane: int, need: int) -> NDArray[np.uint8]:
        """The lane's range, of ``need`` bytes or more."""
        plot = self._plot(lane)
        if plot is None or plot.nbytes < need:
            fresh = self._yard.take(2 * need)
            self._places[lane, :2] = fresh.offset, fresh.nbytes
            if plot is not None:
                plot.free()
            plot = self._plots[lane] = fresh
        return plot.raw

    def _plot(self, lane: int) -> Plot | None:
        offset, nbytes = self._places[lane, :2].tolist()
        if not nbytes:
            return None
        plot = self._plots.get(lane)
        if plot is None or (plot.offset, plot.nbytes) != (offset, nbytes):
            plot = self._plots[lane] = self._yard.open(offset, nbytes)
        return plot

    def close(self) -> None:
        """Let go of all that is mapped."""
        self._plots.clear()


def summed(pieces: Sequence[Piece], node: Part | None) -> tuple[Rows, Stats]:
    """The sum of ``pieces``: up the tree over ``node``'s lanes, or (None) from the first to the last."""
    if node is not None and len(pieces) > 2:
        ordered = sorted(pieces, key=_first_lane)
        have = {piece.part.lo - node.lo: piece for piece in ordered}
        shifted = [Part(piece.part.lo - node.lo, piece.part.hi - node.lo) for piece in ordered]
        for into, other in additions(node.hi - node.lo, shifted):
            have[into] = _plus(have[into], have[other])
        first = have[min(have)]
        return cast(Rows, first.array), first.stats
    if node is not None:
        pieces = sorted(pieces, key=_first_lane)
    stats = tuple(map(sum, zip(*(piece.stats for piece in pieces), strict=True)))
    return Rows.joined([cast(Rows, piece.array) for piece in pieces]), cast(Stats, stats)


def kept(rows: Rows) -> Rows:
    """``rows`` in memory of their own: what lies in a lane's range is written again."""
    return Rows(*(array.copy() if array.base is not None else array for array in rows))


def _first_lane(piece: Piece) -> int:
    return piece.part.lo


def _plus(one: Piece, other: Piece) -> Piece:
    rows = Rows.joined([cast(Rows, one.array), cast(Rows, other.array)])
    stats = cast(Stats, tuple(x + y for x, y in zip(one.stats, other.stats, strict=True)))
    return Piece(Part(one.part.lo, other.part.hi), cast(Any, rows), stats, True)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN
