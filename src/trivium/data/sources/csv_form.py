"""What a delimited text file looks like: its delimiter, whether it has a header, what kind each column is.

Rules
-----
* The delimiter is the one of ``, tab ; |`` that cuts the first lines into the same number of fields, the more the
  better. One column needs none.
* The first line is a header if none of its fields is a number or missing where the column below it holds numbers or,
  where all is text, if none of its fields comes again below it.
* A column is *number* if more than half of what was looked at is a number. So one ``abc`` among numbers is an error
  with its line, not a new category; what is meant otherwise is declared. ``true`` and ``false`` are numbers too.
* Of the rest, ISO dates and times are *time*; long, ever different sentences *text*; all else *category*.
* Declared types come first: ``number``, ``category``, ``text``, ``time``, or ``skip`` (the column is not there).
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trivium.data.frame import Field
from trivium.data.sources.arrow_fields import is_text
from trivium.errors import DataError, unknown

__all__ = [
    "DELIMITERS",
    "MISSING",
    "NUMBER",
    "TYPES",
    "Form",
    "check_types",
    "column_names",
    "declared_kinds",
    "fields_of",
    "is_index",
    "sniffed",
]

DELIMITERS = (",", "\t", ";", "|")
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
NUMBER = r"^[ \t]*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|(?i:inf|infinity|nan))[ \t]*$"
WHOLE = r"^[ \t]*[+-]?\d+[ \t]*$"
TYPES = {
    "number": "number",
    "float": "number",
    "float32": "number",
    "float64": "number",
    "int": "number",
    "int64": "number",
    "bool": "number",
    "category": "category",
    "str": "category",
    "text": "text",
    "time": "time",
    "skip": "skip",
}
_UNNAMED = "column_"
_TRIED = 50  # values, before all of them are
_LINES = 200  # looked at for delimiter and header
_TRUTH = ("true", "false", "True", "False", "TRUE", "FALSE")


@dataclass(frozen=True)
class Form:
    """How to cut a file's lines into fields. ``missing``: what stands for a value that is not there."""

    delimiter: str
    header: bool
    missing: tuple[str, ...] = MISSING


def sniffed(
    head: bytes,
    where: str,
    delimiter: str | None,
    header: bool | None,
    missing: tuple[str, ...],
    tabs: bool,
    known: Collection[str] = (),
) -> Form:
    """The form that the first lines in ``head`` have, as far as it was not given. ``tabs``: the name of the file speaks
    for them; ``known``: names that columns have, which make a header of the line where they stand.
    """
    text = head.decode("utf-8", "replace")
    given = delimiter
    if given is None:
        given = _delimiter(text, tabs)
    elif len(given) != 1 or given in '"\r\n':
        raise DataError(f"{where}: delimiter={given!r}: expected one character, as {', '.join(map(repr, DELIMITERS))}")
    rows = list(_rows(text, given))
    if not rows:
        raise DataError(f"{where}: has no row, only blank lines; check how it was written")
    if header is None:
        header = any(name.strip() in known for name in rows[0]) or _has_header(rows, missing)
    return Form(given, header, missing)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for at, row in enumerate(row for row in reader if row):
            if at >= _LINES:
                return
            yield row
    except csv.Error:  # a field longer than the module allows; what came before it will do
        return


def _delimiter(text: str, tabs: bool) -> str:
    best, score = DELIMITERS[0], (0.0, 0)
    for one in ("\t", *DELIMITERS) if tabs else DELIMITERS:
        widths = Counter(len(row) for row in _rows(text, one))
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        mine = (round(count / widths.total(), 1), width)
        if width > 1 and mine > score:
            best, score = one, mine
    return best


def _has_header(rows: Sequence[Sequence[str]], missing: tuple[str, ...]) -> bool:
    first, rest = rows[0], rows[1:]
    number = re.compile(NUMBER)
    if any(number.match(name) for name in first):
        return False
    if not rest:
        return True
    columns = [[row[at] for row in rest if at < len(row)] for at in range(len(first))]
    if any(number.match(value) for column in columns for value in column):
        return not all(name in missing for name in first)
    return not any(name in column for name, column in zip(first, columns, strict=True)) and len(set(first)) == len(
        first
    )


def column_names(head: bytes, where: str, form: Form) -> tuple[str, ...]:
    """The names in the first line, or ``column_1`` … where there is no header."""
    row = next(_rows(head.decode("utf-8", "replace"), form.delimiter), [])
    if not form.header:
        return tuple(f"{_UNNAMED}{at}" for at in range(1, len(row) + 1))
    names = tuple(name.strip() or f"{_UNNAMED}{at}" for at, name in enumerate(row, 1))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        places = [str(at) for at, name in enumerate(names, 1) if name == twice[0]]
        raise DataError(
            f"{where}: line 1: found the name {twice[0]!r} for columns {' and '.join(places)}, expected different "
            "names; rename one"
        )
    return names


def is_index(name: str, values: Any) -> bool:
    """Whether the first column has no name of its own and counts the rows, as an index that pandas wrote."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name != f"{_UNNAMED}1" or not len(values):
        return False
    try:
        counts = values.cast(pa.int64()).combine_chunks()
    except pa.ArrowInvalid:
        return False
    return bool(pc.all(pc.equal(pc.subtract(counts[1:], counts[:-1]), 1), min_count=0, skip_nulls=False).as_py())


def check_types(types: Mapping[str, str], names: Sequence[str], where: str) -> None:
    """DataError where a type was declared for a column that there is not."""
    for name, kind in types.items():
        if name not in names:
            raise DataError(f"{where}: types={{{name!r}: {kind!r}}}: {unknown('column', name, names)}")


def declared_kinds(types: Mapping[str, str], where: str) -> dict[str, str]:
    """Kind by column of what was declared, be the column there or not. DataError for a type that there is not."""
    kinds = {}
    for name, kind in types.items():
        if kind not in TYPES:
            raise DataError(f"{where}: types={{{name!r}: {kind!r}}}: {unknown('type', str(kind), TYPES)}")
        kinds[name] = TYPES[kind]
    return kinds


def fields_of(sample: Mapping[str, Any], kinds: Mapping[str, str]) -> tuple[Field, ...]:
    """The columns and their kinds, from ``sample`` (text by column, null where missing); skipped ones are left out."""
    found = []
    for name, values in sample.items():
        kind = kinds.get(name)
        if kind == "skip":
            continue
        dtype = _dtype(values)
        if kind is None:
            found.append(Field(name, _kind(values, dtype), dtype))
        elif kind == "number":
            found.append(Field(name, kind, dtype if dtype in ("int64", "float64", "bool") else "float64"))
        elif kind == "time":
            found.append(Field(name, kind, dtype if dtype.startswith("timestamp") else "timestamp[us]"))
        else:
            found.append(Field(name, kind, "string"))
    return tuple(found)


def _dtype(values: Any) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    there = values.drop_null()
    if not len(there):
        return "float64"
    numbers = pc.sum(pc.match_substring_regex(there, NUMBER)).as_py()
    if 2 * numbers > len(there):
        whole = pc.sum(pc.match_substring_regex(there, WHOLE)).as_py()
        return "int64" if whole == numbers else "float64"
    truths = pc.sum(pc.is_in(pc.utf8_trim_whitespace(there), pa.array(_TRUTH))).as_py()
    if 2 * truths > len(there):
        return "bool"
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            there.slice(0, _TRIED).cast(kind)  # a cast that fails does so for every value, at length
            there.cast(kind)
        except pa.ArrowInvalid:
            continue
        return str(kind)
    return "string"


def _kind(values: Any, dtype: str) -> str:
    if dtype in ("int64", "float64", "bool"):
        return "number"
    if dtype.startswith("timestamp"):
        return "time"
    return "text" if is_text(values) else "category"
