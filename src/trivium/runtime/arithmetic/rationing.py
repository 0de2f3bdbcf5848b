"""A node's bandwidth at work: which blocks of a delta go now, and which wait and are added to the next one.

Rules
-----
* Each **stream** (a shard's Deltas, a shard's Copies) has the share of the node's rate that its size is of all streams;
  within it the blocks of largest relative change go first. See ``designs.ps.filters.budget`` for the account.
* What is sent otherwise (the same Copy to further nodes, values, whole shards) is charged to all streams alike, and
  never waits: who reads values, or learns a shard, needs all of it.
* Blocks that wait are in the sender's residual. A Copy is chosen from and written once, by its primary, which applies
  what it wrote: all copies have the same bits. What waits at the end of a run is not applied any more: no more than the
  last ``Budget.rounds`` clocks have left.
* The clock is the host's; nothing here looks at the time by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.budget import Account, Budget, Piece, spans, step

if TYPE_CHECKING:
    from trivium.designs.ps.filters import Chain
    from trivium.designs.ps.filters.sender import Sender

__all__ = ["Ration"]

BLOCK = 1024  # elements, or a multiple: what filters write with one scale stays together
MOST_BLOCKS = 512  # of a stream: each is looked at in Python
GAP = 1.3  # bytes that a position takes among those that topk picks

Key = tuple[str, int, int]


@dataclass
class _Stream:
    size: int
    account: Account = field(default_factory=Account)

    @property
    def block(self) -> int:
        return BLOCK * max(1, math.ceil(self.size / (BLOCK * MOST_BLOCKS)))


class Ration:
    """Shares ``rate`` bytes a second out over the streams of one node; ``clock()`` is in seconds."""

    def __init__(self, chain: Chain, rate: float, clock: Callable[[], float]) -> None:
        self._chain, self._rate, self._clock = chain, rate, clock
        self._streams: dict[Key, _Stream] = {}

    def choose(self, key: Key, sender: Sender, delta: NDArray[Any], w: NDArray[Any]) -> NDArray[np.int64]:
        """The (k, 2) ranges of ``delta`` that go now, for ``Context.chosen``; ``w`` is where the parameters are."""
        from trivium.designs.ps.filters.kernels.changes import relative_changes

        stream = self._streams.setdefault(key, _Stream(delta.size))
        block = stream.block
        changes = relative_changes(delta, sender.held, w, block)
        nbytes = self._bytes(block, delta.dtype)
        pieces = [Piece(i, nbytes, change) for i, change in enumerate(changes.tolist()) if change]
        turn = step(self._budget(stream), stream.account, self._clock(), pieces)
        stream.account = turn.account
        return spans(turn.go, block, delta.size)

    def charge(self, nbytes: int) -> None:
        """``nbytes`` went that were not chosen here; an account ends at most a burst below zero by that."""
        for stream in self._streams.values():
            budget = self._budget(stream)
            most = budget.rate * budget.burst
            credit = most if stream.account.credit is None else stream.account.credit
            left = max(credit - nbytes * budget.rate / self._rate, min(credit, -most))
            stream.account = replace(stream.account, credit=left)

    def _budget(self, stream: _Stream) -> Budget:
        return Budget(self._rate * stream.size / sum(one.size for one in self._streams.values()))

    def _bytes(self, block: int, dtype: np.dtype[Any]) -> int:
        scale_type, scales, code_type = self._chain.coder.layout(block, dtype)
        topk = self._chain.topk
        if topk is not None:
            return math.ceil(topk.count(block) * (code_type.itemsize + GAP))
        return scale_type.itemsize * scales + code_type.itemsize * block
