"""F of least squares: solves for the coefficients once the moments of all rows are summed.

Rules
-----
* With an intercept the first clock only finds means; the second brings moments about them, so that a mean of 1e6 costs
  no digits. Sums about a fixed point are additive, whoever computed them.
* What is left of the mean (its rounding; all of it for x of CSR rows, which are never shifted) is taken out at the end.
* Without l1: Cholesky on columns scaled to variance 1. Where that is singular, or nearly so, the solution of least norm
  by eigenvectors. Moments have the square of the condition number: beyond some 1e6 a direction counts as not there.
* With l1, or ``positive``: coordinate descent, target by target.
* A column that does not vary, as far as rounding lets one see, gets the coefficient 0.

Hastie, Tibshirani, Friedman, *The elements of statistical learning*, chapter 3; ``kernels.descent`` names the rest.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat, Optimizer, State, Step
from trivium.program.optimizers.schedules import require
from trivium.program.params import Layout

__all__ = ["MEANS", "MOMENTS", "NormalEquations", "delta_layout", "layout", "unpack"]

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

MEANS, MOMENTS = 0.0, 1.0  # A's ``stage``: what the next Δ is
EPS = float(np.finfo(np.float64).eps)
LOST = 64 * EPS  # times the number of columns: eigenvalues, of the largest, that rounding alone may bring
NOISE = 8 * EPS  # of a value: what rounding may leave of it after a subtraction


def layout(features: int, targets: int) -> Layout:
    """A: coefficients ``w`` (features, targets), ``b`` (targets,), means of [x, y], and the ``stage``."""
    shapes: dict[str, tuple[int, ...]] = {
        "w": (features, targets),
        "b": (targets,),
        "mean": (features + targets,),
        "stage": (1,),
    }
    return Layout.of(shapes, "float64", free=("b", "mean", "stage"))


def delta_layout(features: int, targets: int) -> Layout:
    """Δ: Σ of weighted [x, y], and the packed lower triangle of Σ of their products, both about the mean in A."""
    wide = features + targets
    return Layout.of({"sum": (wide,), "moments": (wide * (wide + 1) // 2,)}, "float64")


def unpack(packed: Flat, wide: int) -> Floats:
    """The symmetric matrix (wide, wide) whose lower triangle is ``packed``."""
    full = np.empty((wide, wide))
    at = 0
    for i in range(wide):
        full[i, : i + 1] = full[: i + 1, i] = packed[at : at + i + 1]
        at += i + 1
    return full


@dataclass(frozen=True)
class NormalEquations(Optimizer):
    """Solves ½·mean squared error + l1·‖w‖₁ + (l2/2)·‖w‖²; head: whether done, iterations, gap, rank, whether
    descent used its sweeps up.

    ``tol`` and ``max_iter`` are those of coordinate descent: the duality gap in terms of Σ y², and sweeps over the
    coefficients. ``features`` and ``targets`` follow from the data; a ``LeastSquares`` program fills them in.
    """

    features: int = 0
    targets: int = 1
    intercept: bool = True
    tol: float = 1e-4
    max_iter: int = 1000
    positive: bool = False

    needs_full_batch: ClassVar[bool] = True
    head_size = 5
    scalar_count = 1  # not elementwise: what is done to one coefficient depends on all moments

    def __post_init__(self) -> None:
        require(self.name, "tol", self.tol, 0 <= self.tol < math.inf, "0 or more and finite")
        require(self.name, "max_iter", self.max_iter, self.max_iter >= 1, "1 or more")

    @property
    def name(self) -> str:
        """``normal-equations``."""
        return "normal-equations"

    def finished(self, head: Floats) -> bool:
        """Whether it is solved."""
        return bool(head[0])

    def iterations(self, head: Floats, clock: int) -> int:
        """Sweeps of coordinate descent, 1 for a direct solution; clocks until then."""
        return int(head[1]) if head[0] else clock

    def reason(self, head: Floats) -> str:
        """Why it finished, in words."""
        return "the sweeps allowed are used up" if head[4] else "solved" if head[0] else "running"

    def scalars(self, a: Flat, g: Flat, state: State, step: Step, out: Floats) -> None:  # noqa: ARG002
        """There are none to sum."""
        out[:] = 0.0

    def update(self, a: Flat, g: Flat, state: State, totals: Floats, step: Step, out: Flat, new: State) -> None:  # noqa: ARG002
        """Take the means in, or solve."""
        places, sums = layout(self.features, self.targets), delta_layout(self.features, self.targets)
        out[:] = a
        new.head[:] = state.head
        if a.size != places.size or g.size != sums.size:  # a bowl of another shape, to load what is compiled
            self._warm(step)
            return
        was, views, given = places.views(a), places.views(out), sums.views(g)
        if state.head[0] or step.weight <= 0:
            new.head[0] = 1
        elif self.intercept and was["stage"][0] == MEANS:
            views["mean"][:] += given["sum"] / step.weight
            views["stage"][0] = MOMENTS
        else:
            new.head[:] = 1, *self._solve(given, step, views)
            views["stage"][0] = MEANS if self.intercept else MOMENTS  # for whoever starts from here

    def _solve(self, given: dict[str, Any], step: Step, views: dict[str, Any]) -> tuple[int, float, int, bool]:
        """Write coefficients and intercept; iterations, gap, rank, whether sweeps were too few."""
        wide, n = self.features + self.targets, self.features
        moments, left = unpack(given["moments"], wide) / step.weight, given["sum"] / step.weight
        mean = views["mean"] + left if self.intercept else np.zeros(wide)
        if self.intercept:
            moments -= np.outer(left, left)
        gram, q = moments[:n, :n].copy(), moments[:n, n:]
        if not np.isfinite(moments).all():
            views["w"][:] = views["b"][:] = np.nan
            return 1, math.nan, 0, False
        still = NOISE * left[:n] ** 2 + (NOISE * mean[:n]) ** 2 if self.intercept else 0.0
        live = np.diag(gram) > still
        gram[~live], gram[:, ~live] = 0.0, 0.0
        if step.l1 > 0 or self.positive:
            found = self._descend(gram, q, np.diag(moments)[n:], live, step, views["w"])
        else:
            views["w"][:] = 0.0
            solution, rank = solve(gram[np.ix_(live, live)], q[live], step.l2)
            views["w"][live] = solution
            found = 1, 0.0, rank, False
        views["b"][:] = mean[n:] - mean[:n] @ views["w"] if self.intercept else 0.0
        return found

    def _descend(
        self, gram: Floats, q: Floats, yy: Floats, live: NDArray[np.bool_], step: Step, w: Floats
    ) -> tuple[int, float, int, bool]:
        from trivium.program.kernels.descent import descend

        sweeps, worst, few = 0, 0.0, False
        for t in range(self.targets):
            one = np.where(live, w[:, t], 0.0)
            one = np.maximum(one, 0.0) if self.positive else one
            spent, gap = descend(
                gram, q[:, t].copy(), float(yy[t]), step.l1, step.l2, self.positive, self.tol, self.max_iter, one
            )
            if gap >= self.tol * yy[t] and np.any(one):
                few = True
                log.warning(
                    "coordinate descent stopped after %d sweeps with a duality gap of %.3g, above tol·Σy² = %.3g: "
                    "raise max_iter, tol, or the penalty, or standardize the columns",
                    *(spent, gap, self.tol * yy[t]),
                )
            w[:, t] = one
            sweeps, worst = max(sweeps, spent), max(worst, gap)
        return sweeps, worst, int(live.sum()), few

    def _warm(self, step: Step) -> None:
        if step.l1 > 0 or self.positive:
            from trivium.program.kernels.descent import descend

            descend(np.eye(1), np.ones(1), 1.0, step.l1, step.l2, self.positive, self.tol, 1, np.zeros(1))


def solve(gram: Floats, q: Floats, l2: float) -> tuple[Floats, int]:
    """Coefficients w of (gram + l2·I)w = q, of least norm where there are many; and the rank.

    >>> solve(np.ones((2, 2)), np.ones((2, 1)), 0.0)[0].round(9).tolist()
    [[0.5], [0.5]]
    """
    from scipy.linalg import cho_solve, eigh, lapack

    n = len(gram)
    if not n:
        return np.zeros(q.shape), 0
    full = gram + l2 * np.eye(n)
    scale = 1.0 / np.sqrt(np.diag(full))
    even = full * scale[:, None] * scale
    factor, failed = lapack.dpotrf(even, lower=1)
    if not failed:
        near, _ = lapack.dpocon(factor, np.abs(even).sum(axis=0).max(), uplo="L")
        if near > n * LOST:
            w = scale[:, None] * cho_solve((factor, True), scale[:, None] * q, check_finite=False)
            w += scale[:, None] * cho_solve((factor, True), scale[:, None] * (q - full @ w), check_finite=False)
            return w, n
    values, vectors = eigh(full, check_finite=False)
    keep = values > values[-1] * n * LOST
    return vectors[:, keep] @ ((vectors[:, keep].T @ q) / values[keep, None]), int(keep.sum())
