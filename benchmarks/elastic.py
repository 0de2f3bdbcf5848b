"""How long the others pause when workers or nodes join or leave a run of 10 MB of parameters, and where the time goes.

    python -m benchmarks.elastic [--rounds N] [--json FILE]

``mlp:1200,1200`` on 512 inputs has 2.1 million float32 parameters, and SGD a clock for each 64 rows. **gap** is what
counts: the longest time between two clocks that were applied, around the change's terms, by stamps of the optimizer
itself. It contains a usual **clock**. **starting** is the longest between two clocks while the joiner starts and
learns: workers that share cores are slowed by whoever does. Then the parts of the last term, as the driver saw them:
until it is on disk (**recorded**), until all stand, until lanes are placed and leased. **joined** is the whole change,
from the request on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import trivium as tv
from trivium.core.messages import Place, Proceed, Request, Stand, TermRecord
from trivium.core.role import Persist, Send
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers.base import Flat, State, Step
from trivium.program.optimizers.sgd import SGD
from trivium.record import Progress, SilentObserver
from trivium.running.job import Job
from trivium.running.live import Live
from trivium.running.session import Session

STAMP = "<iqd"
MODEL, INPUTS, ROWS, BATCH = "mlp:1200,1200", 512, 4096, 64
BEGUN = 12  # clocks before the request
AFTER = 1.0  # seconds of steps looked at, before the request and after the change
WITHIN = 120.0


class Case(NamedTuple):
    """From so many workers and nodes to so many."""

    workers: int
    nodes: int
    then_workers: int
    then_nodes: int

    def __str__(self) -> str:
        return f"{self.workers}w/{self.nodes}n → {self.then_workers}w/{self.then_nodes}n"


CASES = (Case(1, 1, 2, 1), Case(2, 1, 1, 1), Case(2, 2, 3, 2), Case(3, 2, 2, 2), Case(2, 2, 3, 3), Case(3, 3, 2, 2))


@dataclass(frozen=True)
class Stamped(SGD):
    """SGD, and a line in a file that says which process applied a step of which clock when."""

    path: str = ""
    _files: dict[int, int] = field(default_factory=dict, compare=False)  # by process: it is sent with what it holds

    def update(self, a: Flat, g: Flat, state: State, totals: Any, step: Step, out: Flat, new: State) -> None:
        """Step, then stamp; what is done on trial, before there is a run, is stamped too."""
        super().update(a, g, state, totals, step, out, new)
        pid = os.getpid()
        if pid not in self._files:
            self._files[pid] = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._files[pid], struct.pack(STAMP, pid, step.clock, time.perf_counter()))


@dataclass(frozen=True)
class Scaled:
    """Milliseconds: between two clocks usually; at most while the joiner came; at most around its terms; the parts of
    the last term; and until the change counted.
    """

    clock: float
    starting: float
    gap: float
    recorded: float
    stood: float
    placed: float
    joined: float


class _Middle(SilentObserver):
    def __init__(self) -> None:
        self.reached = threading.Event()

    def progress(self, progress: Progress) -> None:
        if progress.clock > BEGUN:
            self.reached.set()


def _job(case: Case, folder: Path) -> Job:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((ROWS, INPUTS)).astype(np.float32)
    y = (x[:, :32].sum(axis=1) > 0).astype(np.int32)
    plan = Plan("ps", workers=case.workers, nodes=case.nodes, lanes=8, checkpoint_every=1e6)
    optimizer = Stamped(0.01, str(folder / "stamps"))
    stopping = Stopping(epochs=100_000)
    data = tv.from_arrays(x, y)
    return Job(model(MODEL), data, plan, folder / "run", stopping=stopping, optimizer=optimizer, batch_size=BATCH)


def once(case: Case, folder: Path) -> Scaled:
    """One change of one run."""
    middle, trace = _Middle(), list[Any]()
    with Session() as session:
        live = Live(session, _job(case, folder), middle, trace=trace)
        try:
            if not middle.reached.wait(WITHIN):
                live.wait(0.0)  # raises what it failed of
                raise RuntimeError(f"the run in {folder} did not come to clock {BEGUN} in {WITHIN:g} s")
            old = {pid for name, pid in live.pids.items() if name.startswith("server")}
            time.sleep(AFTER)
            asked = time.perf_counter()
            wish = live.scale(case.then_workers, case.then_nodes)
            deadline = asked + WITHIN
            while (came := live.came_of(wish)) is None and time.perf_counter() < deadline:
                middle.reached.clear()
                middle.reached.wait(0.2)
            if came is None or not came.done:
                raise RuntimeError(f"{case}: {came.text if came else 'not done in time'}")
            time.sleep(AFTER)
            live.stop()
            live.result()
        finally:
            live.kill()
    return _measured(_stamps(folder / "stamps", old), trace, asked)


def _stamps(path: Path, pids: set[int]) -> list[float]:
    """When each clock was applied first, by one of ``pids``."""
    content = path.read_bytes()
    stamps = [struct.unpack_from(STAMP, content, at) for at in range(0, len(content), struct.calcsize(STAMP))]
    first: dict[int, float] = {}
    for pid, clock, at in stamps:
        if pid in pids and clock > 1:  # what is done on trial has clock 0 or 1
            first[clock] = min(at, first.get(clock, at))
    return sorted(first.values())


def _measured(stamps: Sequence[float], trace: Sequence[Any], asked: float) -> Scaled:
    terms = _when(trace, lambda one: isinstance(one, Persist) and isinstance(one.record, TermRecord), asked)
    stands, places, leases = ([*_when(trace, _asks(kind), asked)] for kind in (Stand, Place, Proceed))
    changing = [at for at in terms if any(at < lease for lease in leases)][: 2 if len(places) > 2 else 1]
    last = changing[-1]
    stood = next(at for at in stands if at >= last)
    placed = next(at for at in places if at >= last)
    leased = next(at for at in leases if at >= placed)
    first = changing[0]
    return Scaled(
        1e3 * statistics.median(_gaps(stamps, asked - AFTER, asked)),
        1e3 * max(_gaps([at for at in stamps if at < first], asked, first), default=0.0),
        1e3 * max(_gaps(stamps, first, leased)),
        1e3 * (stood - last),
        1e3 * (placed - stood),
        1e3 * (leased - placed),
        1e3 * (leased - asked),
    )


def _gaps(stamps: Sequence[float], start: float, end: float) -> list[float]:
    """The times between neighbouring stamps of which any part lies between ``start`` and ``end``."""
    return [after - at for at, after in pairwise(stamps) if after > start and at < end]


def _asks(kind: type[Any]) -> Any:
    return lambda one: isinstance(one, Send) and isinstance(one.message, Request) and isinstance(one.message.body, kind)


def _when(trace: Sequence[Any], holds: Any, since: float) -> list[float]:
    """The times at which the driver commanded what ``holds``, from ``since`` on."""
    return [now for now, _me, _event, commands in trace if now >= since and any(map(holds, commands))]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    names = list(Scaled.__dataclass_fields__)
    print(f"{'medians, ms':20}" + "".join(f"{name:>10}" for name in names) + f"{'most gap':>10}")
    found = []
    for case in CASES:
        runs = []
        for _ in range(asked.rounds):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(once(case, Path(folder)))
        found += [{**case._asdict(), **asdict(one)} for one in runs]
        medians = [statistics.median(getattr(one, name) for one in runs) for name in names]
        most = max(one.gap for one in runs)
        print(f"{case!s:20}" + "".join(f"{one:>10.1f}" for one in [*medians, most]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
