"""What a loop of one's own works on within a unit: its batch, the tables, and what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.data.batches import Batch
from trivium.data.table import Csr
from trivium.errors import DataError
from trivium.program.tables import Keys, TableSpec, combine, unique

__all__ = ["LoopBatch", "LoopTable", "Pushed", "Unit"]

Flat = NDArray[Any]


@dataclass(frozen=True)
class Unit:
    """The rows of the lanes of ``part`` at ``clock``."""

    part: Part
    clock: int
    batch: Batch


class LoopBatch:
    """The rows of one unit. ``lanes`` they are of, ``clock`` and ``epoch`` that it is, ``len`` how many there are."""

    def __init__(self, unit: Unit, epoch: int, nothing: bool) -> None:
        self.rows, self.lanes, self.clock, self.epoch = unit.batch, range(*unit.part), unit.clock, epoch
        self._count = len(self.lanes) if nothing else len(unit.batch)
        self._sparse: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return self._count

    def column(self, name: str) -> Flat:
        """The rows of a dense column: ``y``, ``weight``, ``x`` or any other. DataError where there is none."""
        column = self.rows.table.columns.get(name)
        if column is None or isinstance(column, Csr):
            dense = [one for one, held in self.rows.table.columns.items() if not isinstance(held, Csr)]
            raise DataError(f"{self.rows.table.name} has no dense column {name!r}; it has {', '.join(dense) or 'none'}")
        picked: Flat = column[slice(self.rows.start, self.rows.stop) if self.rows.index is None else self.rows.index]
        return picked

    @property
    def x(self) -> Flat:
        """Dense features, (rows, …); sparse ones are ``keys``, ``inverse``, ``indptr`` and ``values``."""
        return self.column("x")

    @property
    def y(self) -> Flat:
        """Labels, (rows,): the class's number, or an amount."""
        return self.column("y")

    def _gathered(self) -> tuple[Any, ...]:
        if self._sparse is None:
            from trivium.program.kernels.keys import gather_csr

            x, rows = self.rows.table.columns.get("x"), self.rows
            if not isinstance(x, Csr):
                raise DataError(f"{rows.table.name} has no sparse features to be keys; use batch.x")
            indptr, columns, values = gather_csr(x.indptr, x.indices, x.values, rows.start, rows.index, len(rows))
            found = unique(columns)
            self._sparse = (found.keys, found.inverse, indptr, values)
        return self._sparse

    @property
    def keys(self) -> Keys:
        """The distinct columns of the rows' non-zeros, ascending."""
        return self._gathered()[0]  # type: ignore[no-any-return]

    @property
    def inverse(self) -> NDArray[np.int32]:
        """Of each non-zero, where its column is among ``keys``."""
        return self._gathered()[1]  # type: ignore[no-any-return]

    @property
    def indptr(self) -> NDArray[np.int64]:
        """Where each row's non-zeros begin, (rows + 1,)."""
        return self._gathered()[2]  # type: ignore[no-any-return]

    @property
    def values(self) -> Flat:
        """The non-zeros."""
        return self._gathered()[3]  # type: ignore[no-any-return]

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        if "weight" in self.rows.table.columns and self._count == len(self.rows):
            return float(self.column("weight").sum(dtype=np.float64))
        return float(self._count)


class LoopTable:
    """A row table, as the function has it."""

    def __init__(self, spec: TableSpec, pull: Callable[[Keys], Flat], give: Callable[[Keys, Flat], None]) -> None:
        self.spec, self._pull, self._give = spec, pull, give

    def pull(self, keys: Any) -> Flat:
        """The rows of ``keys`` (n,) in their order, copied, (n, width); one that nobody pushed is as it begins."""
        return self._pull(self.spec.checked(keys))

    def push(self, keys: Any, deltas: Any) -> None:
        """Add ``deltas`` (n, width) to what this clock pushes to ``keys`` (n,); a key may come several times."""
        spec = self.spec
        given = np.asarray(deltas)
        if given.ndim == 1 and spec.width == 1:
            given = given[:, None]
        found = spec.checked(keys)
        if given.shape != (len(found), spec.width):
            raise DataError(
                f"table {spec.name!r}: deltas of shape {given.shape} for {len(found)} keys: expected "
                f"({len(found)}, {spec.width})"
            )
        if not np.can_cast(given.dtype, spec.dtype, "same_kind"):
            raise DataError(
                f"table {spec.name!r}: deltas of {given.dtype} for rows of {spec.dtype}; convert them first"
            )
        rows = np.array(given, spec.dtype, order="C", copy=True)
        summed = combine(found, rows)
        self._give(np.array(summed[0], copy=True) if summed[0] is found else summed[0], summed[1])


@dataclass
class Pushed:
    """What a unit came to: of each table (by number) keys and rows; rows gone over, their weight and loss."""

    tables: dict[int, list[tuple[Keys, Flat]]] = field(default_factory=dict)
    rows: float = 0.0
    weight: float = 0.0
    loss: float = 0.0

    def of(self, table: int) -> tuple[Keys, Flat] | None:
        """Sorted distinct keys of ``table`` and their sums; None where nothing was pushed."""
        found = self.tables.get(table)
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        return combine(np.concatenate([keys for keys, _ in found]), np.concatenate([rows for _, rows in found]))
