"""Rows of tables, the sending side: what is kept of each key, and keys that go once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import Buffer, Figures, Objective
from trivium.designs.ps.filters.kernels.keys import Slots, signature
from trivium.designs.ps.filters.kernels.positions import ascending, gap_bytes, write_gaps
from trivium.designs.ps.filters.key_cache import KeyLists
from trivium.designs.ps.filters.message import (
    PLAIN,
    SHORT,
    SIGNED,
    Header,
    header_of,
    name_positions,
    pack,
    read_values,
)
from trivium.designs.ps.filters.picking import Picked, Picker
from trivium.errors import ProtocolError

if TYPE_CHECKING:
    from trivium.designs.ps.filters.chain import Chain

__all__ = ["RowMemory", "RowSender"]

Flat = NDArray[Any]
Keys = NDArray[np.uint64]


class RowMemory:
    """A value for each element of each row whose key was seen; as large as the part of the table that was touched."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._slots = Slots()
        self._values = np.zeros((0, 0), dtype)

    def take(self, keys: Keys, width: int) -> tuple[NDArray[np.int64], Flat]:
        """Slots of ``keys`` and a copy of their values, (keys, width), zeros for new ones."""
        slots = self._slots.of(keys)
        if self._slots.count > len(self._values) or self._values.shape[1] != width:
            self._grow(width)
        return slots, self._values[slots]

    def put(self, slots: NDArray[np.int64], values: Flat) -> None:
        """Keep ``values`` for ``slots``."""
        self._values[slots] = values

    def drain(self) -> tuple[Keys, Flat]:
        """Ascending keys and values that are not all 0; all are 0 here afterwards."""
        values = self._values[: self._slots.count]
        some = np.flatnonzero(values.any(axis=1))
        some = some[np.argsort(self._slots.keys[some])]
        found = self._slots.keys[some], values[some]
        values[:] = 0
        return found

    def _grow(self, width: int) -> None:
        if self._values.size and self._values.shape[1] != width:
            raise ProtocolError(f"rows have width {width}, this table's had {self._values.shape[1]}")
        grown = np.zeros((2 * self._slots.count, width), self._dtype)
        grown[: len(self._values)] = self._values.reshape(-1, width)
        self._values = grown


class RowSender:
    """Encodes rows of one table."""

    def __init__(self, chain: Chain, dtype: np.dtype[Any], figures: Figures) -> None:
        self._chain, self._dtype, self._figures = chain, dtype, figures
        self._picker = Picker(chain.topk, chain.coder)
        self._left = RowMemory(dtype) if chain.remembers else None
        self._moved = RowMemory(np.dtype(np.uint8)) if chain.kkt is not None else None
        self._lists = KeyLists()
        self._lacking: set[int] = set()  # signatures of kept lists that a receiver said it lacks
        self._last: tuple[Keys, list[Buffer]] | None = None

    def encode(self, keys: Keys, rows: Flat, objective: Callable[[], Objective]) -> list[Buffer]:
        """See ``Sender.encode_rows``."""
        self._check(keys, rows)
        x = np.ascontiguousarray(rows)
        keep = self._keep(keys, x, objective) if self._moved is not None else None
        if self._left is None:
            picked = self._picker.pick(x, None, keep, None)
        else:
            slots, left = self._left.take(keys, x.shape[1])
            picked = self._picker.pick(x, left, keep, None)
            self._left.put(slots, left)
        buffers = self._message(keys, x.shape[1], picked)
        sent = keys.copy() if picked.positions is None else keys[picked.positions]
        self._last = sent, buffers
        self._figures.add([keys, rows], buffers, picked.sent * x.shape[1])
        return list(buffers)

    @property
    def applied(self) -> tuple[Keys, Flat]:
        """See ``Sender.applied_rows``."""
        if self._last is None:
            raise ProtocolError("no rows were encoded yet, so none are applied")
        keys, buffers = self._last
        header = header_of(buffers, 5)
        values = np.empty(header.sent * header.width, self._dtype)
        read_values(header, self._picker.coder, buffers, values)
        return keys, values.reshape(header.sent, header.width)

    def take_back(self) -> tuple[Keys, Flat]:
        """See ``Sender.take_back_rows``."""
        return (np.empty(0, np.uint64), np.empty((0, 0), self._dtype)) if self._left is None else self._left.drain()

    def forget(self, signature_: int) -> None:
        """See ``Sender.forget``."""
        if signature_ in self._lists:
            self._lacking.add(signature_)

    def spelled_out(self, buffers: list[Buffer]) -> list[Buffer]:
        """See ``Sender.spelled_out``."""
        header = header_of(buffers, 5)
        if header.keys != SIGNED or header.signature is None:
            return list(buffers)
        keys = self._lists.get(header.signature)
        if keys is None:
            raise ProtocolError(f"the keys of signature {header.signature:016x} are not kept here any more")
        form, spelled = spell(keys)
        return [pack(msgspec.structs.replace(header, keys=form)), spelled, *buffers[2:]]

    def _check(self, keys: Keys, rows: Flat) -> None:
        if keys.dtype != np.uint64 or keys.ndim != 1 or rows.shape[:1] != keys.shape or rows.ndim != 2:
            raise ProtocolError(
                f"rows {rows.shape} with keys {keys.shape} of {keys.dtype}: wanted (n, width), (n,) uint64"
            )
        if rows.dtype != self._dtype:
            raise ProtocolError(f"rows are {rows.dtype}, this sender is for {self._dtype}")
        if not ascending(np.ascontiguousarray(keys)):
            raise ProtocolError("keys must ascend, each once; sort them and add up the rows of equal ones")

    def _keep(self, keys: Keys, rows: Flat, objective: Callable[[], Objective]) -> NDArray[np.bool_] | None:
        """Rows of which kkt sends some element."""
        assert self._moved is not None and self._chain.kkt is not None
        slots, moved = self._moved.take(keys, rows.shape[1])
        keep = self._chain.kkt.keep(rows.reshape(-1), moved.reshape(-1), objective())
        self._moved.put(slots, moved)
        if keep is None:
            return None
        some: NDArray[np.bool_] = np.logical_or.reduce(keep.reshape(rows.shape), axis=1)
        return some

    def _message(self, keys: Keys, width: int, picked: Picked) -> list[Buffer]:
        """Header and arrays. Without key-cache only the keys of rows that go are named."""
        positions, signed = picked.positions, None
        if self._chain.key_cache:
            signed, form, spelled = self._sign(keys)
        else:
            if positions is not None:
                keys, positions = keys[positions], None
            form, spelled = spell(keys)
        where, numbers, named = name_positions(positions, keys.size)
        coder = self._picker.coder.code
        header = Header(keys.size, width, picked.sent, where, numbers, form, signed, coder, self._dtype.itemsize)
        return [pack(header), spelled, named, picked.scales, picked.codes]

    def _sign(self, keys: Keys) -> tuple[int, int, Flat]:
        """Signature, form and bytes of ``keys``: none where the receiver has them."""
        signed = signature(keys)
        kept = self._lists.get(signed)
        if kept is not None and signed not in self._lacking:
            return signed, SIGNED, np.empty(0, np.uint8)
        if kept is None:
            self._lists.put(signed, keys.copy())
        self._lacking.discard(signed)
        return signed, *spell(keys)


def spell(keys: Keys) -> tuple[int, Flat]:
    """Form and bytes of keys in full: gaps where these are shorter."""
    length = gap_bytes(keys)
    return (SHORT, write_gaps(keys, length)) if length < keys.nbytes else (PLAIN, keys.copy())
