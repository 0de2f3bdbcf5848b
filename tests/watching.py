"""What tests of real runs share: an observer that says when a run is in the middle, small jobs, a look at leaks."""

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from trivium.data.read import read
from trivium.data.table import Table
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.record import SilentObserver
from trivium.running.job import Job
from trivium.testing.troubled import Gate, Troubled

BOUND = 60.0  # seconds within which any of these runs must be over


class Watcher(SilentObserver):
    """Remembers what it is told; ``middle`` is set once a clock after ``begun`` is committed."""

    def __init__(self, begun=0):
        self.begun = begun
        self.middle, self.clocks, self.notices, self.suspects = threading.Event(), [], [], []

    def progress(self, progress):
        self.clocks.append(progress.clock)
        self.suspects += progress.suspects
        if progress.clock > self.begun:
            self.middle.set()

    def notice(self, text):
        self.notices.append(text)


def wide_table(rows=240, width=9000):
    """Two classes over more columns than fit in two blocks, so that three shards can be cut."""
    draw = np.random.default_rng(7)
    x = draw.standard_normal((rows, width)).astype(np.float32)
    y = (x[:, :40].sum(axis=1) + draw.standard_normal(rows) > 0).astype(np.int32)
    return Table({"x": x, "y": y}, (0.0, 1.0), name="wide")


def wide_job(out, design="ps", workers=2, **plan):
    """Logistic regression by L-BFGS: F in two steps, up to three shards."""
    stopping = Stopping(max_iter=25, tol=0.0)
    plan = Plan(design, workers=workers, reproducible=True, **plan)
    return Job(model("logistic"), _wide[0], plan, out, stopping=stopping, l2=1e-4)


def network_job(out, design="ps", workers=2, epochs=3, **plan):
    """A network of 64 hidden units by Adam: F is elementwise, 4,810 parameters in two blocks, rows held out."""
    stopping = Stopping(epochs=epochs)
    plan = Plan(design, workers=workers, reproducible=True, **plan)
    return Job(model("mlp:64"), _digits[0], plan, out, valid=0.2, stopping=stopping, optimizer=optimizer("adam"))


def uneven_job(out, design="ps", workers=2, **plan):
    """As ``network_job``, but no two neighbouring lanes read as many rows a step."""
    return replace(network_job(out, design, workers, **plan), batch_size=258)


_wide = [wide_table()]
_digits = [read("sklearn:digits")]


def nodes_job(out, workers=2, nodes=2, epochs=30, **plan):
    """As ``network_job`` on several nodes, with looks that a patience and the kept parameters depend on."""
    job = network_job(out, "ps", workers, epochs, nodes=nodes, checkpoint_every=1.0, **plan)
    return replace(job, batch_size=64, stopping=Stopping(epochs=epochs, patience=epochs))


def strike(session, job, act, after=12, gate=None):
    """Run ``job`` with ``act(live)`` done while its processes wait in the middle; the record, and who watched."""
    gate = Gate(gate or job.out.parent / "gate", after)
    watcher = Watcher()
    with gate.shut():
        live = session.begin(replace(job, program=Troubled(job.program, gate)), watcher)
        try:
            arrived = watcher.middle.wait(BOUND)
            if arrived:
                act(live)
        except BaseException:
            live.kill()
            raise
    if not arrived:
        live.kill()
        live.wait(1.0)
        raise AssertionError("the run never came to its middle")
    return ended(live), watcher


def ended(live):
    """The record of ``live``, within the bound."""
    record = live.wait(BOUND)
    if record is None:
        live.kill()
        raise AssertionError(f"the run was not over within {BOUND} s")
    return record


def until(holds, within=10.0):
    """Whether ``holds()`` comes true in time; asked again and again, since nothing tells us."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            return False
        os.sched_yield()
    return True


def alive(pid):
    """Whether process ``pid`` is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def holdings(pid="self"):
    """What process ``pid`` holds: descriptors, threads, mappings of memory files."""
    root = Path(f"/proc/{pid}")
    fds = []
    for name in (root / "fd").iterdir():
        with contextlib.suppress(OSError):
            fds.append(name.readlink())
    maps = [line for line in (root / "maps").read_text().splitlines() if "memfd:" in line]
    return {"fds": len(fds), "threads": len(list((root / "task").iterdir())), "maps": len(maps)}
