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

What these functions raise, or return that cannot be used, is a ``ProgramError`` that names the person's own line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import Csr, DataSpec
from trivium.errors import DataError, PlanError, TriviumError, UsageError
from trivium.program.kernels import xla
from trivium.program.mistakes import files_of, mistake, wrong
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Output, Program

__all__ = ["FromLoss", "LossKernel"]

CHUNK = 2048  # rows of one call


@dataclass(frozen=True)
class FromLoss(Program):
    """See ``Program.from_loss``."""

    start: Callable[[Any], Any]
    loss: Callable[[Any, dict[str, Any], Any], Any]
    optimizer: Optimizer
    per_row: bool = False
    answer: Callable[[Any, dict[str, Any]], Any] | None = None
    free: tuple[str, ...] = ()
    batch_size: int | None = 256
    epochs: int | None = 10
    title: str = "custom"
    spec: DataSpec | None = None
    files: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.files:  # here its functions still know where they were written
            object.__setattr__(self, "files", files_of((self.start, self.loss, self.answer)))

    @property
    def name(self) -> str:
        """The title it was given."""
        return self.title

    @property
    def output(self) -> Output:
        """What ``predict`` is to give: probabilities (rows, classes) where the data have classes, else values."""
        return "probability" if self.spec is not None and self.spec.classes else "value"

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

        made = self._called(lambda: jax.eval_shape(lambda: self.start(jax.random.key(0))))
        leaves, tree = jax.tree_util.tree_flatten_with_path(made)
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

    def _called(self, init: Callable[[], Any]) -> Any:
        try:
            return init()
        except TriviumError:
            raise
        except Exception as error:  # it is the person's function
            raise mistake(f"init of {self.name!r}", error, (self.start,), known=dict(self.files)) from error

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

        leaves = jax.tree_util.tree_leaves(self._called(lambda: self.start(jax.random.key(seed))))
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

        program = self._program
        result = program.loss(self._params(slices), columns, jax.random.key(key))
        value, aux = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        found = _arrays({"": value} | aux) if isinstance(aux, dict) else None
        if found is None:
            said = f"returned {_kind(result)}; wanted the loss, or (the loss, a dict of further values), all numbers"
            raise wrong(f"loss of {program.name!r}", said, program.loss, self._given(columns), dict(program.files))
        wanted = share.shape if program.per_row else ()
        for name, entry in found.items():
            if entry.shape != wanted or (not name and entry.dtype.kind != "f"):
                raise wrong(
                    f"loss of {program.name!r}", self._unfit(name, entry, wanted), program.loss, self._given(columns)
                )
        if program.per_row:
            masked = {name: _masked(entry, share) for name, entry in found.items()}
        else:
            masked = {name: len(share) * entry for name, entry in found.items()}
        return masked[""], (masked.pop(""), masked)

    def _unfit(self, name: str, entry: Any, wanted: tuple[int, ...]) -> str:
        kind = "one float a row" if self._program.per_row else "a float, the mean over the rows"
        of = f" for {name!r} of aux" if name else ""
        return f"returned {entry.dtype}{tuple(entry.shape)}{of}; wanted {kind}, of shape {tuple(wanted)}"

    def _given(self, columns: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Parameters and columns, for an error that shows their shapes."""
        return {
            "params": {piece.name: np.empty(piece.shape, "float32") for piece in self._layout.slices},
            "batch": columns,
        }

    def _called(self, what: str, function: Callable[..., Any], compiled: Callable[..., Any], *given: Any) -> Any:
        """``compiled`` of ``given`` (slices, columns, …), whose mistakes are those of ``function``."""
        try:
            return compiled(*given)
        except TriviumError:
            raise
        except Exception as error:  # it is the person's function, and may raise anything
            program = self._program
            functions = (function, program.loss, program.answer, program.start)
            raise mistake(
                f"{what} of {program.name!r}", error, functions, self._given(given[1]), dict(program.files)
            ) from error

    def _predict(self, slices: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        assert self._program.answer is not None
        return self._program.answer(self._params(slices), columns)

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
            grads, (value, _) = self._called(
                "loss", self._program.loss, self._gradient, slices, piece.columns, piece.share, seed
            )
            for view, grad in zip(views, grads, strict=True):
                np.add(view, np.asarray(grad), out=view)
            rows, weight, loss = rows + piece.count, weight + piece.weight, loss + float(value)
        return rows, weight, loss

    def measure(self, a: NDArray[Any], ready: tuple[Batch, Piece | None]) -> dict[str, float]:
        """Σ over rows of ``rows``, ``weight``, ``loss`` and each entry of ``aux``, float64."""
        slices, sums = self._aliases.of(a), {"rows": 0.0, "weight": 0.0, "loss": 0.0}
        for piece in self._pieces(ready):
            value, aux = self._called(
                "loss", self._program.loss, self._score, slices, piece.columns, piece.share, np.uint32(0)
            )
            found = {"rows": piece.count, "weight": piece.weight, "loss": value, **aux}
            for name, entry in found.items():
                sums[name] = sums.get(name, 0.0) + float(entry)
        return sums

    def evaluate(self, a: NDArray[Any], ready: tuple[Batch, Piece | None]) -> NDArray[np.float64]:
        """Sums of rows, weight, loss, and ``correct`` where ``aux`` has it."""
        sums = self.measure(a, ready)
        return np.array([sums["rows"], sums["weight"], sums["loss"], sums.get("correct", math.nan)])

    def predict(self, a: NDArray[Any], ready: tuple[Batch, Piece | None]) -> NDArray[Any]:
        """What the ``predict`` function says of each row."""
        answer = self._program.answer
        if answer is None:
            raise UsageError(f"{self._program.name} cannot predict: give predict=(params, batch) -> array to from_loss")
        slices, found = self._aliases.of(a), []
        for piece in self._pieces(ready):
            answers = np.asarray(self._called("predict", answer, self._answer, slices, piece.columns))
            if answers.shape[:1] != piece.share.shape:
                said = f"returned {answers.dtype}{answers.shape}; wanted one entry a row, ({len(piece.share)}, …)"
                raise wrong(
                    f"predict of {self._program.name!r}",
                    said,
                    answer,
                    self._given(piece.columns),
                    dict(self._program.files),
                )
            found.append(answers[: piece.count])
        return np.concatenate(found)


def _arrays(entries: dict[str, Any]) -> dict[str, Any] | None:
    """``entries`` as arrays of numbers; None where one is something else."""
    import jax.numpy as jnp

    try:
        return {name: jnp.asarray(entry) for name, entry in entries.items()}
    except (TypeError, ValueError):
        return None


def _kind(result: Any) -> str:
    inner = f" of {', '.join(type(one).__name__ for one in result)}" if isinstance(result, tuple) else ""
    return f"{type(result).__name__}{inner}"


def _masked(entry: Any, share: Any) -> Any:
    """Σ share × entry; padding counts for nothing, even where it is not finite."""
    import jax.numpy as jnp

    return jnp.sum(jnp.where(share > 0, share * entry, 0.0))


def _scaled(x: NDArray[Any], scale: float) -> NDArray[Any]:
    return x if scale == 1.0 and x.dtype != np.uint8 else x.astype(np.float32) * np.float32(scale)
