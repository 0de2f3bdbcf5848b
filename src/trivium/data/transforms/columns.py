"""What several transforms do to a matrix: floats, sums over rows, the place of an offending element; dense and CSR."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.data.transforms.base import Matrix
from trivium.errors import DataError

__all__ = ["as_floats", "check_width", "place_of", "row_sums", "width_of", "with_values"]


def as_floats(x: Matrix) -> Matrix:
    """``x`` with elements of a float type: float64 stays, all else becomes float32; a CSR matrix begins at its first
    element. Copies only where it must.
    """
    if isinstance(x, Csr):
        first, end = int(x.indptr[0]), int(x.indptr[-1])
        if first == 0 and end == len(x.indices):
            return x
        return Csr(x.indptr - first, x.indices[first:end], x.values[first:end], x.width)
    x = x.reshape(len(x), -1)
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def with_values(x: Csr, values: NDArray[Any]) -> Csr:
    """Another matrix with the pattern of ``x``."""
    return Csr(x.indptr, x.indices, values, x.width)


def width_of(x: Matrix) -> int:
    """Columns of ``x``."""
    return x.width if isinstance(x, Csr) else int(np.prod(x.shape[1:], dtype=np.int64))


def check_width(name: str, x: Matrix, fitted: int) -> None:
    """DataError unless ``x`` has the features that ``name`` was fitted on (sparse rows may reach less far)."""
    width = width_of(x)
    if width != fitted and not (isinstance(x, Csr) and width < fitted):
        raise DataError(
            f"{name}: the rows have {width} features, but it was fitted on rows with {fitted}; read both with the same "
            "columns"
        )


def row_sums(x: Csr, values: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of ``values`` (one a stored element of ``x``, as ``as_floats`` gives it) in each row."""
    sums = np.zeros(len(x))
    full = np.flatnonzero(np.diff(x.indptr))
    if len(full):
        sums[full] = np.add.reduceat(values.astype(np.float64, copy=False), x.indptr[full])
    return sums


def place_of(x: Matrix, at: int) -> str:
    """Where element ``at`` of ``x`` (counted flat; of a CSR matrix: among the stored) stands, for a message."""
    if isinstance(x, Csr):
        row = int(np.searchsorted(x.indptr, at, side="right")) - 1
        return f"row {row + 1}, feature {int(x.indices[at]) + 1} of these rows"
    return f"row {at // x.shape[1] + 1}, feature {at % x.shape[1] + 1} of these rows"
