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
from trivium.plan import Plan, Stopping
from trivium.record import Observer, Record, SilentObserver
from trivium.running.job import Job
from trivium.running.live import Live
from trivium.running.remembering import check_data, remembered_job
from trivium.runtime.claiming import Claimed
from trivium.runtime.deed import drop_deed, read_deed
from trivium.runtime.early import pool_for
from trivium.runtime.pool import GRACE, Pool
from trivium.runtime.store import RunStore, checkpoints, decided

__all__ = [
    "BusyError",
    "Session",
    "begin",
    "begin_beside",
    "default",
    "load_params",
    "resume",
    "run",
    "run_beside",
    "warm",
    "yardstick",
]

ORPHANS_WITHIN = 4.0  # seconds beyond their timeout: then the zygote has ended them


class BusyError(UsageError):
    """A session has a run going on."""


class Session:
    """Warm processes for several runs. ``with Session() as s: s.run(job)``; an implicit one serves otherwise."""

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

    def begin(self, job: Job, observer: Observer | None = None) -> Live:
        """Start ``job``; one run at a time in a session."""
        return Live(self, job, observer or SilentObserver())

    def run(self, job: Job, observer: Observer | None = None) -> Record:
        """Start ``job`` and wait for its end."""
        return self.begin(job, observer).result()

    def hold(self) -> None:
        """One run at a time uses the processes; UsageError while there is one."""
        if not self._busy.acquire(blocking=False):
            raise BusyError("this session has a run going on; wait for it, or use another Session for a second one")

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
_listing = threading.Lock()  # held by whoever reads or changes the list, and never for longer
os.register_at_fork(before=_listing.acquire, after_in_parent=_listing.release, after_in_child=_listing.release)


def default() -> Session:
    """The implicit session of this process."""
    return _held()[0]


def _held() -> tuple[Session, ...]:
    """The implicit sessions of this process, at least one."""
    with _listing:
        if not _implicit or _implicit[0].owner != os.getpid():  # a fork has its parent's, and must not touch it
            _implicit[:] = [Session()]
            atexit.register(_implicit[0].close)
        return tuple(_implicit)


def warm(*, xla: bool) -> None:
    """Let the implicit session begin to import what workers need."""
    default().warm(xla=xla)


def begin(job: Job, observer: Observer | None = None) -> Live:
    """Start ``job`` in the implicit session; returns at once, the run goes on in a thread."""
    return default().begin(job, observer)


def begin_beside(job: Job, observer: Observer | None = None) -> Live:
    """As ``begin``, but where the implicit session has a run going on, in another one that is kept likewise."""
    for held in _held():
        try:
            return held.begin(job, observer)
        except BusyError:
            continue
    other = Session()
    live = other.begin(job, observer)  # before it is listed: nobody else can take it
    with _listing:
        _implicit.append(other)
    atexit.register(other.close)
    return live


def run(job: Job, observer: Observer | None = None) -> Record:
    """Run ``job`` to its end."""
    return default().run(job, observer)


def run_beside(job: Job, observer: Observer | None = None) -> Record:
    """As ``run``, but beside what else goes on in this process: threads may each call it at the same time."""
    return begin_beside(job, observer).result()


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
        return Live(default(), alone, SilentObserver(), looks=False).result().samples_per_second
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _steps_by_epoch(job: Job) -> bool:
    return not getattr(job.optimizer or job.program.defaults.optimizer, "needs_full_batch", False)


def load_params(path: Path | str) -> dict[str, NDArray[Any]]:
    """The trained parameters of the run in ``path`` by name."""
    from safetensors.numpy import load_file

    file = Path(path) / "model.safetensors"
    if not file.exists():
        raise UsageError(f"{path} has no model; it did not finish. `trivium report {path}` says what happened")
    return dict(load_file(file))


def resume(
    path: Path | str,
    observer: Observer | None = None,
    job: Job | None = None,
    *,
    session: Session | None = None,
    trust: bool = False,
) -> Live:
    """Go on with the run in ``path``: live, where its nodes wait for a driver still, else from its newest checkpoint.

    ``job`` is needed where the data did not come from files. ``trust`` is needed without ``job`` where the program is
    one's own, see ``trivium.running.recalling``. See ``trivium.runtime.deed`` on who may take a live run over.
    """
    folder = Path(path)
    if not ((folder / "checkpoints").exists() or (folder / "nodes.json").exists()):
        raise UsageError(f"{folder} has no checkpoint to go on from; start the run anew")
    observer = observer or SilentObserver()
    store = RunStore(folder, 0)
    store.lock()
    try:
        claimed = _claimed(folder, observer)
        try:
            return _gone_on(folder, observer, job, session or default(), store, claimed, trust)
        except BaseException:
            if claimed is not None:
                claimed.let_go()
            raise
    except BaseException:
        store.unlock()
        raise


def _claimed(folder: Path, observer: Observer) -> Claimed | None:
    """The living nodes of the run, of which this process is the driver now; None where there are none to drive.

    First of all, since they wait for so long and no longer; nothing is done to them before the job is known.
    """
    deed = read_deed(folder)
    if deed is None:
        return None
    from trivium.runtime.claiming import claim

    claimed = claim(folder, deed)
    if claimed is None:
        observer.notice("its nodes cannot be taken over any more; it goes on from its last checkpoint")
    elif claimed.over or not claimed.members.workers or not decided(folder):
        claimed.dismiss()
        observer.notice("its nodes were at their end, or at their beginning; it goes on from its last checkpoint")
        return None
    return claimed


def _gone_on(
    folder: Path,
    observer: Observer,
    job: Job | None,
    session: Session,
    store: RunStore,
    claimed: Claimed | None,
    trust: bool,
) -> Live:
    if job is None:
        job = remembered_job(folder, trust=trust)
    job = replace(job, plan=replace(job.plan, inject=()))  # what was to strike has struck; a second time it would again
    check_data(folder, job)
    if claimed is not None:
        store.life = claimed.deed.life
        return Live(session, job, observer, store=store, claimed=claimed)
    store.take_over(job.plan.orphan_timeout + ORPHANS_WITHIN, observer.notice)
    drop_deed(folder)
    saved = checkpoints(folder)
    if not saved:
        raise UsageError(f"{folder} has no checkpoint to go on from; start the run anew")
    return Live(session, job, observer, saved=tuple(saved), store=store)
