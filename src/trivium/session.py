"""Joins program, data, plan, design and host: a ``Job`` becomes a live run, a run becomes a ``Record``."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.membership import Driver
from trivium.core.pacing import Agenda, Evaluated, Pace
from trivium.core.role import Stop
from trivium.data.batches import BatchPlan
from trivium.data.table import DataSpec, Table
from trivium.errors import (
    LostError,
    PlanError,
    ProgramError,
    RunError,
    StoppedError,
    StorageError,
    TriviumError,
    UsageError,
)
from trivium.plan import Plan, Stopping
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import Layout
from trivium.program.program import Defaults, Program
from trivium.record import Observer, Progress, Record, SilentObserver
from trivium.runtime import board as boards
from trivium.runtime.early import pool_for
from trivium.runtime.host import Trace
from trivium.runtime.local import DriverHost, LocalNode
from trivium.runtime.plane import ArrayPlane, Facts
from trivium.runtime.pool import GRACE, Pool
from trivium.runtime.store import Checkpoint, RunStore, append_line, checkpoints, drop_after, last_term, write_whole
from trivium.runtime.warmth import compile_once, is_warm
from trivium.staffing import RETRY, Staffing, staff
from trivium.telling import Timing, final_record, progress_of

__all__ = ["Job", "Live", "Session", "load_params", "resume", "start", "train", "yardstick"]

log = logging.getLogger(__name__)
SAMPLE_ROWS = 10_000
ORPHANS_WITHIN = 4.0  # seconds beyond their timeout: then the zygote has ended them
CHECKS = 10  # looks at the target loss, at least
FULL = "full"
FAILURES: dict[str, type[RunError]] = {
    "storage": StorageError,
    "lost": LostError,
    "stopped": StoppedError,
    "run": RunError,
}


@dataclass(frozen=True)
class Job:
    """All that defines a run.

    ``batch_size`` is global; None is the program's default, "full" the full batch. So is ``l2`` None.
    ``valid`` is a table or a share of ``data``. ``sources`` names where the tables came from, so that the run can be
    resumed from its directory alone. ``out`` is the run directory: empty, or not there yet.
    """

    program: Program
    data: Table
    plan: Plan
    out: Path
    valid: Table | float | None = None
    test: Table | None = None
    stopping: Stopping = field(default_factory=Stopping)
    optimizer: Optimizer | None = None
    batch_size: int | str | None = None
    l1: float = 0.0
    l2: float | None = None
    seed: int = 0
    sources: dict[str, Any] | None = None


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
        from trivium.remembering import remembered_job

        job = remembered_job(run)
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


# --- one run ---------------------------------------------------------------------------------------------------------
@dataclass
class Prepared:
    """A job with every default filled in."""

    facts: Facts
    tables: dict[str, Table]
    sample: NDArray[np.int64] | None
    pace: Pace
    staffing: Staffing
    max_time: float | None


class Live:
    """A run that goes on in a thread of this process."""

    def __init__(
        self,
        session: Session,
        job: Job,
        observer: Observer,
        saved: tuple[Checkpoint, ...] = (),
        *,
        looks: bool = True,
        trace: Trace | None = None,
        store: RunStore | None = None,
    ) -> None:
        self.job, self.observer = job, observer
        self.trace = trace
        self._session, self._saved, self._looks = session, saved, looks
        self._store = store  # of a run that goes on: locked already
        self._host: DriverHost | None = None
        self._node: LocalNode | None = None
        self._wishes: list[str] = []
        self._over = threading.Event()
        self._record: Record | None = None
        self._error: BaseException | None = None
        self._killed = False
        self._thread = threading.Thread(target=self._main, name="driver", daemon=True)
        self._prepared = prepare(job, looks=looks)
        session.hold()
        self._thread.start()

    # -- for the person -----------------------------------------------------------------------------------------------
    @property
    def path(self) -> Path:
        """The run directory."""
        return self.job.out

    @property
    def pids(self) -> dict[str, int]:
        """Process numbers by name, once started."""
        node = self._node
        if node is None:
            return {}
        return {member.name: seat.pid for member, seat in zip(node.members, node.seats, strict=False)}

    def wait(self, timeout: float | None = None) -> Record | None:
        """The record once the run is over, None after ``timeout`` seconds; raises what the run failed of."""
        if not self._over.wait(timeout):
            return None
        self._thread.join(5.0)
        if self._error is not None:
            raise self._error
        return self._record

    def result(self) -> Record:
        """Wait for the end. Ctrl-C stops the run in order and is raised again."""
        try:
            while True:
                record = self.wait(0.1)
                if record is not None:
                    return record
        except KeyboardInterrupt:
            self.stop("interrupted")
            with contextlib.suppress(TriviumError):
                self.wait(5.0)
            self.kill()
            raise

    def stop(self, reason: str = "stopped") -> None:
        """Ask for a checkpoint and an orderly end."""
        self._wishes.append(reason)
        host = self._host
        if host is not None:
            host.mail.ring(0)

    def kill(self) -> None:
        """End every process now; nothing is saved."""
        self._killed = True
        node = self._node
        for seat in list(node.seats) if node is not None else []:
            seat.kill()
        self._over.wait(10.0)

    # -- the driver's thread ------------------------------------------------------------------------------------------
    def _main(self) -> None:
        try:
            self._record = self._drive()
        except Exception as error:
            self._error = error
            if isinstance(error, TriviumError):  # its words say it all; its frames would hold the run's memory
                log.debug("the run failed", exc_info=error)
                self._error = error.with_traceback(None)
                error.__context__ = None
        finally:
            self._host = None  # it holds the run's memory
            self._session.let_go()
            self._over.set()

    def _drive(self) -> Record:
        prepared, job = self._prepared, self.job
        began, made = time.perf_counter(), not job.out.exists()
        fresh = not self._saved
        store = self._store or open_run(job, prepared)
        try:
            teller = _Teller(self, prepared, began)
            teller.stage("start")
            try:
                node = self._open_node(prepared, store.life)
            except BaseException:
                if fresh:
                    unmake_run(job.out, folder=made)
                raise
            return self._on_node(node, store, teller)
        finally:
            store.unlock()

    def _open_node(self, prepared: Prepared, life: str) -> LocalNode:
        job, plan = self.job, self.job.plan
        pool = self._session.pool(xla=prepared.facts.program.xla, grace=plan.orphan_timeout + 2.0)
        pool.start()
        node = LocalNode(
            pool,
            prepared.staffing.members,
            prepared.facts,
            job.out,
            prepared.tables,
            prepared.sample,
            prepared.staffing.spin,
            plan.orphan_timeout,
            life,
        )
        node.open()
        return node

    def _on_node(self, node: LocalNode, store: RunStore, teller: _Teller) -> Record:
        prepared, clean = self._prepared, False
        self._node = node
        try:
            agenda = self._first_version(node, prepared)
            agenda.began = agenda.clock
            teller.skip(len(agenda.history))
            if not is_warm(prepared.facts, prepared.tables["train"]):
                teller.stage("compile")
                began = time.perf_counter()
                compile_once(prepared.facts, node.plane.arrays, prepared.tables["train"])
                node.compile_seconds = time.perf_counter() - began
                teller.stage("start")
            node.launch()
            self._refuse_killed()
            host = self._make_host(node, store, agenda, teller)
            try:
                stop = host.run()
                clean = not stop.error and not self._killed
                params = final_params(node.plane, agenda) if not stop.error else None
                stop = _in_words(stop, node.plane)
                timing = teller.close(host, node)
            finally:
                host.close()
        finally:
            self._node = None
            node.close(clean=clean)
        self._refuse_killed()
        self._raise(stop)
        assert params is not None
        return self._finish(prepared, agenda, host, params, timing, stop)

    def _first_version(self, node: LocalNode, prepared: Prepared) -> Agenda:
        """What a driver decided is in its manifests; what orphans saved later counts as far as that reaches."""
        facts = prepared.facts
        told = max((one for one in self._saved if one.memory), key=lambda one: one.clock, default=None)
        memory = told.memory if told is not None else b""
        agenda = Agenda.resumed(prepared.pace, memory, [one.clock for one in self._saved])
        chosen = next((one for one in self._saved if one.clock == agenda.clock), None)
        if chosen is None:
            node.plane.first_version(facts.program.init(facts.seed))
            return agenda
        saved = chosen.load()
        if saved["a"].shape[-1] != facts.layout.size:
            raise UsageError(
                f"{self.job.out} was saved with {saved['a'].shape[-1]} parameters, this job has {facts.layout.size}: "
                "resume with the model and data that it was started with"
            )
        if told is not None and told is not chosen:
            saved["kept"] = told.load()["kept"]
        node.plane.restore(saved, chosen.clock, agenda.kept)
        drop_after(self.job.out, chosen.clock)
        return agenda

    def _make_host(self, node: LocalNode, store: RunStore, agenda: Agenda, teller: _Teller) -> DriverHost:
        plan, prepared = self.job.plan, self._prepared
        staffing = prepared.staffing
        driver = Driver(
            node.addresses[0],
            staffing.roster,
            lanes=plan.lanes,
            shards=prepared.facts.shards,
            agenda=agenda,
            retry=RETRY,
            patience=plan.patience,
            names=staffing.names,
            max_time=prepared.max_time,
            checkpoint_every=plan.checkpoint_every,
            term=last_term(self.job.out),
        )
        host = DriverHost(
            driver,
            node,
            store,
            patience=plan.patience,
            start_timeout=plan.start_timeout,
            show=teller.show,
            trace=self.trace,
        )
        host.wishes = self._wishes
        self._host = host
        return host

    def _refuse_killed(self) -> None:
        if self._killed:
            raise RunError("the run was killed; nothing was saved since the last checkpoint")

    def _raise(self, stop: Stop) -> None:
        if not stop.error:
            return
        run = self.job.out
        with contextlib.suppress(StorageError):
            append_line(run / "events.jsonl", {"time": time.time(), "kind": "failed", "text": stop.error})
        hint = f"; to go on from the last checkpoint: trivium resume {run}" if _has_checkpoint(run) else ""
        if stop.error.startswith("diverged"):
            hint = ""  # it would do so again
        raise failure(stop, hint)

    def _finish(
        self,
        prepared: Prepared,
        agenda: Agenda,
        host: DriverHost,
        params: NDArray[Any],
        timing: Timing,
        stop: Stop,
    ) -> Record:
        from safetensors.numpy import save

        run = self.job.out
        layout = prepared.facts.layout
        views = {name: np.ascontiguousarray(view) for name, view in layout.views(params).items()}
        write_whole(run / "model.safetensors", save(views, {"model": prepared.facts.program.name}))
        digest = params_digest(layout, params)
        record = final_record(self.job, prepared, agenda, host.driver, params, digest, timing, stop.reason)
        write_whole(run / "spans.json", _json({"processes": [asdict(one) for one in timing.processes]}))
        write_whole(run / "record.json", _json(record.as_json()))
        self.observer.stage("save", 0.0)
        return record


def failure(stop: Stop, hint: str = "") -> RunError:
    """What a run that ended with ``stop`` failed of, by its kind and not by its words."""
    if stop.kind == "program":
        return ProgramError(stop.error, stop.traceback)
    return FAILURES[stop.kind](f"{stop.error}{hint}")


def _in_words(stop: Stop, plane: ArrayPlane) -> Stop:
    """``converged`` only where F met its own test; it may also have used its iterations up, or be stuck."""
    optimizer = plane.facts.optimizer
    if stop.reason != "converged" or not hasattr(optimizer, "reason"):
        return stop
    _clock, slot = plane.held[0].versions.current()
    told: str = optimizer.reason(plane.held[0].states[slot].head)
    if "used up" in told:
        return msgspec.structs.replace(stop, reason="max_iter")
    return msgspec.structs.replace(stop, reason=told) if "line search" in told or "not finite" in told else stop


def params_digest(layout: Layout, params: NDArray[Any]) -> str:
    """SHA-256 over the named slices of flat ``params``, in order; the gaps between them do not count."""
    digest = hashlib.sha256()
    for view in layout.views(params).values():
        digest.update(np.ascontiguousarray(view).tobytes())
    return digest.hexdigest()


def _has_checkpoint(run: Path) -> bool:
    try:
        return bool(checkpoints(run))
    except OSError:
        return False


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def final_params(plane: ArrayPlane, agenda: Agenda) -> NDArray[Any]:
    """The kept parameters if there are any better ones than the last, else the last; a copy."""
    if agenda.pace.keep_best and agenda.kept >= 0 and agenda.kept == agenda.best_clock != agenda.clock:
        return plane.arrays.kept.copy()
    plane.read(agenda.clock)
    copied = plane.view().copy()
    plane.release()
    return copied


# --- preparation -----------------------------------------------------------------------------------------------------
def prepare(job: Job, *, looks: bool = True) -> Prepared:
    """Fill in every default and check what can be checked before anything starts."""
    plan = job.plan
    program = job.program.for_data(job.data.spec)
    if plan.consistency not in program.consistencies:
        raise PlanError(f"{program.name} cannot be trained under {plan.consistency}: it allows {program.consistencies}")
    defaults = program.defaults
    optimizer = _optimizer(job, defaults, job.data.spec)
    tables = _tables(job, defaults.valid if job.valid is None and job.optimizer is None else None)
    rows = len(tables["train"])
    full = bool(getattr(optimizer, "needs_full_batch", False))
    batch = _batch_size(job, defaults.batch_size, full=full)
    if plan.lanes > rows:
        raise PlanError(f"lanes={plan.lanes} but only {rows} training rows: lower lanes and workers")
    if batch is not None and batch < plan.lanes:
        raise PlanError(f"batch_size={batch} is less than lanes={plan.lanes}: each lane needs a row a step")
    if plan.combine == "model" and batch is not None:
        batch *= plan.every
    batches = BatchPlan(rows, plan.lanes, batch, job.seed)
    l2 = job.l2 if job.l2 is not None else defaults.l2_per_row / rows
    penalties = (job.l1, l2)
    if plan.combine == "model":
        from trivium.program.averaging import Average, ModelAveraging

        program = ModelAveraging(program, optimizer, plan.every, job.l1, l2)
        optimizer, penalties = Average(), (0.0, 0.0)
    staffing = staff(plan, program, optimizer, ahead=program.xla and not batches.full)
    facts = Facts(
        program,
        optimizer,
        batches,
        plan.lanes,
        staffing.shards,
        len(staffing.members) + 1,
        plan.reproducible,
        plan.thread_count,
        *penalties,
        job.seed,
    )
    pace = _pace(job, facts, tables, full=full, looks=looks)
    sample = _sample(rows, job.seed) if pace.watch == "sample" else None
    return Prepared(facts, tables, sample, pace, staffing, job.stopping.max_time)


def _optimizer(job: Job, defaults: Defaults, spec: DataSpec) -> Optimizer:
    """The job's, or the program's; a full-batch one learns here what only job and data tell."""
    from trivium.program.optimizers.lbfgs import LBFGS
    from trivium.program.optimizers.owlqn import OWLQN
    from trivium.program.optimizers.quasi_newton import QuasiNewton

    optimizer, stopping = job.optimizer or defaults.optimizer, job.stopping
    if not isinstance(optimizer, QuasiNewton):
        if stopping.tol:
            raise PlanError(f"tol={stopping.tol:g}: {optimizer.name} has no test of its own; lbfgs and owlqn have")
        return optimizer
    if job.l1 and isinstance(optimizer, LBFGS):
        if job.optimizer is not None:
            raise PlanError(f"l1={job.l1:g}: lbfgs needs a smooth objective; use owlqn")
        optimizer = OWLQN(optimizer.tol, optimizer.memory, optimizer.ftol)
    most = stopping.max_iter or (defaults.iterations or 100 if stopping.epochs is None else None)
    return replace(
        optimizer,
        tol=optimizer.tol if stopping.tol is None else stopping.tol,
        max_iter=optimizer.max_iter or most,
        precondition=spec.sparse if optimizer.precondition is None else optimizer.precondition,
    )


def _batch_size(job: Job, default: int | None, *, full: bool) -> int | None:
    if job.batch_size == FULL or (job.batch_size is None and full):
        return None
    if isinstance(job.batch_size, int):
        if full:
            raise PlanError(f"batch_size={job.batch_size}: this optimizer needs the full batch at each step")
        return job.batch_size
    return default if default is not None else 256


def _tables(job: Job, default_valid: float | None) -> dict[str, Table]:
    from trivium.data.read import split

    valid = job.valid if job.valid is not None else default_valid
    tables = {"train": job.data}
    if isinstance(valid, Table):
        tables["valid"] = valid
    elif valid:
        tables["train"], tables["valid"] = split(job.data, valid, job.seed)
    if job.test is not None:
        tables["test"] = job.test
    return tables


def _sample(rows: int, seed: int) -> NDArray[np.int64]:
    count = min(rows, SAMPLE_ROWS)
    stream = np.random.Generator(np.random.Philox(key=[seed, 0x5A]))
    return np.sort(stream.choice(rows, count, replace=False)).astype(np.int64)


def _pace(job: Job, facts: Facts, tables: dict[str, Table], *, full: bool, looks: bool) -> Pace:
    stopping, defaults = job.stopping, facts.program.defaults
    steps = facts.batches.steps
    epochs, most = stopping.epochs, stopping.max_iter
    if epochs is None and most is None:
        epochs, most = (None, defaults.iterations or 100) if full else (defaults.epochs or 50, None)
    totals = [] if epochs is None else [(epochs * steps, "epochs")]
    if most is not None and not full:
        totals.append((most, "max_iter"))
    total, why = min(totals) if totals else (None, "max_iter")
    watch = "valid" if "valid" in tables else "sample" if stopping.target_loss is not None else ""
    expected = total if total is not None else (most or 100)
    every = 10 if full else steps
    if stopping.target_loss is not None:
        every = max(1, min(every, expected // CHECKS))
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


def open_run(job: Job, prepared: Prepared) -> RunStore:
    """Make the run directory; UsageError where the run would overwrite something. Leaves nothing where it cannot."""
    from trivium.remembering import describe_data, describe_plan

    run, made = job.out, not job.out.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        if any(run.iterdir()):
            raise UsageError(f"{run} is not empty and nothing is overwritten; give another directory")
    except OSError as error:
        raise StorageError(
            f"cannot make the run directory {run}: {error.strerror}; choose another with -o/--out"
        ) from None
    store = RunStore(run, prepared.facts.shards)
    store.lock()
    try:
        if any(path.name != "lock" for path in run.iterdir()):
            raise UsageError(f"{run} has come into use meanwhile; give another directory")
        store.take_over(0.0, log.info)
        try:
            write_whole(run / "plan.json", _json(describe_plan(job, prepared)))
            write_whole(run / "data.json", _json(describe_data(job, prepared.tables)))
        except BaseException:
            unmake_run(run, folder=made)
            raise
    except BaseException:
        store.unlock()
        raise
    return store


def unmake_run(run: Path, *, folder: bool) -> None:
    """Take back what ``open_run`` made, where nothing came of the run; ``folder``: the directory too."""
    for name in ("plan.json", "data.json", "members", "lock"):
        (run / name).unlink(missing_ok=True)
    if folder:
        with contextlib.suppress(OSError):
            run.rmdir()


class _Teller:
    """Tells the observer and the run's files what happens."""

    def __init__(self, live: Live, prepared: Prepared, began: float) -> None:
        self._live, self._prepared, self._began = live, prepared, began
        self._stage = ""
        self._stage_began = began
        self._notes = self._looks = self._segments = 0
        self._last: Progress | None = None
        self._seen: tuple[float, int, NDArray[np.float64]] | None = None
        self._joined_at = 0.0

    def skip(self, looks: int) -> None:
        """What an earlier life of the run has written already."""
        self._looks = looks

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        if name == self._stage:
            return
        if self._stage:
            self._tell("stage", self._stage, now - self._stage_began)
        self._stage, self._stage_began = name, now
        self._tell("stage", name, None)

    def _tell(self, what: str, *args: Any) -> None:
        try:
            getattr(self._live.observer, what)(*args)
        except Exception:
            log.exception("the observer failed")

    def show(self, host: DriverHost) -> None:
        """About five times a second."""
        driver = host.driver
        if driver.running:
            self.stage("train")
        self._news(host)
        if driver.agenda.clock or host.board.figures[:, boards.APPLIED].any():
            progress, self._seen = progress_of(self._live.job, self._prepared, host, self._seen)
            self._last = progress
            self._tell("progress", progress)

    def _news(self, host: DriverHost) -> None:
        driver, run = host.driver, self._live.job.out
        for note in driver.notes[self._notes :]:
            self._tell("notice", note.text)
            with contextlib.suppress(StorageError):
                append_line(run / "events.jsonl", {"time": time.time(), "kind": "notice", "text": note.text})
        self._notes = len(driver.notes)
        lines = [self._line(one, driver) for one in driver.agenda.history[self._looks :]]
        self._looks = len(driver.agenda.history)
        if lines:
            with contextlib.suppress(OSError), (run / "metrics.jsonl").open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)

    def _line(self, one: Evaluated, driver: Driver) -> dict[str, Any]:
        prefix = "valid" if one.name == "valid" else one.name
        return {
            "seconds": driver.spent.get("Run", 0.0),
            "clock": one.clock,
            "epoch": one.clock / self._prepared.facts.batches.steps,
            "iterations": driver.iterations,
            f"{prefix}_loss": one.loss,
            f"{prefix}_accuracy": one.accuracy if math.isfinite(one.accuracy) else None,
        }

    def close(self, host: DriverHost, node: LocalNode) -> Timing:
        """The last news; figures that must be read before the memory is gone."""
        self._news(host)
        self.stage("save")
        return Timing.read(host, node, self._began)
