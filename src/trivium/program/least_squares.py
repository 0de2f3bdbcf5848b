"""Least squares by normal equations: Δ is sums and products of columns, and F solves for the coefficients.

    minimise ½·Σ weight·(x·w + b − y)² / Σ weight + l1·‖w‖₁ + (l2/2)·‖w‖²

Two clocks, or one without an intercept: means first, then moments about them (see ``normal_equations``). Exact where
``Linear`` iterates, and the cost does not depend on the conditioning; but Δ has features²/2 elements, so it is for
``MOST_FEATURES`` features at most. Several targets, ``y`` (rows, targets), are solved together. Always float64.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError
from trivium.program.checks import features_of, switch, targets_of
from trivium.program.kernels.rows import Rows, resolve
from trivium.program.optimizers import normal_equations as equations
from trivium.program.optimizers.normal_equations import MEANS, MOMENTS, NormalEquations
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Output, Program

__all__ = ["MOST_FEATURES", "LeastSquares", "LeastSquaresKernel"]

MOST_FEATURES = 4000  # Δ has 64 MB then, once a lane
TILE_BYTES = 1 << 19
MOST_ROWS = 4096


@dataclass(frozen=True)
class LeastSquares(Program):
    """Ridge regression, lasso and elastic net; slices ``w`` (features, targets), ``b`` (targets,), ``mean``, ``stage``.

    l1 and l2 are the run's. ``tol`` and ``max_iter`` are those of coordinate descent, which l1 and ``positive`` (no
    coefficient below 0) ask for.

    >>> LeastSquares().output
    'value'
    """

    consistencies = frozenset({"bsp"})  # its Δ are moments, whose sums must be whole

    intercept: bool = True
    tol: float = 1e-4
    max_iter: int = 1000
    positive: bool = False
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        switch("intercept", self.intercept)

    @property
    def name(self) -> str:
        """``least_squares``."""
        return "least_squares"

    @property
    def output(self) -> Output:
        """Values."""
        return "value"

    @property
    def defaults(self) -> Defaults:
        """Its own F, the only one that it can be trained with; no penalty."""
        features, targets = self._shape if self.spec is not None else (0, 1)
        solver = NormalEquations(features, targets, self.intercept, self.tol, self.max_iter, self.positive)
        return Defaults(solver, batch_size=None, epochs=None, iterations=None)

    def for_data(self, spec: DataSpec) -> LeastSquares:
        """With the features and targets of ``spec``; DataError where the labels are classes or features are many."""
        features = features_of(spec, self.name)
        targets_of(spec, self.name, many=True)
        if features > MOST_FEATURES:
            raise DataError(
                f"the data have {features} features; {self.name} keeps all their products and takes {MOST_FEATURES} at "
                "most: use the model 'linear'"
            )
        return replace(self, spec=spec)

    @property
    def _shape(self) -> tuple[int, int]:
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        return self.spec.features, targets_of(self.spec, self.name, many=True)

    @property
    def layout(self) -> Layout:
        """Coefficients, intercept, means, stage."""
        return equations.layout(*self._shape)

    @property
    def delta_layout(self) -> Layout:
        """Sums and products."""
        return equations.delta_layout(*self._shape)

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  what it starts from does not matter
        """Zeros; the stage of the first Δ."""
        a = self.layout.empty()
        self.layout.views(a)["stage"][0] = MEANS if self.intercept else MOMENTS
        return a

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Matrix products for dense rows, compiled loops for CSR rows."""
        assert self.spec is not None
        return LeastSquaresKernel(self, 1 if reproducible else threads, rows, pad=reproducible)


class LeastSquaresKernel(Kernel):
    """Sums and products of a tile of rows at a time."""

    random = False

    def __init__(self, program: LeastSquares, threads: int, rows: int, *, pad: bool) -> None:
        from trivium.program.kernels import blas, gather, linear, moments

        assert program.spec is not None
        self._blas, self._gather, self._linear, self._do = blas, gather, linear, moments
        self._layout, self._sums = program.layout, program.delta_layout
        self._features, self._targets = self._layout.slices[0].shape
        self._wide = self._features + self._targets
        self._sparse, self._threads, self._pad = program.spec.sparse, threads, pad
        self._one = not program.spec.columns["y"][1]  # y (rows,) is answered by (rows,)
        tile = min(MOST_ROWS, max(TILE_BYTES // (8 * self._wide), self._wide // 2, 64))
        self._most = max(1, min(tile, rows))
        self._tile = np.zeros((0 if self._sparse else self._most, self._wide))
        self._share = np.zeros(self._most)
        self._moments: NDArray[np.float64] | None = None

    def release(self) -> None:
        """Let the moments go."""
        self._moments = None

    def read(self, batch: Batch) -> Rows:
        """Nothing is gathered here: the loops follow the index."""
        return resolve(batch, self._sparse)

    def _calm(self, rows: int) -> AbstractContextManager[None]:
        if rows * self._wide * self._wide <= self._blas.ALONE:
            return nullcontext()
        return self._blas.held().at(self._threads)

    def delta(self, a: NDArray[Any], ready: Rows, out: NDArray[Any], key: int) -> tuple[float, float, float]:  # noqa: ARG002
        """Σ weight·z, and Σ weight·zz' unless the means are yet to be found; z = [x, y] − mean."""
        views, sums = self._layout.views(a), self._sums.views(out)
        y = ready.labels().reshape(-1)
        out[:] = 0
        products = views["stage"][0] != MEANS
        with self._calm(ready.count):
            found = (self._sparse_delta if self._sparse else self._dense_delta)(views, ready, y, sums, products)
        return float(ready.count), *found

    def _sparse_delta(self, views: Any, ready: Rows, y: NDArray[Any], sums: Any, products: bool) -> tuple[float, float]:
        csr = ready.csr
        assert csr is not None
        rows = csr.indptr, csr.indices, csr.values, *ready.part(0, ready.count), y, ready.weight
        moments = sums["moments"] if products else sums["moments"][:0]
        found: tuple[float, float] = self._do.sparse_moments(
            *rows, views["w"], views["b"], views["mean"], sums["sum"], moments
        )
        if not products:
            sums["sum"][: self._features] = 0  # x is never shifted: zeros stay zeros
        return found

    def _dense_delta(self, views: Any, ready: Rows, y: NDArray[Any], sums: Any, products: bool) -> tuple[float, float]:
        n, shift, weight, loss = self._features, views["mean"], 0.0, 0.0
        w, gap = views["w"], views["b"] + shift[:n] @ views["w"] - shift[n:]
        if products and self._moments is None:
            self._moments = np.empty((2, self._wide, self._wide))
        for lo in range(0, ready.count, self._most):
            hi = min(lo + self._most, ready.count)
            size = self._most if self._pad else hi - lo
            z, share = self._tile[:size], self._share[:size]
            self._do.tile(ready.x, *ready.part(lo, hi), ready.scale, y, ready.weight, shift, z, share)
            residual = z[:, :n] @ w - z[:, n:] + gap
            loss += 0.5 * float(share @ np.einsum("ij,ij->i", residual, residual))
            weight += float(share.sum())
            sums["sum"] += share @ z
            if products:
                z *= np.sqrt(share)[:, None]
                self._product(z, first=lo == 0)
        if products and ready.count:
            self._pack(sums["moments"])
        return weight, loss

    def _product(self, z: NDArray[np.float64], *, first: bool) -> None:
        """Add z'z; NumPy sees that both are one array and computes half of it."""
        assert self._moments is not None
        total, product = self._moments
        np.matmul(z.T, z, out=total if first else product)
        if not first:
            total += product

    def _pack(self, out: NDArray[np.float64]) -> None:
        assert self._moments is not None
        at = 0
        for i, row in enumerate(self._moments[0]):
            out[at : at + i + 1] = row[: i + 1]
            at += i + 1

    def _values(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        views = self._layout.views(a)
        values = np.empty((ready.count, self._targets))
        if ready.csr is not None:
            csr, (start, index, rows) = ready.csr, ready.part(0, ready.count)
            for t in range(self._targets):
                one = np.empty(ready.count)
                w, b = np.ascontiguousarray(views["w"][:, t]), float(views["b"][t])
                self._linear.sparse_margins(csr.indptr, csr.indices, csr.values, start, index, rows, w, b, one)
                values[:, t] = one
            return values
        x = np.empty((min(self._most, ready.count), self._features))
        for lo in range(0, ready.count, self._most):
            start, index, rows = ready.part(lo, min(lo + self._most, ready.count))
            self._gather.gather(ready.x, self._features, start, index, rows, ready.scale, x)
            np.matmul(x[:rows], views["w"], out=values[lo : lo + rows])
        values += views["b"]
        return values

    def evaluate(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Sums of rows, weight and ½(value − target)² over all targets; there is no right and wrong."""
        y = ready.labels()
        picked = y[ready.start : ready.start + ready.count] if ready.index is None else y[ready.index]
        with self._calm(ready.count):
            residual = self._values(a, ready) - picked.reshape(ready.count, self._targets)
        share = self._share_of(ready)
        loss = 0.5 * float(share @ np.einsum("ij,ij->i", residual, residual))
        return np.array([ready.count, share.sum(), loss, math.nan])

    def _share_of(self, ready: Rows) -> NDArray[np.float64]:
        share = np.empty(ready.count)
        self._gather.gather_weights(ready.weight, ready.start, ready.index, ready.count, share)
        return share

    def predict(self, a: NDArray[Any], ready: Rows) -> NDArray[np.float64]:
        """Values (rows,), or (rows, targets) where ``y`` had so many."""
        with self._calm(ready.count):
            values = self._values(a, ready)
        return values[:, 0] if self._one else values
