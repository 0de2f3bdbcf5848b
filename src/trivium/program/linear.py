"""Linear models of one margin x·w + b: Δ is the gradient of a loss of weighted rows.

Two classes: squared_hinge (``svm``), hinge, modified_huber, perceptron; what is predicted is the margin, a score.
Numbers: squared (``linear``), huber, epsilon_insensitive, squared_epsilon_insensitive; what is predicted is the value.
The formulas are in ``losses``. The intercept b is free of penalty, or left out. Dense rows (float32, float64, or uint8
with a scale) and CSR rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError, unknown
from trivium.program.checks import classes_of, features_of, float_type, switch, targets_of
from trivium.program.kernels.rows import Crew, Rows, resolve
from trivium.program.losses import CLASSIFICATION, CODES, REGRESSION
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Output, Program

__all__ = ["LOSSES", "Linear", "LinearKernel", "linear_layout"]

LOSSES = tuple(name for name in CODES if name != "log")
SMOOTH = ("squared_hinge", "modified_huber", "squared", "huber", "squared_epsilon_insensitive")
NAMES = {"squared": "linear", "squared_hinge": "svm"}

TILE_BYTES = 65536  # of x: two tiles, and the gradient, stay in the second cache
LEAST_SHARE = 4096  # rows: below, handing a share to a thread costs more than it saves


def linear_layout(spec: DataSpec | None, dtype: str, *, intercept: bool) -> Layout:
    """``w`` (features,), and ``b`` (1,) with an intercept, free of penalty."""
    if spec is None:
        raise PlanError("the shapes follow from the data: call for_data first")
    shapes: dict[str, tuple[int, ...]] = {"w": (spec.features,)}
    return Layout.of(shapes | ({"b": (1,)} if intercept else {}), dtype, free=("b",))


@dataclass(frozen=True)
class Linear(Program):
    """A linear model with ``loss``, one of ``LOSSES``; slices ``w`` (features,) and, with ``intercept``, ``b`` (1,).

    ``epsilon`` is where huber turns linear, and the error that the insensitive losses forgive. Smooth losses train by
    L-BFGS on the full batch, the others by AdaGrad.

    >>> Linear("squared_hinge").name, Linear("huber", epsilon=1.35).output
    ('svm', 'value')
    """

    loss: str = "squared"
    intercept: bool = True
    dtype: str = "float64"
    epsilon: float = 0.1
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        switch("intercept", self.intercept)
        if self.loss == "log":
            raise PlanError("loss 'log': that is the model 'logistic', whose predictions are probabilities")
        if self.loss not in LOSSES:
            raise PlanError(unknown("loss", self.loss, LOSSES))
        float_type(self.dtype)
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise PlanError(f"epsilon={self.epsilon}: expected a number that is 0 or more")

    @property
    def name(self) -> str:
        """``linear`` with the squared loss, ``svm`` with the squared hinge, else ``linear:LOSS``."""
        return NAMES.get(self.loss, f"linear:{self.loss}")

    @property
    def output(self) -> Output:
        """Margins of two classes, or values."""
        return "score" if self.loss in CLASSIFICATION else "value"

    @property
    def defaults(self) -> Defaults:
        """L-BFGS on the full batch where the loss is smooth; l2 = 1/n for classes, none for numbers."""
        l2 = 1.0 if self.loss in CLASSIFICATION else 0.0
        if self.loss in SMOOTH:
            from trivium.program.optimizers.lbfgs import LBFGS

            return Defaults(LBFGS(tol=1e-6), batch_size=None, epochs=None, iterations=1000, l2_per_row=l2, tol=1e-6)
        from trivium.program.optimizers.adagrad import AdaGrad

        return Defaults(AdaGrad(lr=0.1), batch_size=256, epochs=20, iterations=None, l2_per_row=l2)

    def for_data(self, spec: DataSpec) -> Linear:
        """With the number of features of ``spec``; DataError unless the labels are of the loss's kind."""
        features_of(spec, self.name)
        if self.loss in REGRESSION:
            targets_of(spec, self.name)
        elif (count := classes_of(spec, self.name)) != 2:
            raise DataError(f"the labels have {count} classes; {self.name} separates two: use the model 'softmax'")
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
        return LinearKernel(self.layout, self.spec, 1 if reproducible else threads, self.loss, self.epsilon)


class LinearKernel(Kernel):
    """Compiled loss and gradient of one process; predicts margins."""

    random = False

    def __init__(self, layout: Layout, spec: DataSpec, threads: int, loss: str, epsilon: float = 0.0) -> None:
        from trivium.program.kernels import linear

        self._do = linear
        self._sparse, self._code, self._epsilon = spec.sparse, CODES[loss], float(epsilon)
        self._classes = loss in CLASSIFICATION
        self._w = slice(layout.slices[0].start, layout.slices[0].stop)
        self._b = layout.slices[1].start if len(layout.slices) > 1 else -1
        width = np.dtype(spec.columns["x"][0]).itemsize * (
            spec.nnz // max(spec.rows, 1) if spec.sparse else spec.features
        )
        tile = max(4, min(256, TILE_BYTES // max(width, 1)) // 4 * 4)
        self._crew = Crew(threads, LEAST_SHARE)
        self._tiles = [np.zeros((3, tile)) for _ in range(threads)]
        self._residual = [np.zeros(tile, layout.dtype) for _ in range(threads)]
        self._g = [np.zeros(0 if spec.sparse else spec.features, layout.dtype) for _ in range(threads)]
        self._direct = threads == 1 and layout.dtype == "float64"
        self._sums = [np.zeros(spec.features) for _ in range(0 if self._direct else threads)]

    def release(self) -> None:
        """It holds none."""

    def read(self, batch: Batch) -> Rows:
        """Nothing is gathered: the loops follow the index."""
        return resolve(batch, self._sparse)

    def _params(self, a: NDArray[Any]) -> tuple[NDArray[Any], float]:
        return a[self._w], float(a[self._b]) if self._b >= 0 else 0.0

    def delta(self, a: NDArray[Any], ready: Rows, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Σ weight·loss'·x to ``w``, Σ weight·loss' to ``b``."""
        out[:] = 0
        (w, b), y = self._params(a), ready.labels()
        slope = out[self._w]
        sums = [slope] if self._direct else self._sums

        def work(i: int, lo: int, hi: int) -> tuple[float, float, float]:
            if not self._direct:
                sums[i][:] = 0
            return self._share(ready, ready.part(lo, hi), y, w, b, sums[i], i)

        parts = self._crew.run(ready.count, work)
        if not self._direct:
            for i in range(1, len(parts)):
                sums[0] += sums[i]
            slope[:] = sums[0]
        weight, loss, intercept = parts[0] if len(parts) == 1 else map(sum, zip(*parts, strict=True))
        if self._b >= 0:
            out[self._b] = intercept
        return float(ready.count), weight, loss

    def _share(
        self, ready: Rows, part: tuple[int, Any, int], y: NDArray[Any], w: NDArray[Any], b: float, sums: Any, i: int
    ) -> tuple[float, float, float]:
        loss = self._code, self._epsilon
        if ready.csr is None:
            tiles, residual, g = self._tiles[i], self._residual[i], self._g[i]
            dense: tuple[float, float, float] = self._do.dense_delta(
                ready.x, *part, y, ready.weight, *loss, ready.scale, w, b, sums, tiles, residual, g
            )
            return dense
        csr = ready.csr
        found: tuple[float, float, float] = self._do.sparse_delta(
            csr.indptr, csr.indices, csr.values, *part, y, ready.weight, *loss, w, b, sums, self._tiles[i]
        )
        return found

    def _margins(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        margins = np.empty(ready.count)
        w, b = self._params(a)

        def work(i: int, lo: int, hi: int) -> None:
            part, out = ready.part(lo, hi), margins[lo:hi]
            if ready.csr is None:
                self._do.dense_margins(ready.x, *part, ready.scale, w, b, self._tiles[i], out)
            else:
                csr = ready.csr
                self._do.sparse_margins(csr.indptr, csr.indices, csr.values, *part, w, b, out)

        self._crew.run(ready.count, work)
        return margins

    def evaluate(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Sums of rows, weight, loss and right answers (margin 0 counts as the first class; NaN for regression)."""
        margins, y = self._margins(a, ready), ready.labels()
        weight, loss, correct = self._do.score(
            margins, ready.start, ready.index, y, ready.weight, self._code, self._epsilon, self._tiles[0]
        )
        return np.array([ready.count, weight, loss, correct if self._classes else math.nan])

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Margins or values, (rows,)."""
        return self._margins(a, ready)
