"""The receiving side of a chain: no state but lists of keys. ProtocolError for what no sender of the chain writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import Buffer, UnknownKeys, bytes_of
from trivium.designs.ps.filters.kernels.keys import signature
from trivium.designs.ps.filters.kernels.positions import ascending, read_gaps
from trivium.designs.ps.filters.key_cache import KeyLists
from trivium.designs.ps.filters.message import (
    DENSE,
    PLAIN,
    SHORT,
    SIGNED,
    Header,
    array_of,
    header_of,
    positions_of,
    read_values,
    refuse,
)

if TYPE_CHECKING:
    from trivium.designs.ps.filters.chain import Chain

__all__ = ["Receiver"]

Flat = NDArray[Any]
Keys = NDArray[np.uint64]

LAST_KEY = 2**64 - 1


class Receiver:
    """Decodes what one ``Sender`` of the same chain, size and type encodes."""

    def __init__(self, chain: Chain, size: int, dtype: np.dtype[Any]) -> None:
        self.size, self.dtype = size, dtype
        self._coder = chain.coder
        self._lists = KeyLists()

    def decode(self, buffers: Sequence[Buffer], out: Flat) -> None:
        """Write the delta into ``out``, flat (size,): zeros where nothing was sent. ``out`` is undefined on error."""
        header = header_of(buffers, 4)
        if header.keys != DENSE or header.rows != self.size or header.width != 1:
            raise refuse(f"it is of {header.rows} rows of {header.width}, expected dense {self.size}")
        if out.shape != (self.size,) or out.dtype != self.dtype:
            raise refuse(f"it is to go to {out.shape} of {out.dtype}, expected ({self.size},) of {self.dtype}")
        positions = positions_of(header, buffers[1])
        if positions is None:
            read_values(header, self._coder, buffers, out)
            return
        values = np.empty(header.sent, self.dtype)
        read_values(header, self._coder, buffers, values)
        out[:] = 0
        out[positions] = values

    def decode_rows(self, buffers: Sequence[Buffer]) -> tuple[Keys, Flat]:
        """Ascending keys and rows, (keys, width), of what was sent; UnknownKeys where keys came as a signature."""
        header = header_of(buffers, 5)
        if header.keys == DENSE:
            raise refuse("it is dense, expected rows")
        keys = self._keys(header, buffers[1])
        positions = positions_of(header, buffers[2])
        size = header.sent * header.width
        if bytes_of(buffers[-1]) != size * self._coder.layout(0, self.dtype)[2].itemsize:
            raise refuse(f"its codes are {bytes_of(buffers[-1])} bytes, expected {size} values")
        values = np.empty(size, self.dtype)
        read_values(header, self._coder, buffers, values)
        return keys if positions is None else keys[positions], values.reshape(header.sent, header.width)

    def _keys(self, header: Header, buffer: Buffer) -> Keys:
        """All keys of the message."""
        if header.keys == SIGNED and header.signature is not None:
            known = self._lists.get(header.signature)
            if known is None:
                raise UnknownKeys(header.signature)
            if known.size != header.rows:
                raise refuse(f"signature {header.signature:016x} stands for {known.size} keys, not {header.rows}")
            return known
        keys = _spelled(header, buffer)
        if header.signature is not None:
            if signature(keys) != header.signature:
                raise refuse("its keys do not have its signature")
            self._lists.put(header.signature, keys)
        return keys


def _spelled(header: Header, buffer: Buffer) -> Keys:
    """Keys that are in the message."""
    if header.keys == PLAIN:
        keys: Keys | None = array_of(buffer, np.dtype(np.uint64), header.rows, "keys").copy()
        sound = keys is not None and ascending(keys)
    else:
        bytes_ = array_of(buffer, np.dtype(np.uint8), bytes_of(buffer), "keys")
        keys = read_gaps(bytes_, header.rows, LAST_KEY) if header.keys == SHORT else None
        sound = keys is not None
    if not sound or keys is None:
        raise refuse(f"its {bytes_of(buffer)} bytes of keys are not {header.rows} ascending keys")
    keys.flags.writeable = False
    return keys
