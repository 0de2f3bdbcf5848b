"""AdaGrad: a rate for each coordinate, from the sum of its squared gradients. L1: proximal, with that rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat, State, Step
from trivium.program.optimizers.compiled import elementwise, frozen, segments
from trivium.program.optimizers.first_order import FirstOrder, check_positive, shrink
from trivium.program.optimizers.schedules import Schedule, require

__all__ = ["AdaGrad"]


@elementwise
def _adagrad(a: Flat, g: Flat, s: Flat, out: Flat, new: Flat, penalised: NDArray[np.int64], c: Flat) -> None:
    scale, l2, lr, l1, eps = c[0], c[1], c[2], c[3], c[4]
    zero = c.dtype.type(0)
    cut = segments(0, a.size, penalised)
    for k in range(len(cut)):
        lo, hi, under = cut[k, 0], cut[k, 1], cut[k, 2]
        w, d, v, o, t = a[lo:hi], g[lo:hi], s[lo:hi], out[lo:hi], new[lo:hi]
        decay = l2 if under else zero
        if under and l1 > 0:
            for i in range(o.size):
                grad = d[i] * scale + w[i] * decay
                squares = v[i] + grad * grad
                rate = lr / np.sqrt(squares + eps)
                t[i] = squares
                o[i] = shrink(w[i] - rate * grad, rate * l1)
        else:
            for i in range(o.size):
                grad = d[i] * scale + w[i] * decay
                squares = v[i] + grad * grad
                t[i] = squares
                o[i] = w[i] - lr * grad / np.sqrt(squares + eps)


@dataclass(frozen=True)
class AdaGrad(FirstOrder):
    """``s ← s + d²``, ``w ← w − lr·d/√(s + eps)``, then soft threshold by ``l1·lr/√(s + eps)``.

    ``s`` (slot 0) begins at ``initial``. A part p of a clock: ``s ← s + p·d²``, with the rate ``lr·p``. Duchi, Hazan
    and Singer, *Adaptive subgradient methods for online learning and stochastic optimization*, JMLR 2011 (diagonal,
    composite mirror descent form).
    """

    lr: float | Schedule = 0.1
    initial: float = 0.1
    eps: float = 1e-7

    slots = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.name, "initial", self.initial, 0 <= self.initial < math.inf, "0 or more and finite")
        check_positive(self, "eps")

    @property
    def name(self) -> str:
        """``adagrad``."""
        return "adagrad"

    def init(self, a: Flat, state: State) -> None:  # noqa: ARG002 - the sum does not depend on the point
        """The sum of squares begins at ``initial``."""
        state.slots[0] = self.initial

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """One step with each coordinate's own rate."""
        # The kernel's gradient is √p·d: the sum gains p·d², and the step is lr·√p of it.
        root = math.sqrt(step.share)
        scale, l2 = self.factors(totals, step)
        c = np.array([scale * root, l2 * root, self.rate(step.clock) * root, step.l1 * root, self.eps], a.dtype)
        slots = frozen(state.slots)
        _adagrad(frozen(a), frozen(g), slots[0], out, new.slots[0], frozen(step.penalised), frozen(c))
