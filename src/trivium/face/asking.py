"""From what a person asks of the face to a job, with every word checked before anything starts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from trivium.data.sources.labels import recode
from trivium.data.table import Table
from trivium.errors import PlanError, UsageError
from trivium.face.given import labelled
from trivium.face.trained import Run
from trivium.observe.rundir import new_run
from trivium.plan import Plan, Stopping
from trivium.program.optimizers.base import Optimizer
from trivium.program.program import Program
from trivium.record import Record
from trivium.running.job import FULL, Job, held_share, settled
from trivium.running.recalling import Recalled

__all__ = ["RUNS", "Asked", "ask_for", "recall_own"]

RUNS = Path("runs")
AMOUNTS = ("linear", "least_squares")  # models that learn numbers and nothing else


class Asked:
    """A job with what is to be made of its result."""

    def __init__(self, job: Job, metrics: tuple[str, ...], made: bool = False) -> None:
        self.job, self.metrics, self.made = job, metrics, made

    def trained(self, record: Record) -> Run:
        """The run with its model, and the further metrics on the rows that were held out."""
        path = self.job.folder
        recalled = recall_own(path, self.job)
        run = Run(path, recalled, record)
        further: dict[str, float] = {}
        for name, table in self._held_out() if self.metrics else ():
            scores = run.evaluate(table, self.metrics)
            further |= {f"{name}_{metric}": value for metric, value in scores.items()}
        return Run(path, recalled, record, further) if further else run

    def _held_out(self) -> Iterator[tuple[str, Any]]:
        """The rows that were not trained on, as the run saw them."""
        from trivium.data.read import split

        job, share = self.job, held_share(self.job)
        if isinstance(job.valid, Table):
            yield "valid", job.valid
        elif share and isinstance(job.data, Table):
            yield "valid", split(job.data, share, job.seed)[1]
        if job.test is not None:
            yield "test", job.test

    def tidy(self) -> None:
        """Nothing was started: leave no empty folder behind."""
        if self.made:
            with contextlib.suppress(OSError):
                self.job.folder.rmdir()


def recall_own(path: Path, job: Job) -> Recalled:
    """What the run of ``job`` in ``path`` has learned; its program is at hand."""
    from safetensors.numpy import load_file

    spec = job.data.spec  # type: ignore[union-attr]  # it is settled
    program = job.program.for_data(spec)
    params = program.layout.pack(load_file(path / "model.safetensors"))
    return Recalled(program, params, spec, job.data.scale, job.reading)  # type: ignore[union-attr]


def ask_for(
    own: Plan,
    *,
    model: Program | str,
    data: Any,
    valid: Any = None,
    test: Any = None,
    batch_size: int | str | None = None,
    batch_per_worker: int | None = None,
    optimizer: Optimizer | str | None = None,
    lr: Any = None,
    l1: float = 0.0,
    l2: float | None = None,
    seed: int = 0,
    plan: Plan | None = None,
    out: str | os.PathLike[str] | None = None,
    metrics: Iterable[str] | str = (),
    **stopping: Any,
) -> Asked:
    """The job that is meant, by the plan ``own`` where none is given.

    Raises UsageError, PlanError or DataError where it cannot be.
    """
    program = _program(model)
    names = _metrics(program, metrics)
    plan = plan if plan is not None else own
    chosen, valid, patience = _optimizer(program, optimizer, lr, valid, stopping.get("patience"), l1)
    rows = _as_learned(labelled(data), program)
    if valid is not None and not isinstance(valid, int | float):
        valid = labelled(valid, like=rows, reading=getattr(rows, "reading", None), what="valid")
    job = Job(
        program,
        rows,
        plan,
        valid=valid,
        stopping=Stopping(**{**stopping, "patience": patience}),
        optimizer=chosen,
        l1=l1,
        l2=l2,
        seed=seed,
        sources={"model": model} if isinstance(model, str) else None,
    )
    job = settled(job)
    if test is not None:  # read as the rows are that are left for training
        rows_of_test = labelled(test, like=rows, reading=job.reading, part=_part_of_test(test), what="test")
        job = settled(replace(job, test=rows_of_test))
    if names and not (held_share(job) or isinstance(job.valid, Table) or job.test is not None):
        raise PlanError(f"metrics={', '.join(names)}: they are measured on rows that are held out; give valid or test")
    job = replace(job, batch_size=_batch(batch_size, batch_per_worker, job.plan))
    if out is not None:
        return Asked(replace(job, out=Path(out).absolute()), names)
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{program.name}-{job.plan.design}").strip("-")
    return Asked(replace(job, out=new_run(RUNS.absolute(), stem)), names, made=True)


def _as_learned(rows: Any, program: Program) -> Any:
    """``rows`` with whole-number labels as amounts, where ``program`` learns nothing else."""
    if program.name.partition(":")[0] not in AMOUNTS or program.output != "value":
        return rows
    if hasattr(rows, "of_amounts"):
        return rows.of_amounts()
    if isinstance(rows, Table) and rows.classes and not isinstance(rows.classes[0], str):
        y, _ = recode(rows.name, np.asarray(rows.columns["y"]), rows.classes, ())
        return replace(rows, columns={**rows.columns, "y": y}, classes=())
    return rows


def _program(model: Program | str) -> Program:
    if not isinstance(model, str):
        return model
    from trivium.program.models import model as named

    return named(model)


def _metrics(program: Program, metrics: Iterable[str] | str) -> tuple[str, ...]:
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if names:
        from trivium.program.metrics import metric

        output = program.output
        for name in names:
            metric(name, output if isinstance(output, str) else None)  # says at once that it is of no use
    return names


def _optimizer(
    program: Program, asked: Optimizer | str | None, lr: Any, valid: Any, patience: int | None, l1: float
) -> tuple[Optimizer | None, Any, int | None]:
    """(optimizer, valid, patience). To set the rate of the program's own optimizer changes none of its other defaults.

    PlanError where there is no rate to be set.
    """
    if isinstance(asked, str):
        from trivium.program.optimizers import optimizer

        return optimizer(asked, lr=lr), valid, patience
    if lr is None:
        return asked, valid, patience
    held = asked or program.defaults.optimizer
    if "lr" not in {one.name for one in fields(held)}:  # type: ignore[arg-type]
        name = "owlqn" if l1 and held.name == "lbfgs" else held.name
        raise PlanError(f"lr={lr}: {name} has no learning rate; leave lr out, or give another optimizer")
    changed: Optimizer = replace(held, lr=lr)  # type: ignore[type-var]
    if asked is not None:
        return changed, valid, patience
    defaults = program.defaults
    valid = defaults.valid or None if valid is None else valid
    return changed, valid, defaults.patience if patience is None and valid else patience


def _batch(batch_size: int | str | None, per_worker: int | None, plan: Plan) -> int | str | None:
    if batch_size is not None and per_worker is not None:
        raise PlanError(f"batch_size={batch_size!r} and batch_per_worker={per_worker}: give one of them")
    if isinstance(batch_size, str) and batch_size != FULL:
        raise UsageError(f"batch_size={batch_size!r}; expected a number of rows, or {FULL!r}")
    return batch_size if per_worker is None else per_worker * plan.worker_count


def _part_of_test(test: Any) -> str:
    if not isinstance(test, str | os.PathLike):
        return "train"
    from trivium.data.read import part_of_test

    return part_of_test(os.fspath(test))
