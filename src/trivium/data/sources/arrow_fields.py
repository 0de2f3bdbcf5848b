"""What kinds of columns Arrow's types are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trivium.data.frame import Field
from trivium.errors import DataError

__all__ = ["PARTITION_BYTES", "PARTITION_ROWS", "field_of", "fields_of", "is_text", "own_names"]

PARTITION_ROWS = 1 << 20  # at most
PARTITION_BYTES = 64 << 20  # about, at eight bytes a value

_FEW = 20  # rows below which nothing is called text
_WORDS = 5  # a value, on average, for text
_DISTINCT = 0.9  # of the values, for text


def fields_of(schema: Any, kinds: Mapping[str, str], sample: Mapping[str, Any], where: str) -> tuple[Field, ...]:
    """The columns of an Arrow ``schema``, less those whose declared kind is "skip"; ``sample`` has some text columns.

    Raises ``DataError`` for a type that is none of numbers, text and times.
    """
    found = []
    for column in (schema.field(name) for name in own_names(schema)):
        kind = kinds.get(column.name)
        if kind == "skip":
            continue
        one = field_of(column, kind)
        if not one.kind:
            raise DataError(
                f"{where}: column {column.name!r} is {one.dtype}, expected numbers, text or times; leave it out "
                f"(types={{{column.name!r}: 'skip'}}), or write it as a column for each number"
            )
        if kind is None and column.name in sample and is_text(sample[column.name]):
            one = Field(one.name, "text", one.dtype)
        found.append(one)
    return tuple(found)


def own_names(schema: Any) -> list[str]:
    """The names of the columns, less those in which pandas keeps its index."""
    return [name for name in schema.names if not re.fullmatch(r"__index_level_\d+__", name)]


def field_of(column: Any, kind: str | None) -> Field:
    """The field of an Arrow field; its kind is empty where there is none."""
    return Field(column.name, kind or _kind(column.type), str(column.type))


def _kind(given: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(given):
        return "category" if _kind(given.value_type) else ""
    if types.is_boolean(given) or types.is_integer(given) or types.is_floating(given):
        return "number"
    if types.is_decimal(given) or types.is_null(given):
        return "number"
    if types.is_temporal(given):
        return "time"
    text = types.is_string(given) or types.is_large_string(given) or types.is_string_view(given)
    return "category" if text else ""


def is_text(column: Any) -> bool:
    """Whether values are sentences, hardly two the same, rather than categories."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = column.drop_null()
    if len(there) < _FEW or pa.types.is_dictionary(there.type):
        return False
    there = there.cast(pa.string())
    words = pc.mean(pc.count_substring_regex(there, r"\w\w+")).as_py()
    return bool(words >= _WORDS and pc.count_distinct(there).as_py() >= _DISTINCT * len(there))
