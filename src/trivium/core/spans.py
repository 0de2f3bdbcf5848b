"""Where a process's wall time goes: one kind at a time, so that the kinds sum to the whole.

An array of float64 seconds, one for each kind of ``KINDS``, and a mark of what is going on since when. Switching costs
an addition and two stores; the array may lie in shared memory, so that it outlives its process.
"""

from __future__ import annotations

from typing import Any, Final

from trivium.record import KINDS

__all__ = ["APPLY", "COMPUTE", "ENCODE", "IDLE", "LOAD", "READ", "SEND", "WAIT", "Spans"]

LOAD, READ, COMPUTE, ENCODE, SEND, WAIT, APPLY, IDLE = (KINDS.index(kind) for kind in KINDS)


class Spans:
    """Accumulates seconds by kind; ``now`` is handed in, in seconds."""

    __slots__ = ("kind", "seconds", "since", "waited")

    def __init__(self, seconds: Any, waited: Any, now: float, kind: int = LOAD) -> None:
        self.seconds: Final[Any] = memoryview(seconds)  # a third of the cost of NumPy's scalars
        self.waited: Final[Any] = memoryview(waited)
        self.kind = kind
        self.since = now

    def switch(self, kind: int, now: float) -> None:
        """From now on it is ``kind``."""
        self.seconds[self.kind] += now - self.since
        self.kind = kind
        self.since = now

    def waited_for(self, process: int, seconds: float) -> None:
        """``seconds`` of waiting ended with a word from ``process``."""
        self.waited[process] += seconds
