"""A loop of one's own as a program: what it declares, and the context that its function is handed in a worker.

    def worker(ctx):
        w = ctx.table("w", rows=2**20, width=1, update="adagrad")
        for batch in ctx.batches(data, 1024):
            w.push(batch.keys, grad(w.pull(batch.keys), batch)); ctx.clock()

Rules
-----
* The function runs in a thread of its own. A **unit** is what it does between two calls of ``clock``: the rows of some
  lanes at one clock. Units are handed in by the protocol, so lanes move and are computed again as those of any program;
  what is pushed in a unit is summed, and admitted once for each lane, clock and shard.
* So a unit must follow from its batch and from what is pulled. What the function keeps for itself is its own affair: it
  is neither saved nor moved, and each worker has its own.
* A push is seen from the next clock on, by others as the plan's consistency says.
* What comes before the loop is run once in the process that called ``tv.run`` as well: there it is learned which tables
  and rows there are.

Prior art: Wei et al., *Managed communication and consistency for fast data-parallel iterative analytics*, SoCC 2015
(Bösen's tables and ``clock``); Chen et al., *MXNet*, 2015 (KVStore).
"""

from __future__ import annotations

import io
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from types import CellType, CodeType, FunctionType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.data.batches import BatchPlan, LaneReader
from trivium.data.table import DataSpec
from trivium.errors import UsageError
from trivium.program.mistakes import files_of, mistake
from trivium.program.null import Count, Total
from trivium.program.program import Defaults, Kernel, Program
from trivium.program.tables import Keys, TableSpec
from trivium.runtime.own_loop_units import LoopBatch, LoopTable, Pushed, Unit

__all__ = ["Context", "Loop", "LoopProgram", "Worker", "known_files"]

log = logging.getLogger(__name__)
Flat = NDArray[Any]
Worker = Callable[[Any], object]
TAIL_WITHIN = 10.0  # seconds for what a function does after its last batch


@final
@dataclass(frozen=True)
class LoopProgram(Program):
    """``function`` with its tables; ``cuts`` shards of each, ``limit`` bytes of rows a node may hold.

    The dense part of A counts the rows that were gone over. ``shipped`` are objects whose rows reach the workers by
    another road: they are left out where the function is sent.
    """

    function: Worker
    tables: tuple[TableSpec, ...]
    means: tuple[bool, ...]
    cuts: int
    workers: int
    limit: int | None = None
    nothing: bool = False  # whether units have no rows, but lanes alone
    known: tuple[tuple[str, str], ...] = ()
    shipped: tuple[Any, ...] = field(default=(), compare=False)

    evaluates = False

    @property
    def name(self) -> str:
        """``loop:`` and the function's name."""
        return f"loop:{getattr(self.function, '__name__', 'function')}"

    @property
    def row_shards(self) -> int:
        """Shards of all tables."""
        return self.cuts * len(self.tables)

    @property
    def defaults(self) -> Defaults:
        """Sums; whatever else is said by the function."""
        return Defaults(Total(), batch_size=None, epochs=1, iterations=None)

    def for_data(self, spec: DataSpec) -> LoopProgram:  # noqa: ARG002 - the function makes of them what it likes
        """Itself."""
        return self

    @property
    def layout(self) -> Any:
        """One number: the rows that were gone over."""
        return Count().layout

    def init(self, seed: int) -> Flat:  # noqa: ARG002 - nothing is random
        """Zero."""
        return self.layout.empty()  # type: ignore[no-any-return]

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Counts rows."""
        return Count().kernel(threads, rows, reproducible)

    def __getstate__(self) -> dict[str, Any]:
        held = dict(self.__dict__)
        held["function"], held["shipped"] = _sent(self.function, held["shipped"]), ()
        return held

    def __setstate__(self, held: dict[str, Any]) -> None:
        if isinstance(held["function"], bytes):
            held["function"] = pickle.loads(held["function"])  # noqa: S301 - part of a launch, see ``child``
        self.__dict__.update(held)


class RowsElsewhere:
    """What stands in a sent function for the rows of its run: their shape is known, they come by ``ctx.batches``."""

    def __init__(self, known: dict[str, Any], count: int) -> None:
        self.__dict__.update(known)
        self._count = count

    @classmethod
    def of(cls, rows: Any) -> tuple[dict[str, Any], int]:
        """What is known of ``rows``."""
        known = {name: getattr(rows, name) for name in ("spec", "shape", "dtype", "name") if hasattr(rows, name)}
        return known, len(rows) if hasattr(rows, "__len__") else 0

    def __len__(self) -> int:
        return self._count

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(f"{name!r} of the rows of this run: a worker has them by ctx.batches alone, a batch at a time")


def _sent(function: Worker, shipped: tuple[Any, ...]) -> bytes:
    """``function`` by value, without what is ``shipped``."""
    import cloudpickle

    class Sender(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, obj: Any) -> Any:
            if any(obj is one for one in shipped):
                return RowsElsewhere, RowsElsewhere.of(obj)
            return super().reducer_override(obj)

    held = io.BytesIO()
    Sender(held, protocol=pickle.HIGHEST_PROTOCOL).dump(function)
    return held.getvalue()


class Context:
    """What the function is handed: tables, batches, the clock, and who it is."""

    def __init__(self, loop: Loop, worker: int) -> None:
        self._loop, self.worker = loop, worker
        self._iterated = False

    @property
    def workers(self) -> int:
        """Workers that the run began with."""
        return self._loop.program.workers

    def table(self, name: str | TableSpec, **options: Any) -> LoopTable:  # noqa: ARG002 - they were declared
        """The table ``name``: see ``trivium.run`` for its options."""
        loop, name = self._loop, name.name if isinstance(name, TableSpec) else name
        for number, spec in enumerate(loop.program.tables):
            if spec.name == name:
                return LoopTable(spec, partial(loop.pull, number), partial(loop.give, number))
        raise UsageError(
            f"table {name!r} was not asked for before the loop over batches; ask there for all, the same in each worker"
        )

    def batches(self, data: Any = None, batch_size: Any = None, **options: Any) -> Iterator[LoopBatch]:  # noqa: ARG002
        """The batches of this worker's lanes, until the run ends: see ``trivium.run``."""
        return self._units()

    def clocks(self, count: int) -> Iterator[LoopBatch]:  # noqa: ARG002 - it was declared
        """Units without rows, ``count`` for each lane; the length of each is how many lanes it stands for."""
        return self._units()

    def _units(self) -> Iterator[LoopBatch]:
        if self._iterated:
            raise UsageError("one loop over batches makes a run; go over the rows several times by epochs=")
        self._iterated = True
        return self._loop.units()

    def clock(self) -> None:
        """End the unit: what it pushed goes out. Waits until the next one may begin, or the run is over."""
        self._loop.clock()

    @property
    def epoch(self) -> int:
        """Passes over the rows before this unit's."""
        return self._loop.epoch

    @property
    def rng(self) -> np.random.Generator:
        """A stream of this unit's own: the same whoever computes it, and when."""
        return self._loop.stream()

    def report(self, loss: float | None = None, **values: float) -> None:
        """The mean ``loss`` of the unit's rows, shown while the run goes on; ``values`` are kept in the run's files."""
        self._loop.report(loss, values)


class Loop:
    """Runs the function in its thread, a unit at a time; ``run`` is called by whoever carries ``Gradient`` out.

    ``pull`` reads rows of a table by its number.
    """

    def __init__(
        self,
        program: LoopProgram,
        batches: BatchPlan,
        reader: LaneReader,
        worker: int,
        pull: Callable[[int, Keys], Flat],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self.program, self.pull = program, pull
        self._batches, self._reader, self._worker, self._tell = batches, reader, worker, tell
        self._go: SimpleQueue[None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()  # both but wake: quicker than a semaphore
        self._thread: threading.Thread | None = None
        self._unit: Unit | None = None
        self._batch: LoopBatch | None = None  # of the unit, once the function has it
        self._pushed = Pushed()
        self._error: BaseException | None = None
        self._returned = self._ended = False

    # -- for the plane ------------------------------------------------------------------------------------------------
    def run(self, part: Part, clock: int) -> Pushed:
        """One unit, from its batch to ``clock``; raises ProgramError where the function does."""
        if self._error is not None:
            raise self._error
        self._pushed, self._batch = Pushed(), None
        if self._returned:
            return self._pushed
        self._unit = Unit(part, clock, self._reader.batch(range(*part), clock))
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="loop", daemon=True)
            self._thread.start()
        else:
            self._go.put(None)
        self._done.get()
        if self._error is not None:
            raise self._error
        return self._pushed

    def end(self, within: float = TAIL_WITHIN) -> None:
        """Nothing more will come: let the function go on after its loop, for so many seconds at most."""
        if self._thread is None or self._returned:
            return
        self._ended = True
        self._go.put(None)
        self._thread.join(within)

    # -- the function's thread ----------------------------------------------------------------------------------------
    def _main(self) -> None:
        program = self.program
        try:
            program.function(Context(self, self._worker))
        except BaseException as error:  # the function is the person's and may raise anything
            if self._ended:
                log.warning("worker %d: after its last batch: %s: %s", self._worker, type(error).__name__, error)
            else:
                self._error = self._mistake(error)
        self._returned = True
        if not self._ended:
            self._done.put(None)

    def _mistake(self, error: BaseException) -> BaseException:
        unit = self._unit
        at = "" if unit is None else f" at clock {unit.clock}, lanes {unit.part.lo} to {unit.part.hi - 1},"
        known = dict(self.program.known)
        found = mistake(f"the loop{at}", error, [self.program.function], known=known)
        found.__cause__ = error
        return found

    def units(self) -> Iterator[LoopBatch]:
        """The batch of each unit."""
        while True:
            if self._batch is not None:
                self._finish()  # a loop that leaves the clock to its batches
            unit = self._unit
            if self._ended or unit is None:
                return
            self._batch = LoopBatch(unit, self.epoch, self.program.nothing)
            yield self._batch

    def clock(self) -> None:
        """The unit is done."""
        if self._batch is None:
            raise UsageError(
                "ctx.clock() with no batch before it: call it once for each batch, inside of `for batch in "
                "ctx.batches(…)` or `for step in ctx.clocks(…)`"
            )
        self._finish()

    def _finish(self) -> None:
        assert self._batch is not None
        self._count(self._batch)
        self._batch = self._unit = None
        self._done.put(None)
        self._go.get()

    def _count(self, batch: LoopBatch) -> None:
        pushed = self._pushed
        pushed.rows, pushed.weight = float(len(batch)), batch.weight
        pushed.loss *= pushed.weight

    def give(self, table: int, keys: Keys, rows: Flat) -> None:
        """Add to what the unit pushes."""
        if self._ended or self._unit is None:
            raise UsageError("a push after the run's last clock reaches nobody; push inside of the loop over batches")
        self._pushed.tables.setdefault(table, []).append((keys, rows))

    @property
    def epoch(self) -> int:
        """Of the unit."""
        return 0 if self._unit is None else self._unit.clock // self._batches.steps

    def stream(self) -> np.random.Generator:
        """Seeded by the unit."""
        unit = self._unit
        key = self._batches.key(unit.part.lo, unit.clock) if unit is not None else self._batches.seed
        return np.random.Generator(np.random.Philox(key=[key, 0x100F]))

    def report(self, loss: float | None, values: dict[str, float]) -> None:
        """Of the unit."""
        if loss is not None:
            self._pushed.loss = float(loss)
        if values:
            unit = self._unit
            at = {} if unit is None else {"clock": unit.clock, "lanes": list(unit.part), "epoch": self.epoch}
            self._tell({"worker": self._worker, **at, **{name: float(one) for name, one in values.items()}})


def known_files(function: Worker) -> tuple[tuple[str, str], ...]:
    """Where ``function``, those beside it and those in it are written: what is sent forgets that."""
    closed = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _filled(cell)]
    functions: list[Worker] = [function, *(one for one in closed if isinstance(one, FunctionType))]
    found = dict(files_of(functions))
    for one in functions:
        code = getattr(one, "__code__", None)
        if code is not None:
            found |= dict.fromkeys(_inner(code), code.co_filename)
    return tuple(sorted(found.items()))


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False


def _inner(code: CodeType) -> Iterator[str]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one.co_name
            yield from _inner(one)
