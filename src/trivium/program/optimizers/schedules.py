"""Learning rates as functions of the clock: frozen, without state, so that a resumed run goes on where it was."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

from trivium.errors import UsageError

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "InverseTime",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "as_schedule",
    "require",
]


def require(owner: str, option: str, value: float, allowed: bool, rule: str) -> None:
    """Raise UsageError unless ``allowed``: what was given and what may be."""
    if not allowed:
        raise UsageError(f"{owner}: {option} must be {rule}, got {value!r}")


def _positive(owner: object, *options: str) -> None:
    for option in options:
        value = getattr(owner, option)
        require(type(owner).__name__, option, value, math.isfinite(value) and value > 0, "above 0 and finite")


class Schedule(abc.ABC):
    """The learning rate of each clock. Subclasses are frozen dataclasses and are final."""

    @abc.abstractmethod
    def at(self, clock: int) -> float:
        """The rate at ``clock``, which counts from 0."""


@dataclass(frozen=True)
class Constant(Schedule):
    """Always ``lr``."""

    lr: float

    def __post_init__(self) -> None:
        _positive(self, "lr")

    def at(self, clock: int) -> float:  # noqa: ARG002 - the same at every clock
        """``lr``."""
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """``lr · factor^⌊clock / every⌋``.

    >>> [StepDecay(1.0, every=2, factor=0.5).at(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "lr", "every", "factor")

    def at(self, clock: int) -> float:
        """The rate after ``clock // every`` steps down."""
        return self.lr * self.factor ** (clock // self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """``lr · factor^(clock / every)``: as ``StepDecay`` at multiples of ``every``, smooth between."""

    lr: float
    every: float
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "lr", "every", "factor")

    def at(self, clock: int) -> float:
        """The smoothly decayed rate."""
        return float(self.lr * self.factor ** (clock / self.every))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from ``lr`` down to ``lr · floor`` in ``clocks``, then level.

    Loshchilov and Hutter, *SGDR: stochastic gradient descent with warm restarts*, ICLR 2017 (one period, no restart).
    """

    lr: float
    clocks: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "lr", "clocks")
        require("Cosine", "floor", self.floor, 0 <= self.floor <= 1, "between 0 and 1")

    def at(self, clock: int) -> float:
        """The rate on the half cosine."""
        fall = 0.5 * (1 + math.cos(math.pi * min(clock, self.clocks) / self.clocks))
        return self.lr * ((1 - self.floor) * fall + self.floor)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """``lr / √(1 + clock / every)``: the rate of the regret bounds of online convex optimization (Zinkevich, 2003)."""

    lr: float
    every: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "lr", "every")

    def at(self, clock: int) -> float:
        """The rate decayed by the square root of time."""
        return self.lr / math.sqrt(1 + clock / self.every)


@dataclass(frozen=True)
class InverseTime(Schedule):
    """``lr / (1 + clock / every)``: the rate for strongly convex objectives (Bottou, 2012)."""

    lr: float
    every: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "lr", "every")

    def at(self, clock: int) -> float:
        """The rate decayed by time."""
        return self.lr / (1 + clock / self.every)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Straight from ``start`` to the first rate of ``then`` in ``clocks``; then ``then``, whose clock begins at 0.

    Goyal et al., *Accurate, large minibatch SGD*, 2017.

    >>> [WarmUp(2, Constant(1.0)).at(t) for t in range(4)]
    [0.0, 0.5, 1.0, 1.0]
    """

    clocks: int
    then: Schedule
    start: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "clocks")
        require("WarmUp", "start", self.start, math.isfinite(self.start) and self.start >= 0, "0 or more and finite")

    def at(self, clock: int) -> float:
        """The rate on the ramp, or of ``then`` after it."""
        if clock >= self.clocks:
            return self.then.at(clock - self.clocks)
        return self.start + (self.then.at(0) - self.start) * clock / self.clocks


def as_schedule(lr: float | Schedule) -> Schedule:
    """``lr`` itself, or a constant schedule of it."""
    return lr if isinstance(lr, Schedule) else Constant(lr)
