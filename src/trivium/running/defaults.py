"""What a run does where nothing was said: one place for the command line, the face and jobs made by hand.

Defaults follow from the program and from what was said; what is explicit is never changed. ``full`` is whether the
optimizer reads all rows at each step (L-BFGS and its kin).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trivium.plan import Stopping

if TYPE_CHECKING:
    from trivium.program.program import Defaults

__all__ = ["BATCH", "EPOCHS", "ITERATIONS", "batch_size", "bounded", "optimizer_name", "watched"]

BATCH = 256  # of a first-order optimizer, where the program's own default is the full batch
EPOCHS = 50
ITERATIONS = 100  # of a full-batch optimizer, where the program's own default is epochs


def optimizer_name(defaults: Defaults, l1: float | None) -> str:
    """The program's own, but OWL-QN in place of L-BFGS where there is an l1, which is not smooth."""
    name = defaults.optimizer.name
    return "owlqn" if name == "lbfgs" and l1 else name


def batch_size(defaults: Defaults, *, full: bool) -> int | None:
    """Rows a step; None is the full batch."""
    if full:
        return None
    return defaults.batch_size if defaults.batch_size is not None else BATCH


def bounded(stopping: Stopping, defaults: Defaults, *, full: bool) -> Stopping:
    """With an end: epochs or max_iter replace the default bound; every other rule comes on top of it.

    >>> from trivium.program.models import model
    >>> bounded(Stopping(max_time=5.0), model("mlp:8").defaults, full=False).epochs
    50
    """
    if stopping.epochs is not None or stopping.max_iter is not None:
        return stopping
    if full:
        return replace(stopping, max_iter=defaults.iterations or ITERATIONS)
    return replace(stopping, epochs=defaults.epochs or EPOCHS)


def watched(stopping: Stopping, defaults: Defaults, *, full: bool, validates: bool) -> Stopping:
    """With the program's patience, where there are validation rows to be patient about.

    >>> from trivium.program.models import model
    >>> watched(Stopping(), model("mlp:8").defaults, full=False, validates=True).patience
    3
    """
    if stopping.patience is not None or full or not validates:
        return stopping
    return replace(stopping, patience=defaults.patience)
