"""A batch as the compiled kernels take it: flat arrays and where to find the rows. Nothing is copied."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import Csr
from trivium.errors import DataError

__all__ = ["Crew", "Rows", "resolve"]

T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``start + count``, or those of ``index``, of dense ``x`` (flat) or of ``csr``."""

    start: int
    count: int
    index: NDArray[np.int64] | None
    x: NDArray[Any]
    csr: Csr | None
    y: NDArray[Any] | None
    weight: NDArray[Any] | None
    scale: float

    def part(self, lo: int, hi: int) -> tuple[int, NDArray[np.int64] | None, int]:
        """Start, index and count of the rows ``lo`` to ``hi`` of these."""
        if self.index is None:
            return self.start + lo, None, hi - lo
        return 0, self.index[lo:hi], hi - lo

    def labels(self) -> NDArray[Any]:
        """The labels; DataError where there are none."""
        if self.y is None:
            raise DataError(
                "the rows have no labels (no column 'y'); prediction needs none, training and evaluation do"
            )
        return self.y


def resolve(batch: Batch, sparse: bool) -> Rows:
    """The arrays behind ``batch``; DataError where its features are not of the kind the program was made for."""
    columns = batch.table.columns
    x = columns["x"]
    if isinstance(x, Csr) != sparse:
        given, wanted = ("sparse", "dense") if isinstance(x, Csr) else ("dense", "sparse")
        raise DataError(f"the rows are {given}, the program was trained on {wanted} ones; convert the rows")
    csr = x if isinstance(x, Csr) else None
    flat = x.values if isinstance(x, Csr) else np.ascontiguousarray(x).reshape(-1)
    return Rows(
        batch.start, len(batch), batch.index, flat, csr, _plain(columns.get("y")), _plain(columns.get("weight")),
        batch.table.scale,
    )  # fmt: skip


def _plain(column: NDArray[Any] | Csr | None) -> NDArray[Any] | None:
    return None if column is None or isinstance(column, Csr) else column


class Crew:
    """Runs a function on contiguous shares of the rows, one thread a share; results come in the order of the rows.

    The functions must let go of the interpreter's lock (``nogil``). Shares are at least ``least`` rows, so that small
    batches cost no hand-over.
    """

    def __init__(self, threads: int, least: int) -> None:
        self.threads, self.least = threads, least
        self._pool = ThreadPoolExecutor(threads - 1, "trivium-kernel") if threads > 1 else None

    def shares(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of rows, one a thread that is used."""
        count = max(1, min(self.threads, rows // self.least))
        return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]

    def run(self, rows: int, work: Callable[[int, int, int], T]) -> list[T]:
        """``work(i, lo, hi)`` for each share i."""
        shares = self.shares(rows)
        if self._pool is None or len(shares) == 1:
            return [work(i, lo, hi) for i, (lo, hi) in enumerate(shares)]
        others = [self._pool.submit(work, i, *shares[i]) for i in range(1, len(shares))]
        return [work(0, *shares[0]), *(other.result() for other in others)]
