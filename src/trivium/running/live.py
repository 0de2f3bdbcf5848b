"""A run that goes on in a thread of this process: opened, driven, stopped, and told of at its end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.core.role import Stop
from trivium.errors import RunError, StoppedError, TriviumError, UsageError
from trivium.record import Observer, Record
from trivium.running.ending import failure, final_params, in_words, params_digest
from trivium.running.job import Job, Prepared, prepare, settled
from trivium.running.recalling import needs_trust
from trivium.running.remembering import open_run, unmake_run, write_result
from trivium.running.staffing import RETRY
from trivium.running.starting import first_version
from trivium.running.telling import Teller, Timing, final_record
from trivium.runtime.host import Trace
from trivium.runtime.local import DriverHost, LocalNode
from trivium.runtime.plane import ArrayPlane
from trivium.runtime.pool import Pool
from trivium.runtime.store import Checkpoint, RunStore, checkpoints, drop_after, keep_looks, last_term
from trivium.runtime.warmth import compile_once, is_warm

__all__ = ["Live", "Owner"]

log = logging.getLogger(__name__)


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
    ) -> None:
        job = settled(job)
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
        fresh = not self._saved
        store = self._store or open_run(job, prepared)
        teller = Teller(self.job, self.observer, prepared, began)
        try:
            teller.stage("start")
            if job.chosen:
                teller.notice(job.chosen)
            try:
                node = self._open_node(prepared, store.life)
            except BaseException:
                if fresh:
                    unmake_run(job.folder, folder=made)
                raise
            return self._on_node(node, store, teller)
        except StoppedError:  # before it began
            if fresh:
                unmake_run(job.folder, folder=made)
            raise
        finally:
            teller.end()
            store.unlock()

    def _open_node(self, prepared: Prepared, life: str) -> LocalNode:
        job, plan = self.job, self.job.plan
        pool = self._session.pool(xla=prepared.facts.program.xla, grace=plan.orphan_timeout + 2.0)
        pool.start()
        node = LocalNode(
            pool,
            prepared.staffing.members,
            prepared.facts,
            job.folder.absolute(),  # warm processes may have begun in another folder
            prepared.tables,
            prepared.sample,
            prepared.staffing.spin,
            plan.orphan_timeout,
            life,
            plan.memory_per_worker,
        )
        node.open()
        return node

    def _on_node(self, node: LocalNode, store: RunStore, teller: Teller) -> Record:
        prepared, clean = self._prepared, False
        self._node = node
        try:
            agenda = self._first_version(node, prepared, teller)
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
                stop = in_words(stop, node.plane)
                timing = teller.close(host, node)
            finally:
                host.close()
        finally:
            self._node = None
            node.close(clean=clean)
        self._refuse_killed()
        if stop.error:
            if stop.kind != "stopped":
                teller.failed(stop.error)
            raise failure(stop, self._hint(stop))
        assert params is not None
        return self._finish(prepared, agenda, host, params, timing, stop)

    def _first_version(self, node: LocalNode, prepared: Prepared, teller: Teller) -> Agenda:
        """What a driver decided is in its manifests; what orphans saved later counts as far as that reaches."""
        told = max((one for one in self._saved if one.memory), key=lambda one: one.clock, default=None)
        memory = told.memory if told is not None else b""
        agenda = Agenda.resumed(prepared.pace, memory, [one.clock for one in self._saved])
        chosen = next((one for one in self._saved if one.clock == agenda.clock), None)
        if chosen is None:
            first_version(node.plane, self.job.start)
        else:
            self._restore(node.plane, chosen, told, agenda)
        if self._saved:
            drop_after(self.job.folder, -1 if chosen is None else chosen.clock)
            keep_looks(self.job.folder, agenda.looked)
            teller.notice(f"goes on from clock {agenda.clock}")
        return agenda

    def _restore(self, plane: ArrayPlane, chosen: Checkpoint, told: Checkpoint | None, agenda: Agenda) -> None:
        """Take up ``chosen``, with the kept parameters of ``told``, the newest that a driver's manifest names."""
        saved, layout = chosen.load(), plane.facts.layout
        if saved["a"].shape[-1] != layout.size:
            raise UsageError(
                f"{self.job.folder} was saved with {saved['a'].shape[-1]} parameters, this job has {layout.size}: "
                "resume with the model and data that it was started with"
            )
        if told is not None and told is not chosen:
            saved["kept"] = told.load()["kept"]
        plane.restore(saved, chosen.clock, agenda.kept)

    def _make_host(self, node: LocalNode, store: RunStore, agenda: Agenda, teller: Teller) -> DriverHost:
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
            term=last_term(self.job.folder),
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
        host: DriverHost,
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
