"""Averaging of models: each lane trains alone for a while, then the models are averaged (``combine="model"``).

From A, a Δ makes H = ``every`` local steps on H consecutive parts of its rows and hands in

    Δ = W · A_local,  W = Σ weight of its rows;      F: A = ΣΔ / ΣW

(parallel SGD: Zinkevich, Weimer, Smola, Li, NIPS 2010; local steps between averages: McMahan et al., AISTATS 2017).
With H = 1, plain SGD and lanes of equal weight this is the step along the summed gradient.

Decided: the local optimizer starts afresh in each round. A is what travels and what is kept; momenta are not part of
it. So a local optimizer with slots forgets them every H steps, and a learning-rate schedule, which would count local
steps only, is refused. Workers that fuse lanes average one model a worker rather than one a lane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.errors import PlanError
from trivium.program.optimizers.base import Optimizer, State, Step
from trivium.program.optimizers.totals import total
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Output, Program

__all__ = ["Average", "AveragingKernel", "ModelAveraging"]


@dataclass(frozen=True)
class Average(Optimizer):
    """F of averaged models: A = Σ / weight; penalties were part of the local steps."""

    @property
    def name(self) -> str:
        """``average``."""
        return "average"

    def update(
        self,
        a: NDArray[Any],
        g: NDArray[Any],
        state: State,  # noqa: ARG002  there is none
        totals: NDArray[np.float64],  # noqa: ARG002  elementwise
        step: Step,
        out: NDArray[Any],
        new: State,  # noqa: ARG002  there is none
    ) -> None:
        """Write g / weight to ``out``; without any weight A stays."""
        if step.weight > 0:
            np.multiply(g, 1.0 / step.weight, out=out)
        else:
            np.copyto(out, a)


@dataclass(frozen=True)
class ModelAveraging(Program):
    """``program`` trained by ``every`` steps of ``local`` between averages; ``l1``, ``l2`` apply to the local steps."""

    consistencies = frozenset({"bsp"})

    program: Program
    local: Optimizer
    every: int = 1
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise PlanError(f"every={self.every}: at least one local step between averages")
        if self.local.ring or getattr(self.local, "needs_full_batch", False):
            raise PlanError(
                f"combine='model' with optimizer {self.local.name}: it needs the gradient of all rows at each step; "
                "use sgd, momentum or adam, or combine='sum'"
            )
        if not isinstance(getattr(self.local, "lr", 0.0), int | float):
            raise PlanError("combine='model' takes a constant learning rate: local steps do not know the run's clock")

    @property
    def name(self) -> str:
        """The name of what is trained."""
        return self.program.name

    @property
    def xla(self) -> bool:
        """As what is trained."""
        return self.program.xla

    @property
    def output(self) -> Output:
        """As what is trained."""
        return self.program.output

    @property
    def defaults(self) -> Defaults:
        """The program's own, with the average as F."""
        return replace(self.program.defaults, optimizer=Average())

    def for_data(self, spec: DataSpec) -> ModelAveraging:
        """With the shapes of ``spec``."""
        return replace(self, program=self.program.for_data(spec))

    @property
    def layout(self) -> Layout:
        """The program's own."""
        return self.program.layout

    def init(self, seed: int) -> NDArray[Any]:
        """The program's own."""
        return self.program.init(seed)

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """The program's kernel for a part of the rows, and memory for the local model."""
        inner = self.program.kernel(threads, -(-rows // self.every), reproducible)
        return AveragingKernel(self, inner)


class AveragingKernel(Kernel):
    """Local steps on the parts of a batch."""

    def __init__(self, plan: ModelAveraging, inner: Kernel) -> None:
        layout = plan.layout
        self._plan, self._inner = plan, inner
        self.random = inner.random
        self._models = [layout.empty() for _ in range(2)]
        self._gradient = layout.empty()
        self._states = [_state(plan.local, layout) for _ in range(2)]
        self._partial = np.zeros((layout.blocks, plan.local.scalar_count))
        self._penalised = layout.penalised()

    def refresh(self, a: NDArray[Any]) -> None:
        """Pass on."""
        self._inner.refresh(a)

    def release(self) -> None:
        """Pass on; the local models are its own."""
        self._inner.release()

    def read(self, batch: Batch) -> Batch:
        """Parts are read one by one as the steps come to them."""
        return batch

    def delta(self, a: NDArray[Any], ready: Batch, out: NDArray[Any], key: int) -> tuple[float, float, float]:
        """Write Σ weight × the local model after ``every`` steps; the loss is that before each step."""
        here = 0
        np.copyto(self._models[0], a)
        _clear(self._states[0])
        self._plan.local.init(self._models[0], self._states[0])
        rows, weights, losses = 0.0, 0.0, 0.0
        for clock, part in enumerate(_parts(ready, self._plan.every)):
            stats = self._inner.delta(self._models[here], self._inner.read(part), self._gradient, key + clock)
            rows, weights, losses = rows + stats[0], weights + stats[1], losses + stats[2]
            if stats[1] > 0:
                self._step(here, Step(clock, stats[1], stats[2], self._plan.l1, self._plan.l2, self._penalised))
                here = 1 - here
        np.multiply(self._models[here], weights, out=out)
        return rows, weights, losses

    def _step(self, here: int, step: Step) -> None:
        local, a, g = self._plan.local, self._models[here], self._gradient
        totals = np.zeros(0)
        if local.scalar_count:
            local.scalars(a, g, self._states[here], step, self._partial)
            totals = total(self._partial)
        local.update(a, g, self._states[here], totals, step, self._models[1 - here], self._states[1 - here])

    def evaluate(self, a: NDArray[Any], ready: Batch) -> NDArray[np.float64]:
        """As the program does."""
        return self._inner.evaluate(a, self._inner.read(ready))

    def predict(self, a: NDArray[Any], ready: Batch) -> NDArray[Any]:
        """As the program does."""
        return self._inner.predict(a, self._inner.read(ready))


def _state(local: Optimizer, layout: Layout) -> State:
    return State(
        np.zeros(local.head_size),
        np.zeros((local.slots, layout.size), layout.dtype),
        np.zeros((0, layout.size), layout.dtype),
    )


def _clear(state: State) -> None:
    state.head[:] = 0
    state.slots[:] = 0


def _parts(batch: Batch, count: int) -> list[Batch]:
    """``batch`` in ``count`` consecutive parts, empty ones left out."""
    n = len(batch)
    cuts = [(n * i // count, n * (i + 1) // count) for i in range(count)]
    if batch.index is None:
        return [Batch(batch.table, batch.start + lo, batch.start + hi) for lo, hi in cuts if hi > lo]
    return [Batch(batch.table, index=batch.index[lo:hi]) for lo, hi in cuts if hi > lo]
