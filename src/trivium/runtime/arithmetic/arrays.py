"""A node's memory: which arrays there are, and the views of them that each shard is worked on with.

All processes of a node see the same ``NodeArrays`` (over shared memory, or private under simulation). A lane's delta
lies in the lane's own block. Versions of A, with the optimizer's state and scalars, lie in slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.spans import Spans
from trivium.data.batches import BatchPlan
from trivium.errors import RunError
from trivium.program.optimizers.base import Optimizer, State, Step
from trivium.program.params import Layout, Shard
from trivium.program.program import Program
from trivium.runtime.versions import SLOTS, Versions

if TYPE_CHECKING:
    from trivium.designs.ps.filters import Chain

__all__ = [
    "Bench",
    "Facts",
    "HeldShard",
    "NodeArrays",
    "Stats",
    "node_arrays",
    "read_only",
]

STATS = 8  # float64 words of a block's header: rows, weight, loss, spare
PINS = 3  # of a process in each shard: what it computes with, what it keeps, what it saves
STEP = 4  # rows, weight, loss, finished

Stats = tuple[float, float, float]  # rows, weight, loss


@dataclass(frozen=True)
class Facts:
    """All that planes of one run agree on; ``processes`` is counted within a node."""

    program: Program
    optimizer: Optimizer
    batches: BatchPlan
    lanes: int
    shards: int
    processes: int
    reproducible: bool
    threads: int
    l1: float
    l2: float
    seed: int
    filters: Chain | None = None  # of what goes from node to node
    bandwidth: float | None = None  # bytes a second that a node may send to others; None: no bound

    @property
    def layout(self) -> Layout:
        """A's layout."""
        return self.program.layout


@dataclass
class NodeArrays:
    """The node's arrays by name; see ``node_arrays`` for shapes."""

    a: NDArray[Any]
    slots: NDArray[Any]
    ring: NDArray[Any]
    head: NDArray[np.float64]
    totals: NDArray[np.float64]
    step: NDArray[np.float64]
    partials: NDArray[np.float64]
    blocks: NDArray[Any]
    stats: NDArray[np.float64]
    kept: NDArray[Any]
    kept_clock: NDArray[np.int64]
    versions: NDArray[np.int64]


def node_arrays(facts: Facts) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of each of the node's arrays.

    In ``slots`` and ``ring`` the rows of a shard lie together, so that they are as those of an uncut A: a kernel that
    is compiled for rows with gaps may add in another order.
    """
    layout, optimizer = facts.layout, facts.optimizer
    delta = facts.program.delta_layout
    width = max(1, optimizer.scalar_count)
    return {
        "a": (layout.dtype, (SLOTS, layout.size)),
        "slots": (layout.dtype, (SLOTS, optimizer.slots * layout.size)),
        "ring": (layout.dtype, (optimizer.ring * layout.size,)),
        "head": ("float64", (SLOTS, facts.shards, optimizer.head_size)),
        "totals": ("float64", (SLOTS, facts.shards, width)),
        "step": ("float64", (SLOTS, facts.shards, STEP)),
        "partials": ("float64", (layout.blocks, width)),
        "blocks": (delta.dtype, (facts.lanes, delta.size)),
        "stats": ("float64", (facts.lanes, STATS)),
        "kept": (layout.dtype, (layout.size,)),
        "kept_clock": ("int64", (facts.shards,)),
        "versions": ("int64", (facts.shards, Versions.words(PINS * facts.processes))),
    }


@dataclass
class HeldShard:
    """Views of one shard's part of the arrays, made once."""

    shard: Shard
    versions: Versions
    a: list[NDArray[Any]]
    states: list[State]
    penalised: NDArray[np.int64]
    blocks: list[NDArray[Any]]
    sums: list[NDArray[Any]]  # the same blocks, read-only, as F sees them
    a_read: list[NDArray[Any]]  # likewise
    states_read: list[State]
    steps: list[memoryview[float]]  # the record of each slot's step

    @classmethod
    def of(cls, facts: Facts, n: NodeArrays, shard: Shard) -> HeldShard:
        """The views of ``shard``."""
        cut, rows = slice(shard.start, shard.stop), facts.optimizer.slots
        ring = n.ring[facts.optimizer.ring * shard.start : facts.optimizer.ring * shard.stop].reshape(-1, shard.size)
        states = [
            State(
                n.head[slot, shard.index],
                n.slots[slot, rows * shard.start : rows * shard.stop].reshape(-1, shard.size),
                ring,
            )
            for slot in range(SLOTS)
        ]
        blocks = [block[cut] for block in n.blocks] if n.blocks.shape[1] == facts.layout.size else list(n.blocks)
        a = [n.a[slot, cut] for slot in range(SLOTS)]
        return cls(
            shard,
            Versions(n.versions[shard.index], PINS * facts.processes),
            a,
            states,
            read_only(facts.layout.penalised(shard.start, shard.stop)),
            blocks,
            [read_only(block) for block in blocks],
            [read_only(one) for one in a],
            [State(read_only(one.head), read_only(one.slots), one.ring) for one in states],
            [memoryview(n.step[slot, shard.index]).cast("B").cast("d") for slot in range(SLOTS)],
        )

    def pinned(self, reader: int, tag: int, what: str) -> int:
        """The slot of ``tag``, pinned for ``reader``; RunError where it is not there, with ``what`` it was for."""
        slot = self.versions.pin(reader, tag)
        if slot < 0:
            now = self.versions.current()[0]
            raise RunError(f"shard {self.shard.index} has no version of {what}: tag {tag} is gone, the newest is {now}")
        return slot


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass
class Bench:
    """What the rooms of one process's plane work on, and whom they tell how they get on."""

    facts: Facts
    arrays: NodeArrays
    me: int
    spans: Spans | None = None
    held: list[HeldShard] = field(default_factory=list)
    alive: Callable[[], None] | None = None  # called between the lanes of a work
    stats: list[memoryview[float]] = field(default_factory=list)  # headers of the lanes' blocks
    pool: Any = None  # threads, where there are several
    pieces: tuple[Shard, ...] = ()  # of the only shard, for a process with several threads

    def __post_init__(self) -> None:
        facts = self.facts
        self.held = [HeldShard.of(facts, self.arrays, shard) for shard in facts.layout.shards(facts.shards)]
        self.stats = [memoryview(row).cast("B").cast("d") for row in self.arrays.stats]

    def mark(self, kind: int) -> None:
        """From now on time goes to ``kind``."""
        spans = self.spans
        if spans is not None:
            spans.switch(kind, perf_counter())

    def tick(self) -> None:
        """A work of many parts has got on."""
        if self.alive is not None:
            self.alive()

    def step(self, held: HeldShard, clock: int, stats: Stats, share: float = 1.0, done: float = 0.0) -> Step:
        """What F is told of a step on ``stats``."""
        return Step(clock, stats[1], stats[2], self.facts.l1, self.facts.l2, held.penalised, share, done)

    def close(self) -> None:
        """End the threads; call nobody any more."""
        self.alive = None
        if self.pool is not None:
            self.pool.shutdown(wait=False)
            self.pool, self.pieces = None, ()
