"""Predicts a run's memory before it starts: rows, parameters in versions, deltas, processes.

An estimate for ``--dry-run``: it says whether a run fits, not how many bytes it takes. The constants are
round figures for Linux x86-64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trivium.data.table import Table
    from trivium.plan import Plan
    from trivium.program.optimizers.base import Optimizer
    from trivium.program.params import Layout

__all__ = ["Forecast", "forecast"]

VERSIONS = 4  # slots of a versioned buffer
BASE = 60 * 2**20  # bytes of a Python process with NumPy and numba's compiled kernels
XLA = 160 * 2**20  # more with JAX


@dataclass(frozen=True)
class Forecast:
    """Bytes: of the rows, of the parameters with optimizer state, of the deltas under way, of the processes."""

    data: int
    parameters: int
    deltas: int
    processes: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.data + self.parameters + self.deltas + self.processes


def forecast(tables: list[Table], layout: Layout, optimizer: Optimizer, plan: Plan, xla: bool) -> Forecast:
    """Predict the memory of a run of ``plan`` over ``tables``."""
    parameters = layout.nbytes * (VERSIONS * (1 + optimizer.slots) + optimizer.ring + 1)  # and the best ones kept
    deltas = layout.nbytes * plan.lanes
    processes = 2 if plan.design == "sequential" else 2 + plan.worker_count
    return Forecast(
        data=sum(table.nbytes for table in tables),
        parameters=parameters,
        deltas=deltas,
        processes=processes * (BASE + (XLA if xla else 0)),
    )
