"""Logistic regression of two classes: Δ is the gradient of the log loss of weighted rows.

    loss(w, b) = Σ weightᵢ · log(1 + exp(−sᵢ·(xᵢ·w + b))),   sᵢ = +1 for the second class, −1 for the first

The intercept b is free of penalty. Dense rows (float32, float64, or uint8 with a scale) and CSR rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError
from trivium.program.checks import classes_of, features_of
from trivium.program.kernels.rows import Crew, Rows, resolve
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Logistic", "LogisticKernel"]

TILE_BYTES = 65536  # of x: two tiles, and the gradient, stay in the second cache
LEAST_SHARE = 4096  # rows: below, handing a share to a thread costs more than it saves


@dataclass(frozen=True)
class Logistic(Program):
    """Two-class logistic regression; slices ``w`` (features,) and ``b`` (1,) in ``dtype``.

    >>> Logistic().name
    'logistic'
    """

    dtype: str = "float64"
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise PlanError(f"dtype {self.dtype!r}: parameters are float32 or float64")

    @property
    def name(self) -> str:
        """``logistic``."""
        return "logistic"

    @property
    def defaults(self) -> Defaults:
        """L-BFGS on the full batch, as scikit-learn does: l2 = 1/n."""
        from trivium.program.optimizers.lbfgs import LBFGS

        return Defaults(LBFGS(tol=1e-4), batch_size=None, epochs=None, iterations=100, l2_per_row=1.0, tol=1e-4)

    def for_data(self, spec: DataSpec) -> Logistic:
        """With the number of features of ``spec``; DataError unless there are two classes."""
        features_of(spec, self.name)
        count = classes_of(spec, self.name)
        if count != 2:
            raise DataError(f"the labels have {count} classes; logistic separates two: use the model 'softmax'")
        return replace(self, spec=spec)

    @property
    def layout(self) -> Layout:
        """``w`` and ``b``."""
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        return Layout.of({"w": (self.spec.features,), "b": (1,)}, self.dtype, free=("b",))

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  the objective is convex: zero is as good as any
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  takes any number of rows
        """Compiled loops; ``rows`` does not matter to them."""
        assert self.spec is not None
        return LogisticKernel(self.layout, self.spec, 1 if reproducible else threads)


class LogisticKernel(Kernel):
    """Compiled log loss of one process."""

    random = False

    def __init__(self, layout: Layout, spec: DataSpec, threads: int) -> None:
        from trivium.program.kernels import linear

        self._do = linear
        self._sparse = spec.sparse
        self._w, self._b = layout.slices[0], layout.slices[1].start
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

    def delta(self, a: NDArray[Any], ready: Rows, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Σ weight·(p − y)·x to ``w``, Σ weight·(p − y) to ``b``."""
        out[:] = 0
        w, b, y = a[self._w.start : self._w.stop], float(a[self._b]), ready.labels()
        slope = out[self._w.start : self._w.stop]
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
        weight, loss, intercept = (sum(column) for column in zip(*parts, strict=True))
        out[self._b] = intercept
        return float(ready.count), weight, loss

    def _share(
        self, ready: Rows, part: tuple[int, Any, int], y: NDArray[Any], w: NDArray[Any], b: float, sums: Any, i: int
    ) -> tuple[float, float, float]:
        if ready.csr is None:
            dense: tuple[float, float, float] = self._do.dense_delta(
                ready.x, *part, y, ready.weight, ready.scale, w, b, sums, self._tiles[i], self._residual[i], self._g[i]
            )
            return dense
        csr = ready.csr
        found: tuple[float, float, float] = self._do.sparse_delta(
            csr.indptr, csr.indices, csr.values, *part, y, ready.weight, w, b, sums, self._tiles[i]
        )
        return found

    def _margins(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        margins = np.empty(ready.count)
        w, b = a[self._w.start : self._w.stop], float(a[self._b])

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
        """Sums of rows, weight, log loss and right answers (margin 0 counts as the first class)."""
        margins = self._margins(a, ready)
        sums = self._do.score(margins, ready.start, ready.index, ready.labels(), ready.weight, self._tiles[0])
        return np.array([ready.count, *sums])

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Probabilities of the two classes, (rows, 2)."""
        from scipy.special import expit

        margins = self._margins(a, ready)
        return np.stack([expit(-margins), expit(margins)], axis=1)
