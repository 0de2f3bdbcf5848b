"""A run that is over: what it learned, what it says of itself, and answers for new rows."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.sources.labels import recode
from trivium.data.table import Table
from trivium.errors import DataError, PlanError
from trivium.face.given import labelled, unlabelled
from trivium.observe.rundir import RunDir, read_run
from trivium.program.program import Kernel, Program
from trivium.record import Record
from trivium.running.recalling import Recalled, recall

__all__ = ["Run"]

PIECE = 8192  # rows that are predicted at a time
SCORES = ("objective", "loss", "train_accuracy", "valid_loss", "valid_accuracy", "test_loss", "test_accuracy")


class Run:
    """A trained model with its record and its directory; what ``tv.train`` and ``tv.load`` return.

    >>> import tempfile, trivium as tv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = tv.train("logistic", "synthetic:400x5", plan=tv.Plan("sequential"), out=f"{folder}/run")
    ...     answers = run.predict([[0.5, -0.2, 0.0, 1.0, 0.3]])
    >>> answers.shape, sorted(run.params), run.metrics["train_accuracy"] > 0.5
    ((1,), ['b', 'w'], True)
    """

    def __init__(
        self, path: Path, recalled: Recalled, record: Record | None, further: Mapping[str, float] | None = None
    ) -> None:
        self.path = path
        self._recalled, self._record, self._further = recalled, record, dict(further or {})
        self._kernel: Kernel | None = None

    @classmethod
    def load(cls, path: Path, *, trust: bool = False) -> Run:
        """From the directory of a run that finished; see ``recall``."""
        return cls(path, recall(path, trust=trust), read_run(path).record)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "told"} | {"_kernel": None}

    # -- what there is ------------------------------------------------------------------------------------------------
    @property
    def model(self) -> Program:
        """The program, with the shapes of its data."""
        return self._recalled.program

    @property
    def params(self) -> dict[str, NDArray[Any]]:
        """The trained parameters by name."""
        return self._recalled.layout.views(self._recalled.params)

    @property
    def reading(self) -> Any:
        """How the data were read (encoding and transforms); None where they were tables."""
        return self._recalled.reading

    @property
    def classes(self) -> NDArray[Any]:
        """The labels in the order of ``predict_proba``'s columns; empty for regression."""
        return _names(self._recalled.spec.classes)

    @property
    def record(self) -> Record:
        """All that was measured; DataError where the run left no record."""
        if self._record is None:
            raise DataError(f"{self.path} has no record.json that can be read; `trivium report {self.path}` says more")
        return self._record

    @property
    def metrics(self) -> dict[str, float]:
        """Losses and accuracies on training, validation and test rows, as far as they were measured."""
        told = {name: getattr(self._record, name, None) for name in SCORES}
        return {
            name: value for name, value in told.items() if value is not None and math.isfinite(value)
        } | self._further

    @cached_property
    def told(self) -> RunDir:
        """The run's directory, read."""
        return read_run(self.path)

    # -- what it says -------------------------------------------------------------------------------------------------
    def summary(self) -> str:
        """Plan, result and where the time went, in a few lines."""
        from trivium.observe.summary import data_lines, lines, notice_lines, plan_text, result_lines, time_lines

        pairs = [*data_lines(self.told.data), ("plan", plan_text(self.told.settings))]
        if self._record is not None:
            pairs += [*notice_lines(self._record.notices), *result_lines(self._record), *time_lines(self._record)]
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self._further.items())
        return lines([*pairs, ("metrics", scores)] if scores else pairs)

    def report(self, path: str | Path | None = None) -> str:
        """The report as text; with ``path``, written there as one page of HTML that needs nothing else."""
        from trivium.observe.page import run_lines
        from trivium.observe.summary import lines

        text = lines(run_lines(self.told))
        if path is not None:
            from trivium.observe.html import page

            Path(path).write_text(page(self.told, self._further), encoding="utf-8")
        return text

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"<Run {self.path}: {self.model.name}{', ' if scores else ''}{scores}>"

    def _repr_html_(self) -> str:
        from trivium.observe.html import fragment

        try:
            return fragment(self.told, self._further)
        except OSError:  # its directory is gone
            return f"<pre>{html.escape(repr(self))}</pre>"

    # -- answers ------------------------------------------------------------------------------------------------------
    def predict(self, X: Any) -> NDArray[Any]:
        """Labels as they were in the training data (rows,), or numbers where the model predicts numbers.

        ``X``: a Dataset, a Table, a path, an array, a SciPy sparse matrix, or a frame of pandas, polars or pyarrow with
        the columns of the training data. To a model of images integers are pixels, which are scaled as in training, and
        floats were scaled already. DataError where its features are not those, or no pixel comes to them.
        """
        raw = self._raw(X)
        index = self._index(raw)
        return raw if index is None else self.classes[index]

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities (rows, classes), columns in the order of ``classes``. PlanError where the model has none."""
        if self._kind != "probability":
            raise PlanError(f"{self.model.name} gives {self._kind}s, no probabilities; use predict, or another model")
        return self._raw(X)

    def scores(self, X: Any) -> NDArray[Any]:
        """What the program gives: probabilities, margins or numbers."""
        return self._raw(X)

    def evaluate(self, data: Any, metrics: Iterable[str] | str | None = None) -> dict[str, float]:
        """``metrics`` on ``data``, which has labels: anything that ``predict`` takes, or a pair (x, y).

        Default: accuracy and log loss of classes, rmse and r2 of numbers. Raises UsageError for an unknown metric,
        PlanError for one that this model's answers have no use for.
        """
        from trivium.program.metrics import default_metrics, metric

        if metrics is None:
            metrics = default_metrics(self._kind)  # type: ignore[arg-type]  # it is one of the three
        spec = self._recalled.spec
        rows = labelled(data, like=self._recalled, reading=self.reading, part=_test_part(data))
        table: Table = rows.table() if hasattr(rows, "table") else rows
        if "y" not in table.columns:
            raise DataError(f"{table.name} has no labels; evaluation needs them: say which column is the label")
        y, _ = recode(table.name, np.asarray(table.columns["y"]), table.classes, spec.classes or None)
        weight = table.columns.get("weight")
        names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        found = [metric(name, self._kind) for name in names]  # type: ignore[arg-type]  # it is one of the three
        raw = self._raw(data[0] if isinstance(data, tuple) else table)  # arrays are prepared as in training
        return {one.name: one(y, raw, None if weight is None else np.asarray(weight)) for one in found}

    # -- the kernel ---------------------------------------------------------------------------------------------------
    @property
    def _kind(self) -> str:
        return str(self.model.output) if isinstance(self.model.output, str) else "value"

    def _index(self, raw: NDArray[Any]) -> NDArray[np.int64] | None:
        """The class of each row; None where the model predicts numbers."""
        count = len(self._recalled.spec.classes)
        if self._kind == "score" and count == 2 and raw.ndim == 1:
            return (raw > 0).astype(np.int64)
        if count and raw.ndim == 2 and raw.shape[1] == count:
            best: NDArray[np.int64] = raw.argmax(axis=1)
            return best
        return None

    def _raw(self, X: Any) -> NDArray[Any]:
        found = [one for table in unlabelled(X, self._recalled) for one in self._answers(table)]
        if not found:
            return np.zeros((0, len(self._recalled.spec.classes)) if self._kind == "probability" else 0)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _answers(self, table: Table) -> Iterator[NDArray[Any]]:
        kernel = self._kernel
        if kernel is None:
            kernel = self._kernel = self.model.kernel(1, PIECE, False)
        a = self._recalled.params
        try:
            for start in range(0, len(table), PIECE):
                ready = kernel.read(Batch(table, start, min(start + PIECE, len(table))))
                yield np.array(kernel.predict(a, ready))
        finally:
            kernel.release()


def _test_part(data: Any) -> str:
    """A path or name with parts is evaluated on its test rows."""
    if not isinstance(data, str | Path):
        return "train"
    from trivium.data.read import part_of_test

    return part_of_test(str(data))


def _names(classes: tuple[float | str, ...]) -> NDArray[Any]:
    """Labels as an array: strings, whole numbers as integers, else floats."""
    names = np.array(classes)
    if names.dtype.kind == "f" and np.all(names == np.rint(names)):
        return names.astype(np.int64)
    return names
