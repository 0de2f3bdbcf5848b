"""One update of each of many rows, in place, compiled. The formulas and their sources are in ``row_updates``.

``rows`` is flat; row i begins at element ``at[i]`` with ``width`` values, then its state. ``deltas[i]`` is what was
pushed to it, ``counts[i]`` how often it was updated before. No fast-math: a row has the same bits wherever it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.program.kernels.keys import compiled

__all__ = ["adagrad", "adam", "add", "ftrl", "sgd"]

Flat = NDArray[Any]
Whole = NDArray[np.int64]


@compiled
def shrink(w: float, threshold: float) -> float:
    """Soft threshold; NaN stays NaN."""
    rest = abs(w) - threshold
    if rest <= 0:
        return w - w
    return rest if w > 0 else -rest


@compiled
def add(rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, c: Flat) -> None:  # noqa: ARG001
    """``c``: scale."""
    for i in range(len(at)):
        w, d = rows[at[i] : at[i] + width], deltas[i]
        for j in range(width):
            w[j] += c[0] * d[j]


@compiled
def sgd(rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, c: Flat) -> None:  # noqa: ARG001
    """``c``: scale, lr, l1, l2."""
    scale, lr, l1, l2 = c[0], c[1], c[2], c[3]
    for i in range(len(at)):
        w, d = rows[at[i] : at[i] + width], deltas[i]
        for j in range(width):
            w[j] -= lr * (d[j] * scale + w[j] * l2)
            if l1 > 0:
                w[j] = shrink(w[j], lr * l1)


@compiled
def adagrad(rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, c: Flat) -> None:  # noqa: ARG001
    """``c``: scale, lr, l1, l2, eps. State: sums of squares."""
    scale, lr, l1, l2, eps = c[0], c[1], c[2], c[3], c[4]
    for i in range(len(at)):
        a = at[i]
        w, s, d = rows[a : a + width], rows[a + width : a + 2 * width], deltas[i]
        for j in range(width):
            grad = d[j] * scale + w[j] * l2
            squares = s[j] + grad * grad
            s[j] = squares
            if l1 > 0:
                rate = lr / np.sqrt(squares + eps)
                w[j] = shrink(w[j] - rate * grad, rate * l1)
            else:
                w[j] -= lr * grad / np.sqrt(squares + eps)


@compiled
def adam(rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, c: Flat) -> None:
    """``c``: scale, lr, l1, l2, eps, b1, 1 - b1, b2, 1 - b2; ``lr`` etc. as float64. State: both moments."""
    kind = rows.dtype.type
    scale, l1, l2, eps = kind(c[0]), kind(c[2]), kind(c[3]), kind(c[4])
    b1, c1, b2, c2 = kind(c[5]), kind(c[6]), kind(c[7]), kind(c[8])
    for i in range(len(at)):
        a, t = at[i], counts[i] + 1
        w, m, v = rows[a : a + width], rows[a + width : a + 2 * width], rows[a + 2 * width : a + 3 * width]
        d = deltas[i]
        first, root, lr = kind(c[1] / (1.0 - c[5] ** t)), kind(1.0 / np.sqrt(1.0 - c[7] ** t)), kind(c[1])
        for j in range(width):
            grad = d[j] * scale + w[j] * l2
            m[j] = b1 * m[j] + c1 * grad
            v[j] = b2 * v[j] + c2 * (grad * grad)
            below = np.sqrt(v[j]) * root + eps
            moved = w[j] - first * m[j] / below
            w[j] = shrink(moved, lr * l1 / below) if l1 > 0 else moved


@compiled
def ftrl(rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, c: Flat) -> None:
    """``c``: scale, lr, l1, l2, beta. State: z, then n."""
    scale, lr, l1, l2, beta = c[0], c[1], c[2], c[3], c[4]
    for i in range(len(at)):
        a = at[i]
        w, z, n = rows[a : a + width], rows[a + width : a + 2 * width], rows[a + 2 * width : a + 3 * width]
        d = deltas[i]
        for j in range(width):
            if counts[i] == 0:  # z stands for the value that the row begins with
                z[j] = -(w[j] * (beta / lr + l2) + np.sign(w[j]) * l1)
            grad = d[j] * scale
            squares = n[j] + grad * grad
            after = np.sqrt(squares)
            z[j] += grad - (after - np.sqrt(n[j])) / lr * w[j]
            n[j] = squares
            w[j] = -shrink(z[j], l1) / ((beta + after) / lr + l2)
