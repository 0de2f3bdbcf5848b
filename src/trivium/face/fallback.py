"""Where processes cannot or should not be started: the run is carried out here, in this process, and says so once.

A daemonic process may have no children that outlive it. A worker of joblib, loky or multiprocessing is one of several
that share the cores already: to start more would only crowd them. There a run is inline (``trivium.running.inline``),
whatever its plan's design is; its bits are those of the sequential design with one thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

from trivium.errors import RunError, TriviumError, UsageError
from trivium.plan import Plan
from trivium.record import Observer, Record
from trivium.running.inline import alone, run_inline
from trivium.running.job import Job, prepare, settled
from trivium.running.remembering import open_run, unmake_run, write_result

__all__ = ["HereLive", "InProcess", "run_here", "why_here"]

_warned: set[str] = set()  # once a process


class InProcess(RuntimeWarning):
    """A run was carried out in this process, since it cannot start others."""


def why_here() -> str:
    """Why no process should be started from here; empty where they may.

    >>> why_here()
    ''
    """
    module = sys.modules.get("multiprocessing.process")
    if module is None:
        return ""
    process = module.current_process()
    if process.daemon:
        return "this is a daemonic process"
    if process.name.startswith("LokyProcess"):
        return "this is a worker of joblib"
    return "this is a child of multiprocessing" if module.parent_process() is not None else ""


def warn(why: str, plan: Plan) -> None:
    """Say it, once in a process, where ``plan`` is not what will be done."""
    threads = alone(plan).thread_count
    if why in _warned or (plan.design == "sequential" and plan.thread_count == threads):
        return
    _warned.add(why)
    asked = f"{plan.design!r}" + (f" with {plan.thread_count} threads" if plan.design == "sequential" else "")
    done = "one thread" if threads == 1 else f"{threads} threads"
    warnings.warn(f"{why}: trained in it, by {done}, instead of by design {asked}", InProcess, stacklevel=4)


def run_here(job: Job, observer: Observer | None, why: str, wishes: list[str] | None = None) -> Record:
    """Run ``job`` in this thread, and leave its directory as another run does, without checkpoints."""
    job = settled(replace(job, plan=alone(job.plan), chosen=f"trained in the calling process: {why}"))
    made = not job.folder.exists()
    store = open_run(job, prepare(job))
    try:
        finished = run_inline(job, observer, wishes=wishes)
        write_result(job.folder, job.program.name, finished.layout, finished.params, finished.record)
    except BaseException:
        unmake_run(job.folder, folder=made)
        raise
    finally:
        store.unlock()
    return finished.record


class HereLive:
    """As ``trivium.running.live.Live``, of a run in a thread of this process."""

    def __init__(self, job: Job, observer: Observer | None, why: str) -> None:
        self.job = job
        self.pids: dict[str, int] = {}
        self._wishes: list[str] = []
        self._over = threading.Event()
        self._record: Record | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, args=(observer, why), name="driver", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.job.folder

    def _main(self, observer: Observer | None, why: str) -> None:
        try:
            self._record = run_here(self.job, observer, why, self._wishes)
        except BaseException as error:  # sys.exit too: else nobody would ever hear of it
            self._error = error
        finally:
            self._over.set()

    def wait(self, timeout: float | None = None) -> Record | None:
        """The record once the run is over, None after ``timeout`` seconds; raises what the run failed of."""
        if not self._over.wait(timeout):
            return None
        if self._error is not None:
            raise self._error
        if self._record is None:
            raise RunError(f"{self.path} ended without a record or an error; start it anew")
        return self._record

    def result(self) -> Record:
        """Wait for the end. Ctrl-C stops the run and is raised again."""
        try:
            while True:
                record = self.wait(0.1)
                if record is not None:
                    return record
        except KeyboardInterrupt:
            self.stop("interrupted")
            with contextlib.suppress(TriviumError):
                self.wait(5.0)
            raise

    def stop(self, reason: str = "stopped") -> None:
        """Ask for an orderly end."""
        self._wishes.append(reason)

    def scale(self, workers: int, nodes: int | None = None) -> None:
        """UsageError: there are no processes to be joined."""
        on = "" if nodes is None else f" on nodes={nodes}"
        raise UsageError(f"workers={workers}{on}: this run is trained in the calling process alone")

    def switch(self, consistency: str) -> None:
        """UsageError: one process is always consistent."""
        raise UsageError(f"consistency={consistency!r}: this run is trained in the calling process, and by no ps")

    def kill(self) -> None:
        """Likewise: there is no process to be ended."""
        self.stop("killed")
        self._over.wait(10.0)
