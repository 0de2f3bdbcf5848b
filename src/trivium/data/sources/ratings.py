r"""Ratings: ``user item rating`` a line, and perhaps a time, which is left out; with a header or without.

What separates the columns follows from the first line: a tab, ``::``, a comma, a semicolon or blanks. Users and items
are whole numbers (int64) where those of the first lines are, else text; ratings are float64.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import Field
from trivium.data.sources.lines import Bad, Fault, LineSource, Rows, picked, shown
from trivium.errors import DataError

__all__ = ["RatingSource"]

COLUMNS = ("user", "item", "rating")
_SEPARATORS = (b"\t", b"::", b",", b";")
_LOOKED_AT = 1000  # lines
_INTEGER = re.compile(rb"[+-]?\d{1,18}")


@dataclass(frozen=True)
class RatingSource(LineSource):
    r"""Columns ``user``, ``item`` (int64 or text) and ``rating`` (float64), which is the label.

    ``text_ids``: users and items are text; found out where None.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from trivium.data.sources.places import resolve
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "ratings")
    ...     _ = path.write_text("user item rating\n7 2 4.5\n8 2 1\n")
    ...     frame = next(RatingSource(resolve(path)).frames(threads=1))
    >>> frame.columns["user"].to_pylist(), frame.columns["rating"]
    ([7, 8], array([4.5, 1. ]))
    """

    text_ids: bool | None = None
    format: str = "ratings"
    amounts: bool = True
    label: str | None = "rating"
    wants: ClassVar[str] = "lines of 'user item rating'"

    @property
    def options(self) -> tuple[Any, ...]:
        """How lines are taken apart."""
        return (self._separator, self._width, self._text)

    def fields(self) -> tuple[Field, ...]:
        """``user``, ``item`` and ``rating``, whatever a header calls them."""
        kind = ["string" if text else "int64" for text in self._text]
        return (
            Field("user", "category", kind[0]),
            Field("item", "category", kind[1]),
            Field("rating", "number", "float64"),
        )

    def parse(self, block: bytes, columns: Sequence[str] | None, start: bool) -> Rows | Fault:
        """The ratings of ``block``, by pyarrow where all lines are as they should be, else line by line."""
        first = 1 if start and self._header(block[: block.index(b"\n")]) else 0
        found = self._quick(block, first)
        if found is not None:
            rows = len(found["rating"])
            where = np.arange(first, first + rows) if first else None
            return Rows(picked(found, columns), rows, first + rows, where)
        return self._slow(block, first, columns)

    def _quick(self, block: bytes, first: int) -> dict[str, Any] | None:
        """The columns of a block of plain lines; None where there may be anything else."""
        import pyarrow as pa
        from pyarrow import csv

        mark = self._separator
        if b"0x" in block or b"0X" in block:  # which pyarrow takes for a number
            return None
        if mark is None:
            block, mark = re.sub(rb"[ \t]+", b"\t", block), b"\t"
        elif b" " in block:
            return None
        elif len(mark) > 1:
            block, mark = block.replace(mark, b"\t"), b"\t"
        names = [*COLUMNS, "time"][: self._width]
        kinds = {name: pa.string() if text else pa.int64() for name, text in zip(COLUMNS, self._text, strict=False)}
        read = csv.ReadOptions(use_threads=False, block_size=len(block) + 1, skip_rows=first, column_names=names)
        convert = csv.ConvertOptions(
            column_types={**kinds, "rating": pa.float64()}, null_values=[], include_columns=list(COLUMNS)
        )
        try:
            table = csv.read_csv(pa.BufferReader(block), read, csv.ParseOptions(delimiter=mark.decode()), convert)
        except pa.ArrowInvalid:
            return None
        found = {name: table.column(name).combine_chunks() for name in COLUMNS}
        found["rating"] = found["rating"].to_numpy(zero_copy_only=False)
        gaps = any(
            text and "" in set(found[name].unique().to_pylist())
            for name, text in zip(COLUMNS, self._text, strict=False)
        )
        plain = table.num_rows == block.count(b"\n") - first and np.isfinite(found["rating"]).all()
        return found if plain and not gaps else None

    def _slow(self, block: bytes, first: int, columns: Sequence[str] | None) -> Rows | Fault:
        lines = [line.rstrip(b"\r") for line in block[:-1].split(b"\n")]
        parts, offsets, bad = [], [], []
        for at in range(first, len(lines)):
            words = self._words(lines[at])
            if len(words) == self._width:
                parts.append(words)
                offsets.append(at)
            elif lines[at].strip():
                why = f"found {len(words)} columns, expected {self._width} as in the first line; correct the line"
                bad.append(Bad(at, why, shown(lines[at])))
                if len(bad) > self.max_bad_rows:
                    break
        where = np.asarray(offsets, np.int64)
        found, wrong = self._columns(parts)
        if wrong:
            bad = sorted([*bad, *(Bad(offsets[row], why, shown(lines[offsets[row]])) for row, why in wrong)], key=_line)
            passed = {row for row, _ in wrong}
            kept = np.asarray([row for row in range(len(parts)) if row not in passed], np.int64)
            found, where = {name: _taken(column, kept) for name, column in found.items()}, where[kept]
        return self.with_bad(Rows(picked(found, columns), len(where), len(lines), where), bad)

    def _columns(self, parts: Sequence[Sequence[bytes]]) -> tuple[dict[str, Any], list[tuple[int, str]]]:
        """The three columns, and which rows of them are wrong, and why (one more than may be passed over at most)."""
        import pyarrow as pa

        wrong: dict[int, str] = {}
        found: dict[str, Any] = {}
        for at, name in enumerate(COLUMNS[:2]):
            words = [part[at].strip(b' "') for part in parts]
            if self._text[at]:
                texts = [word.decode("utf-8", "backslashreplace") for word in words]
                wrong.update(dict.fromkeys(_where(texts, _empty), f"found no {name}, expected one; correct the line"))
                found[name] = pa.array(texts, pa.string())
                continue
            numbers, bad = _numbers(words, int, np.int64)
            wrong.update({row: self._no_integer(name, words[row]) for row in bad})
            found[name] = pa.array(numbers)
        words = [part[2].strip(b' "') for part in parts]
        ratings, bad = _numbers(words, float, np.float64)
        found["rating"] = ratings
        why = "rating {!r} is no finite number; correct the line"
        wrong.update({row: why.format(words[row].decode("utf-8", "backslashreplace")) for row in bad})
        return found, sorted(wrong.items())[: self.max_bad_rows + 1]

    def _no_integer(self, name: str, word: bytes) -> str:
        return (
            f"{name} {word.decode('utf-8', 'backslashreplace')!r} is no whole number as the first ones are; correct "
            "it, or read the file with format='csv' and types='category'"
        )

    def _words(self, line: bytes) -> list[bytes]:
        return line.split() if self._separator is None else line.split(self._separator)

    def _header(self, line: bytes) -> bool:
        words = self._words(line)
        return len(words) > 2 and not _is_number(words[2].strip(b' "'))

    @cached_property
    def _separator(self) -> bytes | None:
        line = self.head()[0]
        return next((mark for mark in _SEPARATORS if line.count(mark) in (2, 3)), None)

    @cached_property
    def _width(self) -> int:
        line = self.head()[0]
        width = len(self._words(line))
        if width not in (3, 4):
            raise DataError(
                f"{self.places.files[0].path}: line 1: found {width} columns in {shown(line)!r}, expected user, item, "
                "rating and perhaps a time; read other tables with format='csv'"
            )
        return width

    @cached_property
    def _text(self) -> tuple[bool, bool]:
        """Whether users, and items, are text."""
        lines = self.head()
        rows = [self._words(line) for line in lines[1 if self._header(lines[0]) else 0 :][:_LOOKED_AT]]
        rows = [row for row in rows if len(row) == self._width]
        if self.text_ids is not None or not rows:
            return (bool(self.text_ids),) * 2
        whole = [sum(bool(_INTEGER.fullmatch(row[at].strip(b' "'))) for row in rows) for at in range(2)]
        return whole[0] * 2 < len(rows), whole[1] * 2 < len(rows)


def _line(bad: Bad) -> int:
    return bad.line


def _empty(word: str) -> bool:
    return not word


def _where(words: Sequence[Any], wrong: Callable[[Any], bool]) -> list[int]:
    return [row for row, word in enumerate(words) if wrong(word)]


def _is_number(word: bytes) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _numbers(words: Sequence[bytes], kind: type[int] | type[float], dtype: type) -> tuple[NDArray[Any], list[int]]:
    """``words`` as numbers, and the places of those that are none, which are 0."""
    try:
        found: NDArray[Any] = np.asarray(list(map(kind, words)), dtype)
        if kind is int or bool(np.isfinite(found).all()):
            return found, []
    except (ValueError, OverflowError):
        pass
    wrong = _where(words, (lambda word: not _INTEGER.fullmatch(word)) if kind is int else (lambda w: not _is_number(w)))
    passed = set(wrong)
    return np.asarray([0 if row in passed else kind(word) for row, word in enumerate(words)], dtype), wrong


def _taken(column: Any, kept: NDArray[np.int64]) -> Any:
    import pyarrow as pa

    return column[kept] if isinstance(column, np.ndarray) else column.take(pa.array(kept))
