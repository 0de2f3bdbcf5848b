"""Tables that are in memory already: pandas, Polars, Arrow. Columns are shared wherever Arrow can share them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from trivium.data.frame import Field, Frame, Partition, Source
from trivium.data.sources.arrow_fields import PARTITION_BYTES, PARTITION_ROWS, fields_of, own_names
from trivium.data.sources.csv_form import check_types, declared_kinds
from trivium.errors import DataError

__all__ = ["InMemorySource", "arrow_table"]

_LOOKED_AT = 1000  # rows, to tell text from categories


@dataclass(frozen=True, eq=False)
class InMemorySource(Source):
    """The rows of a pandas or Polars frame, or of an Arrow table or record batch. A pandas index is not a column.

    >>> import pyarrow as pa
    >>> source = InMemorySource(pa.table({"age": [31, 7], "city": ["Rome", "Oslo"]}))
    >>> [(one.name, one.kind) for one in source.fields()]
    [('age', 'number'), ('city', 'category')]
    """

    given: Any
    types: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    format: str = "memory"
    cacheable: bool = False

    @property
    def name(self) -> str:
        """``title``, or what the rows came as."""
        home = type(self.given).__module__.partition(".")[0].removeprefix("builtins")
        return self.title or f"{home} {type(self.given).__name__}".lstrip()

    def stamp(self) -> str:
        """SHA-256 of the content."""
        total = hashlib.sha256(f"memory 1 {self._table.schema.to_string()} {sorted(self.types.items())!r}".encode())
        for column in self._table.columns:
            _digest(total, column)
        return total.hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """The columns, less those that are skipped."""
        return self._fields

    def check_types(self) -> None:
        """DataError where a type was declared for a column that there is not."""
        check_types(self.types, own_names(self._table.schema), self.name)

    def partitions(self) -> tuple[Partition, ...]:
        """Runs of rows, a million at most."""
        rows = self._table.num_rows
        each = max(1, min(PARTITION_ROWS, PARTITION_BYTES // (8 * self._table.num_columns)))
        cuts = [*range(0, rows, each), rows]
        return tuple(Partition(self.name, start, stop, stop - start) for start, stop in pairwise(cuts))

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """Views of the rows of ``partition``. Columns that are not there are left out."""
        part = self._table.slice(partition.start, partition.stop - partition.start)
        wanted = [one.name for one in self._fields if columns is None or one.name in columns]
        return Frame({name: part.column(name) for name in wanted}, part.num_rows, self.name, partition.start + 1)

    @cached_property
    def _table(self) -> Any:
        return arrow_table(self.given, self.name)

    @cached_property
    def _fields(self) -> tuple[Field, ...]:
        table = self._table
        kinds = declared_kinds(self.types, self.name)
        sample = {name: table.column(name).slice(0, _LOOKED_AT) for name in table.schema.names}
        texts = {name: column for name, column in sample.items() if "string" in str(column.type)}
        return fields_of(table.schema, kinds, texts, self.name)

    def __getstate__(self) -> dict[str, Any]:
        """Without what follows from the rest."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def arrow_table(given: Any, where: str) -> Any:
    """``given`` as a ``pyarrow.Table``. Raises ``DataError``: no frame, no row, two columns of one name."""
    import pyarrow as pa

    kind = type(given).__module__.partition(".")[0]
    if isinstance(given, pa.RecordBatch):
        table = pa.Table.from_batches([given])
    elif isinstance(given, pa.Table):
        table = given
    elif kind == "pandas" and hasattr(given, "columns"):
        table = _from_pandas(given, where)
    elif kind == "polars" and hasattr(given, "to_arrow") and hasattr(given, "columns"):
        table = given.to_arrow()
    else:
        raise DataError(
            f"{where}: expected a pandas or Polars DataFrame, or a pyarrow Table; for arrays use from_arrays"
        )
    names = table.schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: found two columns called {twice!r}, expected different names; rename one")
    if not table.num_rows:
        raise DataError(f"{where}: has no row, expected at least one")
    return table


def _from_pandas(given: Any, where: str) -> Any:
    import pyarrow as pa

    if not all(isinstance(name, str) for name in given.columns):
        given = given.set_axis([str(name) for name in given.columns], axis=1)
    try:
        return pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata()
    except (pa.ArrowException, TypeError, ValueError) as error:
        why = "; ".join(str(part) for part in error.args)[:200]
        raise DataError(f"{where}: {why}; give each column values of one type") from None


def _digest(total: Any, column: Any) -> None:
    """Add the content of ``column`` to ``total``, however it is cut into chunks and whatever lies beside it."""
    import pyarrow as pa

    array = column.combine_chunks()
    batch = pa.record_batch([pa.concat_arrays([array])], ["x"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    total.update(memoryview(sink.getvalue()))
