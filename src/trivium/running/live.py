"""A run that goes on in a thread of this process: opened, driven, stopped, and told of at its end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from trivium.core.pacing import Agenda
from trivium.core.role import Event, ScaleRequested, Stop, SwitchRequested
from trivium.designs.ps.wishes import Came
from trivium.errors import RunError, StoppedError, StorageError, TriviumError, UsageError
from trivium.record import Observer, Record
from trivium.running.consistency import check_consistency
from trivium.running.control import Control
from trivium.running.ending import failure, in_words, params_digest
from trivium.running.job import Job, Prepared, prepare, settled
from trivium.running.recalling import needs_trust
from trivium.running.remembering import open_run, unmake_run, write_result
from trivium.running.sites import Site, open_site
from trivium.running.starting import Begin
from trivium.running.telling import Teller, Timing, final_record
from trivium.runtime.claiming import Claimed
from trivium.runtime.host import Trace
from trivium.runtime.injection import Injections
from trivium.runtime.pool import Pool
from trivium.runtime.store import Checkpoint, RunStore, checkpoints, decided, drop_after, keep_looks, looks_kept
from trivium.runtime.warmth import compile_once, is_warm

__all__ = ["Live", "Owner"]

log = logging.getLogger(__name__)
Asked = TypeVar("Asked", str, Event, ScaleRequested, SwitchRequested)


class Owner(Protocol):
    """Whose processes a run uses: a session."""

    def pool(self, *, xla: bool, grace: float) -> Pool:
        """The processes to be used."""

    def hold(self) -> None:
        """Nobody else may use them from now; UsageError where somebody does."""

    def let_go(self) -> None:
        """They are free again."""


class Live:
    """A run that goes on in a thread of this process."""

    def __init__(
        self,
        session: Owner,
        job: Job,
        observer: Observer,
        saved: tuple[Checkpoint, ...] = (),
        *,
        looks: bool = True,
        trace: Trace | None = None,
        store: RunStore | None = None,
        claimed: Claimed | None = None,
    ) -> None:
        job = settled(job)
        self.job, self.observer = job, observer
        self.trace = trace
        self._session, self._saved, self._looks = session, saved, looks
        self._store = store  # of a run that goes on: locked already
        self._claimed = claimed  # its nodes, where they live and are taken over
        self._host: Any = None
        self._node: Any = None  # LocalNode, or Nodes
        self._wishes: list[str | Event] = []
        self._asks: list[Event] = []  # wishes of other processes, in order
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
        return self.job.folder

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
        if self._record is None:
            raise RunError(f"{self.path} ended without a record or an error; see its events.jsonl, and start it anew")
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
        self._wish(reason)

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
        except BaseException as error:  # sys.exit too: else nobody would ever hear of it
            self._error = error
            if isinstance(error, TriviumError):  # its words say it all; its frames would hold the run's memory
                log.debug("the run failed", exc_info=error)
                self._error = error.with_traceback(None)
                error.__context__ = error.__cause__ = None
        finally:
            self._host = None  # it holds the run's memory
            self._session.let_go()
            self._over.set()

    def _drive(self) -> Record:
        prepared, job = self._prepared, self.job
        began, made = time.perf_counter(), not job.folder.exists()
        fresh = not self._saved and self._claimed is None
        store = self._store or open_run(job, prepared)
        store.slow = Injections.parse(job.plan.inject).disk("driver")
        teller = Teller(self.job, self.observer, prepared, began)
        try:
            teller.stage("start")
            if job.chosen:
                teller.notice(job.chosen)
            try:
                site = open_site(self.job, prepared, store.life, self._session.pool, self._claimed)
            except BaseException:
                if fresh:
                    unmake_run(job.folder, folder=made)
                raise
            return self._on_node(site, store, teller)
        except StoppedError:  # before it began
            if fresh:
                unmake_run(job.folder, folder=made)
            raise
        finally:
            teller.end()
            store.unlock()

    def _on_node(self, site: Site, store: RunStore, teller: Teller) -> Record:
        prepared, job, clean = self._prepared, self.job, False
        try:
            agenda, begin = self._first_version(prepared, teller)
            agenda.began = agenda.clock
            teller.skip(min(len(agenda.history), looks_kept(job.folder)))
            site.begin(begin)
            self._node = site.node
            if self._claimed is None and not is_warm(prepared.facts, prepared.tables["train"]):
                teller.stage("compile")
                began = time.perf_counter()
                compile_once(prepared.facts, site.arrays(), prepared.tables["train"])
                site.node.compile_seconds = time.perf_counter() - began
                teller.stage("start")
            site.launch()
            self._refuse_killed()
            host = self._make_host(site, store, agenda, teller)
            control = self._control(teller)
            try:
                stop = host.run()
                clean = not stop.error and not self._killed
                params = None
                if not stop.error:
                    params, head = site.ending(agenda)
                    stop = in_words(stop, prepared.facts.optimizer, head)
                timing = teller.close(host, site.node)
            finally:
                if control is not None:
                    control.close()
                host.close()
        finally:
            self._node = None
            site.close(clean=clean)
        self._refuse_killed()
        if stop.error:
            if stop.kind != "stopped":
                teller.failed(stop.error)
            raise failure(stop, self._hint(stop))
        assert params is not None
        return self._finish(prepared, agenda, host, params, timing, stop)

    def _first_version(self, prepared: Prepared, teller: Teller) -> tuple[Agenda, Begin]:
        """What a driver decided is in its manifests; what orphans saved later counts as far as that reaches."""
        if self._claimed is not None:
            return self._where_they_stand(prepared, teller)
        told = max((one for one in self._saved if one.memory), key=lambda one: one.clock, default=None)
        memory = told.memory if told is not None else b""
        agenda = Agenda.resumed(prepared.pace, memory, [one.clock for one in self._saved])
        chosen = next((one for one in self._saved if one.clock == agenda.clock), None)
        if self._saved:
            drop_after(self.job.folder, -1 if chosen is None else chosen.clock)
            keep_looks(self.job.folder, agenda.looked)
            teller.notice(f"goes on from clock {agenda.clock}")
        return agenda, Begin(self.job.folder, self.job.start, chosen, told, agenda.kept)

    def _where_they_stand(self, prepared: Prepared, teller: Teller) -> tuple[Agenda, Begin]:
        """Nothing is loaded: the nodes have it, and what the lost driver decided is on disk."""
        agenda = Agenda.followed(prepared.pace, decided(self.job.folder))
        keep_looks(self.job.folder, agenda.looked)
        teller.notice(f"taken over while it lives; after clock {agenda.clock} it goes on from where its nodes stand")
        return agenda, Begin(self.job.folder, self.job.start)

    def _make_host(self, site: Site, store: RunStore, agenda: Agenda, teller: Teller) -> Any:
        host = site.host(store, agenda, show=teller.show, trace=self.trace)
        host.wishes = self._wishes
        self._host = host
        return host

    # -- what others ask of the run -----------------------------------------------------------------------------------
    def scale(self, workers: int, nodes: int | None = None) -> Event:
        """Go on with so many ``workers`` on so many ``nodes`` (None: those that there are): a parameter server only.

        Returns at once, with what ``came_of`` takes; a notice says what comes of it. UsageError where this run cannot.
        """
        plan = self.job.plan
        if plan.design != "ps":
            raise UsageError(f"this run is {plan.design!r}: only a parameter server changes its size; start it with ps")
        if not 1 <= workers <= plan.lanes:
            raise UsageError(f"workers={workers}: from 1 to lanes={plan.lanes}, which never change in a run")
        if plan.nodes == 1 and nodes not in (None, 1):
            raise UsageError(f"nodes={nodes}: a run that began on one node stays on it; start it with nodes=2 or more")
        if nodes is not None and not 1 <= nodes <= workers:
            raise UsageError(f"nodes={nodes} for workers={workers}: each node needs a worker")
        self._refuse_over()
        return self._wish(ScaleRequested(workers, nodes or 0))

    def switch(self, consistency: str) -> Event:
        """Another consistency from the next term on; PlanError where program or optimizer cannot use it."""
        plan = replace(self.job.plan, consistency=consistency)
        facts = self._prepared.facts
        check_consistency(plan, facts.program, facts.optimizer)
        if plan.design != "ps":
            raise UsageError(f"this run is {plan.design!r}: only a parameter server has that; use ps")
        self._refuse_over()
        return self._wish(SwitchRequested(consistency))

    def came_of(self, wish: Event) -> Came | None:
        """What came of a ``scale`` or ``switch``; None while it is under way."""
        host = self._host
        if self._over.is_set() or (host is not None and host.driver.phase in ("leaving", "stopped")):
            return Came(wish, False, "the run is at its end")
        return None if host is None else host.driver.wishes.of(wish)

    def _wish(self, wish: Asked) -> Asked:
        self._wishes.append(wish)
        host = self._host
        if host is not None:
            host.mail.ring(0)
        return wish

    def _control(self, teller: Teller) -> Control | None:
        try:
            return Control(self.job.folder, self._asked)
        except StorageError as error:
            teller.notice(f"nobody else can ask this run for anything: {error}")
            return None

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        """From another process of the same person: see ``control``."""
        kind = request["do"]
        if kind == "scale":
            return self._noted(self.scale(request["workers"], request.get("nodes")))
        if kind == "switch":
            return self._noted(self.switch(request["consistency"]))
        if kind == "stop":
            self.stop()
            return {"told": "asked to stop"}
        return self._status()

    def _noted(self, wish: Event) -> dict[str, Any]:
        """The number of ``wish``: a later ``status`` says what came of it."""
        self._asks.append(wish)
        return {"asked": len(self._asks) - 1}

    def _status(self) -> dict[str, Any]:
        host = self._host
        if host is None:
            return {"phase": "starting"}
        came = {number: self.came_of(wish) for number, wish in enumerate(self._asks)}
        driver = host.driver
        return {
            "phase": driver.phase,
            "clock": driver.agenda.clock,
            "workers": len(driver.members.workers),
            "nodes": len({one.node for one in driver.members.holders}),
            "consistency": str(getattr(driver, "rule", "bsp")),
            "pids": self.pids,
            "came": {str(number): [one.done, one.text] for number, one in came.items() if one is not None},
        }

    def _refuse_over(self) -> None:
        if self._over.is_set():
            raise UsageError(f"{self.path} is over; nothing can be asked of it")

    def _refuse_killed(self) -> None:
        if self._killed:
            raise RunError("the run was killed; nothing was saved since the last checkpoint")

    def _hint(self, stop: Stop) -> str:
        """What to do after ``stop``; nothing where it would happen again."""
        if stop.error.startswith("diverged") or stop.kind == "stopped":
            return ""
        if _has_checkpoint(self.job.folder):
            trust = " --trust" if needs_trust(self.job.folder) else ""
            return f"; to go on from the last checkpoint: trivium resume {self.job.folder}{trust}"
        return "; nothing was saved yet: start it anew"

    def _finish(
        self,
        prepared: Prepared,
        agenda: Agenda,
        host: Any,
        params: NDArray[Any],
        timing: Timing,
        stop: Stop,
    ) -> Record:
        layout = prepared.facts.layout
        digest = params_digest(layout, params)
        record = final_record(self.job, prepared, agenda, host.driver, params, digest, timing, stop.reason)
        write_result(self.job.folder, prepared.facts.program.name, layout, params, record)
        self.observer.stage("save", 0.0)
        return record


def _has_checkpoint(run: Path) -> bool:
    try:
        return bool(checkpoints(run))
    except OSError:
        return False
