"""``trivium train``: options to settings, rows to a job, a job to a run."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli.asked import Asked
from trivium.cli.loading import Rows, bounds, describe, load
from trivium.cli.screen import Screen
from trivium.cli.signals import Interrupted, Signals
from trivium.errors import TriviumError, UsageError
from trivium.observe.progress import Display, open_display
from trivium.observe.summary import Line, data_lines, plan_text, stopping_text

if TYPE_CHECKING:
    from trivium.cli.settings import Settings
    from trivium.job import Job
    from trivium.record import Record

__all__ = ["train"]

XLA_MODELS = ("mlp", "softmax")  # a guess before anything is imported: sparse rows will not need it


def train(asked: Asked) -> int:
    """Carry out ``trivium train``; returns the exit code."""
    from trivium.cli.settings import plan_of, settle
    from trivium.runtime import early

    screen, stopping = Screen(asked.quiet), dict[str, Any]()
    _free(asked.out)
    with Signals() as signals:
        plan = plan_of(asked)
        if not asked.dry_run:
            early.begin(xla=asked.model.startswith(XLA_MODELS))
        settings = settle(asked, plan)
        display = open_display(sys.stderr, stopping, asked.quiet)
        began = time.monotonic()
        rows = _load(asked, settings, display)
        reading = time.monotonic() - began
        stopping.update(bounds(settings.stopping))
        settings = replace(settings, program=settings.program.for_data(rows.train.spec))
        about, words = describe(rows), _plan_words(settings, rows)
        head = [*data_lines(about), ("plan", plan_text(words)), ("stop", stopping_text(stopping))]
        if asked.dry_run:
            return _dry_run(settings, rows, {"data": about, "plan": words}, head, screen, asked.as_json)
        job = _job(asked, settings, rows)
        screen.told([*head, ("run", str(job.out))])
        try:
            return _run(job, display, screen, signals, asked.as_json, reading)
        except (TriviumError, Interrupted):
            with contextlib.suppress(OSError):
                job.out.rmdir()  # nothing was started: leave no empty folder behind
            raise


def _load(asked: Asked, settings: Settings, display: Display) -> Rows:
    began = time.monotonic()
    display.stage("load")
    try:
        return load(asked.data, settings.valid, asked.test)
    finally:
        display.stage("load", time.monotonic() - began)
        display.close()


def _run(job: Job, display: Display, screen: Screen, signals: Signals, as_json: bool, reading: float) -> int:
    from trivium import session
    from trivium.cli.outcome import conclude

    def judge(record: Record) -> str:
        return _judge(job, record)

    return conclude(lambda shown: session.start(job, shown), display, screen, signals, judge, as_json, job.out, reading)


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


def _job(asked: Asked, settings: Settings, rows: Rows) -> Job:
    from trivium.job import Job
    from trivium.observe.rundir import new_run
    from trivium.program.models import model

    out = asked.out
    if out is None:
        out = new_run(Path("runs"), re.sub(r"[^A-Za-z0-9]+", "-", f"{asked.model}-{asked.design}").strip("-"))
    return Job(
        program=model(asked.model),
        data=rows.train,
        valid=rows.valid,
        test=rows.test,
        plan=settings.plan,
        stopping=settings.stopping,
        optimizer=settings.optimizer,
        batch_size=settings.batch_size,
        l1=settings.l1,
        l2=settings.l2,
        seed=settings.seed,
        out=out,
        sources={"model": asked.model, "data": asked.data, "valid": settings.valid, "test": asked.test},
    )


def _plan_words(settings: Settings, rows: Rows) -> dict[str, Any]:
    """The plan as the screen says it; see ``trivium.observe.summary.plan_text``."""
    plan, own = settings.plan, settings.l2 is None
    l2 = settings.l2_per_row / max(1, describe(rows)["parts"]["train"]) if own else settings.l2
    return {
        **{name: value for name, value in vars(plan).items() if name not in ("cores", "workers", "threads")},
        "model": settings.program.name,
        "workers": plan.worker_count,
        "threads": plan.thread_count,
        "optimizer": settings.optimizer.name,
        "lr": getattr(settings.optimizer, "lr", None),
        "batch_size": settings.batch_size,
        "l1": settings.l1,
        "l2": l2,
        "seed": settings.seed,
        "parameters": sum(part.size for part in settings.program.layout.slices),
    }


def _dry_run(
    settings: Settings, rows: Rows, about: dict[str, Any], head: list[Line], screen: Screen, as_json: bool
) -> int:
    from trivium.cli.forecast import forecast
    from trivium.data.table import Table
    from trivium.observe.figures import size
    from trivium.runtime.memory import available_memory

    tables = [table for table in (rows.train, rows.valid, rows.test) if isinstance(table, Table)]
    memory = forecast(tables, settings.program.layout, settings.optimizer, settings.plan, settings.program.xla)
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
    from trivium import session
    from trivium.observe.verdict import budget, threads_of, verdict, why_not

    rows = record.rows if job.batch_size in (None, "full") else min(int(job.batch_size), record.rows)
    seconds = budget(record, rows)
    if seconds <= 0:
        return why_not(record)
    threads = threads_of(record, len(os.sched_getaffinity(0)))
    return verdict(record, session.yardstick(job, threads, seconds), threads)
