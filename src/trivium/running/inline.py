"""A run in this process and this thread: no processes, no shared memory, no run directory.

``run_inline(job)`` has the bits of the same job on one process by the sequential design (one thread unless the plan
says more). It works in threads, in workers of joblib, in daemonic processes and after a fork. Kernels that XLA compiles
are kept from one run of a thread to the next.
"""

from __future__ import annotations

import logging
import math
import resource
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.core.role import Stop
from trivium.core.spans import IDLE
from trivium.plan import Plan
from trivium.program.params import Layout
from trivium.program.program import Kernel, Program
from trivium.record import KINDS, Observer, ProcessTimes, Progress, Record
from trivium.running.ending import failure, final_params, in_words, last_head, params_digest
from trivium.running.job import Job, Prepared, prepare, settled
from trivium.running.staffing import DRIVER, RETRY
from trivium.running.starting import first_version, saved_of
from trivium.running.telling import Timing, final_record, left
from trivium.runtime.host import Trace
from trivium.runtime.inline import InlineHost, inline_plane
from trivium.runtime.shelf import KernelShelf

__all__ = ["Finished", "alone", "run_inline"]

log = logging.getLogger(__name__)
_kept = threading.local()  # the shelf of each thread: kernels are not thread safe


@dataclass(frozen=True)
class Finished:
    """What came of a run in this process: its record, A as one flat array with its layout, and where to go on from.

    ``saved`` is what ``Job.start`` takes, to go on with the optimizer's state.
    """

    record: Record
    params: NDArray[Any]
    layout: Layout
    saved: dict[str, NDArray[Any]] = field(repr=False)

    @property
    def views(self) -> dict[str, NDArray[Any]]:
        """The parameters by name, in their own shapes."""
        return self.layout.views(self.params)


class _NewKernels(KernelShelf):
    """Keeps nothing: what numba compiled is kept by numba, and to tell programs apart costs more than it saves."""

    def take(self, program: Program, threads: int, rows: int, reproducible: bool, number: int = 0) -> Kernel:  # noqa: ARG002
        """A new one."""
        return program.kernel(threads, rows, reproducible)


def _shelf(program: Program) -> KernelShelf:
    if not program.xla:
        return _NewKernels()
    shelf: KernelShelf | None = getattr(_kept, "shelf", None)
    if shelf is None:
        shelf = _kept.shelf = KernelShelf()
    return shelf


def alone(plan: Plan) -> Plan:
    """``plan`` for one process: sequential, one thread unless it says more; lanes and all that bits depend on stay."""
    if plan.design == "sequential":
        return plan if plan.threads is not None else replace(plan, threads=1)
    threads = (plan.threads or 1) if plan.design == "auto" else 1
    servers: dict[str, Any] = dict.fromkeys(("copies", "balance", "bandwidth"))  # nothing of what only they have
    servers |= {"consistency": "bsp", "nodes": 1, "filters": "", "inject": ()}
    return replace(plan, design="sequential", workers=None, shards=None, threads=threads, pin=False, **servers)


def run_inline(
    job: Job,
    observer: Observer | None = None,
    *,
    looks: bool = True,
    last_look: bool = True,
    trace: Trace | None = None,
    wishes: list[str] | None = None,
) -> Finished:
    """Run ``job`` to its end in this thread; whatever its plan's design is, it is trained as by one process.

    ``looks=False`` evaluates nothing, ``last_look=False`` not at the end: the record's losses are then NaN or None.
    ``wishes``: reasons to stop, which another thread may append to. Raises what a run on processes raises; of an error
    in the person's own code, that error is the cause.

    >>> import numpy as np, trivium as tv
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> job = tv.Job(tv.models.logistic(), tv.from_arrays(x, (x[:, 0] > 0).astype(int)), tv.Plan("sequential"))
    >>> sorted(run_inline(job).views)
    ['b', 'w']
    """
    began = time.perf_counter()
    job = settled(replace(job, plan=alone(job.plan)))
    prepared = prepare(job, looks=looks)
    if not last_look:
        prepared.pace = replace(prepared.pace, last_sets=())
    run = _Inline(job, prepared, observer, began, trace, wishes)
    try:
        return run.finish(run.host.run())
    finally:
        run.close()


class _Inline:
    """One run: its host, and what is told of it."""

    def __init__(
        self,
        job: Job,
        prepared: Prepared,
        observer: Observer | None,
        began: float,
        trace: Trace | None,
        wishes: list[str] | None,
    ) -> None:
        self.job, self.prepared, self.observer, self.began = job, prepared, observer, began
        self._stage, self._stage_began, self._notes = "", began, 0
        self._seen: tuple[float, int] | None = None
        self._tell_stage("start")
        if job.chosen:
            self._tell("notice", job.chosen)
        facts, staffing = prepared.facts, prepared.staffing
        self.shelf = _shelf(facts.program)
        self.plane = inline_plane(facts, 1, tables=prepared.tables, sample=prepared.sample, shelf=self.shelf)
        first_version(self.plane, job.start)
        self.agenda = Agenda(prepared.pace)
        self.driver = Driver(
            DRIVER,
            staffing.roster,
            lanes=facts.lanes,
            shards=1,
            agenda=self.agenda,
            retry=RETRY,
            patience=job.plan.patience,
            names=staffing.names,
            max_time=prepared.max_time,
        )
        show = None if observer is None else self._show
        self.host = InlineHost(self.driver, staffing.members[0].make_role(), self.plane, show=show, trace=trace)
        if wishes is not None:
            self.host.wishes = wishes
        self.started = time.perf_counter()

    def close(self) -> None:
        """Let go of the run's memory."""
        self.plane.close()
        self.shelf.release()

    def finish(self, stop: Stop) -> Finished:
        """The result, or the error, of a run that ended with ``stop``."""
        if stop.error:
            cause = self.host.error
            error = failure(stop)
            if cause is None:
                raise error
            raise error from cause
        self._news()
        self._tell_stage("save")
        stop = in_words(stop, self.prepared.facts.optimizer, last_head(self.plane))
        params = final_params(self.plane, self.agenda)
        layout = self.prepared.facts.layout
        digest = params_digest(layout, params)
        record = final_record(
            self.job, self.prepared, self.agenda, self.driver, params, digest, self._timing(), stop.reason
        )
        saved = saved_of(self.plane, self.agenda.clock)
        self._tell_stage("")
        return Finished(record, params, layout, saved)

    def _timing(self) -> Timing:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds = dict(zip(KINDS, self.host.seconds.tolist(), strict=True))
        total = time.perf_counter() - self.began
        worker = ProcessTimes("worker 0", sum(seconds.values()), seconds, {}, peak)
        return Timing(total, 0.0, 0.0, self.started - self.began, (worker,), peak)

    # -- what is told -------------------------------------------------------------------------------------------------
    def _tell(self, what: str, *args: Any) -> None:
        if self.observer is None:
            return
        try:
            getattr(self.observer, what)(*args)
        except Exception:
            log.exception("the observer failed")

    def _tell_stage(self, name: str) -> None:
        if self.observer is None or name == self._stage:
            return
        now = time.perf_counter()
        if self._stage:
            self._tell("stage", self._stage, now - self._stage_began)
        self._stage, self._stage_began = name, now
        if name:
            self._tell("stage", name, None)

    def _news(self) -> None:
        for note in self.driver.notes[self._notes :]:
            self._tell("notice", note.text)
        self._notes = len(self.driver.notes)

    def _show(self, host: InlineHost) -> None:
        if self.driver.running:
            self._tell_stage("train")
        self._news()
        if host.clock:
            self._tell("progress", self._progress(host))

    def _progress(self, host: InlineHost) -> Progress:
        batches, driver, now = self.prepared.facts.batches, self.driver, time.perf_counter()
        rows = batches.rows_until(host.clock)
        before, self._seen = self._seen, (now, rows)
        speed = (rows - before[1]) / max(now - before[0], 1e-9) if before else 0.0
        spent = driver.spent.get("Run", 0.0) + (now - driver.since if driver.running else 0.0)
        last = self.agenda.history[-1] if self.agenda.history else None
        valid = last if last is not None and last.name == "valid" else None
        _finished, iterations, _rows, weight, loss = host.applied
        return Progress(
            seconds=spent,
            clock=host.clock,
            epoch=host.clock / batches.steps,
            iterations=iterations or host.clock,
            rows=rows,
            rows_per_second=speed,
            loss=loss / weight if weight and math.isfinite(loss) else None,
            valid_loss=valid.loss if valid else None,
            valid_accuracy=valid.accuracy if valid else None,
            busy=(1.0 - host.seconds[IDLE] / max(host.seconds.sum(), 1e-9),),
            seconds_left=left(self.job, self.agenda, host.clock, spent),
        )
