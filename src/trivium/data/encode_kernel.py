"""The compiled parts of encoding: columns to rows, text to keys; without the GIL."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = ["fnv1a"]

_BASIS = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)


def _fnv1a(start: NDArray[np.uint8], bounds: NDArray[np.int64], text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    basis = _BASIS
    for at in range(len(start)):
        basis = (basis ^ np.uint64(start[at])) * _PRIME
    out = np.empty(len(bounds) - 1, np.uint64)
    for word in range(len(out)):
        value = basis
        for at in range(bounds[word], bounds[word + 1]):
            value = (value ^ np.uint64(text[at])) * _PRIME
        out[word] = value
    return out


fnv1a: Any = nb.njit(nogil=True, cache=True)(_fnv1a)
