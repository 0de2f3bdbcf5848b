"""Mean and variance of each column, from pieces of rows.

Two passes within a piece, then pieces are merged: exact to rounding however large the mean is beside the spread, unlike
the difference of mean square and squared mean. Prior art: Chan, Golub, LeVeque, *Algorithms for computing the sample
variance: analysis and recommendations*, 1983 (formula 2.1 for the merge).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.data.transforms.base import Matrix
from trivium.data.transforms.columns import as_floats
from trivium.errors import DataError

__all__ = ["Moments", "moments_of"]

_STRIP = 1 << 14  # rows of which a float64 copy is made


class Moments:
    """Of each column: how many values (missing ones not counted), their mean, the sum of squared deviations from it."""

    def __init__(self) -> None:
        self.rows = 0
        self.count = np.zeros(0)
        self.mean = np.zeros(0)
        self.squares = np.zeros(0)

    def add(self, x: Matrix) -> None:
        """Take the rows of ``x`` in."""
        x = as_floats(x)
        if isinstance(x, Csr):
            self._merge(len(x), *_of_sparse(x))
            return
        for start in range(0, len(x), _STRIP):
            strip = x[start : start + _STRIP]
            self._merge(len(strip), *_of_dense(strip))

    @property
    def variance(self) -> NDArray[np.float64]:
        """Of the values, divided by their number."""
        return self.squares / np.maximum(self.count, 1)

    def _merge(
        self, rows: int, count: NDArray[np.float64], mean: NDArray[np.float64], squares: NDArray[np.float64]
    ) -> None:
        self._widen(len(count))
        if len(count) < len(self.count):  # sparse rows that reach less far: zeros behind
            short = len(self.count) - len(count)
            count = np.concatenate([count, np.full(short, float(rows))])
            mean, squares = np.pad(mean, (0, short)), np.pad(squares, (0, short))
        total = self.count + count
        share = count / np.maximum(total, 1)
        apart = mean - self.mean
        self.squares += squares + apart * apart * self.count * share
        self.mean += apart * share
        self.count = total
        self.rows += rows

    def _widen(self, width: int) -> None:
        """Columns that were not seen before held zeros in all rows so far."""
        more = width - len(self.count)
        if more > 0:
            self.count = np.concatenate([self.count, np.full(more, float(self.rows))])
            self.mean, self.squares = np.pad(self.mean, (0, more)), np.pad(self.squares, (0, more))


def moments_of(name: str, pieces: Iterable[Matrix]) -> Moments:
    """The moments of all ``pieces``. DataError, which begins with ``name``, where there is no row."""
    moments = Moments()
    for piece in pieces:
        moments.add(piece)
    if not moments.rows:
        raise DataError(f"{name}: there is no row to fit it on; give training rows")
    return moments


def _of_dense(x: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    wide = x.astype(np.float64)
    missing = np.isnan(wide)
    if missing.any():
        count = len(wide) - missing.sum(axis=0, dtype=np.float64)
        mean = np.where(missing, 0, wide).sum(axis=0) / np.maximum(count, 1)
        wide = np.where(missing, mean, wide)
    else:
        count = np.full(wide.shape[1], float(len(wide)))
        mean = wide.mean(axis=0)
    wide -= mean
    squares = np.einsum("ij,ij->j", wide, wide)
    return count, mean, squares


def _of_sparse(x: Csr) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    columns, values = x.indices, x.values.astype(np.float64)
    present = ~np.isnan(values)
    count = np.full(x.width, float(len(x)))
    if not present.all():
        count -= np.bincount(columns[~present], minlength=x.width)
        columns, values = columns[present], values[present]
    mean = np.bincount(columns, values, x.width) / np.maximum(count, 1)
    apart = values - mean[columns]
    zeros = count - np.bincount(columns, minlength=x.width)
    squares = np.bincount(columns, apart * apart, x.width) + zeros * mean * mean
    return count, mean, squares
