"""One column of a frame to numbers, codes or words; and what is said of a value that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import Frame
from trivium.errors import DataError

__all__ = [
    "BadValueError",
    "as_array",
    "bad_value",
    "category_codes",
    "finite",
    "hash_keys",
    "levels",
    "levels_of",
    "not_finite",
    "numbers",
    "of_integers",
    "place_of",
    "strings",
    "tokens",
]

WORDS = r"[^\p{L}\p{N}_]+"  # what separates words: the complement of Python's \w
SHORTEST = 2  # letters of a word that counts, as scikit-learn's CountVectorizer has it
DAY = 86_400_000_000  # microseconds
_SHOWN = 40


class BadValueError(DataError):
    """Some ``rows`` (from 0, of a frame) have a value in a column that cannot be used; ``why`` and what ``todo``."""

    def __init__(self, where: str, rows: NDArray[np.int64], why: str, todo: str) -> None:
        super().__init__(f"{where}: {why}; {todo}")
        self.rows, self.why = rows, why


def place_of(frame: Frame, row: int) -> str:
    """``file: line 7`` of a row (from 0) of ``frame``."""
    found = frame.line(row)
    return f"{frame.file}: {frame.unit} {found}"


def bad_value(frame: Frame, bad: NDArray[np.bool_], column: str, found: Any, expected: str, todo: str) -> BadValueError:
    """The fault of the rows where ``bad`` is true; ``found`` is what the first of them has, None if nothing."""
    rows = np.flatnonzero(bad)
    text = "no value" if found is None else _shown(found)
    why = f"column {column!r}: found {text}, expected {expected}"
    return BadValueError(place_of(frame, int(rows[0])), rows, why, todo)


def _shown(found: Any) -> str:
    text = repr(found) if isinstance(found, str) else f"{found}"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def as_array(column: Any) -> Any:
    """One Arrow array of ``column``, an Arrow array in chunks or not, or a NumPy array."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(column, pa.Array):
        return column
    return pa.array(column)


def numbers(frame: Frame, name: str) -> NDArray[Any]:
    """Column ``name`` as floats (or the integers it has), NaN where missing; times as days since 1970."""
    import pyarrow as pa

    column = frame.columns[name]
    if isinstance(column, np.ndarray):
        if column.dtype.kind == "b":
            return column.astype(np.float32)
        if column.dtype.kind in "iuf":
            return column
    array = as_array(column)
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pa.types.is_temporal(kind):
        return _days(array)
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        array = array.cast(pa.float64())
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return _from_text(frame, name, array)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _days(array: Any) -> NDArray[np.float64]:
    """Times as days since 1970-01-01 (of a day or a duration: days), NaN where missing."""
    import pyarrow as pa

    if pa.types.is_duration(array.type):
        array = array.cast(pa.duration("us"))
    elif pa.types.is_time(array.type):
        array = array.cast(pa.time64("us"))
    else:
        array = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False)
    whole = array.cast(pa.int64())
    return np.asarray(whole.to_numpy(zero_copy_only=False)) / DAY


def _from_text(frame: Frame, name: str, array: Any) -> NDArray[np.float64]:
    """Text that is all numbers after all."""
    import pyarrow as pa

    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise DataError(
            f"{frame.file}: column {name!r}: found values of type {array.type}, expected numbers or text; leave it out"
        )
    try:
        return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        bad = np.array([not _is_number(value) for value in array.to_pylist()], bool)
    found = array[int(np.argmax(bad))].as_py()
    raise bad_value(frame, bad, name, found, "a number", "correct it, or declare the column's type as it is meant")


def _is_number(value: str | None) -> bool:
    try:
        float(value or "nan")
    except ValueError:
        return False
    return True


def strings(column: Any) -> Any:
    """``column`` as an Arrow array of text, null where missing."""
    import pyarrow as pa

    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = pa.array(array.to_numpy(zero_copy_only=False), from_pandas=True)  # NaN is missing
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    return array if text else array.cast(pa.string())


def levels(column: Any) -> tuple[NDArray[np.int64], Any]:
    """Index of each row in the distinct values, -1 where missing; and these, as text."""
    import pyarrow as pa

    array = as_array(column)
    if pa.types.is_floating(array.type) and not pa.types.is_dictionary(array.type):
        array = pa.array(array.to_numpy(zero_copy_only=False), from_pandas=True)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    index = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    distinct = array.dictionary
    if distinct.null_count:  # a level that stands for nothing
        kept = distinct.is_valid().to_numpy(zero_copy_only=False)
        index = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)[index]
        distinct = distinct.drop_null()
    return index, distinct if pa.types.is_string(distinct.type) else distinct.cast(pa.string())


def levels_of(column: Any) -> list[str]:
    """The distinct values that rows of ``column`` have, as text."""
    index, distinct = levels(column)
    used = np.bincount(index + 1, minlength=len(distinct) + 1)[1:] > 0
    return list(distinct.filter(used).to_pylist())


def of_integers(column: Any) -> bool:
    """Whether its values, as text, are whole numbers that sort as such."""
    import pyarrow as pa

    kind = as_array(column).type
    return bool(pa.types.is_integer(kind.value_type if pa.types.is_dictionary(kind) else kind))


def category_codes(frame: Frame, name: str, vocabulary: Any, unseen: str) -> NDArray[np.int64]:
    """Index of each row's value in ``vocabulary`` (an Arrow array of text); -1 where it is missing, or is not in it
    and ``unseen`` is "ignore".
    """
    import pyarrow.compute as pc

    index, distinct = levels(frame.columns[name])
    place = pc.index_in(distinct, value_set=vocabulary).fill_null(-1).to_numpy(zero_copy_only=False)
    codes = np.append(place, -1).astype(np.int64)[index]
    if unseen == "error" and len(place) and place.min() < 0:
        bad = (codes < 0) & (index >= 0)
        if bad.any():
            found = distinct[int(index[np.argmax(bad)])].as_py()
            raise bad_value(frame, bad, name, found, f"one of {_some(vocabulary)} as in training", _UNSEEN)
    return codes


_UNSEEN = "correct it, or train with prep='onehot:ignore', so that unseen values count as none"


def _some(vocabulary: Any) -> str:
    names = vocabulary.slice(0, 6).to_pylist()
    return f"{', '.join(names)}{f', … ({len(vocabulary)} in all)' if len(vocabulary) > len(names) else ''}"


def tokens(column: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], Any]:
    """Words of text: where each row's begin (rows + 1), the index of each in the distinct words, and these.

    Lower case, at least two letters, digits or ``_``, as scikit-learn's ``CountVectorizer``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pc.ascii_split_whitespace(_only_words(strings(column).fill_null("")))
    first = lists.offsets[0].as_py()
    bounds = lists.offsets.to_numpy(zero_copy_only=False).astype(np.int64) - first
    coded = lists.flatten().dictionary_encode()
    words = coded.dictionary
    index = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    counts = pc.utf8_length(words).to_numpy(zero_copy_only=False) >= SHORTEST
    kept = counts[index] if len(index) else np.zeros(0, bool)
    before = np.concatenate([[0], np.cumsum(kept)])
    renamed = np.cumsum(counts) - 1
    return before[bounds], renamed[index[kept]], words.filter(pa.array(counts)).cast(pa.string())


def _only_words(text: Any) -> Any:
    """``text`` in lower case, blanks for all that is no word. Ten times as fast for text that is ASCII as by a pattern,
    which is asked only where it is not.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    foreign = pc.invert(pc.string_is_ascii(text))
    if pc.any(foreign).as_py():
        plain = pc.replace_substring_regex(pc.utf8_lower(text.filter(foreign)), WORDS, " ")
        text = pc.replace_with_mask(text, foreign, plain)
    valid, offsets, data = text.buffers()
    if data is None or not data.size:
        return text
    cleaned = pa.py_buffer(_ASCII[np.frombuffer(data, np.uint8)])
    return pa.Array.from_buffers(text.type, len(text), [valid, offsets, cleaned], offset=text.offset)


def _ascii_words() -> NDArray[np.uint8]:
    """For each byte: itself, its lower case, or a blank; what is not ASCII stays."""
    every = [chr(at).lower() if chr(at).isalnum() or chr(at) == "_" else " " for at in range(128)]
    return np.array([*map(ord, every), *range(128, 256)], np.uint8)


_ASCII = _ascii_words()


def hash_keys(name: str, words: Any) -> NDArray[np.uint64]:
    """A 64-bit key of each of ``words`` in column ``name``: FNV-1a of the name, a zero byte and the word.

    Fowler, Noll, Vo, *The FNV non-cryptographic hash algorithm*, 2012.
    """
    import pyarrow as pa

    from trivium.data.encode_kernel import fnv1a

    plain = words.cast(pa.large_binary())
    _, offsets, data = plain.buffers()
    bounds = np.frombuffer(offsets, np.int64)[plain.offset : plain.offset + len(plain) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return np.asarray(fnv1a(np.frombuffer(name.encode() + b"\0", np.uint8), bounds, text))


def finite(frame: Frame, names: Sequence[str], x: NDArray[Any], missing: bool, first: int = 0) -> None:
    """BadValueError unless all of ``x`` (rows, columns ``names``) is finite; NaN may be there if ``missing``.

    ``first``: the row of ``frame`` that row 0 of ``x`` is. A finite sum needs no look at each element.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(x)):
            return
    wrong = np.isinf(x) if missing else ~np.isfinite(x)
    columns = np.flatnonzero(wrong.any(axis=0))
    if not len(columns):
        return
    row = int(np.argmax(wrong.any(axis=1)))
    at = int(np.argmax(wrong[row]))
    bad = np.zeros(frame.rows, bool)
    bad[first : first + len(x)] = wrong[:, at]
    raise not_finite(frame, names[at], bad, float(x[row, at]), str(x.dtype))


def not_finite(frame: Frame, name: str, bad: NDArray[np.bool_], found: float, dtype: str) -> BadValueError:
    """The fault of rows whose number is missing, infinite, or too large for ``dtype``."""
    if np.isnan(found):
        todo = "fill it in, use prep='impute' (--prep impute), or pass over such rows with max_bad_rows"
        return bad_value(frame, bad, name, None, "a number", todo)
    written = float(numbers(frame, name)[int(np.argmax(bad))]) if name in frame.columns else found
    if np.isfinite(written):
        todo = "scale the column, or read it with dtype='float64'"
        return bad_value(frame, bad, name, written, f"a number below 3.4e38 ({dtype})", todo)
    return bad_value(frame, bad, name, found, "a finite number", "correct it, or pass over such rows with max_bad_rows")
