"""Columns side by side: dense rows, or compressed sparse ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.encode_columns import finite, not_finite
from trivium.data.frame import Frame
from trivium.data.table import Csr

__all__ = ["beside", "counted", "fill", "fixed"]

_CACHED = 1 << 18  # bytes of rows that are filled at a time: half of a core's second-level cache
_LEAST_ROWS = 256


def fill(
    frame: Frame, x: NDArray[Any], columns: Sequence[tuple[int, NDArray[Any]]], names: Sequence[str], missing: bool
) -> None:
    """Write each of ``columns`` to its column of ``x`` (rows, features), some rows at a time.

    A float32 row-major matrix is written by runs of rows that stay in the cache, while each column is read in order.
    Raises what ``finite`` raises.
    """
    rows = max(_LEAST_ROWS, _CACHED // max(1, x.shape[1] * x.itemsize))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            for at, column in columns:
                part[:, at] = column[start : start + rows]
        finite(frame, names, part, missing, start)


def fixed(frame: Frame, parts: Sequence[tuple[str, int, NDArray[Any], bool]], dtype: str, missing: bool) -> Csr:
    """Rows of at most one element a part. Each is (column, first feature, values or codes, whether these are codes).

    Codes below 0 and numbers that are 0 are not stored. ``width`` is left 0.
    """
    indices = np.empty((frame.rows, len(parts)), np.int32)
    values = np.ones((frame.rows, len(parts)), dtype)
    stored = np.empty((frame.rows, len(parts)), bool)
    for at, (name, first, column, codes) in enumerate(parts):
        indices[:, at] = first
        if codes:
            indices[:, at] += column.astype(np.int32)
            stored[:, at] = column >= 0
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            values[:, at] = column
        mine = values[:, at]
        bad = np.isinf(mine) if missing else ~np.isfinite(mine)
        if bad.any():
            raise not_finite(frame, name, bad, float(mine[np.argmax(bad)]), dtype)
        stored[:, at] = mine != 0
    return Csr(_bounds(stored.sum(axis=1)), indices[stored], values[stored], 0)


def counted(bounds: NDArray[np.int64], places: NDArray[Any], values: NDArray[Any], width: int) -> Csr:
    """Rows whose elements at the same place are summed; ``bounds`` (rows + 1). Places below 0 are not stored."""
    from scipy import sparse

    kept = places >= 0
    if not kept.all():
        before = np.concatenate([[0], np.cumsum(kept)])
        bounds, places, values = before[bounds], places[kept], values[kept]
    made: Any = sparse.csr_array((values, places.astype(np.int32), bounds.astype(np.int64)), (len(bounds) - 1, width))
    made.sum_duplicates()
    return Csr(np.asarray(made.indptr, np.int64), np.asarray(made.indices, np.int32), np.asarray(made.data), width)


def beside(blocks: Sequence[Csr], firsts: Sequence[int], width: int) -> Csr:
    """Sparse blocks of the same rows next to each other; block i's features begin at ``firsts[i]``."""
    if len(blocks) == 1 and not firsts[0]:
        return Csr(blocks[0].indptr, blocks[0].indices, blocks[0].values, width)
    counts = [np.diff(one.indptr) for one in blocks]
    bounds = _bounds(np.sum(counts, axis=0))
    indices = np.empty(bounds[-1], np.int32)
    values = np.empty(bounds[-1], blocks[0].values.dtype)
    start = bounds[:-1].copy()
    for one, first, count in zip(blocks, firsts, counts, strict=True):
        to = np.repeat(start - one.indptr[:-1], count) + np.arange(one.nnz)
        indices[to], values[to] = one.indices + np.int32(first), one.values
        start += count
    return Csr(bounds, indices, values, width)


def _bounds(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
