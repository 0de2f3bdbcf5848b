"""L-BFGS: limited-memory quasi-Newton for smooth objectives, without moving vectors between shards."""

from __future__ import annotations

from dataclasses import dataclass

from trivium.errors import PlanError
from trivium.program.optimizers.base import Step
from trivium.program.optimizers.line_search import Accept, Fail, Point, Search, Try, judge
from trivium.program.optimizers.quasi_newton import QuasiNewton

__all__ = ["LBFGS"]


@dataclass(frozen=True)
class LBFGS(QuasiNewton):
    """Vector-free L-BFGS with a strong Wolfe line search; for objectives without l1.

    Liu and Nocedal, *On the limited memory BFGS method for large scale optimization*, 1989; Chen, Wang and Zhou,
    *Large-scale L-BFGS using MapReduce*, NIPS 2014.

    >>> LBFGS(tol=1e-6).memory
    10
    """

    @property
    def name(self) -> str:
        """``lbfgs``."""
        return "lbfgs"

    def l1_factor(self, step: Step) -> float:
        """Zero; an objective with l1 is an error."""
        if step.l1:
            raise PlanError(f"lbfgs needs a smooth objective, got l1={step.l1:g}; use owlqn, or l1=0")
        return 0.0

    def judge(
        self,
        search: Search,
        trial: Point,
        decrease: float,  # noqa: ARG002 - the way gone is t·d: slopes say it all
        noise: float,
    ) -> Accept | Try | Fail:
        """Strong Wolfe."""
        return judge(search, trial, noise)
