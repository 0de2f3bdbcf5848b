"""A program from a loss function of one's own, differentiated and compiled by JAX.

    init(key) -> pytree of float arrays                   named slices: the path of each leaf, as in ``layer1/w``
    loss(params, batch, key) -> (value, aux)              or just the value

``batch`` is a dict of the table's dense columns for some rows (``x`` already multiplied by the table's scale).

* Default: ``value`` is the *mean* loss of the rows given, ``aux`` a dict of means. The gradient handed in is rows × its
  gradient. Row weights are the loss's own business: a ``weight`` column is in ``batch`` like any other, and Σ weight is
  the number of rows. Batches come without padding; a batch of another size is compiled once more.
* ``per_row=True``: ``value`` and each entry of ``aux`` have one element a row. Trivium weighs them with the ``weight``
  column (1 without it) and pads short batches with rows of weight 0, so there is one compiled shape.

An ``aux`` entry named ``correct`` (1 or 0 a row, or their mean) becomes the accuracy of reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import Csr, DataSpec
from trivium.errors import DataError, PlanError, UsageError
from trivium.program.kernels import xla
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["FromLoss", "LossKernel"]

CHUNK = 2048  # rows of one call


@dataclass(frozen=True)
class FromLoss(Program):
    """See ``Program.from_loss``."""

    start: Callable[[Any], Any]
    loss: Callable[[Any, dict[str, Any], Any], Any]
    optimizer: Optimizer
    per_row: bool = False
    output: Callable[[Any, dict[str, Any]], Any] | None = None
    free: tuple[str, ...] = ()
    batch_size: int | None = 256
    epochs: int | None = 10
    title: str = "custom"
    spec: DataSpec | None = None

    @property
    def name(self) -> str:
        """The title it was given."""
        return self.title

    @property
    def defaults(self) -> Defaults:
        """The optimizer, batch size and epochs it was made with."""
        full = self.batch_size is None
        return Defaults(self.optimizer, self.batch_size, None if full else self.epochs, 100 if full else None)

    def for_data(self, spec: DataSpec) -> FromLoss:
        """Bound to the columns of ``spec``; DataError where there are no rows, or sparse columns."""
        if spec.rows < 1:
            raise DataError(f"the data have no rows; {self.name} needs at least one")
        if spec.sparse:
            raise DataError(f"column 'x' is sparse; {self.name} reads dense columns: make it dense")
        return replace(self, spec=spec)

    def shapes(self) -> tuple[dict[str, tuple[int, ...]], Any]:
        """Name and shape of each leaf, and the tree's structure."""
        import jax

        leaves, tree = jax.tree_util.tree_flatten_with_path(jax.eval_shape(lambda: self.start(jax.random.key(0))))
        found: dict[str, tuple[int, ...]] = {}
        for path, leaf in leaves:
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "a"
            if leaf.dtype.kind != "f" or 0 in leaf.shape:
                raise PlanError(f"init: {name} is {leaf.dtype}{leaf.shape}; parameters are non-empty arrays of floats")
            found[name] = tuple(leaf.shape)
        if not found:
            raise PlanError("init returned no arrays; it must return the parameters as a pytree of float arrays")
        for name in self.free:
            if name not in found:
                raise PlanError(f"free: no parameter is called {name!r}; there are {', '.join(found)}")
        return found, tree

    @property
    def layout(self) -> Layout:
        """One float32 slice a leaf."""
        return Layout.of(self.shapes()[0], "float32", free=self.free)

    @property
    def xla(self) -> bool:
        """Always."""
        return True

    def init(self, seed: int) -> NDArray[Any]:
        """``init`` of the key that ``seed`` makes. This uses XLA: ``xla.configure`` must come before it."""
        import jax

        leaves = jax.tree_util.tree_leaves(self.start(jax.random.key(seed)))
        layout = self.layout
        return layout.pack({piece.name: np.asarray(leaf) for piece, leaf in zip(layout.slices, leaves, strict=True)})

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Compiled by XLA."""
        xla.configure(1 if reproducible else threads)
        return LossKernel(self, rows)


@dataclass(frozen=True)
class Piece:
    """Columns of some rows, ``share`` their weights (0 for padding), ``count`` the rows without padding."""

    columns: dict[str, Any]
    share: Any
    count: int
    weight: float


class LossKernel(Kernel):
    """Compiled gradient, evaluation and prediction of a user's functions."""

    def __init__(self, program: FromLoss, rows: int) -> None:
        import jax

        names, self._tree = program.shapes()
        self._layout = Layout.of(names, "float32", free=program.free)
        self._program, self._rows = program, max(1, min(rows, CHUNK))
        self._aliases = xla.Aliases(self._layout)
        self._gradient = jax.jit(jax.grad(self._sums, has_aux=True))
        self._score = jax.jit(lambda *args: self._sums(*args)[1])
        self._answer = jax.jit(self._predict)

    def _params(self, slices: tuple[Any, ...]) -> Any:
        import jax

        return jax.tree_util.tree_unflatten(self._tree, slices)

    def _sums(self, slices: tuple[Any, ...], columns: dict[str, Any], share: Any, key: Any) -> Any:
        """(Σ loss, (Σ loss, Σ of each aux)) over the rows of a piece; traced."""
        import jax

        result = self._program.loss(self._params(slices), columns, jax.random.key(key))
        value, aux = result if isinstance(result, tuple) else (result, {})
        value, wanted = jax.numpy.asarray(value), share.shape if self._program.per_row else ()
        if value.shape != wanted:
            kind = "one value a row" if self._program.per_row else "a scalar, the mean over the rows"
            raise UsageError(f"loss returned an array of shape {value.shape}; wanted {kind}, of shape {wanted}")
        if self._program.per_row:
            masked = {name: _masked(entry, share) for name, entry in {"": value, **aux}.items()}
        else:
            masked = {name: len(share) * jax.numpy.asarray(entry) for name, entry in {"": value, **aux}.items()}
        return masked[""], (masked.pop(""), masked)

    def _predict(self, slices: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        assert self._program.output is not None
        return self._program.output(self._params(slices), columns)

    def release(self) -> None:
        """Forget the run's parameters; its memory goes with them."""
        self._aliases.clear()

    def refresh(self, a: NDArray[Any]) -> None:
        """Alias ``a``'s leaves now."""
        self._aliases.of(a)

    def read(self, batch: Batch) -> tuple[Batch, Piece | None]:
        """Gather the rows; batches that take several calls are gathered piece by piece when computed."""
        return batch, self._piece(batch, 0, len(batch)) if 0 < len(batch) <= self._rows else None

    def _piece(self, batch: Batch, lo: int, hi: int) -> Piece:
        at = slice(batch.start + lo, batch.start + hi) if batch.index is None else batch.index[lo:hi]
        count, pad = hi - lo, self._rows - (hi - lo) if self._program.per_row else 0
        columns = {}
        for name, column in batch.table.columns.items():
            if isinstance(column, Csr):
                raise DataError(f"column {name!r} is sparse; {self._program.name} reads dense columns: make it dense")
            picked = _scaled(column[at], batch.table.scale) if name == "x" else column[at]
            columns[name] = np.concatenate([picked, np.repeat(picked[:1], pad, axis=0)]) if pad else picked
        share = np.zeros(count + pad, np.float32)
        share[:count] = columns["weight"][:count] if self._program.per_row and "weight" in columns else 1.0
        return Piece(columns, share, count, float(np.sum(share, dtype=np.float64)))

    def _pieces(self, ready: tuple[Batch, Piece | None]) -> Iterator[Piece]:
        batch, piece = ready
        if piece is not None:
            yield piece
            return
        for lo in range(0, len(batch), self._rows):
            yield self._piece(batch, lo, min(lo + self._rows, len(batch)))

    def delta(
        self, a: NDArray[Any], ready: tuple[Batch, Piece | None], out: NDArray[Any], key: int
    ) -> tuple[float, float, float]:
        """Rows × the gradient of the mean loss, or Σ weight × gradient with ``per_row``."""
        slices = self._aliases.of(a)
        views = list(self._layout.views(out).values())
        out[:] = 0
        rows, weight, loss = 0.0, 0.0, 0.0
        for number, piece in enumerate(self._pieces(ready)):
            seed = np.uint32((key + number) & 0xFFFFFFFF)
            grads, (value, _) = self._gradient(slices, piece.columns, piece.share, seed)
            for view, grad in zip(views, grads, strict=True):
                np.add(view, np.asarray(grad), out=view)
            rows, weight, loss = rows + piece.count, weight + piece.weight, loss + float(value)
        return rows, weight, loss

    def measure(self, a: NDArray[Any], ready: tuple[Batch, Piece | None]) -> dict[str, float]:
        """Σ over rows of ``rows``, ``weight``, ``loss`` and each entry of ``aux``, float64."""
        slices, sums = self._aliases.of(a), {"rows": 0.0, "weight": 0.0, "loss": 0.0}
        for piece in self._pieces(ready):
            value, aux = self._score(slices, piece.columns, piece.share, np.uint32(0))
            found = {"rows": piece.count, "weight": piece.weight, "loss": value, **aux}
            for name, entry in found.items():
                sums[name] = sums.get(name, 0.0) + float(entry)
        return sums

    def evaluate(self, a: NDArray[Any], ready: tuple[Batch, Piece | None]) -> NDArray[np.float64]:
        """Sums of rows, weight, loss, and ``correct`` where ``aux`` has it."""
        sums = self.measure(a, ready)
        return np.array([sums["rows"], sums["weight"], sums["loss"], sums.get("correct", 0.0)])

    def predict(self, a: NDArray[Any], ready: tuple[Batch, Piece | None]) -> NDArray[Any]:
        """What the ``predict`` function says of each row."""
        if self._program.output is None:
            raise UsageError(f"{self._program.name} cannot predict: give predict=(params, batch) -> array to from_loss")
        slices = self._aliases.of(a)
        found = [np.asarray(self._answer(slices, piece.columns))[: piece.count] for piece in self._pieces(ready)]
        return np.concatenate(found)


def _masked(entry: Any, share: Any) -> Any:
    """Σ share × entry; padding counts for nothing, even where it is not finite."""
    import jax.numpy as jnp

    return jnp.sum(jnp.where(share > 0, share * entry, 0.0))


def _scaled(x: NDArray[Any], scale: float) -> NDArray[Any]:
    return x if scale == 1.0 and x.dtype != np.uint8 else x.astype(np.float32) * np.float32(scale)
