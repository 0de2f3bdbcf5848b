"""Text of which each line is a row by itself: LIBSVM, documents, ratings. What they have in common.

Rules
-----
* One thread reads and unpacks blocks of whole lines; the others parse them (``streams``). Files of any size pass in
  bounded memory, and lines are counted on the way.
* A partition is a range of bytes of a plain file, or a packed file whole; a line belongs to the range it begins in.
  Read by itself, a partition counts the lines before it only if somebody asks for the number of one.
* A line at fault is an error, or noted and passed over while no more than ``max_bad_rows`` are.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import BadRow, Frame, Partition, Source, in_order
from trivium.data.sources.places import Place, Places
from trivium.data.sources.stream import BOM, ByteStream
from trivium.errors import DataError

__all__ = ["Bad", "Fault", "LineFrame", "LineSource", "Rows", "blocks", "joined", "picked", "shown"]

BLOCK = 1 << 20
PART_BYTES = 16 << 20
_SHOWN = 120


@dataclass(frozen=True)
class Fault:
    """Why a block cannot be read; ``line`` counts from 0 within it, ``at`` is the byte."""

    line: int
    text: str
    at: int = 0


@dataclass(frozen=True)
class Bad:
    """A line that was passed over: its number, from 0 within the block, why, and what it says."""

    line: int
    why: str
    text: str


@dataclass(frozen=True)
class Rows:
    """What a block of ``lines`` lines holds. ``offsets``: the line of each row from 0; None where each line is one."""

    columns: Mapping[str, Any]
    rows: int
    lines: int
    offsets: NDArray[np.int64] | None = None
    bad: tuple[Bad, ...] = ()


@dataclass(frozen=True)
class LineFrame(Frame):
    """A frame that knows on which line each row stands; ``before`` counts what is not known yet."""

    unit: str = "line"
    offsets: NDArray[np.int64] | None = None
    before: Callable[[], int] | None = None

    def line(self, row: int) -> int:
        """The line (from 1) of ``row`` (from 0) of this frame."""
        skipped = 0 if self.before is None else self.before()
        return self.first + skipped + (row if self.offsets is None else int(self.offsets[row]))


@dataclass(frozen=True)
class LineSource(Source):
    """Files of lines. A subclass says what a block of them holds."""

    places: Places
    max_bad_rows: int = 0
    streams: bool = True
    wants: ClassVar[str] = "lines of text"  # what an error says was expected

    @property
    def name(self) -> str:
        """What the person named."""
        return self.places.name

    @property
    def options(self) -> tuple[Any, ...]:
        """What else decides how lines are read."""
        return ()

    def stamp(self) -> str:
        """Paths, sizes, times, and how they are read."""
        told = (self.format, self.options, self.max_bad_rows)
        return hashlib.sha256(f"lines 1 {self.places.stamp()} {told!r}".encode()).hexdigest()

    @abc.abstractmethod
    def parse(self, block: bytes, columns: Sequence[str] | None, start: bool) -> Rows | Fault:
        """The rows of ``block``, which ends with a newline; ``start``: a file begins with it."""

    def partitions(self) -> tuple[Partition, ...]:
        """Ranges of bytes of plain files, packed files whole. ``detail`` is the number of the file."""
        return tuple(one for at, place in enumerate(self.places.files) for one in self._ranges(at, place))

    def _ranges(self, at: int, place: Place) -> Iterator[Partition]:
        if self.places.stream(place).packed:
            yield Partition(place.path, 0, place.size, None, place.size, at)
            return
        cuts = np.linspace(0, place.size, max(1, round(place.size / PART_BYTES)) + 1, dtype=np.int64).tolist()
        for start, stop in pairwise(cuts):
            yield Partition(place.path, start, stop, None, stop - start, at)

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """The rows whose lines begin in ``partition``."""
        place = self.places.files[partition.detail]
        stream = self.places.stream(place)
        pieces = iter(stream) if stream.packed else _between(self.places, place, partition.start, partition.stop)
        found, rows, line = [], 0, 0
        bad: list[BadRow] = []
        for block in blocks(pieces, place.path, self.wants, partition.start == 0):
            parsed = self.parse(block, columns, partition.start == 0 and line == 0)
            before = self._lines_before(place, partition)
            if isinstance(parsed, Fault):
                raise DataError(f"{place.path}: line {before() + line + parsed.line + 1}: {parsed.text}")
            bad += self._noted(place, parsed, before() + line if parsed.bad else 0, len(bad))
            found.append((line, parsed))
            line, rows = line + parsed.lines, rows + parsed.rows
        offsets = None
        if found and (len(found) > 1 or found[0][1].offsets is not None):
            offsets = np.concatenate([_offsets(one) + first for first, one in found])
        whole = joined([one.columns for _, one in found])
        return LineFrame(
            whole,
            rows,
            place.path,
            1,
            skipped=tuple(bad),
            offsets=offsets,
            before=self._lines_before(place, partition),
        )

    def _lines_before(self, place: Place, partition: Partition) -> Callable[[], int]:
        return lambda: _count_lines(self.places, place, partition.start) if partition.start else 0

    def frames(self, columns: Sequence[str] | None = None, threads: int | None = None) -> Iterator[Frame]:
        """All rows in order, a megabyte of text at a time; raises the first fault there is."""

        def work(task: tuple[int, bool, bytes]) -> tuple[int, Rows | Fault]:
            at, start, block = task
            return at, self.parse(block, columns, start)

        line, current, rows, bad = 0, -1, 0, 0
        for at, parsed in in_order(work, self._tasks(), threads):
            place = self.places.files[at]
            line, current = (line, at) if at == current else (0, at)
            if isinstance(parsed, Fault):
                raise DataError(f"{place.path}: line {line + parsed.line + 1}: {parsed.text}")
            skipped = self._noted(place, parsed, line, bad)
            frame = LineFrame(
                parsed.columns, parsed.rows, place.path, line + 1, skipped=tuple(skipped), offsets=parsed.offsets
            )
            line, rows, bad = line + parsed.lines, rows + parsed.rows, bad + len(skipped)
            yield frame
        if not rows:
            raise DataError(f"{self.name}: has no row in {line} lines, expected {self.wants}; check how it was written")

    def _tasks(self) -> Iterator[tuple[int, bool, bytes]]:
        for at, place in enumerate(self.places.files):
            start = True
            for block in blocks(self.places.stream(place), place.path, self.wants):
                yield at, start, block
                start = False

    def _noted(self, place: Place, parsed: Rows, before: int, already: int) -> list[BadRow]:
        """The bad rows of a block. Raises ``DataError`` where they are more than may be, ``already`` counted."""
        noted = [BadRow(place.path, before + one.line + 1, one.why, one.text) for one in parsed.bad]
        if already + len(noted) > self.max_bad_rows:
            last = noted[self.max_bad_rows - already]
            raise DataError(
                f"{place.path}: line {last.line}: {last.why} (bad row {self.max_bad_rows + 1}; at most "
                f"max_bad_rows={self.max_bad_rows} are passed over)"
            )
        return noted

    def head(self, size: int = 1 << 16) -> list[bytes]:
        """Whole lines at the beginning of the first file that are not blank (one cut short if there is no other)."""
        place = self.places.files[0]
        start = self.places.stream(place).head(size)
        _check_text(place.path, start, self.wants)
        lines = start.removeprefix(BOM).split(b"\n")
        if len(start) >= size and len(lines) > 1:
            lines.pop()
        found = [line.rstrip(b"\r") for line in lines if line.strip()]
        if not found:
            raise DataError(
                f"{place.path}: begins with blank lines only, expected {self.wants}; check how it was written"
            )
        return found

    def with_bad(self, rows: Rows, bad: Sequence[Bad]) -> Rows | Fault:
        """``rows``, or the first of ``bad`` where none may be passed over."""
        if bad and not self.max_bad_rows:
            return Fault(bad[0].line, bad[0].why)
        return dataclasses.replace(rows, bad=tuple(bad))


def blocks(stream: Iterator[bytes] | ByteStream, path: object, wants: str, start: bool = True) -> Iterator[bytes]:
    r"""Pieces of whole lines of about a megabyte; the last line gets its newline if it lacks it.

    ``start``: the file begins here, where a byte order mark is passed over. Raises ``DataError`` where this is no text.

    >>> list(blocks(iter([b"1 1:1\n-1 ", b"2:1"]), "file", "lines"))
    [b'1 1:1\n-1 2:1\n']
    """
    parts: list[bytes] = []
    size = 0
    for given in stream:
        piece = given
        if start:
            piece, start = piece.removeprefix(BOM), False
            _check_text(path, piece, wants)
        end = piece.rfind(b"\n") + 1
        if size + end >= BLOCK and end:
            yield b"".join([*parts, piece[:end]])
            parts, size = [], 0
            piece = piece[end:]
        parts.append(piece)
        size += len(piece)
    if size:
        yield b"".join([*parts, b"" if parts[-1].endswith(b"\n") else b"\n"])


def picked(found: Mapping[str, Any], columns: Sequence[str] | None) -> Mapping[str, Any]:
    """Those of ``columns`` that there are; all where None. Whoever misses one says so.

    >>> picked({"x": 1, "label": 2}, ["label", "weight"])
    {'label': 2}
    """
    return found if columns is None else {name: found[name] for name in columns if name in found}


def shown(line: bytes) -> str:
    """A line for a message or a note, shortened."""
    text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _check_text(path: object, piece: bytes, wants: str) -> None:
    start = piece[:4096]
    if b"\0" in start:
        raise DataError(f"{path}: starts with {start[:8]!r} and is not text, expected {wants}; check the file's format")


def _between(places: Places, place: Place, start: int, stop: int) -> Iterator[bytes]:
    """The lines that begin in bytes ``start`` to ``stop`` of a plain file."""
    try:
        with places.open(place) as file:
            at = start
            if start:  # a line that began before belongs to the range before
                file.seek(start - 1)
                at += len(file.readline()) - 1
            if at >= stop:
                return
            file.seek(at)
            while at < stop:
                piece = file.read(min(BLOCK, stop - at))
                if not piece:
                    return
                at += len(piece)
                yield piece
            if not piece.endswith(b"\n"):
                yield file.readline()
    except OSError as error:
        raise DataError(f"{place.path}: cannot be read ({error}); check its permissions and its disk") from None


def _count_lines(places: Places, place: Place, stop: int) -> int:
    count, at = 0, 0
    with places.open(place) as file:
        while at < stop and (piece := file.read(min(BLOCK, stop - at))):
            count, at = count + piece.count(b"\n"), at + len(piece)
            tail = piece
        if at and not tail.endswith(b"\n"):  # the range begins within a line, which belongs to the one before
            count += 1
    return count


def _offsets(rows: Rows) -> NDArray[np.int64]:
    return np.arange(rows.rows, dtype=np.int64) if rows.offsets is None else rows.offsets


def joined(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Columns of several blocks after one another."""
    if len(parts) < 2:
        return parts[0] if parts else {}
    return {name: _column([part[name] for part in parts]) for name in parts[0]}


def _column(parts: Sequence[Any]) -> Any:
    from trivium.data.table import Csr

    if isinstance(parts[0], Csr):
        stored = np.cumsum([0, *(part.nnz for part in parts)])
        ends = [part.indptr[1:] + before for part, before in zip(parts, stored[:-1], strict=True)]
        return Csr(
            np.concatenate([np.zeros(1, np.int64), *ends]),
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.values for part in parts]),
            max(part.width for part in parts),
        )
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import pyarrow as pa

    return pa.concat_arrays(parts)
