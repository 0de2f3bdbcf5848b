"""How an estimator's fit is carried out: in this process, or by the processes of a plan."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import BatchPlan
from trivium.data.table import Table
from trivium.plan import Plan, Stopping
from trivium.program.optimizers.base import Optimizer
from trivium.program.program import Program
from trivium.record import Record
from trivium.running.choosing import choose, memory_bytes, state_bytes
from trivium.running.job import Job
from trivium.runtime.versions import SLOTS

__all__ = ["Fitted", "Task", "carry_out", "inline_plan", "steps_of"]

MEMORY = "/dev/shm"  # noqa: S108  a file system in memory, to which it costs nothing to write through
LARGE = 1 << 22  # elements of features: below, more threads do not pay


@dataclass(frozen=True)
class Task:
    """What is to be minimised: the parts of a ``Job`` that an estimator decides.

    ``batch_size`` None is the full batch; ``epochs`` None runs until the optimizer has finished. ``start`` gives the
    parameters by name.
    """

    program: Program
    table: Table
    optimizer: Optimizer
    epochs: int | None = None
    batch_size: int | None = None
    l1: float = 0.0
    l2: float = 0.0
    seed: int = 0
    start: dict[str, NDArray[Any]] | None = None
    valid: Table | None = None
    patience: int | None = None
    shuffle: bool = True


@dataclass(frozen=True)
class Fitted:
    """What came of it: parameters by name, the optimizer's scalars (``head``) and vectors (``slots``), the record."""

    views: dict[str, NDArray[Any]]
    head: NDArray[np.float64]
    slots: NDArray[Any]
    record: Record
    saved: dict[str, NDArray[Any]] | None = None  # what a next run takes to go on with the optimizer's state


def carry_out(task: Task, plan: Plan | None, threads: int | None = None) -> Fitted:
    """Run ``task`` in this process (``plan`` None), or by ``plan`` in a run directory that is removed at the end.

    ``threads`` of this process; None leaves their number to the size of the table.
    """
    job = Job(
        task.program,
        task.table,
        inline_plan(task.table, threads)
        if plan is None
        else fitting(_designed(plan, task), len(task.table), task.batch_size),
        stopping=Stopping(epochs=task.epochs, patience=task.patience),
        optimizer=task.optimizer,
        batch_size="full" if task.batch_size is None else task.batch_size,
        l1=task.l1,
        l2=task.l2,
        seed=task.seed,
        start=task.start,
        valid=task.valid,
        shuffle=task.shuffle,
    )
    return _inline(job) if plan is None else _planned(job)


def inline_plan(table: Table, threads: int | None = None) -> Plan:
    """One lane and ``threads``; or all cores for large tables in the main thread of a main process, else one."""
    if threads is not None:
        return Plan("sequential", lanes=1, threads=threads)
    spec = table.spec
    alone = (
        multiprocessing.current_process().name == "MainProcess"
        and threading.current_thread() is threading.main_thread()
    )
    threads = len(os.sched_getaffinity(0)) if alone and spec.nnz >= LARGE else 1
    return Plan("sequential", lanes=1, threads=threads)


def _designed(plan: Plan, task: Task) -> Plan:
    """``plan`` with a design, which ``auto`` leaves to the sizes of data and model."""
    if plan.design != "auto":
        return plan
    layout, optimizer = task.program.layout, task.optimizer
    model = state_bytes(layout.nbytes, slots=optimizer.slots, ring=optimizer.ring, versions=SLOTS)
    return choose(plan, data=task.table.nbytes, model=model, memory=memory_bytes()).plan


def steps_of(rows: int, batch: int, plan: Plan | None) -> int:
    """Clocks of an epoch of ``rows`` rows in batches of ``batch``."""
    lanes = 1 if plan is None else fitting(plan, rows, batch).lanes
    return BatchPlan(rows, lanes, batch, 0).steps


def fitting(plan: Plan, rows: int, batch: int | None = None) -> Plan:
    """``plan`` with no more lanes than rows of a step, no more workers than lanes, and A in one shard."""
    lanes = min(plan.lanes, rows, batch or rows)
    if plan.design == "sequential":
        return replace(plan, lanes=lanes)
    workers = None if plan.workers is None else min(plan.workers, lanes)
    return replace(plan, lanes=lanes, workers=workers, shards=1)


def _inline(job: Job) -> Fitted:
    from trivium.running.inline import run_inline

    done = run_inline(job)
    saved = done.saved
    empty = np.zeros(0)
    return Fitted(done.views, saved.get("head", empty), saved.get("slots", empty), done.record, saved)


def _planned(job: Job) -> Fitted:
    from trivium.running.session import load_params, run_beside
    from trivium.runtime.store import checkpoints

    folder = Path(tempfile.mkdtemp(prefix="trivium-fit-", dir=_room(job)))
    try:
        record = run_beside(replace(job, out=folder / "run"))
        saved = _whole(checkpoints(folder / "run")[-1], job)
        return Fitted(load_params(folder / "run"), saved["head"], saved["slots"], record, saved)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _room(job: Job) -> str | None:
    """Where the run directory goes: nobody resumes this run, so memory will do where there is plenty; else the disk."""
    assert job.optimizer is not None
    copies = 4 * (2 + job.optimizer.slots + job.optimizer.ring)
    need = copies * job.program.layout.nbytes + (1 << 20)
    try:
        free = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
    except OSError:
        return None
    return MEMORY if free > 8 * need else None


def _whole(checkpoint: Any, job: Job) -> dict[str, NDArray[Any]]:
    """What ``Job.start`` takes, from the checkpoint of a run whose A lay in one shard."""
    saved = checkpoint.load()
    assert job.optimizer is not None
    size = saved["a"].reshape(-1).size
    flat = {name: np.asarray(saved[name]).reshape(-1) for name in ("a", "head", "totals", "step")}
    rows = {name: np.asarray(saved[name]).reshape(-1, size) for name in ("slots", "ring")}
    return {**flat, **rows, "clock": np.array(checkpoint.clock)}
