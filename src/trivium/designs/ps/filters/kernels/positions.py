"""Ascending whole numbers in few bytes: gaps of seven bits a byte (LEB128), for positions and for sorted keys.

The first number is written as it is, each other one as its distance to the one before, less 1. A byte's top bit says
that more follow. One in a hundred positions costs 1.3 bytes each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.compiled import elementwise, frozen

__all__ = ["ascending", "gap_bytes", "read_gaps", "write_gaps"]

Numbers = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


@elementwise
def _ascending(numbers: Numbers) -> bool:
    for i in range(1, numbers.size):  # noqa: SIM110 - compiled
        if numbers[i] <= numbers[i - 1]:
            return False
    return True


@elementwise
def _count(numbers: Numbers) -> int:
    total, before = 0, np.uint64(0) - np.uint64(1)
    for i in range(numbers.size):
        rest = numbers[i] - before - np.uint64(1)
        before = numbers[i]
        total += 1
        while rest >= np.uint64(128):
            rest >>= np.uint64(7)
            total += 1
    return total


@elementwise
def _write(numbers: Numbers, out: Bytes) -> None:
    at, before = 0, np.uint64(0) - np.uint64(1)
    for i in range(numbers.size):
        rest = numbers[i] - before - np.uint64(1)
        before = numbers[i]
        while rest >= np.uint64(128):
            out[at] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
            rest >>= np.uint64(7)
            at += 1
        out[at] = np.uint8(rest)
        at += 1


@elementwise
def _read(data: Bytes, last: np.uint64, out: Numbers) -> bool:
    """Whether ``data`` is, to its last byte, as many ascending numbers up to ``last`` as ``out`` has room for."""
    at, before = 0, np.uint64(0) - np.uint64(1)
    for i in range(out.size):
        gap, shift = np.uint64(0), np.uint64(0)
        while True:
            if at == data.size or shift > np.uint64(63):
                return False
            byte = np.uint64(data[at])
            at += 1
            gap |= (byte & np.uint64(127)) << shift
            shift += np.uint64(7)
            if byte < np.uint64(128):
                break
        number = before + np.uint64(1) + gap
        if number > last or (i > 0 and number <= before):
            return False
        out[i] = number
        before = number
    return at == data.size


def ascending(numbers: Numbers) -> bool:
    """Whether each is larger than the one before.

    >>> ascending(np.array([1, 2, 5], np.uint64)), ascending(np.array([1, 1], np.uint64))
    (True, False)
    """
    return bool(_ascending(frozen(numbers)))


def gap_bytes(numbers: NDArray[Any]) -> int:
    """How many bytes ``write_gaps`` needs for these ascending numbers, int64 or uint64."""
    return int(_count(frozen(numbers.view(np.uint64))))


def write_gaps(numbers: NDArray[Any], length: int | None = None) -> Bytes:
    """The gaps of ascending ``numbers``, in ``length`` bytes (as ``gap_bytes`` counts them).

    >>> write_gaps(np.array([3, 4, 200])).tolist()
    [3, 0, 195, 1]
    """
    out = np.empty(gap_bytes(numbers) if length is None else length, np.uint8)
    _write(frozen(numbers.view(np.uint64)), out)
    return out


def read_gaps(data: Bytes, count: int, last: int) -> Numbers | None:
    """The ``count`` numbers, none above ``last``, that ``data`` holds; None where it does not hold just these.

    >>> read_gaps(np.array([3, 0, 195, 1], np.uint8), 3, 200).tolist()
    [3, 4, 200]
    """
    if count > data.size:  # each takes a byte at least: what is no message must not cost memory
        return None
    out = np.empty(count, np.uint64)
    return out if _read(frozen(data), np.uint64(last), out) else None
