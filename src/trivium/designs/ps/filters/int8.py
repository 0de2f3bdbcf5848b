"""int8: one byte a value, a scale for each block of 256, and error feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import VALUES, Coder, Filter, no_number

__all__ = ["ByteCoder", "Int8"]

Flat = NDArray[Any]


@dataclass(frozen=True)
class Int8(Filter):
    """Each value as one of 255 steps between plus and minus its block's largest magnitude, to the nearest.

    1.0156 bytes a float32: a quarter. The error, at most peak / 254, is added to the next delta: Seide et al. (2014;
    see ``base``). Alistarh, Grubic, Li, Tomioka and Vojnović, *QSGD: communication-efficient SGD via gradient
    quantization and encoding* (NIPS 2017), have blocks with a scale each too, but round at random in place of error
    feedback; here each sender gives the same bytes for the same deltas.

    >>> str(Int8.parse(None))
    'int8'
    """

    name: ClassVar[str] = "int8"
    stage: ClassVar[int] = VALUES
    usage: ClassVar[str] = "int8"
    remembers: ClassVar[bool] = True

    @classmethod
    def parse(cls, number: str | None) -> Int8:
        """Takes no number."""
        no_number(cls.name, number)
        return cls()

    def coder(self) -> Coder:
        """How values are written."""
        return ByteCoder()


class ByteCoder(Coder):
    """A scale in the values' type for each block, and an int8 for each value."""

    code = 2
    remembers = True

    def layout(self, size: int, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int, np.dtype[Any]]:
        """Blocks of 256."""
        from trivium.designs.ps.filters.kernels.codes import BLOCK

        return dtype, -(-size // BLOCK), np.dtype(np.int8)

    def encode(self, values: Flat, left: Flat | None) -> tuple[Flat, Flat]:
        """One pass over values, residual and codes."""
        from trivium.designs.ps.filters.kernels.codes import encode_codes

        return encode_codes(values, np.zeros_like(values) if left is None else left)

    def decode(self, scales: Flat, codes: Flat, out: Flat) -> None:
        """One product each."""
        from trivium.designs.ps.filters.kernels.codes import decode_codes

        decode_codes(scales, codes, out)
