"""Reads the rows that a run needs, and describes them for the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.errors import DataError
from trivium.plan import Stopping

if TYPE_CHECKING:
    from trivium.data.table import Table

__all__ = ["Rows", "describe", "load"]


@dataclass(frozen=True)
class Rows:
    """Training rows, and the others where there are any; ``valid`` may be a share of the training rows."""

    train: Table
    valid: Table | float | None
    test: Table | None


def load(data: str, valid: str | float | None, test: str | None) -> Rows:
    """Read all parts; validation and test rows must fit the training rows (DataError)."""
    from trivium.data.read import part_of_test, read

    train = read(data)
    if len(train) == 0:
        raise DataError(f"{data} has no rows")
    fit: dict[str, Any] = {"features": train.spec.features, "classes": train.classes or None}
    held_out = read(valid, **fit) if isinstance(valid, str) else valid
    tested = read(test, part=part_of_test(test), **fit) if test is not None else None
    return Rows(train, held_out, tested)


def describe(rows: Rows) -> dict[str, Any]:
    """What the screen and data.json say of ``rows``; see ``trivium.observe.summary.data_lines``."""
    spec = rows.train.spec
    parts = {"train": len(rows.train)}
    if isinstance(rows.valid, float):
        held_out = round(len(rows.train) * rows.valid)
        parts = {"train": len(rows.train) - held_out, "validation": held_out}
    elif rows.valid is not None:
        parts["validation"] = len(rows.valid)
    if rows.test is not None:
        parts["test"] = len(rows.test)
    return {
        "name": Path(rows.train.name).name or rows.train.name,
        "rows": spec.rows,
        "features": spec.features,
        "classes": len(spec.classes),
        "sparse": spec.sparse,
        "nnz": spec.nnz,
        "parts": parts,
        "notes": list(rows.train.notes),
    }


def bounds(stopping: Stopping) -> dict[str, Any]:
    """The fields of ``stopping`` that are set."""
    return {name: value for name, value in vars(stopping).items() if value is not None}
