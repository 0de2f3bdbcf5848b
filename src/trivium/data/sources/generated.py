"""Rows that a Python function makes: as pairs (x, y), or as mappings of columns; a row at a time, or many.

The function is called anew for each pass over the rows, and must give the same rows each time: it is called once to
find out what there is, and once to read. What it gives is copied into frames, so it may use its arrays again.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from trivium.data.frame import Field, Frame, Partition, Source
from trivium.data.sources.lines import picked
from trivium.data.table import Csr
from trivium.errors import DataError

__all__ = ["GeneratedSource"]

_ROWS = 4096  # single rows that make a frame


@dataclass(frozen=True, eq=False)
class GeneratedSource(Source):
    """What ``make()`` gives, which is an iterable, new at each call.

    An item is a batch ``(x, y)`` with ``x`` (n, …) or SciPy sparse and ``y`` (n,); a row ``(x, y)`` with ``x`` (d,) and
    ``y`` one label; ``x`` of either form alone; or a mapping of column names to arrays (n, …) or to single values.

    >>> source = GeneratedSource(lambda: ((np.ones(3), label) for label in (0, 1)))
    >>> frame = next(source.frames())
    >>> frame.columns["x"].shape, frame.columns["label"]
    ((2, 3), array([0, 1]))
    """

    make: Callable[[], Iterable[Any]]
    title: str = ""
    format: str = "generated"
    cacheable: bool = False  # nobody can tell whether a function still gives the same
    streams: bool = True
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise DataError(
                f"{type(self.make).__name__!r} object: expected a function that gives a new iterator at each call, "
                "since rows are read more than once; pass the generator function itself, without calling it"
            )
        object.__setattr__(self, "label", "label" if "label" in self._first.columns else None)

    @property
    def name(self) -> str:
        """``title``, or the function's name."""
        return self.title or str(getattr(self.make, "__name__", type(self.make).__name__))

    def stamp(self) -> str:
        """Of this object: what a function gives cannot be told without calling it."""
        return hashlib.sha256(f"generated 1 {self.mark}".encode()).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """The columns of the first item."""
        return tuple(_field(name, column) for name, column in self._first.columns.items())

    def partitions(self) -> tuple[Partition, ...]:
        """One: only calling the function tells how much there is."""
        return (Partition(self.name),)

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:  # noqa: ARG002 - the only one
        """All rows."""
        from trivium.data.sources.lines import joined

        frames = list(self.frames(columns))
        return Frame(joined([one.columns for one in frames]), sum(one.rows for one in frames), self.name)

    def frames(self, columns: Sequence[str] | None = None, threads: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """A frame for each batch, or for some thousand single rows."""
        known = {one.name: one for one in self.fields()}
        for frame in self._frames():
            self._check(frame, known)
            yield Frame(picked(frame.columns, columns), frame.rows, frame.file, frame.first)

    def _frames(self) -> Iterator[Frame]:
        made = self.make()
        try:
            items = iter(made)
        except TypeError:
            raise DataError(
                f"{self.name}: gave {type(made).__name__!r}, expected an iterable of rows or batches; yield them"
            ) from None
        first = 1
        for run in _runs(items):
            frame = self._frame(run, first)
            if frame.rows:
                yield frame
            first += frame.rows
        if first == 1:
            raise DataError(
                f"{self.name}: gave no row, expected at least one; a generator can be gone through only once"
            )

    def _frame(self, run: Sequence[Any], first: int) -> Frame:
        """One batch, or single rows."""
        columns = self._columns(run[0], first) if _is_batch(run[0]) else self._stacked(run, first)
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise DataError(
                f"{self.name}: row {first}: columns of one length expected, found {told}; give as many of each"
            )
        return Frame(columns, next(iter(lengths.values())), self.name, first)

    def _columns(self, item: Any, first: int) -> dict[str, Any]:
        named = _named(item)
        return {name: self._array(name, given, first) for name, given in named.items()}

    def _stacked(self, run: Sequence[Any], first: int) -> dict[str, Any]:
        rows = [_named(item) for item in run]
        names = list(rows[0])
        for at, row in enumerate(rows):
            if list(row) != names:
                raise DataError(
                    f"{self.name}: row {first + at}: has {', '.join(row)}, expected {', '.join(names)} as in the rows "
                    "before; give the same in each"
                )
        return {name: self._array(name, [row[name] for row in rows], first) for name in names}

    def _array(self, name: str, given: Any, first: int) -> Any:
        """A column that belongs to nobody else: a CSR matrix, numbers, or an Arrow array of text."""
        if hasattr(given, "tocsr"):
            return _compressed(given)
        if hasattr(given, "type") and type(given).__module__.startswith("pyarrow"):
            return given
        try:
            array = np.array(given)
        except ValueError as error:
            raise DataError(
                f"{self.name}: row {first}: column {name!r} is no array ({error}); give rows of one length"
            ) from None
        if array.dtype.kind in "biuf":
            return array
        if array.dtype.kind in "UO" and array.ndim == 1:
            import pyarrow as pa

            try:
                return pa.array(array.tolist(), pa.string())
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    f"{self.name}: row {first}: column {name!r}: {error}; give numbers, or text in each row"
                ) from None
        raise DataError(f"{self.name}: row {first}: column {name!r} holds {array.dtype}, expected numbers or text")

    def _check(self, frame: Frame, known: Mapping[str, Field]) -> None:
        """DataError where a frame is not as the first."""
        found = {name: _field(name, column) for name, column in frame.columns.items()}
        for name in {**known, **found}:
            here, there = found.get(name), known.get(name)
            if here is None or there is None or (here.kind, here.shape) != (there.kind, there.shape):
                raise DataError(
                    f"{self.name}: row {frame.first}: column {name!r} is {_told(here)}, expected {_told(there)} as in "
                    "the rows before; give rows of one form"
                )

    @cached_property
    def _first(self) -> Frame:
        return next(self._frames())


def _runs(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Batches one by one; single rows some thousand at a time."""
    for item in items:
        if _is_batch(item):
            yield [item]
            continue
        run = [item]
        for other in islice(items, _ROWS - 1):
            if _is_batch(other):
                yield run
                run = [other]
                break
            run.append(other)
        yield run


def _named(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, tuple) and len(item) == 2:
        return {"x": item[0], "label": item[1]}
    return {"x": item}


def _is_batch(item: Any) -> bool:
    """Whether an item holds many rows: its labels, or else its first column, have a length that text has not."""
    named = _named(item)
    if isinstance(item, Mapping) or "label" in named:
        last: Any = named.get("label", next(iter(named.values()), None))
        return hasattr(last, "__len__") and not isinstance(last, (str, bytes)) and np.ndim(last) > 0
    return bool(hasattr(item, "tocsr") or np.ndim(item) > 1)


def _compressed(given: Any) -> Csr:
    rows = given.tocsr().copy()
    rows.sum_duplicates()
    values = rows.data if rows.data.dtype in (np.float32, np.float64) else rows.data.astype(np.float32)
    return Csr(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), values, int(rows.shape[1]))


def _field(name: str, column: Any) -> Field:
    if isinstance(column, Csr):
        return Field(name, "sparse", str(column.values.dtype), (column.width,))
    if isinstance(column, np.ndarray):
        shape: tuple[int, ...] = column.shape[1:]
        return Field(name, "pixels" if shape else "number", str(column.dtype), shape)
    return Field(name, "category", str(column.type))


def _told(one: Field | None) -> str:
    return "missing" if one is None else f"{one.kind} of shape {one.shape}" if one.shape else one.kind
