"""Reads the rows that a run needs as the options say, and describes them for the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli.asked import Asked
from trivium.cli.declared import Reading
from trivium.cli.options import pairs, words
from trivium.errors import DataError, PlanError, StorageError
from trivium.plan import Stopping

if TYPE_CHECKING:
    from trivium.data.frame import BadRow
    from trivium.data.table import Table
    from trivium.program.program import Program
    from trivium.running.job import Job

__all__ = [
    "BAD_ROWS",
    "bounds",
    "describe",
    "read_options",
    "rows_in",
    "skipped_of",
    "source_options",
    "tested",
    "training",
    "validation_rows",
    "write_bad_rows",
]

BAD_ROWS = "bad-rows.tsv"
REGRESSORS = ("linear", "least_squares")
CLASSIFIERS = ("logistic", "softmax", "svm")


def read_options(asked: Reading) -> dict[str, Any]:
    """The options that were given, as ``trivium.read`` has them."""
    given = {
        "label": asked.label,
        "weight": asked.weight,
        "format": asked.format,
        "features": asked.features,
        "types": pairs(asked.types),
        "missing": words(asked.missing) or None,
        "prep": asked.prep,
        "dtype": asked.dtype,
        "max_bad_rows": asked.max_bad_rows or None,
        "cache": False if asked.no_cache else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def training(asked: Asked, program: Program) -> Any:
    """The rows that ``program`` is to learn from; DataError where there are none."""
    from trivium.data.read import read

    if asked.regression and program.name in CLASSIFIERS:
        raise PlanError(f"--regression: {program.name} separates classes; linear, mlp and fm learn numbers")
    amounts = asked.regression or (program.name.partition(":")[0] in REGRESSORS and program.output == "value")
    rows: Any = read(asked.data, **read_options(asked), classes=() if amounts else None)
    if len(rows) == 0:
        raise DataError(f"{asked.data} has no rows")
    return rows


def validation_rows(asked: Asked, valid: str | float | None, train: Any) -> Any:
    """The rows of a source, read as the training rows were; a share stays one."""
    return _likewise(asked, valid, getattr(train, "reading", None), train) if isinstance(valid, str) else valid


def tested(asked: Asked, job: Job) -> Any:
    """The test rows, read as those of ``job``, which is settled, were."""
    return None if asked.test is None else _likewise(asked, asked.test, job.reading, job.data)


def _likewise(asked: Asked, source: str, reading: Any, train: Any) -> Any:
    from trivium.data.read import part_of_test, read

    part = part_of_test(source) if source == asked.test else "train"
    if reading is None:
        return read(source, part=part, features=train.spec.features, classes=train.spec.classes or None)
    return read(source, like=reading, part=part, **source_options(asked))


def source_options(asked: Reading) -> dict[str, Any]:
    """Of the options those that say how a file is written, not what its columns mean."""
    given = read_options(asked)
    return {name: given[name] for name in ("format", "missing", "max_bad_rows", "cache") if name in given}


def skipped_of(rows: Any) -> Sequence[BadRow]:
    """The rows that were passed over."""
    return tuple(getattr(rows, "skipped", ()))


def write_bad_rows(run: Path, bad: Sequence[BadRow]) -> None:
    """``bad-rows.tsv`` in ``run``: file, line, why, text; nothing where there are none."""
    if not bad:
        return
    lines = ["file\tline\twhy\ttext", *("\t".join(map(_field, (b.file, b.line, b.why, b.text))) for b in bad)]
    try:
        (run / BAD_ROWS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{run / BAD_ROWS} cannot be written: {error.strerror}") from error


def _field(value: Any) -> str:
    return " ".join(str(value).split())


def rows_in(job: Job) -> Table:
    """The training rows of ``job``, which is settled."""
    assert not hasattr(job.data, "table")
    return job.data


def describe(job: Job, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What the screen and data.json say of the tables of ``job``; see ``trivium.observe.summary.data_lines``."""
    from trivium.data.table import Table

    train = rows_in(job)
    spec, parts = train.spec, {"train": len(train)}
    if isinstance(job.valid, float):
        held_out = round(len(train) * job.valid)
        parts = {"train": len(train) - held_out, "validation": held_out}
    elif isinstance(job.valid, Table):
        parts["validation"] = len(job.valid)
    if isinstance(job.test, Table):
        parts["test"] = len(job.test)
    return {
        "name": Path(train.name).name or train.name,
        "rows": spec.rows,
        "features": spec.features,
        "classes": len(spec.classes),
        "sparse": spec.sparse,
        "nnz": spec.nnz,
        "parts": parts,
        "notes": [*train.notes, *notes],
    }


def bounds(stopping: Stopping) -> dict[str, Any]:
    """The fields of ``stopping`` that are set."""
    return {name: value for name, value in vars(stopping).items() if value is not None}
