"""OWL-QN: L-BFGS for objectives with l1."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from trivium.program.optimizers.base import Step
from trivium.program.optimizers.line_search import ARMIJO, MOST_TRIES, Accept, Fail, Point, Search, Try
from trivium.program.optimizers.quasi_newton import QuasiNewton

__all__ = ["OWLQN"]


@dataclass(frozen=True)
class OWLQN(QuasiNewton):
    """Orthant-wise limited-memory quasi-Newton.

    The pseudo-gradient takes the gradient's place, the direction keeps its signs, each trial point is projected on the
    orthant of the last one, and the step is halved until f(a) ≤ f(x) + c1·p(x)'(a − x). Pairs are of the smooth part.
    Andrew and Gao, *Scalable training of L1-regularized log-linear models*, ICML 2007. With l1 = 0 it is L-BFGS with a
    simpler line search; ``lbfgs`` takes fewer evaluations there.
    """

    @property
    def name(self) -> str:
        """``owlqn``."""
        return "owlqn"

    def l1_factor(self, step: Step) -> float:
        """The objective's l1."""
        return float(step.l1)

    def judge(self, search: Search, trial: Point, decrease: float, noise: float) -> Accept | Try | Fail:
        """Backtracking on the projected path."""
        known = replace(search, tries=search.tries + 1)
        if not math.isfinite(trial.f):
            return Try(0.1 * trial.t, known) if known.tries < MOST_TRIES else Fail(search.origin)
        if trial.f <= search.origin.f + ARMIJO * decrease + noise * abs(search.origin.f) * (decrease < 0):
            return Accept()
        return Try(0.5 * trial.t, known) if known.tries < MOST_TRIES else Fail(search.origin)
