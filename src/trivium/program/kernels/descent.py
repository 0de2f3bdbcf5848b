"""Coordinate descent for lasso and elastic net on a Gram matrix.

Friedman, Hastie, Tibshirani, *Regularization paths for generalized linear models via coordinate descent*, 2010; the
duality gap that ends it: Kim, Koh, Lustig, Boyd, Gorinevsky, *An interior-point method for large-scale l1-regularized
least squares*, 2007.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import FAST

__all__ = ["descend"]

Flat = NDArray[Any]


@njit(nogil=True, cache=True, fastmath=FAST)
def move(row: Flat, by: float, h: Flat) -> None:
    """Add by·row to h."""
    for j in range(len(h)):
        h[j] += by * row[j]


@njit(nogil=True, cache=True, error_model="numpy")
def gap_of(w: Flat, h: Flat, q: Flat, yy: float, l1: float, l2: float, positive: bool) -> float:
    """The duality gap at w, with h = Gram·w and q = X'y."""
    steepest = 0.0
    for j in range(len(w)):
        slope = q[j] - h[j] - l2 * w[j]
        steepest = max(steepest, slope if positive else abs(slope))
    fit = np.dot(q, w)
    rest = yy + np.dot(w, h) - 2.0 * fit
    factor = l1 / steepest if steepest > l1 else 1.0
    gap = 0.5 * rest * (1.0 + factor * factor) if steepest > l1 else rest
    gap += l1 * np.sum(np.abs(w)) - factor * (yy - fit)
    return float(gap + 0.5 * l2 * (1.0 + factor * factor) * np.dot(w, w))


@njit(nogil=True, cache=True, error_model="numpy")
def descend(
    gram: Flat, q: Flat, yy: float, l1: float, l2: float, positive: bool, tol: float, most: int, w: Flat
) -> tuple[int, float]:
    """Minimise ½w'Gw − q'w + l1·‖w‖₁ + (l2/2)·‖w‖² from ``w``, in place; sweeps done, and the gap at the end.

    ``gram`` (n, n), ``q`` (n,) = X'y and ``yy`` = y'y are float64. Columns with 0 on the diagonal stay at 0. Ends when
    the gap is below tol·yy, or after ``most`` sweeps.
    """
    n, h, gap = len(w), np.dot(gram, w), np.inf
    for sweep in range(most):
        largest, change = 0.0, 0.0
        for j in range(n):
            if gram[j, j] == 0.0:
                continue
            before = w[j]
            slope = q[j] - h[j] + before * gram[j, j]
            size = slope - l1 if positive else abs(slope) - l1
            after = 0.0 if size <= 0.0 else np.copysign(size, slope) / (gram[j, j] + l2)
            if after != before:
                w[j] = after
                move(gram[j], after - before, h)
            change = max(change, abs(after - before))
            largest = max(largest, abs(after))
        resting = change == 0.0  # at zero too, but not on the way there: the others may move once more
        if resting or change < tol * largest or sweep == most - 1:
            gap = gap_of(w, h, q, yy, l1, l2, positive)
            if gap < tol * yy or resting:
                return sweep + 1, gap
    return most, gap
