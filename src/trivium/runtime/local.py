"""The local host: a run's processes on this machine, and the driver's role in a thread of this one.

The driver's host watches as well (``watch``). What is declared lost is killed and reaped before the role hears of it.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.membership import Driver
from trivium.core.role import Address, PeerLost, Retire, Role, StopRequested
from trivium.core.spans import IDLE, Spans
from trivium.data.table import Csr, Mapped, Table, arrays_of
from trivium.errors import LostError, ProgramError, StorageError, UsageError
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.cages import Keeper
from trivium.runtime.child import Launch, ShippedTable, send_launch
from trivium.runtime.host import RoleHost, Trace
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.plane import ArrayPlane, Facts, NodeArrays, node_arrays
from trivium.runtime.pool import Pool, Seat
from trivium.runtime.store import RunStore
from trivium.runtime.watch import LOOK_EVERY, Watch

__all__ = ["DriverHost", "LocalNode", "Member", "ship_tables"]

log = logging.getLogger(__name__)
RING_BYTES = 1 << 15  # at least; an error with its traceback fits in it
LANE_BYTES = 40  # of one lane's sums of one set in an evaluation: four numbers
MOST_MAIL = 1 << 30
JOIN_EVERY = 0.0
SHOW_EVERY = 0.2


@dataclass(frozen=True)
class Member:
    """One member process: its address, name, role, first lanes, and where it may run."""

    address: Address
    name: str
    make_role: Callable[[], Role]
    warm: Part | None
    cpus: tuple[int, ...] = ()
    jax_threads: int | None = None


def ship_tables(
    tables: dict[str, Table],
) -> tuple[dict[str, NDArray[Any]], tuple[tuple[str, ShippedTable], ...], list[Mapped]]:
    """The arrays of ``tables`` that are to be copied, under the names that ``ShippedTable.open`` looks for; how the
    tables are put together; and the files that others are mapped from, each once.
    """
    arrays: dict[str, NDArray[Any]] = {}
    shipped, files = [], list[Mapped]()
    for name, table in tables.items():
        mapped = {}
        for key, array in arrays_of(table.columns):
            if key in table.mapped:
                one = table.mapped[key]
                if one not in files:
                    files.append(one)
                mapped[key] = (files.index(one), one)
            else:
                arrays[f"{name}.{key}"] = array
        columns = tuple((key, column.width if isinstance(column, Csr) else -1) for key, column in table.columns.items())
        shipped.append((name, ShippedTable(name, columns, table.classes, table.scale, table.name, mapped)))
    return arrays, tuple(shipped), files


def ring_bytes(lanes: int, sets: int, processes: int) -> int:
    """Bytes of a mailbox that takes the largest message: one member's sums of all lanes and ``sets``.

    UsageError where the mailboxes of ``processes`` would be larger than ``MOST_MAIL``.
    """
    size = max(RING_BYTES, LANE_BYTES * lanes * sets + RING_BYTES // 8)
    if Mailboxes.nbytes(processes, size) > MOST_MAIL:
        raise UsageError(
            f"lanes={lanes} with {processes} processes needs {Mailboxes.nbytes(processes, size) / 2**30:.1f} GiB for "
            f"messages; at most {MOST_MAIL / 2**30:g} GiB are allowed: lower lanes or workers"
        )
    return size


@dataclass
class LocalNode:
    """One run's processes and memory on this machine; ``close`` leaves nothing behind."""

    pool: Pool
    members: Sequence[Member]
    facts: Facts
    run: Path
    tables: dict[str, Table]
    sample: NDArray[np.int64] | None
    spin: float
    orphan_timeout: float = 3.0
    life: str = ""
    memory_per_worker: int | None = None
    seats: list[Seat] = field(default_factory=list)
    load_seconds: float = 0.0
    packed: list[bytes] = field(default_factory=list)
    files: list[int] = field(default_factory=list)  # open files that rows are mapped from
    keeper: Keeper | None = None
    compile_seconds: float = 0.0  # of what this process compiled for all

    def open(self) -> None:
        """Lay out memory and copy the data in."""
        count = len(self.members) + 1
        self.ring_bytes = ring_bytes(self.facts.lanes, len(self.tables) + (self.sample is not None), count)
        self.plan = ArenaPlan()
        for name, (dtype, shape) in {**node_arrays(self.facts), **board_arrays(count)}.items():
            self.plan.add(name, dtype, shape)
        self.plan.add("mail", "int64", (Mailboxes.nbytes(count, self.ring_bytes) // 8,))
        self.arena = Arena.create(self.plan, "node")
        began = time.perf_counter()
        arrays, self.shipped, files = ship_tables(self.tables)
        self.data_plan = ArenaPlan()
        for name, one in arrays.items():
            self.data_plan.add(name, one.dtype, one.shape)
        try:
            self.data = Arena.create(self.data_plan, "data")
        except StorageError:
            self.arena.close()
            raise
        for name, one in arrays.items():
            self.data[name][...] = one
        try:
            for mapped in files:
                self.files.append(os.open(mapped.path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self._let_go()
            raise StorageError(
                f"the cache of parsed rows is gone: {mapped.path} ({error.strerror}); start again, and it is made anew"
            ) from None
        self.load_seconds = time.perf_counter() - began
        self.board = Board(*(self.arena[name] for name in ("words", "seconds", "waited", "figures", "usual")))
        self.mail = Mailboxes(self.arena["mail"], 0, count, self.ring_bytes)
        node = NodeArrays(**{name: self.arena[name] for name in NodeArrays.__dataclass_fields__})
        self.plane = ArrayPlane(self.facts, node, 0, {})
        self.addresses = (Address(0, 0), *(member.address for member in self.members))
        try:
            self.packed = [self._pack(index, member) for index, member in enumerate(self.members, start=1)]
        except BaseException:
            self.close(clean=True)
            raise

    @property
    def shared_bytes(self) -> int:
        """Memory that all processes of the run see, counted once."""
        return self.plan.nbytes + self.data_plan.nbytes

    def launch(self) -> None:
        """Start every member; each says on the board when it is ready. Who died before that is found by the watch."""
        self.seats = self.pool.take([member.jax_threads for member in self.members])
        if self.memory_per_worker is not None:
            workers = [seat for member, seat in zip(self.members, self.seats, strict=True) if member.warm is not None]
            self.keeper = Keeper(workers, self.memory_per_worker)
            self.keeper.start()
        for member, seat, content in zip(self.members, self.seats, self.packed, strict=True):
            fds = [self.arena.fd, self.data.fd, *self.files] if member.warm is not None else [self.arena.fd]
            try:
                send_launch(seat.link, content, fds)
            except OSError as error:
                if not seat.gone(0.5):
                    raise LostError(f"{member.name} does not take its launch ({error})") from None

    def _pack(self, index: int, member: Member) -> bytes:
        """The launch of ``member``; ProgramError where the person's program cannot be sent."""
        import cloudpickle

        launch = Launch(
            index,
            self.addresses,
            member.make_role,
            self.facts,
            self.plan,
            self.data_plan if member.warm is not None else None,
            self.shipped if member.warm is not None else (),
            self.sample,
            self.run,
            self.ring_bytes,
            self.spin,
            member.warm,
            member.cpus,
            member.jax_threads,
            self.orphan_timeout,
            life=self.life,
        )
        try:
            packed: bytes = cloudpickle.dumps(launch, protocol=pickle.HIGHEST_PROTOCOL)
            return packed
        except Exception as error:  # whatever an object of the person's raises
            raise ProgramError(
                f"the program {self.facts.program.name!r} cannot be sent to the workers: {error}; keep locks, files, "
                "sockets and threads out of what it refers to",
                "",
            ) from None

    def close(self, *, clean: bool) -> None:
        """End or give back the processes, free the memory."""
        if self.keeper is not None:
            self.keeper.close()
        try:
            self.pool.give_back(self.seats, clean=clean)
        finally:
            self.seats = []
            self.plane.close()
            self._let_go()

    def _let_go(self) -> None:
        self.arena.close()
        self.data.close()
        while self.files:
            os.close(self.files.pop())


class DriverHost(RoleHost):
    """The driver's host: carries membership out. ``show`` is called a few times a second, from this thread."""

    def __init__(
        self,
        driver: Driver,
        node: LocalNode,
        store: RunStore,
        *,
        patience: float,
        start_timeout: float,
        show: Callable[[DriverHost], None],
        trace: Trace | None = None,
    ) -> None:
        spans = Spans(node.board.seconds[0], node.board.waited[0], time.perf_counter(), IDLE)
        super().__init__(
            driver,
            0,
            node.addresses,
            node.mail,
            node.board,
            plane=node.plane,
            store=store,
            spin=0.0,
            spans=spans,
            trace=trace,
        )
        self.driver, self.node, self.show = driver, node, show
        self.wishes: list[str] = []  # reasons to stop, appended by other threads
        self._next_look = self._next_show = 0.0
        self.joined_at = 0.0
        self.watch = Watch(
            node.board,
            node.addresses,
            node.seats,
            patience=patience,
            start_timeout=start_timeout,
            now=time.monotonic(),
            exits=node.pool.exits,
            bury=self._bury,
            workers=lambda: driver.members.workers,
            name=driver.name,
        )

    def close(self) -> None:
        """Break the cycles, so that the run's memory is given back now and not at some collection."""
        self._carry.clear()
        self._writer = None
        self._handle = self.role.handle
        del self.watch

    def poll(self) -> bool:
        """Look for wishes, deaths, silence; show progress."""
        if self.wishes and isinstance(self.driver, Driver):
            self.feed(StopRequested(self.wishes.pop(0)))
            return True
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + (LOOK_EVERY if self.watch.complete else JOIN_EVERY)  # who is ready rings: look at once
        found = False
        if self.node.keeper is not None:
            self.node.keeper.look(now)
        for event in self.watch.look(now):  # one by one: see there
            self.feed(event)
            found = True
        if not self.joined_at and self.watch.complete:
            self.joined_at = time.perf_counter()
        if now >= self._next_show:
            self._next_show = now + SHOW_EVERY
            self.show(self)
        return found

    def _bury(self, index: int, how: str) -> PeerLost:
        """After a death: nobody waits for its mail or its pins."""
        self.mail.reset(index)
        self.node.plane.drop(index)
        for other in range(len(self.addresses)):
            self.mail.ring(other)
        doing = "" if how.startswith("killed: ") else self.board.at(index)
        return PeerLost(self.addresses[index], how, doing)

    # -- commands -----------------------------------------------------------------------------------------------------
    def _retire(self, command: Retire) -> None:
        seat = self.node.seats[self._process[command.peer] - 1]
        if seat.dead or seat.killed:
            return
        seat.kill()
        seat.killed = command.why
        if seat.gone(LOOK_EVERY):  # else a later look finds it dead
            seat.dead = f"killed: {command.why}"
            self.feed(self._bury(self._process[command.peer], seat.dead))
