"""What a person may hand in as data: tables, data sets, paths, arrays, sparse matrices, frames of pandas or polars.

Pixels. A model of images was trained on value × scale of values from 0 to 255. Of what is handed to it, integers of any
type are such values, and scaled likewise; floats and booleans are taken as scaled already. Floats above
what the brightest pixel comes to when it is scaled are an error: they were not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import Frame
from trivium.data.table import Csr, DataSpec, Table
from trivium.errors import DataError, UsageError
from trivium.running.recalling import Recalled, rows_of

__all__ = ["labelled", "unlabelled"]

BRIGHTEST = 255
FRAMES = {"pandas": "pandas", "polars": "polars", "pyarrow": "arrow"}
IN_MEMORY = ("memory", "generator", "generated", "arrays")  # sources that no name leads back to
HOW = "give a Dataset (tv.read), a Table, a path, a pair (x, y), or tv.from_pandas(frame, label=…)"


def labelled(given: Any, *, like: Any = None, reading: Any = None, part: str = "train", what: str = "data") -> Any:
    """``given`` as rows with labels: a table or a data set. ``like``, ``reading``: of the rows that it must fit.

    Raises DataError, or UsageError where it is nothing that rows can be had from.
    """
    if isinstance(given, Table):
        return given
    if hasattr(given, "table"):
        return given if reading is None else _read_like(given, reading, like)
    if isinstance(given, str | os.PathLike):
        return rows_of(os.fspath(given), reading, like=like, part=part)
    if isinstance(given, tuple) and len(given) in (2, 3):
        from trivium.data.read import from_arrays

        classes = None if like is None else like.spec.classes
        x, y, *weight = given
        x, scale = _pixels(x.to_numpy() if _is_frame(x) else x, _scale_of(like), what)
        return replace(from_arrays(x, y, *weight, classes=classes, name=what), scale=scale)
    if _is_frame(given) and reading is not None:
        return _of_frame(given, like=reading)
    if _is_frame(given):
        raise UsageError(f"{what} is a frame of {_package(given)}: say which column is the label, by tv.from_pandas(…)")
    raise UsageError(f"{what} is a {type(given).__name__}; {HOW}")


def _read_like(given: Any, reading: Any, like: Any) -> Any:
    """The rows of the data set ``given`` read as ``reading`` says, whatever they were read as before."""
    from trivium.data.dataset import Dataset

    if not isinstance(given, Dataset) or given.fit is not None or (given.parent is not None and given.parent is like):
        return given
    return Dataset(given.source, fit=reading, shares=given.shares, cache=given.cache, threads=given.threads)


def unlabelled(given: Any, model: Recalled) -> Iterator[Table]:
    """``given`` a piece at a time, as ``model`` sees it; its labels, if it has any, do not matter.

    Raises DataError where its features are not those that the model was trained on.
    """
    reading = model.reading
    if isinstance(given, Table):
        pieces: Iterator[Table] = iter((given,))
    elif hasattr(given, "table"):
        pieces = iter((given.table(),)) if reading is None else _read_like(given, reading, None).tables()
    elif isinstance(given, str | os.PathLike):
        pieces = _of_path(os.fspath(given), model)
    elif _is_frame(given) and reading is not None and not _is_matrix(reading):
        pieces = _of_frame(given, like=reading).tables()
    else:
        pieces = iter((_of_array(given, model),))
    for table in pieces:
        _check(table, model.spec)
        yield table


def _of_path(path: str, model: Recalled) -> Iterator[Table]:
    from trivium.data.read import read

    if model.reading is not None:
        yield from read(path, like=model.reading).tables()
    else:
        yield read(path, features=model.spec.features).table()


def _of_array(given: Any, model: Recalled) -> Table:
    """Numbers in the order of the columns that the model was trained on; prepared as those were."""
    x, spec = _dense_or_sparse(given), model.spec
    reading = model.reading
    if reading is not None and not _is_matrix(reading):
        return _of_columns(np.asarray(x), [one.name for one in reading.encoding.features], model)
    scale = 1.0
    if not isinstance(x, Csr):
        x, scale = _pixels(_numbers(x, spec), model.scale if reading is None else reading.scale, "X")
    table = Table({"x": _as_trained(x, spec)}, name="X", scale=scale)
    if reading is None or not reading.steps:
        return table
    from trivium.data.reading import prepared

    return replace(table, columns={"x": prepared(table.columns["x"], table.scale, reading.steps)}, scale=1.0)


def _of_columns(x: NDArray[Any], names: list[str], model: Recalled) -> Table:
    """An array in the place of a frame: its columns are those of the training data, in their order."""
    if x.ndim != 2 or x.shape[1] != len(names):
        raise DataError(f"X has shape {x.shape}, the model was trained on {len(names)} columns: {', '.join(names[:8])}")
    frame = Frame({name: np.ascontiguousarray(x[:, i]) for i, name in enumerate(names)}, len(x), "X")
    (table,) = model.reading.tables([frame])
    found: Table = table
    return found


def _numbers(x: Any, spec: DataSpec) -> NDArray[Any]:
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DataError(f"X holds {array.dtype}, expected numbers; give a frame with the columns of the training data")
    if array.ndim < 2:
        raise DataError(
            f"X has shape {array.shape}, expected rows of {spec.features} features; for one row x.reshape(1, -1)"
        )
    return array


def _is_matrix(reading: Any) -> bool:
    """Whether the training rows were arrays of numbers, whose columns have no names."""
    return any(one.kind == "matrix" for one in reading.encoding.features)


def _scale_of(like: Any) -> float:
    """That of the pixels of ``like``: a model, a table or a data set."""
    return float(getattr(like, "scale", getattr(getattr(like, "source", None), "scale", 1.0)))


def _pixels(x: Any, scale: float, what: str) -> tuple[Any, float]:
    """``x`` as kernels take it for a model of pixels with ``scale``, and what it is yet to be multiplied by."""
    if scale == 1.0 or hasattr(x, "tocsr"):
        return x, 1.0
    array = np.asarray(x)
    if not array.size or array.dtype.kind not in "fiu":
        return x, 1.0
    least, most = array.min(), array.max()
    if array.dtype.kind == "f":
        if most > BRIGHTEST * scale * 1.001:
            raise DataError(
                f"{what} holds {most:g}, but the model was trained on pixels times {scale:g}, which come to "
                f"{BRIGHTEST * scale:g} at most; give integers from 0 to {BRIGHTEST}, or floats times {scale:g}"
            )
        return array, 1.0
    if least < 0 or most > BRIGHTEST:
        raise DataError(
            f"{what} holds {least if least < 0 else most}, but the model was trained on pixels from 0 to {BRIGHTEST}; "
            "give integers from that range, or floats as they were scaled in training"
        )
    return array.astype(np.uint8, copy=False), scale


def _as_trained(x: NDArray[Any] | Csr, spec: DataSpec) -> NDArray[Any] | Csr:
    """In an element type that kernels take: as it is where it is one of floats or pixels, else as in training."""
    if isinstance(x, Csr):
        return x
    dtype = np.dtype(spec.columns["x"][0]) if "x" in spec.columns else np.dtype("float64")
    pixels = x.dtype == np.uint8 and dtype == np.uint8
    if not pixels and x.dtype not in (np.dtype("float32"), np.dtype("float64")):
        x = x.astype(dtype if dtype.kind == "f" else "float32")
    shape = spec.columns["x"][1] if "x" in spec.columns else x.shape[1:]
    if x.shape[1:] != shape and int(np.prod(x.shape[1:])) == int(np.prod(shape)):
        x = x.reshape(len(x), *shape)
    return np.ascontiguousarray(x)


def _check(table: Table, spec: DataSpec) -> None:
    found = table.spec
    if found.features != spec.features:
        raise DataError(
            f"{table.name}: X has {found.features} features, but the model was trained on {spec.features}; give "
            "the same columns, in the same order"
        )
    if found.sparse != spec.sparse:
        kinds = ("dense", "sparse")
        raise DataError(f"{table.name}: X is {kinds[found.sparse]}, the model was trained on {kinds[spec.sparse]} rows")


def _dense_or_sparse(x: Any) -> Any:
    """A SciPy matrix as CSR, everything else as it is; frames as arrays of their numbers."""
    if _is_frame(x):
        return x.to_numpy()
    if not hasattr(x, "tocsr"):
        return x
    held = x.tocsr()
    held.sum_duplicates()
    values = held.data if held.data.dtype in (np.float32, np.float64) else held.data.astype(np.float64)
    return Csr(held.indptr.astype(np.int64), held.indices.astype(np.int32), values, held.shape[1])


def _package(given: Any) -> str:
    return type(given).__module__.partition(".")[0]


def _is_frame(given: Any) -> bool:
    return _package(given) in FRAMES and hasattr(given, "columns")


def _of_frame(given: Any, *, like: Any) -> Any:
    """A table of pandas, polars or pyarrow as a data set that is read as ``like`` says."""
    from trivium.data import read

    return getattr(read, f"from_{FRAMES[_package(given)]}")(given, like=like)
