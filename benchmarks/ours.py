"""Our own sides of the benchmarks; each case is one function. ``.venv/bin/python -m benchmarks.ours [CASE …]``

What is timed is ``Record.seconds``, the training alone: starting, compiling, loading and evaluating are not in it, as
they are not in the peers'. Where parsing counts, it is added. Processes stay warm from one run to the next.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import measure, optima, workloads
from trivium.data.dataset import Dataset
from trivium.data.read import from_arrays, read
from trivium.data.table import Table
from trivium.plan import Plan, Stopping
from trivium.program.logistic import Logistic
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.program.program import Program
from trivium.record import Record
from trivium.running.job import Job
from trivium.running.session import Session

Found = dict[str, float | str]
WINDOW, WINDOWS = 2.0, 3
ENDLESS = 1_000_000
PASS_BATCH, PASS_RATE = 192, 0.007  # of a small grid, the test accuracy nearest to the peer's


@dataclass
class Bench:
    """A session and a folder that its runs are written to."""

    session: Session
    folder: Path
    runs: int = 0

    def train(
        self, what: str | Program, data: Table | Dataset, plan: Plan, stopping: Stopping, **options: Any
    ) -> Record:
        """One run without validation rows, each in a directory of its own; ``what`` is a program or its name."""
        self.runs += 1
        out = self.folder / f"run-{self.runs}"
        program = model(what) if isinstance(what, str) else what
        return self.session.run(Job(program, data, plan, out, 0.0, stopping=stopping, **options))


def plan_of(design: str, workers: int = 2) -> Plan:
    """Two cores: threads of one process, or workers pinned to them."""
    return Plan("sequential", threads=workers) if design == "sequential" else Plan(design, workers=workers, pin=True)


def mlp(design: str, batch: int, workers: int = 2, reproducible: bool = False) -> Callable[[Bench], Found]:
    """Samples a second of mlp:500 on MNIST; ``batch`` is global."""

    def run(bench: Bench) -> Found:
        data = read(workloads.folder() / "mnist")
        adam = optimizer("adam", lr=1e-3)

        def window(seconds: float) -> Record:
            stopping = Stopping(epochs=ENDLESS, max_time=seconds)
            plan = replace(plan_of(design, workers), reproducible=reproducible)
            return bench.train("mlp:500", data, plan, stopping, optimizer=adam, batch_size=batch)

        window(0.5)
        records = [window(WINDOW) for _ in range(WINDOWS)]
        value = statistics.median(record.samples_per_second for record in records)
        return {"value": value, "unit": "samples/s", **shares(records[-1])}

    return run


def shares(record: Record) -> Found:
    """Where the workers' time went, for the file."""
    return {f"share_{kind}": share for kind, share in record.breakdown.items()}


def reach(bench: Bench, design: str, data: Table, l2: float, goal: float) -> Found:
    """Seconds of the L-BFGS run with the fewest iterations that reach ``goal``."""
    seen: dict[int, Record] = {}

    def fit(iterations: int) -> float:
        lbfgs = optimizer("lbfgs", tol=0.0)
        record = bench.train(
            "logistic", data, plan_of(design), Stopping(max_iter=iterations), optimizer=lbfgs, l2=l2, batch_size="full"
        )
        if iterations not in seen or record.seconds < seen[iterations].seconds:
            seen[iterations] = record
        return record.objective

    needed = measure.least(fit, goal)
    if needed is None:
        return {"unit": "s", "skipped": "never reached the goal"}
    fit(needed)
    best = seen[needed]
    return {
        "value": best.seconds,
        "unit": "s",
        "iterations": best.iterations,
        "of_goal": best.objective / goal,
        **shares(best),
    }


def dense(design: str) -> Callable[[Bench], Found]:
    """500,000 × 54."""

    def run(bench: Bench) -> Found:
        goal = optima.dense_best() * (1 + 1e-5)
        return reach(bench, design, from_arrays(*workloads.dense()), optima.DENSE_L2, goal)

    return run


def imdb(design: str) -> Callable[[Bench], Found]:
    """The reviews, log counts in rows of length 1."""

    def run(bench: Bench) -> Found:
        from scipy.sparse import csr_matrix

        rows = workloads.unit_log_rows(workloads.imdb())
        x = csr_matrix((rows.values, rows.indices, rows.indptr), shape=(len(rows.y), workloads.IMDB_COLUMNS))
        data = from_arrays(x, rows.y.astype(int))
        return reach(bench, design, data, optima.IMDB_L2, optima.imdb_best() * 1.001)

    return run


def imdb_pass(bench: Bench) -> Found:
    """One pass of Adam in small batches over the plain text, parse and training, in one process; float32 as there."""
    paths = [workloads.imdb_text(part) for part in ("train", "test")]
    test = read(paths[1], features=workloads.IMDB_COLUMNS)
    parses, passes = [], []
    for _ in range(WINDOWS):
        began = time.perf_counter()
        data = read(paths[0], features=workloads.IMDB_COLUMNS)
        parses.append(time.perf_counter() - began)
        adam = optimizer("adam", lr=PASS_RATE)
        plan, stopping = plan_of("sequential"), Stopping(epochs=1)
        passes.append(
            bench.train(
                Logistic(dtype="float32"),
                data,
                plan,
                stopping,
                test=test,
                optimizer=adam,
                batch_size=PASS_BATCH,
                l2=0.0,
            )
        )
    whole = [parse + record.seconds for parse, record in zip(parses, passes, strict=True)]
    return {
        "value": statistics.median(whole),
        "unit": "s",
        "parse": statistics.median(parses),
        "test_accuracy": passes[-1].test_accuracy or 0.0,
    }


def null(design: str) -> Callable[[Bench], Found]:
    """Microseconds of a step that computes nothing: one parameter, the same rows at each step."""

    def run(bench: Bench) -> Found:
        data = read("synthetic:64x1")
        found = []
        for seconds in (0.3, *[1.0] * WINDOWS):
            record = bench.train(
                "null", data, plan_of(design), Stopping(epochs=ENDLESS, max_time=seconds), batch_size="full"
            )
            found.append(record.seconds / record.clocks * 1e6)
        return {"value": statistics.median(found[1:]), "unit": "us"}

    return run


def large(design: str) -> Callable[[Bench], Found]:
    """100 MB of parameters: bytes a second that are pushed, and made visible to each worker, by two workers."""

    def run(bench: Bench) -> Found:
        data, size, workers = read("synthetic:64x1"), 25 << 20, 2
        found = []
        for clocks in (5, *[20] * WINDOWS):
            stopping = Stopping(epochs=clocks)
            record = bench.train(f"null:{size}", data, plan_of(design), stopping, batch_size="full")
            found.append(2 * workers * 4 * size * record.clocks / record.seconds)
        return {"value": statistics.median(found[1:]), "unit": "bytes/s"}

    return run


def warm_start(bench: Bench) -> Found:
    """Seconds from asking for a second run in a session to its first step."""
    data, found = read("sklearn:digits"), []
    for _ in range(2 + WINDOWS):
        record = bench.train("mlp:64", data, plan_of("ps"), Stopping(max_iter=2), optimizer=optimizer("adam"))
        found.append(record.startup_seconds + record.compile_seconds + record.load_seconds)
    return {"value": statistics.median(found[2:]), "unit": "s", "cold": found[0]}


CASES: dict[str, Callable[[Bench], Found]] = {
    "mlp-two-allreduce": mlp("allreduce", 256),
    "mlp-two-ps": mlp("ps", 256),
    "mlp-one-allreduce": mlp("allreduce", 256, workers=1),
    "mlp-two-allreduce-reproducible": mlp("allreduce", 256, reproducible=True),
    "mlp-two-ps-reproducible": mlp("ps", 256, reproducible=True),
    "mlp-two-allreduce-1024": mlp("allreduce", 1024),
    "mlp-two-ps-1024": mlp("ps", 1024),
    "mlp-single1-256": mlp("sequential", 256, workers=1),
    "mlp-single-256": mlp("sequential", 256),
    "mlp-single-1024": mlp("sequential", 1024),
    "dense-sequential": dense("sequential"),
    "dense-allreduce": dense("allreduce"),
    "dense-ps": dense("ps"),
    "imdb-sequential": imdb("sequential"),
    "imdb-ps": imdb("ps"),
    "imdb-pass": imdb_pass,
    "null-allreduce": null("allreduce"),
    "null-ps": null("ps"),
    "large-allreduce": large("allreduce"),
    "large-ps": large("ps"),
    "warm-start": warm_start,
}


def main() -> None:
    """Each wanted case in a session of its own."""
    cases: measure.Cases = {}
    for case, run in CASES.items():
        if measure.wanted(case):
            with tempfile.TemporaryDirectory(prefix="trivium-bench-") as folder, Session() as session:
                cases[case] = run(Bench(session, Path(folder)))
    measure.emit("trivium", version("trivium"), cases)


if __name__ == "__main__":
    main()
