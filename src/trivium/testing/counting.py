"""A plane that counts: exact integers in place of arithmetic, so that one lost, doubled or stale delta shows.

A is one integer a shard. Lane l's delta at clock c depends on the A that it read: ``mix(A, l, c)``. The sum of all lanes
gives the next A, so that after c clocks A has exactly one right value, which ``expected`` computes without any protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trivium.core.lanes import Part
from trivium.core.messages import (
    BEST,
    Adopt,
    Apply,
    EvaluateRows,
    Fold,
    Gradient,
    KeepShard,
    Manifest,
    SaveShard,
    TermRecord,
)
from trivium.core.role import Work
from trivium.errors import StorageError

__all__ = ["CountingMemory", "CountingPlane", "CountingStore", "Wrong", "expected"]

PRIME = (1 << 61) - 1
KEPT_VERSIONS = 2


class Wrong(AssertionError):
    """The protocol let something happen that must not: the message says what."""


def mix(values: tuple[int, ...], lane: int, clock: int) -> int:
    """The delta of ``lane`` at ``clock`` for parameters ``values``."""
    seed = lane * 1_000_003 + clock * 7919
    for value in values:
        seed = (seed * 31 + value) % PRIME
    return seed


def expected(shards: int, lanes: int, clocks: int) -> tuple[int, ...]:
    """A after ``clocks`` clocks."""
    values = (0,) * shards
    for clock in range(clocks):
        total = sum(mix(values, lane, clock) for lane in range(lanes))
        values = tuple((value + total * (shard + 1)) % PRIME for shard, value in enumerate(values))
    return values


@dataclass
class _Block:
    clock: int = -1
    value: int = 0
    hi: int = 0
    writing: bool = False


@dataclass
class CountingMemory:
    """A node's memory: versions of each shard (the last two), a block for each lane, partial sums."""

    shards: int
    lanes: int
    finish_at: int | None = None
    versions: list[dict[int, int]] = field(default_factory=list)
    totals: list[dict[int, int]] = field(default_factory=list)
    blocks: list[_Block] = field(default_factory=list)
    partials: list[tuple[int, int]] = field(default_factory=list)
    kept: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions = self.versions or [{0: 0} for _ in range(self.shards)]
        self.totals = [{} for _ in range(self.shards)]
        self.blocks = [_Block() for _ in range(self.lanes)]
        self.partials = [(-1, 0)] * self.shards

    def at(self, clock: int) -> tuple[int, ...]:
        """A at ``clock``; Wrong if some shard cannot be read there."""
        for shard, held in enumerate(self.versions):
            if clock not in held:
                raise Wrong(f"shard {shard} read at clock {clock}, it has {sorted(held)}")
        return tuple(held[clock] for held in self.versions)

    def clock(self, shard: int) -> int:
        """The committed clock."""
        return max(self.versions[shard])


class CountingPlane:
    """One process's view of a ``CountingMemory``."""

    def __init__(self, memory: CountingMemory) -> None:
        self.memory = memory
        self._pinned: tuple[int, tuple[int, ...]] = (0, ())

    def read(self, clock: int) -> None:
        """Pin A at ``clock``."""
        self._pinned = (clock, self.memory.at(clock))

    def begin(self, work: Work) -> None:
        """A gradient starts to write its blocks; nobody may be summing them."""
        if isinstance(work, Gradient):
            for part in work.parts:
                self.memory.blocks[part.lo].writing = True
        elif isinstance(work, Apply | Fold):
            self._check_parts(work.parts, work.clock)

    def carry_out(self, work: Work) -> Any:
        """Do ``work`` on integers."""
        if isinstance(work, Gradient):
            return self._gradient(work)
        if isinstance(work, Apply):
            return self._apply(work)
        if isinstance(work, Fold):
            self._check_parts(work.parts, work.clock)
            self.memory.partials[work.shard] = (work.clock, self._sum(work.parts))
            return None
        if isinstance(work, Adopt):
            clock = self.memory.clock(work.shard)
            return clock, clock == self.memory.finish_at
        if isinstance(work, KeepShard):
            self.memory.kept[work.shard] = (work.clock, self.memory.versions[work.shard][work.clock])
            return None
        assert isinstance(work, EvaluateRows)
        value = float(sum(self._evaluated(work.clock)) % 1000)
        return tuple(tuple((1.0, 1.0, value, 0.0) for _ in range(*work.lanes)) for _ in work.sets)

    def _evaluated(self, clock: int) -> tuple[int, ...]:
        if clock != BEST:
            return self.memory.at(clock)
        kept = [self.memory.kept[shard] for shard in range(self.memory.shards)]
        if len({at for at, _value in kept}) != 1:
            raise Wrong(f"kept parameters are of clocks {[at for at, _value in kept]}")
        return tuple(value for _at, value in kept)

    def _gradient(self, work: Gradient) -> None:
        clock, values = self._pinned
        if clock != work.clock:
            raise Wrong(f"computed clock {work.clock} with parameters of {clock}")
        if values != self.memory.at(clock):
            raise Wrong(f"parameters of clock {clock} changed under a reader")
        for lo, hi in work.parts:
            block = self.memory.blocks[lo]
            block.value = sum(mix(values, lane, clock) for lane in range(lo, hi))
            block.clock, block.hi, block.writing = clock, hi, False

    def _check_parts(self, parts: tuple[Part, ...], clock: int) -> None:
        for lo, hi in parts:
            block = self.memory.blocks[lo]
            if block.writing:
                raise Wrong(f"block {lo} summed for clock {clock} while it is written")
            if (block.clock, block.hi) != (clock, hi):
                raise Wrong(f"block {lo} holds lanes to {block.hi} of clock {block.clock}, wanted {hi} of {clock}")

    def _sum(self, parts: tuple[Part, ...]) -> int:
        lanes = sorted(lane for lo, hi in parts for lane in range(lo, hi))
        if lanes != list(range(self.memory.lanes)):
            raise Wrong(f"lanes {lanes} summed of {self.memory.lanes}")
        return sum(self.memory.blocks[lo].value for lo, _hi in parts)

    def _total(self, work: Apply) -> int:
        memory = self.memory
        if not work.folded:
            self._check_parts(work.parts, work.clock)
            return self._sum(work.parts)
        if work.authority >= 0:
            return memory.totals[work.authority][work.clock]
        for shard, (clock, _value) in enumerate(memory.partials):
            if clock != work.clock:
                raise Wrong(f"partial sums of shard {shard} are of clock {clock}, wanted {work.clock}")
        return memory.partials[work.shard][1]

    def _apply(self, work: Apply) -> tuple[bool, int, float, float, float]:
        memory = self.memory
        held = memory.versions[work.shard]
        if max(held) != work.clock:
            raise Wrong(f"clock {work.clock} applied to shard {work.shard} at {max(held)}")
        total = self._total(work)
        memory.totals[work.shard][work.clock] = total
        held[work.clock + 1] = (held[work.clock] + total * (work.shard + 1)) % PRIME
        for old in sorted(held)[:-KEPT_VERSIONS]:
            del held[old]
        return work.clock + 1 == memory.finish_at, work.clock + 1, float(memory.lanes), float(memory.lanes), 0.0


class CountingStore:
    """Durable records of a simulated run directory."""

    def __init__(self, memory: CountingMemory, *, full_after: int | None = None) -> None:
        self.memory, self.full_after = memory, full_after
        self.terms: list[TermRecord] = []
        self.shards: dict[tuple[int, int], int] = {}
        self.manifests: list[Manifest] = []
        self.writes = 0

    def write(self, record: Work, _plane: object) -> None:
        """Keep ``record``; StorageError once the disk is full."""
        self.writes += 1
        if self.full_after is not None and self.writes > self.full_after:
            raise StorageError("no space left on the run directory's disk")
        if isinstance(record, TermRecord):
            if self.terms and record.term <= self.terms[-1].term:
                raise Wrong(f"term {record.term} written after {self.terms[-1].term}")
            self.terms.append(record)
        elif isinstance(record, SaveShard):
            held = self.memory.versions[record.shard]
            if record.clock not in held:
                raise Wrong(f"shard {record.shard} saved at {record.clock}, it has {sorted(held)}")
            self.shards[record.shard, record.clock] = held[record.clock]
        elif isinstance(record, Manifest):
            for shard in range(self.memory.shards):
                if (shard, record.clock) not in self.shards:
                    raise Wrong(f"manifest of clock {record.clock} without shard {shard}")
            self.manifests.append(record)

    def newest(self) -> int | None:
        """The greatest clock of which every shard was saved."""
        clocks = {clock for _shard, clock in self.shards}
        whole = [c for c in clocks if all((s, c) in self.shards for s in range(self.memory.shards))]
        return max(whole, default=None)
