"""The board: a row of words for each process of a node, written by it alone, read by the watcher.

What is on it costs its writer a store and no message: signs of life, what it is at and since when, how far it is, where
its time went. It lies in shared memory, so that it can be read after its process is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.record import KINDS

__all__ = ["BEAT", "CLOCK", "OPERATIONS", "STATE", "Board", "board_arrays", "operation_code"]

BEAT, STATE, OP, OP_SINCE, CLOCK, COMPILE_NS, WRITE_SINCE = range(7)
WORDS = 16
STARTING, READY, LEFT = 0, 1, 2
OPERATIONS = (
    *("", "Gradient", "Fold", "Apply", "Adopt", "EvaluateRows", "KeepShard", "SaveShard", "start", "Ahead"),
    *("Gather", "Combine", "Scale", "Advance", "Show", "TakeUp", "Forget", "Serve"),
)
IN_WORDS = {
    "Gradient": "computing a gradient",
    "Fold": "summing gradients",
    "Apply": "applying gradients",
    "Adopt": "taking a shard over",
    "EvaluateRows": "evaluating",
    "KeepShard": "keeping the best parameters",
    "start": "starting",
    "Ahead": "reading rows",
    "Gather": "summing gradients",
    "Combine": "summing gradients",
    "Scale": "summing gradients",
    "Advance": "applying gradients",
    "Show": "taking parameters in",
    "TakeUp": "taking a copy in",
    "Forget": "tidying up",
    "Serve": "handing out rows",
}
INLINE = 1 << 8  # on top of an operation: it is carried out by the thread that beats
LOSS, WEIGHT, ITERATIONS, APPLIED, PUSHED, PULLED = range(6)
FIGURES = 8


def operation_code(name: str) -> int:
    """Index of ``name`` in ``OPERATIONS``."""
    return OPERATIONS.index(name)


def board_arrays(processes: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of each of the board's arrays."""
    return {
        "words": ("int64", (processes, WORDS)),
        "seconds": ("float64", (processes, len(KINDS))),
        "waited": ("float64", (processes, processes)),
        "figures": ("float64", (processes, FIGURES)),
        "usual": ("float64", (processes, len(OPERATIONS))),
    }


@dataclass
class Board:
    """The arrays of ``board_arrays``."""

    words: NDArray[np.int64]
    seconds: NDArray[np.float64]
    waited: NDArray[np.float64]
    figures: NDArray[np.float64]
    usual: NDArray[np.float64]  # smoothed seconds of each kind of work that was finished; 0: none yet

    def doing(self, process: int) -> str:
        """What ``process`` is computing, or nothing."""
        return OPERATIONS[int(self.words[process, OP]) % INLINE]

    def at(self, process: int) -> str:
        """What ``process`` was at when it was seen last, in words."""
        if self.words[process, STATE] == STARTING:
            return "starting"
        if self.words[process, WRITE_SINCE]:
            return "writing to disk"
        return IN_WORDS.get(self.doing(process), "waiting")

    def inline(self, process: int) -> bool:
        """Whether what it computes keeps it from giving signs of life."""
        return bool(self.words[process, OP] >= INLINE)

    def since(self, process: int, now: float) -> float:
        """Seconds since ``process`` began what it is at, or got on with it: a work of many lanes shows each."""
        began: Any = self.words[process, BEAT if self.inline(process) else OP_SINCE]
        return now - float(began) * 1e-9

    def writing(self, process: int, now: float) -> float:
        """Seconds since ``process`` began to write a record to disk, 0 if it writes none."""
        began: Any = self.words[process, WRITE_SINCE]
        return now - float(began) * 1e-9 if began else 0.0
