"""Programs that compute nothing, to time and to check what carries them.

``Null``: Δ is a constant, so what a step costs is what the platform costs. ``Count``: Δ counts rows in float64, so that
after c clocks A equals the rows handed in, exactly: a push lost or applied twice shows as a wrong integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import PlanError
from trivium.program.optimizers.base import Optimizer, State, Step
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Count", "Null", "Total"]


@dataclass(frozen=True)
class Total(Optimizer):
    """A + Σ: adds what was counted, with no mean and no penalty."""

    tolerates = True  # a sum is the same in parts

    @property
    def name(self) -> str:
        """``total``."""
        return "total"

    def update(
        self,
        a: NDArray[Any],
        g: NDArray[Any],
        state: State,  # noqa: ARG002  there is none
        totals: NDArray[np.float64],  # noqa: ARG002  elementwise
        step: Step,  # noqa: ARG002  a sum knows no clock
        out: NDArray[Any],
        new: State,  # noqa: ARG002  there is none
    ) -> None:
        """Write a + g to ``out``."""
        np.add(a, g, out=out)


@dataclass(frozen=True)
class Null(Program):
    """``n`` float32 parameters and a Δ of ones for each row's weight; any data."""

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise PlanError(f"null:{self.n}: at least one parameter")

    @property
    def name(self) -> str:
        """``null`` or ``null:n``."""
        return "null" if self.n == 1 else f"null:{self.n}"

    @property
    def defaults(self) -> Defaults:
        """SGD for one epoch of small batches."""
        from trivium.program.optimizers.sgd import SGD

        return Defaults(SGD(lr=0.1), batch_size=256, epochs=1, iterations=None)

    def for_data(self, spec: DataSpec) -> Null:  # noqa: ARG002  any data will do
        """Itself."""
        return self

    @property
    def layout(self) -> Layout:
        """One slice, ``a``."""
        return Layout.of({"a": (self.n,)}, "float32")

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  nothing is random
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  nothing is computed
        """Writes a constant."""
        return ConstantKernel(self.n, by_row=False)


@dataclass(frozen=True)
class Count(Program):
    """``n`` float64 counters; each row of a batch adds 1 to all of them, weights are ignored."""

    n: int = 1

    @property
    def name(self) -> str:
        """``count`` or ``count:n``."""
        return "count" if self.n == 1 else f"count:{self.n}"

    @property
    def defaults(self) -> Defaults:
        """The sum itself, one epoch."""
        return Defaults(Total(), batch_size=256, epochs=1, iterations=None)

    def for_data(self, spec: DataSpec) -> Count:  # noqa: ARG002  any data will do
        """Itself."""
        return self

    @property
    def layout(self) -> Layout:
        """One slice, ``a``, free of penalty."""
        return Layout.of({"a": (self.n,)}, "float64", free=("a",))

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  nothing is random
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  nothing is computed
        """Counts."""
        return ConstantKernel(self.n, by_row=True)


class ConstantKernel(Kernel):
    """Δ is 1, or the number of rows, in each of the first ``n`` elements."""

    random = False

    def __init__(self, n: int, by_row: bool) -> None:
        self._n, self._by_row = n, by_row

    def release(self) -> None:
        """It holds none."""

    def read(self, batch: Batch) -> int:
        """The number of rows."""
        return len(batch)

    def delta(self, a: NDArray[Any], ready: int, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Write the constant once."""
        out[: self._n] = ready if self._by_row else 1.0
        out[self._n :] = 0.0
        return float(ready), float(ready), 0.0

    def evaluate(self, a: NDArray[Any], ready: int) -> NDArray[np.float64]:  # noqa: ARG002
        """Rows and weight; there is no loss."""
        return np.array([ready, ready, 0.0, 0.0])

    def predict(self, a: NDArray[Any], ready: int) -> NDArray[Any]:
        """The first parameter for each row."""
        return np.full(ready, a[0])
