"""Delimited text (CSV, TSV): rows under the names of a header, cut into byte ranges that threads read by themselves.

Rules
-----
* A plain file is cut about every 16 MB, at line ends. Where its sampled rows hold quotes, it is looked through once, so
  that no cut falls into a quoted field. A packed file (gzip, xz) is unpacked by one thread, in blocks, while others
  parse what came before.
* Names and types are fixed before, from a **sample**: the beginning, a piece of the middle and the end of each file.
* Numbers are float64, NaN where missing; all else is text, null where missing; times are Arrow timestamps.
* A first column without a name that counts the rows is the index that pandas writes, and is left out.
* Lines are counted only for an error, by reading what comes before it again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import BadRow, Field, Frame, Partition, Source, in_order
from trivium.data.sources import csv_block as block
from trivium.data.sources import csv_form as forms
from trivium.data.sources.csv_file import CsvFile, check_same, head_of, is_packed
from trivium.data.sources.places import Places
from trivium.errors import DataError

__all__ = ["CsvFrame", "CsvSource", "Span"]

log = logging.getLogger(__name__)
PART_BYTES = 16 << 20
_HEAD = 1 << 20  # bytes of the sample's beginning, all files together
_LEAST_HEAD = 1 << 16  # of one file

_Block: TypeAlias = tuple[int, int, bytes]  # of a packed file: its number, the first byte, whole records


@dataclass(frozen=True)
class Span:
    """Bytes ``start`` to ``stop`` of a file, from which ``rows`` rows came: the records ``kept``, None for all."""

    start: int
    stop: int
    rows: int
    kept: Any = None


@dataclass(frozen=True)
class CsvFrame(Frame):
    """A frame that finds the line of a row when somebody asks. ``at``: the number of its file in ``source``."""

    source: CsvSource | None = None
    at: int = 0
    spans: tuple[Span, ...] = ()

    def line(self, row: int) -> int:
        """The line (from 1) on which ``row`` (from 0) of this frame begins."""
        return int(self._lines[row])

    @cached_property
    def _lines(self) -> NDArray[np.int64]:
        assert self.source is not None
        found = [
            self.source.lines(self.at, span)[slice(None) if span.kept is None else span.kept] for span in self.spans
        ]
        return np.concatenate(found)


@dataclass(frozen=True)
class CsvSource(Source):
    r"""Files of delimited text.

    ``delimiter`` and ``header``: found out where None. ``types``: column to "number", "category", "text", "time" or
    "skip". ``missing``: what stands for a missing value. ``max_bad_rows``: ragged rows and such with text where a
    number should be are passed over, at most so many. ``newlines``: quoted fields hold line ends, though the sample has
    no quotes.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from trivium.data.sources.places import resolve
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "ages.csv")
    ...     _ = path.write_text("age,city\n31,Rome\n,Oslo\n")
    ...     frame = next(CsvSource(resolve(path)).frames(threads=1))
    >>> frame.columns["age"].to_pylist(), frame.columns["city"].to_pylist()
    ([31.0, nan], ['Rome', 'Oslo'])
    """

    places: Places
    delimiter: str | None = None
    header: bool | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = forms.MISSING
    max_bad_rows: int = 0
    newlines: bool = False
    part_bytes: int = PART_BYTES
    format: str = "csv"

    def __post_init__(self) -> None:
        packed = any(is_packed(self.places, place) for place in self.places.files)
        object.__setattr__(self, "streams", packed)

    @property
    def name(self) -> str:
        """What the person named."""
        return self.places.name

    def stamp(self) -> str:
        """Paths, sizes, times, and how they are read."""
        options = (self.delimiter, self.header, sorted(self.types.items()), self.missing, self.max_bad_rows)
        return hashlib.sha256(f"csv 1 {self.places.stamp()} {options!r}".encode()).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """The columns in the order of the first file, less those that are skipped."""
        return self._fields

    def check_types(self) -> None:
        """DataError where a type was declared for a column that there is not."""
        forms.check_types(self.types, self._files[0].names, self.name)

    def partitions(self) -> tuple[Partition, ...]:
        """Byte ranges of plain files, packed files whole. ``detail`` is the number of the file."""
        return self._partitions

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> CsvFrame:
        """The rows of ``partition``. Columns that are not there are left out; the encoding says what it misses."""
        file = self._files[partition.detail]
        if file.packed:
            return _joined([self._frame(partition.detail, at, data, columns) for at, data in file.blocks()])
        data = file.between(partition.start, partition.stop)
        if len(data) < partition.nbytes:
            raise DataError(
                f"{file.path}: ends at byte {partition.start + len(data)}, expected {partition.stop}; it was cut while "
                "it was read: try again"
            )
        return self._frame(partition.detail, partition.start, data, columns)

    def frames(self, columns: Sequence[str] | None = None, threads: int | None = None) -> Iterator[Frame]:
        """All rows in order; packed files come in blocks."""
        passed: list[BadRow] = []

        def work(task: Partition | _Block) -> CsvFrame:
            return self.read(task, columns) if isinstance(task, Partition) else self._frame(*task, columns)

        for frame in in_order(work, self._tasks(), threads):
            passed += frame.skipped
            if len(passed) > self.max_bad_rows:
                raise self._bad_row(passed[0].file, passed[0].line, f"{passed[0].why}; correct it", len(passed))
            yield frame

    def lines(self, at: int, span: Span) -> NDArray[np.int64]:
        """The line (from 1) of each record of ``span`` of file number ``at``; reads the file up to there again."""
        file = self._files[at]
        data = b"".join(file.pieces(span.start, span.stop))
        return file.lines_before(span.start) + block.record_lines(data, self._form.delimiter) + 1

    # -- what the files are -------------------------------------------------------------------------------------------
    @cached_property
    def _head_bytes(self) -> int:
        return max(_LEAST_HEAD, _HEAD // len(self.places.files))

    @cached_property
    def _form(self) -> forms.Form:
        place = self.places.files[0]
        head = head_of(self.places, place, self._head_bytes)
        tabs = place.path.lower().removesuffix(".gz").removesuffix(".xz").endswith((".tsv", ".tab"))
        return forms.sniffed(head, place.path, self.delimiter, self.header, self.missing, tabs, self.types)

    @cached_property
    def _files(self) -> tuple[CsvFile, ...]:
        files = [CsvFile.opened(self.places, place, self._form, self._head_bytes) for place in self.places.files]
        for other in files[1:]:
            check_same(files[0], other)
        return tuple(files)

    @cached_property
    def _fields(self) -> tuple[Field, ...]:
        import pyarrow as pa

        names = self._files[0].names
        kinds = forms.declared_kinds(self.types, self.name)
        empty = pa.table({name: pa.array([], pa.string()) for name in names})
        sample = [
            self._as_text(at, start, piece).select(list(names))
            for at, file in enumerate(self._files)
            for start, piece in file.sample
            if piece.strip()
        ]
        if names[0] not in kinds and self._form.header and sample and forms.is_index(names[0], sample[0].column(0)):
            log.warning("%s: left out the first column, a row number without a name", self.name)
            kinds[names[0]] = "skip"
        whole = pa.concat_tables([empty, *sample])
        return forms.fields_of({name: whole.column(name).combine_chunks() for name in names}, kinds)

    def _as_text(self, at: int, start: int, piece: bytes) -> Any:
        """A piece of the sample of file number ``at``."""
        try:
            return block.as_text(piece, self._files[at].names, self._form)
        except block.Unreadable as error:
            raise self._unreadable(at, start, start + len(piece), error) from None

    @cached_property
    def _partitions(self) -> tuple[Partition, ...]:
        found = []
        for at, file in enumerate(self._files):
            if file.packed:
                found.append(Partition(file.path, nbytes=file.place.size, detail=at))
                continue
            for start, stop in pairwise(file.cuts(self.part_bytes, self.newlines)):
                if stop > start:
                    found.append(Partition(file.path, start, stop, nbytes=stop - start, detail=at))
        return tuple(found)

    def _tasks(self) -> Iterator[Partition | _Block]:
        for one in self.partitions():
            if self._files[one.detail].packed:
                yield from ((one.detail, start, data) for start, data in self._files[one.detail].blocks())
            else:
                yield one

    # -- reading ------------------------------------------------------------------------------------------------------
    def _frame(self, at: int, start: int, data: bytes, columns: Sequence[str] | None) -> CsvFrame:
        file, stop = self._files[at], start + len(data)
        wanted = [one.name for one in self._fields if columns is None or one.name in columns]
        if not data.lstrip(b"\r\n"):
            return CsvFrame(block.no_rows(self._fields, wanted), 0, file.path, unit="line", source=self, at=at)
        opened = block.ends_open(data, self._form.delimiter)
        if opened is not None:
            raise self._open_end(file, start, stop, opened)
        try:
            parsed = block.parse(data, file.names, self._fields, self._form, wanted)
            if len(parsed.faults) > self.max_bad_rows and len(wanted) < len(self._fields):
                every = [one.name for one in self._fields]  # the first fault may lie in another column
                parsed = block.parse(data, file.names, self._fields, self._form, every)
        except block.Unreadable as error:
            raise self._unreadable(at, start, stop, error) from None
        skipped = self._skipped(file, start, data, parsed.faults) if parsed.faults else ()
        span = Span(start, stop, parsed.rows, parsed.kept)
        return CsvFrame(parsed.columns, parsed.rows, file.path, 1, "line", skipped, self, at, (span,))

    def _unreadable(self, at: int, start: int, stop: int, error: block.Unreadable) -> DataError:
        where = ""
        if error.record is not None:
            where = f"line {self.lines(at, Span(start, stop, 0))[error.record]}: "
        return DataError(f"{self._files[at].path}: {where}{error.why}; save the file as UTF-8")

    def _skipped(self, file: CsvFile, start: int, data: bytes, faults: Sequence[block.Fault]) -> tuple[BadRow, ...]:
        lines = file.lines_before(start) + block.record_lines(data, self._form.delimiter) + 1
        if len(faults) > self.max_bad_rows:
            first = faults[0]
            raise self._bad_row(file.path, int(lines[first.record]), f"{first.why}; {first.todo}", len(faults))
        return tuple(BadRow(file.path, int(lines[one.record]), one.why, one.text) for one in faults)

    def _bad_row(self, path: str, line: int, why: str, count: int) -> DataError:
        message = f"{path}: line {line}: {why}, or pass over such rows with max_bad_rows"
        if self.max_bad_rows or count > 1:
            message += f" (the first of {count} bad rows found so far, max_bad_rows={self.max_bad_rows})"
        return DataError(message)

    def _open_end(self, file: CsvFile, start: int, stop: int, line: int) -> DataError:
        line += file.lines_before(start) + 1
        if file.packed or stop >= file.place.size:
            todo = 'expected a closing quote; add it, or write each " inside a field twice'
        else:
            todo = "expected its end on the same line; read with newlines=True, or save it without line ends in fields"
        return DataError(f"{file.path}: line {line}: a quoted field begins and does not end, {todo}")


def _joined(frames: Sequence[CsvFrame]) -> CsvFrame:
    """The blocks of one packed file as one frame."""
    import pyarrow as pa

    first = frames[0]
    if len(frames) == 1:
        return first
    full = [frame for frame in frames if frame.rows]
    columns = {name: pa.chunked_array([frame.columns[name] for frame in full]) for name in first.columns}
    skipped = tuple(bad for frame in frames for bad in frame.skipped)
    spans = tuple(span for frame in frames for span in frame.spans)
    rows = sum(frame.rows for frame in frames)
    return CsvFrame(columns, rows, first.file, 1, "line", skipped, first.source, first.at, spans)
