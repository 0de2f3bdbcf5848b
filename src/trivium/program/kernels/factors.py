"""Factorization machines over rows, one pass: margins in O(factors) a non-zero, residuals, gradient.

    ŷ = b + Σᵢ wᵢxᵢ + ½ Σ_f [(Σᵢ v_if xᵢ)² − Σᵢ v_if² xᵢ²],   ∂ŷ/∂v_if = xᵢ (Σⱼ v_jf xⱼ − v_if xᵢ)

``V`` is flat, row-major (features, factors), so that a non-zero touches one contiguous run. A dense row's zeros are
passed over. Arithmetic is float64 whatever the type of the parameters. ``index`` and ``weight`` as in ``linear``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import EXACT, FAST, exp_negative, log1p_unit

__all__ = ["dense_delta", "dense_margins", "score", "sparse_delta", "sparse_margins"]

Flat = NDArray[Any]
Index = NDArray[np.int64] | None


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def sparse_margin(indices: Flat, values: Flat, lo: int, hi: int, b: float, w: Flat, V: Flat, q: Flat) -> float:
    """The margin of the non-zeros ``lo`` to ``hi``; q (factors,) becomes Σ v·x."""
    k = np.uint64(len(q))
    q[:] = 0.0
    margin, squares = b, 0.0
    for p in range(np.uint64(lo), np.uint64(hi)):
        o, v = np.uint64(indices[p]), float(values[p])
        margin += v * w[o]
        for f in range(k):
            t = v * V[o * k + f]
            q[f] += t
            squares += t * t
    return margin + 0.5 * (square(q) - squares)


@njit(nogil=True, cache=True, fastmath=FAST)
def square(q: Flat) -> float:
    """Σ q²."""
    total = 0.0
    for f in range(len(q)):
        total += q[f] * q[f]
    return total


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def dense_margin(x: Flat, at: int, scale: float, b: float, w: Flat, V: Flat, q: Flat) -> float:
    """As ``sparse_margin`` for the row of flat ``x`` that begins at ``at``."""
    k = np.uint64(len(q))
    q[:] = 0.0
    margin, squares = b, 0.0
    for o in range(np.uint64(len(w))):
        v = scale * x[np.uint64(at) + o]
        if v != 0.0:
            margin += v * w[o]
            for f in range(k):
                t = v * V[o * k + f]
                q[f] += t
                squares += t * t
    return margin + 0.5 * (square(q) - squares)


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def residual(margin: float, target: float, classes: bool) -> tuple[float, float]:
    """Slope and loss: the log loss of classes 0 and 1, or half the square of the error."""
    if not classes:
        error = margin - target
        return error, 0.5 * error * error
    e = exp_negative(-abs(margin))
    q = 1.0 / (1.0 + e)
    p = q if margin >= 0.0 else e * q
    s = margin if target > 0.5 else -margin
    return p - target, log1p_unit(e) + (0.0 if s >= 0.0 else -s)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def spread(v: float, r: float, o: int, V: Flat, q: Flat, slope_w: Flat, slope_V: Flat) -> None:
    """Add r times the derivative with respect to feature ``o`` of value v."""
    k, t = np.uint64(len(q)), r * v
    slope_w[o] += t
    for f in range(k):
        slope_V[o * k + f] += t * (q[f] - v * V[o * k + f])


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_delta(
    indptr: Flat,
    indices: Flat,
    values: Flat,
    start: int,
    index: Index,
    rows: int,
    y: Flat,
    weight: Flat | None,
    classes: bool,
    b: float,
    w: Flat,
    V: Flat,
    q: Flat,
    slope_w: Flat,
    slope_V: Flat,
) -> tuple[float, float, float]:
    """Add Σ weight·gradient to ``slope_w`` and ``slope_V``, float64; Σ weight, Σ weight·loss, the gradient of b."""
    weights, loss, intercept = 0.0, 0.0, 0.0
    for i in range(rows):
        row = start + i if index is None else index[i]
        share = 1.0 if weight is None else float(weight[row])
        lo, hi = indptr[row], indptr[row + 1]
        r, one = residual(sparse_margin(indices, values, lo, hi, b, w, V, q), float(y[row]), classes)
        weights += share
        if share != 0.0:
            loss += share * one
            r *= share
            intercept += r
            for p in range(np.uint64(lo), np.uint64(hi)):
                spread(float(values[p]), r, np.uint64(indices[p]), V, q, slope_w, slope_V)
    return weights, loss, intercept


@njit(nogil=True, cache=True, error_model="numpy")
def dense_delta(
    x: Flat,
    scale: float,
    start: int,
    index: Index,
    rows: int,
    y: Flat,
    weight: Flat | None,
    classes: bool,
    b: float,
    w: Flat,
    V: Flat,
    q: Flat,
    slope_w: Flat,
    slope_V: Flat,
) -> tuple[float, float, float]:
    """As ``sparse_delta``, for flat ``x``, row after row."""
    weights, loss, intercept = 0.0, 0.0, 0.0
    n = np.uint64(len(w))
    for i in range(rows):
        row = start + i if index is None else index[i]
        share = 1.0 if weight is None else float(weight[row])
        at = np.uint64(row) * n
        r, one = residual(dense_margin(x, at, scale, b, w, V, q), float(y[row]), classes)
        weights += share
        if share != 0.0:
            loss += share * one
            r *= share
            intercept += r
            for o in range(n):
                v = scale * x[at + o]
                if v != 0.0:
                    spread(v, r, o, V, q, slope_w, slope_V)
    return weights, loss, intercept


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_margins(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, rows: int, b: float, w: Flat, V: Flat, q: Flat,
    out: Flat,
) -> None:  # fmt: skip
    """Write the margins to ``out`` (rows,)."""
    for i in range(rows):
        row = start + i if index is None else index[i]
        out[i] = sparse_margin(indices, values, indptr[row], indptr[row + 1], b, w, V, q)


@njit(nogil=True, cache=True, error_model="numpy")
def dense_margins(
    x: Flat, scale: float, start: int, index: Index, rows: int, b: float, w: Flat, V: Flat, q: Flat, out: Flat
) -> None:
    """As ``sparse_margins``, for flat ``x``."""
    for i in range(rows):
        row = start + i if index is None else index[i]
        out[i] = dense_margin(x, np.uint64(row) * np.uint64(len(w)), scale, b, w, V, q)


@njit(nogil=True, cache=True, error_model="numpy")
def score(
    margins: Flat, start: int, index: Index, y: Flat, weight: Flat | None, classes: bool
) -> tuple[float, float, float]:
    """Σ weight, Σ weight·loss, Σ weight of right answers (a margin of 0 is the first class; NaN for numbers)."""
    weights, loss, correct = 0.0, 0.0, 0.0
    for i in range(len(margins)):
        row = start + i if index is None else index[i]
        share = 1.0 if weight is None else float(weight[row])
        target = float(y[row])
        weights += share
        if share != 0.0:
            loss += share * residual(margins[i], target, classes)[1]
            if (margins[i] > 0.0) == (target > 0.5):
                correct += share
    return weights, loss, correct if classes else np.nan
