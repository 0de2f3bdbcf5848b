"""Multinomial logistic regression: logits x·W + b, cross entropy over weighted rows.

Dense rows (float32, float64, or uint8 with a scale) go through BLAS a tile at a time, CSR rows through compiled loops.
Parameters are float64 unless float32 is asked for; losses, and sums over tiles, are float64.
"""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import PlanError
from trivium.program.checks import classes_of, features_of, float_type, switch
from trivium.program.kernels.rows import Crew, Rows, resolve
from trivium.program.losses import softmax
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Softmax", "SoftmaxKernel"]

LEAST_SHARE = 1024  # rows a thread
TILE_BYTES = 1 << 18  # of x: a tile is read twice, the second time from the second cache
MOST_ROWS = 256  # of a tile
FEW_ROWS = 32  # of a tile: fewer would pack W too often
STEP = 8  # rows that the inner loop of a matrix product takes at a time


@dataclass(frozen=True)
class Softmax(Program):
    """Multinomial logistic regression; slices ``W`` (features, classes) and, with ``intercept``, ``b`` (classes,).

    b is free of penalty. ``dtype`` is float64 (also None) or float32.

    >>> Softmax().name
    'softmax'
    """

    intercept: bool = True
    dtype: str | None = None
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        switch("intercept", self.intercept)
        if self.dtype is not None:
            float_type(self.dtype)

    @property
    def name(self) -> str:
        """``softmax``."""
        return "softmax"

    @property
    def defaults(self) -> Defaults:
        """L-BFGS on the full batch: l2 = 1/n."""
        from trivium.program.optimizers.lbfgs import LBFGS

        return Defaults(LBFGS(tol=1e-6), batch_size=None, epochs=None, iterations=1000, l2_per_row=1.0, tol=1e-6)

    def for_data(self, spec: DataSpec) -> Softmax:
        """With the features and classes of ``spec``."""
        classes_of(spec, self.name)
        features_of(spec, self.name)
        return replace(self, spec=spec)

    @property
    def layout(self) -> Layout:
        """``W``, and ``b`` with an intercept."""
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        features, classes = self.spec.features, len(self.spec.classes)
        shapes: dict[str, tuple[int, ...]] = {"W": (features, classes)}
        return Layout.of(shapes | ({"b": (classes,)} if self.intercept else {}), self.dtype or "float64", free=("b",))

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  the objective is convex: zero is as good as any
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Matrix products for dense rows, compiled loops for CSR rows."""
        assert self.spec is not None
        threads = 1 if reproducible else threads
        if self.spec.sparse:
            return SparseSoftmaxKernel(self.layout, threads)
        return DenseSoftmaxKernel(self.layout, threads, rows, pad=reproducible)


class SoftmaxKernel(Kernel):
    """What dense and sparse rows share: shares of the rows a thread, sums in float64."""

    random = False
    sparse = False

    def __init__(self, layout: Layout, threads: int) -> None:
        from trivium.program.kernels import multinomial

        self._do = multinomial
        first, *free = layout.slices
        self._shape, self._classes = first.shape, first.shape[1]
        self._w = slice(first.start, first.stop)
        self._b = slice(free[0].start, free[0].stop) if free else None
        self._none = np.zeros(self._classes, layout.dtype)  # the intercept that is left out
        self._direct = layout.dtype == "float64"  # the first share writes to ``out`` itself
        self._crew = Crew(threads, LEAST_SHARE)
        self._sums = [np.zeros(self._shape) for _ in range(threads - self._direct)]
        self._slopes = [np.zeros(self._classes) for _ in range(threads)]

    def release(self) -> None:
        """It holds none."""

    def read(self, batch: Batch) -> Rows:
        """Nothing is gathered here: the loops follow the index."""
        return resolve(batch, self.sparse)

    def _params(self, a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        W = a[self._w].reshape(self._shape)
        return W, self._none if self._b is None else a[self._b]

    def _calm(self) -> AbstractContextManager[None]:
        """Around calls: what keeps threads that are not ours away."""
        return nullcontext()

    def delta(self, a: NDArray[Any], ready: Rows, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Σ weight·x ⊗ (p − e_y)."""
        ready.labels()
        out[self._w.stop :] = 0
        view = out[self._w].reshape(self._shape)
        sums, (W, b) = [view, *self._sums] if self._direct else self._sums, self._params(a)
        with self._calm():
            parts = self._crew.run(
                ready.count, lambda i, lo, hi: self._share(i, ready, lo, hi, W, b, sums[i], self._slopes[i])
            )
        for i in range(1, len(parts)):
            sums[0] += sums[i]
        if not self._direct:
            view[:] = sums[0]
        if self._b is not None:
            out[self._b] = sum(self._slopes[1 : len(parts)], self._slopes[0])
        weight, loss = parts[0] if len(parts) == 1 else map(sum, zip(*parts, strict=True))
        return float(ready.count), weight, loss

    @abc.abstractmethod
    def _share(
        self, i: int, ready: Rows, lo: int, hi: int, W: NDArray[Any], b: NDArray[Any], sums: Any, slope: Any
    ) -> tuple[float, float]:
        """Write the gradient of the rows ``lo`` to ``hi``; Σ weight and Σ weight·loss."""

    def _logits(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        W, b = self._params(a)
        logits = np.empty((ready.count, self._classes))
        with self._calm():
            self._crew.run(ready.count, lambda i, lo, hi: self._write(i, ready, lo, hi, W, b, logits[lo:hi]))
        return logits

    @abc.abstractmethod
    def _write(self, i: int, ready: Rows, lo: int, hi: int, W: NDArray[Any], b: NDArray[Any], out: Any) -> None:
        """Write the logits of the rows ``lo`` to ``hi``."""

    def evaluate(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Sums of rows, weight, cross entropy and right answers."""
        y, logits = ready.labels(), self._logits(a, ready)
        return np.array([ready.count, *self._do.score(logits, ready.start, ready.index, y, ready.weight)])

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Probabilities (rows, classes)."""
        return softmax(self._logits(a, ready))


class DenseSoftmaxKernel(SoftmaxKernel):
    """Two matrix products a tile. With ``pad`` all tiles have one shape."""

    def __init__(self, layout: Layout, threads: int, rows: int, *, pad: bool) -> None:
        super().__init__(layout, threads)
        from trivium.program.kernels import blas

        features, classes = self._shape
        self._pad, self._blas = pad, blas
        tile = min(MOST_ROWS, TILE_BYTES // (features * np.dtype(layout.dtype).itemsize))
        alone = blas.ALONE // (features * classes)
        self._alone = alone >= FEW_ROWS
        self._most = max(FEW_ROWS, min(tile, alone) if self._alone else tile) // STEP * STEP
        self._most = self._step(rows)
        size = range(threads)
        self._tiles = [np.zeros((self._most, features), layout.dtype) for _ in size]
        self._z = [np.zeros((self._most, classes), layout.dtype) for _ in size]
        self._product = [np.zeros((features, classes), layout.dtype) for _ in size]
        self._spread = [np.zeros((2, self._most)) for _ in size]

    def _step(self, rows: int) -> int:
        """Rows of a tile such that all tiles of ``rows`` rows are about equal."""
        count = max(1, -(-rows // self._most))
        return max(STEP, -(-rows // (count * STEP)) * STEP)

    def _calm(self) -> AbstractContextManager[None]:
        return nullcontext() if self._alone else self._blas.held().at(1)

    def _place(self, ready: Rows, lo: int, hi: int) -> tuple[Any, ...]:
        """The first arguments of the loops: where the rows are, and how they are cut."""
        plain = ready.index is None and ready.scale == 1.0 and ready.x.dtype == self._tiles[0].dtype and not self._pad
        whole = ready.x.reshape(-1, self._shape[0]) if plain else None
        return whole, ready.x, *ready.part(lo, hi), self._most if self._pad else self._step(hi - lo), self._pad

    def _share(
        self, i: int, ready: Rows, lo: int, hi: int, W: NDArray[Any], b: NDArray[Any], sums: Any, slope: Any
    ) -> tuple[float, float]:
        scratch = self._tiles[i], self._z[i], self._product[i], *self._spread[i]
        found: tuple[float, float] = self._do.dense_delta(
            *self._place(ready, lo, hi), ready.y, ready.weight, ready.scale, W, b, sums, slope, *scratch
        )
        return found

    def _write(self, i: int, ready: Rows, lo: int, hi: int, W: NDArray[Any], b: NDArray[Any], out: Any) -> None:
        self._do.dense_logits(*self._place(ready, lo, hi), ready.scale, W, b, self._tiles[i], self._z[i], out)


class SparseSoftmaxKernel(SoftmaxKernel):
    """Compiled cross entropy over CSR rows."""

    sparse = True

    def _share(
        self,
        i: int,  # noqa: ARG002  it needs no scratch
        ready: Rows,
        lo: int,
        hi: int,
        W: NDArray[Any],
        b: NDArray[Any],
        sums: Any,
        slope: Any,
    ) -> tuple[float, float]:
        csr, flat = ready.csr, sums.reshape(-1)
        assert csr is not None
        flat[:] = 0
        slope[:] = 0
        rows = csr.indptr, csr.indices, csr.values, *ready.part(lo, hi)
        found: tuple[float, float] = self._do.sparse_delta(*rows, ready.y, ready.weight, W.reshape(-1), b, flat, slope)
        return found

    def _write(self, i: int, ready: Rows, lo: int, hi: int, W: NDArray[Any], b: NDArray[Any], out: Any) -> None:  # noqa: ARG002
        csr = ready.csr
        assert csr is not None
        start, index, _ = ready.part(lo, hi)
        self._do.sparse_logits(csr.indptr, csr.indices, csr.values, start, index, W.reshape(-1), b, out)
