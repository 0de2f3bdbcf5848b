"""Where rows go while they are read, a piece at a time: into files that are then mapped, or into memory.

Pieces of one spool have the same columns, of the same types and row shapes. What is written is what a ``Table`` holds,
so that nothing has to be read again: an array is a file, row after row.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trivium.data.sources.growing import Growing
from trivium.data.table import Csr, Mapped, arrays_of
from trivium.errors import DataError, StorageError

__all__ = ["Columns", "DiskSpool", "MemorySpool", "Spool", "digest_of"]

Columns = Mapping[str, NDArray[Any] | Csr]


def digest_of(columns: Columns) -> bytes:
    """SHA-256 over names, types, shapes and bytes of a piece."""
    total = hashlib.sha256()
    for name, array in arrays_of(columns):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.digest()


class Spool(abc.ABC):
    """Takes pieces; ``finish`` gives the whole columns back, and which of their arrays lie in files."""

    def __init__(self) -> None:
        self.rows = 0
        self._widths: dict[str, int] = {}  # of CSR columns: the most that any piece has
        self._stored: dict[str, int] = {}
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._hash = hashlib.sha256()

    def add(self, columns: Columns, digest: bytes = b"") -> None:
        """Take a piece; ``digest`` is its ``digest_of`` where somebody has it already."""
        self._hash.update(digest or digest_of(columns))
        rows = len(next(iter(columns.values())))
        for name, column in columns.items():
            if isinstance(column, Csr):
                self._widths[name] = max(self._widths.get(name, 0), column.width)
                start = self._stored.get(name)
                if start is None:
                    self._append(f"{name}.indptr", np.zeros(1, np.int64))
                    start = 0
                self._append(f"{name}.indptr", column.indptr[1:] + (start - column.indptr[0]))
                cut = slice(int(column.indptr[0]), int(column.indptr[-1]))
                self._append(f"{name}.indices", column.indices[cut])
                self._append(f"{name}.values", column.values[cut])
                self._stored[name] = start + cut.stop - cut.start
            else:
                self._append(name, column)
        self.rows += rows

    def put(self, name: str, column: NDArray[Any]) -> None:
        """Take a whole column at the end."""
        self._hash.update(digest_of({name: column}))
        self._append(name, column)

    def _append(self, name: str, piece: NDArray[Any]) -> None:
        kind = (piece.dtype.str, piece.shape[1:])
        if self._kinds.setdefault(name, kind) != kind:
            raise DataError(
                f"column {name!r} holds {piece.dtype} of shape {piece.shape[1:]} from row {self.rows + 1} on, before "
                f"that {np.dtype(self._kinds[name][0])} of shape {self._kinds[name][1]}; give files of one kind"
            )
        self._write(name, piece)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over all pieces."""
        return self._hash.hexdigest()

    def finish(self) -> tuple[dict[str, NDArray[Any] | Csr], dict[str, Mapped]]:
        """The whole columns, and what of them is mapped; nothing can be added any more."""
        arrays, mapped = self._close()
        columns: dict[str, NDArray[Any] | Csr] = {}
        for name in dict.fromkeys(name.partition(".")[0] for name in arrays):
            if name in self._widths:
                columns[name] = Csr.of(arrays, name, self._widths[name])
            else:
                columns[name] = arrays[name]
        return columns, mapped

    @abc.abstractmethod
    def _write(self, name: str, piece: NDArray[Any]) -> None: ...

    @abc.abstractmethod
    def _close(self) -> tuple[dict[str, NDArray[Any]], dict[str, Mapped]]: ...


class MemorySpool(Spool):
    """Into memory."""

    def __init__(self) -> None:
        super().__init__()
        self._arrays: dict[str, Growing] = {}

    def _write(self, name: str, piece: NDArray[Any]) -> None:
        held = self._arrays.get(name)
        if held is None:
            held = self._arrays[name] = Growing(piece.dtype)
        held.append(np.ascontiguousarray(piece).reshape(-1), 0.0)  # how many there will be, nobody knows

    def _close(self) -> tuple[dict[str, NDArray[Any]], dict[str, Mapped]]:
        return {
            name: held.result().reshape(-1, *self._kinds[name][1]) if self._kinds[name][1] else held.result()
            for name, held in self._arrays.items()
        }, {}


class DiskSpool(Spool):
    """Into files of ``folder``, which exists. StorageError where the disk does not take them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._rows: dict[str, int] = {}

    def _write(self, name: str, piece: NDArray[Any]) -> None:
        try:
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = (self.folder / f"{name}.bin").open("wb", buffering=0)
            view = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
            while view.nbytes:
                view = view[file.write(view) :]
        except OSError as error:
            raise StorageError(
                f"cannot write the cache of parsed rows in {self.folder.parent}: {error.strerror}; make room there, "
                "name another folder by XDG_CACHE_HOME, or read without a cache"
            ) from None
        self._rows[name] = self._rows.get(name, 0) + len(piece)

    def _close(self) -> tuple[dict[str, NDArray[Any]], dict[str, Mapped]]:
        self.close()
        mapped = {
            name: Mapped(str(self.folder / f"{name}.bin"), np.dtype(kind[0]).name, (self._rows[name], *kind[1]))
            for name, kind in self._kinds.items()
        }
        return {name: one.open() for name, one in mapped.items()}, mapped

    def close(self) -> None:
        """Close the files; what is in them stays."""
        for file in self._files.values():
            file.close()
        self._files.clear()
