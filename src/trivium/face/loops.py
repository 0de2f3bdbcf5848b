"""``tv.run``: a loop of one's own over row tables, on a parameter server.

    def worker(ctx):
        w = ctx.table("w", rows=2**20, width=1, update="adagrad")
        for batch in ctx.batches(data, 1024):
            w.push(batch.keys, grad(w.pull(batch.keys), batch))
            ctx.clock()
    run = tv.run(worker, plan=tv.Plan("ps", workers=4, consistency="ssp:3"))
    run.tables["w"].pull(keys)

What comes before the loop over batches is run once here, to learn which tables and rows there are: it ends there, by an
exception that the function should let through. See ``trivium.runtime.own_loop`` for what a loop may count on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Table
from trivium.errors import PlanError, StorageError, UsageError
from trivium.face.given import labelled
from trivium.face.training import _followed
from trivium.observe.rundir import new_run
from trivium.observe.showing import showing
from trivium.plan import Plan, Stopping
from trivium.program.mistakes import mistake
from trivium.program.tables import Keys, RowBlock, TableSpec
from trivium.record import Observer, Record
from trivium.running import session as sessions
from trivium.running.job import Job
from trivium.running.live import Live
from trivium.runtime.own_loop import LoopProgram, Worker, known_files
from trivium.runtime.store import Checkpoint, checkpoints

__all__ = ["LoopRun", "TableRows", "run"]

RUNS = Path("runs")
CUTS = 4  # shards of a table for each node: nodes that join have something to take over
AVERAGED = frozenset({"adagrad", "adam", "ftrl", "sgd"})  # updates that take a mean, unless told otherwise


class _Declared(BaseException):
    """The loop over batches was reached: it is no error, what comes before has been said."""


@dataclass
class _Nothing:
    """A table before there is one."""

    name: str

    def pull(self, *_asked: Any) -> NoReturn:
        """There are no rows yet."""
        raise UsageError(f"table {self.name!r}: pull and push inside of the loop over batches, not before it")

    push = pull


@dataclass
class _Declaring:
    """The context of the first run of a function: hears what it asks for."""

    plan: Plan
    seed: int
    given: Any
    epochs: int | None
    worker: int = 0
    epoch: int = 0
    tables: list[TableSpec] = field(default_factory=list)
    means: list[bool] = field(default_factory=list)
    data: Any = None
    batch_size: int | str | None = None
    shuffle: bool = True
    total: int = 1
    nothing: bool = False

    @property
    def workers(self) -> int:
        """As the plan has it."""
        return self.plan.worker_count

    @property
    def rng(self) -> np.random.Generator:
        """Of the seed."""
        return np.random.default_rng(self.seed)

    def table(self, name: str | TableSpec, *, mean: bool | None = None, **options: Any) -> _Nothing:
        """Hear of a table."""
        spec = replace(name, **options) if isinstance(name, TableSpec) else TableSpec(name, **options)
        spec = replace(spec, seed=self.seed)
        if any(one.name == spec.name for one in self.tables):
            raise UsageError(f"table {spec.name!r} is asked for twice; ask once, and keep what you get")
        if mean and spec.dtype == "int64":
            raise PlanError(f"table {spec.name!r}: mean=True with whole numbers; use float64, or leave mean out")
        self.tables.append(spec)
        self.means.append(spec.rule.name in AVERAGED if mean is None else mean)
        return _Nothing(spec.name)

    def batches(
        self, data: Any = None, batch_size: int | str | None = None, *, epochs: int | None = None, shuffle: bool = True
    ) -> NoReturn:
        """Hear of the rows."""
        self.data = self.given if data is None else data
        if self.data is None:
            raise UsageError("ctx.batches: no rows; hand them in as its first argument, or as data= of tv.run")
        self.batch_size = batch_size
        self.shuffle, self.total = shuffle, _whole("epochs", self.epochs or epochs or 1)
        raise _Declared

    def clocks(self, count: int) -> NoReturn:
        """Hear of units without rows."""
        self.nothing, self.total = True, _whole("clocks", count)
        raise _Declared

    def clock(self) -> NoReturn:
        """It is too early."""
        raise UsageError("ctx.clock() comes inside of a loop over ctx.batches(…) or ctx.clocks(…)")

    def report(self, loss: float | None = None, **values: float) -> None:
        """Nobody listens yet."""


def _whole(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PlanError(f"{what}={value!r}: expected a whole number of 1 or more")
    return value


def run(
    worker: Worker,
    *,
    plan: Plan | None = None,
    data: Any = None,
    epochs: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    node_memory: int | None = None,
    max_time: float | None = None,
    resume: bool = False,
    progress: bool | Observer | None = None,
) -> LoopRun:
    """Run ``worker(ctx)`` in each of the plan's workers, over row tables that they share; returns when it is done.

    ``ctx.table(name, rows=None, width=1, dtype="float32", update="adagrad", lr=, l1=, l2=, init="zeros", state=0,
    mean=None)`` gives a table with ``pull(keys)`` and ``push(keys, deltas)``. ``update`` is ``add``, ``sgd``,
    ``adagrad``, ``adam``, ``ftrl`` or a function ``update(row, delta, state, step)``; see ``TableSpec``. What is pushed
    is summed over a clock; with ``mean`` (the default but for ``add`` and functions) it is the sum over the batch's
    rows of weight × gradient, and the update is given its mean.

    ``ctx.batches(data, batch_size, epochs=1, shuffle=True)`` goes over rows, ``batch_size`` of all workers together at
    a clock; ``ctx.clocks(n)`` has none. ``ctx.clock()`` ends a unit. ``ctx.worker``, ``ctx.workers``, ``ctx.epoch``,
    ``ctx.rng``, ``ctx.report(loss=…, name=value)``.

    ``resume``: go on with the run in ``out`` from its newest checkpoint, by the same function on the same rows.
    ``data``, ``epochs``: for a loop that does not say so itself. ``node_memory``: bytes of rows that a node may hold.
    ``plan``: of a parameter server (default: one). Raises PlanError, UsageError or DataError before anything starts;
    ProgramError, with the line, where the function raises; RunError where the run fails.

    >>> import tempfile, trivium as tv
    >>> def count(ctx):
    ...     w = ctx.table("w", rows=100, update="add", dtype="int64")
    ...     for step in ctx.clocks(5):
    ...         w.push([7, 9], [[len(step)], [2 * len(step)]])
    ...         ctx.clock()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tv.run(count, plan=tv.Plan("ps", workers=2), out=f"{folder}/run")
    ...     found.tables["w"].pull([9, 7, 8]).ravel()
    array([80, 40,  0])
    """
    if resume and out is None:
        raise UsageError("resume=True: which run? Give its directory as out")
    job, made = _job(worker, plan or Plan("ps"), data, epochs, seed, out, node_memory, max_time)
    with showing(progress, vars(job.stopping)) as shown:
        live = sessions.resume(job.folder, shown.observer, job) if resume else _begin(job, shown.observer, made)
        record = _followed(live, shown)
        assert isinstance(job.program, LoopProgram)
        done = LoopRun(job.folder, record, job.program)
        shown.done(done)
        return done


def _begin(job: Job, observer: Observer, made: bool) -> Live:
    try:
        return sessions.begin_beside(job, observer)
    except BaseException:
        if made:
            job.folder.rmdir()
        raise


def _job(
    worker: Worker,
    plan: Plan,
    data: Any,
    epochs: int | None,
    seed: int,
    out: Any,
    node_memory: int | None,
    max_time: float | None,
) -> tuple[Job, bool]:
    plan = replace(plan, design="ps") if plan.design == "auto" else plan
    _check_plan(plan)
    if not callable(worker):
        raise UsageError(f"worker is a {type(worker).__name__}; give a function worker(ctx)")
    said = _heard(worker, _Declaring(plan, seed, data, epochs))
    rows = _units(plan.lanes) if said.nothing else labelled(said.data)
    cuts = 1 if plan.nodes == 1 else plan.shards or CUTS * plan.nodes
    program = LoopProgram(
        worker,
        tuple(said.tables),
        tuple(said.means),
        cuts,
        plan.worker_count,
        None if node_memory is None else _whole("node_memory", node_memory),
        said.nothing,
        known_files(worker),
        _shipped(said.data),
    )
    folder = (
        Path(out).absolute() if out is not None else new_run(RUNS.absolute(), f"{_stem(program.name)}-{plan.design}")
    )
    return Job(
        program,
        rows,
        plan,
        out=folder,
        stopping=Stopping(epochs=said.total, max_time=max_time),
        batch_size=said.batch_size if said.batch_size is not None else "full",
        seed=seed,
        shuffle=said.shuffle,
    ), out is None


def _check_plan(plan: Plan) -> None:
    if plan.design != "ps":
        raise PlanError(f"design={plan.design!r}: row tables live on parameter servers; use tv.Plan('ps', workers=…)")
    if plan.filters:
        raise PlanError(f"filters={plan.filters}: rows of tables go as they are (only theirs, keys once); leave it out")
    if plan.combine != "sum":
        raise PlanError(f"combine={plan.combine!r}: what a loop pushes is summed; leave it out")


def _stem(name: str) -> str:
    return "".join(one if one.isalnum() else "-" for one in name).strip("-")


def _heard(worker: Worker, said: _Declaring) -> _Declaring:
    """What ``worker`` asks for before its loop."""
    try:
        worker(said)
    except _Declared:
        if not said.tables:
            raise UsageError("the loop has no table: ask for one by ctx.table(…) before ctx.batches(…)") from None
        return said
    except Exception as error:  # the function is the person's and may raise anything
        if isinstance(error, PlanError | UsageError):
            raise
        raise mistake("what comes before the loop", error, [worker]) from error
    raise UsageError(
        "the function returned without a loop over ctx.batches(…) or ctx.clocks(…): these are its units of work, and "
        "are handed to whichever worker is there"
    )


def _units(lanes: int) -> Table:
    """A row for each lane: what units without rows are counted by."""
    return Table({"x": np.zeros((lanes, 1), np.float32)}, name="units")


def _shipped(data: Any) -> tuple[Any, ...]:
    return (data, *data) if isinstance(data, tuple) else () if data is None or isinstance(data, str) else (data,)


@dataclass(frozen=True)
class TableRows:
    """A table when its run was over: read from the run's directory when it is asked for."""

    spec: TableSpec
    cuts: tuple[tuple[Checkpoint, int], ...]

    def block(self) -> RowBlock:
        """All rows that were pushed to, with state and counts, sorted by key."""
        return RowBlock.merge([RowBlock(**found.rows(shard)) for found, shard in self.cuts])

    def keys(self) -> Keys:
        """The keys of all rows that were pushed to, ascending."""
        return np.sort(np.concatenate([found.rows(shard)["keys"] for found, shard in self.cuts]))

    def __len__(self) -> int:
        return sum(len(found.rows(shard)["keys"]) for found, shard in self.cuts)

    def pull(self, keys: Any) -> NDArray[Any]:
        """The rows of ``keys``, (n, width): as in a worker, also those that nobody pushed to."""
        spec = self.spec
        wanted = spec.checked(keys)
        out = spec.initial.rows(wanted, spec.width, spec.seed, spec.dtype)
        for found, shard in self.cuts:
            held = found.rows(shard)
            at = np.searchsorted(held["keys"], wanted)
            at[at == len(held["keys"])] = 0
            hit = held["keys"][at] == wanted if len(held["keys"]) else np.zeros(len(wanted), bool)
            out[hit] = held["rows"][at[hit], : spec.width]
        return out


class LoopRun:
    """A loop that is over: ``tables`` by name, ``record``, and what it reported."""

    def __init__(self, path: Path, record: Record, program: LoopProgram) -> None:
        self.path, self.record, self.program = path, record, program
        last = next((one for one in reversed(checkpoints(path)) if one.clock == record.clocks), None)
        if last is None:
            raise StorageError(
                f"{path} lacks the checkpoint of clock {record.clocks}, which it ended with; run it anew"
            )
        first, cuts = last.dense, program.cuts
        self.tables: Mapping[str, TableRows] = {
            spec.name: TableRows(spec, tuple((last, first + number * cuts + cut) for cut in range(cuts)))
            for number, spec in enumerate(program.tables)
        }

    def reports(self) -> Iterator[dict[str, Any]]:
        """What ``ctx.report(name=value)`` was told, a worker after the other; a unit computed twice is there twice."""
        for file in sorted(self.path.glob("reports-*.jsonl")):
            yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())

    def __repr__(self) -> str:
        return f"<LoopRun {self.path}: {self.program.name}, tables {', '.join(self.tables)}>"
