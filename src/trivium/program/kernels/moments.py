"""Second moments of rows, for normal equations: dense rows as a tile of matrix products, CSR rows pair by pair.

Moments are the lower triangle of Z'Z for Z = [x, y], packed row by row: element (i, j ≤ i) lies at i(i + 1)/2 + j.
``index`` and ``weight`` are as in ``linear``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.linear import row_of

__all__ = ["sparse_moments", "tile"]

Flat = NDArray[Any]
Index = NDArray[np.int64] | None


@njit(nogil=True, cache=True)
def tile(
    x: Flat, start: int, index: Index, rows: int, scale: float, y: Flat, weight: Flat | None, mean: Flat, out: Flat,
    share: Flat,
) -> None:  # fmt: skip
    """Rows of [scale·x, y] − mean to ``out`` (tile, features + targets), their weights to ``share``; 0 beyond.

    ``x`` and ``y`` (rows, targets) are flat, row after row.
    """
    wide, targets = out.shape[1], len(y) * out.shape[1] // (len(x) + len(y))
    width = wide - targets
    for i in range(rows):
        row = row_of(start, index, i)
        o, line = np.uint64(row) * np.uint64(width), out[i]
        for j in range(np.uint64(width)):
            line[j] = scale * x[o + j] - mean[j]
        for t in range(targets):
            line[width + t] = y[row * targets + t] - mean[width + t]
        share[i] = 1.0 if weight is None else weight[row]
    for i in range(rows, len(out)):
        out[i] = 0.0
        share[i] = 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_moments(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, rows: int, y: Flat, weight: Flat | None,
    w: Flat, b: Flat, mean: Flat, sums: Flat, moments: Flat,
) -> tuple[float, float]:  # fmt: skip
    """Add Σ weight·z and packed Σ weight·zz' for z = [x, y − mean of y]; Σ weight and Σ weight·½(x·w + b − y)².

    ``w`` (features, targets), ``b`` (targets,), ``y`` flat; ``moments`` may have no elements, and are then left out.
    """
    width, targets = w.shape
    weights, loss = 0.0, 0.0
    last = np.empty(targets)
    for i in range(rows):
        row = row_of(start, index, i)
        share = 1.0 if weight is None else float(weight[row])
        lo, hi = indptr[row], indptr[row + 1]
        weights += share
        for t in range(targets):
            target, value = float(y[row * targets + t]), float(b[t])
            for q in range(lo, hi):
                value += values[q] * w[indices[q], t]
            loss += share * 0.5 * (value - target) ** 2
            last[t] = target - mean[width + t]
            sums[width + t] += share * last[t]
        for q in range(lo, hi):
            sums[indices[q]] += share * values[q]
        if len(moments) == 0:
            continue
        for q in range(lo, hi):
            j, v = np.int64(indices[q]), share * values[q]
            base = j * (j + 1) // 2
            for r in range(lo, q + 1):
                moments[base + indices[r]] += v * values[r]
        for t in range(targets):
            j, v = width + t, share * last[t]
            base = j * (j + 1) // 2
            for r in range(lo, hi):
                moments[base + indices[r]] += v * values[r]
            for s in range(t + 1):
                moments[base + width + s] += v * last[s]
    return weights, loss
