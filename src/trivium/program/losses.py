"""Losses row by row, in float64: the definitions that compiled kernels are held to, and what reports use.

>>> import numpy as np
>>> log_loss(np.array([0.0]), np.array([1])).round(6)
array([0.693147])
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cross_entropy", "log_loss", "sigmoid", "softmax", "squared"]

Floats = NDArray[np.float64]


def sigmoid(margins: NDArray[Any]) -> Floats:
    """1 / (1 + e^−m), without overflow; any shape."""
    m = np.asarray(margins, np.float64)
    e = np.exp(-np.abs(m))
    return np.asarray(np.where(m >= 0, 1.0, e) / (1.0 + e))


def log_loss(margins: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """−log of the probability given to each row's class; ``labels`` 0 or 1, both (rows,)."""
    m = np.asarray(margins, np.float64)
    return np.asarray(np.logaddexp(0.0, np.where(np.asarray(labels) > 0, -m, m)))


def softmax(logits: NDArray[Any]) -> Floats:
    """Probabilities (rows, classes) of ``logits`` (rows, classes)."""
    shifted = np.asarray(logits, np.float64)
    e = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Cross entropy, log Σ e^z − z_y, of each row; ``logits`` (rows, classes), ``labels`` (rows,) class indices."""
    z = np.asarray(logits, np.float64)
    top = z.max(axis=1)
    spread = np.log(np.exp(z - top[:, None]).sum(axis=1))
    return np.asarray(top + spread - z[np.arange(len(z)), np.asarray(labels, np.int64)])


def squared(values: NDArray[Any], targets: NDArray[Any]) -> Floats:
    """½(value − target)² for each row."""
    return np.asarray(0.5 * (np.asarray(values, np.float64) - targets) ** 2)
