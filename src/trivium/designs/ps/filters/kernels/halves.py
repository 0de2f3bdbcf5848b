"""float16 with a power of two for each block: written and read a block at a time, in the first cache.

The block's largest finite magnitude is brought to [2¹⁴, 2¹⁵), so nothing overflows, and what is up to 2²⁸ times smaller
keeps float16's eleven bits. The conversion is to the nearest, ties to even, on integers: it has no branches and becomes
vectors. Powers of two are exact, so the only error is float16's own. What is not finite stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.kernels.floats import as_bits, format_of
from trivium.program.optimizers.compiled import elementwise, frozen

__all__ = ["BLOCK", "decode_halves", "encode_halves"]

Flat = NDArray[Any]
Kernel = Callable[..., None]

BLOCK = 1024
TOP = 14  # the exponent that a block's largest gets
LARGEST = 0x7BFF  # the largest finite half: 65,504


class _Halves(NamedTuple):
    encode: Kernel
    decode: Kernel


@lru_cache(maxsize=4)
def _kernels(dtype: np.dtype[Any]) -> _Halves:
    """The two loops for one float type. Its layout must be literal in them, else they do not become vectors."""
    mantissa, bias, magnitude, infinity, whole, _ = format_of(dtype)
    drop = mantissa - 10
    rebias = (bias - 15) << 10
    half = (1 << (drop - 1)) - 1
    normal = (bias - TOP) << mantissa  # the bits of 2⁻¹⁴: from here on halves have their whole precision
    grid = (bias - 24 + mantissa) << mantissa  # the bits of what is added to round to multiples of 2⁻²⁴
    to_sign = dtype.itemsize * 8 - 16
    least, most = 1 - bias, bias - TOP - 1  # one less: what is rounded up must stay finite

    @elementwise
    def encode(x: Flat, bits: Flat, work: Flat, work_bits: Flat, one: Flat, one_bits: Flat, e: Flat, out: Flat) -> None:
        one_bits[1] = grid
        offset = one[1]
        for b in range(e.size):
            lo, hi = b * BLOCK, min(x.size, b * BLOCK + BLOCK)
            xs, signed, codes = x[lo:hi], bits[lo:hi], out[lo:hi]
            scaled, small = work[0, : hi - lo], work[1, : hi - lo]
            scaled_bits, small_bits = work_bits[0, : hi - lo], work_bits[1, : hi - lo]
            peak = whole(0)
            for i in range(signed.size):
                a = whole(signed[i] & magnitude)
                peak = max(peak, a if a < infinity else whole(0))
            exponent = min(max(int(peak >> mantissa) - bias - TOP, least), most)
            e[b] = exponent
            one_bits[0] = (bias - exponent) << mantissa
            scale = one[0]
            for i in range(scaled.size):
                scaled[i] = abs(xs[i] * scale)
                small[i] = scaled[i] + offset
            for i in range(codes.size):
                a = scaled_bits[i]
                odd = whole(whole(a >> drop) & 1)
                near = whole(whole(whole(whole(a + half) + odd) >> drop) - rebias)
                fine = whole(small_bits[i] - grid)
                code = min(fine if a < normal else near, whole(LARGEST))
                beyond = whole(0x7C00) if a == infinity else whole(0x7E00)
                code = code if a < infinity else beyond
                codes[i] = np.uint16(code | whole(whole(signed[i] >> to_sign) & 0x8000))

    @elementwise
    def decode(halves: Flat, e: Flat, work: Flat, work_bits: Flat, one: Flat, one_bits: Flat, out: Flat) -> None:
        one_bits[1] = (2 * bias - 15) << mantissa  # a half's bits, moved up, are its value over this
        lift = one[1]
        for b in range(e.size):
            lo, hi = b * BLOCK, min(out.size, b * BLOCK + BLOCK)
            codes, values = halves[lo:hi], out[lo:hi]
            up, up_bits = work[: hi - lo], work_bits[: hi - lo]
            one_bits[0] = whole(e[b] + bias) << mantissa
            scale = one[0]
            for i in range(codes.size):
                h = whole(codes[i])
                a = whole(h & 0x7FFF)
                beyond = whole(infinity) if a >= 0x7C00 else whole(0)
                up_bits[i] = whole(whole(a << drop) | beyond) | whole(whole(h & 0x8000) << to_sign)
            for i in range(values.size):
                values[i] = up[i] * lift * scale

    return _Halves(encode, decode)


def encode_halves(x: Flat) -> tuple[Flat, Flat]:
    """Exponents, int16 (blocks,), and codes, the bits of float16, uint16 (n,), of flat ``x``, float32 or float64."""
    blocks = -(-x.size // BLOCK)
    e, out = np.empty(blocks, np.int16), np.empty(x.size, np.uint16)
    work, one = np.empty((2, BLOCK), x.dtype), np.empty(2, x.dtype)
    _kernels(x.dtype).encode(frozen(x), frozen(as_bits(x)), work, as_bits(work), one, as_bits(one), e, out)
    return e, out


def decode_halves(e: Flat, codes: Flat, out: Flat) -> None:
    """What ``encode_halves`` wrote, into flat ``out``. Exponents must lie within the float type's range."""
    work, one = np.empty(BLOCK, out.dtype), np.empty(2, out.dtype)
    _kernels(out.dtype).decode(frozen(codes), frozen(e), work, as_bits(work), one, as_bits(one), out)
