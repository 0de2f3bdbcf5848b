"""Settings of a run: frozen, checked when made, passed along, never global."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from trivium.errors import PlanError, unknown

__all__ = ["COMBINES", "CONSISTENCIES", "DESIGNS", "Plan", "Stopping"]

DESIGNS = ("auto", "sequential", "allreduce", "ps")
CONSISTENCIES = ("bsp",)
COMBINES = ("sum", "model")
MEMORY_AT_LEAST = 128 << 20


@dataclass(frozen=True)
class Stopping:
    """When a run ends; whichever comes first.

    ``epochs`` passes over the data, ``max_iter`` iterations of the optimizer, ``max_time`` seconds of training, ``tol``
    the optimizer's own test, ``target_loss`` on the validation rows if there are any, else on a fixed sample of the
    training rows, ``patience`` evaluations of the validation loss without a new best (the best epoch is kept).
    """

    epochs: int | None = None
    max_iter: int | None = None
    max_time: float | None = None
    tol: float | None = None
    target_loss: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "max_iter", "max_time", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise PlanError(f"{name} must be above 0, got {value!r}")
        if self.tol is not None and not self.tol >= 0:
            raise PlanError(f"tol must be 0 or more, got {self.tol!r}")


@dataclass(frozen=True)
class Plan:
    """Where and how a program is trained.

    ``design`` "auto" is settled before the run starts: ``sequential`` with all cores while data and model fit one
    machine, else ``ps`` (see ``trivium.running.choosing``); the run says what was chosen, and why.

    ``workers`` is the total; ``lanes`` never changes in a run and never follows from ``workers``. ``threads`` is for
    ``sequential`` only (default: all allowed cores). ``patience`` seconds without a sign of life, and a process counts
    as lost. ``combine="model"`` averages models each ``every`` steps instead of summing gradients.

    ``memory_per_worker`` bytes bound what each worker holds, as its share of all pages that it maps (PSS): rows then
    pass through it in windows, and who needs more is ended.
    """

    design: str = "auto"
    workers: int | None = None
    lanes: int = 8
    threads: int | None = None
    shards: int | None = None
    pin: bool = False
    consistency: str = "bsp"
    reproducible: bool = False
    combine: str = "sum"
    every: int = 1
    memory_per_worker: int | None = None
    patience: float = 10.0
    start_timeout: float = 120.0
    orphan_timeout: float = 3.0
    checkpoint_every: float = 30.0
    cores: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))

    def __post_init__(self) -> None:
        for kind, given, allowed in (
            ("design", self.design, DESIGNS),
            ("consistency", self.consistency, CONSISTENCIES),
            ("combine", self.combine, COMBINES),
        ):
            if given not in allowed:
                raise PlanError(unknown(kind, given, allowed))
        for name in ("lanes", "every", "patience", "start_timeout", "orphan_timeout", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise PlanError(f"{name} must be above 0, got {getattr(self, name)!r}")
        least = MEMORY_AT_LEAST
        if self.memory_per_worker is not None and self.memory_per_worker < least:
            raise PlanError(
                f"memory_per_worker={self.memory_per_worker} bytes: an interpreter with its libraries needs "
                f"{least >> 20} MiB before it holds a row; give more"
            )
        for name in ("workers", "threads", "shards"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PlanError(f"{name} must be 1 or more, got {value}")
        self._check_design()
        if self.combine == "sum" and self.every != 1:
            raise PlanError(f"every={self.every} has a meaning only with combine='model'")
        if self.worker_count > self.lanes:
            raise PlanError(
                f"workers={self.worker_count} is more than lanes={self.lanes}; a lane is the least unit of work: raise "
                "lanes (it changes the order of the sums) or lower workers"
            )

    def _check_design(self) -> None:
        """What the design has no use for is an error, never ignored."""
        if self.design == "auto":
            if self.threads not in (None, 1) and self.workers not in (None, 1):
                raise PlanError(
                    f"threads={self.threads} and workers={self.workers}: one process has threads, several have "
                    "workers; give one of them"
                )
            return
        if self.design != "sequential":
            if self.threads not in (None, 1):
                raise PlanError(
                    f"threads={self.threads}: workers of {self.design!r} have one thread each; raise workers instead"
                )
            return
        if self.workers not in (None, 1):
            raise PlanError(
                f"workers={self.workers}: the sequential design is one process; use threads=, or design 'ps' or "
                "'allreduce'"
            )
        if self.shards is not None:
            raise PlanError("shards: the sequential design does not cut the parameters; use 'ps' or 'allreduce'")

    @property
    def worker_count(self) -> int:
        """Workers, with the default filled in: 1 for sequential (and while "auto" is not settled), else one a core."""
        if self.design == "sequential" or (self.design == "auto" and self.workers is None):
            return 1
        return self.workers if self.workers is not None else min(self.lanes, len(self.cores))

    @property
    def thread_count(self) -> int:
        """Threads of each worker's arithmetic."""
        if self.design not in ("auto", "sequential"):
            return 1
        return self.threads if self.threads is not None else len(self.cores)
