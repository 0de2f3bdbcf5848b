"""What goes of a delta, and what is kept: the one path of dense deltas and rows of tables.

A delta is (n, width) here; dense ones have width 1. ``left``, of the same shape, is the residual, changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import Coder
from trivium.designs.ps.filters.kernels.selection import add_into, largest
from trivium.designs.ps.filters.topk import TopK

__all__ = ["Picked", "Picker"]

Rows = NDArray[Any]
Positions = NDArray[np.int64]


class Picked(NamedTuple):
    """Which rows go (None: all), and their values as the coder wrote them."""

    positions: Positions | None
    sent: int
    scales: Rows
    codes: Rows


@dataclass
class Picker:
    """Selection and values of one sender. ``guess``: where topk's last threshold was."""

    topk: TopK | None
    coder: Coder
    guess: int = 0

    def pick(self, x: Rows, left: Rows | None, keep: NDArray[np.bool_] | None, go: Positions | None) -> Picked:
        """Choose and write. ``keep``: rows that are not dropped; ``go``: positions that may go now; None: all."""
        if left is None:
            positions = None if keep is None else np.flatnonzero(keep)
            return self._write(x if positions is None else x[positions], None, positions)
        if keep is None and go is None and self.topk is None:
            return self._write(x, left, None)
        add_into(left.reshape(-1), x.reshape(-1))
        if keep is not None:
            left[~keep] = 0
        positions = self._positions(left, keep, go)
        values = left[positions]
        rest = np.zeros_like(values)
        picked = self._write(values, rest, positions)
        left[positions] = rest
        if self.topk is not None and not np.isfinite(values).all():
            left[~np.isfinite(left)] = 0  # some go, being the largest, and show it; the others must not stay
        return picked

    def _write(self, values: Rows, left: Rows | None, positions: Positions | None) -> Picked:
        scales, codes = self.coder.encode(values.reshape(-1), None if left is None else left.reshape(-1))
        return Picked(positions, len(values), scales, codes)

    def _positions(self, left: Rows, keep: NDArray[np.bool_] | None, go: Positions | None) -> Positions:
        """The rows of ``left`` that go."""
        if self.topk is None:
            if go is None:
                assert keep is not None
                return np.flatnonzero(keep)
            return go if keep is None else go[keep[go]]
        size = left[:, 0] if left.shape[1] == 1 else np.sqrt(np.einsum("ij,ij->i", left, left))
        if go is not None:
            size = size[go]
        found, self.guess = largest(np.ascontiguousarray(size), self.topk.count(size.size), self.guess)
        return found if go is None else go[found]
