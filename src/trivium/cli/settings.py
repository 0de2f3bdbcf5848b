"""From what was typed to what will be done: defaults filled in, everything checked that needs no data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trivium.cli.asked import Asked, validation
from trivium.cli.rules import FULL_BATCH, PLAN_RULES, Chosen, check
from trivium.errors import UsageError, unknown
from trivium.plan import Plan, Stopping
from trivium.running import defaults

if TYPE_CHECKING:
    from trivium.program.optimizers.base import Optimizer
    from trivium.program.program import Defaults, Program

__all__ = ["Settings", "own_optimizer", "plan_of", "settle"]

TOL = 1e-6


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
    own = program.defaults
    valid = validation(asked.valid)
    if valid is None and own.valid > 0:
        valid = own.valid
    name = _optimizer_name(asked, own)
    full = name in FULL_BATCH or (asked.optimizer is None and getattr(own.optimizer, "needs_full_batch", False))
    check(asked, Chosen(name, bool(valid), full))
    tol = _tol(asked, own, name)
    return Settings(
        program=program,
        plan=plan,
        stopping=_stopping(asked, own, full, bool(valid), tol),
        optimizer=_optimizer(asked, own, name, tol),
        batch_size=_batch_size(asked, own, full),
        l1=asked.l1 or 0.0,
        l2=asked.l2,
        l2_per_row=own.l2_per_row,
        valid=valid,
        seed=asked.seed,
    )


def own_optimizer(asked: Asked, program: Program) -> Optimizer:
    """That of ``program``, which is bound to its data, with what was asked for."""
    own = program.defaults
    name = _optimizer_name(asked, own)
    return _optimizer(asked, own, name, _tol(asked, own, name))


def _tol(asked: Asked, own: Defaults, name: str) -> float | None:
    if name not in FULL_BATCH:
        return None
    return asked.tol if asked.tol is not None else own.tol or TOL


def plan_of(asked: Asked) -> Plan:
    """The plan, checked in the words of the command line as far as that needs nothing else; imports little."""
    check(asked, Chosen("", validates=True), rules=PLAN_RULES)
    from trivium.runtime.injection_words import parse_injection

    for one in asked.inject or ():
        parse_injection(one)
    given: dict[str, Any] = {} if asked.lanes is None else {"lanes": asked.lanes}
    if asked.memory_per_worker is not None:
        given["memory_per_worker"] = asked.memory_per_worker
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
        nodes=asked.nodes,
        copies=asked.copies,
        balance=asked.balance,
        filters=asked.filter or "",
        bandwidth=asked.bandwidth,
        inject=tuple(asked.inject or ()),
        **given,
    )


def _optimizer_name(asked: Asked, own: Defaults) -> str:
    """The one asked for; else the program's."""
    from trivium.program.optimizers import NAMES

    if asked.optimizer is None:
        return defaults.optimizer_name(own, asked.l1)
    if asked.optimizer not in NAMES:
        raise UsageError(unknown("optimizer", asked.optimizer, NAMES))
    return asked.optimizer


def _optimizer(asked: Asked, own: Defaults, name: str, tol: float | None) -> Optimizer:
    from trivium.program.optimizers import optimizer

    given: dict[str, float] = {}
    if asked.lr is not None:
        given["lr"] = asked.lr
    if tol is not None:
        given["tol"] = tol
    if asked.optimizer is None and name == own.optimizer.name:
        return replace(own.optimizer, **given) if given else own.optimizer  # type: ignore[type-var]
    return optimizer(name, **given)


def _batch_size(asked: Asked, own: Defaults, full: bool) -> int | str:
    if full:
        return "full"
    if asked.batch_size is not None:
        return asked.batch_size
    return defaults.batch_size(own, full=full) or "full"


def _stopping(asked: Asked, own: Defaults, full: bool, validates: bool, tol: float | None) -> Stopping:
    """Patience 0 is none, which no default replaces."""
    said = Stopping(
        epochs=asked.epochs,
        max_iter=asked.max_iter,
        max_time=asked.max_time,
        tol=tol,
        target_loss=asked.target_loss,
        patience=asked.patience or None,
    )
    said = defaults.bounded(said, own, full=full)
    return said if asked.patience == 0 else defaults.watched(said, own, full=full, validates=validates)
