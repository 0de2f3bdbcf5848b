"""Stochastic gradient descent: plain, with momentum, with Nesterov's momentum. L1: proximal step after the update.

A trace of momentum b moves 1/(1 − b) times as far as the gradient that feeds it, so the threshold is larger by the same
factor: else the zeros, and the point of rest, would be those of a smaller l1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat, State, Step
from trivium.program.optimizers.compiled import constants, elementwise, frozen, segments
from trivium.program.optimizers.first_order import FirstOrder, check_fraction, shrink, trace_factors
from trivium.program.optimizers.schedules import Schedule

__all__ = ["SGD", "Momentum", "Nesterov"]


@elementwise
def _sgd(a: Flat, g: Flat, out: Flat, penalised: NDArray[np.int64], c: Flat) -> None:
    scale, decay, lr, l1 = c[0], c[1], c[2], c[3]
    cut = segments(0, a.size, penalised)
    for k in range(len(cut)):
        lo, hi, under = cut[k, 0], cut[k, 1], cut[k, 2]
        w, d, o = a[lo:hi], g[lo:hi], out[lo:hi]
        if under and l1 > 0:
            for i in range(o.size):
                o[i] = shrink(w[i] - lr * (d[i] * scale + w[i] * decay), lr * l1)
        elif under and decay > 0:
            for i in range(o.size):
                o[i] = w[i] - lr * (d[i] * scale + w[i] * decay)
        else:
            for i in range(o.size):
                o[i] = w[i] - lr * (d[i] * scale)


@elementwise
def _momentum(a: Flat, g: Flat, m: Flat, out: Flat, new: Flat, penalised: NDArray[np.int64], c: Flat) -> None:
    # ``now`` and ``then`` weigh gradient and trace in the step: 0, 1 for the heavy ball, 1, b for Nesterov.
    scale, l2, lr, l1, b, now, then, threshold = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    zero = c.dtype.type(0)
    cut = segments(0, a.size, penalised)
    for k in range(len(cut)):
        lo, hi, under = cut[k, 0], cut[k, 1], cut[k, 2]
        w, d, v, o, t = a[lo:hi], g[lo:hi], m[lo:hi], out[lo:hi], new[lo:hi]
        decay = l2 if under else zero
        if under and l1 > 0:
            for i in range(o.size):
                grad = d[i] * scale + w[i] * decay
                trace = grad + b * v[i]
                t[i] = trace
                o[i] = shrink(w[i] - lr * (now * grad + then * trace), threshold)
        else:
            for i in range(o.size):
                grad = d[i] * scale + w[i] * decay
                trace = grad + b * v[i]
                t[i] = trace
                o[i] = w[i] - lr * (now * grad + then * trace)


@dataclass(frozen=True)
class SGD(FirstOrder):
    """``w ← w − lr·d``, then soft threshold by ``lr·l1`` (Robbins and Monro, 1951). A part s of a clock: ``lr·s``.

    >>> SGD(0.1).name
    'sgd'
    """

    lr: float | Schedule = 0.1

    @property
    def name(self) -> str:
        """``sgd``."""
        return "sgd"

    def update(
        self,
        a: Flat,
        g: Flat,
        state: State,  # noqa: ARG002  it keeps none
        totals: NDArray[np.float64],
        step: Step,
        out: Flat,
        new: State,  # noqa: ARG002  likewise
    ) -> None:
        """One step; keeps no slots."""
        c = constants(a.dtype, *self.factors(totals, step), self.rate(step.clock) * step.share, step.l1)
        _sgd(frozen(a), frozen(g), out, frozen(step.penalised), c)


@dataclass(frozen=True)
class _Trace(FirstOrder):
    """Slot 0: the trace ``m ← d + momentum·m``; of a part of a clock: see ``trace_factors``."""

    lr: float | Schedule = 0.1
    momentum: float = 0.9

    slots = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self, "momentum")

    def _step(
        self,
        a: Flat,
        g: Flat,
        state: State,
        totals: NDArray[np.float64],
        step: Step,
        out: Flat,
        new: State,
        mix: tuple[float, float],
    ) -> None:
        rate, b = self.rate(step.clock), self.momentum
        keep, gain, now, then = trace_factors(b, step.share, *mix)
        scale, l2 = self.factors(totals, step)
        threshold = rate * step.share * step.l1 / (1 - b)
        # The kernel's gradient is gain·d, which is what the trace gains.
        c = constants(a.dtype, scale * gain, l2 * gain, rate, step.l1, keep, now / gain, then, threshold)
        slots = frozen(state.slots)
        _momentum(frozen(a), frozen(g), slots[0], out, new.slots[0], frozen(step.penalised), c)


@dataclass(frozen=True)
class Momentum(_Trace):
    """``m ← d + momentum·m``, ``w ← w − lr·m``, soft threshold by ``lr·l1/(1 − momentum)`` (Polyak, 1964)."""

    @property
    def name(self) -> str:
        """``momentum``."""
        return "momentum"

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """One step along the trace."""
        self._step(a, g, state, totals, step, out, new, (0.0, 1.0))


@dataclass(frozen=True)
class Nesterov(_Trace):
    """``m ← d + momentum·m``, ``w ← w − lr·(d + momentum·m)``, soft threshold as for ``Momentum``.

    Nesterov's accelerated gradient in the form of Sutskever, Martens, Dahl and Hinton, ICML 2013.
    """

    @property
    def name(self) -> str:
        """``nesterov``."""
        return "nesterov"

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """One step along the gradient at the point looked ahead to."""
        self._step(a, g, state, totals, step, out, new, (1.0, self.momentum))
