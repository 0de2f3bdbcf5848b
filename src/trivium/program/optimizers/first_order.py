"""What every first-order optimizer shares: the rate, the mean gradient, clipping, and the rules for penalties.

The gradient that steps see is that of the objective's smooth part,

    d = c · (g/weight + l2·w)      c = min(1, clip_norm / ‖g/weight + l2·w‖₂), or 1 without ``clip_norm``

with l2 on penalised ranges only. L1 is never part of it: it is applied *after* the step as the proximal step of the
rate that each coordinate moved with, ``w ← sign(w)·max(|w| − rate·l1, 0)``, so that coordinates become exactly zero
(Duchi and Singer, *Efficient online and batch learning using forward backward splitting*, JMLR 2009).

A step on a part of a clock (``Step.share`` = s < 1, d the mean over the part's own rows) goes the part s of the way of
a whole one, and ages what is remembered by s of a clock::

    rates, thresholds, decay      lr·s                      factors of memory     b^s
    sums over clocks              + s·(what a clock adds)   counts of clocks      clock + done + s

so S parts with one gradient d leave the memory that a whole step leaves, and move w as far, to first order in lr. With
s = 1 each constant is exactly what it would be without (b^1 = b, x·1 = x): the same bits. Weighting pushes by rows
rather than rates by 1/staleness is what SSP's analysis has (Ho et al., *More effective distributed ML via a stale
synchronous parallel parameter server*, NIPS 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat, Optimizer, State, Step
from trivium.program.optimizers.compiled import blockwise, elementwise, frozen, segments
from trivium.program.optimizers.schedules import Schedule, as_schedule, require
from trivium.program.params import BLOCK

__all__ = ["FirstOrder", "check_fraction", "check_positive", "shrink", "trace_factors"]


@elementwise
def shrink(w: float, threshold: float) -> float:
    """Soft threshold; NaN stays NaN, so that a diverged run shows."""
    rest = abs(w) - threshold
    if rest <= 0:
        return w - w  # zero of w's own type
    return rest if w > 0 else -rest


@blockwise
def _square(a: Flat, g: Flat, scale: float, l2: float) -> float:
    """Σ (g·scale + a·l2)², products in float64."""
    acc = 0.0
    for i in range(a.size):
        d = g[i] * scale + a[i] * l2
        acc += d * d
    return acc


@elementwise
def _squares(a: Flat, g: Flat, scale: float, l2: float, penalised: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Fill column 0 of ``out`` with each block's share of the squared norm."""
    for b in range(len(out)):
        acc = 0.0
        cut = segments(b * BLOCK, min(a.size, (b + 1) * BLOCK), penalised)
        for k in range(len(cut)):
            lo, hi, under = cut[k, 0], cut[k, 1], cut[k, 2]
            acc += _square(a[lo:hi], g[lo:hi], scale, l2 if under else 0.0)
        out[b, 0] = acc


@dataclass(frozen=True)
class FirstOrder(Optimizer):
    """Base of the first-order optimizers.

    ``lr`` a number or a ``Schedule`` of the clock; ``clip_norm`` bounds the global 2-norm of the gradient (Pascanu,
    Mikolov, Bengio, *On the difficulty of training recurrent neural networks*, ICML 2013).
    """

    tolerates = True

    lr: float | Schedule = 0.01
    clip_norm: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.lr, Schedule):
            check_positive(self, "lr")
        if self.clip_norm is not None:
            check_positive(self, "clip_norm")
        object.__setattr__(self, "scalar_count", 0 if self.clip_norm is None else 1)

    def scalars(self, a: Flat, g: Flat, state: State, step: Step, out: NDArray[np.float64]) -> None:  # noqa: ARG002
        """Partial ‖g/weight + l2·w‖² of each block (with ``clip_norm`` only)."""
        _squares(frozen(a), frozen(g), _inverse(step.weight), float(step.l2), frozen(step.penalised), out)

    def rate(self, clock: int) -> float:
        """The learning rate at ``clock``."""
        lr = self.lr
        return lr if type(lr) is float else as_schedule(lr).at(clock)

    def factors(self, totals: NDArray[np.float64], step: Step) -> tuple[float, float]:
        """``(p, q)`` such that the gradient is ``p·g + q·w`` on penalised ranges, ``p·g`` elsewhere."""
        clip = 1.0
        if self.clip_norm is not None:
            norm = math.sqrt(totals[0])
            clip = self.clip_norm / norm if norm > self.clip_norm else 1.0
        return clip * _inverse(step.weight), clip * step.l2


def trace_factors(b: float, share: float, now: float, then: float) -> tuple[float, float, float, float]:
    """``(keep, gain, now, then)`` of ``m ← gain·d + keep·m``, ``w ← w − lr·(now·d + then·m)`` for a part of a clock.

    A whole clock has keep = b, gain = 1 and the ``now`` and ``then`` that are given. For the part s = ``share``::

        keep = b^s    gain = (1 − b^s)/(1 − b)    then' = then·b^(1−s)·gain    now' = s·now + (s·then − then')/(1 − b)

    the one solution for which parts with one d that add up to a clock end at the m and the w of the whole step, and for
    which a part moves w, in all that follows from it, s times as far as a whole step would.

    >>> trace_factors(0.9, 1.0, 0.0, 1.0)
    (0.9, 1.0, 0.0, 1.0)
    """
    if share == 1:
        return b, 1.0, now, then
    if b == 0:
        return 0.0, 1.0, share * now, share * then
    keep = b**share
    gain = (1 - keep) / (1 - b)
    after = then * b ** (1 - share) * gain
    return keep, gain, share * now + (share * then - after) / (1 - b), after


def _inverse(weight: float) -> float:
    # A clock whose rows all weigh nothing has no gradient: g is zero, and stays so.
    return 1.0 / weight if weight > 0 else 0.0


def check_positive(owner: Optimizer, *options: str) -> None:
    """UsageError unless each of ``options`` is above 0 and finite."""
    for option in options:
        value = getattr(owner, option)
        require(owner.name, option, value, math.isfinite(value) and value > 0, "above 0 and finite")


def check_fraction(owner: Optimizer, *options: str) -> None:
    """UsageError unless each of ``options`` lies in [0, 1)."""
    for option in options:
        value = getattr(owner, option)
        require(owner.name, option, value, 0 <= value < 1, "at least 0 and below 1")
