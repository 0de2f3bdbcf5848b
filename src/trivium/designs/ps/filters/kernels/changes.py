"""How much each block of a delta would change the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.compiled import blockwise, frozen

__all__ = ["relative_changes"]

Flat = NDArray[Any]


@blockwise
def _sums(x: Flat, left: Flat, w: Flat, block: int, out: NDArray[np.float64]) -> None:
    for b in range(len(out)):
        lo = b * block
        xs, kept, ws = x[lo : lo + block], left[lo : lo + block], w[lo : lo + block]
        moved, there = x.dtype.type(0), x.dtype.type(0)
        for i in range(xs.size):
            moved += abs(xs[i] + kept[i])
            there += abs(ws[i])
        out[b, 0], out[b, 1] = moved, there


def relative_changes(x: Flat, left: Flat, w: Flat, block: int) -> NDArray[np.float64]:
    """Σ|x + left| / Σ|w| for each ``block`` elements of flat ``x``: what came, and what was kept, over what is there.

    Infinite where w is 0 and the change is not, 0 where neither is anything.

    >>> relative_changes(np.ones(5), np.zeros(5), np.array([1.0, 1.0, 4.0, 4.0, 0.0]), 2).tolist()
    [1.0, 0.25, inf]
    """
    if not x.size == left.size == w.size:
        raise ValueError(
            f"delta, residual and parameters have {x.size}, {left.size} and {w.size} elements; all must be alike"
        )
    sums = np.empty((-(-x.size // block), 2))
    _sums(frozen(x), frozen(left), frozen(w), block, sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[:, 0] == 0, 0.0, sums[:, 0] / sums[:, 1])
