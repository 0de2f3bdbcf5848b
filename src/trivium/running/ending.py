"""How a run ends, whatever host it was on: its parameters, their digest, its last words and its errors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.pacing import Agenda
from trivium.core.role import Stop
from trivium.errors import LostError, ProgramError, RunError, StoppedError, StorageError
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import Layout
from trivium.runtime.plane import ArrayPlane

__all__ = ["failure", "final_params", "in_words", "last_head", "params_digest", "saved_params"]

FAILURES: dict[str, type[RunError]] = {
    "storage": StorageError,
    "lost": LostError,
    "stopped": StoppedError,
    "run": RunError,
}


def failure(stop: Stop, hint: str = "") -> RunError:
    """What a run that ended with ``stop`` failed of, by its kind and not by its words."""
    if stop.kind == "program":
        return ProgramError(stop.error, stop.traceback)
    return FAILURES[stop.kind](f"{stop.error}{hint}")


def last_head(plane: ArrayPlane) -> NDArray[np.float64]:
    """F's scalars as of the newest version; a copy."""
    _clock, slot = plane.held[0].versions.current()
    head: NDArray[np.float64] = plane.held[0].states[slot].head.copy()
    return head


def in_words(stop: Stop, optimizer: Optimizer, head: NDArray[np.float64]) -> Stop:
    """``converged`` only where F met its own test; it may also have used its iterations up, or be stuck."""
    if stop.reason != "converged" or not hasattr(optimizer, "reason"):
        return stop
    told: str = optimizer.reason(head)
    if "used up" in told:
        return msgspec.structs.replace(stop, reason="max_iter")
    return msgspec.structs.replace(stop, reason=told) if "line search" in told or "not finite" in told else stop


def params_digest(layout: Layout, params: NDArray[Any]) -> str:
    """SHA-256 over the named slices of flat ``params``, in order; the gaps between them do not count."""
    digest = hashlib.sha256()
    for view in layout.views(params).values():
        digest.update(np.ascontiguousarray(view).tobytes())
    return digest.hexdigest()


def final_params(plane: ArrayPlane, agenda: Agenda) -> NDArray[Any]:
    """The kept parameters if there are any better ones than the last, else the last; a copy."""
    if _keeps(agenda):
        return plane.arrays.kept.copy()
    plane.read(agenda.clock)
    copied = plane.view().copy()
    plane.release()
    return copied


def saved_params(saved: Mapping[str, NDArray[Any]], agenda: Agenda) -> NDArray[Any]:
    """``final_params`` of a run whose last checkpoint is ``saved``."""
    return saved["kept" if _keeps(agenda) else "a"]


def _keeps(agenda: Agenda) -> bool:
    return agenda.pace.keep_best and agenda.kept >= 0 and agenda.kept == agenda.best_clock != agenda.clock
