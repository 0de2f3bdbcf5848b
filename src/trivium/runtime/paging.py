"""Which pages of mapped rows a process holds: rows to come are asked for, rows that are over are let go of.

What is let go of stays in the system's cache as long as there is room; but it counts no more for this process. Advice
is advice: where the system does not take it, everything works as it would without.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr, Table

__all__ = ["RowPager"]

PAGE = mmap.PAGESIZE
SOON, OVER = 3, 4  # MADV_WILLNEED, MADV_DONTNEED
Advise = Callable[[int, int, int], Any]


def _advise() -> Advise:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    advise: Advise = libc.madvise
    return advise


class RowPager:
    """Pages of the mapped arrays of ``table``; those that lie in memory are left alone."""

    def __init__(self, table: Table, advise: Advise | None = None) -> None:
        self._advise = advise or _advise()
        self._dense: list[NDArray[Any]] = []
        self._sparse: list[tuple[NDArray[np.int64], list[NDArray[Any]]]] = []
        for name, column in table.columns.items():
            if isinstance(column, Csr):
                if f"{name}.values" in table.mapped:
                    self._dense.append(column.indptr)
                    self._sparse.append((column.indptr, [column.indices, column.values]))
            elif name in table.mapped:
                self._dense.append(column)

    def soon(self, ranges: list[tuple[int, int]]) -> None:
        """These rows will be read."""
        for lo, hi in ranges:
            self._tell(lo, hi, SOON)

    def over(self, ranges: list[tuple[int, int]]) -> None:
        """These rows were read, and will not be again for a while."""
        for lo, hi in ranges:
            self._tell(lo, hi, OVER)

    def _tell(self, lo: int, hi: int, advice: int) -> None:
        for column in self._dense:
            row = column.strides[0]
            self._range(column.ctypes.data + lo * row, column.ctypes.data + hi * row, advice)
        for indptr, parts in self._sparse:
            first, last = int(indptr[lo]), int(indptr[hi])
            for part in parts:
                start = part.ctypes.data
                self._range(start + first * part.itemsize, start + last * part.itemsize, advice)

    def _range(self, start: int, stop: int, advice: int) -> None:
        """Whole pages only: outwards for what is asked for, inwards for what is let go of."""
        if advice == SOON:
            start = start // PAGE * PAGE
        else:
            start, stop = -(-start // PAGE) * PAGE, stop // PAGE * PAGE
        if stop > start:
            self._advise(start, stop - start, advice)
