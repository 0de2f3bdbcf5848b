"""What is to be trained: a ``Job``; with every default filled in and everything checked, it is ``Prepared``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trivium.core.pacing import Pace
from trivium.data.batches import BatchPlan, strides
from trivium.data.table import DataSpec, Table
from trivium.errors import PlanError, UsageError
from trivium.plan import Plan, Stopping
from trivium.program.optimizers.base import Optimizer
from trivium.program.program import Defaults, Program
from trivium.running import defaults
from trivium.running.choosing import choose, memory_bytes, state_bytes
from trivium.running.consistency import check_consistency, check_filters
from trivium.running.staffing import Staffing, staff
from trivium.running.starting import Start, check_start, later
from trivium.runtime.injection import check as check_injections
from trivium.runtime.injection import parse_injection
from trivium.runtime.plane import Facts
from trivium.runtime.versions import SLOTS

__all__ = ["FULL", "IN_MEMORY", "Job", "Prepared", "Rows", "held_share", "prepare", "settled"]

SAMPLE_ROWS = 10_000
CHECKS = 10  # looks at the target loss, at least
FULL = "full"
IN_MEMORY = "memory"
LANES = 8  # of a plan that says nothing


class Rows(Protocol):
    """What gives a table when it is asked for one: a data set that is read when somebody needs it."""

    def table(self) -> Table:
        """The rows, read."""


@dataclass(frozen=True)
class Job:
    """All that defines a run.

    ``batch_size`` is global; None is the program's default, "full" the full batch. So is ``l2`` None.
    ``data``, ``valid`` and ``test`` are tables, or data sets that give one (``valid`` also a share of ``data``).
    ``sources`` names where they came from, so that the run can be resumed from its directory alone; ``reading`` is how
    they were read (encoding and transforms), which is saved with the run. ``out`` is the run directory: empty, or not
    there yet; None where a run leaves none (``running.inline``). ``start`` is where A starts: every parameter of the
    layout by name, or what ``Finished.saved`` gave, with the optimizer's state. ``chosen`` says why its plan has the
    design that it has, where that was not the person's choice. ``shuffle`` False: rows are read in their order.
    """

    program: Program
    data: Table | Rows
    plan: Plan
    out: Path | None = None
    valid: Table | Rows | float | None = None
    test: Table | Rows | None = None
    stopping: Stopping = field(default_factory=Stopping)
    optimizer: Optimizer | None = None
    batch_size: int | str | None = None
    l1: float = 0.0
    l2: float | None = None
    seed: int = 0
    sources: dict[str, Any] | None = None
    start: Start | None = None
    reading: Any = None
    chosen: str = ""
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.out is not None:
            object.__setattr__(self, "out", Path(self.out))  # a string will do
        for name, kind, how in (
            ("program", Program, "tv.models.logistic(), or another of tv.models, or tv.Program.from_loss(…)"),
            ("data", Table, "tv.read(path), or tv.from_arrays(x, y)"),
            ("plan", Plan, 'tv.Plan("ps", workers=2)'),
            ("stopping", Stopping, "tv.Stopping(epochs=5)"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind) and not (kind is Table and hasattr(value, "table")):
                raise UsageError(f"{name} is {_shown(value)}, expected {kind.__name__}: {how}")

    @property
    def folder(self) -> Path:
        """The run directory; UsageError where none was given."""
        if self.out is None:
            raise UsageError("this run needs a directory: give out, or use trivium.running.inline.run_inline")
        return self.out


def settled(job: Job) -> Job:
    """``job`` with tables in the place of data sets, and with a design where its plan left that open."""
    given: dict[str, Any] = {"data": job.data, "valid": job.valid, "test": job.test}
    share = held_share(job)
    data = given["data"]
    if share and hasattr(data, "split"):
        given["data"], given["valid"] = data.split(share, job.seed)  # steps are fitted on the rows that are left
    told = _sources(job, share)
    tables = {name: rows.table() for name, rows in given.items() if hasattr(rows, "table")}
    reading = job.reading
    if reading is None and "data" in tables:
        reading = getattr(given["data"], "reading", None)
    if tables or reading is not job.reading:
        job = replace(job, **tables, reading=reading)
    if told != job.sources:
        job = replace(job, sources=told)
    job = _with_few_rows(job)
    return _designed(job) if job.plan.design == "auto" else job


def _with_few_rows(job: Job) -> Job:
    """With a lane a row where there are fewer rows than lanes, and nobody asked for so many."""
    rows, plan = job.data, job.plan
    assert isinstance(rows, Table)
    left = len(rows) - round(len(rows) * (held_share(job) or 0.0))
    if plan.lanes != LANES or not 0 < left < plan.lanes:
        return job
    return replace(job, plan=replace(plan, lanes=left, workers=plan.workers and min(plan.workers, left)))


def _sources(job: Job, share: float | None) -> dict[str, Any]:
    """How data, validation and test rows can be read again; ``IN_MEMORY`` where they cannot."""
    found = dict(job.sources or {})
    for name in ("data", "valid", "test"):
        rows = getattr(job, name)
        if name in found or (rows is None and name == "test"):
            continue
        if name == "valid" and not isinstance(rows, Table) and not hasattr(rows, "table"):
            found[name] = share
        else:
            found[name] = (rows.recipe() if hasattr(rows, "recipe") else None) or IN_MEMORY
    return found


def held_share(job: Job) -> float | None:
    """The share of the rows that is held out, where validation rows are not given."""
    if job.valid is None:
        return (job.program.defaults.valid or None) if job.optimizer is None else None
    return float(job.valid) if isinstance(job.valid, int | float) else None


def _designed(job: Job) -> Job:
    """With the design that suits the sizes."""
    assert isinstance(job.data, Table)
    program = job.program.for_data(job.data.spec)
    optimizer = _optimizer(job, program.defaults, job.data.spec)
    model = state_bytes(program.layout.nbytes, slots=optimizer.slots, ring=optimizer.ring, versions=SLOTS)
    rows = 0 if job.data.mapped else job.data.nbytes  # what is mapped passes through memory
    choice = choose(job.plan, data=rows, model=model, memory=memory_bytes())
    return replace(job, plan=choice.plan, chosen=choice.why)


def _shown(value: object) -> str:
    """``value`` for an error: short, and named where it is a function that was not called."""
    if callable(value):
        return f"the function {getattr(value, '__name__', value)!s} itself (call it)"
    text = repr(value)
    return f"{type(value).__name__} {text[:40]}{'…' if len(text) > 40 else ''}"


@dataclass
class Prepared:
    """A job with every default filled in."""

    facts: Facts
    tables: dict[str, Table]
    sample: NDArray[np.int64] | None
    pace: Pace
    staffing: Staffing
    max_time: float | None


def prepare(job: Job, *, looks: bool = True) -> Prepared:
    """Fill in every default and check what can be checked before anything starts."""
    job = settled(job)
    plan, data = job.plan, job.data
    assert isinstance(data, Table)
    program = job.program.for_data(data.spec)
    looks = looks and program.evaluates
    own = program.defaults
    _check_solver(job, program)
    optimizer = later(_optimizer(job, own, data.spec), job.start)
    check_start(job.start, program, optimizer)
    tables = _tables(job, data)
    rows = len(tables["train"])
    full = bool(getattr(optimizer, "needs_full_batch", False))
    batch = _batch_size(job, own, full=full)
    if plan.lanes > rows:
        raise PlanError(f"lanes={plan.lanes} but only {rows} training rows: lower lanes and workers")
    if batch is not None and batch < plan.lanes:
        raise PlanError(f"batch_size={batch} is less than lanes={plan.lanes}: each lane needs a row a step")
    if plan.combine == "model" and batch is not None:
        batch *= plan.every
    cut = strides(rows, tables["train"].nbytes, plan.lanes, plan.memory_per_worker)
    batches = BatchPlan(rows, plan.lanes, batch, job.seed, shuffle=job.shuffle, strides=cut)
    l2 = job.l2 if job.l2 is not None else own.l2_per_row / rows
    penalties = (job.l1, l2)
    if plan.combine == "model":
        from trivium.program.averaging import Average, ModelAveraging

        program = ModelAveraging(program, optimizer, plan.every, job.l1, l2)
        optimizer, penalties = Average(), (0.0, 0.0)
    check_consistency(plan, program, optimizer)
    filters = check_filters(plan, optimizer, job.l1) if plan.filters or plan.bandwidth else None
    staffing = staff(plan, program, optimizer, ahead=program.xla and not batches.full)
    if plan.inject:
        check_injections([parse_injection(one) for one in plan.inject], _strikable(plan, staffing))
    facts = Facts(
        program,
        optimizer,
        batches,
        plan.lanes,
        staffing.shards,
        staffing.room,
        plan.reproducible,
        plan.thread_count,
        *penalties,
        job.seed,
        filters,
        plan.bytes_per_second,
    )
    pace = _pace(job, facts, tables, full=full, looks=looks)
    sample = _sample(rows, job.seed) if pace.watch == "sample" else None
    return Prepared(facts, tables, sample, pace, staffing, job.stopping.max_time)


def _strikable(plan: Plan, staffing: Staffing) -> list[str]:
    """Whom a fault may strike, by name."""
    nodes = [f"node {one}" for one in range(plan.nodes)] if plan.nodes > 1 else []
    return ["driver", *staffing.names.values(), *nodes]


def _check_solver(job: Job, program: Program) -> None:
    """A program whose Δ is not shaped like A comes with the one F that takes it."""
    own = program.defaults.optimizer
    if program.delta_layout != program.layout and job.optimizer is not None and type(job.optimizer) is not type(own):
        raise PlanError(f"{program.name} solves for its parameters and takes no other optimizer; leave it out")
    if program.name == "least_squares" and job.stopping.epochs is not None and job.stopping.epochs < 2:
        raise PlanError("epochs=1: least_squares goes over the rows twice, for means and for moments; leave it out")


def _optimizer(job: Job, own: Defaults, spec: DataSpec) -> Optimizer:
    """The job's, or the program's; a full-batch one learns here what only job and data tell."""
    from trivium.program.optimizers.lbfgs import LBFGS
    from trivium.program.optimizers.owlqn import OWLQN
    from trivium.program.optimizers.quasi_newton import QuasiNewton

    optimizer, stopping = job.optimizer or own.optimizer, job.stopping
    if not isinstance(optimizer, QuasiNewton):
        if stopping.tol:
            raise PlanError(f"tol={stopping.tol:g}: {optimizer.name} has no test of its own; lbfgs and owlqn have")
        return optimizer
    if job.l1 and isinstance(optimizer, LBFGS):
        if job.optimizer is not None:
            raise PlanError(f"l1={job.l1:g}: lbfgs needs a smooth objective; use owlqn")
        optimizer = OWLQN(optimizer.tol, optimizer.memory, optimizer.ftol)
    most = stopping.max_iter or (own.iterations or defaults.ITERATIONS if stopping.epochs is None else None)
    return replace(
        optimizer,
        tol=optimizer.tol if stopping.tol is None else stopping.tol,
        max_iter=optimizer.max_iter or most,
        precondition=spec.sparse if optimizer.precondition is None else optimizer.precondition,
    )


def _batch_size(job: Job, own: Defaults, *, full: bool) -> int | None:
    if job.batch_size == FULL:
        return None
    if isinstance(job.batch_size, int):
        if full:
            raise PlanError(f"batch_size={job.batch_size}: this optimizer needs the full batch at each step")
        return job.batch_size
    return defaults.batch_size(own, full=full)


def _tables(job: Job, data: Table) -> dict[str, Table]:
    from trivium.data.read import split

    share, tables = held_share(job), {"train": data}
    if isinstance(job.valid, Table):
        tables["valid"] = job.valid
    elif share:
        tables["train"], tables["valid"] = split(data, share, job.seed)
    if isinstance(job.test, Table):
        tables["test"] = job.test
    return tables


def _sample(rows: int, seed: int) -> NDArray[np.int64]:
    count = min(rows, SAMPLE_ROWS)
    stream = np.random.Generator(np.random.Philox(key=[seed, 0x5A]))
    return np.sort(stream.choice(rows, count, replace=False)).astype(np.int64)


def _pace(job: Job, facts: Facts, tables: dict[str, Table], *, full: bool, looks: bool) -> Pace:
    own, steps = facts.program.defaults, facts.batches.steps
    stopping = defaults.bounded(job.stopping, own, full=full)
    epochs, most = stopping.epochs, stopping.max_iter
    totals = [] if epochs is None else [(epochs * steps, "epochs")]
    if most is not None and not full:
        totals.append((most, "max_iter"))
    total, why = min(totals) if totals else (None, "max_iter")
    watch = "valid" if "valid" in tables else "sample" if stopping.target_loss is not None else ""
    expected = total if total is not None else (most or 100)
    every = 10 if full else steps
    if stopping.target_loss is not None:
        every = max(1, min(every, expected // CHECKS))
    if job.optimizer is None:
        stopping = defaults.watched(stopping, own, full=full, validates="valid" in tables)
    patience = stopping.patience
    if patience is not None and "valid" not in tables:
        raise PlanError(f"patience={patience} needs validation rows: give valid")
    last = tuple(name for name in ("train", "valid", "test") if name in tables) if looks else ()
    return Pace(
        total,
        every,
        watch if looks else "",
        last,
        stopping.target_loss,
        patience,
        keep_best="valid" in tables and not full and looks,
        why_total=why,
        tries=full,
    )
