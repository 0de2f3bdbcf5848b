"""Some whole lines of a delimited text file, to columns; and which of them cannot be read, at which line.

Rules
-----
* The fast way is one call of ``pyarrow.csv`` with all types fixed. Only where it refuses, the block is read again as
  text (``_careful``), which finds every row that is at fault.
* Rows are counted as *records*: lines that are not blank, a quoted field's line ends not counted. ``record_lines``
  gives the line of each; it runs only when there is something to report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import Field
from trivium.data.sources.csv_form import NUMBER, Form

__all__ = [
    "Fault",
    "Parsed",
    "Unreadable",
    "as_text",
    "ends_open",
    "first_record_end",
    "no_rows",
    "parse",
    "record_lines",
]

_CACHED = 1 << 20  # bytes of text that stay in a core's cache with what is made of them: twice as fast as all at once
_SHOWN = 40
_TEXT = 200  # characters of a bad row that are kept
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a record: ``record`` counts from 0 in the block; ``todo`` is the advice for a message."""

    record: int
    why: str
    todo: str
    text: str = ""


@dataclass(frozen=True)
class Parsed:
    """The good rows of a block. ``kept`` are their records where any was passed over, else None."""

    columns: Mapping[str, Any]
    rows: int
    faults: tuple[Fault, ...] = ()
    kept: NDArray[np.int64] | None = None


class Unreadable(Exception):  # noqa: N818 - it never leaves the reader
    """The block cannot be read at all; ``record`` is where, None if that is not known."""

    def __init__(self, why: str, record: int | None = None) -> None:
        super().__init__(why)
        self.why, self.record = why, record


def parse(data: Any, names: Sequence[str], fields: Sequence[Field], form: Form, wanted: Sequence[str]) -> Parsed:
    """The columns ``wanted`` of the lines in ``data`` (whole lines, without a header)."""
    import pyarrow as pa

    kinds = {one.name: one for one in fields}
    chosen = {name: kinds[name] for name in wanted}
    types = {name: _arrow_type(chosen[name]) if name in chosen else pa.string() for name in names}
    try:
        table, ragged = _read(data, names, types, form, list(chosen), _CACHED)
    except pa.ArrowInvalid:
        return _careful(data, names, chosen, form)
    columns = {name: _filled(table.column(name), field) for name, field in chosen.items()}
    faults = tuple(_ragged(one) for one in ragged)
    rows = table.num_rows
    kept = _kept(rows + len(faults), [one.record for one in faults]) if faults else None
    return Parsed(columns, rows, faults, kept)


def as_text(data: Any, names: Sequence[str], form: Form) -> Any:
    """All columns as they are written, null where missing; ragged rows are left out. ``pyarrow.Table``.

    Raises ``Unreadable``.
    """
    import pyarrow as pa

    types = {name: pa.string() for name in names}
    try:
        return _read(data, names, types, form, list(names))[0]
    except pa.ArrowInvalid as error:
        raise _unreadable(data, names, form, error) from None


def _arrow_type(field: Field) -> Any:
    import pyarrow as pa

    if field.kind == "number":
        return pa.bool_() if field.dtype == "bool" else pa.float64()
    if field.kind == "time":
        return pa.timestamp("us", "UTC" if "UTC" in field.dtype else None)
    return pa.string()


def _read(
    data: Any, names: Sequence[str], types: Mapping[str, Any], form: Form, wanted: list[str], size: int = 0
) -> tuple[Any, list[Any]]:
    """A table, and the ragged rows that were passed over. ``size``: bytes that are parsed at a time."""
    import pyarrow as pa
    from pyarrow import csv

    ragged: list[Any] = []

    def pass_over(row: Any) -> str:
        ragged.append(row)
        return "skip"

    table = csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(use_threads=False, block_size=size or len(data) + 1, column_names=list(names)),
        parse_options=csv.ParseOptions(
            delimiter=form.delimiter, newlines_in_values=True, invalid_row_handler=pass_over
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict(types),
            include_columns=wanted or [names[0]],
            null_values=list(form.missing),
            strings_can_be_null=True,
        ),
    )
    return table, ragged


def _ragged(row: Any) -> Fault:
    why = f"found {row.actual_columns} field{'s' * (row.actual_columns != 1)}, expected {row.expected_columns}"
    return Fault(row.number - 1, why, "correct the line", str(row.text).rstrip("\r\n")[:_TEXT])


def _kept(records: int, bad: Sequence[int]) -> NDArray[np.int64]:
    return np.delete(np.arange(records, dtype=np.int64), np.asarray(bad, np.int64))


def _filled(column: Any, field: Field) -> Any:
    """One array; what is missing of numbers is NaN."""
    import pyarrow as pa

    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if field.kind != "number" or not array.null_count:
        return array
    if field.dtype == "bool":
        array = array.cast(pa.float64())
    return array.fill_null(float("nan"))


def _careful(data: Any, names: Sequence[str], chosen: Mapping[str, Field], form: Form) -> Parsed:
    """As ``parse``, by way of text: finds every row at fault."""
    import pyarrow as pa

    try:
        table, ragged = _read(data, names, {name: pa.string() for name in names}, form, list(chosen))
    except pa.ArrowInvalid as error:
        raise _unreadable(data, names, form, error) from None
    records = table.num_rows + len(ragged)
    kept = _kept(records, [row.number - 1 for row in ragged])
    faults = {row.number - 1: _ragged(row) for row in ragged}
    good = np.ones(table.num_rows, bool)
    for name, field in chosen.items():
        bad = _unfit(table.column(name), field)
        for at in np.flatnonzero(bad & good).tolist():
            faults[int(kept[at])] = _misfit(int(kept[at]), field, table.slice(at, 1).to_pylist()[0])
        good &= ~bad
    table = table.filter(pa.array(good))
    columns = {name: _converted(table.column(name), field) for name, field in chosen.items()}
    return Parsed(columns, table.num_rows, tuple(faults[record] for record in sorted(faults)), kept[good])


def _unfit(column: Any, field: Field) -> NDArray[np.bool_]:
    """Which values cannot be of ``field``'s kind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if field.kind not in ("number", "time"):
        return np.zeros(len(column), bool)
    if field.kind == "time":
        return np.array([not _is_time(value, field) for value in column.to_pylist()], bool)
    if field.dtype == "bool":
        fits = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), pa.array(list(_TRUTH)))
        fits = pc.or_(fits, pc.is_null(column))
    else:
        fits = pc.match_substring_regex(column, NUMBER).fill_null(True)
    return ~np.asarray(fits.to_numpy(), bool)


def _is_time(value: str | None, field: Field) -> bool:
    import pyarrow as pa

    try:
        pa.array([value], pa.string()).cast(_arrow_type(field))
    except pa.ArrowInvalid:
        return False
    return True


def _misfit(record: int, field: Field, row: Mapping[str, str]) -> Fault:
    found = row[field.name]
    shown = found if len(found) <= _SHOWN else found[: _SHOWN - 1] + "…"
    expected = "a time as 2024-05-01 or 2024-05-01 12:00" if field.kind == "time" else "a number"
    if field.dtype == "bool":
        expected = "true or false"
    todo = f'correct it, declare types={{{field.name!r}: "category"}} if text is meant, or name it as missing'
    why = f"column {field.name!r}: found {shown!r}, expected {expected}"
    return Fault(record, why, todo, ", ".join(str(value) for value in row.values())[:_TEXT])


def _converted(column: Any, field: Field) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if field.kind == "number" and field.dtype == "bool":
        truth = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), pa.array(["true", "1"]))
        return pc.if_else(pc.is_null(column), float("nan"), truth.cast(pa.float64())).combine_chunks()
    if field.kind == "number":
        plain = pc.utf8_ltrim(pc.utf8_trim_whitespace(column), "+")
        return _filled(plain.cast(pa.float64()), field)
    return _filled(column.cast(_arrow_type(field)), field)


def _unreadable(data: Any, names: Sequence[str], form: Form, error: Exception) -> Unreadable:
    """What is wrong with a block that cannot even be read as text: almost always bytes that are no UTF-8."""
    import pyarrow as pa

    types = {name: pa.binary() for name in names}
    table, ragged = _read(data, names, types, form, list(names))
    gone = sorted(row.number - 1 for row in ragged)
    kept = _kept(table.num_rows + len(gone), gone)
    for name in names:
        for at, value in enumerate(table.column(name).to_pylist()):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError:
                return Unreadable(f"column {name!r}: found {value[:_SHOWN]!r}, which is no UTF-8", int(kept[at]))
    return Unreadable(str(error).splitlines()[0])


def no_rows(fields: Sequence[Field], wanted: Sequence[str]) -> dict[str, Any]:
    """The columns ``wanted`` without a row."""
    import pyarrow as pa

    return {one.name: pa.array([], _arrow_type(one)) for one in fields if one.name in wanted}


def ends_open(data: bytes, delimiter: str) -> int | None:
    """The line (from 0) where a quoted field begins that ``data`` does not end; None if there is none."""
    return _walk(data, delimiter)[1] if data.count(b'"') % 2 else None


def record_lines(data: bytes, delimiter: str) -> NDArray[np.int64]:
    """The line (from 0) on which each record of ``data`` begins."""
    if b'"' in data or data.count(b"\r") != data.count(b"\r\n"):
        return np.array([line for line, _ in _walk(data, delimiter)[0]], np.int64)
    if not data:
        return np.zeros(0, np.int64)
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(raw))
    starts = np.concatenate([[0], ends[:-1] + 1])
    blank = (ends == starts) | ((ends == starts + 1) & (raw[np.minimum(starts, len(raw) - 1)] == ord("\r")))
    return np.flatnonzero(~blank)


def first_record_end(head: bytes, delimiter: str) -> int:
    """The byte behind the first line of ``head`` that is not blank, its end and further blank lines included."""
    starts = _walk(head, delimiter, 2)[0]
    return starts[1][1] if len(starts) > 1 else len(head)


def _walk(data: bytes, delimiter: str, most: int | None = None) -> tuple[list[tuple[int, int]], int | None]:
    """(line, byte) at which each record begins, and the line of a quoted field that is still open at the end."""
    mark = re.escape(delimiter.encode())
    field = re.compile(rb'(?:"((?:[^"]|"")*+)("|\Z))?([^\r\n' + mark + rb"]*)(" + mark + rb"|\r\n|\n|\r|\Z)")
    starts: list[tuple[int, int]] = []
    at = line = 0
    fresh = True
    while at < len(data):
        found = field.match(data, at)
        assert found is not None
        quoted, closed, plain, end = found.groups()
        if fresh and (quoted is not None or plain or end == delimiter.encode()):
            starts.append((line, at))
            if len(starts) == most:
                break
        if quoted is not None:
            if not closed:
                return starts, line
            line += quoted.count(b"\n") + quoted.count(b"\r") - quoted.count(b"\r\n")
        fresh = end != delimiter.encode()
        line += fresh
        at = found.end()
    return starts, None
