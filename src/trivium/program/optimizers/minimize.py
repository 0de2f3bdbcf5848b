"""Drive an optimizer in one process, as servers of n shards would: for tests, warming caches and small problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.base import Flat, Optimizer, State, Step
from trivium.program.optimizers.compiled import frozen
from trivium.program.optimizers.totals import total
from trivium.program.params import Layout, Shard

__all__ = ["Function", "Result", "minimize", "new_state"]

Function = Callable[[Flat], tuple[float, float, Flat]]
"""``a -> (weight, loss, g)``: Σ of weights, Σ of weighted losses, Σ of weighted gradients (``Layout`` order)."""


@dataclass(frozen=True)
class Result:
    """Where a minimisation ended. ``a`` is flat; ``states`` one a shard; ``clocks`` counts evaluations."""

    a: Flat
    states: tuple[State, ...]
    clocks: int
    iterations: int
    finished: bool


def new_state(optimizer: Optimizer, size: int, dtype: Any) -> State:
    """A zeroed state for a shard of ``size`` elements."""
    return State(
        np.zeros(optimizer.head_size),
        np.zeros((optimizer.slots, size), dtype),
        np.zeros((optimizer.ring, size), dtype),
    )


class _Server:
    """One shard: a double buffer of parameters and state, and the ring they share."""

    def __init__(self, optimizer: Optimizer, shard: Shard, a0: Flat, penalised: NDArray[np.int64]) -> None:
        self.optimizer, self.cut, self.penalised = optimizer, slice(shard.start, shard.stop), penalised
        self.blocks = len(shard.blocks)
        first, second = (new_state(optimizer, shard.size, a0.dtype) for _ in range(2))
        second.ring = first.ring
        self.a, self.spare = a0[self.cut].copy(), np.empty_like(a0[self.cut])
        optimizer.init(self.a, first)
        self.state, self.free = first, second

    def committed(self) -> State:
        """The state as an optimizer may see it: to be read only, the ring excepted."""
        return State(frozen(self.state.head), frozen(self.state.slots), self.state.ring)

    def scalars(self, g: Flat, step: Step) -> NDArray[np.float64]:
        rows = np.empty((self.blocks, self.optimizer.scalar_count))
        if self.optimizer.scalar_count:
            self.optimizer.scalars(frozen(self.a), frozen(g[self.cut]), self.committed(), step, rows)
        return rows

    def update(self, g: Flat, totals: NDArray[np.float64], step: Step, poison: float | None) -> None:
        if poison is not None:
            for array in (self.spare, self.free.head, self.free.slots):
                array.fill(poison)
        grad, state = frozen(g[self.cut]), self.committed()
        self.optimizer.update(frozen(self.a), grad, state, totals, step, self.spare, self.free)
        self.a, self.spare = self.spare, self.a
        self.state, self.free = self.free, self.state


def minimize(
    function: Function,
    a0: Flat,
    optimizer: Optimizer,
    l1: float = 0.0,
    l2: float = 0.0,
    layout: Layout | None = None,
    shards: int = 1,
    max_clocks: int = 1000,
    poison: float | None = None,
) -> Result:
    """Minimise ``loss/weight + l1·‖w‖₁ + (l2/2)·‖w‖₂²`` from ``a0`` in at most ``max_clocks`` evaluations.

    ``layout`` says what is penalised (default: everything). The result has the same bits for any ``shards``. ``poison``
    fills each free buffer before it is written, as garbage from an older version would.
    """
    layout = Layout.of({"a": a0.shape}, str(a0.dtype)) if layout is None else layout
    start = layout.empty()
    start[: a0.size] = a0
    servers = [_Server(optimizer, s, start, layout.penalised(s.start, s.stop)) for s in layout.shards(shards)]
    clock, a = 0, start
    while clock < max_clocks and not optimizer.finished(servers[0].state.head):
        weight, loss, gradient = function(a[: a0.size].copy())
        g = layout.empty()
        g[: a0.size] = gradient
        steps = [Step(clock, weight, loss, l1, l2, s.penalised) for s in servers]
        totals = total(np.concatenate([s.scalars(g, step) for s, step in zip(servers, steps, strict=True)]))
        for server, step in zip(servers, steps, strict=True):
            server.update(g, totals, step, poison)
        a = np.concatenate([s.a for s in servers])
        clock += 1
    head = servers[0].state.head
    states = tuple(s.state for s in servers)
    return Result(a[: a0.size], states, clock, optimizer.iterations(head, clock), optimizer.finished(head))
