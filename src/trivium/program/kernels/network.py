"""Classifiers written as a function from parameters and rows to logits, compiled by XLA.

Loss: cross entropy by log-sum-exp, Σ over weighted rows. One compiled shape for Δ, one for evaluation and prediction;
short batches are padded with rows of weight 0, longer ones are cut and their gradients added in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.program.kernels import xla
from trivium.program.kernels.rows import Rows, resolve
from trivium.program.params import Layout
from trivium.program.program import Kernel

__all__ = ["Forward", "NetworkKernel"]

CHUNK = 2048  # rows of one evaluation call, and the most rows of one Δ call

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
    """Memory for rows of one shape, shared with XLA. Two sets take turns, so one batch may be read ahead."""

    def __init__(self, rows: int, features: int) -> None:
        from trivium.program.kernels import gather

        self.rows = rows
        self._do, self._features = gather, features
        self._sets = [self._make() for _ in range(2)]
        self._turn = 0

    def _make(self) -> tuple[tuple[NDArray[Any], Any, bool], ...]:
        shapes = (((self.rows, self._features), "float32"), ((self.rows,), "int32"), ((self.rows,), "float32"))
        arrays = [xla.aligned(shape, dtype) for shape, dtype in shapes]
        return tuple((array, *xla.share(array)) for array in arrays)

    def fill(self, rows: Rows, lo: int, hi: int) -> Filled:
        """Gather the rows ``lo`` to ``hi`` of ``rows``."""
        self._turn ^= 1
        (x, _, _), (y, _, _), (share, _, _) = self._sets[self._turn]
        start, index, count = rows.part(lo, hi)
        self._do.gather(rows.x, self._features, start, index, count, rows.scale, x)
        weight = self._do.gather_labels(rows.y, rows.weight, start, index, count, y, share)
        seen = [array if shared else xla.share(memory)[0] for memory, array, shared in self._sets[self._turn]]
        return Filled(count, weight, *seen)


class NetworkKernel(Kernel):
    """Compiled Δ, evaluation and prediction of ``forward``: (slices in order, x) → logits (rows, classes)."""

    random = False

    def __init__(self, layout: Layout, forward: Forward, features: int, threads: int, rows: int) -> None:
        xla.configure(threads)
        import jax

        self._slices = layout.slices
        self._aliases = xla.Aliases(layout)
        self._buffers = Buffers(max(1, min(rows, CHUNK)), features)
        self._features = features
        self._wide: Buffers | None = None
        self._gradient = jax.jit(jax.grad(_summed(forward), has_aux=True))
        self._score = jax.jit(_scored(forward))
        self._probabilities = jax.jit(lambda params, x: jax.nn.softmax(forward(params, x), axis=1))

    def release(self) -> None:
        """Forget the run's parameters; its memory goes with them."""
        self._aliases.clear()

    def refresh(self, a: NDArray[Any]) -> None:
        """Alias ``a``'s slices now, so that the first step does not."""
        self._aliases.of(a)

    def read(self, batch: Batch) -> tuple[Rows, Filled | None]:
        """Gather the rows into the buffer; what does not fit one buffer is gathered piece by piece when computed."""
        rows = resolve(batch, sparse=False)
        return rows, self._buffers.fill(rows, 0, rows.count) if rows.count <= self._buffers.rows else None

    def delta(
        self,
        a: NDArray[Any],
        ready: tuple[Rows, Filled | None],
        out: NDArray[Any],
        key: int,  # noqa: ARG002  nothing is random
    ) -> tuple[float, float, float]:
        """Σ weight·∇ cross entropy."""
        rows, filled = ready
        rows.labels()
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
            self._wide = Buffers(CHUNK, self._features)
        for lo in range(0, rows.count, CHUNK):
            yield self._wide.fill(rows, lo, min(lo + CHUNK, rows.count))

    def evaluate(self, a: NDArray[Any], ready: tuple[Rows, Filled | None]) -> NDArray[np.float64]:
        """Sums of rows, weight, cross entropy and right answers."""
        rows, params = ready[0], self._aliases.of(a)
        rows.labels()
        sums = np.zeros(4)
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
        """Probabilities (rows, classes)."""
        rows, params = ready[0], self._aliases.of(a)
        # each answer is copied out before the buffers take the next rows
        found = [np.array(self._probabilities(params, piece.x))[: piece.count] for piece in self._pieces(rows)]
        return np.concatenate(found)


def _summed(forward: Forward) -> Callable[..., Any]:
    """(params, x, y, share) → (Σ of weighted losses, the losses one by one)."""
    import jax.numpy as jnp

    def loss(params: tuple[Any, ...], x: Any, y: Any, share: Any) -> Any:
        losses = share * _cross_entropy(forward(params, x), y)
        return jnp.sum(losses), losses

    return loss


def _scored(forward: Forward) -> Callable[..., Any]:
    """(params, x, y, share) → weighted losses, and weights of the rows answered rightly."""
    import jax.numpy as jnp

    def scored(params: tuple[Any, ...], x: Any, y: Any, share: Any) -> Any:
        logits = forward(params, x)
        return share * _cross_entropy(logits, y), share * (jnp.argmax(logits, axis=1) == y)

    return scored


def _cross_entropy(logits: Any, y: Any) -> Any:
    import jax.numpy as jnp
    from jax.scipy.special import logsumexp

    chosen = jnp.arange(logits.shape[1])[None, :] == y[:, None]  # a comparison: XLA scatters gradients one by one
    return logsumexp(logits, axis=1) - jnp.sum(jnp.where(chosen, logits, 0.0), axis=1)
