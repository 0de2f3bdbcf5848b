"""Filters on a node: a sender for each shard, direction and array of a Delta, with what it keeps for later.

What a sender keeps of a delta that is dropped with its term must not stay, for that delta is computed again: the sender
goes back to what it had before. Of a delta that was taken without this node hearing of it, the unsent rest is lost; so
is, with a primary that dies, what it had kept of its Copies. Neither is more than filters left out of single steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.runtime.arithmetic.arrays import Bench, HeldShard
from trivium.runtime.arithmetic.desk import Desk
from trivium.runtime.arithmetic.parcels import as_bytes

if TYPE_CHECKING:
    from trivium.designs.ps.filters import Context
    from trivium.designs.ps.filters.receiver import Receiver
    from trivium.designs.ps.filters.sender import Sender
    from trivium.runtime.arithmetic.rationing import Ration

__all__ = ["COPY", "DELTA", "Encoded", "Filters"]

DELTA, COPY = "delta", "copy"  # directions


class Encoded(NamedTuple):
    """An array as its sender wrote it; ``applied()``: what receivers make of it; ``residual``: what was kept before."""

    buffers: list[Any]
    applied: Callable[[], NDArray[Any]]
    residual: NDArray[Any] | None


class Filters:
    """The chain of ``Facts.filters`` and the bandwidth at work; false where there is neither. ``clock()``: seconds."""

    def __init__(self, bench: Bench, clock: Callable[[], float] = perf_counter) -> None:
        self.bench = bench
        chain, rate = bench.facts.filters, bench.facts.bandwidth
        self._chain = chain if chain is not None and (chain.filters or rate) else None
        self._ration: Ration | None = None
        if self._chain is not None and rate:
            from trivium.runtime.arithmetic.rationing import Ration

            self._ration = Ration(self._chain, rate, clock)
        self._senders: dict[tuple[str, int, int], Sender] = {}
        self._receivers: dict[int, Receiver] = {}

    def __bool__(self) -> bool:
        return self._chain is not None

    def encode(
        self, direction: str, held: HeldShard, delta: NDArray[Any], about: tuple[int, float], position: int = 0
    ) -> Encoded:
        """``delta`` of ``about`` = (clock, weight), the array at ``position`` of those that go together."""
        assert self._chain is not None
        key = (direction, held.shard.index, position)
        sender = self._senders.get(key)
        if sender is None:
            holds = self._ration is not None
            sender = self._senders[key] = self._chain.sender(delta.size, delta.dtype, hold=holds)
        residual = sender.residual if self._chain.remembers or self._ration is not None else None
        written = sender.encode(delta, self._context(held, about, delta, key))
        buffers = [as_bytes(one) if isinstance(one, np.ndarray) else one for one in written]
        return Encoded(buffers, lambda: sender.applied, residual)

    def warm(self) -> None:
        """Compile what will run, so that no clock waits for that."""
        if self._chain is not None:
            self._chain.warm(self.bench.facts.program.delta_layout.dtype)

    def charge(self, nbytes: int) -> None:
        """``nbytes`` went to other nodes that were not chosen from."""
        if self._ration is not None:
            self._ration.charge(nbytes)

    def _context(
        self, held: HeldShard, about: tuple[int, float], delta: NDArray[Any], key: tuple[str, int, int]
    ) -> Context | None:
        """What must be known of a delta where an L1 penalty or a bandwidth decides."""
        assert self._chain is not None
        if self._chain.kkt is None and self._ration is None:
            return None
        from trivium.designs.ps.filters import Context, Objective

        (clock, weight), (_tag, slot) = about, held.versions.current()
        w = held.a_read[slot]
        objective = None
        if self._chain.kkt is not None:
            objective = Objective(w, weight, self.bench.facts.l1, clock, held.penalised)
        chosen = None if self._ration is None else self._ration.choose(key, self._senders[key], delta, w)
        return Context(objective, chosen)

    def decode(self, held: HeldShard, buffers: Sequence[Any]) -> NDArray[Any]:
        """What was encoded, read-only; it follows from the bytes alone, whoever sent them."""
        assert self._chain is not None
        index, block = held.shard.index, held.blocks[0]
        receiver = self._receivers.get(index)
        if receiver is None:
            receiver = self._receivers[index] = self._chain.receiver(block.size, block.dtype)
        out = np.empty_like(block)
        receiver.decode(list(buffers), out)
        out.flags.writeable = False
        return out

    def undo(self, desk: Desk) -> None:
        """A term is over: senders go back to before what was not taken, and what was not committed."""
        index = desk.held.shard.index
        if desk.outgoing:
            for position, residual in enumerate(desk.outgoing[min(desk.outgoing)].residuals):
                self._put_back((DELTA, index, position), residual)
        for made in desk.uncommitted():
            self._put_back((COPY, index, 0), made.residual)

    def _put_back(self, key: tuple[str, int, int], residual: NDArray[Any] | None) -> None:
        if residual is not None:
            sender = self._senders[key]
            sender.take_back()
            sender.remember(residual)
