"""Counts what is in columns, a frame at a time and in bounded memory: missing, distinct, least and largest, non-zeros.

Distinct values are counted one by one up to ``MOST`` of them; beyond, all that is known is that there are more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trivium.data.frame import Column, Field
from trivium.data.table import Csr

__all__ = ["MOST", "Tally"]

MOST = 1000
NUMERIC = ("i", "u", "f", "b")


@dataclass
class Tally:
    """What was seen of one column so far. ``counts`` is None once there were more than ``MOST`` distinct values."""

    of: Field
    rows: int = 0
    missing: int = 0
    nonzero: int = 0
    elements: int = 0
    least: Any = None
    largest: Any = None
    counts: Counter[Any] | None = field(default_factory=Counter)

    def add(self, column: Column) -> None:
        """Count the rows of ``column``."""
        self.rows += len(column)
        if isinstance(column, Csr):
            self.counts = None
            self.elements += len(column) * column.width
            self._numbers(column.values)
        elif isinstance(column, np.ndarray):
            self._array(column)
        else:
            self._arrow(column)

    @property
    def distinct(self) -> int | None:
        """How many values there are beside the missing ones; None: more than ``MOST``."""
        return None if self.counts is None else len(self.counts)

    @property
    def sparse(self) -> bool:
        """Whether most elements are zeros that are not stored."""
        return self.of.kind == "sparse"

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``distinct`` is null where there are more than ``MOST``."""
        about: dict[str, Any] = {
            "name": self.of.name,
            "kind": self.of.kind,
            "dtype": self.of.dtype,
            "shape": list(self.of.shape),
            "missing": self.missing,
            "distinct": self.distinct,
            "least": _plain(self.least),
            "largest": _plain(self.largest),
        }
        if self.elements:
            about |= {"nonzero": self.nonzero, "density": self.nonzero / self.elements}
        return about

    def _array(self, column: Any) -> None:
        if column.dtype.kind not in NUMERIC or column.ndim > 1:
            self.elements += column.size
            self.counts = None
            self._numbers(column)
            return
        self._numbers(column)
        values = column[~np.isnan(column)] if column.dtype.kind == "f" else column
        found, times = np.unique(values, return_counts=True)
        self._count(zip(found.tolist(), times.tolist(), strict=True), len(found))

    def _numbers(self, values: Any) -> None:
        if values.dtype.kind not in NUMERIC or not values.size:
            return
        if values.dtype.kind == "f":
            unknown = np.isnan(values)
            self.missing += int(unknown.sum())
            values = values[~unknown]
        self.nonzero += int(np.count_nonzero(values))
        if values.size:
            self._span(values.min().item(), values.max().item())

    def _arrow(self, column: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.missing += column.null_count
        kind = column.type
        if pa.types.is_floating(kind):
            self.missing += pc.sum(pc.is_nan(column)).as_py() or 0
            column = pc.filter(column, pc.invert(pc.is_nan(column)))
        column = pc.drop_null(column)
        if len(column) and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
            span = pc.min_max(column).as_py()
            self._span(span["min"], span["max"])
        if self.counts is not None:
            found = pc.value_counts(column)
            self._count(((one["values"], one["counts"]) for one in found.slice(0, MOST + 1).to_pylist()), len(found))

    def _count(self, pairs: Any, distinct: int) -> None:
        if self.counts is None:
            return
        if distinct <= MOST:
            for value, times in pairs:
                self.counts[value] += times
        if distinct > MOST or len(self.counts) > MOST:
            self.counts = None

    def _span(self, least: Any, largest: Any) -> None:
        self.least = least if self.least is None else min(self.least, least)
        self.largest = largest if self.largest is None else max(self.largest, largest)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
