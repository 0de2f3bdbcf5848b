"""Logistic regression of two classes: Δ is the gradient of the log loss of weighted rows.

    loss(w, b) = Σ weightᵢ · log(1 + exp(−sᵢ·(xᵢ·w + b))),   sᵢ = +1 for the second class, −1 for the first

The intercept b is free of penalty, or left out. Dense rows (float32, float64, or uint8 with a scale) and CSR rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import DataSpec
from trivium.errors import DataError
from trivium.program.checks import classes_of, features_of, float_type, switch
from trivium.program.kernels.rows import Rows
from trivium.program.linear import LinearKernel, linear_layout
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Logistic", "LogisticKernel"]


@dataclass(frozen=True)
class Logistic(Program):
    """Two-class logistic regression; slices ``w`` (features,) and, with ``intercept``, ``b`` (1,), in ``dtype``.

    >>> Logistic().name
    'logistic'
    """

    intercept: bool = True
    dtype: str = "float64"
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        switch("intercept", self.intercept)
        float_type(self.dtype)

    @property
    def name(self) -> str:
        """``logistic``."""
        return "logistic"

    @property
    def defaults(self) -> Defaults:
        """L-BFGS on the full batch, as scikit-learn does: l2 = 1/n."""
        from trivium.program.optimizers.lbfgs import LBFGS

        return Defaults(LBFGS(tol=1e-6), batch_size=None, epochs=None, iterations=1000, l2_per_row=1.0, tol=1e-6)

    def for_data(self, spec: DataSpec) -> Logistic:
        """With the number of features of ``spec``; DataError unless there are two classes."""
        features_of(spec, self.name)
        count = classes_of(spec, self.name)
        if count != 2:
            raise DataError(f"the labels have {count} classes; logistic separates two: use the model 'softmax'")
        return replace(self, spec=spec)

    @property
    def layout(self) -> Layout:
        """``w``, and ``b`` with an intercept."""
        return linear_layout(self.spec, self.dtype, intercept=self.intercept)

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  the objective is convex: zero is as good as any
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  takes any number of rows
        """Compiled loops; ``rows`` does not matter to them."""
        assert self.spec is not None
        return LogisticKernel(self.layout, self.spec, 1 if reproducible else threads, "log")


class LogisticKernel(LinearKernel):
    """Compiled log loss of one process; predicts probabilities."""

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Probabilities of the two classes, (rows, 2)."""
        from scipy.special import expit

        margins = self._margins(a, ready)
        return np.stack([expit(-margins), expit(margins)], axis=1)
