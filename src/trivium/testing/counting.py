"""A plane that counts: exact integers in place of arithmetic, so that one lost, doubled or stale delta shows.

A is one integer a shard. Lane l's delta at clock c depends on the A that it read: ``mix(A, l, c)``. The sum of all
lanes gives the next A, so that after c clocks A has exactly one right value, which ``expected`` computes without any
protocol.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from trivium.core.lanes import Part
from trivium.core.messages import (
    BEST,
    Adopt,
    Ahead,
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

__all__ = ["FAILURE", "CountingMemory", "CountingPlane", "CountingStore", "Wrong", "expected", "loss_at"]

PRIME = (1 << 61) - 1
KEPT_VERSIONS = 2
FAILURE = "the program raised"


Cut: TypeAlias = tuple[Part, ...]


class Wrong(AssertionError):  # noqa: N818 - it reads as a verdict
    """The protocol let something happen that must not: the message says what."""


def mix(values: tuple[int, ...], lane: int, clock: int) -> int:
    """The delta of ``lane`` at ``clock`` for parameters ``values``."""
    seed = lane * 1_000_003 + clock * 7919
    for value in values:
        seed = (seed * 31 + value) % PRIME
    return seed


@functools.lru_cache(maxsize=4096)
def expected(shards: int, lanes: int, clocks: int) -> tuple[int, ...]:
    """A after ``clocks`` clocks."""
    values = (0,) * shards
    for clock in range(clocks):
        total = sum(mix(values, lane, clock) for lane in range(lanes))
        values = tuple((value + total * (shard + 1)) % PRIME for shard, value in enumerate(values))
    return values


def _loss(values: tuple[int, ...]) -> float:
    return float(sum(values) % 1000)


def loss_at(shards: int, lanes: int, clock: int) -> float:
    """What an evaluation at ``clock`` must give."""
    return _loss(expected(shards, lanes, clock))


@dataclass
class _Block:
    clock: int = -1
    value: int = 0
    hi: int = 0
    writers: set[CountingPlane] = field(default_factory=set)
    summing: set[tuple[CountingPlane, int]] = field(default_factory=set)


@dataclass
class CountingMemory:
    """A node's memory: versions of each shard (the last two), a block for each lane, partial sums."""

    shards: int
    lanes: int
    finish_at: int | None = None
    fail_at: int | None = None
    versions: list[dict[int, int]] = field(default_factory=list)
    totals: list[dict[int, tuple[int, Cut]]] = field(default_factory=list)
    blocks: list[_Block] = field(default_factory=list)
    partials: list[tuple[int, int, Cut]] = field(default_factory=list)
    kept: dict[int, tuple[int, int]] = field(default_factory=dict)
    folding: set[tuple[CountingPlane, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.versions = self.versions or [{0: 0} for _ in range(self.shards)]
        self.totals = [{} for _ in range(self.shards)]
        self.blocks = [_Block() for _ in range(self.lanes)]
        self.partials = [(-1, 0, ())] * self.shards

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
        """A gradient writes the blocks of all its lanes, a sum writes in place: neither may meet another."""
        if isinstance(work, Gradient):
            for block in self._blocks(work.parts):
                if block.summing or block.writers - {self}:
                    raise Wrong(f"{work} writes a block that is being written or summed")
                block.writers.add(self)
        elif isinstance(work, Apply) and work.folded and work.authority < 0 and self.memory.folding:
            raise Wrong(f"{work} reads partial sums while they are written")
        elif isinstance(work, Fold) or (isinstance(work, Apply) and not work.folded):
            self._check_parts(work.parts, work.clock)
            for block in self._blocks(work.parts):
                block.summing.add((self, work.shard))
            if isinstance(work, Fold):
                self.memory.folding.add((self, work.shard))

    def died(self) -> None:
        """Its process is killed and reaped: it writes and sums nothing any more."""
        for block in self.memory.blocks:
            block.writers.discard(self)
            block.summing = {one for one in block.summing if one[0] is not self}
        self.memory.folding = {one for one in self.memory.folding if one[0] is not self}

    def _blocks(self, parts: tuple[Part, ...]) -> list[_Block]:
        return [self.memory.blocks[lane] for lo, hi in parts for lane in range(lo, hi)]

    def _summed(self, work: Fold | Apply) -> int:
        self._check_parts(work.parts, work.clock)
        for block in self._blocks(work.parts):
            block.summing.discard((self, work.shard))
        return self._sum(work.parts)

    def carry_out(self, work: Work) -> Any:
        """Do ``work`` on integers."""
        if isinstance(work, Gradient):
            return self._gradient(work)
        if isinstance(work, Apply):
            return self._apply(work)
        if isinstance(work, Fold):
            self.memory.folding.discard((self, work.shard))
            self.memory.partials[work.shard] = (work.clock, self._summed(work), work.parts)
            return None
        if isinstance(work, Ahead):
            return None
        if isinstance(work, Adopt):
            clock = self.memory.clock(work.shard)
            return clock, clock == self.memory.finish_at
        if isinstance(work, KeepShard):
            self.memory.kept[work.shard] = (work.clock, self.memory.versions[work.shard][work.clock])
            return None
        assert isinstance(work, EvaluateRows)
        value = _loss(self._evaluated(work.clock))
        return tuple(tuple((1.0, 1.0, value, 0.0) for _ in range(*work.lanes)) for _ in work.sets)

    def snapshot(self, shard: int, clock: int) -> tuple[int, tuple[int, int] | None]:
        """The shard's value at ``clock``, and what is kept of it: (clock, value)."""
        held = self.memory.versions[shard]
        if clock not in held:
            raise Wrong(f"shard {shard} saved at {clock}, it has {sorted(held)}")
        return held[clock], self.memory.kept.get(shard)

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
        for block in self._blocks(work.parts):
            block.writers.discard(self)
        if clock == self.memory.fail_at and work.parts[0].lo == 0:
            raise ValueError(FAILURE)
        for lo, hi in work.parts:
            block = self.memory.blocks[lo]
            block.value = sum(mix(values, lane, clock) for lane in range(lo, hi))
            block.clock, block.hi = clock, hi

    def _check_parts(self, parts: tuple[Part, ...], clock: int) -> None:
        for lo, hi in parts:
            block = self.memory.blocks[lo]
            if block.writers:
                raise Wrong(f"block {lo} summed for clock {clock} while it is written")
            if (block.clock, block.hi) != (clock, hi):
                raise Wrong(f"block {lo} holds lanes to {block.hi} of clock {block.clock}, wanted {hi} of {clock}")

    def _sum(self, parts: tuple[Part, ...]) -> int:
        lanes = sorted(lane for lo, hi in parts for lane in range(lo, hi))
        if lanes != list(range(self.memory.lanes)):
            raise Wrong(f"lanes {lanes} summed of {self.memory.lanes}")
        return sum(self.memory.blocks[lo].value for lo, _hi in parts)

    def _total(self, work: Apply) -> tuple[int, Cut]:
        """The total and its cut: floats summed in another order have other bits, so one cut binds all shards."""
        memory = self.memory
        if not work.folded:
            return self._summed(work), ()
        if work.authority >= 0:
            return memory.totals[work.authority][work.clock]
        _clock, value, cut = memory.partials[work.shard]
        for shard, (clock, _value, other) in enumerate(memory.partials):
            if clock != work.clock or other != cut:
                raise Wrong(f"partial sums of shard {shard} are of clock {clock}, {other}; wanted {work.clock}, {cut}")
        return value, cut

    def _apply(self, work: Apply) -> tuple[bool, int, float, float, float]:
        memory = self.memory
        held = memory.versions[work.shard]
        if max(held) != work.clock:
            raise Wrong(f"clock {work.clock} applied to shard {work.shard} at {max(held)}")
        total, cut = self._total(work)
        for shard, totals in enumerate(memory.totals):
            if totals.get(work.clock, (0, cut))[1] != cut:
                raise Wrong(f"clock {work.clock} is cut as {cut} in shard {work.shard}, otherwise in {shard}")
        memory.totals[work.shard][work.clock] = (total, cut)
        held[work.clock + 1] = (held[work.clock] + total * (work.shard + 1)) % PRIME
        for old in sorted(held)[:-KEPT_VERSIONS]:
            del held[old]
        return work.clock + 1 == memory.finish_at, work.clock + 1, float(memory.lanes), float(memory.lanes), 0.0


class CountingStore:
    """Durable records of a simulated run directory, in the manner of the real one.

    A shard's file is named by shard and clock and holds the kept parameters too; a torn file fails its checksum. What
    orphans save (``best`` −1) replaces no whole file, since a manifest may name it.
    """

    def __init__(self, memory: CountingMemory, *, full_after: int | None = None) -> None:
        self.memory, self.full_after = memory, full_after
        self.terms: list[TermRecord] = []
        self.shards: dict[tuple[int, int], int | None] = {}  # None: torn
        self.kept: dict[tuple[int, int], tuple[int, int] | None] = {}
        self.broken: set[object] = set()
        self.manifests: list[Manifest] = []
        self.writes = 0

    def write(self, record: Work, held: Any) -> None:
        """Keep ``record``; StorageError once the disk is full."""
        self.writes += 1
        if self.full_after is not None and self.writes > self.full_after:
            raise StorageError("no space left on the run directory's disk")
        if isinstance(record, TermRecord):
            if self.terms and record.term <= self.terms[-1].term:
                raise Wrong(f"term {record.term} written after {self.terms[-1].term}")
            self.terms.append(record)
        elif isinstance(record, SaveShard):
            self._save(record, *held.snapshot(record.shard, record.clock))
        elif isinstance(record, Manifest):
            for shard in range(self.memory.shards):
                if (shard, record.clock) not in self.shards.keys() - self.broken:
                    raise Wrong(f"manifest of clock {record.clock} without shard {shard}")
            self.manifests.append(record)

    def _save(self, record: SaveShard, value: int, kept: tuple[int, int] | None) -> None:
        name = (record.shard, record.clock)
        if record.best >= 0 and (kept is None or kept[0] != record.best):
            raise Wrong(f"{record} holds the kept parameters {kept}")
        if name in self.shards and name not in self.broken and record.best < 0:
            return
        self.broken.discard(name)
        self.shards[name], self.kept[name] = value, kept

    def torn(self, record: Work) -> None:
        """Its writer died in the middle: what was there under this name stays, for a new name there is a torn file."""
        if isinstance(record, SaveShard):
            name = (record.shard, record.clock)
            if name not in self.shards:
                self.broken.add(name)
                self.shards[name] = None

    def whole(self) -> list[int]:
        """The clocks of which every shard is saved and passes its checksum."""
        names = self.shards.keys() - self.broken
        return sorted(
            c for c in {clock for _s, clock in names} if all((s, c) in names for s in range(self.memory.shards))
        )

    def manifest(self) -> Manifest | None:
        """The newest manifest whose shards are whole."""
        clocks = self.whole()
        return next((one for one in reversed(self.manifests) if one.clock in clocks), None)

    def _value(self, shard: int, clock: int) -> int:
        value = self.shards[shard, clock]
        if value is None:
            raise Wrong(f"shard {shard} of clock {clock} is loaded from a torn file")
        return value

    def restore(self, clock: int) -> CountingMemory:
        """A new node's memory as of ``clock``, with the parameters that the newest manifest kept."""
        old = self.memory
        manifest = self.manifest()
        memory = CountingMemory(old.shards, old.lanes, old.finish_at)
        if clock:
            memory.versions = [{clock: self._value(shard, clock)} for shard in range(old.shards)]
        if manifest is not None and manifest.best >= 0:
            for shard in range(old.shards):
                kept = self.kept[shard, manifest.clock]
                if kept is None or kept[0] != manifest.best:
                    raise Wrong(f"{manifest} keeps {manifest.best}, the file of shard {shard} has {kept}")
                memory.kept[shard] = kept
        return memory
