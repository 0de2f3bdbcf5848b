"""FTRL-Proximal: per-coordinate online learning whose L1 gives truly sparse models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trivium.errors import UsageError
from trivium.program.optimizers.base import Flat, State, Step
from trivium.program.optimizers.compiled import elementwise, frozen, segments
from trivium.program.optimizers.first_order import FirstOrder, check_positive, shrink
from trivium.program.optimizers.schedules import Schedule, require

__all__ = ["FTRL"]


@elementwise
def _ftrl(
    a: Flat, g: Flat, z: Flat, n: Flat, out: Flat, new_z: Flat, new_n: Flat, penalised: NDArray[np.int64], c: Flat
) -> None:
    scale, l2, lr, beta, lambda1, lambda2, first, part = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    zero = c.dtype.type(0)
    cut = segments(0, a.size, penalised)
    for k in range(len(cut)):
        lo, hi, under = cut[k, 0], cut[k, 1], cut[k, 2]
        w, d, zi, ni = a[lo:hi], g[lo:hi], z[lo:hi], n[lo:hi]
        o, zo, no = out[lo:hi], new_z[lo:hi], new_n[lo:hi]
        decay = l2 if under else zero
        threshold = lambda1 if under else zero
        ridge = lambda2 if under else zero
        for i in range(o.size):
            grad = d[i] * scale + w[i] * decay
            before = np.sqrt(ni[i])
            squares = ni[i] + part * (grad * grad)
            after = np.sqrt(squares)
            # ``first`` is 1 at the first step alone, where z must stand for the point that training begins at.
            sign = np.sign(w[i])
            start = zi[i] - first * (w[i] * (beta / lr + ridge) + sign * threshold)
            centre = start + part * grad - (after - before) / lr * w[i]
            zo[i] = centre
            no[i] = squares
            o[i] = -shrink(centre, threshold) / ((beta + after) / lr + ridge)


@dataclass(frozen=True)
class FTRL(FirstOrder):
    """Follow the proximally regularised leader (McMahan et al., *Ad click prediction*, KDD 2013, Algorithm 1).

    For each coordinate, with α = ``lr`` (a number: the method makes its own schedule), z (slot 0), n (slot 1)::

        σ = (√(n + d²) − √n) / α;  z ← z + d − σ·w;  n ← n + d²
        w = 0 where |z| ≤ λ1, else −(z − sign(z)·λ1) / ((β + √n)/α + λ2)

    ``l1`` and ``l2`` are λ1 and λ2 of the paper, on the *sum* of losses over clocks. The objective's own l1, on the
    mean, adds ``clocks·l1`` to λ1, this one included (McMahan, *Follow-the-regularized-leader and mirror descent*,
    AISTATS 2011); its l2 is part of d. All act on penalised ranges only. Starting from w ≠ 0, z begins where the
    formula gives that w.

    A part s of a clock: ``n`` gains s·d², ``z`` gains s·d − σ·w. The σ of the parts of a clock add up to that of the
    whole one.
    """

    lr: float | Schedule = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0

    slots = 2

    def __post_init__(self) -> None:
        if isinstance(self.lr, Schedule):
            raise UsageError(f"ftrl: lr must be a number, got {self.lr!r}; its rate falls by itself, coordinate by one")
        super().__post_init__()
        check_positive(self, "beta")
        for option in ("l1", "l2"):
            value = getattr(self, option)
            require(self.name, option, value, 0 <= value < math.inf, "0 or more and finite")

    @property
    def name(self) -> str:
        """``ftrl``."""
        return "ftrl"

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """One round of Algorithm 1 on the mean gradient of the clock."""
        lambda1 = self.l1 + step.until * step.l1
        first = float(step.clock == 0 and step.done == 0)
        factors = self.factors(totals, step)
        c = np.array([*factors, self.rate(step.clock), self.beta, lambda1, self.l2, first, step.share], a.dtype)
        slots = frozen(state.slots)
        _ftrl(
            frozen(a),
            frozen(g),
            slots[0],
            slots[1],
            out,
            new.slots[0],
            new.slots[1],
            frozen(step.penalised),
            frozen(c),
        )
