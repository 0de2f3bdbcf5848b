"""Losses row by row, in float64: the definitions that compiled kernels are held to, and what reports use.

Two classes are labelled 0 and 1; s is −1 or +1 accordingly, z the margin. Regression has residuals r = value − target.

>>> import numpy as np
>>> log_loss(np.array([0.0]), np.array([1])).round(6)
array([0.693147])
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASSIFICATION",
    "CODES",
    "REGRESSION",
    "cross_entropy",
    "log_loss",
    "margin_loss",
    "sigmoid",
    "softmax",
    "squared",
]

Floats = NDArray[np.float64]

CLASSIFICATION = ("log", "hinge", "squared_hinge", "modified_huber", "perceptron")
REGRESSION = ("squared", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
CODES = {name: code for code, name in enumerate((*CLASSIFICATION, *REGRESSION))}  # the number that kernels know it by


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


def margin_loss(name: str, margins: NDArray[Any], targets: NDArray[Any], epsilon: float = 0.1) -> Floats:
    """The loss ``name`` (one of ``CODES``) of each row; ``targets`` are labels 0 or 1, or numbers for regression.

    hinge max(0, 1 − sz), squared_hinge its square, perceptron max(0, −sz), modified_huber (Zhang, *Solving large scale
    linear prediction problems using stochastic gradient descent algorithms*, ICML 2004): squared_hinge, but −4sz where
    sz < −1; huber ½r², but ε|r| − ½ε² beyond ε; epsilon_insensitive max(0, |r| − ε), and its square.

    >>> margin_loss("hinge", np.array([0.5, -2.0]), np.array([1, 0]))
    array([0.5, 0. ])
    """
    z = np.asarray(margins, np.float64)
    if name == "log":
        return log_loss(z, targets)
    if name in CLASSIFICATION:
        sz = np.where(np.asarray(targets) > 0, z, -z)
        short = np.maximum(0.0, 1.0 - sz)
        by_name = {
            "hinge": short,
            "squared_hinge": short**2,
            "perceptron": np.maximum(0.0, -sz),
            "modified_huber": np.where(sz < -1.0, -4.0 * sz, short**2),
        }
        return np.asarray(by_name[name])
    r = np.abs(z - targets)
    beyond = np.maximum(0.0, r - epsilon)
    by_name = {
        "squared": 0.5 * r**2,
        "huber": np.where(r > epsilon, epsilon * (r - 0.5 * epsilon), 0.5 * r**2),
        "epsilon_insensitive": beyond,
        "squared_epsilon_insensitive": beyond**2,
    }
    return np.asarray(by_name[name])
