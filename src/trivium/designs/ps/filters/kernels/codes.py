"""int8 with a scale for each block, and what is lost by it kept for the next time: one pass, a block at a time.

A block's codes are its values over its largest magnitude, times 127, to the nearest (ties to even: adding 1.5·2^m and
taking it away leaves whole numbers, in vectors). A block with a value that is not finite reads as NaN all over, so that
a diverged run shows, and leaves nothing behind. A block whose scale would be subnormal reads as zero and is kept whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.kernels.floats import as_bits, format_of
from trivium.program.optimizers.compiled import elementwise, frozen

__all__ = ["BLOCK", "decode_codes", "encode_codes"]

Flat = NDArray[Any]
Kernel = Callable[..., None]

BLOCK = 256
STEPS = 127


class _Codes(NamedTuple):
    encode: Kernel
    decode: Kernel


@lru_cache(maxsize=4)
def _kernels(dtype: np.dtype[Any]) -> _Codes:
    """The two loops for one float type, its layout literal in them."""
    mantissa, _, magnitude, infinity, whole, real = format_of(dtype)
    least = 17 << mantissa  # the bits of a magnitude whose scale is normal and whose inverse is finite
    round_ = real(1.5 * 2.0**mantissa)
    steps, nothing = real(STEPS), real(0)
    largest, below = real(np.finfo(dtype).max), real(1 - np.finfo(dtype).eps)

    @elementwise
    def encode(x: Flat, left: Flat, bits: Flat, one: Flat, one_bits: Flat, scales: Flat, out: Flat) -> None:
        for b in range(scales.size):
            lo, hi = b * BLOCK, min(x.size, b * BLOCK + BLOCK)
            xs, rest, rest_bits, codes = x[lo:hi], left[lo:hi], bits[lo:hi], out[lo:hi]
            for i in range(rest.size):
                rest[i] += xs[i]
            peak = whole(0)
            for i in range(rest_bits.size):
                peak = max(peak, whole(rest_bits[i] & magnitude))
            one_bits[0] = peak
            top = one[0]
            if peak >= infinity:
                scales[b] = np.nan
                codes[:] = 0
                rest[:] = nothing
                continue
            if peak < least:
                scales[b] = nothing
                codes[:] = 0
                continue
            scale, inverse = top / steps, steps / top
            if scale * steps > largest:
                scale *= below
            scales[b] = scale
            for i in range(rest.size):
                q = (rest[i] * inverse + round_) - round_
                codes[i] = np.int8(np.int32(q))
                rest[i] -= q * scale

    @elementwise
    def decode(codes: Flat, scales: Flat, out: Flat) -> None:
        for b in range(scales.size):
            lo, hi = b * BLOCK, min(out.size, b * BLOCK + BLOCK)
            block, values, scale = codes[lo:hi], out[lo:hi], scales[b]
            for i in range(values.size):
                values[i] = real(block[i]) * scale

    return _Codes(encode, decode)


def encode_codes(x: Flat, left: Flat) -> tuple[Flat, Flat]:
    """Scales (blocks,) in ``x``'s type and codes, int8 (n,), of ``x + left``; what they miss is left in ``left``."""
    scales, out = np.empty(-(-x.size // BLOCK), x.dtype), np.empty(x.size, np.int8)
    one = np.empty(1, x.dtype)
    _kernels(x.dtype).encode(frozen(x), left, frozen(as_bits(left)), one, as_bits(one), scales, out)
    return scales, out


def decode_codes(scales: Flat, codes: Flat, out: Flat) -> None:
    """What ``encode_codes`` wrote, into flat ``out``."""
    _kernels(out.dtype).decode(frozen(codes), frozen(scales), out)
