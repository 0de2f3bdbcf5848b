"""topk: only the largest go; the rest grows until it is among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from trivium.designs.ps.filters.base import SELECTION, Filter
from trivium.errors import PlanError

__all__ = ["TopK"]

Flat = NDArray[Any]


@dataclass(frozen=True)
class TopK(Filter):
    """The ``fraction`` of elements of largest magnitude (rows: of largest norm), after what was kept is added.

    Of equal ones the first go; zeros never do. Positions go as gaps: about 1.3 bytes each for 1 %. What does not go is
    kept for the next time (Stich, Cordonnier and Jaggi, NeurIPS 2018; Aji and Heafield, *Sparse communication for
    distributed gradient descent*, EMNLP 2017). With rows, the fraction is of the rows at hand, and what is kept of a
    row waits until its key comes again (or for ``take_back_rows``).

    >>> TopK.parse("0.01").count(250)
    3
    """

    name: ClassVar[str] = "topk"
    stage: ClassVar[int] = SELECTION
    usage: ClassVar[str] = "topk:F"
    remembers: ClassVar[bool] = True

    fraction: float = 0.01
    text: str = "topk:0.01"

    @classmethod
    def parse(cls, number: str | None) -> TopK:
        """``topk:F`` with F above 0 and at most 1."""
        try:
            fraction = float(number or "")
        except ValueError:
            fraction = math.nan
        if not 0 < fraction <= 1:
            given = cls.name if number is None else f"{cls.name}:{number}"
            raise PlanError(
                f"filter {given!r}: topk wants the fraction that is sent, above 0 and at most 1, as in 'topk:0.01'"
            )
        return cls(fraction, f"{cls.name}:{number}")

    def count(self, size: int) -> int:
        """How many of ``size`` go at most: at least one."""
        return min(size, max(1, math.ceil(self.fraction * size)))

    def __str__(self) -> str:
        return self.text
