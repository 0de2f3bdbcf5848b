"""Multinomial logistic regression: logits x·W + b, cross entropy over weighted rows.

Dense rows go through XLA in float32, CSR rows through compiled loops in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import PlanError
from trivium.program.checks import classes_of, features_of
from trivium.program.kernels.rows import Crew, Rows, resolve
from trivium.program.losses import softmax
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Softmax", "SparseSoftmaxKernel"]

LEAST_SHARE = 1024  # rows a thread


@dataclass(frozen=True)
class Softmax(Program):
    """Multinomial logistic regression; slices ``W`` (features, classes) and ``b`` (classes,), b free of penalty.

    >>> Softmax().name
    'softmax'
    """

    spec: DataSpec | None = None

    @property
    def name(self) -> str:
        """``softmax``."""
        return "softmax"

    @property
    def xla(self) -> bool:
        """For dense rows, and as long as it is not known what they are."""
        return self.spec is None or not self.spec.sparse

    @property
    def defaults(self) -> Defaults:
        """L-BFGS on the full batch: l2 = 1/n."""
        from trivium.program.optimizers.lbfgs import LBFGS

        return Defaults(LBFGS(tol=1e-4), batch_size=None, epochs=None, iterations=100, l2_per_row=1.0, tol=1e-4)

    def for_data(self, spec: DataSpec) -> Softmax:
        """With the features and classes of ``spec``."""
        classes_of(spec, self.name)
        features_of(spec, self.name)
        return replace(self, spec=spec)

    @property
    def layout(self) -> Layout:
        """``W`` and ``b``."""
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        features, classes = self.spec.features, len(self.spec.classes)
        dtype = "float64" if self.spec.sparse else "float32"
        return Layout.of({"W": (features, classes), "b": (classes,)}, dtype, free=("b",))

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  the objective is convex: zero is as good as any
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """XLA for dense rows, compiled loops for CSR rows."""
        assert self.spec is not None
        threads = 1 if reproducible else threads
        if self.spec.sparse:
            return SparseSoftmaxKernel(self.layout, threads)
        from trivium.program.kernels.network import NetworkKernel

        return NetworkKernel(self.layout, _forward, self.spec.features, threads, rows)


def _forward(params: tuple[Any, ...], x: Any) -> Any:
    return x @ params[0] + params[1]


class SparseSoftmaxKernel(Kernel):
    """Compiled cross entropy over CSR rows."""

    random = False

    def __init__(self, layout: Layout, threads: int) -> None:
        from trivium.program.kernels import multinomial

        self._do = multinomial
        self._w, self._b = layout.slices
        self._crew = Crew(threads, LEAST_SHARE)
        self._sums = [np.zeros(self._w.size) for _ in range(threads - 1)]  # the first share adds to ``out`` itself
        self._slopes = [np.zeros(self._b.size) for _ in range(threads)]

    def release(self) -> None:
        """It holds none."""

    def read(self, batch: Batch) -> Rows:
        """Nothing is gathered: the loops follow the index."""
        return resolve(batch, sparse=True)

    def _params(self, a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        return a[self._w.start : self._w.stop], a[self._b.start : self._b.stop]

    def delta(self, a: NDArray[Any], ready: Rows, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Σ weight·x ⊗ (p − e_y)."""
        csr, y, (W, b) = ready.csr, ready.labels(), self._params(a)
        assert csr is not None
        out[:] = 0
        sums = [out[self._w.start : self._w.stop], *self._sums]

        def work(i: int, lo: int, hi: int) -> tuple[float, float]:
            self._slopes[i][:] = 0
            if i:
                sums[i][:] = 0
            part = ready.part(lo, hi)
            found: tuple[float, float] = self._do.sparse_delta(
                csr.indptr, csr.indices, csr.values, *part, y, ready.weight, W, b, sums[i], self._slopes[i]
            )
            return found

        parts = self._crew.run(ready.count, work)
        for i in range(1, len(parts)):
            sums[0] += sums[i]
        out[self._b.start : self._b.stop] = sum(self._slopes[: len(parts)])
        return float(ready.count), sum(part[0] for part in parts), sum(part[1] for part in parts)

    def evaluate(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Sums of rows, weight, cross entropy and right answers."""
        csr, y, (W, b) = ready.csr, ready.labels(), self._params(a)
        assert csr is not None

        def work(_: int, lo: int, hi: int) -> tuple[float, float, float]:
            part = ready.part(lo, hi)
            found: tuple[float, float, float] = self._do.sparse_score(
                csr.indptr, csr.indices, csr.values, *part, y, ready.weight, W, b
            )
            return found

        parts = self._crew.run(ready.count, work)
        return np.array([ready.count, *np.sum(parts, axis=0)])

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Probabilities (rows, classes)."""
        csr, (W, b) = ready.csr, self._params(a)
        assert csr is not None
        logits = np.empty((ready.count, self._b.size))
        start, index, _ = ready.part(0, ready.count)
        self._do.sparse_logits(csr.indptr, csr.indices, csr.values, start, index, W, b, logits)
        return softmax(logits)
