"""A program that counts, to see on real processes that nothing is lost and nothing applied twice.

Each row has a counter of its own among A, and each time that the row is handed in adds 1 to it. After e epochs every
counter is e, exactly: whatever was lost or applied twice is known by row, so by lane, clock and shard. A may wait in
each Δ, so that a run lasts as long as a test wants without using the cores.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec, Table
from trivium.plan import Plan, Stopping
from trivium.program.null import Total
from trivium.program.params import BLOCK, Layout
from trivium.program.program import Defaults, Kernel, Program
from trivium.running.job import Job

__all__ = ["Tally", "counters", "ledger", "miscounted", "tally_job"]

ROWS = 3 * BLOCK  # as many counters make three shards


def ledger(rows: int = ROWS) -> Table:
    """Rows that know their number."""
    return Table(
        {"x": np.arange(rows, dtype=np.float32).reshape(-1, 1), "y": np.zeros(rows, np.float32)}, name="ledger"
    )


@final
@dataclass(frozen=True)
class Tally(Program):
    """``n`` float64 counters, one a row; each Δ waits ``seconds``."""

    n: int = ROWS
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """``tally``."""
        return "tally"

    @property
    def defaults(self) -> Defaults:
        """The sum itself, one epoch."""
        return Defaults(Total(), batch_size=256, epochs=1, iterations=None)

    def for_data(self, spec: DataSpec) -> Tally:  # noqa: ARG002  any rows of ``ledger``
        """Itself."""
        return self

    @property
    def layout(self) -> Layout:
        """One slice, ``a``, free of penalty."""
        return Layout.of({"a": (self.n,)}, "float64", free=("a",))

    def init(self, seed: int) -> NDArray[Any]:  # noqa: ARG002  nothing is random
        """Zeros."""
        return self.layout.empty()

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:  # noqa: ARG002  integers in any order
        """Counts."""
        return _Counting(self.n, self.seconds)


class _Counting(Kernel):
    random = False

    def __init__(self, n: int, seconds: float) -> None:
        self._n, self._seconds = n, seconds

    def release(self) -> None:
        """It holds none."""

    def read(self, batch: Batch) -> NDArray[np.int64]:
        """The numbers of the rows."""
        x: Any = batch.table.columns["x"]
        rows = x[batch.start : batch.stop] if batch.index is None else x[batch.index]
        numbers: NDArray[np.int64] = rows[:, 0].astype(np.int64)
        return numbers

    def delta(
        self,
        a: NDArray[Any],  # noqa: ARG002
        ready: NDArray[np.int64],
        out: NDArray[Any],
        key: int,  # noqa: ARG002
    ) -> tuple[float, float, float]:
        """1 for each row."""
        if self._seconds:
            time.sleep(self._seconds)
        out[:] = 0.0
        out[ready] = 1.0
        return float(len(ready)), float(len(ready)), 0.0

    def evaluate(self, a: NDArray[Any], ready: NDArray[np.int64]) -> NDArray[np.float64]:  # noqa: ARG002
        """Rows and weight; there is no loss."""
        return np.array([len(ready), len(ready), 0.0, 0.0])

    def predict(self, a: NDArray[Any], ready: NDArray[np.int64]) -> NDArray[Any]:
        """How often each row was counted."""
        return a[ready].copy()


def tally_job(
    out: Path,
    consistency: str,
    *,
    workers: int = 4,
    nodes: int = 2,
    epochs: int = 20,
    seconds: float = 1e-3,
    **plan: Any,
) -> Job:
    """``epochs`` epochs of 12 clocks, over ``workers`` on ``nodes``; each Δ of a lane or more waits ``seconds``."""
    return Job(
        Tally(seconds=seconds),
        ledger(),
        Plan("ps", workers=workers, nodes=nodes, consistency=consistency, **plan),
        out,
        stopping=Stopping(epochs=epochs),
        batch_size=ROWS // 12,
    )


def counters(run: Path) -> NDArray[np.float64]:
    """The counters that the run in the folder ``run`` ended with."""
    from safetensors.numpy import load_file

    found: NDArray[np.float64] = load_file(run / "model.safetensors")["a"]
    return found


def miscounted(found: NDArray[np.float64], epochs: int) -> str:
    """What is wrong with counters that should all be ``epochs``; nothing where nothing is.

    >>> miscounted(np.array([2.0, 2.0]), 2), miscounted(np.array([2.0, 3.0, 1.0]), 2)
    ('', '1 of 3 rows counted too often, 1 too seldom; row 1 by 1, row 2 by -1')
    """
    off = found - epochs
    wrong = np.flatnonzero(off)
    if not len(wrong):
        return ""
    shown = ", ".join(f"row {row} by {off[row]:g}" for row in wrong[:8])
    over, under = int((off > 0).sum()), int((off < 0).sum())
    return f"{over} of {len(found)} rows counted too often, {under} too seldom; {shown}"
