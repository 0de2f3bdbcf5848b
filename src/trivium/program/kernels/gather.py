"""Rows into a reused buffer: picked, converted, scaled, padded. Single-threaded and ``nogil``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import prefetch

__all__ = ["gather", "gather_labels", "gather_weights"]

Flat = NDArray[Any]
Index = NDArray[np.int64] | None

AHEAD = 4  # rows asked for before they are needed: rows of a shuffled batch lie anywhere


@njit(nogil=True, cache=True)
def gather(x: Flat, width: int, start: int, index: Index, rows: int, scale: float, out: Flat) -> None:
    """out[i, :] = scale·x[row i, :] for ``rows`` rows of flat ``x``; further rows of ``out`` become 0."""
    n, step = np.uint64(width), 64 // x.itemsize
    factor = out.dtype.type(scale)
    for i in range(rows):
        row = start + i if index is None else index[i]
        o = np.uint64(row) * n
        if index is not None and i + AHEAD < rows:
            ahead = np.uint64(index[i + AHEAD]) * n
            for j in range(0, width, step):
                prefetch(x, ahead + np.uint64(j))
        line = out[i]
        for j in range(n):
            line[j] = factor * x[o + j]
    for i in range(rows, len(out)):
        out[i] = 0.0


@njit(nogil=True, cache=True)
def gather_labels(
    y: Flat | None, weight: Flat | None, start: int, index: Index, rows: int, out_y: Flat, out_weight: Flat
) -> float:
    """Labels and weights of the rows; 0 and weight 0 beyond. Returns Σ weight. ``y`` None gives label 0."""
    total = 0.0
    for i in range(rows):
        row = start + i if index is None else index[i]
        out_y[i] = 0 if y is None else y[row]
        out_weight[i] = 1.0 if weight is None else weight[row]
        total += out_weight[i]
    for i in range(rows, len(out_y)):
        out_y[i] = 0
        out_weight[i] = 0.0
    return total


@njit(nogil=True, cache=True)
def gather_weights(weight: Flat | None, start: int, index: Index, rows: int, out: Flat) -> float:
    """Weights of the rows, 1 where there are none; 0 beyond. Returns their sum."""
    total = 0.0
    for i in range(rows):
        row = start + i if index is None else index[i]
        out[i] = 1.0 if weight is None else weight[row]
        total += out[i]
    for i in range(rows, len(out)):
        out[i] = 0.0
    return total
