"""Cross entropy of several classes over rows, in one pass.

Parameters and gradients are row-major (features, classes), so a non-zero touches one contiguous run of each. ``index``
and ``weight`` are as in ``linear``.

Dense rows go through two matrix products a tile (logits, then gradient), by the BLAS that SciPy brings, called without
the interpreter. Rows that are of the parameters' type and lie together are used where they are, others are gathered.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import EXACT, FAST, exp_negative
from trivium.program.kernels.gather import gather
from trivium.program.kernels.linear import row_of

__all__ = ["dense_delta", "dense_logits", "score", "sparse_delta", "sparse_logits"]

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


@njit(nogil=True, cache=True)
def tile_rows(whole: Flat | None, x: Flat, start: int, index: Index, at: int, k: int, scale: float, tile: Flat) -> Flat:
    """``len(tile)`` rows from ``at``: views of ``whole``, or k rows gathered in ``tile`` and rows of 0 after them."""
    if whole is None:
        if index is None:
            gather(x, tile.shape[1], start + at, None, k, scale, tile)
        else:
            gather(x, tile.shape[1], 0, index[at : at + k], k, scale, tile)
        return tile
    return whole[start + at : start + at + k]


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def tile_probabilities(z: Flat, b: Flat, k: int, spread: Flat) -> None:
    """Replace k rows of products x·W by probabilities; ``spread`` (k,) becomes log Σ e^logit."""
    classes = z.shape[1]
    for i in range(k):
        row = z[i]
        top = row[0] + b[0]
        for c in range(classes):
            row[c] += b[c]
            if not row[c] <= top:  # NaN too
                top = row[c]
        for c in range(classes):
            row[c] -= top
        spread[i] = top
    flat = z.reshape(-1)
    for j in range(k * classes):
        flat[j] = exp_negative(flat[j])
    for i in range(k):
        row = z[i]
        total = 0.0
        for c in range(classes):
            total += row[c]
        share = 1.0 / total
        for c in range(classes):
            row[c] *= share
        spread[i] += math.log(total)


@njit(nogil=True, cache=True, error_model="numpy")
def dense_delta(
    whole: Flat | None,
    x: Flat,
    start: int,
    index: Index,
    rows: int,
    step: int,
    pad: bool,
    y: Flat,
    weight: Flat | None,
    scale: float,
    W: Flat,
    b: Flat,
    sums: Flat,
    slope: Flat,
    tile: Flat,
    z: Flat,
    product: Flat,
    spread: Flat,
    chosen: Flat,
) -> tuple[float, float]:
    """Write Σ weight·gradient to ``sums`` (features, classes) and ``slope``, float64; Σ weight and Σ weight·loss.

    ``whole`` (all rows, features) is ``x`` where its rows can be used as they are, else None. ``step`` rows are a tile;
    with ``pad`` the last one is filled up with rows of weight 0, so that all products have one shape. ``tile`` (step,
    features), ``z`` (step, classes) and ``product`` (features, classes) of the type of ``W``, ``spread`` and ``chosen``
    (step,) float64 are scratch.
    """
    weights, loss = 0.0, 0.0
    slope[:] = 0.0
    for at in range(0, rows, step):
        k = min(step, rows - at)
        size = step if pad else k
        data, p = tile_rows(whole, x, start, index, at, k, scale, tile[:size]), z[:size]
        np.dot(data, W, p)
        for i in range(k):
            chosen[i] = p[i, y[row_of(start, index, at + i)]]
        tile_probabilities(p, b, k, spread)
        for i in range(k):
            row = row_of(start, index, at + i)
            share = 1.0 if weight is None else float(weight[row])
            loss += share * (spread[i] - chosen[i] - b[y[row]])
            weights += share
            p[i, y[row]] -= 1
            for c in range(len(b)):
                p[i, c] *= share
                slope[c] += p[i, c]
        p[k:] = 0
        np.dot(data.T, p, product)
        if at == 0:
            sums[:] = product
        else:
            sums += product
    return weights, loss


@njit(nogil=True, cache=True, error_model="numpy")
def dense_logits(
    whole: Flat | None,
    x: Flat,
    start: int,
    index: Index,
    rows: int,
    step: int,
    pad: bool,
    scale: float,
    W: Flat,
    b: Flat,
    tile: Flat,
    z: Flat,
    out: Flat,
) -> None:
    """Logits (rows, classes) to ``out``, float64; all else as in ``dense_delta``."""
    for at in range(0, rows, step):
        k = min(step, rows - at)
        size = step if pad else k
        data, p = tile_rows(whole, x, start, index, at, k, scale, tile[:size]), z[:size]
        np.dot(data, W, p)
        for i in range(k):
            for c in range(len(b)):
                out[at + i, c] = p[i, c] + b[c]


@njit(nogil=True, cache=True, error_model="numpy")
def score(logits: Flat, start: int, index: Index, y: Flat, weight: Flat | None) -> tuple[float, float, float]:
    """Σ weight, Σ weight·loss, Σ weight where the largest logit is the label's; ``logits`` are overwritten."""
    weights, loss, correct = 0.0, 0.0, 0.0
    for i in range(len(logits)):
        row, z = row_of(start, index, i), logits[i]
        share = 1.0 if weight is None else float(weight[row])
        if np.argmax(z) == y[row]:
            correct += share
        chosen = z[y[row]]
        loss += share * (to_probabilities(z) - chosen)
        weights += share
    return weights, loss, correct
