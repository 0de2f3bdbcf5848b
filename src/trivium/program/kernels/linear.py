"""Losses of a margin x·w + b over rows, in one pass: margins, residuals, gradient, a tile of rows at a time.

Rules
-----
* A tile is small enough to stay in the second cache, so a row is read from memory once though it is used twice (margin,
  then gradient). The next tile is asked for while this one is computed: that, not arithmetic, sets the speed.
* Tiles begin at the first row handed in and hold ``len(margin)`` rows, so the order of every sum follows from the rows'
  order alone.
* Arithmetic on features is in the type of ``w``; losses, and sums over tiles, are float64.
* The loss is a number of ``kernels.margins``, so that one compiled function serves all of them.

``index`` None means rows ``start …``; otherwise row i is ``index[i]``. ``weight`` None means 1. The compiler drops the
branch that a None rules out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import FAST, prefetch
from trivium.program.kernels.margins import residuals

__all__ = ["dense_delta", "dense_margins", "score", "sparse_delta", "sparse_margins"]

Flat = NDArray[Any]
Index = NDArray[np.int64] | None


@njit(nogil=True, cache=True)
def row_of(start: int, index: Index, i: int) -> int:
    """Row number of the i-th row handed in."""
    if index is None:
        return start + i
    return int(index[i])


@njit(nogil=True, cache=True)
def labels(start: int, index: Index, at: int, k: int, y: Flat, weight: Flat | None, target: Flat, share: Flat) -> None:
    """Targets and weights of the tile's rows."""
    for i in range(k):
        row = row_of(start, index, at + i)
        target[i] = y[row]
        if weight is None:
            share[i] = 1.0
        else:
            share[i] = weight[row]


@njit(nogil=True, cache=True, fastmath=FAST)
def total(values: Flat, k: int) -> float:
    """Sum of the first k values."""
    s = 0.0
    for i in range(k):
        s += values[i]
    return s


@njit(nogil=True, cache=True, fastmath=FAST)
def ask(x: Flat, d: int, step: int, start: int, index: Index, at: int, count: int, rows: int) -> None:
    """Prefetch ``count`` rows from ``at`` on; ``step`` elements fill a cache line."""
    if at + count <= rows:
        for i in range(at, at + count):
            here = np.uint64(row_of(start, index, i)) * np.uint64(d)
            for j in range(0, d, step):
                prefetch(x, here + np.uint64(j))


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def dense_tile_margins(
    x: Flat,
    start: int,
    index: Index,
    rows: int,
    at: int,
    k: int,
    asked: int,
    w: Flat,
    b: float,
    scale: float,
    margin: Flat,
) -> None:
    """Margins scale·x·w + b of k rows from ``at``; asks for ``asked`` rows of the next tile (2 or 4) with every 4."""
    d, step, zero = len(w), 64 // x.itemsize, w[0] * 0
    n = np.uint64(d)
    for i in range(0, k - 3, 4):
        o0 = np.uint64(row_of(start, index, at + i)) * n
        o1 = np.uint64(row_of(start, index, at + i + 1)) * n
        o2 = np.uint64(row_of(start, index, at + i + 2)) * n
        o3 = np.uint64(row_of(start, index, at + i + 3)) * n
        ask(x, d, step, start, index, at + len(margin) + i * asked // 4, asked, rows)
        a0, a1, a2, a3 = zero, zero, zero, zero
        for j in range(n):
            a0 += w[j] * x[o0 + j]
            a1 += w[j] * x[o1 + j]
            a2 += w[j] * x[o2 + j]
            a3 += w[j] * x[o3 + j]
        margin[i] = scale * a0 + b
        margin[i + 1] = scale * a1 + b
        margin[i + 2] = scale * a2 + b
        margin[i + 3] = scale * a3 + b
    for i in range(k - k % 4, k):
        o = np.uint64(row_of(start, index, at + i)) * n
        a = zero
        for j in range(n):
            a += w[j] * x[o + j]
        margin[i] = scale * a + b


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def dense_tile_gradient(
    x: Flat, start: int, index: Index, rows: int, at: int, k: int, tile: int, residual: Flat, g: Flat
) -> None:
    """Add Σ residual·x to g over k rows from ``at``; asks for the second half of the next tile."""
    d, step = len(g), 64 // x.itemsize
    n = np.uint64(d)
    for i in range(0, k - 3, 4):
        o0 = np.uint64(row_of(start, index, at + i)) * n
        o1 = np.uint64(row_of(start, index, at + i + 1)) * n
        o2 = np.uint64(row_of(start, index, at + i + 2)) * n
        o3 = np.uint64(row_of(start, index, at + i + 3)) * n
        ask(x, d, step, start, index, at + tile + (tile >> 1) + (i >> 1), 2, rows)
        r0, r1, r2, r3 = residual[i], residual[i + 1], residual[i + 2], residual[i + 3]
        for j in range(n):
            g[j] += r0 * x[o0 + j] + r1 * x[o1 + j] + r2 * x[o2 + j] + r3 * x[o3 + j]
    for i in range(k - k % 4, k):
        o = np.uint64(row_of(start, index, at + i)) * n
        r = residual[i]
        for j in range(n):
            g[j] += r * x[o + j]


@njit(nogil=True, cache=True, fastmath=FAST)
def flush(g: Flat, factor: float, sums: Flat) -> None:
    """Add factor·g to ``sums`` and empty g."""
    for j in range(len(g)):
        sums[j] += factor * g[j]
        g[j] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def dense_delta(
    x: Flat,
    start: int,
    index: Index,
    rows: int,
    y: Flat,
    weight: Flat | None,
    code: int,
    epsilon: float,
    scale: float,
    w: Flat,
    b: float,
    sums: Flat,
    tiles: Flat,
    residual: Flat,
    g: Flat,
) -> tuple[float, float, float]:
    """Add Σ weight·gradient to ``sums`` (features,), float64; return Σ weight, Σ weight·loss, the gradient of b.

    ``x`` is flat, row after row. ``tiles`` (3, tile) float64, ``residual`` (tile,) and ``g`` (features,) of the type of
    ``w`` are scratch; ``g`` must be zero and is left so.
    """
    weights, loss, slope = 0.0, 0.0, 0.0
    margin, target, share = tiles[0], tiles[1], tiles[2]
    tile = len(margin)
    for at in range(0, rows, tile):
        k = min(tile, rows - at)
        dense_tile_margins(x, start, index, rows, at, k, 2, w, b, scale, margin)
        labels(start, index, at, k, y, weight, target, share)
        residuals(margin, target, share, k, code, epsilon)
        weights += total(share, k)
        loss += total(target, k)
        slope += total(margin, k)
        for i in range(k):
            residual[i] = margin[i]
        dense_tile_gradient(x, start, index, rows, at, k, tile, residual, g)
        flush(g, scale, sums)
    return weights, loss, slope


@njit(nogil=True, cache=True, error_model="numpy")
def dense_margins(
    x: Flat, start: int, index: Index, rows: int, scale: float, w: Flat, b: float, tiles: Flat, out: Flat
) -> None:
    """Write scale·x·w + b to ``out`` (rows,)."""
    margin = tiles[0]
    tile = len(margin)
    for at in range(0, rows, tile):
        k = min(tile, rows - at)
        dense_tile_margins(x, start, index, rows, at, k, 4, w, b, scale, margin)
        out[at : at + k] = margin[:k]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def sparse_tile_margins(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, at: int, k: int, w: Flat, b: float, out: Flat
) -> None:
    """Margins of k rows from ``at`` of a CSR matrix."""
    for i in range(k):
        row = row_of(start, index, at + i)
        a = w[0] * 0
        for q in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            a += w[np.uint64(indices[q])] * values[q]
        out[i] = a + b


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
    code: int,
    epsilon: float,
    w: Flat,
    b: float,
    sums: Flat,
    tiles: Flat,
) -> tuple[float, float, float]:
    """As ``dense_delta``, for CSR rows."""
    weights, loss, slope = 0.0, 0.0, 0.0
    margin, target, share = tiles[0], tiles[1], tiles[2]
    tile = len(margin)
    for at in range(0, rows, tile):
        k = min(tile, rows - at)
        sparse_tile_margins(indptr, indices, values, start, index, at, k, w, b, margin)
        labels(start, index, at, k, y, weight, target, share)
        residuals(margin, target, share, k, code, epsilon)
        weights += total(share, k)
        loss += total(target, k)
        slope += total(margin, k)
        for i in range(k):
            row = row_of(start, index, at + i)
            r = margin[i]
            for q in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
                sums[np.uint64(indices[q])] += r * values[q]
    return weights, loss, slope


@njit(nogil=True, cache=True, error_model="numpy")
def sparse_margins(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, rows: int, w: Flat, b: float, out: Flat
) -> None:
    """Write x·w + b to ``out`` (rows,)."""
    sparse_tile_margins(indptr, indices, values, start, index, 0, rows, w, b, out)


@njit(nogil=True, cache=True, error_model="numpy")
def score(
    margin: Flat, start: int, index: Index, y: Flat, weight: Flat | None, code: int, epsilon: float, tiles: Flat
) -> tuple[float, float, float]:
    """Σ weight, Σ weight·loss, Σ weight where the sign of the margin is right (0 counts as the first class).

    The last has no meaning for regression.
    """
    weights, loss, correct = 0.0, 0.0, 0.0
    work, target, share = tiles[0], tiles[1], tiles[2]
    tile = len(work)
    for at in range(0, len(margin), tile):
        k = min(tile, len(margin) - at)
        work[:k] = margin[at : at + k]
        labels(start, index, at, k, y, weight, target, share)
        for i in range(k):
            if (work[i] > 0.0) == (target[i] > 0.5):
                correct += share[i]
        residuals(work, target, share, k, code, epsilon)
        weights += total(share, k)
        loss += total(target, k)
    return weights, loss, correct
