"""The plane of real arithmetic: carries work out on the node's arrays.

A lane's delta lies in the lane's own block; sums are made in place, up the tree, in the block of the first lane.
Versions of A, with the optimizer's state and scalars, lie in slots; what is not committed does not exist. Versions are
tagged: here a tag is a clock. The rooms that do the work are in ``arithmetic``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import NEWEST
from trivium.core.lanes import Part
from trivium.core.messages import BEST, Adopt, Ahead, Apply, EvaluateRows, Fold, Gradient, KeepShard
from trivium.core.role import Message, Work
from trivium.core.spans import Spans
from trivium.data.table import Table
from trivium.errors import RunError
from trivium.runtime.arithmetic import snapshots
from trivium.runtime.arithmetic.applying import Applying, warm_optimizer
from trivium.runtime.arithmetic.arrays import Bench, Facts, HeldShard, NodeArrays, node_arrays
from trivium.runtime.arithmetic.deltas import Deltas
from trivium.runtime.arithmetic.looking import Looking
from trivium.runtime.shelf import KernelShelf

__all__ = ["ArrayPlane", "Facts", "NodeArrays", "node_arrays"]


def _unheard(message: Message) -> None:
    raise RunError(f"there is nobody to ask {message}")


UNREAD = -2  # nothing was read yet; -1 is ``NEWEST``


class ArrayPlane:
    """One process's hands. ``me`` is its index among the readers of the versions; ``tables`` by set name.

    ``moved``: bytes of deltas handed over, and of parameters read for them; it may lie in shared memory.
    """

    def __init__(
        self,
        facts: Facts,
        arrays: NodeArrays,
        me: int,
        tables: dict[str, Table],
        sample: NDArray[np.int64] | None = None,
        spans: Spans | None = None,
        shelf: KernelShelf | None = None,
    ) -> None:
        self.facts, self.arrays, self.me, self.tables, self.sample = facts, arrays, me, tables, sample
        self.moved: Any = [0.0, 0.0]
        self.name = ""  # of the member whose hands these are, where it has one
        self.folder: Path | None = None  # the run's, where it has one
        self.ask: Callable[[Message], None] = _unheard  # hands a message to this node's server, from any thread
        self.bench = Bench(facts, arrays, me, spans)
        self.held: list[HeldShard] = self.bench.held
        self.shards = tuple(held.shard for held in self.held)
        self._deltas = Deltas(self.bench, tables, shelf or KernelShelf())
        self._looking = Looking(self.bench, self._deltas, tables, sample)
        self._applying = Applying(self.bench)
        self._private = facts.layout.empty() if len(self.shards) > 1 else arrays.a[0]
        self._view = arrays.a[0]
        self._clock = UNREAD
        self._sizes = float(facts.program.delta_layout.nbytes), float(facts.layout.nbytes)
        self._do = self._works()

    def _works(self) -> dict[type[Work], Callable[[Any], Any]]:
        return {
            Gradient: self._gradient,
            Apply: self._applying.apply,
            Fold: self._applying.fold,
            Ahead: self._deltas.read_ahead,
            Adopt: self._adopt,
            EvaluateRows: self._evaluate,
            KeepShard: self._keep,
        }

    def _tag(self, clock: int) -> int:
        """The tag of the version of ``clock``."""
        return clock

    @property
    def spans(self) -> Spans | None:
        """Where time is noted, if anywhere."""
        return self.bench.spans

    @spans.setter
    def spans(self, spans: Spans | None) -> None:
        self.bench.spans = spans

    @property
    def alive(self) -> Callable[[], None] | None:
        """Called between the lanes of a work."""
        return self.bench.alive

    @alive.setter
    def alive(self, alive: Callable[[], None] | None) -> None:
        self.bench.alive = alive

    # -- start --------------------------------------------------------------------------------------------------------
    def first_version(self, a: NDArray[Any], clock: int = 0) -> None:
        """Commit ``a`` as the version of ``clock``, with a fresh optimizer state."""
        snapshots.commit_first(self.bench, a, self._tag(clock))

    def warm(self, part: Part) -> None:
        """Compile for the rows of ``part`` and run once, so that the first step is like all others."""
        try:
            self._deltas.warm(part, [*self.arrays.a, self.arrays.kept, self._private])
        except Exception as error:
            error.add_note(f"lanes {part.lo} to {part.hi - 1}, before clock 0")
            raise

    def warm_optimizer(self) -> None:
        """Load F's compiled functions."""
        warm_optimizer(self.facts)

    # -- the contract -------------------------------------------------------------------------------------------------
    def carry_out(self, work: Work) -> Any:
        """Do ``work``."""
        return self._do[type(work)](work)

    def read(self, clock: int) -> None:
        """Pin every shard at ``clock``; A is then one of the slots, or a private copy where shards lie apart."""
        self._pin(clock, self._tag(clock))

    def _pin(self, clock: int, tag: int) -> None:
        if len(self.held) == 1:
            slots = [self.held[0].versions.pin(self.me, tag)]
        else:
            slots = [held.versions.pin(self.me, tag) for held in self.held]
        if min(slots) < 0:
            raise RunError(f"process {self.me} found no version of clock {clock} to read")
        if len(slots) == 1 or min(slots) == max(slots):
            self._view = self.arrays.a[slots[0]]
        else:
            self._view = self._private
            for held, slot in zip(self.held, slots, strict=True):
                self._private[held.shard.start : held.shard.stop] = held.a[slot]
        self._clock = clock

    def view(self) -> NDArray[Any]:
        """A at the clock that was read last."""
        view: NDArray[Any] = self._view
        return view

    def release(self) -> None:
        """Hold nothing any more."""
        for held in self.held:
            held.versions.unpin(self.me)

    def drop(self, process: int) -> None:
        """Watcher: let go of all that a reaped ``process`` had pinned."""
        for held in self.held:
            for reader in range(process, held.versions.readers, self.facts.processes):
                held.versions.drop(reader)

    def close(self) -> None:
        """Hold nothing any more, end the threads; not to be used again."""
        self.release()
        self._do.clear()  # a cycle: memory is to be given back now, not at some collection
        self.bench.close()

    # -- works of its own ---------------------------------------------------------------------------------------------
    def _gradient(self, work: Gradient) -> None:
        if self._clock not in (work.clock, NEWEST):
            raise RunError(f"clock {work.clock} computed with parameters of {self._clock}")
        self._deltas.view = self._view
        self._deltas.compute(work.parts, work.clock)
        self.moved[0] += self._sizes[0] * len(work.parts)
        self.moved[1] += self._sizes[1]

    def _adopt(self, work: Adopt) -> tuple[int, bool]:
        clock, slot = self.held[work.shard].versions.current()
        return clock, bool(self.arrays.step[slot, work.shard, 3])

    def _evaluate(self, work: EvaluateRows) -> tuple[tuple[tuple[float, ...], ...], ...]:
        if work.clock == BEST:
            return self._looking.evaluate(work, self.arrays.kept)
        self.read(work.clock)
        return self._looking.evaluate(work, self._view)

    def _keep(self, work: KeepShard) -> None:
        snapshots.keep(self.bench, work.shard, work.clock, self._tag(work.clock))

    # -- what a store writes ------------------------------------------------------------------------------------------
    def snapshot(self, shard: int, clock: int) -> dict[str, NDArray[Any]]:
        """A copy of ``shard`` as of ``clock``: parameters, optimizer state, scalars, and the kept parameters."""
        return snapshots.saved(self.bench, shard, self._tag(clock), f"clock {clock} to save")

    def restore(self, saved: dict[str, NDArray[Any]], clock: int, kept_clock: int) -> None:
        """Commit what ``snapshot`` took, joined over shards, as the version of ``clock``."""
        snapshots.restore(self.bench, saved, self._tag(clock), kept_clock)
