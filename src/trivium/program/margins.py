"""Linear outputs of any loss, several at once: z = x·W + constant·b, Δ is the gradient and, on request, the curvature.

    loss(W, b) = Σᵢ weightᵢ · Σₖ balanceᵢₖ · loss(zᵢₖ, yᵢₖ)

or, of the row's outputs together, the cross entropy (``softmax``), or τ·log Σⱼ exp((zⱼ − z_y + [j ≠ y])/τ), which is
the hinge of Crammer and Singer (JMLR 2001) as its ``width`` τ goes to 0 (``crammer_singer``). The column ``balance``
(rows, outputs) is optional.

With ``curved`` Δ also holds the sums of second derivatives, which make one step of Newton's method: one matrix for all
outputs (``shared``, where they are the same), one for each, or one over all of them (softmax). They are sums over
rows like any gradient, so lanes, workers and servers add them as they add those.

Rows are taken in tiles, so that what lies between features and sums stays in cache. Arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import PlanError
from trivium.program.kernels.blas import ALONE, held
from trivium.program.kernels.rows import Rows, resolve
from trivium.program.margin_losses import QUADRATIC, SIGNED, loss_of, softmax_parts
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Curvature", "Margins", "MarginsKernel", "layout_of"]

JOINT = ("softmax", "crammer_singer")
TILE = 4096  # rows
THIN = 0.15  # share of non-zeros below which products of columns are summed sparse
LARGE = 1 << 20  # elements of features: below, a second thread costs more than it brings

Array = NDArray[Any]


@dataclass(frozen=True)
class Curvature:
    """Where coefficients and second derivatives lie in flat arrays.

    ``features`` d, ``outputs`` K, ``constant`` whether there is an intercept; ``blocks`` matrices of ``order`` rows.
    """

    features: int
    outputs: int
    constant: bool
    kind: str  # shared, apart or joint

    @property
    def width(self) -> int:
        """Coefficients of one output."""
        return self.features + self.constant

    @property
    def order(self) -> int:
        """Rows of one matrix."""
        return self.width * (self.outputs if self.kind == "joint" else 1)

    @property
    def blocks(self) -> int:
        """Number of matrices."""
        return self.outputs if self.kind == "apart" else 1

    def rows(self, flat: Array) -> Array:
        """The coefficients in ``flat``, (outputs, width), the intercept last; a copy."""
        w, b, _ = places_of(self)
        rows = np.empty((self.outputs, self.width))
        rows[:, : self.features] = flat[w].reshape(self.features, self.outputs).T
        if self.constant:
            rows[:, -1] = flat[b]
        return rows

    def flat(self, rows: Array, size: int) -> Array:
        """A flat array of ``size`` elements with the coefficients in ``rows``."""
        w, b, _ = places_of(self)
        flat = np.zeros(size)
        flat[w] = rows[:, : self.features].T.reshape(-1)
        if self.constant:
            flat[b] = rows[:, -1]
        return flat

    def matrices(self, delta: Array) -> Array:
        """Second derivatives in a flat Δ, (blocks, order, order); a view."""
        _, _, h = places_of(self)
        return delta[h].reshape(self.blocks, self.order, self.order)


@lru_cache(maxsize=64)
def layout_of(place: Curvature, *, curved: bool, free: bool) -> Layout:
    """The layout of A, or of Δ."""
    shapes: dict[str, tuple[int, ...]] = {"W": (place.features, place.outputs)}
    if place.constant:
        shapes["b"] = (place.outputs,)
    if curved:
        shapes["H"] = (place.blocks, place.order, place.order)
    return Layout.of(shapes, "float64", free=("b",) if free else ())


@lru_cache(maxsize=64)
def places_of(place: Curvature) -> tuple[slice, slice, slice]:
    """Where W, b and H lie."""
    found = {one.name: slice(one.start, one.stop) for one in layout_of(place, curved=True, free=True).slices}
    return found["W"], found.get("b", slice(0, 0)), found["H"]


@dataclass(frozen=True)
class Margins(Program):
    """Slices ``W`` (features, outputs) and ``b`` (outputs,), float64.

    ``width`` is the loss's own (epsilon of huber, …); ``constant`` the value of the intercept's column, 0 for none;
    ``free`` whether the intercept is free of penalty. ``passive`` bounds each row's own step (passive-aggressive).
    """

    loss: str
    outputs: int = 1
    width: float = 0.0
    constant: float = 1.0
    free: bool = True
    curved: bool = False
    passive: tuple[str, float] | None = None
    spec: DataSpec | None = None

    @property
    def name(self) -> str:
        """``margins:`` and the loss."""
        return f"margins:{self.loss}"

    @property
    def defaults(self) -> Defaults:
        """Newton's method where Δ has curvature, else L-BFGS, on the full batch."""
        from trivium.program.optimizers.lbfgs import LBFGS
        from trivium.program.optimizers.newton import Newton

        if self.curved:
            return Defaults(Newton(self.place), batch_size=None, epochs=None, iterations=100)
        return Defaults(LBFGS(tol=1e-4), batch_size=None, epochs=None, iterations=100)

    def for_data(self, spec: DataSpec) -> Margins:
        """With the features of ``spec``."""
        return replace(self, spec=spec)

    @property
    def place(self) -> Curvature:
        """The shapes; only after ``for_data``."""
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        joint = "joint" if self.loss in JOINT else "apart"
        kind = "shared" if self.loss in QUADRATIC else joint
        return Curvature(self.spec.features, self.outputs, self.constant != 0, kind)

    @property
    def layout(self) -> Layout:
        """``W`` and ``b``."""
        return layout_of(self.place, curved=False, free=self.free)

    @property
    def delta_layout(self) -> Layout:
        """``W``, ``b``, and with ``curved`` the second derivatives ``H``."""
        return layout_of(self.place, curved=self.curved, free=self.free)

    def init(self, seed: int) -> Array:  # noqa: ARG002  the objective is convex: zero is as good as any
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  takes any number of rows
        """Products by the BLAS, a tile of rows at a time."""
        return MarginsKernel(self, 1 if reproducible else threads)


@dataclass
class Ready:
    """Rows in tiles."""

    count: int
    tiles: list[Tile]


@dataclass
class Tile:
    """Some rows: features (dense, or a matrix of SciPy); labels, weights, balance, each None where there are none."""

    x: Any
    y: Array | None
    share: Array | None
    balance: Array | None


class MarginsKernel(Kernel):
    """Gradient and curvature of one process."""

    random = False

    def __init__(self, program: Margins, threads: int) -> None:
        assert program.spec is not None
        self._program, self._place = program, program.place
        self._sparse = program.spec.sparse
        self._loss = None if program.loss in JOINT else loss_of(program.loss)
        w, b, _ = places_of(self._place)
        self._w, self._b = w, b
        self._seen: tuple[Batch, Ready] | None = None
        self._threads = threads if program.spec.nnz >= LARGE else 1
        depth = self._place.width if program.curved else self._place.outputs
        self._small = min(program.spec.rows, TILE) * self._place.width * depth <= ALONE

    def release(self) -> None:
        """The rows go."""
        self._seen = None

    def read(self, batch: Batch) -> Ready:
        """Tiles of the rows; a full batch is cut once."""
        if self._seen is not None and self._seen[0] is batch:
            return self._seen[1]
        rows = resolve(batch, self._sparse)
        ready = Ready(rows.count, list(self._tiles(rows, batch.table.columns.get("balance"))))
        if batch.index is None:
            self._seen = (batch, ready)
        return ready

    def _tiles(self, rows: Rows, balance: Any) -> Iterator[Tile]:
        whole = self._matrix(rows)
        for lo in range(0, rows.count, TILE):
            start, index, count = rows.part(lo, min(lo + TILE, rows.count))
            pick: Any = slice(start, start + count) if index is None else index
            x = whole[pick]
            if rows.scale != 1.0:
                x = x * rows.scale
            yield Tile(x, *(None if one is None else one[pick] for one in (rows.y, rows.weight, balance)))

    def _matrix(self, rows: Rows) -> Any:
        if rows.csr is None:
            return rows.x.reshape(-1, self._place.features)
        from scipy.sparse import csr_array

        csr = rows.csr
        return csr_array((csr.values, csr.indices, csr.indptr), shape=(len(csr), csr.width))

    def _wide(self, x: Any) -> Any:
        return x if x.dtype == np.float64 else x.astype(np.float64)

    def _outputs(self, a: Array, x: Any) -> Array:
        z: Array = x @ a[self._w].reshape(self._place.features, self._place.outputs)
        if self._place.constant:
            z += self._program.constant * a[self._b]
        return z

    # -- Δ ------------------------------------------------------------------------------------------------------------
    def delta(self, a: Array, ready: Ready, out: Array, key: int) -> tuple[float, float, float]:  # noqa: ARG002  nothing is random
        """Σ weight·(gradient, and curvature with ``curved``)."""
        with self._hold():
            return self._sums(a, ready, out)

    def _hold(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._small else held().at(self._threads)

    def _sums(self, a: Array, ready: Ready, out: Array) -> tuple[float, float, float]:
        out[:] = 0
        w = out[self._w].reshape(self._place.features, self._place.outputs)
        h = self._place.matrices(out) if self._program.curved else out
        weight, loss = 0.0, 0.0
        for tile in ready.tiles:
            x = self._wide(tile.x)
            z = self._outputs(a, x)
            values, slopes, bends = self._parts(x, z, tile)
            share = tile.share
            if share is None:
                weight += len(z)
                loss += float(values.sum())
            else:
                weight += float(share.sum())
                loss += float(share @ values)
                slopes = slopes * share[:, None]
            w += x.T @ slopes
            if self._place.constant:
                out[self._b] += self._program.constant * slopes.sum(axis=0)
            if bends is not None:
                self._bend(x, bends, share, h)
        return float(ready.count), weight, loss

    def _parts(self, x: Any, z: Array, tile: Tile) -> tuple[Array, Array, Array | None]:
        """Loss of each row, slopes, and what ``_bend`` needs."""
        program, y = self._program, tile.y
        assert y is not None
        if self._loss is None:
            return self._joint(z, y)
        values, slopes, bends = self._loss(z, y.reshape(len(z), -1), program.width, program.curved)
        if program.passive is not None:
            slopes = _passive(*program.passive, x, values, slopes)
        if tile.balance is not None:
            values, slopes = values * tile.balance, slopes * tile.balance
            bends = None if bends is None else bends * tile.balance
        return values.sum(axis=1) if values.shape[1] > 1 else values[:, 0], slopes, bends

    def _joint(self, z: Array, y: Array) -> tuple[Array, Array, Array | None]:
        width, own = 1.0, (np.arange(len(y)), y)
        if self._program.loss == "crammer_singer":
            width = self._program.width
            z = (z + 1.0) / width
            z[own] -= 1.0 / width
        losses, p = softmax_parts(z, y)
        slopes = p.copy()
        slopes[own] -= 1.0
        return width * losses, slopes, p if self._program.curved else None

    def _bend(self, x: Any, bends: Array, share: Array | None, h: Array) -> None:
        if self._sparse and x.nnz > THIN * x.shape[0] * x.shape[1]:
            x = x.toarray()  # a tile only: its products are then the BLAS's
        kind, k = self._place.kind, self._place.outputs
        if kind == "joint":
            self._bend_joint(x, bends, share, h[0])
            return
        for i in range(1 if kind == "shared" else k):
            factor = bends[:, i] if share is None else bends[:, i] * share
            self._add(x, factor, h[i])

    def _bend_joint(self, x: Any, p: Array, share: Array | None, h: Array) -> None:
        m, k = self._place.width, self._place.outputs
        sharp = 1.0 / self._program.width if self._program.loss == "crammer_singer" else 1.0
        share = np.full(len(p), sharp) if share is None else share * sharp
        for i in range(k):
            for j in range(i + 1):
                factor = share * p[:, i] * ((1.0 if i == j else 0.0) - p[:, j])
                part = h[i * m : (i + 1) * m, j * m : (j + 1) * m]
                self._add(x, factor, part)
                h[j * m : (j + 1) * m, i * m : (i + 1) * m] = part.T

    def _add(self, x: Any, factor: Array, h: Array) -> None:
        """Add Σ factor·(x, constant) ⊗ (x, constant) to ``h``."""
        d, c = self._place.features, self._program.constant
        if hasattr(x, "indptr"):
            h[:d, :d] += (x.T @ x.multiply(factor[:, None]).tocsr()).toarray()
        else:
            h[:d, :d] += x.T @ (x * factor[:, None])
        if self._place.constant:
            side = c * (x.T @ factor)
            h[:d, d] += side
            h[d, :d] += side
            h[d, d] += c * c * factor.sum()

    # -- looking ------------------------------------------------------------------------------------------------------
    def evaluate(self, a: Array, ready: Ready) -> NDArray[np.float64]:
        """Sums of rows, weight, loss and right answers (0 for values)."""
        with self._hold():
            return self._looks(a, ready)

    def _looks(self, a: Array, ready: Ready) -> NDArray[np.float64]:
        sums = np.zeros(4)
        for tile in ready.tiles:
            x = self._wide(tile.x)
            z = self._outputs(a, x)
            values, _, _ = self._parts(x, z, tile)
            share = np.ones(len(z)) if tile.share is None else tile.share
            sums += np.array([len(z), share.sum(), share @ values, share @ self._right(z, tile.y)])
        return sums

    def _right(self, z: Array, y: Array | None) -> Array:
        assert y is not None
        if self._loss is None:
            return (z.argmax(axis=1) == y) * 1.0
        if self._program.loss not in SIGNED:
            return np.zeros(len(z))
        y = y.reshape(len(z), -1)
        if z.shape[1] == 1:
            return ((z[:, 0] > 0) == (y[:, 0] > 0)) * 1.0
        return (z.argmax(axis=1) == y.argmax(axis=1)) * 1.0

    def predict(self, a: Array, ready: Ready) -> Array:
        """The outputs (rows, outputs)."""
        with self._hold():
            found = [self._outputs(a, self._wide(tile.x)) for tile in ready.tiles]
        return np.concatenate([np.zeros((0, self._place.outputs)), *found])


def _passive(kind: str, bound: float, x: Any, values: Array, slopes: Array) -> Array:
    """Slopes times the passive-aggressive step of each row (Crammer et al., JMLR 2006)."""
    norms = np.asarray((x.multiply(x) if hasattr(x, "multiply") else x * x).sum(axis=1)).reshape(-1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.minimum(bound, values / norms) if kind == "pa1" else values / (norms + 0.5 / bound)
    return slopes * np.where(norms > 0, steps, 0.0)
