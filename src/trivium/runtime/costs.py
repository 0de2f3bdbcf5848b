"""Costs in place of arithmetic: a plane without data, and the time that work and messages take.

Under the simulated host these predict how a plan runs on machines that are not here: the roles are the real ones, what
they ask for takes the seconds that were measured or given. Results are constant, so F never finishes by itself.

What it does not model: contention for memory, switches between the nodes, and variation beyond ``spread``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from trivium.core.exchange import (
    Advance,
    Combine,
    Copy,
    Delta,
    Entry,
    Forget,
    Fresh,
    Gather,
    Scale,
    Show,
    TakeUp,
    Whole,
)
from trivium.core.messages import (
    Adopt,
    Ahead,
    Apply,
    Committed,
    EvaluateRows,
    Fold,
    Gradient,
    KeepShard,
    Push,
    SaveShard,
)
from trivium.core.role import Address, Message, Work
from trivium.errors import UsageError

__all__ = ["CostPlane", "Costs", "ForgetfulStore", "Links"]

SMALL = 64  # bytes of a message that carries no bulk data


@dataclass(frozen=True)
class Costs:
    """Seconds of each kind of work on one core, and the bytes that it moves.

    ``gradient`` and ``evaluate`` are for one lane, ``fold``, ``apply``, ``keep`` and ``adopt`` for one shard, ``add``
    for summing one part into a shard, ``show`` for making a version of values that came. Works vary: each takes
    1 + ``spread``·Exp(1) times as long. ``shard_bytes`` is the size of one shard of A.
    """

    gradient: float
    apply: float
    add: float = 0.0
    fold: float = 0.0
    evaluate: float = 0.0
    keep: float = 0.0
    adopt: float = 0.0
    show: float = 0.0
    spread: float = 0.0
    shard_bytes: int = 0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)!r}")

    def seconds(self, _address: Address, work: Work, draw: random.Random) -> float:
        """How long ``work`` takes; a ``Cost`` of the simulated host."""
        varied = 1.0 + self.spread * draw.expovariate(1.0) if self.spread else 1.0
        return varied * self._mean(work)

    def _mean(self, work: Work) -> float:
        if isinstance(work, Gradient):
            return self.gradient * sum(hi - lo for lo, hi in work.parts)
        if isinstance(work, Apply):
            return self.apply + (0.0 if work.folded else self.add * len(work.parts))
        if isinstance(work, Fold):
            return self.fold + self.add * len(work.parts)
        if isinstance(work, Advance):
            return self.apply + self.add * _arrays(work.entries)
        if isinstance(work, Gather | Combine):
            return self.add * _arrays(work.entries)
        if isinstance(work, EvaluateRows):
            return self.evaluate * (work.lanes.hi - work.lanes.lo)
        if isinstance(work, Ahead | Forget | SaveShard):
            return 0.0  # done while others are waited for
        if isinstance(work, Show | TakeUp):
            return self.show
        return {KeepShard: self.keep, Adopt: self.adopt, Scale: self.fold}[type(work)]


def _arrays(entries: tuple[Entry, ...]) -> int:
    """How many arrays ``entries`` are: a block each part of this node's own, one each Delta that came."""
    return sum(len(one.parts) for one in entries if one.node < 0) + len(
        {(one.node, one.number) for one in entries if one.node >= 0}
    )


@dataclass
class Links:
    """One link a node, in and out: messages queue at either end, and take ``latency`` between.

    ``bandwidth`` is in bytes a second, each way. Messages within a node take no link. Where nodes share nothing, a
    ``Delta`` carries a sum (or one for each of its parts), ``Copy`` and ``Fresh`` a shard, ``Whole`` one with its
    state; in a cluster of holders and runners a push carries the receiver's deltas, a commit the new version of its
    shard. Others carry nothing to speak of.
    """

    costs: Costs
    bandwidth: float
    latency: float
    moved: int = 0
    _out: dict[int, float] = field(default_factory=dict)
    _in: dict[int, float] = field(default_factory=dict)

    def arrival(self, sender: Address, to: Address, message: Message, now: float) -> float:
        """When ``message``, sent ``now``, has come over."""
        if sender.node == to.node:
            return now
        size = self.costs.shard_bytes * _shards(message) + SMALL
        seconds, out, into = size / self.bandwidth, self._out, self._in
        left = out[sender.node] = max(now, out.get(sender.node, 0.0)) + seconds
        there = into[to.node] = max(left + self.latency, into.get(to.node, 0.0) + seconds)
        self.moved += size
        return there


def _shards(message: Message) -> int:
    """How many times a shard's bytes go with ``message``."""
    kind = type(message)
    if kind is Delta:
        return max(1, len(message.parts))  # type: ignore[attr-defined]
    return 2 if kind is Whole else 1 if kind in (Copy, Fresh, Push, Committed) else 0


class CostPlane:
    """Does nothing, and says that it is done."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes

    def snapshot(self, _shard: int, _clock: int) -> None:
        """Nothing."""

    def carry_out(self, work: Work) -> Any:
        """The result that the kind of ``work`` promises, without its content."""
        if isinstance(work, Apply):
            return False, work.clock + 1, float(self.lanes), float(self.lanes), 0.0
        if isinstance(work, Advance):
            rows = float(sum(work.applied) - work.tag)
            return False, max(work.applied), rows, rows, 0.0
        if isinstance(work, Adopt):
            return 0, False
        if isinstance(work, EvaluateRows):
            return tuple(tuple((1.0, 1.0, 0.0, 0.0) for _ in range(*work.lanes)) for _ in work.sets)
        return None

    def read(self, clock: int) -> None:
        """Whatever ``clock`` is, there is nothing to hold."""


class ForgetfulStore:
    """Takes every record."""

    def write(self, record: Work, plane: Any) -> None:
        """Forget it."""
