"""float16: two bytes a value, and a power of two for each block of 1,024.

The power of two brings the block's largest value near the top of float16's range, so that nothing overflows (what the
last rounding would carry beyond is set to the largest) and small gradients are not lost below its least number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import VALUES, Coder, Filter, no_number

__all__ = ["Float16", "HalfCoder"]

Flat = NDArray[Any]


@dataclass(frozen=True)
class Float16(Filter):
    """Values to the nearest float16, ties to even: relative error up to 2⁻¹¹ within 2²⁸ of a block's peak.

    No error feedback by itself: rounding to the nearest has no bias worth keeping a residual for. After ``topk``, whose
    residual is there anyway, what it misses is kept.

    >>> str(Float16.parse(None))
    'float16'
    """

    name: ClassVar[str] = "float16"
    stage: ClassVar[int] = VALUES
    usage: ClassVar[str] = "float16"

    @classmethod
    def parse(cls, number: str | None) -> Float16:
        """Takes no number."""
        no_number(cls.name, number)
        return cls()

    def coder(self) -> Coder:
        """How values are written."""
        return HalfCoder()


class HalfCoder(Coder):
    """An int16 exponent for each block, and the bits of float16 for each value."""

    code = 1
    remembers = False

    def layout(self, size: int, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int, np.dtype[Any]]:  # noqa: ARG002
        """Blocks of 1,024."""
        from trivium.designs.ps.filters.kernels.halves import BLOCK

        return np.dtype(np.int16), -(-size // BLOCK), np.dtype(np.uint16)

    def encode(self, values: Flat, left: Flat | None) -> tuple[Flat, Flat]:
        """To the nearest; ``left`` gets the difference, or 0 where that is not finite."""
        from trivium.designs.ps.filters.kernels.halves import decode_halves, encode_halves

        if left is None:
            return encode_halves(values)
        left += values
        scales, codes = encode_halves(left)
        read = np.empty_like(left)
        decode_halves(scales, codes, read)
        finite = np.isfinite(read)
        np.subtract(left, read, out=left, where=finite)
        left[~finite] = 0
        return scales, codes

    def decode(self, scales: Flat, codes: Flat, out: Flat) -> None:
        """Exact: each value is a float16 times a power of two."""
        from trivium.designs.ps.filters.kernels.halves import decode_halves

        info = np.finfo(out.dtype)
        if scales.size and not (info.minexp <= scales.min() and scales.max() < info.maxexp):
            raise ValueError(f"exponents {scales.min()} to {scales.max()} are not those of {out.dtype}")
        decode_halves(scales, codes, out)
