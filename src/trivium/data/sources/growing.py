"""An array of which only the end of the input tells the length.

What is appended is copied once into memory that was made for all that is expected, so the pieces can be given back at
once and their memory used again: fresh memory costs more than parsing does. Doubles where the guess was too low.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Growing"]

_MARGIN = 1.05  # over what is expected: untouched memory costs nothing


class Growing:
    """Grows at its end.

    >>> some = Growing("int32")
    >>> some.append(np.array([1, 2], np.int32), 3.0); some.append(np.array([3, 4, 5], np.int32), 3.0)
    >>> some.result()
    array([1, 2, 3, 4, 5], dtype=int32)
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._array: NDArray[Any] = np.empty(0, dtype)
        self._size = 0

    def append(self, piece: NDArray[Any], expected: float) -> None:
        """Copy ``piece`` behind what there is; ``expected`` elements in the end, as far as is known now."""
        after = self._size + len(piece)
        if after > len(self._array):
            least = max(after, 2 * len(self._array))
            try:
                grown = np.empty(max(least, int(expected * _MARGIN)), self._array.dtype)
            except (MemoryError, ValueError):  # a guess from a beginning that packs far better than the rest
                grown = np.empty(least, self._array.dtype)
            grown[: self._size] = self._array[: self._size]
            self._array = grown
        self._array[self._size : after] = piece
        self._size = after

    def result(self) -> NDArray[Any]:
        """All of it, without holding on to much memory behind it; not to be appended to any more."""
        whole, size = self._array, self._size
        return whole[:size] if size * 2 > len(whole) else whole[:size].copy()
