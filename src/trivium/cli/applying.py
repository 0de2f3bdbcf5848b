"""A finished run on other rows: the run, and the rows read as its own were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trivium.cli.options import words
from trivium.errors import UsageError, unknown

if TYPE_CHECKING:
    from trivium.data.table import Table
    from trivium.face.trained import Run

__all__ = ["Applied", "load", "pieces", "rows"]

UNSEEN = ("error", "ignore")


class Applied(Protocol):
    """The options that say which rows, and how they are read."""

    @property
    def data(self) -> str:
        """A source."""

    @property
    def format(self) -> str | None:
        """Of the source."""

    @property
    def missing(self) -> str | None:
        """Words for a missing value."""

    @property
    def unseen(self) -> str | None:
        """What becomes of categories that no training row had."""

    @property
    def max_bad_rows(self) -> int:
        """Rows that may be passed over."""


def load(path: Path, *, trust: bool) -> Run:
    """The run in ``path``; UsageError where it did not finish, or needs trust that there is none of."""
    from trivium.face.trained import Run

    return Run.load(path, trust=trust)


def rows(run: Run, asked: Applied) -> Any:
    """The rows with their labels, a data set that is read when it is used (or a table, where the run was given one)."""
    from trivium.data.read import part_of_test, read

    part = part_of_test(asked.data)
    if run.reading is None:
        spec: Any = getattr(run.model, "spec", None)
        return read(asked.data, part=part, features=spec.features, classes=spec.classes)
    like = run.reading if asked.unseen is None else _allowing(run.reading, asked.unseen)
    missing = words(asked.missing) or None
    return read(asked.data, like=like, part=part, format=asked.format, missing=missing, max_bad_rows=asked.max_bad_rows)


def _allowing(reading: Any, unseen: str) -> Any:
    """``reading`` with another way for categories that no training row had."""
    if unseen not in UNSEEN:
        raise UsageError(f"--unseen {unseen}: {unknown('way', unseen, UNSEEN)}")
    steps = tuple(replace(step, unseen=unseen) if hasattr(step, "unseen") else step for step in reading.steps)
    return replace(reading, encoding=replace(reading.encoding, unseen=unseen), steps=steps)


def pieces(run: Run, asked: Applied) -> Iterator[Table]:
    """The rows without labels, a piece at a time, nothing kept."""
    found = rows(run, asked)
    yield from found.tables() if hasattr(found, "tables") else (found,)
