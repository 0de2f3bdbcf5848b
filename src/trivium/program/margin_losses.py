"""Losses of linear outputs: value, slope and curvature at each margin, float64.

``z`` and ``y`` are (rows, outputs). Values are summed over the outputs; slopes and curvatures have the shape of ``z``.
Where a loss has a corner its curvature is 0 there; ``smooth_hinge`` rounds the hinge's corner over a width, so that a
sequence of ever narrower ones leads to the hinge (Chapelle, *Training a support vector machine in the primal*, 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import PlanError, unknown

__all__ = ["LOSSES", "QUADRATIC", "SIGNED", "loss_of"]

Array = NDArray[Any]
Parts = tuple[Array, Array, NDArray[Any] | None]
Loss = Callable[[Array, Array, float, bool], Parts]

SIGNED = frozenset(
    {"hinge", "squared_hinge", "smooth_hinge", "perceptron", "modified_huber", "log_loss"}
)  # y is −1 or +1
QUADRATIC = frozenset({"squared_error"})


def _squared_error(z: Array, y: Array, _width: float, curved: bool) -> Parts:
    r = z - y
    return 0.5 * r * r, r, np.ones_like(r) if curved else None


def _log_loss(z: Array, y: Array, _width: float, curved: bool) -> Parts:
    margin = y * z
    e = np.exp(-np.abs(margin))
    low = e / (1.0 + e)  # the smaller of the two probabilities
    loss = np.log1p(e) - np.minimum(margin, 0.0)
    wrong = np.where(margin >= 0.0, low, 1.0 - low)
    return loss, -y * wrong, low * (1.0 - low) if curved else None


def _hinge(z: Array, y: Array, width: float, curved: bool) -> Parts:
    """Hinge with the corner at ``width``: 1 for the hinge, 0 for the perceptron."""
    short = width - y * z
    inside = short > 0.0
    return np.maximum(short, 0.0), -y * inside, np.zeros_like(z) if curved else None


def _perceptron(z: Array, y: Array, _width: float, curved: bool) -> Parts:
    short = -y * z
    return np.maximum(short, 0.0), -y * (short >= 0.0), np.zeros_like(z) if curved else None


def _squared_hinge(z: Array, y: Array, _width: float, curved: bool) -> Parts:
    short = np.maximum(1.0 - y * z, 0.0)
    return short * short, -2.0 * y * short, 2.0 * (short > 0.0) if curved else None


def _smooth_hinge(z: Array, y: Array, width: float, curved: bool) -> Parts:
    """(1 + width − m)²/(4·width) for |1 − m| ≤ width, else the hinge of m = y·z."""
    short = 1.0 - y * z
    inside = np.abs(short) <= width
    bow = short + width
    loss = np.where(inside, bow * bow / (4.0 * width), np.maximum(short, 0.0))
    slope = np.where(inside, bow / (2.0 * width), short > 0.0)
    return loss, -y * slope, inside / (2.0 * width) if curved else None


def _modified_huber(z: Array, y: Array, _width: float, curved: bool) -> Parts:
    margin = y * z
    short = np.maximum(1.0 - margin, 0.0)
    far = margin < -1.0
    loss = np.where(far, -4.0 * margin, short * short)
    slope = np.where(far, -4.0, -2.0 * short)
    return loss, y * slope, np.where(far | (short == 0.0), 0.0, 2.0) if curved else None


def _huber(z: Array, y: Array, width: float, curved: bool) -> Parts:
    r = z - y
    size = np.abs(r)
    inside = size <= width
    loss = np.where(inside, 0.5 * r * r, width * size - 0.5 * width * width)
    return loss, np.clip(r, -width, width), inside * 1.0 if curved else None


def _epsilon_insensitive(z: Array, y: Array, width: float, curved: bool) -> Parts:
    r = z - y
    over = np.abs(r) - width
    return np.maximum(over, 0.0), np.sign(r) * (over > 0.0), np.zeros_like(z) if curved else None


def _squared_epsilon_insensitive(z: Array, y: Array, width: float, curved: bool) -> Parts:
    r = z - y
    over = np.maximum(np.abs(r) - width, 0.0)
    return over * over, 2.0 * np.sign(r) * over, 2.0 * (over > 0.0) if curved else None


LOSSES: dict[str, Loss] = {
    "epsilon_insensitive": _epsilon_insensitive,
    "hinge": _hinge,
    "huber": _huber,
    "log_loss": _log_loss,
    "modified_huber": _modified_huber,
    "perceptron": _perceptron,
    "smooth_hinge": _smooth_hinge,
    "squared_epsilon_insensitive": _squared_epsilon_insensitive,
    "squared_error": _squared_error,
    "squared_hinge": _squared_hinge,
}


def loss_of(name: str) -> Loss:
    """``(z, y, width, curved) -> values, slopes, curvatures or None``; PlanError for an unknown name.

    >>> loss_of("squared_error")(np.array([[3.0]]), np.array([[1.0]]), 0.0, True)
    (array([[2.]]), array([[2.]]), array([[1.]]))
    """
    if name not in LOSSES:
        raise PlanError(unknown("loss", name, LOSSES))
    return LOSSES[name]


def softmax_parts(z: Array, y: NDArray[Any]) -> tuple[Array, Array]:
    """Cross entropy of each row, and its probabilities (rows, classes); ``y`` (rows,) class numbers."""
    top = z.max(axis=1)
    p = np.exp(z - top[:, None])
    total = p.sum(axis=1)
    loss = np.log(total) + top - z[np.arange(len(z)), y]
    p /= total[:, None]
    return loss, p
