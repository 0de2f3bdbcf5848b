"""Parquet and Arrow files: columns with types of their own, in row groups or record batches.

Rules
-----
* A partition is one or more row groups of a Parquet file, or record batches of an Arrow file. A stream
  (``.arrows``, or an Arrow stream by its content) has no index: it is one partition.
* All files have the same columns; integers and floats may differ in width from file to file, as numbers.
* Text columns are categories unless they are declared, or are long and ever different in the first rows; dictionaries
  are categories.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trivium.data.frame import Field, Frame, Partition, Source
from trivium.data.sources.arrow_fields import PARTITION_BYTES, PARTITION_ROWS, field_of, fields_of, own_names
from trivium.data.sources.csv_form import check_types, declared_kinds
from trivium.data.sources.places import Place, Places
from trivium.errors import DataError

__all__ = ["ColumnarSource"]

PARQUET = b"PAR1"
ARROW = b"ARROW1"
FEATHER = b"FEA1"
PARTS = 8  # of a file at least, if it has so many row groups: enough for threads to share
_LOOKED_AT = 1000  # rows, to tell text from categories


@dataclass(frozen=True)
class _File:
    """A file by its footer: the names and Arrow types of its columns, rows of each row group or record batch."""

    place: Place
    kind: str
    schema: Any
    rows: tuple[int, ...]

    @property
    def path(self) -> str:
        return self.place.path


@dataclass(frozen=True)
class ColumnarSource(Source):
    """Parquet, Arrow or Feather files. ``types``: column to "number", "category", "text", "time" or "skip".

    >>> import pyarrow as pa, pyarrow.parquet
    >>> from tempfile import TemporaryDirectory
    >>> from trivium.data.sources.places import resolve
    >>> with TemporaryDirectory() as folder:
    ...     pa.parquet.write_table(pa.table({"age": [31, 7]}), f"{folder}/ages.parquet")
    ...     frame = next(ColumnarSource(resolve(folder)).frames(threads=1))
    >>> frame.columns["age"].to_pylist()
    [31, 7]
    """

    places: Places
    types: Mapping[str, str] = field(default_factory=dict)
    format: str = "parquet"

    @property
    def name(self) -> str:
        """What the person named."""
        return self.places.name

    def stamp(self) -> str:
        """Paths, sizes, times, and how they are read."""
        return hashlib.sha256(f"columnar 1 {self.places.stamp()} {sorted(self.types.items())!r}".encode()).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """The columns of the first file, less those that are skipped."""
        return self._fields

    def check_types(self) -> None:
        """DataError where a type was declared for a column that there is not."""
        check_types(self.types, own_names(self._files[0].schema), self.name)

    def partitions(self) -> tuple[Partition, ...]:
        """Runs of row groups, or record batches; ``start`` to ``stop`` are their numbers, ``detail`` that of the file
        and of the first row.
        """
        found = []
        for at, file in enumerate(self._files):
            total = max(1, sum(file.rows))
            before = 0
            for start, stop in _runs(file):
                rows = sum(file.rows[start:stop])
                size = file.place.size * rows // total
                found.append(Partition(file.path, start, stop, rows, size, (at, before + 1)))
                before += rows
        return tuple(found)

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """The rows of ``partition``. Columns that are not there are left out; the encoding says what it misses."""
        at, first = partition.detail
        file = self._files[at]
        wanted = [one.name for one in self._fields if columns is None or one.name in columns]
        with self._faults(file.place):
            table = self._table(file, partition, wanted)
        return Frame({name: table.column(name) for name in wanted}, table.num_rows, file.path, first)

    @cached_property
    def _alone(self) -> bool:
        """Whether there are fewer partitions than threads, so that Arrow may use threads for each."""
        return len(self.partitions()) < len(os.sched_getaffinity(0))

    @cached_property
    def _files(self) -> tuple[_File, ...]:
        files = [self._file(place) for place in self.places.files]
        for other in files[1:]:
            _check_same(files[0], other)
        return tuple(files)

    @cached_property
    def _fields(self) -> tuple[Field, ...]:
        file = self._files[0]
        kinds = declared_kinds(self.types, self.name)
        texts = [one.name for one in file.schema if one.name not in kinds and field_of(one, None).kind == "category"]
        sample: dict[str, Any] = {}
        if texts and file.rows:
            with self._faults(file.place):
                table = self._table(file, Partition(file.path, 0, 1), texts).slice(0, _LOOKED_AT)
            sample = {name: table.column(name) for name in texts}
        return fields_of(file.schema, kinds, sample, file.path)

    def _file(self, place: Place) -> _File:
        with self._faults(place):
            with self.places.open(place) as opened:
                start = opened.read(8)
            if start.startswith(PARQUET):
                return self._parquet_file(place)
            if start.startswith(ARROW):
                return self._arrow_file(place)
            if start.startswith(b"\xff\xff\xff\xff"):
                return self._arrow_stream(place)
        if start.startswith(FEATHER):
            raise DataError(f"{place.path}: is Feather of version 1, expected version 2; write it again as Parquet")
        raise DataError(
            f"{place.path}: starts with {start!r}, expected {PARQUET!r} (Parquet) or {ARROW!r} (Arrow, Feather); "
            "check its format"
        )

    def _parquet_file(self, place: Place) -> _File:
        from pyarrow import parquet

        with self.places.filesystem.open_input_file(place.path) as opened:
            about = parquet.ParquetFile(opened).metadata
            rows = tuple(about.row_group(at).num_rows for at in range(about.num_row_groups))
            return _File(place, "parquet", about.schema.to_arrow_schema(), rows)

    def _arrow_file(self, place: Place) -> _File:
        from pyarrow import ipc

        with self.places.filesystem.open_input_file(place.path) as opened:
            reader = ipc.open_file(opened, options=ipc.IpcReadOptions(included_fields=[0]))
            rows = tuple(reader.get_batch(at).num_rows for at in range(reader.num_record_batches))
            opened.seek(0)
            return _File(place, "file", ipc.open_file(opened).schema, rows)

    def _arrow_stream(self, place: Place) -> _File:
        from pyarrow import ipc

        with self.places.filesystem.open_input_file(place.path) as opened:
            reader = ipc.open_stream(opened, options=ipc.IpcReadOptions(included_fields=[0]))
            rows = sum(batch.num_rows for batch in reader)
            opened.seek(0)
            return _File(place, "stream", ipc.open_stream(opened).schema, (rows,))

    def _table(self, file: _File, partition: Partition, columns: list[str]) -> Any:
        import pyarrow as pa
        from pyarrow import ipc, parquet

        with self.places.filesystem.open_input_file(file.path) as opened:
            if file.kind == "parquet":
                groups = list(range(partition.start, partition.stop))
                return parquet.ParquetFile(opened).read_row_groups(groups, columns=columns, use_threads=self._alone)
            if file.kind == "stream":
                return ipc.open_stream(opened).read_all().select(columns)
            options = ipc.IpcReadOptions(use_threads=self._alone)
            reader = ipc.open_file(opened, options=options)
            batches = [reader.get_batch(at) for at in range(partition.start, partition.stop)]
            return pa.Table.from_batches(batches, reader.schema).select(columns)

    @contextlib.contextmanager
    def _faults(self, place: Place) -> Iterator[None]:
        """One DataError for whatever Arrow or the disk says of a file."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            why = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise DataError(
                f"{place.path}: is damaged or was cut short ({why}), expected a whole file; fetch or write it again"
            ) from None


def _runs(file: _File) -> Iterator[tuple[int, int]]:
    """Row groups or batches that are read together: an eighth of the file or about 64 MB, unless one has more."""
    most = min(PARTITION_ROWS, PARTITION_BYTES // (8 * max(1, len(file.schema.names))), -(-sum(file.rows) // PARTS))
    start = rows = 0
    for at, more in enumerate(file.rows):
        if at > start and rows + more > most:
            yield start, at
            start, rows = at, 0
        rows += more
    if start < len(file.rows):
        yield start, len(file.rows)


def _check_same(first: _File, other: _File) -> None:
    """DataError where two files do not have the same columns of the same kinds."""
    mine, theirs = own_names(first.schema), own_names(other.schema)
    absent = [name for name in mine if name not in theirs]
    extra = [name for name in theirs if name not in mine]
    if absent or extra:
        what = f"has no column {absent[0]!r} that {first.path} has" if absent else f"has a column {extra[0]!r} more"
        raise DataError(f"{other.path}: {what}, expected the columns of {first.path}; give files of one kind")
    for name in mine:
        was, now = field_of(first.schema.field(name), None), field_of(other.schema.field(name), None)
        if was.kind != now.kind:
            raise DataError(
                f"{other.path}: column {name!r} is {now.dtype}, expected {was.dtype} as in {first.path}; write "
                "the column with one type"
            )
