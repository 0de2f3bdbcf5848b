"""How long a parameter server takes from ``kill -9`` of a primary to the next applied push, and where the time goes.

    python -m benchmarks.failover [--rounds N] [--nodes N] [--rule RULE] [--json FILE]

Two copies of each shard, the node of shard 0's primary is killed in the middle of a run that counts rows; at the end
every row must have been counted exactly as often as it was handed in. What is timed: **detection** (the driver's role
hears of it), **term** (it is on disk, all stand, all are placed), **first step** (the first F at a survivor under the
new term). All clocks are this machine's monotonic one. Beside us: Li et al. (OSDI 2014, *Scaling distributed machine
learning with the parameter server*) report 0.8 s to recover a node.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trivium.core.messages import Place, Proceed, Request, Stand
from trivium.core.role import Address, PeerLost, Send
from trivium.program.null import Total
from trivium.program.optimizers.base import Flat, State, Step
from trivium.record import Progress, SilentObserver
from trivium.running.live import Live
from trivium.running.session import Session
from trivium.testing.tally import counters, miscounted, tally_job

STAMP = "<id"
BEGUN = 40  # clocks before the kill
EPOCHS = 120
WITHIN = 30.0  # seconds to that


@dataclass(frozen=True)
class Stamped(Total):
    """A + Σ, and a line in a file that says which process did it when."""

    path: str = ""
    _files: dict[int, int] = field(default_factory=dict, compare=False)  # by process: it is sent with what it holds

    def update(self, a: Flat, g: Flat, state: State, totals: Any, step: Step, out: Flat, new: State) -> None:
        """Add, then stamp; what is done on trial, before there is a run, is stamped too."""
        super().update(a, g, state, totals, step, out, new)
        pid = os.getpid()
        if pid not in self._files:
            self._files[pid] = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._files[pid], struct.pack(STAMP, pid, time.perf_counter()))


@dataclass(frozen=True)
class Failover:
    """Seconds after the kill of one run at which each thing had happened."""

    detected: float
    recorded: float
    stood: float
    placed: float
    stepped: float
    wrong: str


class _Middle(SilentObserver):
    def __init__(self) -> None:
        self.reached = threading.Event()

    def progress(self, progress: Progress) -> None:
        if progress.clock > BEGUN:
            self.reached.set()


def once(rule: str, nodes: int, folder: Path) -> Failover:
    """Kill a primary's node in one run."""
    job = tally_job(folder / "run", rule, workers=2 * nodes, nodes=nodes, epochs=EPOCHS, seconds=0.0)
    job = replace(job, optimizer=Stamped(str(folder / "stamps")))
    middle, trace = _Middle(), list[Any]()
    with Session() as session:
        live = Live(session, job, middle, trace=trace)
        if not middle.reached.wait(WITHIN):
            live.wait(0.0)  # raises what it failed of
            live.kill()
            raise RuntimeError(f"the run in {folder} did not come to clock {BEGUN} in {WITHIN:g} s")
        victim = live.pids["server 0"]
        killed = time.perf_counter()
        os.killpg(victim, signal.SIGKILL)
        live.result()
    content = (folder / "stamps").read_bytes()
    stamps = [struct.unpack_from(STAMP, content, at) for at in range(0, len(content), struct.calcsize(STAMP))]
    detected = next(now for now, _me, event, _ in trace if isinstance(event, PeerLost) and now > killed)
    stand, place, proceed = (_asked(trace, kind, detected) for kind in (Stand, Place, Proceed))
    stepped = min(at for pid, at in stamps if pid != victim and at > proceed)
    wrong = miscounted(counters(folder / "run"), EPOCHS)
    after = [at - killed for at in (detected, stand, place, proceed, stepped)]
    return Failover(after[0], after[1], after[2], after[3], after[4], wrong)


def _asked(trace: Sequence[tuple[float, Address, Any, Sequence[Any]]], kind: type[Any], since: float) -> float:
    """When the driver first sent a request of ``kind`` from ``since`` on."""
    return next(
        now
        for now, _me, _event, commands in trace
        if now >= since
        and any(
            isinstance(one, Send) and isinstance(one.message, Request) and isinstance(one.message.body, kind)
            for one in commands
        )
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--rule", nargs="+", default=["bsp", "ssp:3"])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    print(
        f"{'':11}{'rounds':>7}{'detected':>10}{'recorded':>10}{'stood':>8}{'placed':>8}{'first step':>11}{'most':>8} ms"
    )
    found = []
    for nodes in asked.nodes:
        for rule in asked.rule:
            with tempfile.TemporaryDirectory() as folder:
                places = [Path(folder) / str(number) for number in range(asked.rounds)]
                for place in places:
                    place.mkdir()
                runs = [once(rule, nodes, place) for place in places]
            found += [{"rule": rule, "nodes": nodes, **asdict(one)} for one in runs]
            columns = [
                1e3 * statistics.median(getattr(one, name) for one in runs)
                for name in ("detected", "recorded", "stood", "placed", "stepped")
            ]
            most = 1e3 * max(one.stepped for one in runs)
            wrong = "; ".join(one.wrong for one in runs if one.wrong)
            shown = "".join(f"{value:>{width}.1f}" for value, width in zip(columns, (10, 10, 8, 8, 12), strict=True))
            print(f"{rule + f' {nodes} nodes':12}{len(runs):>7}{shown}{most:>8.1f}  {wrong or 'exact'}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
