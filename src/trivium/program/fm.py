"""Factorization machine: a linear model, and every product of two features weighted by factors it learns.

    ŷ = b + Σᵢ wᵢxᵢ + Σ_{i<j} ⟨vᵢ, vⱼ⟩ xᵢxⱼ

Two classes by log loss, or numbers by half the squared error; b is free of penalty. Rendle, *Factorization machines*,
ICDM 2010: it learns the weight of a pair of features that never meet in one row, from what each does with others.
Dense rows (float32, float64, or uint8 with a scale) and CSR rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError
from trivium.program.checks import classes_of, features_of, float_type, targets_of
from trivium.program.kernels.rows import Crew, Rows, resolve
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Output, Program

__all__ = ["FM", "FactorKernel"]

LEAST_SHARE = 1024  # rows a thread
MOST_FACTORS = 1 << 12


@dataclass(frozen=True)
class FM(Program):
    """Factorization machine; slices ``b`` (1,), ``w`` (features,), ``V`` (features, ``factors``) in ``dtype``.

    ``V`` begins normal with deviation ``spread``: at 0 it would never move. The task follows from the data.

    >>> FM(4).name
    'fm:4'
    """

    factors: int = 8
    dtype: str = "float64"
    spread: float = 0.01
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.factors <= MOST_FACTORS:
            raise PlanError(f"factors={self.factors}: a whole number from 1 to {MOST_FACTORS:,}, as in fm:8")
        if not (math.isfinite(self.spread) and self.spread > 0):
            raise PlanError(f"spread={self.spread}: expected a number above 0; factors that begin at 0 never move")
        float_type(self.dtype)

    @property
    def name(self) -> str:
        """``fm:`` and the factors."""
        return f"fm:{self.factors}"

    @property
    def output(self) -> Output:
        """Probabilities of two classes, or values."""
        return "value" if self.spec is not None and not self.spec.classes else "probability"

    @property
    def defaults(self) -> Defaults:
        """AdaGrad on batches of 256, at most 50 epochs, stopping when a tenth held out gets no better 3 times.

        Rare features take large steps from the first (``initial`` is next to nothing): many rows later they come again.
        """
        from trivium.program.optimizers.adagrad import AdaGrad

        optimizer = AdaGrad(lr=0.02, initial=1e-6)
        return Defaults(optimizer, batch_size=256, epochs=50, iterations=None, l2_per_row=1.0, valid=0.1, patience=3)

    def for_data(self, spec: DataSpec) -> FM:
        """With the number of features of ``spec``; DataError unless the labels are of two classes, or numbers."""
        features_of(spec, self.name)
        if spec.rows and not spec.classes and "y" in spec.columns:
            targets_of(spec, self.name)
        elif (count := classes_of(spec, self.name)) != 2:
            raise DataError(f"the labels have {count} classes; {self.name} separates two: use the model 'softmax'")
        return replace(self, spec=spec)

    @property
    def layout(self) -> Layout:
        """``b``, ``w`` and ``V``."""
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        features = self.spec.features
        return Layout.of({"b": (1,), "w": (features,), "V": (features, self.factors)}, self.dtype, free=("b",))

    def init(self, seed: int) -> NDArray[Any]:
        """Zeros, but for ``V``."""
        layout = self.layout
        flat = layout.empty()
        factors = layout.views(flat)["V"]
        factors[:] = np.random.Generator(np.random.Philox(key=seed)).normal(0.0, self.spread, factors.shape)
        return flat

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  takes any number of rows
        """Compiled loops; ``rows`` does not matter to them."""
        assert self.spec is not None
        return FactorKernel(self.layout, self.spec, 1 if reproducible else threads)


class FactorKernel(Kernel):
    """Compiled loss and gradient of one process."""

    random = False

    def __init__(self, layout: Layout, spec: DataSpec, threads: int) -> None:
        from trivium.program.kernels import factors

        self._do = factors
        self._sparse, self._classes = spec.sparse, bool(spec.classes)
        self._b, self._w, self._v = (slice(piece.start, piece.stop) for piece in layout.slices)
        self._crew = Crew(threads, LEAST_SHARE)
        self._q = [np.zeros(layout.slices[2].shape[1]) for _ in range(threads)]
        self._direct = threads == 1 and layout.dtype == "float64"  # the sums are made where they belong
        count = 0 if self._direct else threads
        self._sums = [(np.zeros(layout.slices[1].size), np.zeros(layout.slices[2].size)) for _ in range(count)]

    def release(self) -> None:
        """It holds none."""

    def read(self, batch: Batch) -> Rows:
        """Nothing is gathered: the loops follow the index."""
        return resolve(batch, self._sparse)

    def _place(self, rows: Rows, lo: int, hi: int) -> tuple[Any, ...]:
        """The features and which rows of them, as the loops take them."""
        part = rows.part(lo, hi)
        if rows.csr is None:
            return rows.x, rows.scale, *part
        return rows.csr.indptr, rows.csr.indices, rows.csr.values, *part

    def _params(self, a: NDArray[Any]) -> tuple[float, NDArray[Any], NDArray[Any]]:
        return float(a[self._b][0]), a[self._w], a[self._v]

    def delta(self, a: NDArray[Any], ready: Rows, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Σ weight·slope·(1, x, x(q − vx))."""
        out[:] = 0
        y, params, do = ready.labels(), self._params(a), self._do.sparse_delta if self._sparse else self._do.dense_delta
        sums = [(out[self._w], out[self._v])] if self._direct else self._sums

        def work(i: int, lo: int, hi: int) -> tuple[float, float, float]:
            if not self._direct:
                for one in sums[i]:
                    one[:] = 0
            place = self._place(ready, lo, hi)
            found: tuple[float, float, float] = do(
                *place, y, ready.weight, self._classes, *params, self._q[i], *sums[i]
            )
            return found

        parts = self._crew.run(ready.count, work)
        if not self._direct:
            for into, place in enumerate((self._w, self._v)):
                for i in range(1, len(parts)):
                    np.add(sums[0][into], sums[i][into], out=sums[0][into])
                out[place] = sums[0][into]
        out[self._b] = sum(part[2] for part in parts)
        return float(ready.count), sum(part[0] for part in parts), sum(part[1] for part in parts)

    def _margins(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        margins, params = np.empty(ready.count), self._params(a)
        do = self._do.sparse_margins if self._sparse else self._do.dense_margins

        def work(i: int, lo: int, hi: int) -> None:
            do(*self._place(ready, lo, hi), *params, self._q[i], margins[lo:hi])

        self._crew.run(ready.count, work)
        return margins

    def evaluate(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Sums of rows, weight, loss and right answers (NaN for numbers)."""
        margins = self._margins(a, ready)
        sums = self._do.score(margins, ready.start, ready.index, ready.labels(), ready.weight, self._classes)
        return np.array([ready.count, *sums])

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Probabilities of the two classes, (rows, 2), or values (rows,)."""
        margins = self._margins(a, ready)
        if not self._classes:
            return margins
        from scipy.special import expit

        return np.stack([expit(-margins), expit(margins)], axis=1)
