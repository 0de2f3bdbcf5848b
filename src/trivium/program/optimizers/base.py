"""The contract of F: how a summed delta becomes new parameters, shard by shard.

An optimizer is state in, state out. It never sees processes: it is handed one shard's elements as flat arrays and
writes into other flat arrays, so that what is not committed does not exist.

Two steps
---------
1. ``scalars`` (absent for elementwise optimizers): float64 partial sums, one row for each block of 4,096 elements. The
   rows of *all* shards are then added in a fixed order (``total``), so bits never depend on where shards were cut.
2. ``update``: elementwise, given the totals.

Parts of a clock
----------------
Where staleness is allowed, F runs on each push: on rows that are a ``share`` of a clock's. An optimizer that
``tolerates`` this makes of S pushes of share 1/S, to first order in its rate, what it makes of one whole step.

Prior art: Optax's (init, update) pairs; vector-free L-BFGS (Chen, Wang, Zhou, NIPS 2014).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Optimizer", "State", "Step"]

Flat = NDArray[Any]


class Step(msgspec.Struct, frozen=True, gc=False):
    """What F knows of one clock besides the arrays.

    ``clock`` counts from 0; ``weight`` and ``loss`` are Σ of row weights and Σ of weighted losses (not means);
    ``penalised`` is ``Layout.penalised`` of the shard, ``l1`` and ``l2`` the factors of the objective
    ``loss/weight + l1·‖w‖₁ + (l2/2)·‖w‖₂²``.

    ``share``: the rows of this step over a clock's rows, 1 for a whole clock; ``done``: the share of ``clock`` that was
    applied before, so that a run has come ``clock + done`` clocks far, and after this step ``share`` further.
    """

    clock: int
    weight: float
    loss: float
    l1: float
    l2: float
    penalised: NDArray[np.int64]
    share: float = 1.0
    done: float = 0.0

    @property
    def until(self) -> float:
        """Clocks that are applied after this step."""
        return self.clock + self.done + self.share


@dataclass
class State:
    """Optimizer state of one shard with ``n`` elements.

    ``head``  float64 (``Optimizer.head_size``,): scalars, the same in every shard;
    ``slots`` (``Optimizer.slots``, n): vectors rewritten by each update;
    ``ring``  (``Optimizer.ring``, n): rows written now and then, *not* copied with each version. A row that the
    committed ``head`` names as live must not be written; ``head`` says which are.
    """

    head: NDArray[np.float64]
    slots: Flat
    ring: Flat


class Optimizer(abc.ABC):
    """One F. Subclasses are frozen dataclasses of hyper-parameters and are final.

    ``tolerates``: it may be applied push by push (``Step.share``), with gradients of parameters that are not the newest
    ones. Those that look back at what they did (line searches, solvers, tests of epochs) need whole and fresh sums.
    """

    tolerates: bool = False
    slots: int = 0
    head_size: int = 0
    ring: int = 0
    scalar_count: int = 0  # columns of the partial sums; 0: elementwise, step 1 is skipped

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name on the command line."""

    def init(self, a: Flat, state: State) -> None:  # noqa: B027 - optional: all zero suits many
        """Fill ``state`` (all zero when called) for parameters ``a``."""

    def scalars(  # only called where there are scalars
        self,
        a: Flat,  # noqa: ARG002
        g: Flat,  # noqa: ARG002
        state: State,  # noqa: ARG002
        step: Step,  # noqa: ARG002
        out: NDArray[np.float64],  # noqa: ARG002
    ) -> None:
        """Write partial sums of this shard to ``out``, shape (blocks of the shard, ``scalar_count``)."""
        raise AssertionError(f"{self.name} is elementwise")

    @abc.abstractmethod
    def update(
        self,
        a: Flat,
        g: Flat,
        state: State,
        totals: NDArray[np.float64],
        step: Step,
        out: Flat,
        new: State,
    ) -> None:
        """Write the next parameters to ``out`` and the next state to ``new``.

        ``g`` is Σ of the deltas (a sum over weighted rows, not a mean). ``out``, ``new.head`` and ``new.slots`` hold
        garbage on entry and share no memory with ``a`` and ``state``; ``new.ring`` *is* ``state.ring``.
        """

    def finished(self, head: NDArray[np.float64]) -> bool:  # noqa: ARG002 - most never finish by themselves
        """Whether the optimizer itself has converged (``tol``) or cannot go on."""
        return False

    def iterations(self, head: NDArray[np.float64], clock: int) -> int:  # noqa: ARG002 - most take one a clock
        """Iterations done, where these differ from clocks (line searches take several)."""
        return clock
