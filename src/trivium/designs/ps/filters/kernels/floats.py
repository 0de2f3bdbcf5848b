"""Floats as integers: the constants with which the kernels take them apart.

A float's bits without the sign, read as an integer, are in the order of its magnitude: infinities above all finite
values, NaN above these. So maxima and thresholds are taken on integers, which loops do in vectors, without a rule for
NaN, and the same on each machine.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Format", "as_bits", "format_of"]


class Format(NamedTuple):
    """How a float type is laid out; ``magnitude`` masks the sign off, ``infinity`` are the bits of +∞."""

    mantissa: int
    bias: int
    magnitude: int
    infinity: int
    bits: type[np.signedinteger[Any]]
    float: type[np.floating[Any]]


@lru_cache(maxsize=4)
def format_of(dtype: np.dtype[Any]) -> Format:
    """The layout of float32 or float64.

    >>> format_of(np.dtype(np.float32))[:2]
    (23, 127)
    """
    info = np.finfo(dtype)
    bits = np.dtype(f"i{dtype.itemsize}").type
    bias = int(info.maxexp) - 1
    return Format(info.nmant, bias, int(np.iinfo(bits).max), (2 * bias + 1) << info.nmant, bits, dtype.type)


def as_bits(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory, read as integers.

    >>> as_bits(np.array([-0.0, 1.0], np.float32)).tolist()
    [-2147483648, 1065353216]
    """
    return array.view(format_of(array.dtype).bits)
