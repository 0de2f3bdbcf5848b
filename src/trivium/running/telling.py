"""From boards and agendas to what people read: ``Progress`` while a run goes on, ``Record`` when it is over.

``Teller`` keeps the observer and the files of the run directory up to date with both. It writes on a thread of its own:
the driver's must not wait for a disk.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.membership import Driver
from trivium.core.messages import Left
from trivium.core.pacing import Agenda, Evaluated
from trivium.core.role import Address
from trivium.core.spans import COMPUTE, READ
from trivium.designs.ps.driver import NodesDriver
from trivium.errors import StorageError
from trivium.plan import Plan
from trivium.record import KINDS, Carried, Observer, ProcessTimes, Progress, Record
from trivium.running.job import Job, Prepared
from trivium.runtime import board as boards
from trivium.runtime.host import Aside
from trivium.runtime.local import DriverHost, LocalNode
from trivium.runtime.nodes_host import NodesHost
from trivium.runtime.store import append_line

__all__ = ["Teller", "Timing", "final_record", "left", "progress_of"]

log = logging.getLogger(__name__)
WRITTEN_WITHIN = 2.0  # seconds that the last lines of a run may take

Seen = tuple[float, int, NDArray[np.float64]]


def progress_of(job: Job, prepared: Prepared, host: DriverHost, seen: Seen | None) -> tuple[Progress, Seen]:
    """The moment as the boards show it, and what the next call compares with."""
    driver, board, batches = host.driver, host.board, prepared.facts.batches
    now = time.perf_counter()
    holder = host.addresses.index(driver.owners[0])
    figures = board.figures[holder]
    clock = max(int(figures[boards.APPLIED]), driver.agenda.clock)
    rows = batches.rows_until(clock)
    busy = board.seconds[1:, READ] + board.seconds[1:, COMPUTE]
    before = seen or (now, rows, busy.copy())
    passed = max(now - before[0], 1e-9)
    workers = [host.addresses.index(worker) - 1 for worker in driver.members.workers]
    spent = driver.spent.get("Run", 0.0) + (now - driver.since if driver.running else 0.0)
    last = driver.agenda.history[-1] if driver.agenda.history else None
    valid = last if last is not None and last.name == "valid" else None
    weight = float(figures[boards.WEIGHT])
    progress = Progress(
        seconds=spent,
        clock=clock,
        epoch=clock / batches.steps,
        iterations=int(figures[boards.ITERATIONS]) if figures[boards.ITERATIONS] else clock,
        rows=rows,
        rows_per_second=(rows - before[1]) / passed if seen else 0.0,
        loss=float(figures[boards.LOSS]) / weight if weight else None,
        valid_loss=valid.loss if valid else None,
        valid_accuracy=valid.accuracy if valid else None,
        busy=tuple(float(min(1.0, max(0.0, (busy[w] - before[2][w]) / passed))) for w in workers),
        seconds_left=left(job, driver.agenda, clock, spent),
        suspects=tuple(host.watch.suspects.values()),
    )
    return progress, (now, rows, busy.copy())


def left(job: Job, agenda: Agenda, clock: int, spent: float) -> float | None:
    """Seconds until the bound that is nearest, None where there is none."""
    ways = []
    done = clock - agenda.began
    if agenda.pace.total is not None and done > 0:
        ways.append(spent / done * (agenda.pace.total - clock))
    if job.stopping.max_time is not None:
        ways.append(max(0.0, job.stopping.max_time - spent))
    return min(ways) if ways else None


@dataclass(frozen=True)
class Timing:
    """Figures read from the boards when a run is over, before its memory is gone."""

    total: float
    load: float
    compile: float
    joined: float
    processes: tuple[ProcessTimes, ...]
    peak_rss: int
    carried: Carried | None = None

    @classmethod
    def read(cls, host: DriverHost, node: LocalNode, began: float) -> Timing:
        """Read ``host``'s board."""
        board, names = host.board, host.driver.names
        reports: Mapping[Address, Left] = host.driver.left if isinstance(host.driver, NodesDriver) else {}
        processes = []
        for index, address in enumerate(host.addresses):
            if address not in names:
                continue  # the driver's own, or a place that nobody took
            seconds = {kind: float(board.seconds[index, k]) for k, kind in enumerate(KINDS)}
            waited = {
                names.get(host.addresses[other], "driver"): float(board.waited[index, other])
                for other in range(len(host.addresses))
                if board.waited[index, other] > 0
            }
            told = reports.get(address)
            if told is not None:
                waited = _whom(waited, {names.get(whom, "driver"): spent for whom, spent in told.waited})
            seat = node.seats[index - 1] if index - 1 < len(node.seats) else None
            rss = _peak_own(seat.pid) if seat is not None else 0
            moved = board.figures[index, [boards.PUSHED, boards.PULLED]] * (len(host.addresses) > 2)  # alone: nowhere
            pushed, pulled = map(int, moved)
            processes.append(
                ProcessTimes(
                    names[address],
                    sum(seconds.values()),
                    seconds,
                    waited,
                    rss,
                    pushed,
                    pulled,
                    told.lags if told is not None else (),
                )
            )
        compiled = max(float(board.words[i, boards.COMPILE_NS]) for i in range(1, len(host.addresses))) * 1e-9
        compiled += node.compile_seconds
        peak = sum(one.peak_rss_bytes for one in processes) + _peak_own(os.getpid()) + node.shared_bytes
        return cls(
            time.perf_counter() - began,
            node.load_seconds,
            compiled,
            host.joined_at - began,
            tuple(processes),
            peak,
            _carried(host),
        )


def _whom(seen: Mapping[str, float], told: Mapping[str, float]) -> dict[str, float]:
    """Waiting by culprit: the board only ``seen`` whose word ended it, a worker ``told`` whose lane was missing.

    >>> _whom({"server 0": 3.0, "driver": 0.5}, {"worker 1": 2.0})
    {'worker 1': 2.0, 'server 0': 1.0, 'driver': 0.5}
    """
    total = sum(told.values())
    most = max(seen, key=lambda name: seen[name], default="")
    if total > seen.get(most, 0.0) > 0:  # rows were read ahead meanwhile
        told = {name: seconds * seen[most] / total for name, seconds in told.items()}
        total = seen[most]
    rest = {name: seconds - total * (name == most) for name, seconds in seen.items()}
    return {name: seconds for name, seconds in {**told, **rest}.items() if seconds > 0}


def _carried(host: DriverHost | NodesHost) -> Carried | None:
    """What went between nodes; None where there is one."""
    if not isinstance(host, NodesHost):
        return None
    all_ = host.crossed_all()
    return Carried(
        {name: sent for name, sent, _plain in all_.kinds},
        {name: plain for name, _sent, plain in all_.kinds},
        all_.nbytes,
        all_.link_seconds,
        all_.cpu_seconds,
    )


def _peak_own(pid: int) -> int:
    """The most bytes that a process had for itself, 0 if it is dead: its peak without what it shares or maps."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    kilobytes = dict.fromkeys(("VmHWM", "RssFile", "RssShmem"), 0)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in kilobytes:
            kilobytes[name] = int(value.split()[0])
    return 1024 * max(0, kilobytes["VmHWM"] - kilobytes["RssFile"] - kilobytes["RssShmem"])


def final_record(
    job: Job,
    prepared: Prepared,
    agenda: Agenda,
    driver: Driver,
    params: NDArray[Any],
    digest: str,
    timing: Timing,
    why: str,
) -> Record:
    """All that is said of a run that ended in order."""
    facts, plan = prepared.facts, job.plan
    batches = facts.batches
    train, valid, test = (agenda.last.get(name) for name in ("train", "valid", "test"))
    if valid is None and agenda.history and agenda.history[-1].name == "valid":
        valid = agenda.history[-1]
    rows = batches.rows_until(agenda.clock) - batches.rows_until(agenda.began)
    seconds = driver.spent.get("Run", 0.0)
    workers = [one for one in timing.processes if one.name.startswith("worker")]
    wall = sum(one.wall for one in workers) or 1.0
    loss = train.loss if train else math.nan
    lags = _lags(timing.processes)
    return Record(
        run="" if job.out is None else str(job.out),
        model=facts.program.name,
        design=plan.design,
        engine="local",
        nodes=plan.nodes,
        workers=plan.worker_count,
        lanes=plan.lanes,
        consistency=plan.consistency,
        rows=batches.rows,
        epochs=agenda.clock / batches.steps,
        iterations=driver.iterations or agenda.clock,
        clocks=agenda.clock,
        seconds=seconds,
        startup_seconds=max(0.0, timing.joined - timing.compile - timing.load),
        compile_seconds=timing.compile,
        load_seconds=timing.load,
        evaluate_seconds=driver.spent.get("Look", 0.0),
        samples_per_second=rows / seconds if seconds > 0 else 0.0,
        objective=loss + penalty(facts, job, params),
        loss=loss,
        train_accuracy=train.accuracy if train else None,
        valid_loss=valid.loss if valid else None,
        valid_accuracy=valid.accuracy if valid else None,
        test_loss=test.loss if test else None,
        test_accuracy=test.accuracy if test else None,
        stopped_by=why,
        best_clock=agenda.best_clock if agenda.pace.keep_best and agenda.best_clock >= 0 else None,
        breakdown={kind: sum(one.seconds[kind] for one in workers) / wall for kind in KINDS},
        bytes={
            "pushed": sum(one.bytes_pushed for one in timing.processes),
            "pulled": sum(one.bytes_pulled for one in timing.processes),
        },
        staleness=_staleness(lags),
        peak_rss_bytes=timing.peak_rss,
        params_sha256=digest,
        reproducible=plan.reproducible,
        threads=plan.thread_count,
        processes=timing.processes,
        history=tuple({"clock": one.clock, f"{one.name}_loss": one.loss} for one in agenda.history),
        notices=((job.chosen,) if job.chosen else ()) + tuple(note.text for note in driver.notes),
        lags=lags,
        dropped=driver.dropped if isinstance(driver, NodesDriver) else 0,
        carried=None if timing.carried is None else replace(timing.carried, filters=_thinned_by(plan)),
    )


def _thinned_by(plan: Plan) -> str:
    """What takes bytes off what goes between nodes, in words."""
    budget = f"a bandwidth of {plan.bandwidth}" if plan.bandwidth else ""
    return " and ".join(one for one in (plan.filters, budget) if one)


def _lags(processes: Iterable[ProcessTimes]) -> tuple[int, ...]:
    """Reads at each staleness, of all processes, to the greatest that there was."""
    sums = [sum(reads) for reads in zip_longest(*(one.lags for one in processes), fillvalue=0)]
    while sums and not sums[-1]:
        sums.pop()
    return tuple(sums)


def _staleness(lags: tuple[int, ...]) -> dict[str, float]:
    """The greatest and the mean, in clocks.

    >>> _staleness((3, 0, 1))
    {'max': 2.0, 'mean': 0.5}
    """
    total = sum(lags)
    return {"max": float(max(0, len(lags) - 1)), "mean": sum(k * reads for k, reads in enumerate(lags)) / (total or 1)}


def penalty(facts: Any, job: Job, params: NDArray[Any]) -> float:
    """l1·‖w‖₁ + (l2/2)·‖w‖₂² over the penalised slices, in float64."""
    l1 = job.l1
    l2 = job.l2 if job.l2 is not None else facts.program.defaults.l2_per_row / facts.batches.rows
    total = 0.0
    for one in facts.layout.slices:
        if one.penalised:
            w = params[one.start : one.stop].astype(np.float64)
            total += l1 * float(np.abs(w).sum()) + 0.5 * l2 * float(w @ w)
    return total


class Teller:
    """Tells the observer and the run's files what happens."""

    def __init__(self, job: Job, observer: Observer, prepared: Prepared, began: float) -> None:
        self._job, self._observer, self._prepared, self._began = job, observer, prepared, began
        self._stage = ""
        self._stage_began = began
        self._notes = self._looks = 0
        self._seen: tuple[float, int, NDArray[np.float64]] | None = None
        self._pen = Aside("pen", self._write, lambda: None)

    def skip(self, looks: int) -> None:
        """What an earlier life of the run has written already."""
        self._looks = looks

    def stage(self, name: str) -> None:
        """The stage ``name`` begins, unless it goes on already."""
        now = time.perf_counter()
        if name == self._stage:
            return
        if self._stage:
            self._tell("stage", self._stage, now - self._stage_began)
        self._stage, self._stage_began = name, now
        self._tell("stage", name, None)

    def _tell(self, what: str, *args: Any) -> None:
        try:
            getattr(self._observer, what)(*args)
        except Exception:
            log.exception("the observer failed")

    def show(self, host: DriverHost) -> None:
        """About five times a second."""
        driver = host.driver
        if driver.running:
            self.stage("train")
        self._news(host)
        if driver.agenda.clock or host.board.figures[:, boards.APPLIED].any():
            progress, self._seen = progress_of(self._job, self._prepared, host, self._seen)
            self._tell("progress", progress)

    def _news(self, host: DriverHost) -> None:
        driver = host.driver
        for note in driver.notes[self._notes :]:
            self.notice(note.text)
        self._notes = len(driver.notes)
        lines = [self._line(one, driver) for one in driver.agenda.history[self._looks :]]
        self._looks = len(driver.agenda.history)
        if lines:
            self._pen.submit(lines)

    def notice(self, text: str) -> None:
        """Something that the person should know."""
        self._tell("notice", text)
        self._event("notice", text)

    def _event(self, kind: str, text: str) -> None:
        self._pen.submit({"time": time.time(), "kind": kind, "text": text})

    def _write(self, what: dict[str, Any] | list[dict[str, Any]]) -> None:
        """On the pen's thread: one event, or lines of metrics. What cannot be written is not missed by the run."""
        run = self._job.folder
        if isinstance(what, dict):
            with contextlib.suppress(StorageError):
                append_line(run / "events.jsonl", what)
        else:
            with contextlib.suppress(OSError), (run / "metrics.jsonl").open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in what)

    def _line(self, one: Evaluated, driver: Driver) -> dict[str, Any]:
        prefix = "valid" if one.name == "valid" else one.name
        return {
            "seconds": driver.spent.get("Run", 0.0),
            "clock": one.clock,
            "epoch": one.clock / self._prepared.facts.batches.steps,
            "iterations": driver.iterations,
            f"{prefix}_loss": one.loss,
            f"{prefix}_accuracy": one.accuracy,
        }

    def close(self, host: DriverHost, node: LocalNode) -> Timing:
        """The last news; figures that must be read before the memory is gone."""
        self._news(host)
        self.stage("save")
        return Timing.read(host, node, self._began)

    def failed(self, text: str) -> None:
        """The run failed of ``text``."""
        self._event("failed", text)

    def end(self) -> None:
        """Nothing more will be told; what was is written, as far as the disk takes it in time."""
        self._pen.close(WRITTEN_WITHIN)
