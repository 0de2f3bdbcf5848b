"""The local host: a run's processes on this machine, and the driver's role in a thread of this one.

The driver's host watches as well (``watch``). What is declared lost is killed and reaped before the role hears of it.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trivium.core.lanes import Part
from trivium.core.membership import Driver
from trivium.core.role import Address, Event, PeerLost, Retire, Role, Stop, StopRequested
from trivium.core.role import Launch as LaunchPeers
from trivium.core.spans import IDLE, Spans
from trivium.data.table import Table
from trivium.errors import LostError, ProgramError, UsageError
from trivium.runtime import board as boards
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.cages import Keeper
from trivium.runtime.child import ARRAYS, Hands, Launch, send_launch
from trivium.runtime.host import RoleHost, Trace
from trivium.runtime.injection import Injections
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.plane import Facts
from trivium.runtime.pool import Pool, Seat
from trivium.runtime.shelf import KernelShelf
from trivium.runtime.shipping import Rows
from trivium.runtime.store import RunStore
from trivium.runtime.striking import GONE, Striker, strike, tell
from trivium.runtime.watch import LOOK_EVERY, Watch

__all__ = ["DriverHost", "LocalNode", "Member", "packed"]

log = logging.getLogger(__name__)
RING_BYTES = 1 << 15  # at least; an error with its traceback fits in it
HERE = Address(0, 0)
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
    """One run's processes and memory on this machine; ``close`` leaves nothing behind.

    There is room for ``facts.processes``: process 0 at ``at``, ``members``, then whoever is started later (``enlist``).
    ``driver`` is given where process 0 is not the driver's but relays its mail: that has a box of its own, the last.
    """

    pool: Pool
    members: list[Member]
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
    compile_seconds: float = 0.0  # of what this process compiled for all
    at: Address = HERE
    driver: Address | None = None
    hands: Hands = ARRAYS
    rows: Rows | None = None  # given: they are there already
    injections: Injections = field(default_factory=Injections)
    keepers: list[Keeper] = field(default_factory=list)

    def open(self) -> None:
        """Lay out memory and copy the data in."""
        self.members = list(self.members)
        self.addresses = self._room()
        count = len(self.addresses)
        began = time.perf_counter()
        self.rows = self.rows or Rows.of(self.tables)
        self.load_seconds = time.perf_counter() - began
        sets = len(self.rows.shipped) + (self.sample is not None)
        try:
            self._lay_out(count, sets)
        except BaseException:
            self.rows.close()
            raise
        self.board = Board(*(self.arena[name] for name in ("words", "seconds", "waited", "figures", "usual")))
        self.mail = Mailboxes(self.arena["mail"], 0, count, self.ring_bytes)
        self.spans = Spans(self.board.seconds[0], self.board.waited[0], time.perf_counter(), IDLE)
        spans = None if self.driver is None else self.spans
        self.plane = self.hands.make(self.facts, self.arena, 0, {}, None, spans, KernelShelf())
        try:
            self.packed = [self._pack(index, member) for index, member in enumerate(self.members, start=1)]
        except BaseException:
            self.close(clean=True)
            raise

    def _lay_out(self, count: int, sets: int) -> None:
        self.ring_bytes = ring_bytes(self.facts.lanes, sets, count)
        self.plan = ArenaPlan()
        for name, (dtype, shape) in {**self.hands.arrays(self.facts), **board_arrays(count)}.items():
            self.plan.add(name, dtype, shape)
        self.plan.add("mail", "int64", (Mailboxes.nbytes(count, self.ring_bytes) // 8,))
        self.arena = Arena.create(self.plan, "node")
        if self.hands.yard:
            from trivium.runtime.row_plane_memory import Yard

            self.arena.yard = Yard.create(count)

    def _room(self) -> tuple[Address, ...]:
        """An address for each process that there is room for; a free one's is its index, unless a member has that."""
        given = [self.at, *(member.address for member in self.members)]
        relay = self.driver is not None
        spare = max(0, self.facts.processes - len(given) - relay)
        slots = (Address(self.at.node, slot) for slot in itertools.count(len(given)))
        given += itertools.islice((one for one in slots if one not in given), spare)
        return (*given, self.driver) if self.driver is not None else tuple(given)

    @property
    def relay(self) -> int:
        """The box of mail to and from the driver."""
        return 0 if self.driver is None else len(self.addresses) - 1

    @property
    def shared_bytes(self) -> int:
        """Memory that all processes of the run see, counted once."""
        assert self.rows is not None
        return self.plan.nbytes + self.rows.plan.nbytes

    def launch(self) -> None:
        """Start every member; each says on the board when it is ready. Who died before that is found by the watch."""
        self._seat(self.members, self.packed)

    def enlist(self, members: Sequence[Member]) -> list[int]:
        """Start ``members`` while the run goes on, in free places or in those of others that are dead or have left.

        Returns their indices. UsageError where there is no room.
        """
        places = [self._place(member) for member in members]
        for index, member in zip(places, members, strict=True):
            if index <= len(self.seats):
                self._vacate(index)
            else:
                self.members.append(member)
            self.members[index - 1] = member
        self._seat(members, [self._pack(*one) for one in zip(places, members, strict=True)])
        return places

    def _place(self, member: Member) -> int:
        room = self.addresses[1 : self.relay or None]
        if member.address not in room:
            raise UsageError(
                f"{member.name} has the address {tuple(member.address)}, and this node has room for "
                f"{', '.join(str(tuple(one)) for one in room)}; start the run with more room, or another member leave"
            )
        return self.addresses.index(member.address)

    def _vacate(self, index: int) -> None:
        """Make the place of one who is dead or has left as if nobody had been there."""
        seat = self.seats[index - 1]
        if not seat.dead and self.board.words[index, boards.STATE] != boards.LEFT:
            raise UsageError(f"{self.members[index - 1].name} is still there (process {seat.pid})")
        self.pool.give_back([seat], clean=not seat.dead)
        self.bury(index)
        for array in (self.board.words, self.board.seconds, self.board.waited, self.board.figures, self.board.usual):
            array[index] = 0

    def bury(self, index: int) -> None:
        """After a death: nobody waits for its mail or its pins."""
        self.mail.reset(index)
        self.plane.drop(index)
        for other in range(len(self.addresses)):
            self.mail.ring(other)

    def _seat(self, members: Sequence[Member], packed: Sequence[bytes]) -> None:
        """A process for each, and its launch."""
        seats = self.pool.take([member.jax_threads for member in members])
        for member, seat in zip(members, seats, strict=True):
            index = self.addresses.index(member.address)
            self.seats[index - 1 : index] = [seat]
        if self.memory_per_worker is not None:
            workers = [seat for member, seat in zip(members, seats, strict=True) if member.warm is not None]
            self.keepers.append(Keeper(workers, self.memory_per_worker))
            self.keepers[-1].start()
        assert self.rows is not None
        for member, seat, content in zip(members, seats, packed, strict=True):
            fds = [self.arena.fd, *([self.arena.yard] if self.hands.yard else [])]
            if member.warm is not None:
                fds += self.rows.fds
            try:
                send_launch(seat.link, content, fds)
            except OSError as error:
                if not seat.gone(0.5):
                    raise LostError(f"{member.name} does not take its launch ({error})") from None

    def _pack(self, index: int, member: Member) -> bytes:
        """The launch of ``member``; ProgramError where the person's program cannot be sent."""
        assert self.rows is not None
        launch = Launch(
            index,
            self.addresses,
            member.make_role,
            self.facts,
            self.plan,
            self.rows.plan if member.warm is not None else None,
            self.rows.shipped if member.warm is not None else (),
            self.sample,
            self.run,
            self.ring_bytes,
            self.spin,
            member.warm,
            member.cpus,
            member.jax_threads,
            self.orphan_timeout,
            self.relay,
            self.life,
            self.hands,
            self.injections.slowness(member.name, self.facts.seed),
            self.injections.disk(member.name),
            member.name,
        )
        return packed(launch, self.facts)

    def close(self, *, clean: bool) -> None:
        """End or give back the processes, free the memory."""
        for keeper in self.keepers:
            keeper.close()
        try:
            self.pool.give_back(self.seats, clean=clean)
        finally:
            self.seats = []
            self.plane.close()
            self.arena.close()
            if self.arena.yard >= 0:
                os.close(self.arena.yard)
                self.arena.yard = -1
            if self.rows is not None:
                self.rows.close()


def packed(launch: object, facts: Facts) -> bytes:
    """``launch`` as bytes for another process; ProgramError where the person's program cannot be sent."""
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(launch, protocol=pickle.HIGHEST_PROTOCOL)
        return content
    except Exception as error:  # whatever an object of the person's raises
        raise ProgramError(
            f"the program {facts.program.name!r} cannot be sent to the workers: {error}; keep locks, files, sockets "
            "and threads out of what it refers to",
            "",
        ) from None


def _no_links(name: str, _seconds: float) -> None:
    raise AssertionError(f"{name} is the only node")  # such plans are refused


class DriverHost(RoleHost):
    """The driver's host: carries membership out. ``show`` is called a few times a second, from this thread.

    ``member_of`` makes the member at an address that the driver launches while the run goes on.
    """

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
        member_of: Callable[[Address], Member] | None = None,
    ) -> None:
        super().__init__(
            driver,
            0,
            node.addresses,
            node.mail,
            node.board,
            plane=node.plane,
            store=store,
            spin=0.0,
            spans=node.spans,
            trace=trace,
        )
        self.driver, self.node, self.show = driver, node, show
        self.member_of = member_of
        self.wishes: list[str | Event] = []  # reasons to stop, or what else a person asks for; by other threads
        self._next_look = self._next_show = 0.0
        self.joined_at = 0.0
        self.striker = Striker(node.injections, self._process_of, _no_links, partial(tell, self))
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

    def run(self) -> Stop:
        """Until the role stops."""
        stop = super().run()
        self.striker.close()
        return stop

    def close(self) -> None:
        """Break the cycles, so that the run's memory is given back now and not at some collection."""
        self._carry.clear()
        self._writer = None
        self._handle = self.role.handle
        del self.watch, self.striker

    def poll(self) -> bool:
        """Look for wishes, deaths, silence; show progress."""
        if self.wishes and isinstance(self.driver, Driver):
            wish = self.wishes.pop(0)
            self.feed(StopRequested(wish) if isinstance(wish, str) else wish)
            return True
        now = time.monotonic()
        strike(self)
        if now < self._next_look:
            return False
        self._next_look = now + (LOOK_EVERY if self.watch.complete else JOIN_EVERY)  # who is ready rings: look at once
        found = False
        for keeper in self.node.keepers:
            keeper.look(now)
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
        self.node.bury(index)
        doing = "" if how.startswith("killed: ") else self.board.at(index)
        return PeerLost(self.addresses[index], how, doing)

    def _process_of(self, name: str) -> int:
        """For the striker."""
        if name == "driver":
            return os.getpid()
        for member, seat in zip(self.node.members, self.node.seats, strict=False):
            if member.name == name and not seat.dead:
                return seat.pid
        return GONE

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

    def _launch(self, command: LaunchPeers) -> None:
        assert self.member_of is not None, f"nobody said what {command} starts"
        for index in self.node.enlist([self.member_of(peer) for peer in command.peers]):
            self.watch.anew(index)
