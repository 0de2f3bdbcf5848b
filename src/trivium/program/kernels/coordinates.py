"""Coordinate descent on a quadratic with an absolute value a coordinate, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["descend", "descend_to_gap"]


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
    flat: bool,
) -> tuple[int, bool]:
    """Minimise g·s + s·H·s/2 + Σ l1|θ + s| with θ + s ≥ least over s, in place; returns (sweeps used, converged).

    Friedman, Hastie and Tibshirani, *Regularization paths for generalized linear models by coordinate descent*, 2010.
    A sweep over all coordinates is followed by sweeps over those that are not at rest, until these move no more.
    ``tol`` bounds the largest h·move² of a sweep, or where ``flat`` h·|move|, which is the derivative before the move.
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
                most = max(most, h[j, j] * abs(move) * (1.0 if flat else abs(move)))
        if most <= tol:
            if whole:
                return used, True
            whole = True
        else:
            whole = False
    return used, False


@njit(cache=True, nogil=True, error_model="numpy")
def descend_to_gap(
    h: NDArray[Any],
    g: NDArray[Any],
    theta: NDArray[Any],
    l1: NDArray[Any],
    least: NDArray[Any],
    step: NDArray[Any],
    sweeps: int,
    smooth: float,
    l2: NDArray[Any],
    positive: bool,
    moves: float,
    gap: float,
) -> tuple[int, bool]:
    """As ``descend`` for penalised least squares, stopping as scikit-learn does; (sweeps used, whether it stopped so).

    ``smooth`` is the objective at ``theta`` without l1, ``l2`` (coordinates) is part of ``h`` and ``g``; coordinates
    without l1 are those of an intercept. A sweep whose largest move is at most ``moves`` times the largest coefficient
    is the last one if the duality gap is at most ``gap``; there is none where that holds from the first.
    """
    m = len(g)
    slope = g + h @ step
    if gap_at(g, slope, theta, l1, step, smooth, l2, positive) <= gap:
        return 0, True
    for sweep in range(sweeps):
        furthest, largest = 0.0, 0.0
        for j in range(m):
            if h[j, j] <= 0.0:
                continue
            at = theta[j] + step[j]
            to = at - slope[j] / h[j, j]
            rest = abs(to) - l1[j] / h[j, j]
            to = 0.0 if rest <= 0.0 else (rest if to > 0.0 else -rest)
            to = max(to, least[j])
            move = to - at
            if move != 0.0:
                step[j] += move
                for i in range(m):
                    slope[i] += h[i, j] * move
            if l1[j] > 0.0 or l2[j] > 0.0:
                furthest, largest = max(furthest, abs(move)), max(largest, abs(to))
        still = largest == 0.0 or furthest <= moves * largest or sweep == sweeps - 1
        if still and gap_at(g, slope, theta, l1, step, smooth, l2, positive) <= gap:
            return sweep + 1, True
    return sweeps, False


@njit(cache=True, nogil=True, error_model="numpy")
def gap_at(
    g: NDArray[Any],
    slope: NDArray[Any],
    theta: NDArray[Any],
    l1: NDArray[Any],
    step: NDArray[Any],
    smooth: float,
    l2: NDArray[Any],
    positive: bool,
) -> float:
    """The duality gap of the mean objective at theta + step, where ``slope`` is that of the smooth part.

    Kim, Koh, Lustig, Boyd and Gorinevsky, *An interior-point method for large-scale l1-regularized least squares*,
    2007. With r the residual, X'r = l2·w − slope, so that no look at the rows is needed.
    """
    top, strength, size, square, fit, value = 0.0, 0.0, 0.0, 0.0, 0.0, smooth
    for j in range(len(g)):
        w = theta[j] + step[j]
        value += 0.5 * step[j] * (g[j] + slope[j])
        if l1[j] <= 0.0 and l2[j] <= 0.0:
            continue
        top = max(top, -slope[j] if positive else abs(slope[j]))
        strength = max(strength, l1[j])
        size += l1[j] * abs(w)
        square += l2[j] * w * w
        fit += w * (l2[j] * w - slope[j])
    rest = max(0.0, 2.0 * value - square)
    factor = strength / top if top > strength else 1.0
    gap = 0.5 * rest * (1.0 + factor * factor) - factor * (rest + fit)
    return gap + size + 0.5 * square * (1.0 + factor * factor)
