"""The face: from data to a trained model in one call, from a run's directory back to its model.

    run = tv.train("mlp:300,100", tv.read("train/*.parquet", label="clicked"), valid=0.1, epochs=20)
    run.metrics; run.report("r.html"); run.predict(x); tv.load(run.path)

Everything that is not said takes the model's own default, as on the command line. ``tv.start`` is ``tv.train`` that
returns at once; ``tv.resume`` goes on with a run that was broken off; ``tv.Session`` keeps processes warm between runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from trivium.errors import TriviumError
from trivium.face.asking import Asked, ask_for, recall_own
from trivium.face.fallback import HereLive, run_here, warn, why_here
from trivium.face.trained import Run
from trivium.observe.showing import Showing, showing
from trivium.plan import Plan
from trivium.program.optimizers.base import Optimizer
from trivium.program.program import Program
from trivium.record import Observer, Record, SilentObserver
from trivium.running import session as sessions
from trivium.running.job import Job, settled

__all__ = ["Session", "Started", "load", "resume", "start", "train"]

Progress = bool | Observer | None


class Going(Protocol):
    """A run that goes on: ``trivium.running.live.Live``, or one in this process."""

    @property
    def path(self) -> Path:
        """The run directory."""

    @property
    def pids(self) -> dict[str, int]:
        """Process numbers by name."""

    def wait(self, timeout: float | None = None) -> Record | None:
        """The record, None if it is not over in time."""

    def result(self) -> Record:
        """The record."""

    def stop(self, reason: str = "stopped") -> None:
        """Ask for an end."""

    def kill(self) -> None:
        """End it now."""

    def scale(self, workers: int, nodes: int | None = None) -> object:
        """Go on with another number of workers."""

    def switch(self, consistency: str) -> object:
        """Go on with another consistency."""


class Started:
    """A run that goes on beside the caller: ``wait``, ``result``, ``scale``, ``switch``, ``stop``, ``kill``."""

    def __init__(self, live: Going, ask: Asked) -> None:
        self._live, self._ask = live, ask

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._live.path

    @property
    def pids(self) -> dict[str, int]:
        """Process numbers by name, once started."""
        return self._live.pids

    def wait(self, timeout: float | None = None) -> Run | None:
        """The run once it is over, None after ``timeout`` seconds; raises what it failed of."""
        record = self._live.wait(timeout)
        return None if record is None else self._ask.trained(record)

    def result(self) -> Run:
        """Wait for the end. Ctrl-C stops the run in order and is raised again."""
        return self._ask.trained(self._live.result())

    def stop(self, reason: str = "stopped") -> None:
        """Ask for a checkpoint and an orderly end; ``tv.resume(path)`` goes on."""
        self._live.stop(reason)

    def kill(self) -> None:
        """End every process now; nothing is saved since the last checkpoint."""
        self._live.kill()

    def scale(self, workers: int, nodes: int | None = None) -> None:
        """Go on with so many ``workers`` in total on so many ``nodes`` (None: as many as now); nothing restarts.

        Who joins is started, warm and has its copies before it counts, so that the others pause for milliseconds; under
        ``reproducible`` the bits stay those of a run that was never scaled. Returns at once: a notice of the run says
        what came of it, also where a joiner died before it counted and the change was called off.

        Raises UsageError where this run cannot: of another design than ``ps``, more workers than lanes, fewer workers
        than nodes, several nodes in a run that began on one, or a run that is over.

        Harlap et al., *Proteus* (EuroSys 2017) on what elasticity is worth.

        >>> import tempfile, trivium as tv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plan = tv.Plan("ps", workers=1, lanes=2)
        ...     run = tv.start("mlp:8", "sklearn:digits", epochs=3, plan=plan, out=folder + "/a")
        ...     try:
        ...         run.scale(3)
        ...     except tv.errors.UsageError as error:
        ...         print(error)
        ...     epochs = run.result().record.epochs
        workers=3: from 1 to lanes=2, which never change in a run
        """
        self._live.scale(workers, nodes)

    def switch(self, consistency: str) -> None:
        """Another consistency ("bsp", "ssp:3", …) from the next boundary at which all lanes are at one clock.

        Returns at once; a notice of the run says from which clock on. Raises PlanError where program or optimizer
        cannot use it, UsageError for another design than ``ps``, or a run that is over.
        """
        self._live.switch(consistency)

    def __repr__(self) -> str:
        return f"<Started {self.path}>"


class Session(sessions.Session):
    """Warm processes for several runs: ``with tv.Session(workers=2) as s: s.train(…)``.

    ``workers``: of runs that say nothing of their plan, by design ``ps``.
    """

    def __init__(self, workers: int | None = None) -> None:
        super().__init__()
        self._plan = Plan() if workers is None else Plan("ps", workers=workers)

    def train(
        self,
        model: Program | str,
        data: Any,
        *,
        valid: Any = None,
        test: Any = None,
        epochs: int | None = None,
        batch_size: int | str | None = None,
        batch_per_worker: int | None = None,
        max_iter: int | None = None,
        max_time: float | None = None,
        tol: float | None = None,
        target_loss: float | None = None,
        patience: int | None = None,
        optimizer: Optimizer | str | None = None,
        lr: Any = None,
        l1: float = 0.0,
        l2: float | None = None,
        seed: int = 0,
        plan: Plan | None = None,
        out: str | os.PathLike[str] | None = None,
        metrics: Iterable[str] | str = (),
        progress: Progress = None,
    ) -> Run:
        """See ``trivium.train``."""
        asked = {name: value for name, value in locals().items() if name not in ("self", "progress", "__class__")}
        return _train(self, ask_for(self._plan, **asked), progress)

    def start(self, model: Program | str, data: Any, *, progress: Progress = False, **asked: Any) -> Started:
        """See ``trivium.start``."""
        return _start(self, ask_for(self._plan, model=model, data=data, **asked), progress)

    def resume(self, path: str | os.PathLike[str], *, progress: Progress = None, trust: bool = False) -> Run:
        """See ``trivium.resume``."""
        return _resume(self, Path(path).absolute(), progress, trust)


def train(
    model: Program | str,
    data: Any,
    *,
    valid: Any = None,
    test: Any = None,
    epochs: int | None = None,
    batch_size: int | str | None = None,
    batch_per_worker: int | None = None,
    max_iter: int | None = None,
    max_time: float | None = None,
    tol: float | None = None,
    target_loss: float | None = None,
    patience: int | None = None,
    optimizer: Optimizer | str | None = None,
    lr: Any = None,
    l1: float = 0.0,
    l2: float | None = None,
    seed: int = 0,
    plan: Plan | None = None,
    out: str | os.PathLike[str] | None = None,
    metrics: Iterable[str] | str = (),
    progress: Progress = None,
) -> Run:
    """Train ``model`` on ``data``; returns when it is done. Ctrl-C ends it in order, so that ``tv.resume`` can go on.

    ``model``: a program (``tv.models.mlp(300, 100)``, one of your own), or its name as on the command line.
    ``data``, ``test``: ``tv.read(…)``, a table, a path, or ``(x, y)``; ``valid`` likewise, or a share of ``data``.
    ``batch_size`` is global, rows a step over all workers ("full": all rows); ``batch_per_worker`` is the other way to
    say it. ``epochs``, ``max_iter``, ``max_time`` (seconds), ``tol``, ``target_loss``, ``patience``: see
    ``tv.Stopping``. ``optimizer``: ``tv.optim.adam(1e-3)`` or a name; ``lr`` its rate. Objective: mean loss
    + l1·‖w‖₁ + (l2/2)·‖w‖₂². ``plan``: where it is trained (default: ``tv.Plan()``, which chooses). ``out``: the run
    directory (default: ``runs/MODEL-DESIGN-NNNN``). ``metrics``: further ones on ``valid`` and ``test`` rows.
    ``progress``: False for none, True for lines, an observer of your own; by default it is shown on a terminal and in
    a notebook.

    Raises UsageError, PlanError or DataError before anything is started, RunError where the run fails.

    >>> import tempfile, trivium as tv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plan = tv.Plan("sequential")
    ...     run = tv.train("mlp:8", "sklearn:digits", epochs=3, valid=0.2, plan=plan, out=folder + "/a")
    >>> run.record.epochs, run.record.design
    (3.0, 'sequential')
    """
    asked = {name: value for name, value in locals().items() if name != "progress"}
    return _train(None, ask_for(Plan(), **asked), progress)


def start(model: Program | str, data: Any, *, progress: Progress = False, **asked: Any) -> Started:
    """As ``train``, but returns at once: ``wait``, ``stop`` or ``kill`` what is returned. Silent unless told."""
    return _start(None, ask_for(Plan(), model=model, data=data, **asked), progress)


def resume(
    path: str | os.PathLike[str], *, progress: Progress = None, trust: bool = False, job: Job | None = None
) -> Run:
    """Go on from the newest checkpoint of the run in ``path``; returns when it is done.

    ``job`` is needed where the data did not come from files; ``trust=True`` where the program is one's own, whose code
    is run: kept as a pickle, or in a file or module that the directory names.
    """
    return _resume(None, Path(path).absolute(), progress, trust, job)


def load(path: str | os.PathLike[str], *, trust: bool = False) -> Run:
    """The run in the directory ``path``, with its model; UsageError where it did not finish.

    A program of one's own is kept as a pickle, or by the name of the file or module that it came from. Either runs code
    as it is read, whatever the directory says: that needs ``trust=True``.
    """
    return Run.load(Path(path).absolute(), trust=trust)


# -- from a job to a run -----------------------------------------------------------------------------------------------
def _train(session: sessions.Session | None, ask: Asked, progress: Progress) -> Run:
    why = why_here()
    with showing(progress, vars(ask.job.stopping)) as shown:
        if why:
            warn(why, ask.job.plan)
            return _finished(ask, run_here(ask.job, shown.observer, why), shown)
        return _finished(ask, _followed(_begin(session, ask, shown.observer), shown), shown)


def _finished(ask: Asked, record: Record, shown: Showing) -> Run:
    run = ask.trained(record)
    shown.done(run)
    return run


def _begin(session: sessions.Session | None, ask: Asked, observer: Observer) -> Going:
    try:
        return sessions.begin_beside(ask.job, observer) if session is None else session.begin(ask.job, observer)
    except BaseException:
        ask.tidy()
        raise


def _followed(live: Going, shown: Showing) -> Record:
    """Wait for the end, and let what is shown be drawn from this thread."""
    try:
        while True:
            record = live.wait(0.1)
            shown.draw()
            if record is not None:
                return record
    except KeyboardInterrupt:
        live.stop("interrupted")
        with contextlib.suppress(TriviumError):
            live.wait(5.0)
        live.kill()
        raise


def _start(session: sessions.Session | None, ask: Asked, progress: Progress) -> Started:
    observer: Observer = progress if progress not in (None, True, False) else SilentObserver()  # type: ignore[assignment]
    why = why_here()
    if why:
        warn(why, ask.job.plan)
        return Started(HereLive(ask.job, observer, why), ask)
    return Started(_begin(session, ask, observer), ask)


def _resume(
    session: sessions.Session | None, path: Path, progress: Progress, trust: bool, job: Job | None = None
) -> Run:
    from trivium.running.remembering import remembered_job

    held = settled(job if job is not None else remembered_job(path, trust=trust))
    with showing(progress, vars(held.stopping)) as shown:
        live = sessions.resume(path, shown.observer, held, session=session)
        record = _followed(live, shown)
        run = Run(path, recall_own(path, held), record)
        shown.done(run)
        return run
