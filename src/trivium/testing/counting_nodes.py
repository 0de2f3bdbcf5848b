"""Planes of several nodes that count: exact integers in place of arithmetic, and a ledger of every step of every copy.

A delta is one integer a shard with the set of (lane, clock) that it is made of. Sums are unions: what is in one twice
is Wrong. A copy of a shard is a chain of steps, each with the digest of the one before, so that two copies with the
same tag have had the same steps in the same order, or are Wrong.

Under bsp (and ssp:0, essp:0) a delta depends on what its worker read, as in ``testing.counting``: after c clocks A has
one right value. Under the other rules what is read depends on timing: there a delta follows from lane and clock alone,
and the sum must have each of them once, but for those that backup accounts for as dropped.

What a plane keeps of bulk, and for how long
--------------------------------------------
* Delta: under (shard, node, number); Copy: the shard's sum under its tag; Fresh, Whole: under the shard and tag;
  Partial: the shard's row under its clock.
* Whatever came under a higher term is not replaced by what came late from a lower one: messages are unpacked before
  their role can refuse them. The node's own sum is not replaced by one that came.
* The sum of the last step stays until the next step is made. ``Forget`` of a whole term lets go of everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from trivium.core.consistency import Rule
from trivium.core.exchange import (
    HERE,
    NEWEST,
    Advance,
    Combine,
    Copy,
    Delta,
    Entry,
    Forget,
    Fresh,
    Gather,
    Partial,
    Scale,
    Show,
    TakeUp,
    Whole,
)
from trivium.core.lanes import Part, subtrees
from trivium.core.messages import BEST, Adopt, Ahead, EvaluateRows, Gradient, KeepShard
from trivium.core.role import Address, Message, Work
from trivium.testing.counting import FAILURE, PRIME, Wrong, expected, mix

__all__ = ["Cluster", "Node", "NodePlane", "Version"]

KEPT_VERSIONS = 2
Clocks: TypeAlias = tuple[int, ...]
Totals: TypeAlias = tuple[Any, ...]  # F's partial scalars, a row for each shard: here, how each was summed


class Sum(NamedTuple):
    """Deltas summed: which (as clock * lanes + lane), to what, over which parts; F's totals where they came along."""

    items: frozenset[int]
    value: int
    cut: tuple[Part, ...]
    totals: Totals | None = None


class Version(NamedTuple):
    """A shard at a tag: ``digest`` stands for all steps that led here, ``totals`` for what decided the last one."""

    applied: Clocks
    value: int
    digest: int
    dropped: frozenset[int]
    totals: Totals | None

    @property
    def tag(self) -> int:
        """The sum of its clocks."""
        return sum(self.applied)


@functools.lru_cache(maxsize=4096)
def summed(lanes: int, clocks: int) -> int:
    """The sum of all deltas of the clocks before ``clocks``, where they do not depend on what was read."""
    if clocks == 0:
        return 0
    return summed(lanes, clocks - 1) + sum(mix((), lane, clocks - 1) for lane in range(lanes))


def _loss(values: Sequence[int]) -> float:
    return float(sum(values) % 1000)


@dataclass
class _Block:
    clock: int = -1
    value: int = 0
    hi: int = 0
    writers: set[NodePlane] = field(default_factory=set)
    summing: set[tuple[NodePlane, int]] = field(default_factory=set)


class Copied:
    """What a node has of one shard."""

    def __init__(self, first: Version | None) -> None:
        self.versions: dict[int, Version] = {} if first is None else {first.tag: first}
        self.full = first is not None  # with the optimizer's state: F can be applied to it
        self.history: dict[int, int] = {} if first is None else {first.tag: first.digest}
        self.decided: dict[int, Totals | None] = {}  # the totals with which each tag was reached
        self.shown = -1  # the highest tag that came as Fresh
        self.begun: Clocks = ()  # the clocks after the step under way: it ends unless its process dies
        self.kept: tuple[int, Version] | None = None
        self.sums: dict[int, tuple[int, Sum]] = {}  # by tag: (term that it came in, or OWN; the sum)
        self.outgoing: dict[int, list[tuple[Part | None, Sum]]] = {}
        self.incoming: dict[tuple[int, int], tuple[int, list[tuple[Part | None, Sum]]]] = {}
        self.fresh: dict[int, Version] = {}
        self.wholes: dict[int, tuple[int, Any]] = {}
        self.rows: dict[int, tuple[int, Any]] = {}  # by clock: (term, F's partial scalars)
        self.settled: dict[int, Totals] = {}  # by clock: totals that another shard was advanced with

    @property
    def newest(self) -> Version | None:
        """The version with the highest tag."""
        return self.versions[max(self.versions)] if self.versions else None

    @property
    def applied(self) -> Clocks:
        """The clocks of the newest version; empty where there is none."""
        newest = self.newest
        return () if newest is None else newest.applied

    def back_to(self, tag: int) -> None:
        """Let go of versions at ``tag`` or beyond: a learner may have made steps that never were settled."""
        self.versions = {one: held for one, held in self.versions.items() if one < tag}
        self.history = {one: held for one, held in self.history.items() if one < tag}

    def commit(self, version: Version) -> None:
        """Make ``version`` the newest."""
        if self.versions and version.tag <= max(self.versions):
            raise Wrong(f"version {version.tag} is committed after {max(self.versions)}")
        self.versions[version.tag] = version
        self.history[version.tag] = version.digest
        self.decided[version.tag] = version.totals
        for old in sorted(self.versions)[:-KEPT_VERSIONS]:
            del self.versions[old]


OWN = 1 << 60  # the term of a sum that was made here: nothing that comes replaces it


class Node:
    """One node's memory: versions of every shard, a block for each lane, what came and what is to go."""

    def __init__(self, cluster: Cluster, name: int, first: Iterable[Version | None]) -> None:
        self.cluster, self.name = cluster, name
        self.alive = True
        self.standing = False  # its server has said where it stands, and was not placed yet
        self.blocks = [_Block() for _ in range(cluster.lanes)]
        self.shards = [Copied(version) for version in first]

    def at(self, clock: int) -> tuple[Version, ...]:
        """All shards at ``clock`` (NEWEST: whatever is newest of each)."""
        found = []
        for index, shard in enumerate(self.shards):
            version = shard.newest if clock == NEWEST else shard.versions.get(clock * self.cluster.lanes)
            if version is None:
                at = [one.applied for one in shard.versions.values()]
                raise Wrong(f"node {self.name}: shard {index} read at clock {clock}, it has {at}")
            found.append(version)
        return tuple(found)

    def holding(self, entries: Iterable[Entry]) -> list[_Block]:
        """The blocks that ``entries`` name on this node."""
        return [
            self.blocks[lane] for one in entries if one.node == HERE for lo, hi in one.parts for lane in range(lo, hi)
        ]


@dataclass
class Cluster:
    """All nodes of a run, and what must hold between them. ``holders`` are those of the last placement."""

    shards: int
    lanes: int
    rule: Rule
    elementwise: bool = True
    reproducible: bool = True
    finish_at: int | None = None
    fail_at: int | None = None
    begin: int = 0
    nodes: dict[int, Node] = field(default_factory=dict)
    holders: tuple[tuple[Address, ...], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether a delta depends on what was read."""
        return self.rule.whole and self.rule.kind != "backup"

    def add(self, name: int, first: Iterable[Version | None]) -> Node:
        """A node whose memory holds ``first`` of each shard (None: nothing, as with a joiner)."""
        node = self.nodes[name] = Node(self, name, first)
        return node

    def first(self) -> list[Version | None]:
        """What every node has before the first step."""
        return [Version((0,) * self.lanes, 0, 0, frozenset(), None) for _ in range(self.shards)]

    def delta(self, values: Clocks, lane: int, clock: int) -> int:
        """Δ of a lane's clock."""
        return mix(values if self.exact else (), lane, clock)

    def right(self, shard: int, version: Version) -> int:
        """The value that ``version`` must have; only where all lanes are at one clock."""
        clock = version.applied[0]
        if self.exact:
            return expected(self.shards, self.lanes, clock)[shard]
        missing = sum(mix((), one % self.lanes, one // self.lanes) for one in version.dropped)
        return (summed(self.lanes, clock) - missing) * (shard + 1) % PRIME

    def loss(self, clock: int) -> float:
        """What an evaluation at ``clock`` must give; not under backup, where that depends on what was dropped."""
        if self.exact:
            return _loss(expected(self.shards, self.lanes, clock))
        return _loss([summed(self.lanes, clock) * (shard + 1) % PRIME for shard in range(self.shards)])

    def counting(self, shard: int) -> list[Node]:
        """The living nodes whose copies of ``shard`` count, the primary's first."""
        if not self.holders:
            return []
        found = [self.nodes[one.node] for one in self.holders[shard] if one.node in self.nodes]
        return [node for node in found if node.alive]

    def check_step(self, index: int, version: Version) -> None:
        """No copy that counts has come to this tag by other steps; no shard was advanced with other totals."""
        tag = version.tag
        for node in self.counting(index):
            if node.shards[index].history.get(tag, version.digest) != version.digest:
                raise Wrong(f"shard {index} came to {version.applied} by other steps on node {node.name}")
        if version.totals is None:
            return
        for other in range(self.shards):
            for node in self.counting(other):
                decided = node.shards[other].decided.get(tag)
                if decided is not None and decided != version.totals:
                    raise Wrong(f"tag {tag} is decided by {version.totals} in shard {index}, in {other} by {decided}")


class NodePlane:
    """One process's view of its node; ``server`` says whether the node dies with it."""

    def __init__(self, node: Node, *, server: bool) -> None:
        self.node, self.cluster, self.server = node, node.cluster, server
        self._seen: tuple[Version, ...] = ()
        self._done: dict[type[Work], Callable[[Any], Any]] = {
            Adopt: self._adopt,
            Gradient: self._gradient,
            Ahead: self._ahead,
            Gather: self._gather,
            Combine: self._combine,
            Scale: self._scale,
            Advance: self._advance,
            Show: self._show,
            TakeUp: self._take_up,
            Forget: self._forget,
            KeepShard: self._keep,
            EvaluateRows: self._evaluate,
        }
        self._packed: dict[type[Message], Callable[[Any], Any]] = {
            Delta: self._pack_delta,
            Copy: self._pack_copy,
            Fresh: self._pack_fresh,
            Whole: self._pack_whole,
            Partial: self._pack_partial,
        }
        self._unpacked: dict[type[Message], Callable[[Address, Any, Any], None]] = {
            Delta: self._unpack_delta,
            Copy: self._unpack_copy,
            Fresh: self._unpack_fresh,
            Whole: self._unpack_whole,
            Partial: self._unpack_partial,
        }

    # -- reading ------------------------------------------------------------------------------------------------------
    def read(self, clock: int) -> None:
        """Hold all shards at ``clock``."""
        self._seen = self.node.at(clock)

    def _check_read(self, work: Gradient) -> None:
        """Promise 3: what a read at a clock must have."""
        rule, lanes = self.cluster.rule, self.cluster.lanes
        own = [lane for lo, hi in work.parts for lane in range(lo, hi)] if rule.own else []
        least = work.clock - rule.slack if rule.slack is not None else 0
        for index, version in enumerate(self._seen):
            if self.cluster.exact and version.applied != (work.clock,) * lanes:
                raise Wrong(f"computes clock {work.clock} with shard {index} of {version.applied}")
            if min(version.applied) < least:
                raise Wrong(f"{rule}: clock {work.clock} is read with shard {index} at {version.applied}")
            if any(version.applied[lane] < work.clock for lane in own):
                raise Wrong(f"{work} does not see its own pushes in shard {index}: {version.applied}")

    # -- what is under way --------------------------------------------------------------------------------------------
    def begin(self, work: Work) -> None:
        """A gradient writes the blocks of all its lanes, a sum reads them: neither may meet another."""
        if isinstance(work, Gradient):
            self._check_read(work)
            for block in self._lanes(work.parts):
                if block.summing or block.writers - {self}:
                    raise Wrong(f"{work} writes a block that is being written or summed")
                block.writers.add(self)
        elif isinstance(work, Gather | Combine | Advance):
            if isinstance(work, Advance):
                self.node.shards[work.shard].begun = work.applied
            for block in self.node.holding(work.entries):
                block.summing.add((self, work.shard))

    def died(self) -> None:
        """Its process is killed and reaped; a server takes its node's memory along."""
        for block in self.node.blocks:
            block.writers.discard(self)
            block.summing = {one for one in block.summing if one[0] is not self}
        if self.server:
            self.node.alive = False

    def _lanes(self, parts: Iterable[Part]) -> list[_Block]:
        return [self.node.blocks[lane] for lo, hi in parts for lane in range(lo, hi)]

    # -- work ---------------------------------------------------------------------------------------------------------
    def carry_out(self, work: Work) -> Any:
        """Do ``work`` on integers."""
        return self._done[type(work)](work)

    def _adopt(self, work: Adopt) -> tuple[int, bool]:
        newest = self.node.shards[work.shard].newest
        assert newest is not None
        return newest.tag, newest.tag == self._last_tag

    def _gradient(self, work: Gradient) -> None:
        for block in self._lanes(work.parts):
            block.writers.discard(self)
            block.clock, block.hi = -1, 0
        if work.clock == self.cluster.fail_at and work.parts[0].lo == 0:
            raise ValueError(FAILURE)
        values = tuple(version.value for version in self._seen)
        for lo, hi in work.parts:
            block = self.node.blocks[lo]
            block.value = sum(self.cluster.delta(values, lane, work.clock) for lane in range(lo, hi))
            block.clock, block.hi = work.clock, hi

    def _ahead(self, _work: Ahead) -> None:
        return None

    def _block(self, shard: int, clock: int, part: Part) -> Sum:
        block, lanes = self.node.blocks[part.lo], self.cluster.lanes
        if block.writers:
            raise Wrong(f"block {part.lo} is summed for clock {clock} while it is written")
        if (block.clock, block.hi) != (clock, part.hi):
            held = f"lanes to {block.hi} of clock {block.clock}"
            raise Wrong(f"node {self.node.name}: block {part.lo} holds {held}, wanted {part.hi} of {clock}")
        items = frozenset(clock * lanes + lane for lane in range(*part))
        return Sum(items, block.value * (shard + 1), (part,))

    def _gather(self, work: Gather) -> None:
        blocks = [
            (part, self._block(work.shard, one.clock, part)) for one in self._own(work.entries) for part in one.parts
        ]
        self._let_go(work)
        wanted: list[Part | None] = [*work.parts] or [None]
        self.node.shards[work.shard].outgoing[work.number] = [(part, self._into(part, blocks)) for part in wanted]

    def _own(self, entries: Iterable[Entry]) -> list[Entry]:
        found = [*entries]
        if any(one.node != HERE for one in found):
            raise Wrong(f"gathers {found}, which is not of this node")
        return found

    def _into(self, part: Part | None, blocks: list[tuple[Part, Sum]]) -> Sum:
        """The sum of the blocks that make ``part`` (None: of all)."""
        inside = [one for name, one in blocks if part is None or (part.lo <= name.lo and name.hi <= part.hi)]
        total = _added(inside)
        if part is not None:
            if {one % self.cluster.lanes for one in total.items} != set(range(*part)):
                raise Wrong(f"{part} is not what {[name for name, _ in blocks]} make")
            self._check_tree([part, *(name for name, _ in blocks)])
        return total

    def _check_tree(self, parts: Iterable[Part]) -> None:
        if self.cluster.reproducible and self.cluster.exact:
            for part in parts:
                if subtrees(self.cluster.lanes, part) != [part]:
                    raise Wrong(f"{part} is no subtree of the lanes: its bits depend on who summed it")

    def _let_go(self, work: Gather | Combine | Advance) -> None:
        for block in self.node.holding(work.entries):
            block.summing.discard((self, work.shard))

    def _combine(self, work: Combine) -> None:
        shard = self.node.shards[work.shard]
        newest = shard.newest
        if newest is None or newest.tag != work.tag:
            raise Wrong(f"combines for tag {work.tag}, shard {work.shard} is at {shard.applied}")
        shard.sums[work.tag] = (OWN, self._summed(work))

    def _summed(self, work: Combine | Advance) -> Sum:
        found = [
            self._block(work.shard, one.clock, part) for one in work.entries if one.node == HERE for part in one.parts
        ]
        self._let_go(work)
        named: dict[tuple[int, int], list[Entry]] = {}
        for one in work.entries:
            if one.node != HERE:
                named.setdefault((one.node, one.number), []).append(one)
        for origin, entries in named.items():
            found += self._arrived(work.shard, origin, entries)
        total = _added(found)
        if work.whole:
            self._check_tree(total.cut)
        return total

    def _arrived(self, index: int, origin: tuple[int, int], entries: list[Entry]) -> list[Sum]:
        """The arrays of one Delta, of which ``entries`` must name all."""
        if origin not in self.node.shards[index].incoming:
            raise Wrong(f"Delta {origin} for shard {index} did not come, or was forgotten")
        _term, arrays = self.node.shards[index].incoming[origin]
        lanes = self.cluster.lanes
        items = frozenset(one.clock * lanes + lane for one in entries for lo, hi in one.parts for lane in range(lo, hi))
        held = _added([one for _part, one in arrays]).items
        if held != items:
            raise Wrong(f"Delta {origin} for shard {index} is of {sorted(held)}, taken for {sorted(items)}")
        return [one for _part, one in arrays]

    def _scale(self, work: Scale) -> None:
        shard = self.node.shards[work.shard]
        _term, total = shard.sums[work.tag]
        shard.rows[work.tag // self.cluster.lanes] = (OWN, self._row(total))

    def _row(self, total: Sum) -> Any:
        """F's partial scalars: floats that were summed in another order have other bits."""
        return () if self.cluster.reproducible else total.cut

    def _totals(self, work_clock: int, authority: int) -> Totals:
        """What decides ``work_clock``: what a shard was advanced with, or all partial sums."""
        shards = self.node.shards
        if authority >= 0:
            tag = (work_clock + 1) * self.cluster.lanes
            here = shards[authority].decided.get(tag) or shards[authority].settled.get(work_clock)
            if here is None:
                raise Wrong(f"the totals of shard {authority} at clock {work_clock} are not here")
            return here
        for index, shard in enumerate(shards):
            if work_clock not in shard.rows:
                raise Wrong(f"partial sums of shard {index} at clock {work_clock} are not here")
        return tuple(shard.rows[work_clock][1] for shard in shards)

    def _advance(self, work: Advance) -> tuple[bool, int, float, float, float]:
        shard = self.node.shards[work.shard]
        newest = shard.newest
        if self.node.standing:
            raise Wrong(f"node {self.node.name} stands, and applies {work}")
        if newest is None or not shard.full or newest.tag != work.tag:
            raise Wrong(f"node {self.node.name} applies {work} to shard {work.shard} at {shard.applied}")
        if newest.tag == self._last_tag:
            raise Wrong(f"{work} goes on after F has finished")
        total = self._step(work, shard)
        version = self._next(work, newest, total)
        self.cluster.check_step(work.shard, version)
        shard.commit(version)
        shard.sums = {tag: one for tag, one in shard.sums.items() if tag >= work.tag}
        lanes, rows = self.cluster.lanes, float(len(total.items))
        return version.tag == self._last_tag, version.tag // lanes, rows, rows, 0.0

    @property
    def _last_tag(self) -> int:
        return -1 if self.cluster.finish_at is None else self.cluster.finish_at * self.cluster.lanes

    def _step(self, work: Advance, shard: Copied) -> Sum:
        """The sum that ``work`` applies, with its totals where F has two steps."""
        if work.entries:
            total = self._summed(work)
            shard.sums[work.tag] = (OWN, total)
        elif work.tag in shard.sums:
            total = shard.sums[work.tag][1]
        else:
            raise Wrong(f"node {self.node.name}: the sum of shard {work.shard} at tag {work.tag} is not here")
        if not self.cluster.elementwise and total.totals is None:
            total = total._replace(totals=self._totals(work.tag // self.cluster.lanes, work.authority))
            shard.sums[work.tag] = (shard.sums[work.tag][0], total)
        return total

    def _next(self, work: Advance, old: Version, total: Sum) -> Version:
        dropped = old.dropped | self._left_out(work, old, total)
        value = (old.value + total.value) % PRIME
        digest = hash((old.digest, total.items, work.applied, total.totals))
        return Version(work.applied, value, digest, dropped, total.totals)

    def _left_out(self, work: Advance, old: Version, total: Sum) -> frozenset[int]:
        """What the step does without; Wrong unless lanes go on in order and miss only what the rule lets them."""
        lanes, rule = self.cluster.lanes, self.cluster.rule
        steps = frozenset(
            clock * lanes + lane
            for lane, (a, b) in enumerate(zip(old.applied, work.applied, strict=True))
            for clock in range(a, b)
        )
        if total.items - steps:
            late = sorted((one % lanes, one // lanes) for one in total.items - steps)
            raise Wrong(f"{work}: (lane, clock) {late} from {old.applied} to {work.applied}")
        if work.whole and (len(set(work.applied)) > 1 or len(steps) != lanes):
            raise Wrong(f"{work} is no whole clock after {old.applied}")
        missing = steps - total.items
        if len(missing) > (rule.spare if work.whole else 0):
            lost = sorted((one % lanes, one // lanes) for one in missing)
            raise Wrong(f"{rule}: {work} does without (lane, clock) {lost}")
        return missing

    # -- values without F ---------------------------------------------------------------------------------------------
    def _show(self, work: Show) -> None:
        shard, tag = self.node.shards[work.shard], sum(work.applied)
        if tag not in shard.fresh:
            raise Wrong(f"values of shard {work.shard} at {work.applied} did not come")
        version = shard.fresh[tag]
        if version.applied != work.applied:
            raise Wrong(f"shows shard {work.shard} at {work.applied}, what came is of {version.applied}")
        self.cluster.check_step(work.shard, version)
        if tag < max(shard.versions, default=-1) or tag <= shard.shown:
            raise Wrong(f"node {self.node.name} shows {work} after {sorted(shard.versions)}, {shard.shown}")
        if tag in shard.versions:
            shard.versions = {}  # the last two versions are of one tag then
        shard.full, shard.shown = False, tag
        shard.back_to(tag)
        shard.commit(version)
        shard.fresh = {one: held for one, held in shard.fresh.items() if one > tag}

    def _take_up(self, work: TakeUp) -> None:
        shard, tag = self.node.shards[work.shard], sum(work.applied)
        if tag not in shard.wholes:
            raise Wrong(f"shard {work.shard} at {work.applied} did not come")
        version, kept, history, decided = shard.wholes.pop(tag)[1]
        if version.applied != work.applied:
            raise Wrong(f"takes shard {work.shard} up at {work.applied}, what came is of {version.applied}")
        shard.back_to(tag)
        shard.commit(version)
        shard.history, shard.decided, shard.kept = dict(history), dict(decided), kept
        shard.full, shard.sums = True, {one: held for one, held in shard.sums.items() if one >= tag}

    def _forget(self, work: Forget) -> None:
        shard = self.node.shards[work.shard]
        if work.number >= 0:
            shard.outgoing.pop(work.number, None)
            return
        newest = shard.newest
        tag = -1 if newest is None else newest.tag
        shard.outgoing, shard.incoming, shard.fresh, shard.wholes = {}, {}, {}, {}
        shard.rows, shard.settled = {}, {}
        shard.sums = {one: held for one, held in shard.sums.items() if one < tag}

    # -- looking, keeping, saving -------------------------------------------------------------------------------------
    def _keep(self, work: KeepShard) -> None:
        shard = self.node.shards[work.shard]
        tag = work.clock * self.cluster.lanes
        if tag not in shard.versions:
            raise Wrong(f"shard {work.shard} is kept at clock {work.clock}, it has {sorted(shard.versions)}")
        shard.kept = (work.clock, shard.versions[tag])

    def _evaluate(self, work: EvaluateRows) -> tuple[tuple[tuple[float, ...], ...], ...]:
        if work.clock != BEST:
            versions: Iterable[Version] = self.node.at(work.clock)
        else:
            kept = [one.kept for one in self.node.shards]
            if len({one and one[0] for one in kept}) != 1 or kept[0] is None:
                raise Wrong(f"node {self.node.name}: kept parameters are of {[one and one[0] for one in kept]}")
            versions = [one[1] for one in kept if one is not None]
        value = _loss([version.value for version in versions])
        return tuple(tuple((1.0, 1.0, value, 0.0) for _ in range(*work.lanes)) for _ in work.sets)

    def snapshot(self, shard: int, clock: int) -> tuple[Version, tuple[int, Version] | None]:
        """The shard at ``clock``, and what is kept of it."""
        held = self.node.shards[shard]
        version = held.versions.get(clock * self.cluster.lanes)
        if version is None or not held.full:
            raise Wrong(f"node {self.node.name}: shard {shard} saved at {clock}, it has {sorted(held.versions)}")
        return version, held.kept

    # -- bulk ---------------------------------------------------------------------------------------------------------
    def pack(self, message: Message) -> Any:
        """What goes beside ``message``."""
        return self._packed[type(message)](message)

    def unpack(self, sender: Address, message: Message, payload: Any) -> None:
        """Keep what came beside ``message``."""
        self._unpacked[type(message)](sender, message, payload)

    def _pack_delta(self, message: Delta) -> Any:
        held = self.node.shards[message.shard].outgoing
        if message.number not in held:
            raise Wrong(f"{message} is sent, and was not gathered")
        return list(held[message.number])

    def _unpack_delta(self, sender: Address, message: Delta, payload: Any) -> None:
        held = self.node.shards[message.shard].incoming
        name = (sender.node, message.number)
        if held.get(name, (-1,))[0] <= message.term:
            held[name] = (message.term, payload)

    def _pack_copy(self, message: Copy) -> Sum:
        shard, tag = self.node.shards[message.shard], sum(message.before)
        if tag not in shard.sums:
            raise Wrong(f"node {self.node.name}: {message} is sent, its sum is not here")
        return shard.sums[tag][1]

    def _unpack_copy(self, _sender: Address, message: Copy, payload: Sum) -> None:
        held, tag = self.node.shards[message.shard].sums, sum(message.before)
        if held.get(tag, (-1,))[0] <= message.term:
            held[tag] = (message.term, payload)

    def _version(self, index: int, applied: Clocks) -> Version:
        version = self.node.shards[index].versions.get(sum(applied))
        if version is None or version.applied != applied:
            found = [one.applied for one in self.node.shards[index].versions.values()]
            raise Wrong(f"node {self.node.name}: shard {index} is sent as of {applied}, it has {found}")
        return version

    def _pack_fresh(self, message: Fresh) -> Version:
        return self._version(message.shard, message.applied)

    def _unpack_fresh(self, _sender: Address, message: Fresh, payload: Version) -> None:
        self.node.shards[message.shard].fresh[payload.tag] = payload

    def _pack_whole(self, message: Whole) -> Any:
        shard = self.node.shards[message.shard]
        version = self._version(message.shard, message.applied)
        if not shard.full:
            raise Wrong(f"{message} is sent by node {self.node.name}, which has values only")
        upto = {tag: one for tag, one in shard.history.items() if tag <= version.tag}
        decided = {tag: one for tag, one in shard.decided.items() if tag <= version.tag}
        return version, shard.kept, upto, decided

    def _unpack_whole(self, _sender: Address, message: Whole, payload: Any) -> None:
        held, tag = self.node.shards[message.shard].wholes, payload[0].tag
        if held.get(tag, (-1,))[0] <= message.term:
            held[tag] = (message.term, payload)

    def _pack_partial(self, message: Partial) -> Any:
        shard = self.node.shards[message.shard]
        if not message.settled:
            return shard.rows[message.clock][1]
        return shard.decided[(message.clock + 1) * self.cluster.lanes]

    def _unpack_partial(self, _sender: Address, message: Partial, payload: Any) -> None:
        shard = self.node.shards[message.shard]
        if message.settled:
            shard.settled[message.clock] = payload
        elif shard.rows.get(message.clock, (-1,))[0] <= message.term:
            shard.rows[message.clock] = (message.term, payload)


def _added(sums: list[Sum]) -> Sum:
    """Their sum; Wrong where two have a (lane, clock) in common."""
    if len(sums) == 1:
        return sums[0]
    items: frozenset[int] = frozenset().union(*(one.items for one in sums))
    if len(items) != sum(len(one.items) for one in sums):
        raise Wrong(f"a delta is summed twice: {[sorted(one.items) for one in sums]}")
    return Sum(items, sum(one.value for one in sums), tuple(sorted(part for one in sums for part in one.cut)))
