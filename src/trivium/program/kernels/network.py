"""Networks written as a function from parameters and rows to outputs, compiled by XLA.

Outputs are logits under cross entropy (by log-sum-exp), one margin under the log loss of two classes, values under half
the squared error, or logs of means under half the Poisson deviance; Σ over weighted rows. One compiled shape for Δ, one
for evaluation and prediction; short batches are padded with rows of weight 0, longer ones are cut and their gradients
added in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.program.kernels import xla
from trivium.program.kernels.rows import Rows, resolve
from trivium.program.params import Layout
from trivium.program.program import Kernel

__all__ = ["OUTPUTS", "Forward", "NetworkKernel"]

CHUNK = 2048  # rows of one evaluation call, and the most rows of one Δ call
OUTPUTS = ("softmax", "logistic", "squared", "poisson")  # what a network's outputs mean

Forward = Callable[[tuple[Any, ...], Any], Any]


@dataclass(frozen=True)
class Filled:
    """Buffers with ``count`` rows and padding, as XLA sees them: ``x`` (rows, features), ``y``, ``share`` (weights)."""

    count: int
    weight: float
    x: Any
    y: Any
    share: Any


class Buffers:
    """Memory for rows of one shape, shared with XLA. Two sets take turns, so one batch may be read ahead.

    ``targets`` is None for classes, else the number of values a row.
    """

    def __init__(self, rows: int, features: int, targets: int | None = None, dtype: str = "float32") -> None:
        from trivium.program.kernels import gather

        self.rows = rows
        self._do, self._features, self._targets, self._dtype = gather, features, targets, dtype
        self._sets = [self._make() for _ in range(2)]
        self._turn = 0

    def _make(self) -> tuple[tuple[NDArray[Any], Any, bool], ...]:
        y = ((self.rows,), "int32") if self._targets is None else ((self.rows, self._targets), self._dtype)
        shapes = (((self.rows, self._features), self._dtype), y, ((self.rows,), self._dtype))
        arrays = [xla.aligned(shape, dtype) for shape, dtype in shapes]
        return tuple((array, *xla.share(array)) for array in arrays)

    def fill(self, rows: Rows, lo: int, hi: int) -> Filled:
        """Gather the rows ``lo`` to ``hi`` of ``rows``."""
        self._turn ^= 1
        (x, _, _), (y, _, _), (share, _, _) = self._sets[self._turn]
        start, index, count = rows.part(lo, hi)
        self._do.gather(rows.x, self._features, start, index, count, rows.scale, x)
        if self._targets is None:
            weight = self._do.gather_labels(rows.y, rows.weight, start, index, count, y, share)
        else:
            if rows.y is not None:
                self._do.gather(np.ascontiguousarray(rows.y).reshape(-1), self._targets, start, index, count, 1.0, y)
            weight = self._do.gather_weights(rows.weight, start, index, count, share)
        seen = [array if shared else xla.share(memory)[0] for memory, array, shared in self._sets[self._turn]]
        return Filled(count, weight, *seen)


class NetworkKernel(Kernel):
    """Compiled Δ, evaluation and prediction of ``forward``: (slices in order, x) → outputs (rows, units).

    ``outputs`` is one of ``OUTPUTS``; ``targets`` the number of values a row that the last two compare with.
    """

    random = False

    def __init__(
        self,
        layout: Layout,
        forward: Forward,
        features: int,
        threads: int,
        rows: int,
        outputs: str = "softmax",
        targets: int | None = None,
    ) -> None:
        xla.configure(threads)
        import jax

        self._slices = layout.slices
        self._aliases = xla.Aliases(layout)
        self._double = layout.dtype == "float64"
        self._form = (features, targets, layout.dtype)
        self._wide: Buffers | None = None
        with self._precision():
            self._buffers = Buffers(max(1, min(rows, CHUNK)), *self._form)
        self._gradient = jax.jit(jax.grad(_summed(forward, outputs), has_aux=True))
        self._score = jax.jit(_scored(forward, outputs))
        self._answer = jax.jit(_answered(forward, outputs))

    def _precision(self) -> AbstractContextManager[Any]:
        """XLA narrows float64 to float32 unless told not to, thread by thread."""
        if not self._double:
            return nullcontext()
        import jax

        found: AbstractContextManager[Any] = jax.enable_x64(True)
        return found

    def release(self) -> None:
        """Forget the run's parameters; its memory goes with them."""
        self._aliases.clear()

    def refresh(self, a: NDArray[Any]) -> None:
        """Alias ``a``'s slices now, so that the first step does not."""
        with self._precision():
            self._aliases.of(a)

    def read(self, batch: Batch) -> tuple[Rows, Filled | None]:
        """Gather the rows into the buffer; what does not fit one buffer is gathered piece by piece when computed."""
        rows = resolve(batch, sparse=False)
        if rows.count > self._buffers.rows:
            return rows, None
        with self._precision():
            return rows, self._buffers.fill(rows, 0, rows.count)

    def delta(
        self,
        a: NDArray[Any],
        ready: tuple[Rows, Filled | None],
        out: NDArray[Any],
        key: int,  # noqa: ARG002  nothing is random
    ) -> tuple[float, float, float]:
        """Σ weight·∇ loss."""
        rows, filled = ready
        rows.labels()
        with self._precision():
            params = self._aliases.of(a)
            if filled is not None:
                return float(filled.count), filled.weight, self._add(params, filled, out, first=True)
            weight, loss, size = 0.0, 0.0, self._buffers.rows
            for lo in range(0, rows.count, size):
                piece = self._buffers.fill(rows, lo, min(lo + size, rows.count))
                weight += piece.weight
                loss += self._add(params, piece, out, first=lo == 0)
        return float(rows.count), weight, loss

    def _add(self, params: tuple[Any, ...], filled: Filled, out: NDArray[Any], first: bool) -> float:
        grads, losses = self._gradient(params, filled.x, filled.y, filled.share)
        for piece, grad in zip(self._slices, grads, strict=True):
            view = out[piece.start : piece.stop].reshape(piece.shape)
            if first:
                np.copyto(view, np.asarray(grad))
            else:
                view += np.asarray(grad)
        return float(np.sum(np.asarray(losses), dtype=np.float64))

    def _pieces(self, rows: Rows) -> Iterator[Filled]:
        if self._wide is None:
            self._wide = Buffers(CHUNK, *self._form)
        for lo in range(0, rows.count, CHUNK):
            yield self._wide.fill(rows, lo, min(lo + CHUNK, rows.count))

    def evaluate(self, a: NDArray[Any], ready: tuple[Rows, Filled | None]) -> NDArray[np.float64]:
        """Sums of rows, weight, loss and right answers."""
        rows = ready[0]
        rows.labels()
        sums = np.zeros(4)
        with self._precision():
            params = self._aliases.of(a)
            for piece in self._pieces(rows):
                losses, correct = self._score(params, piece.x, piece.y, piece.share)
                sums += (
                    piece.count,
                    piece.weight,
                    np.sum(np.asarray(losses), dtype=np.float64),
                    np.sum(np.asarray(correct), dtype=np.float64),
                )
        return sums

    def predict(self, a: NDArray[Any], ready: tuple[Rows, Filled | None]) -> NDArray[Any]:
        """Probabilities (rows, classes), or values (rows,) of one output, (rows, outputs) of several."""
        rows = ready[0]
        with self._precision():
            params = self._aliases.of(a)
            # each answer is copied out before the buffers take the next rows
            found = [np.array(self._answer(params, piece.x))[: piece.count] for piece in self._pieces(rows)]
        return np.concatenate(found)


def _summed(forward: Forward, outputs: str) -> Callable[..., Any]:
    """(params, x, y, share) → (Σ of weighted losses, the losses one by one)."""
    import jax.numpy as jnp

    row_loss = _row_loss(outputs)

    def loss(params: tuple[Any, ...], x: Any, y: Any, share: Any) -> Any:
        losses = share * row_loss(forward(params, x), y)
        return jnp.sum(losses), losses

    return loss


def _scored(forward: Forward, outputs: str) -> Callable[..., Any]:
    """(params, x, y, share) → weighted losses, and weights of the rows answered rightly (NaN for values)."""
    import jax.numpy as jnp

    row_loss = _row_loss(outputs)

    def scored(params: tuple[Any, ...], x: Any, y: Any, share: Any) -> Any:
        found = forward(params, x)
        losses = share * row_loss(found, y)
        if outputs in ("squared", "poisson"):
            return losses, jnp.full_like(share, jnp.nan)
        right = jnp.argmax(found, axis=1) == y if outputs == "softmax" else (found[:, 0] > 0) == (y > 0)
        return losses, share * right

    return scored


def _answered(forward: Forward, outputs: str) -> Callable[..., Any]:
    """(params, x) → what ``predict`` says."""
    import jax
    import jax.numpy as jnp

    def answered(params: tuple[Any, ...], x: Any) -> Any:
        found = forward(params, x)
        if outputs == "softmax":
            return jax.nn.softmax(found, axis=1)
        if outputs == "logistic":
            return jnp.concatenate([jax.nn.sigmoid(-found), jax.nn.sigmoid(found)], axis=1)
        found = jnp.exp(found) if outputs == "poisson" else found
        return found[:, 0] if found.shape[1] == 1 else found

    return answered


def _row_loss(outputs: str) -> Callable[[Any, Any], Any]:
    losses = {"softmax": _cross_entropy, "logistic": _log_loss, "squared": _half_square, "poisson": _half_deviance}
    return losses[outputs]


def _cross_entropy(logits: Any, y: Any) -> Any:
    import jax.numpy as jnp
    from jax.scipy.special import logsumexp

    chosen = jnp.arange(logits.shape[1])[None, :] == y[:, None]  # a comparison: XLA scatters gradients one by one
    return logsumexp(logits, axis=1) - jnp.sum(jnp.where(chosen, logits, 0.0), axis=1)


def _log_loss(margins: Any, y: Any) -> Any:
    import jax

    return jax.nn.softplus(jax.numpy.where(y > 0, -margins[:, 0], margins[:, 0]))


def _half_square(values: Any, y: Any) -> Any:
    import jax.numpy as jnp

    return 0.5 * jnp.sum((values - y) ** 2, axis=1)


def _half_deviance(logs: Any, y: Any) -> Any:
    import jax.numpy as jnp
    from jax.scipy.special import xlogy

    return jnp.sum(xlogy(y, y) - y * logs - y + jnp.exp(logs), axis=1)
