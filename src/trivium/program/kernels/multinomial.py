"""Cross entropy of several classes over CSR rows, in one pass.

Parameters and gradients are row-major (features, classes), so a non-zero touches one contiguous run of each. ``index``
and ``weight`` are as in ``linear``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import FAST

__all__ = ["sparse_delta", "sparse_logits", "sparse_score"]

Flat = NDArray[Any]
Index = NDArray[np.int64] | None


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def row_logits(indptr: Flat, indices: Flat, values: Flat, row: int, W: Flat, b: Flat, z: Flat) -> None:
    """Logits of one row: z (classes,) = x·W + b, float64."""
    classes = np.uint64(len(z))
    for c in range(classes):
        z[c] = b[c]
    for q in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
        o, v = np.uint64(indices[q]) * classes, values[q]
        for c in range(classes):
            z[c] += v * W[o + c]


@njit(nogil=True, cache=True, error_model="numpy")
def to_probabilities(z: Flat) -> float:
    """Replace logits by probabilities; the log of Σ e^z."""
    top = z[0]
    for c in range(1, len(z)):
        if not z[c] <= top:  # NaN too
            top = z[c]
    total = 0.0
    for c in range(len(z)):
        z[c] = math.exp(z[c] - top)
        total += z[c]
    for c in range(len(z)):
        z[c] /= total
    return float(top + math.log(total))


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def spread(indptr: Flat, indices: Flat, values: Flat, row: int, r: Flat, sums: Flat) -> None:
    """Add the outer product of the row and ``r`` (classes,) to ``sums``, flat."""
    classes = np.uint64(len(r))
    for q in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
        o, v = np.uint64(indices[q]) * classes, values[q]
        for c in range(classes):
            sums[o + c] += v * r[c]


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
    W: Flat,
    b: Flat,
    sums: Flat,
    slope: Flat,
) -> tuple[float, float]:
    """Add Σ weight·gradient to ``sums`` (flat) and ``slope`` (classes,), float64; Σ weight and Σ weight·loss."""
    weights, loss = 0.0, 0.0
    z = np.empty(len(b))
    for i in range(rows):
        row = start + i if index is None else index[i]
        share = 1.0 if weight is None else float(weight[row])
        row_logits(indptr, indices, values, row, W, b, z)
        chosen = z[y[row]]
        loss += share * (to_probabilities(z) - chosen)
        weights += share
        z[y[row]] -= 1.0
        for c in range(len(z)):
            z[c] *= share
            slope[c] += z[c]
        spread(indptr, indices, values, row, z, sums)
    return weights, loss


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_logits(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, W: Flat, b: Flat, out: Flat
) -> None:
    """Logits (rows, classes) to ``out``, float64."""
    for i in range(len(out)):
        row = start + i if index is None else index[i]
        row_logits(indptr, indices, values, row, W, b, out[i])


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_score(
    indptr: Flat,
    indices: Flat,
    values: Flat,
    start: int,
    index: Index,
    rows: int,
    y: Flat,
    weight: Flat | None,
    W: Flat,
    b: Flat,
) -> tuple[float, float, float]:
    """Σ weight, Σ weight·loss, Σ weight where the largest logit is the label's (the first among equals)."""
    weights, loss, correct = 0.0, 0.0, 0.0
    z = np.empty(len(b))
    for i in range(rows):
        row = start + i if index is None else index[i]
        share = 1.0 if weight is None else float(weight[row])
        row_logits(indptr, indices, values, row, W, b, z)
        if np.argmax(z) == y[row]:
            correct += share
        chosen = z[y[row]]
        loss += share * (to_probabilities(z) - chosen)
        weights += share
    return weights, loss, correct
