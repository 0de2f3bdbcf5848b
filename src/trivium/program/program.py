"""The one abstraction: A(t) = F(A(t−1), Σ Δ(A(t−1), D)), as pure functions with no word about processes.

A ``Program`` names the parameters (a ``Layout``), makes their first value, and builds a ``Kernel``: the compiled Δ,
evaluation and prediction of one process. F is an ``Optimizer``. (Xing et al., *Petuum*, KDD 2015.)
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import Layout

__all__ = ["EVALUATION", "STATS", "Defaults", "Kernel", "Output", "Program"]

Output = Literal["probability", "score", "value"]

STATS = ("rows", "weight", "loss")  # what every Δ carries, float64, in this order
EVALUATION = ("rows", "weight", "loss", "correct")
"""Sums that ``evaluate`` returns; "correct" is a weight sum, NaN where there is no right and wrong (regression)."""


@dataclass(frozen=True)
class Defaults:
    """What a program trains with when the person says nothing."""

    optimizer: Optimizer
    batch_size: int | None  # None: full batch
    epochs: int | None
    iterations: int | None
    l2_per_row: float = 0.0  # l2 = this / n
    tol: float = 0.0
    valid: float = 0.0
    patience: int | None = None


class Kernel(abc.ABC):
    """Compiled functions of one process. Not thread safe; holds its own scratch memory.

    ``read`` gathers rows (the breakdown's *read*), ``delta`` and ``evaluate`` compute (*compute*). ``random``: whether
    anything in Δ is, so that it must be seeded.
    """

    random: bool = True

    @abc.abstractmethod
    def read(self, batch: Batch) -> Any:
        """Make ``batch`` ready for ``delta`` or ``evaluate``: gather, convert, pad with rows of weight 0."""

    @abc.abstractmethod
    def delta(self, a: NDArray[Any], ready: Any, out: NDArray[Any], key: int) -> tuple[float, float, float]:
        """Write Σ over the batch's rows of weight × gradient to ``out`` (flat, ``delta_layout``); return ``STATS``.

        ``key`` seeds whatever is random in Δ (dropout …); it follows from (seed, lane, clock) alone, and is 0 where
        the kernel says that nothing is.
        """

    @abc.abstractmethod
    def evaluate(self, a: NDArray[Any], ready: Any) -> NDArray[np.float64]:
        """``EVALUATION`` sums over the batch's rows, float64, in fixed order."""

    @abc.abstractmethod
    def predict(self, a: NDArray[Any], ready: Any) -> NDArray[Any]:
        """What ``Program.output`` says: probabilities (rows, classes), or scores or values (rows,)."""

    @abc.abstractmethod
    def release(self) -> None:
        """Let go of every buffer of the run, or its memory stays; the compiled functions stay for the next one."""

    def refresh(self, a: NDArray[Any]) -> None:  # noqa: B027  a hook; most kernels have nothing to alias
        """Told once when ``a`` is a buffer seen for the first time (to alias it); contents may change later."""


class Program(abc.ABC):
    """What is trained. Instances are immutable and cheap to send (cloudpickle, at launch)."""

    consistencies: ClassVar[frozenset[str]] = frozenset({"bsp", "ssp", "essp", "asp", "backup"})  # kinds, as in Rule

    evaluates: ClassVar[bool] = True  # whether its kernels can look at rows

    @property
    def row_shards(self) -> int:
        """Shards of its row tables, which come after those of dense A."""
        return 0

    @property
    def xla(self) -> bool:
        """Whether its kernels are compiled by XLA: processes then import jax before they fork."""
        return False

    @property
    def output(self) -> Output:
        """What ``predict`` gives.

        ``probability``: (rows, classes), each row sums to 1. ``score``: one margin a row, above 0 for the second class,
        with no scale of its own. ``value``: numbers, (rows,) or (rows, targets).
        """
        return "probability"

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As on the command line: ``logistic``, ``mlp:500``."""

    @property
    @abc.abstractmethod
    def defaults(self) -> Defaults:
        """What it trains with when the person says nothing."""

    @abc.abstractmethod
    def for_data(self, spec: DataSpec) -> Program:
        """The program with the shapes that ``spec`` implies; DataError where the data cannot be learned from."""

    @property
    @abc.abstractmethod
    def layout(self) -> Layout:
        """A's layout; only after ``for_data``."""

    @property
    def delta_layout(self) -> Layout:
        """Δ's layout; A's unless the program says otherwise."""
        return self.layout

    @abc.abstractmethod
    def init(self, seed: int) -> NDArray[Any]:
        """The first A, flat."""

    @abc.abstractmethod
    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Compile for batches of at most ``rows`` rows on ``threads`` threads.

        With ``reproducible``: one compiled shape (``rows``), single-thread kernels, fixed order of every sum.
        """

    @staticmethod
    def from_loss(
        init: Callable[[Any], Any],
        loss: Callable[[Any, dict[str, Any], Any], Any],
        optimizer: Optimizer,
        *,
        per_row: bool = False,
        predict: Callable[[Any, dict[str, Any]], Any] | None = None,
        free: tuple[str, ...] = (),
        batch_size: int | None = 256,
        epochs: int | None = 10,
        name: str = "custom",
    ) -> Program:
        """A program from JAX functions: ``init(key)`` → pytree, ``loss(params, batch, key)`` → (mean loss, aux).

        ``batch`` is a dict of the table's columns. ``per_row``: loss and aux have one element a row, which Trivium
        weighs. ``predict(params, batch)`` answers for rows; names in ``free`` are not penalised. See ``from_loss.py``.
        """
        from trivium.program.from_loss import FromLoss

        return FromLoss(init, loss, optimizer, per_row, predict, free, batch_size, epochs, name)
