"""Rows on their way to where they are needed: to children by descriptor, to other nodes by path or piece by piece.

A node that shares no memory with the driver's is told what there is (``Parcel``): files that it finds at their path,
with the same size and content, it maps; everything else it asks for, piece by piece.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr, Mapped, Table, arrays_of
from trivium.errors import StorageError
from trivium.runtime.memory import Arena, ArenaPlan

__all__ = ["Depot", "Parcel", "Rows", "ShippedTable", "ship_tables"]

SAMPLE = 1 << 16  # bytes of each piece of a file that its mark is made of


@dataclass(frozen=True)
class ShippedTable:
    """A table whose arrays lie in the data segment under ``prefix``, or in files that come by descriptor.

    ``files`` has the place of each file among the descriptors of the launch, and what is in it.
    """

    prefix: str
    columns: tuple[tuple[str, int], ...]  # (name, width of a CSR column or -1)
    classes: tuple[Any, ...]
    scale: float
    name: str
    files: Mapping[str, tuple[int, Mapped]] = field(default_factory=dict)

    def open(self, arrays: Arena | None, fds: Sequence[int]) -> Table:
        """The table over ``arrays`` and the files behind ``fds``."""

        def array(name: str) -> NDArray[Any]:
            if name in self.files:
                place, mapped = self.files[name]
                return mapped.map(fds[place])
            assert arrays is not None
            return arrays[f"{self.prefix}.{name}"]

        columns: dict[str, Any] = {}
        for name, width in self.columns:
            if width < 0:
                columns[name] = array(name)
            else:
                parts = {at: array(at) for at in (f"{name}.{part}" for part in Csr.PARTS)}
                columns[name] = Csr.of(parts, name, width)
        mapped = {name: one for name, (_, one) in self.files.items()}
        return Table(columns, self.classes, self.scale, self.name, mapped=mapped)


def ship_tables(
    tables: dict[str, Table],
) -> tuple[dict[str, NDArray[Any]], tuple[tuple[str, ShippedTable], ...], list[Mapped]]:
    """The arrays of ``tables`` that are to be copied, under the names that ``ShippedTable.open`` looks for; how the
    tables are put together; and the files that others are mapped from, each once.
    """
    arrays: dict[str, NDArray[Any]] = {}
    shipped, files = [], list[Mapped]()
    for name, table in tables.items():
        mapped = {}
        for key, array in arrays_of(table.columns):
            if key in table.mapped:
                one = table.mapped[key]
                if one not in files:
                    files.append(one)
                mapped[key] = (files.index(one), one)
            else:
                arrays[f"{name}.{key}"] = array
        columns = tuple((key, column.width if isinstance(column, Csr) else -1) for key, column in table.columns.items())
        shipped.append((name, ShippedTable(name, columns, table.classes, table.scale, table.name, mapped)))
    return arrays, tuple(shipped), files


@dataclass
class Rows:
    """The rows of a run on one node: the segment with its plan, open files, and how tables are put together."""

    plan: ArenaPlan
    arena: Arena
    shipped: tuple[tuple[str, ShippedTable], ...]
    files: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, tables: dict[str, Table]) -> Rows:
        """Copy ``tables`` in, and open the files that some are mapped from; StorageError where one is gone."""
        arrays, shipped, files = ship_tables(tables)
        plan = ArenaPlan()
        for name, one in arrays.items():
            plan.add(name, one.dtype, one.shape)
        made = cls(plan, Arena.create(plan, "data"), shipped)
        for name, one in arrays.items():
            made.arena[name][...] = one
        try:
            for mapped in files:
                made.files.append(_open(mapped))
        except OSError as error:
            made.close()
            raise _gone(error) from None
        return made

    @property
    def fds(self) -> list[int]:
        """The descriptors that a child is handed: the segment, then the files."""
        return [self.arena.fd, *self.files]

    def close(self) -> None:
        """Let go of segment and files."""
        self.arena.close()
        while self.files:
            os.close(self.files.pop())


@dataclass(frozen=True)
class Parcel:
    """What a node is told of a run's rows. ``arrays``: (dtype, shape) of those that come over the link in any case;
    ``files`` with their marks, in the order of ``ShippedTable.files``.
    """

    arrays: Mapping[str, tuple[str, tuple[int, ...]]]
    shipped: tuple[tuple[str, ShippedTable], ...]
    files: tuple[tuple[Mapped, str], ...]

    def unpack(self, fetch: Callable[[str, NDArray[np.uint8]], None]) -> Rows:
        """Open what is here; ``fetch(source, bytes)`` fills each array that is not. Raises what that does."""
        opened = {number: _same(mapped, mark) for number, (mapped, mark) in enumerate(self.files)}
        found = {number: fd for number, fd in opened.items() if fd is not None}
        plan, sources, shipped = self._lay_out({number: place for place, number in enumerate(found)})
        rows = Rows(plan, Arena.create(plan, "data"), shipped, list(found.values()))
        try:
            for name, source in sources.items():
                array = rows.arena[name]
                if array.size:
                    fetch(source, array.reshape(-1).view(np.uint8))
        except BaseException:
            rows.close()
            raise
        return rows

    def _lay_out(
        self, places: Mapping[int, int]
    ) -> tuple[ArenaPlan, dict[str, str], tuple[tuple[str, ShippedTable], ...]]:
        """A place for each array that is not in one of the files in ``places``, by number, and what to ask for."""
        plan, sources, shipped = ArenaPlan(), dict[str, str](), []
        for name, (dtype, shape) in self.arrays.items():
            plan.add(name, dtype, shape)
            sources[name] = name
        for name, table in self.shipped:
            here = {}
            for key, (number, mapped) in table.files.items():
                if number in places:
                    here[key] = (places[number], mapped)
                else:
                    plan.add(f"{table.prefix}.{key}", mapped.dtype, mapped.shape)
                    sources[f"{table.prefix}.{key}"] = Depot.name_of(number)
            shipped.append((name, replace(table, files=here)))
        return plan, sources, tuple(shipped)


class Depot:
    """The driver's side: what nodes may ask for, piece by piece."""

    def __init__(self, tables: dict[str, Table]) -> None:
        self._arrays, self._shipped, self._files = ship_tables(tables)
        self._opened: dict[str, NDArray[Any]] = {}

    @staticmethod
    def name_of(number: int) -> str:
        """Under what name the file ``number`` is asked for."""
        return f"file {number}"

    def parcel(self) -> Parcel:
        """What nodes are told; StorageError where a file of the cache is gone."""
        try:
            files = tuple((mapped, _mark(mapped.path)) for mapped in self._files)
        except OSError as error:
            raise _gone(error) from None
        arrays = {name: (str(one.dtype), one.shape) for name, one in self._arrays.items()}
        return Parcel(arrays, self._shipped, files)

    def piece(self, source: str, start: int, stop: int) -> memoryview | None:
        """Bytes ``start`` to ``stop`` of ``source``; None where there is no such thing."""
        if source not in self._opened:
            found = self._find(source)
            if found is None:
                return None
            self._opened[source] = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
        whole = self._opened[source].data
        return whole[start:stop] if 0 <= start < stop <= len(whole) else None

    def _find(self, source: str) -> NDArray[Any] | None:
        numbers = {self.name_of(number): one for number, one in enumerate(self._files)}
        return numbers[source].open() if source in numbers else self._arrays.get(source)


def _open(mapped: Mapped) -> int:
    return os.open(mapped.path, os.O_RDONLY | os.O_CLOEXEC)


def _gone(error: OSError) -> StorageError:
    return StorageError(
        f"the cache of parsed rows is gone: {error.filename} ({error.strerror}); start again, and it is made anew"
    )


def _mark(path: str) -> str:
    """Size and a digest of beginning, middle and end of a file: enough to tell whether another is the same."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.blake2b(digest_size=16)
        for at in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
            file.seek(at)
            digest.update(file.read(SAMPLE))
    return f"{size} {digest.hexdigest()}"


def _same(mapped: Mapped, mark: str) -> int | None:
    """An open descriptor of the file if it is here with the same content."""
    try:
        return _open(mapped) if _mark(mapped.path) == mark else None
    except OSError:
        return None
