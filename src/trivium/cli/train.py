"""``trivium train``: options to settings, rows to a job, a job to a run."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli.asked import Asked
from trivium.cli.evaluate import checked
from trivium.cli.loading import (
    BAD_ROWS,
    bounds,
    describe,
    rows_in,
    skipped_of,
    tested,
    training,
    validation_rows,
    write_bad_rows,
)
from trivium.cli.options import words
from trivium.cli.rules import check_data
from trivium.cli.screen import Screen
from trivium.cli.signals import Interrupted, Signals
from trivium.errors import TriviumError, UsageError
from trivium.observe.progress import Display, open_display
from trivium.observe.summary import Line, data_lines, plan_text, stopping_text

if TYPE_CHECKING:
    from trivium.cli.follow import Followed
    from trivium.cli.settings import Settings
    from trivium.data.frame import BadRow
    from trivium.program.program import Program
    from trivium.record import Record
    from trivium.running.job import Job

__all__ = ["train"]

XLA_MODELS = ("mlp", "softmax")  # a guess before anything is imported: sparse rows will not need it


def train(asked: Asked) -> int:
    """Carry out ``trivium train``; returns the exit code."""
    from trivium.cli.settings import plan_of, settle
    from trivium.runtime import early

    screen, stopping = Screen(asked.quiet), dict[str, Any]()
    _free(asked.out)
    check_data(asked)
    with Signals() as signals:
        plan = plan_of(asked)
        if not asked.dry_run:
            early.begin(xla=asked.model.startswith(XLA_MODELS))
        settings = settle(asked, plan)
        display = open_display(sys.stderr, stopping, asked.quiet)
        began = time.monotonic()
        job, bad = _load(asked, settings, display)
        reading = time.monotonic() - began
        stopping.update(bounds(settings.stopping))
        program = job.program.for_data(rows_in(job).spec)
        checked(asked.metric, program)
        _fits(job, program)
        about, planned = describe(job, _bad_notes(bad, asked)), _plan_words(settings, job, program)
        head = [*data_lines(about), ("plan", plan_text(planned)), ("stop", stopping_text(stopping))]
        if asked.dry_run:
            head[-1:-1] = [("", job.chosen)] if job.chosen else []  # a run gives notice of it itself
            return _dry_run(job, program, settings, {"data": about, "plan": planned}, head, screen, asked.as_json)
        job = replace(job, out=_place(asked, job))
        screen.told([*head, ("run", str(job.out))])
        try:
            return _run(job, bad, display, screen, signals, asked, reading)
        except (TriviumError, Interrupted):
            with contextlib.suppress(OSError):
                job.folder.rmdir()  # nothing was started: leave no empty folder behind
            raise


def _load(asked: Asked, settings: Settings, display: Display) -> tuple[Job, Sequence[BadRow]]:
    """The job with all its rows, its design settled; and the training rows that were passed over."""
    from trivium.cli.settings import own_optimizer
    from trivium.running.job import Job, settled

    began = time.monotonic()
    display.stage("load")
    try:
        rows = training(asked, settings.program)
        job = Job(
            program=settings.program,
            data=rows,
            valid=validation_rows(asked, settings.valid, rows),
            plan=settings.plan,
            stopping=settings.stopping,
            optimizer=settings.optimizer,
            batch_size=settings.batch_size,
            l1=settings.l1,
            l2=settings.l2,
            seed=settings.seed,
            sources={"model": asked.model},
        )
        job = settled(job)
        if asked.optimizer is None:  # that of some programs follows from the shapes of the data
            job = replace(job, optimizer=own_optimizer(asked, job.program.for_data(rows_in(job).spec)))
        if asked.batch_per_worker is not None:  # how many workers there are is known only now
            job = replace(job, batch_size=asked.batch_per_worker * job.plan.worker_count)
        return settled(replace(job, test=tested(asked, job))), skipped_of(rows)
    finally:
        display.stage("load", time.monotonic() - began)
        display.close()


def _fits(job: Job, program: Program) -> None:
    """PlanError where program and optimizer do not go with the plan, for a dry run too."""
    from trivium.running.consistency import check_consistency, check_filters

    optimizer = job.optimizer or program.defaults.optimizer
    check_consistency(job.plan, program, optimizer)
    check_filters(job.plan, optimizer, job.l1)


def _bad_notes(bad: Sequence[BadRow], asked: Asked) -> list[str]:
    if not bad:
        return []
    where = "" if asked.dry_run else f"; all of them in {BAD_ROWS} of the run"
    return [f"the first: {bad[0].file}, line {bad[0].line}: {bad[0].why}{where}"]


def _run(
    job: Job,
    bad: Sequence[BadRow],
    display: Display,
    screen: Screen,
    signals: Signals,
    asked: Asked,
    reading: float,
) -> int:
    from trivium.cli.outcome import conclude
    from trivium.running import session

    def begin(shown: Display) -> Followed:
        return session.begin(job, shown)

    def judge(record: Record) -> str:
        return _judge(job, record)

    def measure() -> dict[str, float]:
        return _measured(job, words(asked.metric))

    try:
        return conclude(begin, display, screen, signals, judge, asked.as_json, job.folder, reading, measure)
    finally:
        if (job.folder / "plan.json").exists():  # the run made its directory
            write_bad_rows(job.folder, bad)


def _measured(job: Job, names: tuple[str, ...]) -> dict[str, float]:
    """The metrics on the test rows, else the validation rows, else the training rows; their names say which."""
    if not names:
        return {}
    from trivium.data.read import split
    from trivium.data.table import Table
    from trivium.face.trained import Run

    train, run = rows_in(job), Run.load(job.folder, trust=True)
    if isinstance(job.test, Table):
        part, rows = "test", job.test
    elif isinstance(job.valid, Table):
        part, rows = "valid", job.valid
    elif isinstance(job.valid, float) and job.valid:
        part, rows = "valid", split(train, job.valid, job.seed)[1]
    else:
        part, rows = "train", train
    return {f"{part}_{name}": value for name, value in run.evaluate(rows, metrics=names).items()}


def _free(out: Path | None) -> None:
    """An --out that holds something is never written to."""
    try:
        there = out is not None and out.exists()
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}; give another directory") from None
    if out is not None and there:
        if not out.is_dir():
            raise UsageError(f"--out {out} is a file; give a directory that is empty or not there yet")
        if any(out.iterdir()):
            hint = f", or go on with `trivium resume {out}`" if _resumable(out) else ""
            raise UsageError(f"--out {out} is not empty and nothing is overwritten; give another directory{hint}")


def _resumable(out: Path) -> bool:
    from trivium.observe.rundir import read_run

    try:
        return read_run(out).resumable
    except UsageError:
        return False


def _place(asked: Asked, job: Job) -> Path:
    """The run's directory: as asked for, else a new one named by model and design."""
    from trivium.observe.rundir import new_run

    if asked.out is not None:
        return asked.out
    model = Path(asked.model).name if ".py" in asked.model else asked.model
    return new_run(Path("runs"), re.sub(r"[^A-Za-z0-9]+", "-", f"{model}-{job.plan.design}").strip("-"))


def _plan_words(settings: Settings, job: Job, program: Program) -> dict[str, Any]:
    """The plan as the screen says it; see ``trivium.observe.summary.plan_text``."""
    plan, own = job.plan, settings.l2 is None
    l2 = settings.l2_per_row / max(1, describe(job)["parts"]["train"]) if own else settings.l2
    return {
        **{name: value for name, value in vars(plan).items() if name not in ("cores", "workers", "threads")},
        "model": program.name,
        "workers": plan.worker_count,
        "threads": plan.thread_count,
        "optimizer": settings.optimizer.name,
        "lr": getattr(settings.optimizer, "lr", None),
        "batch_size": job.batch_size,
        "l1": settings.l1,
        "l2": l2,
        "seed": settings.seed,
        "parameters": sum(part.size for part in program.layout.slices),
    }


def _dry_run(
    job: Job,
    program: Program,
    settings: Settings,
    about: dict[str, Any],
    head: list[Line],
    screen: Screen,
    as_json: bool,
) -> int:
    from trivium.cli.forecast import forecast
    from trivium.data.table import Table
    from trivium.observe.figures import size
    from trivium.runtime.memory import available_memory

    tables = [table for table in (job.data, job.valid, job.test) if isinstance(table, Table)]
    memory = forecast(tables, program.layout, settings.optimizer, job.plan, program.xla)
    text = (
        f"about {size(memory.total)}: data {size(memory.data)}, parameters and optimizer {size(memory.parameters)}, "
        f"deltas {size(memory.deltas)}, processes {size(memory.processes)}"
    )
    left = available_memory()
    text += f"; {size(left)} are available" + (": it does not fit" if memory.total > left else "")
    screen.result([*head, ("memory", text), ("", "nothing was started")])
    if as_json:
        screen.json({**about, "stopping": bounds(settings.stopping), "memory": {**vars(memory), "total": memory.total}})
    return 0


def _judge(job: Job, record: Record) -> str:
    """The verdict, measured where that is cheap enough."""
    from trivium.observe.verdict import budget, threads_of, verdict, why_not
    from trivium.running import session

    rows = record.rows if job.batch_size in (None, "full") else min(int(job.batch_size), record.rows)
    seconds = budget(record, rows)
    if seconds <= 0:
        return why_not(record)
    threads = threads_of(record, len(os.sched_getaffinity(0)))
    return verdict(record, session.yardstick(job, threads, seconds), threads)
