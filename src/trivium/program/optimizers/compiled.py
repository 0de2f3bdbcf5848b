"""How kernels of optimizers are compiled, and how inputs are kept from being written.

Rules
-----
* Inputs go to kernels as read-only views (``frozen``). Numba makes read-only a part of the type, so a kernel that wrote
  in place would not compile; and there is one compiled version however the caller maps its memory.
* Elementwise kernels use no fast-math: each element has the same bits in the vector part of a loop and in its tail.
* Sums go over whole blocks of ``BLOCK`` elements. Only there may LLVM reorder: which element lands in which vector lane
  follows from its place in the block, hence never from where shards are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat

__all__ = ["blockwise", "constants", "elementwise", "frozen", "segments"]

F = TypeVar("F", bound=Callable[..., Any])


def elementwise(function: F) -> F:
    """Compile a loop whose bits may not depend on vector width or place."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def blockwise(function: F) -> F:
    """Compile sums over whole blocks: additions inside a block may be reordered, the same way each time."""
    jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    return cast(F, jit(function))


def frozen(array: Flat) -> Flat:
    """A read-only view; ``array`` itself where it is read-only already."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


@lru_cache(maxsize=64)
def constants(dtype: np.dtype[Any], *values: float) -> Flat:
    """``values`` in ``dtype``, read-only. Those of the last clock are most often those of this one."""
    return frozen(np.array(values, dtype))


@elementwise
def segments(lo: int, hi: int, penalised: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut ``[lo, hi)`` into rows (start, stop, under penalty 0/1), in order, without gaps.

    ``penalised`` is ``Layout.penalised``: sorted ranges, shape (k, 2).
    """
    cut = np.empty((2 * len(penalised) + 1, 3), np.int64)
    count, at = 0, lo
    for k in range(len(penalised)):
        start, stop = max(penalised[k, 0], at), min(penalised[k, 1], hi)
        if start >= stop:
            continue
        if at < start:
            cut[count, 0], cut[count, 1], cut[count, 2] = at, start, 0
            count += 1
        cut[count, 0], cut[count, 1], cut[count, 2] = start, stop, 1
        count += 1
        at = stop
    if at < hi:
        cut[count, 0], cut[count, 1], cut[count, 2] = at, hi, 0
        count += 1
    return cut[:count]
