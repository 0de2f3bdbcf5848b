"""Newton's method from summed curvatures, with L1 and bounds: few passes over the rows, where columns are not many.

Each clock evaluates loss, gradient g and curvature H (``Curvature``) at one point. Where it is accepted, the next step
is the minimum of the model

    g·s + s·H·s/2 + l1·‖w + s‖₁ + (l2 terms inside g and H),   w + s ≥ 0 where ``positive``

found by Cholesky's factors, or by coordinate descent where there is l1 or a bound (Lee, Sun and Saunders, *Proximal
Newton-type methods for minimizing composite functions*, SIAM J. Optim. 2014; Yuan, Ho and Lin, *An improved GLMNET for
L1-regularized logistic regression*, JMLR 2012). Otherwise half the step is tried. A quadratic objective takes one step;
the next evaluation only serves to refine it: its gradient is exact where the normal equations are not.

The last step is taken without another evaluation where the model promises less than a rounding error, or where the run
ends by ``tol`` inside the region in which Newton's method is known to converge (Boyd and Vandenberghe, *Convex
optimization*, 2004, chapter 9.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.program.margins import Curvature, layout_of
from trivium.program.optimizers.base import Flat, Optimizer, State, Step

__all__ = ["Newton"]

Array = NDArray[Any]

ARMIJO = 1e-4
MOST_TRIES = 40
NEAR = 0.1  # n·decrement², below which a full step of a self-concordant objective is safe
ROUND = 1e-13  # a promised relative decrease below which nothing is gained
FIRST, SEARCH, DONE = 0.0, 1.0, 2.0
FLAT, LEVEL, SPENT, STUCK, NOT_FINITE = range(1, 6)
REASONS = (
    "running",
    "every element of the gradient is within tol",
    "the model promises no further decrease",
    "the iterations allowed are used up",
    "the line search found no lower point",
    "the objective is not finite at the starting point",
)
HEAD = ("phase", "reason", "iterations", "f", "t", "promised", "tries", "sweeps", "rank", "unfinished")


@dataclass(frozen=True)
class Newton(Optimizer):
    """Newton's method with backtracking; needs the full batch, and the whole of A in one shard.

    ``place`` and ``curved`` say where things lie in Δ; ``tol`` bounds the (pseudo-)gradient of the mean objective;
    ``positive`` keeps penalised coefficients at 0 or more. ``cut``: relative eigenvalues of the curvature that count as
    0 (the solution of least norm is then found by eigenvalues); None: Cholesky's factors. ``quadratic``: steps need no
    test.
    ``sweeps`` most sweeps of coordinate descent, in one step, or where ``quadratic`` in all of them; ``within`` its
    relative tolerance (of the energy of a sweep's largest move). ``gap`` of a quadratic of one output: instead, a sweep
    ends it whose largest move is at most gap[0] of the largest coefficient, where the duality gap is at most gap[1].
    ``flat``: instead, one in which no coordinate's derivative was larger.
    """

    place: Curvature
    tol: float = 1e-4
    max_iter: int = 100
    positive: bool = False
    cut: float | None = None
    quadratic: bool = False
    sweeps: int = 10_000
    within: float = 1e-20
    gap: tuple[float, float] | None = None
    flat: float | None = None

    needs_full_batch: ClassVar[bool] = True
    slots = 2  # the accepted point, the step

    def __post_init__(self) -> None:
        extra = self.place.order if self.cut is not None else 0  # eigenvalues of the curvature
        object.__setattr__(self, "head_size", len(HEAD) + extra)

    @property
    def name(self) -> str:
        """``newton``."""
        return "newton"

    def finished(self, head: NDArray[np.float64]) -> bool:
        """Whether it converged or cannot go on."""
        return bool(head[0] == DONE)

    def iterations(self, head: NDArray[np.float64], clock: int) -> int:  # noqa: ARG002  a search takes several clocks
        """Accepted steps."""
        return int(head[2])

    def reason(self, head: NDArray[np.float64]) -> str:
        """Why it finished, in words."""
        return REASONS[int(head[1])]

    def update(
        self,
        a: Flat,
        g: Flat,
        state: State,
        totals: NDArray[np.float64],  # noqa: ARG002  one shard: it sums for itself
        step: Step,
        out: Flat,
        new: State,
    ) -> None:
        """Accept ``a`` and take the next step, or try half of the last one."""
        new.head[:], new.slots[:], out[:] = state.head, state.slots, a
        if g.size != layout_of(self.place, curved=True, free=True).size or state.head[0] == DONE:
            return  # (a trial of what is compiled has a gradient without curvature)
        memo = dict(zip(HEAD, state.head.tolist(), strict=False))
        model = _Model(self.place, a, g, step)
        lower = memo["f"] + ARMIJO * memo["t"] * memo["promised"]
        slack = 1e-15 * abs(memo["f"])
        first = memo["phase"] == FIRST
        if not first and not (math.isfinite(model.f) and (self.quadratic or model.f <= lower + slack)):
            self._back(memo, new, out)
        elif first and not math.isfinite(model.f):
            memo |= {"phase": DONE, "reason": NOT_FINITE}
        else:
            self._forward(memo, model, new, out, step)
        new.head[: len(HEAD)] = [memo[name] for name in HEAD]

    def _back(self, memo: dict[str, float], new: State, out: Flat) -> None:
        memo["tries"] += 1
        memo["t"] *= 0.5
        out[:] = new.slots[0]
        if memo["tries"] >= MOST_TRIES:
            memo |= {"phase": DONE, "reason": STUCK}
            return
        out += memo["t"] * new.slots[1]

    def _forward(self, memo: dict[str, float], model: _Model, new: State, out: Flat, step: Step) -> None:
        flat = model.residual(step.l1, self.positive) <= self.tol
        memo |= {"f": model.f, "iterations": memo["iterations"] + (memo["phase"] == SEARCH), "tries": 0, "t": 1.0}
        spent = memo["iterations"] >= self.max_iter
        if spent and not flat:
            memo |= {"phase": DONE, "reason": SPENT}
            return
        move, promised = self._solve(memo, model, step, new.head[len(HEAD) :])
        level = -promised <= ROUND * max(abs(model.f), 1e-300) or not promised < 0
        if flat or level or (self.quadratic and memo["phase"] == SEARCH):
            memo |= {"phase": DONE, "reason": FLAT if flat else LEVEL}
            if math.isfinite(promised) and (self.quadratic or -promised * step.weight < NEAR):
                out += move
                memo["iterations"] += memo["iterations"] == 0
            return
        memo |= {"phase": SEARCH, "promised": promised}
        new.slots[0], new.slots[1] = out, move
        out += move

    def _solve(self, memo: dict[str, float], model: _Model, step: Step, spectrum: Array) -> tuple[Array, float]:
        """The step, flat, and what the model promises of it (not above 0); fills in ``spectrum``."""
        move, promised = np.zeros_like(model.theta), 0.0
        memo |= {"sweeps": memo["sweeps"] if self.quadratic else 0.0, "rank": 0.0}
        left, most = self.sweeps - int(memo["sweeps"]), 0
        if left <= 0:
            return model.spread(move), promised
        memo["unfinished"] = 0.0
        for k in range(len(model.theta)):
            h, theta, slope = model.h[k if len(model.h) > 1 else 0], model.theta[k], model.slope[k]
            l1 = step.l1 * model.penal[k]
            if step.l1 > 0 or self.positive:
                found, used, converged = self._descend(model, k, l1, step.l2, left)
                most = max(most, used)
                memo["unfinished"] = max(memo["unfinished"], float(not converged))
            elif self.cut is not None:
                found, values, rank = least_norm(h, -slope, self.place.constant, self.cut)
                memo["rank"], spectrum[: len(values)] = max(memo["rank"], rank), values
            else:
                found = solve(h, -slope)
            move[k] = found
            promised += float(slope @ found) + float(l1 @ (np.abs(theta + found) - np.abs(theta)))
        memo["sweeps"] += most
        if self.place.kind == "joint":
            model.centre(move, step.l1 + step.l2)
        return model.spread(move), promised

    def _descend(self, model: _Model, k: int, l1: Array, l2: float, sweeps: int) -> tuple[Array, int, bool]:
        """The step of output ``k`` by coordinate descent, the sweeps that it took, and whether they sufficed."""
        h = np.ascontiguousarray(model.h[k if len(model.h) > 1 else 0])
        theta, slope, penal = model.theta[k], model.slope[k], model.penal[k]
        smooth = model.f - float(l1 @ np.abs(theta))
        if self.quadratic and self.place.constant and penal[-1] == 0 and h[-1, -1] > 0:
            pivot, side, last = h[-1, -1], h[:-1, -1] / h[-1, -1], slope[-1]  # the free intercept is eliminated
            inner, rest = h[:-1, :-1] - np.outer(side, h[:-1, -1]), slope[:-1] - side * last
            smooth -= 0.5 * last * last / pivot
            found, used, converged = self._sweep(inner, rest, theta[:-1], penal[:-1], l1[:-1], l2, sweeps, smooth)
            return np.append(found, -last / pivot - side @ found), used, converged
        return self._sweep(h, slope, theta, penal, l1, l2, sweeps, smooth)

    def _sweep(
        self, h: Array, slope: Array, theta: Array, penal: Array, l1: Array, l2: float, sweeps: int, smooth: float
    ) -> tuple[Array, int, bool]:
        from trivium.program.kernels.coordinates import descend, descend_to_gap

        h, theta = np.ascontiguousarray(h), np.ascontiguousarray(theta)
        least = np.where(penal > 0, 0.0, -np.inf) if self.positive else np.full(len(theta), -np.inf)
        found = np.zeros(len(theta))
        if self.gap is not None:
            used, converged = descend_to_gap(
                h, slope, theta, l1, least, found, sweeps, smooth, l2 * penal, self.positive, *self.gap
            )
        elif self.flat is not None:
            used, converged = descend(h, slope, theta, l1, least, found, sweeps, self.flat, True)
        else:
            scale = abs(float(slope @ (slope / np.where(np.diag(h) > 0, np.diag(h), 1.0)))) or 1.0
            used, converged = descend(h, slope, theta, l1, least, found, sweeps, self.within * scale, False)
        return found, used, converged


class _Model:
    """The objective's value, slope and curvature at ``a``, by output: rows of coefficients, the intercept last."""

    def __init__(self, place: Curvature, a: Flat, g: Flat, step: Step) -> None:
        self.place, self._size = place, a.size
        inverse = 1.0 / step.weight if step.weight > 0 else 0.0
        penal = np.zeros(a.size)
        for lo, hi in step.penalised:
            penal[lo:hi] = 1.0
        self.theta, self.penal, self.slope = place.rows(a), place.rows(penal), place.rows(g)
        if place.kind == "joint":
            self.theta, self.penal, self.slope = (one.reshape(1, -1) for one in (self.theta, self.penal, self.slope))
        self.slope *= inverse
        self.slope += step.l2 * self.penal * self.theta
        self.h = place.matrices(g) * inverse
        index = np.arange(place.order)
        self.h[:, index, index] += step.l2 * self.penal[: len(self.h)]
        size = np.abs(self.theta) * self.penal
        flat = size.reshape(-1)
        self.f = step.loss * inverse + 0.5 * step.l2 * float(flat @ flat) + step.l1 * float(flat.sum())

    def spread(self, rows: Array) -> Array:
        """As a flat array in the layout of A."""
        return self.place.flat(rows.reshape(self.place.outputs, self.place.width), self._size)

    def centre(self, move: Array, penalty: float) -> None:
        """Take out what moves all outputs alike where no penalty sees it: softmax does not see it either."""
        rows = move.reshape(self.place.outputs, self.place.width)
        unseen = self.penal.reshape(rows.shape)[0] * penalty == 0
        rows[:, unseen] -= rows[:, unseen].mean(axis=0)

    def residual(self, l1: float, positive: bool) -> float:
        """Largest element of the pseudo-gradient."""
        slope, theta, l1s = self.slope, self.theta, l1 * self.penal
        at_rest = np.sign(slope) * np.maximum(np.abs(slope) - l1s, 0.0)
        pseudo = np.where(theta != 0, slope + l1s * np.sign(theta), at_rest)
        if positive:
            pseudo = np.where((theta <= 0) & (self.penal > 0), np.minimum(slope + l1s, 0.0), pseudo)
        return float(np.abs(pseudo).max(initial=0.0))


def solve(h: Array, right: Array) -> Array:
    """Solve: s with H·s = ``right``, by Cholesky's factors of the scaled matrix; least norm where it is singular."""
    from scipy.linalg.lapack import dpotrf, dpotrs

    diagonal = np.diag(h)
    scale = np.where(diagonal > 0, diagonal, 1.0) ** -0.5
    scaled = h * scale[:, None] * scale
    index = np.arange(len(h))
    for ridge in (1e-14, 1e-11):
        scaled[index, index] = np.where(diagonal > 0, 1.0 + ridge, 1.0)
        factor, info = dpotrf(scaled, lower=1, overwrite_a=0)
        if info == 0:
            found: Array = dpotrs(factor, right * scale, lower=1)[0] * scale
            return found
    return scale * _pseudo(scaled, right * scale, 1e-10)[0]


def least_norm(h: Array, right: Array, constant: bool, cut: float) -> tuple[Array, Array, int]:
    """Solve: s of least norm with H·s = ``right``, H's eigenvalues, and how many of them count.

    The last coordinate, where ``constant``, is eliminated first; the eigenvalues are then those of the rest.
    """
    if not constant or h[-1, -1] <= 0:
        return _pseudo(h, right, cut)
    side = h[:-1, -1] / h[-1, -1]
    inner = h[:-1, :-1] - np.outer(side, h[:-1, -1])
    found, values, rank = _pseudo(inner, right[:-1] - side * right[-1], cut)
    return np.append(found, right[-1] / h[-1, -1] - side @ found), values, rank


def _pseudo(h: Array, right: Array, cut: float) -> tuple[Array, Array, int]:
    values, vectors = np.linalg.eigh(h)
    keep = values > max(cut * values.max(initial=0.0), 0.0)
    inverse = np.where(keep, 1.0 / np.where(keep, values, 1.0), 0.0)
    return vectors @ (inverse * (vectors.T @ right)), values[::-1], int(keep.sum())
