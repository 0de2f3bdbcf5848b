"""A link made worse on purpose: slower, later, or cut; time is handed in.

Rules
-----
* ``bandwidth`` is a leaky bucket that holds nothing: a piece of n bytes keeps the wire for n / bandwidth seconds, and
  comes out at the end of them. A wire left idle saves nothing up.
* ``delay`` is added after that: pieces in the line keep their order, and nothing overtakes there, as on a real wire.
* ``cut`` holds all back, both ways, as a network does that drops packets: what was under way is sent again by TCP once
  the cut is over, and goes on if the two ends still count each other as there.

Source: Turner, *New Directions in Communications (or Which Way to the Information Age?)*, IEEE Communications Magazine,
1986 (the leaky bucket).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trivium.errors import UsageError

__all__ = ["Shape", "Wire"]

GRAIN = 0.005  # seconds that one piece may keep the wire; an urgent message waits for it
LEAST = 4096  # bytes of the smallest piece; a multiple of 8, as all are
AHEAD = 0.002  # seconds before the wire is free in which the next piece is put on it: timers tick in milliseconds
FASTEST = 2e9  # bytes a second of a wire without a bound, for how much can be under way in the delay
UNDER_WAY = 1 << 20


@dataclass(frozen=True)
class Shape:
    """Faults injected on a link: ``delay`` in seconds one way, ``bandwidth`` in bytes a second, ``cut``: a partition.

    Raises UsageError for a delay below zero and a bandwidth that is not above it.

    >>> Shape(delay=0.005, bandwidth=12.5e6).fair
    False
    """

    delay: float = 0.0
    bandwidth: float | None = None
    cut: bool = False

    def __post_init__(self) -> None:
        if not (self.delay >= 0 and math.isfinite(self.delay)):
            raise UsageError(f"a link's delay of {self.delay} s; expected 0 or more")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise UsageError(f"a link's bandwidth of {self.bandwidth} bytes/s; expected more than 0, or None")

    @property
    def fair(self) -> bool:
        """Whether nothing is made worse."""
        return not self.cut and self.delay == 0 and self.bandwidth is None


class Wire:
    """A wire of some shape: when a piece that is put on it comes out.

    >>> wire = Wire(Shape(delay=1.0, bandwidth=100.0))
    >>> wire.put(50, now=10.0), wire.put(50, now=10.0), wire.free(now=10.5), wire.free(now=11.0)
    (11.5, 12.0, False, True)
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.until = -math.inf

    def piece(self, most: int) -> int:
        """Bytes of a piece: ``most``, or less so that none keeps a slow wire for long."""
        if self.shape.bandwidth is None:
            return most
        return min(most, max(LEAST, int(self.shape.bandwidth * GRAIN) // LEAST * LEAST))

    def room(self) -> int:
        """Bytes that may be under way."""
        rate = FASTEST if self.shape.bandwidth is None else min(FASTEST, self.shape.bandwidth)
        return UNDER_WAY + int(rate * self.shape.delay)

    @property
    def next(self) -> float:
        """When another piece may be put on it."""
        return self.until - AHEAD

    def free(self, now: float) -> bool:
        """Whether another piece may be put on it."""
        return self.next <= now

    def put(self, nbytes: int, now: float) -> float:
        """Put a piece on the wire; when it comes out."""
        if self.shape.bandwidth is None:
            return now + self.shape.delay
        self.until = max(self.until, now) + nbytes / self.shape.bandwidth
        return self.until + self.shape.delay
