"""Tables from NumPy arrays and SciPy sparse matrices.

Rules: element types are kept where a program can use them (float32, float64, and uint8 as pixels); other small types
become float32, wide integers float64, as exact as they were. Nothing that was passed in is ever written to. Integers,
booleans and text in ``y`` are classes; floats are classes if all are whole and at most 100 differ, else numbers to be
predicted (compare scikit-learn's ``type_of_target``, which sets no such bound).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.sources import labels as labelling
from trivium.data.table import Csr, Table
from trivium.errors import DataError

__all__ = ["fingerprint", "from_arrays"]

_WIDEST = 2**31 - 1
_EXACT_INTEGER = 2**53


def from_arrays(
    x: Any,
    y: Any = None,
    weight: Any = None,
    *,
    classes: Sequence[float | str] | None = None,
    dtype: str | None = None,
    name: str = "arrays",
    **columns: Any,
) -> Table:
    """Make a table of arrays.

    ``x``: (n, …) numbers, or a SciPy sparse matrix (n, d). ``y``: (n,) labels. ``weight``: (n,), 0 or more, not all 0.
    ``classes``: what the labels are, in order; the empty tuple asks for regression. ``dtype``: "float32" or "float64"
    for ``x`` (default: as it is). Further ``columns``: arrays of n rows, kept as they are. What fits is not copied.

    >>> table = from_arrays([[0.0, 1.0], [2.0, 3.0]], ["no", "yes"])
    >>> table.classes, table.columns["y"]
    (('no', 'yes'), array([0, 1], dtype=int32))

    Raises ``DataError``.
    """
    if dtype not in (None, "float32", "float64"):
        raise DataError(f"dtype={dtype!r}: expected 'float32', 'float64' or None for the type that x has")
    made: dict[str, NDArray[Any] | Csr] = {"x": _features(x, dtype)}
    rows = len(made["x"])
    found: tuple[float | str, ...] = ()
    notes: tuple[str, ...] = ()
    if y is not None:
        made["y"], found = _labels(_one_dimension("y", y, rows), classes, _quantity_type(made["x"]))
        notes = labelling.many_classes_note(found) if classes is None else ()
    elif classes:
        raise DataError(f"classes={labelling.class_names(classes)}: there is no y; give y or leave classes out")
    if weight is not None:
        made["weight"] = _weights(_one_dimension("weight", weight, rows))
    for key, column in columns.items():
        made[key] = _further(key, column, rows)
    return Table(made, found, name=name, fingerprint=fingerprint(made), notes=notes)


def fingerprint(columns: Mapping[str, NDArray[Any] | Csr]) -> str:
    """SHA-256 over names, types, shapes and bytes of ``columns``."""
    total = hashlib.sha256()
    for name, column in columns.items():
        arrays = (column.indptr, column.indices, column.values) if isinstance(column, Csr) else (column,)
        width = column.width if isinstance(column, Csr) else ""
        for array in arrays:
            total.update(f"{name} {width} {array.dtype.str} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _array(name: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of unequal length
        raise DataError(f"{name} is no array ({error}); give rows of one length") from None


def _features(x: Any, dtype: str | None) -> NDArray[Any] | Csr:
    from scipy import sparse

    if sparse.issparse(x):
        return _sparse(x, dtype)
    dense = _array("x", x)
    if dense.ndim < 2:
        raise DataError(
            f"x has shape {dense.shape}, expected (rows, features); use x.reshape(-1, 1) for one feature, "
            "x.reshape(1, -1) for one row"
        )
    if not dense.size:
        raise DataError(f"x has shape {dense.shape}, expected at least one row and one feature")
    kind = _kind("x", dense.dtype, dtype)
    with np.errstate(over="ignore"):
        return _finite("x", np.ascontiguousarray(dense, kind), dense)


def _sparse(x: Any, dtype: str | None) -> Csr:
    if len(x.shape) != 2 or not min(x.shape):
        raise DataError(f"x has shape {x.shape}, expected (rows, features), at least one of each")
    if x.shape[1] > _WIDEST:
        raise DataError(f"x has {x.shape[1]} columns, expected at most {_WIDEST}; number the columns anew")
    kind = _kind("x", x.dtype, dtype)
    if kind == np.uint8:
        kind = np.dtype(np.float32)  # pixels are dense; the kernels take floats
    rows = x.tocsr()
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    with np.errstate(over="ignore"):
        values = _finite("x", np.asarray(rows.data, kind), rows.data)
    if rows.nnz and (rows.indices.min() < 0 or rows.indices.max() >= x.shape[1]):
        raise DataError(f"x has an index outside its {x.shape[1]} columns; make it with scipy.sparse's own functions")
    return Csr(np.asarray(rows.indptr, np.int64), np.asarray(rows.indices, np.int32), values, int(x.shape[1]))


def _kind(name: str, given: np.dtype[Any], wanted: str | None) -> np.dtype[Any]:
    if given.kind not in "biuf":
        raise DataError(f"{name} holds {given}, expected numbers; encode text and dates as numbers first")
    if wanted is not None:
        return np.dtype(wanted)
    if given.type in (np.uint8, np.float32, np.float64):
        return given.newbyteorder("=")
    return np.dtype(np.float32 if given.kind == "b" or given.itemsize <= 2 else np.float64)


def _finite(name: str, made: NDArray[Any], given: NDArray[Any]) -> NDArray[Any]:
    """``made`` if all of it is finite. A finite sum needs no look at each element."""
    if made.dtype.kind != "f":
        return made
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(made, dtype=np.float64)):
            return made
    bad = np.argwhere(~np.isfinite(made))
    if not len(bad):
        return made
    place = tuple(int(i) for i in bad[0])
    why = "expected finite values; drop or fill these"
    if np.isfinite(given[place]):
        why = f"too large for {made.dtype}; scale it"
    raise DataError(f"{name}{list(place)} is {given[place]} ({len(bad)} such values): {why}")


def _one_dimension(name: str, given: Any, rows: int) -> NDArray[Any]:
    array = _array(name, given)
    if array.ndim != 1:
        hint = f"; use {name}.ravel()" if array.size == rows else ""
        raise DataError(f"{name} has shape {array.shape}, expected ({rows},), one number a row{hint}")
    _same_rows(name, len(array), rows)
    return array


def _same_rows(name: str, given: int, rows: int) -> None:
    if given != rows:
        raise DataError(f"{name} has {given} rows, but x has {rows}; give arrays of one length")


def _quantity_type(x: NDArray[Any] | Csr) -> type[np.floating]:
    """The type of what is to be predicted: that of the features, so that kernels meet one type."""
    kind = (x.values if isinstance(x, Csr) else x).dtype
    return np.float64 if kind == np.float64 else np.float32


def _labels(
    labels: NDArray[Any], classes: Sequence[float | str] | None, quantity: type[np.floating]
) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    if labels.dtype.kind == "O" and not any(isinstance(label, str) for label in labels):
        labels = np.asarray(labels.tolist())
    if labels.dtype.kind in "OUST":
        return _text_labels(labels, classes)
    if labels.dtype.kind not in "biuf":
        raise DataError(f"y holds {labels.dtype}, expected numbers, booleans or text")
    numbers = _finite("y", labels.astype(np.float64), labels)
    if labels.dtype.kind in "iu" and np.abs(numbers).max() > _EXACT_INTEGER:
        raise DataError(f"y holds integers above 2^53 ({labels.max()}), which are not told apart; encode them first")
    if classes is None and labels.dtype.kind == "f" and _are_quantities(numbers):
        classes = ()
    if classes is None:
        return labelling.encode(numbers)
    if len(classes) == 0:
        with np.errstate(over="ignore"):
            return _finite("y", numbers.astype(quantity), numbers), ()
    return _known_labels(numbers, labelling.checked_classes(classes))


def _are_quantities(numbers: NDArray[np.float64]) -> bool:
    return bool(np.any(numbers != np.rint(numbers))) or len(np.unique(numbers)) > labelling.MANY_CLASSES


def _text_labels(
    labels: NDArray[Any], classes: Sequence[float | str] | None
) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    for row, label in enumerate(labels.tolist()):
        if not isinstance(label, str):
            raise DataError(f"y[{row}] is {label!r}, expected text as in the rest of y; give labels of one kind")
    text = labels.astype(str)
    if classes is not None:
        if len(classes) == 0:
            raise DataError(f"classes=(): asks for numbers, but y holds text ({labels[0]!r}); leave classes out")
        return _known_labels(text, labelling.checked_classes(classes))
    names, index = np.unique(text, return_inverse=True)
    return index.astype(np.int32), tuple(names.tolist())


def _known_labels(
    labels: NDArray[Any], classes: tuple[float | str, ...]
) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    if isinstance(classes[0], str) != (labels.dtype.kind == "U"):
        raise DataError(f"classes={labelling.class_names(classes)}: not of the kind of y ({labels[0]!r})")
    index = labelling.encode_as(labels, classes)
    if index.min() < 0:
        row = int(np.argmin(index))
        raise DataError(
            f"y[{row}] is {labels[row]}, none of classes={labelling.class_names(classes)}; give all classes"
        )
    return index, classes


def _weights(weight: NDArray[Any]) -> NDArray[np.float32]:
    _kind("weight", weight.dtype, None)
    with np.errstate(over="ignore"):
        made = _finite("weight", weight.astype(np.float32), weight)
    if made.min() < 0:
        row = int(np.argmin(made))
        raise DataError(f"weight[{row}] is {weight[row]}, expected 0 or more")
    if not made.any():
        raise DataError("weight is 0 in every row, expected some above 0")
    return made


def _further(name: str, given: Any, rows: int) -> NDArray[Any] | Csr:
    from scipy import sparse

    if sparse.issparse(given):
        column: NDArray[Any] | Csr = _sparse(given, None)
    else:
        column = np.ascontiguousarray(_array(f"column {name!r}", given))
        if column.dtype.kind not in "biufc" or not np.ndim(given):
            raise DataError(
                f"column {name!r} holds {column.dtype} of shape {column.shape}, expected numbers, a row each"
            )
    _same_rows(f"column {name!r}", len(column), rows)
    return column
