"""Stopping by the training loss, epoch after epoch, inside F: no look at the data is needed, and every design has it.

``Epochs`` steps like its ``inner`` optimizer. At the end of each epoch of ``steps`` clocks it compares the epoch's mean
loss with the best one so far; ``patience`` epochs in a row without an improvement of ``tol`` end the run, or, where
``adaptive``, divide the learning rate by 5 until it is 1e-6. It may keep the mean of all iterates (Polyak and Juditsky,
*Acceleration of stochastic approximation by averaging*, 1992), and it writes down the loss of each epoch.

Everything is in the optimizer's head, so that it survives a crash and does not depend on workers. A must be in one
shard. Each version has a head of its own, which each step copies: the losses of the last ``KEPT`` epochs are all that
it holds, and longer runs are made in blocks of so many epochs (``Ledger.carried``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat, Optimizer, State, Step
from trivium.program.optimizers.first_order import FirstOrder, trace_factors
from trivium.program.optimizers.schedules import Schedule, as_schedule

__all__ = ["KEPT", "Epochs", "Ledger", "Power", "RowRate", "Scaled", "Velocity"]

LEAST_RATE = 1e-6
DIVISOR = 5.0
KEPT = 512  # losses of epochs in a head
FIELDS = ("clock", "epochs", "loss", "weight", "best", "waited", "factor", "done", "averaged")


@dataclass(frozen=True)
class Power(Schedule):
    """``lr / (1 + rows·⌊clock / steps⌋)^power`` with ``steps``, or ``lr / (1 + clock)^power`` without.

    >>> [round(Power(1.0, 0.5).at(t), 3) for t in range(3)]
    [1.0, 0.707, 0.577]
    """

    lr: float
    power: float
    steps: int = 1
    rows: int = 1

    def at(self, clock: int) -> float:
        """The rate at ``clock``."""
        return float(self.lr / (1 + clock // self.steps * self.rows) ** self.power)


@dataclass(frozen=True)
class RowRate(Schedule):
    """scikit-learn's rates of SGD, η(t) after t rows, for steps of ``batch`` rows: batch·η(t), at most ``most``.

    A step along the mean gradient of ``batch`` rows, batch·η long, goes as far as ``batch`` steps of one row. ``kind``:
    ``constant`` η₀, ``optimal`` 1/(alpha·(first + t)), ``invscaling`` η₀/(1 + t)^power (Bottou, *Stochastic gradient
    descent tricks*, 2012). ``since`` rows were seen before.

    >>> RowRate("constant", eta0=0.1, batch=4.0).at(7)
    0.4
    """

    kind: str
    eta0: float = 0.01
    power: float = 0.5
    alpha: float = 1e-4
    first: float = 1.0
    batch: float = 1.0
    since: float = 0.0
    most: float = math.inf

    def at(self, clock: int) -> float:
        """The rate at ``clock``."""
        t = self.since + clock * self.batch
        if self.kind == "optimal":
            eta = 1.0 / (self.alpha * (self.first + t))
        elif self.kind == "invscaling":
            eta = self.eta0 / (1.0 + t) ** self.power
        else:
            eta = self.eta0
        return float(min(self.most, self.batch * eta))


@dataclass(frozen=True)
class Scaled(Schedule):
    """``inner`` times ``factor``."""

    inner: Schedule
    factor: float

    def at(self, clock: int) -> float:
        """The rate at ``clock``."""
        return self.factor * self.inner.at(clock)


@dataclass(frozen=True)
class Velocity(FirstOrder):
    """``v ← momentum·v − lr·d``, ``w ← w + v``, or ``w + momentum·v − lr·d`` with ``nesterov``; slot 0 is v.

    With a constant rate it is Momentum, or Nesterov; where rates fall, what was gathered at higher ones is not scaled
    down with them. Sutskever, Martens, Dahl and Hinton, *On the importance of initialization and momentum in deep
    learning*, ICML 2013.
    """

    momentum: float = 0.9
    nesterov: bool = True

    slots = 1

    @property
    def name(self) -> str:
        """``velocity``."""
        return "velocity"

    @property
    def _mix(self) -> tuple[float, float]:
        """How much of the move and of the velocity w goes by."""
        return (1.0, self.momentum) if self.nesterov else (0.0, 1.0)

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """One step."""
        keep, gain, now, then = trace_factors(self.momentum, step.share, *self._mix)
        scale, decay = self.factors(totals, step)
        move = g * -scale
        for lo, hi in step.penalised:
            move[lo:hi] -= decay * a[lo:hi]
        move *= self.rate(step.clock) * gain
        velocity = new.slots[0]
        np.multiply(state.slots[0], keep, out=velocity)
        velocity += move
        if (now, then) == (0.0, 1.0):
            np.add(a, velocity, out=out)
        else:
            np.add(a, then * velocity + (move if now == gain else now / gain * move), out=out)


@dataclass
class Ledger:
    """The scalars that ``Epochs`` keeps, by name, and the losses of the last epochs: of epoch i at i modulo length."""

    clock: float
    epochs: float
    loss: float
    weight: float
    best: float
    waited: float
    factor: float
    done: float
    averaged: float
    curve: NDArray[np.float64]

    @classmethod
    def of(cls, head: NDArray[np.float64]) -> Ledger:
        """Read from the tail of a head."""
        scalars = dict(zip(FIELDS, head[: len(FIELDS)].tolist(), strict=True))
        return cls(curve=head[len(FIELDS) :], **scalars)

    def write(self, head: NDArray[np.float64]) -> None:
        """Write the scalars."""
        head[: len(FIELDS)] = [getattr(self, name) for name in FIELDS]

    def carried(self, head: NDArray[np.float64]) -> None:
        """Write what a next run of the same fit must know, to a ledger that has begun."""
        for name in ("best", "waited", "factor"):
            head[FIELDS.index(name)] = getattr(self, name)


@dataclass(frozen=True)
class Epochs(Optimizer):
    """``inner`` with a stop; see the module.

    ``most`` epochs at most; ``tol`` −inf never stops earlier. ``penalised``: the loss includes l2. ``average``: rows
    after which the mean of the iterates begins, None for no mean; it is the last slot. They are counted from ``before``
    rows of earlier runs, ``rows`` an epoch. ``mean``: the count and the mean of earlier runs. ``kept`` losses are
    written down, or one for each epoch.
    """

    inner: Optimizer
    steps: int
    most: int
    tol: float = -math.inf
    patience: int = 5
    adaptive: bool = False
    penalised: bool = False
    average: float | None = None
    mean: tuple[float, Any] | None = None
    rows: float = 1.0
    before: float = 0.0
    kept: int = KEPT

    def __post_init__(self) -> None:
        object.__setattr__(self, "head_size", self.inner.head_size + len(FIELDS) + min(self.most, self.kept))
        object.__setattr__(self, "slots", self.inner.slots + (self.average is not None))
        object.__setattr__(self, "scalar_count", self.inner.scalar_count)

    @property
    def name(self) -> str:
        """That of the inner optimizer."""
        return self.inner.name

    def ledger(self, head: NDArray[np.float64]) -> Ledger:
        """What is written down in ``head``."""
        return Ledger.of(head[self.inner.head_size :])

    def init(self, a: Flat, state: State) -> None:
        """As ``inner``; nothing seen yet."""
        self.inner.init(a, self._inner(state))
        self.begin(state.head)
        if self.average is not None:
            count, mean = self.mean or (0.0, 0.0)
            state.head[self.inner.head_size + FIELDS.index("averaged")] = count
            state.slots[-1] = mean

    def begin(self, head: NDArray[np.float64]) -> None:
        """Write an empty ledger to ``head``."""
        tail = head[self.inner.head_size :]
        tail[:] = 0
        tail[FIELDS.index("best")], tail[FIELDS.index("factor")] = math.inf, 1.0

    def resumed(self, saved: dict[str, Any], before: Ledger | None = None) -> dict[str, Any]:
        """What an earlier run ended with, with a ledger of this run's length: empty, or of a fit that goes on."""
        kept = self.inner.head_size
        head = np.zeros(self.head_size)
        head[:kept] = saved["head"][:kept]
        self.begin(head)
        if before is not None:
            before.carried(head[kept:])
        return {**saved, "head": head}

    def finished(self, head: NDArray[np.float64]) -> bool:
        """Whether the loss has stopped improving, or all epochs are over."""
        return bool(self.ledger(head).done)

    def scalars(self, a: Flat, g: Flat, state: State, step: Step, out: NDArray[np.float64]) -> None:
        """As ``inner``."""
        self.inner.scalars(a, g, self._inner(state), step, out)

    def _inner(self, state: State) -> State:
        return State(state.head[: self.inner.head_size], state.slots[: self.inner.slots], state.ring)

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """One step of ``inner``, and the ledger."""
        new.head[:] = state.head
        ledger = self.ledger(new.head)
        inner: Any = self.inner
        if ledger.factor != 1.0:
            inner = replace(inner, lr=Scaled(as_schedule(inner.lr), ledger.factor))
        inner.update(a, g, self._inner(state), totals, step, out, self._inner(new))
        self._count(ledger, a, step)
        if self.average is not None:
            self._mean(ledger, state, step, out, new)
        ledger.write(new.head[self.inner.head_size :])

    def _mean(self, ledger: Ledger, state: State, step: Step, out: Flat, new: State) -> None:
        new.slots[-1] = state.slots[-1]
        assert self.average is not None
        if self.before + (step.clock + 1) * self.rows / self.steps >= self.average:
            ledger.averaged += 1
            new.slots[-1] += (out - state.slots[-1]) / ledger.averaged

    def _count(self, ledger: Ledger, a: Flat, step: Step) -> None:
        loss = step.loss
        if self.penalised and step.l2:
            square = sum(float(a[lo:hi] @ a[lo:hi]) for lo, hi in step.penalised)
            loss += 0.5 * step.l2 * square * step.weight
        ledger.clock, ledger.loss, ledger.weight = ledger.clock + 1, ledger.loss + loss, ledger.weight + step.weight
        if ledger.clock < self.steps:
            return
        mean = ledger.loss / ledger.weight if ledger.weight > 0 else math.nan
        if len(ledger.curve):
            ledger.curve[int(ledger.epochs) % len(ledger.curve)] = mean
        ledger.epochs += 1
        ledger.clock = ledger.loss = ledger.weight = 0.0
        ledger.waited = ledger.waited + 1 if mean > ledger.best - self.tol else 0
        ledger.best = min(ledger.best, mean)
        if ledger.waited >= self.patience and self.tol > -math.inf:
            self._end(ledger)

    def _end(self, ledger: Ledger) -> None:
        inner: Any = self.inner
        if self.adaptive and as_schedule(inner.lr).at(0) * ledger.factor > LEAST_RATE:
            ledger.factor /= DIVISOR
            ledger.waited = 0
        else:
            ledger.done = 1.0
