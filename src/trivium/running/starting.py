"""Where a run starts from: the program's own first parameters, given ones by name, or what an earlier run ended with.

What an earlier run ended with (``Finished.saved``) holds the optimizer's state too, and the number of steps that it
took: its step sizes and corrections go on from there, while the clocks of the new run count from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.errors import PlanError, UsageError, unknown
from trivium.program.optimizers.base import Flat, Optimizer, State, Step
from trivium.program.params import Layout
from trivium.program.program import Program
from trivium.program.tables import RowBlock
from trivium.runtime.plane import ArrayPlane, Facts
from trivium.runtime.store import Checkpoint

__all__ = ["Begin", "Later", "Start", "check_start", "first_version", "later", "saved_of"]

Start = Mapping[str, NDArray[Any]]
STATE = ("slots", "ring", "head", "totals", "step")
KEYS = frozenset({"a", "clock", *STATE})


@final
class Later(Optimizer):
    """``inner``, ``since`` steps after its own beginning."""

    def __init__(self, inner: Optimizer, since: int) -> None:
        self.inner, self.since = inner, since
        self.slots, self.head_size, self.ring = inner.slots, inner.head_size, inner.ring
        self.scalar_count = inner.scalar_count
        self.tolerates = inner.tolerates

    @property
    def name(self) -> str:
        """That of the optimizer itself."""
        return self.inner.name

    def _shifted(self, step: Step) -> Step:
        return msgspec.structs.replace(step, clock=step.clock + self.since)

    def init(self, a: Flat, state: State) -> None:
        """As ``inner``."""
        self.inner.init(a, state)

    def scalars(self, a: Flat, g: Flat, state: State, step: Step, out: NDArray[np.float64]) -> None:
        """As ``inner`` at its own count of steps."""
        self.inner.scalars(a, g, state, self._shifted(step), out)

    def update(
        self, a: Flat, g: Flat, state: State, totals: NDArray[np.float64], step: Step, out: Flat, new: State
    ) -> None:
        """As ``inner`` at its own count of steps."""
        self.inner.update(a, g, state, totals, self._shifted(step), out, new)

    def finished(self, head: NDArray[np.float64]) -> bool:
        """As ``inner``."""
        return self.inner.finished(head)

    def iterations(self, head: NDArray[np.float64], clock: int) -> int:
        """Those of this run."""
        return self.inner.iterations(head, clock)


def later(optimizer: Optimizer, start: Start | None) -> Optimizer:
    """``optimizer`` as it goes on from ``start``; PlanError where it cannot."""
    from trivium.program.optimizers.quasi_newton import QuasiNewton

    if start is None or not _is_saved(start):
        return optimizer
    if isinstance(optimizer, QuasiNewton):
        raise PlanError(f"{optimizer.name} starts anew with each run: give start the parameters by name")
    since = int(np.asarray(start["clock"]).item())
    return Later(optimizer, since) if since else optimizer


def _is_saved(start: Start) -> bool:
    return start.keys() >= KEYS


def check_start(start: Start | None, program: Program, optimizer: Optimizer) -> None:
    """UsageError where ``start`` does not fit the layout of ``program``."""
    if start is None:
        return
    layout = program.layout
    if _is_saved(start):
        slots = np.asarray(start["slots"])
        if np.asarray(start["a"]).shape != (layout.size,) or slots.shape != (optimizer.slots, layout.size):
            raise UsageError(
                f"start was saved with {np.asarray(start['a']).size} parameters and {len(slots)} vectors of state; "
                f"{program.name} with {optimizer.name} has {layout.size} and {optimizer.slots}: give the parameters by "
                "name, or start anew"
            )
        return
    shapes = {one.name: one.shape for one in layout.slices}
    for name in start:
        if name not in shapes:
            raise UsageError(unknown("parameter", str(name), shapes))
    for name, shape in shapes.items():
        if name not in start:
            raise UsageError(f"start lacks the parameter {name!r} of {program.name}; it takes {', '.join(shapes)}")
        found = np.asarray(start[name]).shape
        if found != shape:
            raise UsageError(f"start[{name!r}] has shape {found}, expected {shape} for {program.name} on these data")


def first_version(plane: ArrayPlane, start: Start | None) -> None:
    """Commit clock 0 of a run that starts from ``start``; see ``check_start``."""
    facts = plane.facts
    if start is None:
        plane.first_version(facts.program.init(facts.seed))
    elif _is_saved(start):
        plane.restore(_for_restore(start), 0, -1)
    else:
        plane.first_version(facts.layout.pack(start))


@dataclass(frozen=True)
class Begin:
    """What a node's plane begins with: ``chosen`` of an earlier life, or ``start``; sent to each node.

    ``told``: the newest checkpoint that a driver's manifest names: its kept parameters count, those of ``kept``.
    """

    folder: Path
    start: Start | None = None
    chosen: Checkpoint | None = None
    told: Checkpoint | None = None
    kept: int = -1

    def __call__(self, plane: ArrayPlane) -> None:
        """Commit it. UsageError where the checkpoint is of another model."""
        if self.chosen is None:
            first_version(plane, self.start)
            return
        saved, layout = self.chosen.load(), plane.facts.layout
        if saved["a"].shape[-1] != layout.size:
            raise UsageError(
                f"{self.folder} was saved with {saved['a'].shape[-1]} parameters, this job has {layout.size}: "
                "resume with the model and data that it was started with"
            )
        if self.told is not None and self.told is not self.chosen:
            saved["kept"] = self.told.load()["kept"]
        plane.restore(saved, self.chosen.clock, self.kept)
        if plane.facts.program.row_shards:
            self._restore_rows(plane, self.chosen)

    @staticmethod
    def _restore_rows(plane: Any, chosen: Checkpoint) -> None:
        program, first = plane.facts.program, chosen.dense
        before = (chosen.shards - first) // (program.row_shards // program.cuts)  # shards that a table was cut into
        for shard in range(program.row_shards):
            table, cut = divmod(shard, program.cuts)
            theirs = range(first + table * before, first + (table + 1) * before)
            load = partial(_rows_of_cut, chosen, theirs, program.cuts, cut)
            plane.restore_rows(plane.first + shard, load, chosen.clock)


def _rows_of_cut(chosen: Checkpoint, shards: range, cuts: int, cut: int) -> RowBlock:
    """Of a table that was saved in ``shards``, the rows of ``cut`` where it is cut into ``cuts`` from now on."""
    if len(shards) == cuts:
        return RowBlock(**chosen.rows(shards[cut]))
    return RowBlock.merge([RowBlock(**chosen.rows(shard)).split(cuts)[cut] for shard in shards])


def _for_restore(start: Start) -> dict[str, NDArray[Any]]:
    held = {name: np.asarray(start[name]) for name in (*STATE, "a")}
    step = np.zeros_like(held["step"])  # nothing of the new run is finished
    return {**held, "kept": held["a"], "head": held["head"][None], "totals": held["totals"][None], "step": step[None]}


def saved_of(plane: ArrayPlane, clock: int) -> dict[str, NDArray[Any]]:
    """What a run that ended at ``clock`` leaves for another one to go on from: the one shard with F's state.

    Of an optimizer that starts anew with each run: the parameters by name.
    """
    from trivium.program.optimizers.quasi_newton import QuasiNewton

    facts: Facts = plane.facts
    held = plane.snapshot(0, clock)
    if isinstance(facts.optimizer, QuasiNewton):
        layout: Layout = facts.layout
        return dict(layout.views(held["a"]))
    since = facts.optimizer.since if isinstance(facts.optimizer, Later) else 0
    return {"a": held["a"], "clock": np.array(since + clock), **{name: held[name] for name in STATE}}
