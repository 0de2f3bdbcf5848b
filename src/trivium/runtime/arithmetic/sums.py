"""Sums of deltas from several places, in an order that does not depend on where they came from.

Rules
-----
* A **piece** is the summed delta of some lanes, with its stats: it lies in a lane's block, which may be written, or in
  what came from another node, which may not (the sender may still have it, and may send it again).
* A whole clock is summed as ``core.reduce`` says: pieces that are subtrees up the tree, others, and those of a clock
  that lanes were left out of, from left to right. What is added to what, and so the bits, is what ``Apply`` adds in
  one memory. Anything else is added in the order given.
* Adding is in place where the left side may be written, and else into memory that is kept for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.reduce import additions
from trivium.errors import RunError
from trivium.runtime.arithmetic.arrays import HeldShard, Stats

__all__ = ["Piece", "Summing"]

Pairs = list[tuple[int, int]]  # (into, from): positions of pieces


class Piece(NamedTuple):
    """The shard's delta of the lanes of ``part``; ``free``: it may be written."""

    part: Part
    array: NDArray[Any]
    stats: Stats
    free: bool


class Summing:
    """Adds pieces; remembers which order goes with which parts."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._orders: dict[tuple[Part, tuple[Part, ...]], Pairs] = {}
        self._spare: dict[int, list[NDArray[Any]]] = {}  # of each shard

    def whole(
        self, held: HeldShard, pieces: Sequence[Piece], out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], Stats]:
        """The sum of a clock's ``pieces``, those of all lanes or of some; in ``out`` if it is given."""
        ordered = sorted(pieces, key=_first_lane)
        parts = tuple([piece.part for piece in ordered])
        return self._add(held, ordered, self._order(Part(0, self.lanes), parts), out)

    def subtree(
        self, held: HeldShard, node: Part, pieces: Sequence[Piece], out: NDArray[Any]
    ) -> tuple[NDArray[Any], Stats]:
        """The sum of ``pieces`` that cover ``node`` just so, as the tree over its lanes says."""
        ordered = sorted(pieces, key=_first_lane)
        parts = tuple([piece.part for piece in ordered])
        if not parts or sum(hi - lo for lo, hi in parts) != node.hi - node.lo:
            raise RunError(f"shard {held.shard.index}: the lanes of {node} are to be summed, there are {parts}")
        return self._add(held, ordered, self._order(node, parts), out)

    def listed(
        self, held: HeldShard, pieces: Sequence[Piece], out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], Stats]:
        """The sum of ``pieces`` from the first to the last."""
        return self._add(held, pieces, [(0, i) for i in range(1, len(pieces))], out)

    def _order(self, node: Part, parts: tuple[Part, ...]) -> Pairs:
        pairs = self._orders.get((node, parts))
        if pairs is None:
            for before, after in pairwise(parts):
                if before.hi > after.lo:
                    raise RunError(f"lanes are counted twice: {before} and {after}")
            at = {part.lo - node.lo: i for i, part in enumerate(parts)}
            shifted = [Part(lo - node.lo, hi - node.lo) for lo, hi in parts]  # the tree of a node is that of its size
            pairs = [(at[into], at[other]) for into, other in additions(node.hi - node.lo, shifted)]
            self._orders[node, parts] = pairs
        return pairs

    def _add(
        self, held: HeldShard, pieces: Sequence[Piece], pairs: Pairs, out: NDArray[Any] | None
    ) -> tuple[NDArray[Any], Stats]:
        """Carry out ``pairs``, which leave the sum in the first piece; the last addition writes to ``out``."""
        have, used = list(pieces), 0
        for number, (into, other) in enumerate(pairs, start=1):
            one, two = have[into], have[other]
            if number == len(pairs) and out is not None:
                into_array = out
            elif one.free:
                into_array = one.array
            else:
                into_array, used = self._scratch(held, used), used + 1
            np.add(one.array, two.array, into_array)
            (r, w, x), (s, v, y) = one.stats, two.stats
            have[into] = Piece(one.part, into_array, (r + s, w + v, x + y), True)
        if not pairs and out is not None:
            np.copyto(out, have[0].array)
            return out, have[0].stats
        return have[0].array, have[0].stats

    def _scratch(self, held: HeldShard, number: int) -> NDArray[Any]:
        spare = self._spare.setdefault(held.shard.index, [])
        if number == len(spare):
            spare.append(np.empty_like(held.blocks[0]))
        return spare[number]


def _first_lane(piece: Piece) -> int:
    return piece.part.lo
