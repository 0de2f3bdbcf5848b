"""Rows as a source gives them, before anybody has said what they mean: frames of named columns, and where they lie.

A **source** is one data set in one format. It lists **partitions** (byte ranges, row groups, files), says which
**fields** there are, and gives **frames** in order: a frame is one partition's rows, or a piece of it. What the columns
mean (label, weight, features) is an ``Encoding``'s business, see ``encode``.
"""

from __future__ import annotations

import abc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.errors import DataError

__all__ = ["KINDS", "BadRow", "Column", "Field", "Frame", "Partition", "Source", "in_order"]

Column: TypeAlias = Any  # pyarrow.Array or ChunkedArray (n,), a NumPy array (n, …), or Csr
KINDS = ("number", "category", "text", "time", "pixels", "sparse")
PATIENCE = 600.0  # seconds for one partition: only a stopped process reaches it
AHEAD = 2  # partitions a thread, read or waiting: bounds memory where the reader is faster than who follows

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Field:
    """A column of a source. ``kind`` is one of ``KINDS``; ``dtype`` as it is stored; ``shape`` that of one row."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class BadRow:
    """A row that was passed over: where it stood, what was wrong, the text of it (shortened)."""

    file: str
    line: int
    why: str
    text: str = ""


@dataclass(frozen=True)
class Frame:
    """Some rows under the source's own column names.

    ``first`` is the number (from 1) of the first row in ``file``: a line where ``unit`` is "line", else a row.
    """

    columns: Mapping[str, Column]
    rows: int
    file: str
    first: int = 1
    unit: str = "row"
    skipped: tuple[BadRow, ...] = ()

    def line(self, row: int) -> int:
        """The number (from 1) in ``file`` of ``row`` (from 0) of these."""
        return self.first + row


@dataclass(frozen=True)
class Partition:
    """A part of a source that is read by itself. ``rows`` is None where only reading tells; ``nbytes`` on the disk."""

    file: str
    start: int = 0
    stop: int = 0
    rows: int | None = None
    nbytes: int = 0
    detail: Any = field(default=None, compare=False)  # what the source itself needs to read it


class Source(abc.ABC):
    """One data set in one format. Instances are immutable and cheap to pickle; ``read`` may be called by any thread."""

    format: str = ""
    label: str | None = None  # the column that is the label unless somebody says otherwise
    scale: float = 1.0  # of pixels: value × scale is what a program sees
    max_bad_rows: int = 0  # over all partitions
    cacheable: bool = True  # whether reading costs more than mapping what was read before
    amounts: bool = False  # whether labels are numbers to be predicted even where they are whole
    streams: bool = False  # whether ``frames`` reads in parallel itself, so that partitions are not to be taken apart

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """For people: a path, a pattern, ``synthetic:…``."""

    @abc.abstractmethod
    def stamp(self) -> str:
        """What tells whether the content is still the same, without reading it: paths, sizes, times, options."""

    @abc.abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """The columns, from the head of the data; DataError where files do not agree or cannot be read."""

    @abc.abstractmethod
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions in order; nothing but heads and footers is read."""

    @abc.abstractmethod
    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """The rows of ``partition``; only ``columns`` if given. DataError: file, line, found, expected, what to do."""

    def frames(self, columns: Sequence[str] | None = None, threads: int | None = None) -> Iterator[Frame]:
        """All rows in order, partitions read in parallel. The first fault in the order of the rows is raised."""
        return in_order(lambda one: self.read(one, columns), self.partitions(), threads)


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """``work`` of each item on ``threads`` threads (default: one an allowed core), results in the order of the items.

    >>> list(in_order(lambda x: x * x, range(5), threads=2))
    [0, 1, 4, 9, 16]
    """
    count = threads if threads is not None else len(os.sched_getaffinity(0))
    if count <= 1:
        yield from map(work, items)
        return
    pending: deque[tuple[str, Future[R]]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="read")
    try:
        for item in items:
            pending.append((_named(item), pool.submit(work, item)))
            if len(pending) > count * AHEAD:
                yield _in_time(*pending.popleft())
        while pending:
            yield _in_time(*pending.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _named(item: object) -> str:
    """What ``item`` is, without holding on to it."""
    return f"{item.file}, from {item.start} on" if isinstance(item, Partition) else "a part of the data"


def _in_time(item: str, result: Future[R]) -> R:
    try:
        return result.result(PATIENCE)
    except TimeoutError:
        if result.done():  # what was carried out said so itself
            raise
        raise DataError(
            f"{item}: not read after {PATIENCE:g} s, and given up; check the disk or network that it lies on"
        ) from None


Matrix: TypeAlias = NDArray[Any] | Csr
