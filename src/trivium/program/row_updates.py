"""F of row tables: how what was pushed to a row changes it. One class an update; a row's state lies beside its values.

Rules
-----
* A push updates each of its rows once, by the sum of what was pushed to that row. Rows not pushed stay as they are: l1
  and l2 act on a row when it is pushed, and not in between. (FTRL's are exact: it decides anew from all it has seen.)
* ``scale`` turns the pushed sum into a mean: 1 over the weight of its rows. ``share`` weights the step (1: whole) and
  multiplies the rate; under FTRL, whose rate must not change, the gradient. ``add`` knows no rate, and a function
  of one's own gets ``scale × delta`` and nothing more.
* An update knows how often its row was updated (``counts``): Adam frees its moments of their bias row by row.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.errors import PlanError, unknown

__all__ = ["UPDATES", "Function", "RowAdaGrad", "RowAdam", "RowAdd", "RowFTRL", "RowFunction", "RowSGD", "RowUpdate"]

Flat = NDArray[Any]
Whole = NDArray[np.int64]
Function = Callable[[Any, Any, Any, int], None]


class RowUpdate(abc.ABC):
    """One F of rows. Subclasses are frozen dataclasses of hyper-parameters and are final."""

    integers: ClassVar[bool] = False  # whether rows may be whole numbers
    vectors: ClassVar[int] = 0  # vectors of state beside the values

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As ``TableSpec.update`` has it."""

    def state(self, width: int) -> int:
        """Elements of state of a row of ``width`` values."""
        return self.vectors * width

    def begin(self, width: int, dtype: str) -> Flat:
        """The state of a new row."""
        return np.zeros(self.state(width), dtype)

    def ready(self, width: int, dtype: str) -> None:  # noqa: B027 - a hook: most are compiled on their first use
        """Compile; PlanError where that cannot be done."""

    @abc.abstractmethod
    def apply(
        self, rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, scale: float = 1.0, share: float = 1.0
    ) -> None:
        """Update rows in place: row i begins at ``rows[at[i]]`` (flat), values then state, and gets ``deltas[i]``."""


def _positive(owner: RowUpdate, *options: str, least: bool = False) -> None:
    for option in options:
        value = getattr(owner, option)
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and (value > 0 or (least and value == 0))):
            raise PlanError(
                f"{owner.name}: {option}={value!r}: expected a number {'of 0 or more' if least else 'above 0'}"
            )


@dataclass(frozen=True)
class RowAdd(RowUpdate):
    """``w ← w + delta``: counts and sums, and integers exactly."""

    integers: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """``add``."""
        return "add"

    def apply(
        self,
        rows: Flat,
        at: Whole,
        counts: Whole,
        deltas: Flat,
        width: int,
        scale: float = 1.0,
        share: float = 1.0,  # noqa: ARG002 - there is no rate
    ) -> None:
        """One addition a row; ``scale`` must be whole where the rows are."""
        from trivium.program.kernels import rowwise

        if rows.dtype.kind == "i" and scale != int(scale):
            raise PlanError(f"add: scale={scale}: rows of whole numbers are not scaled by a fraction; use float64")
        rowwise.add(rows, at, counts, deltas, width, np.array([scale], rows.dtype))


@dataclass(frozen=True)
class RowSGD(RowUpdate):
    """``w ← w − lr·(d + l2·w)``, then soft threshold by ``lr·l1``."""

    lr: float = 0.1
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "lr")
        _positive(self, "l1", "l2", least=True)

    @property
    def name(self) -> str:
        """``sgd``."""
        return "sgd"

    def apply(
        self, rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, scale: float = 1.0, share: float = 1.0
    ) -> None:
        """One step a row."""
        from trivium.program.kernels import rowwise

        c = np.array([scale, self.lr * share, self.l1, self.l2], rows.dtype)
        rowwise.sgd(rows, at, counts, deltas, width, c)


@dataclass(frozen=True)
class RowAdaGrad(RowUpdate):
    """``s ← s + d²``, ``w ← w − lr·d/√(s + eps)``, then soft threshold by ``l1·lr/√(s + eps)``; d has ``l2·w`` in it.

    ``s`` begins at ``initial``. Duchi, Hazan and Singer, *Adaptive subgradient methods for online learning and
    stochastic optimization*, JMLR 2011.
    """

    lr: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    initial: float = 0.1
    eps: float = 1e-7
    vectors: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _positive(self, "lr", "eps")
        _positive(self, "l1", "l2", "initial", least=True)

    @property
    def name(self) -> str:
        """``adagrad``."""
        return "adagrad"

    def begin(self, width: int, dtype: str) -> Flat:
        """The sums begin at ``initial``."""
        return np.full(width, self.initial, dtype)

    def apply(
        self, rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, scale: float = 1.0, share: float = 1.0
    ) -> None:
        """One step a row, each coordinate with its own rate."""
        from trivium.program.kernels import rowwise

        c = np.array([scale, self.lr * share, self.l1, self.l2, self.eps], rows.dtype)
        rowwise.adagrad(rows, at, counts, deltas, width, c)


@dataclass(frozen=True)
class RowAdam(RowUpdate):
    """Adam with a step counter a row: ``m``, ``v`` and their bias are those of the row's own updates ("lazy" Adam).

    ``w ← w − lr·m̂/(√v̂ + eps)``, then soft threshold by ``l1·lr/(√v̂ + eps)``. Kingma and Ba, *Adam: a method for
    stochastic optimization*, ICLR 2015.
    """

    lr: float = 1e-3
    l1: float = 0.0
    l2: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    vectors: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive(self, "lr", "eps")
        _positive(self, "l1", "l2", "b1", "b2", least=True)
        for option in ("b1", "b2"):
            if getattr(self, option) >= 1:
                raise PlanError(f"adam: {option}={getattr(self, option)}: expected at least 0 and below 1")

    @property
    def name(self) -> str:
        """``adam``."""
        return "adam"

    def apply(
        self, rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, scale: float = 1.0, share: float = 1.0
    ) -> None:
        """One step a row."""
        from trivium.program.kernels import rowwise

        b1, b2 = self.b1, self.b2
        c = np.array([scale, self.lr * share, self.l1, self.l2, self.eps, b1, 1 - b1, b2, 1 - b2], np.float64)
        rowwise.adam(rows, at, counts, deltas, width, c)


@dataclass(frozen=True)
class RowFTRL(RowUpdate):
    """Follow the proximally regularised leader, row by row, with α = ``lr``, λ1 = ``l1``, λ2 = ``l2``.

    McMahan et al., *Ad click prediction: a view from the trenches*, KDD 2013, Algorithm 1::

        σ = (√(n + d²) − √n) / α;  z ← z + d − σ·w;  n ← n + d²
        w = 0 where |z| ≤ λ1, else −(z − sign(z)·λ1) / ((β + √n)/α + λ2)

    λ1 and λ2 stand against the *sum* of losses over pushes. A row that begins at w ≠ 0 has the z that gives that w.
    """

    lr: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    beta: float = 1.0
    vectors: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive(self, "lr", "beta")
        _positive(self, "l1", "l2", least=True)

    @property
    def name(self) -> str:
        """``ftrl``."""
        return "ftrl"

    def apply(
        self, rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, scale: float = 1.0, share: float = 1.0
    ) -> None:
        """One round a row; a share of a step is a share of its gradient."""
        from trivium.program.kernels import rowwise

        c = np.array([scale * share, self.lr, self.l1, self.l2, self.beta], rows.dtype)
        rowwise.ftrl(rows, at, counts, deltas, width, c)


@dataclass(frozen=True)
class RowFunction(RowUpdate):
    """A function of one's own: ``update(row, delta, state, step)`` changes ``row`` and ``state`` in place.

    ``row`` and ``delta`` (width,), ``state`` (``size``,), zeros at first, ``step`` 1 at the row's first update. It is
    compiled by numba (it may be so already); an error that it raises leaves its block of rows as it was.
    """

    function: Function
    size: int = 0
    integers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise PlanError(f"update={self.function!r}: expected a function update(row, delta, state, step), or a name")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 0:
            raise PlanError(f"state={self.size!r}: elements of state of a row, a whole number of 0 or more")

    @property
    def name(self) -> str:
        """The function's own."""
        return str(getattr(self.function, "__name__", "function"))

    def state(self, width: int) -> int:  # noqa: ARG002 - it is what it says
        """``size``."""
        return self.size

    def ready(self, width: int, dtype: str) -> None:
        """Compile it, on no rows."""
        from numba.core.errors import NumbaError

        try:
            self.apply(
                np.zeros(0, dtype), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, width), dtype), width
            )
        except NumbaError as error:
            raise PlanError(
                f"update={self.name}: numba cannot compile it as update(row, delta, state, step), with arrays of "
                f"{dtype} and a whole number: {error}"
            ) from error

    def apply(
        self,
        rows: Flat,
        at: Whole,
        counts: Whole,
        deltas: Flat,
        width: int,
        scale: float = 1.0,
        share: float = 1.0,  # noqa: ARG002 - it knows no rate
    ) -> None:
        """One call a row."""
        scaled = np.ascontiguousarray(deltas if scale == 1 else deltas * rows.dtype.type(scale))
        _loop(self.function)(rows, at, counts, scaled, width, self.size)


@lru_cache(maxsize=64)
def _loop(function: Function) -> Callable[..., None]:
    """``function`` over many rows, compiled; not kept on disk, for what it calls may change."""
    import numba
    from numba.core.dispatcher import Dispatcher

    one = function if isinstance(function, Dispatcher) else numba.njit(nogil=True)(function)

    def loop(rows: Flat, at: Whole, counts: Whole, deltas: Flat, width: int, size: int) -> None:
        for i in range(len(at)):
            a = at[i]
            one(rows[a : a + width], deltas[i], rows[a + width : a + width + size], counts[i] + 1)

    made: Callable[..., None] = numba.njit(nogil=True)(loop)
    return made


UPDATES: dict[str, type[RowUpdate]] = {
    "adagrad": RowAdaGrad,
    "adam": RowAdam,
    "add": RowAdd,
    "ftrl": RowFTRL,
    "sgd": RowSGD,
}


def named(name: str, **options: float) -> RowUpdate:
    """The update ``name`` with ``options``; PlanError for an unknown name, or an option that it does not have."""
    if name not in UPDATES:
        raise PlanError(unknown("update", name, UPDATES))
    kind = UPDATES[name]
    for option in options:
        if option not in kind.__dataclass_fields__:  # type: ignore[attr-defined]
            raise PlanError(f"update {name!r} has no {option}: leave it out, or use ftrl, adagrad, adam or sgd")
    return kind(**options)
