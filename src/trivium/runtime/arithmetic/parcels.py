"""How bulk lies beside a message on its way to another node: a head, then arrays as they are or as filters wrote them.

The head is a small typed struct (msgpack); nothing is unpickled. Sizes are checked against what this node expects, so
that nodes that run different things say so. Numbers are little-endian, as on all machines that nodes run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.errors import RunError
from trivium.runtime.arithmetic.arrays import Stats

__all__ = ["Head", "as_array", "as_bytes", "bytes_of", "opened", "sealed"]


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What goes before the arrays.

    ``stats`` of each array; ``totals`` that bind, if there are any; ``counts[i]``: how many buffers array i is in where
    filters wrote it (empty: each is one, as it lies in memory); ``number``: whatever else belongs to the message.
    """

    stats: tuple[Stats, ...] = ()
    totals: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    number: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


def sealed(head: Head, arrays: Sequence[NDArray[Any]]) -> list[Any]:
    """``head`` and ``arrays`` as buffers; read-only, and without a copy where an array lies in one piece.

    >>> head, rest = opened("Delta", sealed(Head(((2.0, 2.0, 0.5),)), [np.array([1.0, 2.0])]))
    >>> head.stats, as_array("Delta", rest[0], "float64", (2,))
    (((2.0, 2.0, 0.5),), array([1., 2.]))
    """
    return [_encode(head), *(as_bytes(array) for array in arrays)]


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of ``array``, read-only."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data.toreadonly()


def opened(what: str, buffers: Sequence[Any]) -> tuple[Head, Sequence[Any]]:
    """The head, and the buffers after it; RunError, naming ``what`` came, where there is none."""
    try:
        return _decode(buffers[0]), buffers[1:]
    except (IndexError, msgspec.MsgspecError) as error:
        raise RunError(f"{what} came without a head that can be read: {error}") from error


def as_array(what: str, buffer: Any, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """``buffer`` as a read-only array, without a copy unless it lies askew; RunError where its size is another."""
    raw = np.frombuffer(buffer, np.uint8)
    need = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if raw.size != need:
        raise RunError(f"{what} came with {raw.size} bytes where {need} belong: do all nodes run the same program?")
    array: NDArray[Any] = raw.view(dtype) if raw.ctypes.data % np.dtype(dtype).itemsize == 0 else raw.copy().view(dtype)
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def bytes_of(buffers: Sequence[Any]) -> int:
    """How many bytes ``buffers`` are."""
    return sum(memoryview(buffer).nbytes for buffer in buffers)
