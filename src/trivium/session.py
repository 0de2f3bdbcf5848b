"""Sessions: warm processes for several runs, and the functions that use an implicit one."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from trivium.errors import UsageError
from trivium.job import Job
from trivium.live import Live
from trivium.plan import Plan, Stopping
from trivium.record import Observer, Record, SilentObserver
from trivium.remembering import check_data, remembered_job
from trivium.runtime.early import pool_for
from trivium.runtime.pool import GRACE, Pool
from trivium.runtime.store import RunStore, checkpoints

__all__ = ["Session", "load_params", "resume", "start", "train", "warm", "yardstick"]

ORPHANS_WITHIN = 4.0  # seconds beyond their timeout: then the zygote has ended them


class Session:
    """Warm processes for several runs. ``with Session() as s: s.train(job)``; an implicit one serves otherwise."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._pools: dict[bool, Pool] = {}
        self._busy = threading.Lock()

    def pool(self, *, xla: bool, grace: float = GRACE) -> Pool:
        """The pool whose zygote has the imports that a program needs, and leaves orphans ``grace`` seconds."""
        held = self._pools.get(xla)
        if held is not None and held.grace < grace:
            held.close()
            held = None
        if held is None:
            held = self._pools[xla] = pool_for(xla=xla, grace=max(grace, GRACE))
        return held

    def warm(self, *, xla: bool) -> None:
        """Begin to import in the background, while something else is done."""
        self.pool(xla=xla).start()

    def start(self, job: Job, observer: Observer | None = None) -> Live:
        """Start ``job``; one run at a time in a session."""
        return Live(self, job, observer or SilentObserver())

    def train(self, job: Job, observer: Observer | None = None) -> Record:
        """Start ``job`` and wait for its end."""
        return self.start(job, observer).result()

    def hold(self) -> None:
        """One run at a time uses the processes; UsageError while there is one."""
        if not self._busy.acquire(blocking=False):
            raise UsageError("this session has a run going on; wait for it, or use another Session for a second one")

    def let_go(self) -> None:
        """The run is over."""
        self._busy.release()

    def close(self) -> None:
        """End all processes."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_implicit: list[Session] = []


def _default() -> Session:
    if not _implicit or _implicit[0].owner != os.getpid():  # a fork has its parent's, and must not touch it
        _implicit[:] = [Session()]
        atexit.register(_implicit[0].close)
    return _implicit[0]


def warm(*, xla: bool) -> None:
    """Let the implicit session begin to import what workers need."""
    _default().warm(xla=xla)


def start(job: Job, observer: Observer | None = None) -> Live:
    """Start ``job`` in the implicit session; returns at once, the run goes on in a thread."""
    return _default().start(job, observer)


def train(job: Job, observer: Observer | None = None) -> Record:
    """Run ``job`` to its end."""
    return _default().train(job, observer)


def yardstick(job: Job, threads: int, seconds: float) -> float:
    """Rows a second of one process with ``threads`` threads on ``job``, trained for about ``seconds``."""
    plan = Plan(design="sequential", threads=threads, lanes=job.plan.lanes, pin=job.plan.pin, cores=job.plan.cores)
    folder = Path(tempfile.mkdtemp(prefix="trivium-yardstick-"))
    short = Stopping(max_time=max(0.05, seconds), epochs=1_000_000 if _steps_by_epoch(job) else None, tol=0.0)
    optimizer = job.optimizer or job.program.defaults.optimizer
    try:
        alone = replace(
            job, plan=plan, out=folder / "run", valid=None, test=None, stopping=short, optimizer=optimizer, sources=None
        )
        return Live(_default(), alone, SilentObserver(), looks=False).result().samples_per_second
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _steps_by_epoch(job: Job) -> bool:
    return not getattr(job.optimizer or job.program.defaults.optimizer, "needs_full_batch", False)


def load_params(run: Path | str) -> dict[str, NDArray[Any]]:
    """The trained parameters of ``run`` by name."""
    from safetensors.numpy import load_file

    path = Path(run) / "model.safetensors"
    if not path.exists():
        raise UsageError(f"{run} has no model; it did not finish. `trivium report {run}` says what happened")
    return dict(load_file(path))


def resume(path: Path | str, observer: Observer | None = None, job: Job | None = None) -> Live:
    """Go on from the newest checkpoint of ``path``. ``job`` is needed where the data did not come from files."""
    run = Path(path)
    if not (run / "checkpoints").exists():
        raise UsageError(f"{run} has no checkpoint to go on from; start the run anew")
    if job is None:
        job = remembered_job(run)
    check_data(run, job)
    observer = observer or SilentObserver()
    store = RunStore(run, 0)
    store.lock()
    try:
        store.take_over(job.plan.orphan_timeout + ORPHANS_WITHIN, observer.notice)
        saved = checkpoints(run)
        if not saved:
            raise UsageError(f"{run} has no checkpoint to go on from; start the run anew")
        return Live(_default(), job, observer, saved=tuple(saved), store=store)
    except BaseException:
        store.unlock()
        raise
