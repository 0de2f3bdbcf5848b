"""Rows in memory, or mapped from files: named columns, dense or CSR, and what a program must know of them beforehand.

Arrays in files are mapped privately, as if they could be written: what is compiled for arrays in memory then serves for
them too, and nothing is ever written. Their pages are the system's cache, shared by all processes that map them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Csr", "DataSpec", "Mapped", "Table", "arrays_of"]

NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # a file larger than memory may be mapped all the same


@dataclass(frozen=True)
class Mapped:
    """An array that fills a file from its beginning, row after row."""

    path: str
    dtype: str
    shape: tuple[int, ...]

    def open(self) -> NDArray[Any]:
        """The array, mapped; raises OSError where the file is gone."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self.map(fd)
        finally:
            os.close(fd)

    def map(self, fd: int) -> NDArray[Any]:
        """The array behind the open file ``fd``."""
        count = int(np.prod(self.shape, dtype=np.int64))
        if not count:
            return np.empty(self.shape, self.dtype)
        nbytes = count * np.dtype(self.dtype).itemsize
        pages = mmap.mmap(fd, nbytes, mmap.MAP_PRIVATE | NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE)
        return np.frombuffer(pages, self.dtype, count).reshape(self.shape)


@dataclass(frozen=True)
class Csr:
    """Compressed sparse rows. ``indptr`` int64 (rows + 1,), ``indices`` int32 sorted in each row, ``values`` float32
    or float64 (non-zeros,), ``width`` the number of columns.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    width: int

    PARTS: ClassVar[tuple[str, ...]] = ("indptr", "indices", "values")

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], name: str, width: int) -> Csr:
        """The column ``name`` whose arrays have ``arrays_of``'s names."""
        return cls(arrays[f"{name}.indptr"], arrays[f"{name}.indices"], arrays[f"{name}.values"], width)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Stored elements."""
        return len(self.indices)


@dataclass(frozen=True)
class DataSpec:
    """What a program may know before training: shapes and classes, no rows.

    ``classes`` are the labels in order (class i of ``y`` is ``classes[i]``; numbers, or strings where the labels were
    strings), empty for regression or unlabelled data.
    ``columns`` has (dtype name, shape of one row) of each dense column; a CSR column has shape ``(width,)``.
    """

    rows: int
    features: int
    sparse: bool
    classes: tuple[float | str, ...]
    columns: Mapping[str, tuple[str, tuple[int, ...]]]
    nnz: int = 0


@dataclass(frozen=True)
class Table:
    """Named columns of equal length: ``x`` features, ``y`` labels (int32 class index, or float), ``weight`` (float32).

    ``x`` may be uint8 with ``scale`` (pixels: value × scale is what the program sees). Further columns are free, for
    programs made by ``Program.from_loss``.
    """

    columns: Mapping[str, NDArray[Any] | Csr]
    classes: tuple[float | str, ...] = ()
    scale: float = 1.0
    name: str = "data"
    fingerprint: str = ""
    notes: tuple[str, ...] = field(default=())
    mapped: Mapping[str, Mapped] = field(default_factory=dict)  # which arrays lie in files, by ``arrays_of``'s names

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def spec(self) -> DataSpec:
        """Shapes and classes."""
        x = self.columns.get("x")
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, column in self.columns.items():
            if isinstance(column, Csr):
                shapes[name] = (str(column.values.dtype), (column.width,))
            else:
                shapes[name] = (str(column.dtype), column.shape[1:])
        sparse = isinstance(x, Csr)
        features = 0
        if isinstance(x, Csr):
            features = x.width
        elif x is not None:
            features = int(np.prod(x.shape[1:], dtype=np.int64))
        nnz = x.nnz if isinstance(x, Csr) else len(self) * features
        return DataSpec(len(self), features, sparse, self.classes, shapes, nnz)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(array.nbytes for _, array in arrays_of(self.columns))

    def rows(self, index: NDArray[np.int64]) -> Table:
        """A new table with the rows of ``index``, in that order."""
        picked: dict[str, NDArray[Any] | Csr] = {}
        for name, column in self.columns.items():
            picked[name] = _pick(column, index) if isinstance(column, Csr) else column[index]
        return Table(picked, self.classes, self.scale, self.name, self.fingerprint, self.notes)


def arrays_of(columns: Mapping[str, NDArray[Any] | Csr]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of ``columns`` by name: ``x`` of a dense column; ``x.indptr``, ``x.indices``, ``x.values`` of a CSR.

    >>> [name for name, _ in arrays_of({"y": np.zeros(2)})]
    ['y']
    """
    for name, column in columns.items():
        if isinstance(column, Csr):
            for part in Csr.PARTS:
                yield f"{name}.{part}", getattr(column, part)
        else:
            yield name, column


def _pick(column: Csr, index: NDArray[np.int64]) -> Csr:
    counts = column.indptr[index + 1] - column.indptr[index]
    indptr = np.zeros(len(index) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    offset = np.repeat(column.indptr[index] - indptr[:-1], counts)
    at = np.arange(indptr[-1], dtype=np.int64) + offset
    return Csr(indptr, column.indices[at], column.values[at], column.width)
