"""Labels and weights of a frame; and what the labels of all frames are: classes, or numbers to be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.encode_columns import bad_value, numbers, place_of, strings
from trivium.data.frame import Frame
from trivium.data.sources import labels as labelling
from trivium.errors import DataError

__all__ = ["label_column", "settle_labels", "weight_column"]

_FEW = 100  # distinct labels that are never too many
_SKIP = "fill it in, or pass over such rows with max_bad_rows"


def label_column(frame: Frame, name: str, kind: str, classes: tuple[float | str, ...] | None) -> Any:
    """float64 labels (rows,), or an Arrow array of text if ``kind`` is "text".

    BadValueError where one is missing or, where ``classes`` are known, unknown.
    """
    if kind == "text":
        text = strings(frame.columns[name])
        if text.null_count:
            raise bad_value(frame, text.is_null().to_numpy(zero_copy_only=False), name, None, "a label", _SKIP)
        if classes:
            _check_known(frame, name, text.to_numpy(zero_copy_only=False).astype(str), classes)
        return text.cast("string")
    found = numbers(frame, name).astype(np.float64, copy=False)
    bad = ~np.isfinite(found)
    if bad.any():
        first = float(found[np.argmax(bad)])
        raise bad_value(frame, bad, name, None if np.isnan(first) else first, "a label, a finite number", _SKIP)
    if classes:
        _check_known(frame, name, found, classes)
    return found


def _check_known(frame: Frame, name: str, found: NDArray[Any], classes: tuple[float | str, ...]) -> None:
    if isinstance(classes[0], str) != (found.dtype.kind == "U"):
        raise DataError(
            f"{place_of(frame, 0)}: column {name!r}: found {found[0]!s}, expected one of "
            f"{labelling.class_names(classes)}; labels and classes must both be text, or both numbers"
        )
    bad = labelling.encode_as(found, classes) < 0
    if bad.any():
        first = found[int(np.argmax(bad))]
        shown = str(first) if found.dtype.kind == "U" else float(first)
        expected = f"one of the classes {labelling.class_names(classes)}"
        raise bad_value(frame, bad, name, shown, expected, "correct it, or give all classes")


def weight_column(frame: Frame, name: str) -> NDArray[np.float32]:
    """Weights (rows,). BadValueError where one is missing, negative or infinite."""
    found = numbers(frame, name)
    with np.errstate(over="ignore", invalid="ignore"):
        weight = found.astype(np.float32)
        bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        first = float(found[np.argmax(bad)])
        raise bad_value(frame, bad, name, None if np.isnan(first) else first, "a weight, 0 or more", "correct it")
    return weight


def settle_labels(
    pieces: Sequence[Any], classes: Sequence[float | str] | None, dtype: str = "float32"
) -> tuple[NDArray[Any], tuple[float | str, ...], tuple[str, ...]]:
    """``y``, its classes and notes, from the labels of all pieces (or the pieces themselves), in order.

    ``y`` is int32 class indices, or of ``dtype`` and without classes. Text and whole numbers are classes unless
    ``classes`` says otherwise; the empty tuple asks for numbers. Raises ``DataError``: labels of two kinds, unknown
    ones, and where nearly each row has a label of its own.

    >>> settle_labels([np.array([3.0, 5.0]), np.array([3.0])], None)[:2]
    (array([0, 1, 0], dtype=int32), (3.0, 5.0))
    """
    labels = [getattr(one, "label", one) for one in pieces]
    known = None if classes is None else labelling.checked_classes(classes)
    text = [not isinstance(one, np.ndarray) for one in labels]
    if any(text) and not all(text):
        raise DataError("labels are text in some files and numbers in others; expected one kind: declare the type")
    y, found = _text(labels, known) if all(text) else _numbers(np.concatenate(labels), known, dtype)
    if known is not None:
        return y, found, ()
    if len(found) > _FEW and 2 * len(found) > len(y):
        kind = "text" if all(text) else "whole-number"
        todo = "name the right label column" + ("" if all(text) else ", or give classes=() to predict numbers")
        raise DataError(f"{len(found)} distinct {kind} labels in {len(y)} rows, expected classes that recur; {todo}")
    return y, found, () if all(text) else labelling.many_classes_note(found)


def _text(labels: Sequence[Any], known: tuple[float | str, ...] | None) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    import pyarrow as pa

    whole = pa.chunked_array(labels, pa.string()).combine_chunks().dictionary_encode()
    names = whole.dictionary.to_pylist()
    if known == ():
        raise DataError(f"classes=(): asks for numbers, but the labels are text ({names[0]!r}); leave classes out")
    order = tuple(sorted(names)) if known is None else known
    place = {name: at for at, name in enumerate(order)}
    absent = [name for name in names if name not in place]
    if absent:
        raise DataError(f"label {absent[0]!r} is none of classes={labelling.class_names(order)}; give all classes")
    index = np.array([place[name] for name in names], np.int32)
    return index[whole.indices.to_numpy(zero_copy_only=False)], order


def _numbers(
    labels: NDArray[np.float64], known: tuple[float | str, ...] | None, dtype: str
) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    if known is None:
        y, found = labelling.encode(labels)
        return (y, found) if found else (labels.astype(dtype), ())
    if not known:
        return labels.astype(dtype), ()
    index = labelling.encode_as(labels, known) if not isinstance(known[0], str) else np.full(len(labels), -1, np.int32)
    if index.min() < 0:
        first = labels[int(np.argmin(index))]
        raise DataError(f"label {first:g} is none of classes={labelling.class_names(known)}; give all classes")
    return index, known
