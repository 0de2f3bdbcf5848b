"""Coordinate descent on a quadratic with an absolute value a coordinate, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["descend"]


@njit(cache=True, nogil=True, error_model="numpy")
def descend(
    h: NDArray[Any],
    g: NDArray[Any],
    theta: NDArray[Any],
    l1: NDArray[Any],
    least: NDArray[Any],
    step: NDArray[Any],
    sweeps: int,
    tol: float,
) -> tuple[int, bool]:
    """Minimise g·s + s·H·s/2 + Σ l1|θ + s| with θ + s ≥ least over s, in place; returns (sweeps used, converged).

    Friedman, Hastie and Tibshirani, *Regularization paths for generalized linear models by coordinate descent*, 2010.
    A sweep over all coordinates is followed by sweeps over those that are not at rest, until these move no more.
    ``tol`` bounds the largest h·move² of a sweep.
    """
    m = len(g)
    slope = g + h @ step
    active = np.ones(m, np.bool_)
    whole, used = True, 0
    while used < sweeps:
        used += 1
        most = 0.0
        for j in range(m):
            if not (whole or active[j]) or h[j, j] <= 0.0:
                continue
            at = theta[j] + step[j]
            to = at - slope[j] / h[j, j]
            rest = abs(to) - l1[j] / h[j, j]
            to = 0.0 if rest <= 0.0 else (rest if to > 0.0 else -rest)
            to = max(to, least[j])
            move = to - at
            active[j] = to != 0.0 or l1[j] == 0.0
            if move != 0.0:
                step[j] += move
                for i in range(m):
                    slope[i] += h[i, j] * move
                most = max(most, h[j, j] * move * move)
        if most <= tol:
            if whole:
                return used, True
            whole = True
        else:
            whole = False
    return used, False
