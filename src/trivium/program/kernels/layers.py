"""What a network does between two matrix multiplications: activations, losses and their derivatives, in place.

Each function makes one pass over arrays of shape (rows, units), row-major, float32 or float64. Exponentials and sums of
losses are float64. ``back`` functions multiply the gradient ``e`` of the outputs by the activation's derivative, and
write its sums over the rows to ``slope`` (units,): the gradient of the biases.

GELU is the approximation by tanh (Hendrycks and Gimpel, *Gaussian error linear units*, 2016).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import EXACT, exp_negative, log1p_unit

__all__ = [
    "add_bias",
    "back_gelu",
    "back_identity",
    "back_logistic",
    "back_relu",
    "back_tanh",
    "gelu",
    "logistic",
    "logistic_delta",
    "poisson_delta",
    "relu",
    "softmax",
    "softmax_delta",
    "sparse_back",
    "sparse_forward",
    "squared_delta",
]

Flat = NDArray[Any]
Index = NDArray[np.int64] | None

ROOT = 0.7978845608028654  # √(2/π)
CUBE = 0.044715


@njit(nogil=True, cache=True)
def add_bias(z: Flat, b: Flat) -> None:
    """``z`` += b."""
    for i in range(len(z)):
        line = z[i]
        for j in range(len(b)):
            line[j] += b[j]


@njit(nogil=True, cache=True)
def relu(z: Flat, b: Flat) -> None:
    """``z`` ← max(z + b, 0); NaN stays."""
    zero = b.dtype.type(0)
    for i in range(len(z)):
        line = z[i]
        for j in range(len(b)):
            v = line[j] + b[j]
            line[j] = zero if v < zero else v


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def logistic(z: Flat, b: Flat) -> None:
    """``z`` ← 1 / (1 + e^−(z + b))."""
    for i in range(len(z)):
        line = z[i]
        for j in range(len(b)):
            v = float(line[j] + b[j])
            e = exp_negative(-abs(v))
            q = 1.0 / (1.0 + e)
            line[j] = q if v >= 0.0 else e * q


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def gelu(z: Flat, b: Flat, derivative: Flat) -> None:
    """``z`` ← GELU(z + b), and its derivative there."""
    for i in range(len(z)):
        line, slopes = z[i], derivative[i]
        for j in range(len(b)):
            v = float(line[j] + b[j])
            u = ROOT * (v + CUBE * v * v * v)
            e = exp_negative(-2.0 * abs(u))
            t = (1.0 - e) / (1.0 + e)
            t = t if u >= 0.0 else -t
            line[j] = 0.5 * v * (1.0 + t)
            slopes[j] = 0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBE * v * v)


@njit(nogil=True, cache=True)
def back_identity(e: Flat, slope: Flat) -> None:
    """Sums of ``e`` over the rows."""
    slope[:] = 0
    for i in range(len(e)):
        line = e[i]
        for j in range(len(slope)):
            slope[j] += line[j]


@njit(nogil=True, cache=True)
def back_relu(e: Flat, h: Flat, slope: Flat) -> None:
    """``e`` ← e·(h > 0)."""
    zero = slope.dtype.type(0)
    slope[:] = 0
    for i in range(len(e)):
        line, out = e[i], h[i]
        for j in range(len(slope)):
            v = line[j] if out[j] > zero else zero
            line[j] = v
            slope[j] += v


@njit(nogil=True, cache=True)
def back_tanh(e: Flat, h: Flat, slope: Flat) -> None:
    """``e`` ← e·(1 − h²)."""
    one = slope.dtype.type(1)
    slope[:] = 0
    for i in range(len(e)):
        line, out = e[i], h[i]
        for j in range(len(slope)):
            v = line[j] * (one - out[j] * out[j])
            line[j] = v
            slope[j] += v


@njit(nogil=True, cache=True)
def back_logistic(e: Flat, h: Flat, slope: Flat) -> None:
    """``e`` ← e·h·(1 − h)."""
    one = slope.dtype.type(1)
    slope[:] = 0
    for i in range(len(e)):
        line, out = e[i], h[i]
        for j in range(len(slope)):
            v = line[j] * (out[j] * (one - out[j]))
            line[j] = v
            slope[j] += v


@njit(nogil=True, cache=True)
def back_gelu(e: Flat, derivative: Flat, slope: Flat) -> None:
    """``e`` ← e·derivative."""
    slope[:] = 0
    for i in range(len(e)):
        line, factor = e[i], derivative[i]
        for j in range(len(slope)):
            v = line[j] * factor[j]
            line[j] = v
            slope[j] += v


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def softmax_row(z: Flat, b: Flat, i: int) -> float:
    """z[i] ← probabilities of the logits z[i] + b; the log of Σ e^logit."""
    line = z[i]
    top = line[0] + b[0]
    for c in range(len(b)):
        line[c] += b[c]
        if not line[c] <= top:  # NaN too
            top = line[c]
    total = 0.0
    for c in range(len(b)):
        p = exp_negative(float(line[c]) - float(top))
        line[c] = p
        total += p
    for c in range(len(b)):
        line[c] /= total
    return float(top) + math.log(total)


@njit(nogil=True, cache=True, error_model="numpy")
def softmax(z: Flat, b: Flat) -> None:
    """``z`` ← probabilities of the logits z + b."""
    for i in range(len(z)):
        softmax_row(z, b, i)


@njit(nogil=True, cache=True, error_model="numpy")
def softmax_delta(z: Flat, b: Flat, y: Flat, share: Flat) -> tuple[float, float]:
    """``z`` ← share·(p − e_y); Σ share·cross entropy, Σ share of the rows whose largest logit is the label's."""
    loss, correct = 0.0, 0.0
    for i in range(len(z)):
        line, label, weight = z[i], y[i], float(share[i])
        chosen = float(line[label] + b[label])
        rest = softmax_row(z, b, i)
        if np.argmax(line) == label:
            correct += weight
        if weight > 0.0:  # a row that counts for nothing does so even where its loss is not finite
            loss += weight * (rest - chosen)
        line[label] -= b.dtype.type(1)
        for c in range(len(b)):
            line[c] *= share[i]
    return loss, correct


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def logistic_delta(z: Flat, b: Flat, y: Flat, share: Flat) -> tuple[float, float]:
    """As ``softmax_delta`` for one output, the margin of the second of two classes; a margin of 0 is the first's."""
    loss, correct = 0.0, 0.0
    for i in range(len(z)):
        weight, v = float(share[i]), float(z[i, 0] + b[0])
        e = exp_negative(-abs(v))
        q = 1.0 / (1.0 + e)
        p = q if v >= 0.0 else e * q
        if (v > 0.0) == (y[i] > 0):
            correct += weight
        s = v if y[i] > 0 else -v
        if weight > 0.0:
            loss += weight * (log1p_unit(e) + (0.0 if s >= 0.0 else -s))
        z[i, 0] = weight * (p - y[i])
    return loss, correct


@njit(nogil=True, cache=True, error_model="numpy")
def squared_delta(z: Flat, b: Flat, y: Flat, share: Flat) -> tuple[float, float]:
    """``z`` ← share·(z + b − y), all (rows, outputs); Σ share·½‖z + b − y‖², and NaN: no row is right or wrong."""
    loss = 0.0
    for i in range(len(z)):
        line, target = z[i], y[i]
        square = 0.0
        for c in range(len(b)):
            error = line[c] + b[c] - target[c]
            square += float(error) * float(error)
            line[c] = share[i] * error
        if share[i] > 0:
            loss += 0.5 * float(share[i]) * square
    return loss, np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def poisson_delta(z: Flat, b: Flat, y: Flat, share: Flat) -> tuple[float, float]:
    """As ``squared_delta`` for means e^(z + b) of counts: Σ share·(y·log(y/mean) − y + mean), half the deviance."""
    loss = 0.0
    for i in range(len(z)):
        line, target = z[i], y[i]
        deviance = 0.0
        for c in range(len(b)):
            v, count = float(line[c] + b[c]), float(target[c])
            mean = math.exp(v)
            deviance += mean - count + (count * (math.log(count) - v) if count > 0.0 else 0.0)
            line[c] = share[i] * (mean - count)
        if share[i] > 0:
            loss += float(share[i]) * deviance
    return loss, np.nan


@njit(nogil=True, cache=True)
def sparse_forward(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, rows: int, W: Flat, out: Flat
) -> None:
    """out[i, :] = row i of a CSR matrix times W (features, units); rows beyond ``rows`` become 0."""
    units = W.shape[1]
    for i in range(len(out)):
        line = out[i]
        line[:] = 0
        if i < rows:
            row = start + i if index is None else index[i]
            for q in range(indptr[row], indptr[row + 1]):
                weights, v = W[indices[q]], values[q]
                for j in range(units):
                    line[j] += v * weights[j]


@njit(nogil=True, cache=True)
def sparse_back(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: Index, rows: int, e: Flat, out: Flat
) -> None:
    """``out`` ← Σ over rows of x ⊗ e: the gradient of W in ``sparse_forward``."""
    units = out.shape[1]
    out[:] = 0
    for i in range(rows):
        row = start + i if index is None else index[i]
        line = e[i]
        for q in range(indptr[row], indptr[row + 1]):
            sums, v = out[indices[q]], values[q]
            for j in range(units):
                sums[j] += v * line[j]
