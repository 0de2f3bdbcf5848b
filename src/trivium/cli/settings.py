"""From what was typed to what will be done: defaults filled in, everything checked that needs no data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trivium.cli.asked import Asked, validation
from trivium.cli.rules import FULL_BATCH, PLAN_RULES, Chosen, check
from trivium.errors import UsageError, unknown
from trivium.plan import Plan, Stopping

if TYPE_CHECKING:
    from trivium.program.optimizers.base import Optimizer
    from trivium.program.program import Defaults, Program

__all__ = ["Settings", "plan_of", "settle"]

BATCH = 256  # of a first-order optimizer, where the program's own default is the full batch
EPOCHS = 50
ITERATIONS = 100  # of a full-batch optimizer, where the program's own default is epochs
TOL = 1e-4


@dataclass(frozen=True)
class Settings:
    """A run, but for its data. ``batch_size`` is global; ``l2`` None means the program's own, ``l2_per_row``/n."""

    program: Program
    plan: Plan
    stopping: Stopping
    optimizer: Optimizer
    batch_size: int | str
    l1: float
    l2: float | None
    l2_per_row: float
    valid: str | float | None
    seed: int


def settle(asked: Asked, plan: Plan) -> Settings:
    """Fill in the defaults of the model; PlanError where options do not go together."""
    from trivium.program.models import model

    program = model(asked.model)
    defaults = program.defaults
    valid = validation(asked.valid)
    if valid is None and defaults.valid > 0:
        valid = defaults.valid
    name = _optimizer_name(asked, defaults)
    check(asked, Chosen(name, bool(valid)))
    full = name in FULL_BATCH
    tol = (asked.tol if asked.tol is not None else defaults.tol or TOL) if full else None
    return Settings(
        program=program,
        plan=plan,
        stopping=_stopping(asked, defaults, full, bool(valid), tol),
        optimizer=_optimizer(asked, defaults, name, tol),
        batch_size=_batch_size(asked, defaults, plan, full),
        l1=asked.l1 or 0.0,
        l2=asked.l2,
        l2_per_row=defaults.l2_per_row,
        valid=valid,
        seed=asked.seed,
    )


def plan_of(asked: Asked) -> Plan:
    """The plan, checked in the words of the command line as far as that needs nothing else; imports little."""
    check(asked, Chosen("", validates=True), rules=PLAN_RULES)
    given: dict[str, Any] = {} if asked.lanes is None else {"lanes": asked.lanes}
    return Plan(
        design=asked.design,
        workers=asked.workers,
        threads=asked.threads,
        shards=asked.shards,
        pin=asked.pin,
        consistency=asked.consistency,
        reproducible=asked.reproducible,
        combine=asked.combine,
        every=asked.every or 1,
        **given,
    )


def _optimizer_name(asked: Asked, defaults: Defaults) -> str:
    """The one asked for; else the program's, but OWL-QN in place of L-BFGS where there is an l1."""
    from trivium.program.optimizers import NAMES

    if asked.optimizer is not None:
        if asked.optimizer not in NAMES:
            raise UsageError(unknown("optimizer", asked.optimizer, NAMES))
        return asked.optimizer
    name = defaults.optimizer.name
    return "owlqn" if name == "lbfgs" and asked.l1 else name


def _optimizer(asked: Asked, defaults: Defaults, name: str, tol: float | None) -> Optimizer:
    from trivium.program.optimizers import optimizer

    given: dict[str, float] = {}
    if asked.lr is not None:
        given["lr"] = asked.lr
    if tol is not None:
        given["tol"] = tol
    own = defaults.optimizer
    if asked.optimizer is None and name == own.name:
        return replace(own, **given) if given else own  # type: ignore[type-var]
    return optimizer(name, **given)


def _batch_size(asked: Asked, defaults: Defaults, plan: Plan, full: bool) -> int | str:
    if full:
        return "full"
    if asked.batch_per_worker is not None:
        return asked.batch_per_worker * plan.worker_count
    if asked.batch_size is not None:
        return asked.batch_size
    return defaults.batch_size if defaults.batch_size is not None else BATCH


def _stopping(asked: Asked, defaults: Defaults, full: bool, validates: bool, tol: float | None) -> Stopping:
    """--epochs and --max-iter replace the default bound; every other rule comes on top of it."""
    epochs, iterations = asked.epochs, asked.max_iter
    if epochs is None and iterations is None:
        if full:
            iterations = defaults.iterations or ITERATIONS
        else:
            epochs = defaults.epochs or EPOCHS
    patience = asked.patience
    if patience is None and validates and not full:
        patience = defaults.patience
    return Stopping(
        epochs=epochs,
        max_iter=iterations,
        max_time=asked.max_time,
        tol=tol,
        target_loss=asked.target_loss,
        patience=patience or None,
    )
