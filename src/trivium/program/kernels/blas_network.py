"""Perceptrons by matrix multiplications of the BLAS and loops between them: nothing is compiled for a shape.

Rules
-----
* Scratch memory is made once, for ``rows`` rows; a batch of fewer rows uses the first of them, a longer one is cut.
  With ``padded`` every call has all rows, the rest of weight 0, so that each product has one shape and one order.
* The gradient of a layer's weights is written by the BLAS where it belongs, in the flat Δ.
* The number of threads of the BLAS is the process's: it is held for the length of a call, see ``blas``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.program.kernels.rows import Rows, resolve
from trivium.program.params import ALIGN, Layout
from trivium.program.program import Kernel

__all__ = ["BlasKernel", "Net"]

# A product with one column may make the BLAS look at what lies behind a short vector: the result is right, and the note
# of an invalid number that the processor makes is not ours. A loss that is not finite is found by who reads the sums.
QUIET = partial(np.errstate, invalid="ignore", over="ignore")
CHUNK = 2048  # most rows of one call
ALONE = 1 << 22  # multiplications of one product: below, a second thread costs more than it brings

Array = NDArray[Any]


@dataclass(frozen=True)
class Net:
    """What a network is: units of each layer, features first, the activation, and what its outputs mean.

    ``outputs``: ``softmax`` (a logit a class), ``logistic`` (one margin, of the second class), ``squared`` (values),
    ``poisson`` (logs of means).
    """

    sizes: tuple[int, ...]
    activation: str
    outputs: str

    @property
    def values(self) -> bool:
        """Whether rows have numbers, not classes."""
        return self.outputs in ("squared", "poisson")


@dataclass
class Filled:
    """Rows gathered for one call: ``x`` (rows, features), None for CSR; ``count`` of them are not padding."""

    rows: Rows
    lo: int
    count: int
    weight: float
    x: Array | None
    y: Array
    share: Array


class Scratch:
    """Memory of calls of at most ``rows`` rows. Two sets of inputs take turns, so that one may be read ahead."""

    def __init__(self, net: Net, rows: int, dtype: str, *, dense: bool) -> None:
        from trivium.program.kernels import gather

        self.rows, self._net, self._dtype, self._do, self._dense = rows, net, dtype, gather, dense
        self._turn = 0
        self._sets = [self._inputs() for _ in range(2)]
        self.outputs = [_aligned(rows, units, dtype) for units in net.sizes[1:]]
        self.errors = [_aligned(rows, units, dtype) for units in net.sizes[1:-1]]
        self.slopes = [_aligned(rows, units, dtype) for units in net.sizes[1:-1] if net.activation == "gelu"]

    def _inputs(self) -> tuple[Array, Array, Array]:
        sizes = self._net.sizes
        x = _aligned(self.rows if self._dense else 0, sizes[0], self._dtype)
        y = _aligned(self.rows, sizes[-1], self._dtype) if self._net.values else np.zeros(self.rows, np.int32)
        return x, y, np.zeros(self.rows, self._dtype)

    def fill(self, rows: Rows, lo: int, hi: int, size: int) -> Filled:
        """Rows ``lo`` to ``hi`` of ``rows``, and padding up to ``size``."""
        self._turn ^= 1
        (start, index, count), do = rows.part(lo, hi), self._do
        x, y, share = (array[:size] for array in self._sets[self._turn])
        seen: Array | None = None
        if self._dense:
            seen = self._straight(rows, start, index, size, count)
            if seen is None:
                do.gather(rows.x, self._net.sizes[0], start, index, count, rows.scale, x)
                seen = x
        if self._net.values:
            if rows.y is not None:
                targets = np.ascontiguousarray(rows.y).reshape(-1)
                do.gather(targets, self._net.sizes[-1], start, index, count, 1.0, y)
            weight = do.gather_weights(rows.weight, start, index, count, share)
        else:
            weight = do.gather_labels(rows.y, rows.weight, start, index, count, y, share)
        return Filled(rows, lo, count, weight, seen, y, share)

    def _straight(self, rows: Rows, start: int, index: Array | None, size: int, count: int) -> Array | None:
        """Consecutive rows of the right type where they lie, without a copy."""
        if index is not None or size != count or rows.x.dtype != self._dtype or rows.scale != 1.0:
            return None
        features = self._net.sizes[0]
        return rows.x[start * features : (start + count) * features].reshape(count, features)


class BlasKernel(Kernel):
    """Δ, evaluation and prediction of a ``Net``; the slices are W1, b1, W2, b2 and so on."""

    random = False

    def __init__(
        self, layout: Layout, net: Net, threads: int, rows: int, *, padded: bool = False, sparse: bool = False
    ) -> None:
        from trivium.program.kernels import layers

        self._net, self._do, self._dtype, self._sparse, self._padded = net, layers, layout.dtype, sparse, padded
        self._places = [(piece.start, piece.stop, piece.shape) for piece in layout.slices]
        self._size = max(1, min(rows, CHUNK))
        self._scratch: Scratch | None = None
        self._wide: Scratch | None = None
        self._spare: Array | None = None
        self._layout = layout
        widest = max(a * b for a, b in zip(net.sizes, net.sizes[1:], strict=False))
        self._threads = threads if self._size * widest >= ALONE else 1
        self._held: AbstractContextManager[None] | None = None

    def release(self) -> None:
        """Scratch memory goes."""
        self._scratch = self._wide = self._spare = None

    def _hold(self) -> AbstractContextManager[None]:
        """A context in which the BLAS takes as many threads as this kernel may."""
        if self._held is None:
            from trivium.program.kernels import blas

            self._held = blas.held().at(self._threads)
        return self._held

    def _split(self, flat: Array) -> list[Array]:
        return [flat[start:stop].reshape(shape) for start, stop, shape in self._places]

    def read(self, batch: Batch) -> tuple[Rows, Filled | None]:
        """Gather the rows; what does not fit is gathered piece by piece when computed."""
        rows = resolve(batch, self._sparse)
        if not 0 < rows.count <= self._size:
            return rows, None
        return rows, self._narrow().fill(rows, 0, rows.count, self._size if self._padded else rows.count)

    def _narrow(self) -> Scratch:
        if self._scratch is None:
            self._scratch = Scratch(self._net, self._size, self._dtype, dense=not self._sparse)
        return self._scratch

    # -- Δ ------------------------------------------------------------------------------------------------------------
    def delta(self, a: Array, ready: tuple[Rows, Filled | None], out: Array, key: int) -> tuple[float, float, float]:  # noqa: ARG002  nothing is random
        """Σ weight·∇ loss."""
        rows, filled = ready
        rows.labels()
        params, scratch = self._split(a), self._narrow()
        if filled is not None:
            with self._hold(), QUIET():
                return float(filled.count), filled.weight, self._gradient(params, filled, self._split(out), scratch)
        if self._spare is None:
            self._spare = self._layout.empty()
        out[:] = 0
        weight, loss = 0.0, 0.0
        with self._hold(), QUIET():
            for piece in self._pieces(rows, scratch, self._size):
                weight += piece.weight
                loss += self._gradient(params, piece, self._split(self._spare), scratch)
                out += self._spare
        return float(rows.count), weight, loss

    def _pieces(self, rows: Rows, scratch: Scratch, size: int) -> Iterator[Filled]:
        for lo in range(0, rows.count, size):
            hi = min(lo + size, rows.count)
            yield scratch.fill(rows, lo, hi, size if self._padded else hi - lo)

    def _gradient(self, params: list[Array], filled: Filled, grads: list[Array], scratch: Scratch) -> float:
        """Write the gradient of one call's rows to ``grads``; Σ share·loss."""
        layers, z = self._forward(params, filled, scratch)
        loss, _ = self._deltas(z, params[-1], filled)
        error, last = z, len(layers) - 1
        self._do.back_identity(error, grads[-1])
        for i in range(last, -1, -1):
            if i > 0:
                np.dot(layers[i].T, error, out=grads[2 * i])
                below = scratch.errors[i - 1][: len(error)]
                np.dot(error, params[2 * i].T, out=below)
                self._back(below, layers[i], i - 1, scratch, grads[2 * i - 1])
                error = below
            elif self._sparse:
                self._do.sparse_back(*self._csr(filled), error, grads[0])
            else:
                np.dot(layers[0].T, error, out=grads[0])
        return float(loss)

    def _forward(self, params: list[Array], filled: Filled, scratch: Scratch) -> tuple[list[Array], Array]:
        """Inputs of each layer, and the last one's products without bias."""
        size = len(filled.share)
        layers: list[Array] = [filled.x if filled.x is not None else filled.share]
        last = len(scratch.outputs) - 1
        for i, output in enumerate(scratch.outputs):
            z = output[:size]
            if i == 0 and self._sparse:
                self._do.sparse_forward(*self._csr(filled), params[0], z)
            else:
                np.dot(layers[i], params[2 * i], out=z)
            if i < last:
                self._activate(z, params[2 * i + 1], i, scratch)
                layers.append(z)
        return layers, z

    def _csr(self, filled: Filled) -> tuple[Any, ...]:
        csr = filled.rows.csr
        assert csr is not None
        return csr.indptr, csr.indices, csr.values, *filled.rows.part(filled.lo, filled.lo + filled.count)

    def _activate(self, z: Array, b: Array, layer: int, scratch: Scratch) -> None:
        do, activation = self._do, self._net.activation
        if activation == "relu":
            do.relu(z, b)
        elif activation == "logistic":
            do.logistic(z, b)
        elif activation == "gelu":
            do.gelu(z, b, scratch.slopes[layer][: len(z)])
        else:
            do.add_bias(z, b)
            if activation == "tanh":
                np.tanh(z, out=z)

    def _back(self, error: Array, h: Array, layer: int, scratch: Scratch, slope: Array) -> None:
        do, activation = self._do, self._net.activation
        if activation == "identity":
            do.back_identity(error, slope)
        elif activation == "gelu":
            do.back_gelu(error, scratch.slopes[layer][: len(error)], slope)
        else:
            {"relu": do.back_relu, "tanh": do.back_tanh, "logistic": do.back_logistic}[activation](error, h, slope)

    def _deltas(self, z: Array, b: Array, filled: Filled) -> tuple[float, float]:
        outputs, do = self._net.outputs, self._do
        work = {
            "softmax": do.softmax_delta,
            "logistic": do.logistic_delta,
            "squared": do.squared_delta,
            "poisson": do.poisson_delta,
        }[outputs]
        found: tuple[float, float] = work(z, b, filled.y, filled.share)
        return found

    # -- looking ------------------------------------------------------------------------------------------------------
    def _all(self, rows: Rows) -> tuple[Scratch, Iterator[Filled]]:
        if self._wide is None:
            self._wide = Scratch(self._net, CHUNK, self._dtype, dense=not self._sparse)
        return self._wide, self._pieces(rows, self._wide, CHUNK)

    def evaluate(self, a: Array, ready: tuple[Rows, Filled | None]) -> NDArray[np.float64]:
        """Sums of rows, weight, loss and right answers."""
        rows, params = ready[0], self._split(a)
        rows.labels()
        scratch, pieces = self._all(rows)
        sums = np.zeros(4)
        with self._hold(), QUIET():
            for piece in pieces:
                _, z = self._forward(params, piece, scratch)
                sums += (piece.count, piece.weight, *self._deltas(z, params[-1], piece))
        return sums

    def predict(self, a: Array, ready: tuple[Rows, Filled | None]) -> Array:
        """Probabilities (rows, classes), or values (rows,) of one output, (rows, outputs) of several."""
        rows, params = ready[0], self._split(a)
        scratch, pieces = self._all(rows)
        found = [np.zeros((0, self._net.sizes[-1]), self._dtype)]
        with self._hold(), QUIET():
            for piece in pieces:
                _, z = self._forward(params, piece, scratch)
                found.append(self._answers(z, params[-1])[: piece.count].copy())
        answers = np.concatenate(found)
        if self._net.outputs == "logistic":
            return np.concatenate([1 - answers, answers], axis=1)
        return answers[:, 0] if self._net.values and answers.shape[1] == 1 else answers

    def _answers(self, z: Array, b: Array) -> Array:
        if self._net.outputs == "logistic":
            self._do.logistic(z, b)
            return z
        if self._net.outputs == "softmax":
            self._do.softmax(z, b)
            return z
        z += b
        return np.exp(z) if self._net.outputs == "poisson" else z


def _aligned(rows: int, width: int, dtype: str) -> Array:
    """Zeroed (rows, width) on a boundary of 64 bytes: bits must not follow from where memory happens to lie."""
    nbytes = rows * width * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    skip = -raw.ctypes.data % ALIGN
    return raw[skip : skip + nbytes].view(dtype).reshape(rows, width)
