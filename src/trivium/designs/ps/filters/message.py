"""How a delta lies in buffers: a header, then arrays. What comes from a link is checked before it is read.

========= ============================================================================================
buffer    holds
========= ============================================================================================
header    a msgpack array: what the others are (``Header``)
keys      only with rows: all keys, as gaps or as they are; empty where a signature stands for them
positions which elements or rows have values, as gaps, runs or bits; empty where all have
scales    the coder's, one for each block of values
codes     the values
========= ============================================================================================

Empty buffers stay, so that each has its place. Numbers are little-endian, as all machines that this runs on are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import Buffer, Coder, bytes_of
from trivium.designs.ps.filters.kernels.positions import gap_bytes, read_gaps, write_gaps
from trivium.errors import ProtocolError

__all__ = [
    "ALL",
    "DENSE",
    "PLAIN",
    "SHORT",
    "SIGNED",
    "Header",
    "array_of",
    "header_of",
    "name_positions",
    "positions_of",
]

Positions = NDArray[np.int64]

ALL, GAPS, RUNS, BITS = range(4)  # forms of positions
DENSE, PLAIN, SHORT, SIGNED = range(4)  # forms of keys


class Header(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """``rows`` of ``width`` elements in all, of which ``sent`` have values (dense: as many rows of one element).

    ``form``: how positions are named, with ``numbers`` numbers; ``keys``: how keys are, to be kept under ``signature``
    (None: not to be kept); ``coder``: how values are written; ``size``: bytes of a float.
    """

    rows: int
    width: int
    sent: int
    form: int
    numbers: int
    keys: int
    signature: int | None
    coder: int
    size: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def pack(header: Header) -> bytes:
    """The first buffer."""
    return _encoder.encode(header)


def refuse(what: str) -> ProtocolError:
    """The error for buffers that are not what a sender of this chain writes."""
    return ProtocolError(f"filtered delta: {what}; sender and receiver must have one chain, size and type")


def header_of(buffers: Sequence[Buffer], count: int) -> Header:
    """The header of ``count`` buffers; ProtocolError otherwise."""
    if len(buffers) != count:
        raise refuse(f"{len(buffers)} buffers came, expected {count}")
    try:
        header = _decoder.decode(bytes_view(buffers[0]))
    except msgspec.DecodeError as error:
        raise refuse(f"its header cannot be read ({error})") from error
    if min(header.rows, header.width, header.sent, header.numbers) < 0 or header.sent > header.rows:
        raise refuse(f"its header makes no sense ({header})")
    return header


def bytes_view(buffer: Buffer) -> memoryview:
    """The same memory as bytes."""
    return (buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)).cast("B")


def array_of(buffer: Buffer, dtype: np.dtype[Any], count: int, what: str) -> NDArray[Any]:
    """``buffer`` as ``count`` elements, aligned; ProtocolError where it has another length."""
    if bytes_of(buffer) != count * dtype.itemsize:
        raise refuse(f"{what} are {bytes_of(buffer)} bytes, expected {count} of {dtype}")
    array = np.frombuffer(bytes_view(buffer), dtype)
    return array if array.flags.aligned else array.copy()


def _runs(positions: Positions) -> Positions:
    """Where each run of neighbours starts, and where it ends: ascending, as runs do not touch."""
    last = np.flatnonzero(np.diff(positions) > 1)
    bounds = np.empty(2 * last.size + 2, np.int64)
    bounds[0], bounds[-1] = positions[0], positions[-1] + 1
    bounds[1:-1:2] = positions[last] + 1
    bounds[2:-1:2] = positions[last + 1]
    return bounds


def name_positions(positions: Positions | None, size: int) -> tuple[int, int, NDArray[np.uint8]]:
    """Form, count of numbers, and bytes of ascending ``positions`` below ``size``, in the shortest form; None: all.

    >>> name_positions(np.arange(5, 4096), 8192)
    (2, 2, array([  5, 250,  31], dtype=uint8))
    """
    if positions is None or positions.size == size:
        return ALL, 0, np.empty(0, np.uint8)
    if positions.size == 0:
        return GAPS, 0, np.empty(0, np.uint8)
    bounds = _runs(positions)
    if bounds.size < positions.size:
        form, numbers = RUNS, bounds
    else:
        form, numbers = GAPS, positions
    length = gap_bytes(numbers)
    if length <= -(-size // 8):
        return form, numbers.size, write_gaps(numbers, length)
    mask = np.zeros(size, np.uint8)
    mask[positions] = 1
    return BITS, 0, np.packbits(mask)


def positions_of(header: Header, buffer: Buffer) -> Positions | None:
    """What ``name_positions`` wrote; None: all. ProtocolError where it is not that."""
    data = array_of(buffer, np.dtype(np.uint8), bytes_of(buffer), "positions")
    if header.form == ALL:
        found = None
        sound = data.size == 0 and header.sent == header.rows
    elif header.form == BITS:
        sound = data.size == -(-header.rows // 8)
        found = np.flatnonzero(np.unpackbits(data, count=header.rows)) if sound else None
    else:
        found = _numbers(header, data)
        sound = found is not None
    if not sound or (found is not None and found.size != header.sent):
        raise refuse(f"its positions are not {header.sent} of {header.rows}")
    return found


def _numbers(header: Header, data: NDArray[np.uint8]) -> Positions | None:
    """Positions from gaps or runs; None where they are not sound."""
    numbers = read_gaps(data, header.numbers, header.rows - (header.form == GAPS))
    if numbers is None or header.form == GAPS:
        return None if numbers is None else numbers.view(np.int64)
    if header.form != RUNS or numbers.size % 2:
        return None
    starts, lengths = numbers[::2].astype(np.int64), np.diff(numbers)[::2].astype(np.int64)
    if int(lengths.sum()) != header.sent:
        return None
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(header.sent)


def read_values(header: Header, coder: Coder, buffers: Sequence[Buffer], out: NDArray[Any]) -> None:
    """Decode the last two buffers into flat ``out``, of ``sent`` times ``width`` values."""
    if header.coder != coder.code or header.size != out.dtype.itemsize:
        raise refuse(f"its values are of coder {header.coder}, {header.size} bytes; expected {coder.code}, {out.dtype}")
    scale_type, scales, code_type = coder.layout(out.size, out.dtype)
    try:
        coder.decode(
            array_of(buffers[-2], scale_type, scales, "scales"),
            array_of(buffers[-1], code_type, out.size, "codes"),
            out,
        )
    except ValueError as error:
        raise refuse(str(error)) from error
