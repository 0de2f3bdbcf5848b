"""Nodes that share nothing, as the driver's process has them: an agent each, started, met, watched and ended.

Rules
-----
* An agent is a child in a session of its own; it and its workers are one process group. Whoever is declared lost is
  killed with the whole group. The group is killed before its leader is reaped, while its number can mean nobody else.
* All keys of a run are made here, fresh, and reach an agent over its standard input. Who has none is not let in.
* Of each pair of nodes the one that came later dials. Of one that died all are told: its number may be used again.
* ``seats`` are in the order of ``addresses[1:]``: of each node its server, which is the agent, then its workers.
* Nothing of a node is mapped here. The board is this process's own, and is filled from the agents' reports.
* Who and where the agents are, and how to drive them, is in the run's ``deed`` before they are started: after the death
  of this process another one may take them over (``adopt_nodes``). Then they are nobody's children.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.role import Address
from trivium.data.table import Table
from trivium.errors import RunError, UsageError
from trivium.runtime.agent import NodeLaunch
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.child import EXCHANGING, Hands
from trivium.runtime.claiming import Claimed
from trivium.runtime.deed import Deed, Post, born, drop_deed, write_deed
from trivium.runtime.injection import Injections
from trivium.runtime.local import Member, packed
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.plane import Facts
from trivium.runtime.pool import FRAME
from trivium.runtime.seats import AgentSeat, Deaths, RemoteSeat, await_end, group_of
from trivium.runtime.shipping import Depot
from trivium.runtime.striking import shaped
from trivium.runtime.wire import (
    DRIVER,
    Bootstrap,
    Bye,
    Enlist,
    Here,
    Link,
    Meet,
    Order,
    Setup,
    Unlink,
    packed_order,
)
from trivium.runtime.zygote import ONE_THREAD

__all__ = ["Nodes", "Station", "adopt_nodes", "open_nodes"]

log = logging.getLogger(__name__)
BIND = "tcp://127.0.0.1:*"
ROOM = 256  # processes of a run over all its lives: a row of the driver's own board each
SPARE = 2  # workers that a node has room for beyond those it begins with
END_WITHIN = 3.0


@dataclass
class Station:
    """One node: its agent, keys, and how far its start has come."""

    node: int
    public: str
    seat: AgentSeat
    server: Member
    workers: list[Member]
    begin: Callable[[Any], None] | None
    endpoint: str = ""  # once it is there
    serial: int = 0
    reported: float = 0.0  # when, in seconds of our clock; 0: not yet
    memory: int = 0
    load_seconds: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it can be spoken to."""
        return not (self.seat.dead or self.seat.left)


@dataclass
class Nodes:
    """A run's nodes. Made by ``open_nodes``; ``close`` leaves nothing behind.

    ``room`` is what a node's board is sized for: its server, its workers and spare ones, and the box for the driver.
    """

    links: Link
    keys: Any
    facts: Facts
    run: Path
    depot: Depot
    sample: NDArray[np.int64] | None
    hands: Hands
    spin: float
    orphan_timeout: float
    start_timeout: float
    life: str
    xla: bool
    room: int
    memory_per_worker: int | None
    mail: Mailboxes
    fresh_keys: Callable[[], Any]
    injections: Injections
    key: bytes = field(default_factory=lambda: os.urandom(16))
    members: list[Member] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=lambda: [DRIVER])
    seats: list[Any] = field(default_factory=list)
    stations: dict[int, Station] = field(default_factory=dict)
    former: list[AgentSeat] = field(default_factory=list)  # agents whose node was started anew
    compile_seconds: float = 0.0
    posts: dict[int, Post] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = ROOM
        self.board = Board(**{name: np.zeros(shape, dtype) for name, (dtype, shape) in board_arrays(count).items()})
        self.parcel = self.depot.parcel()
        self._deaths = Deaths(lambda: self.mail.ring(0))
        self._deaths.start()

    @property
    def load_seconds(self) -> float:
        """Seconds in which the slowest node had its rows."""
        return max((one.load_seconds for one in self.stations.values()), default=0.0)

    @property
    def shared_bytes(self) -> int:
        """Memory that processes of one node share, over all nodes."""
        return sum(one.memory for one in self.stations.values())

    # -- who is there -------------------------------------------------------------------------------------------------
    def add(self, members: Sequence[Member], begin: Callable[[Any], None] | None) -> list[int]:
        """Start ``members``: agents of new nodes (slot 0 is a server's), workers of nodes that are there. Returns their
        indices among ``addresses``. UsageError where a worker has no node, or a node no room.
        """
        servers = [member for member in members if member.address.slot == 0]
        for server in servers:
            node = server.address.node
            self._start(server, [one for one in members if one.address.node == node and one is not server], begin)
        fresh = {server.address.node for server in servers}
        for node in dict.fromkeys(member.address.node for member in members):
            if node not in fresh:
                self._enlist(node, [member for member in members if member.address.node == node])
        return [self.addresses.index(member.address) for member in members]

    def _start(self, server: Member, workers: list[Member], begin: Callable[[Any], None] | None) -> None:
        node, keys = server.address.node, self.fresh_keys()
        before = self.stations.get(node)
        if before is not None:
            if before.alive:
                raise UsageError(f"node {node} is there already (process {before.seat.pid})")
            self.former.append(before.seat)
        self._check_room(node, workers)
        self._post(Post(node, keys.public))
        seat = AgentSeat(self._spawn(node, keys))
        self._post(Post(node, keys.public, seat.pid, born(seat.pid)))
        station = Station(node, keys.public, seat, server, workers, begin)
        self.stations[node] = station
        self.links.allow(node, keys.public)
        shape = shaped(*self.injections.shape(node - 1))
        if not shape.fair:
            self.links.reshape(node, shape)
        for other in self.stations.values():
            if other.endpoint and other is not station and other.alive:
                self._introduce(station, other.node)
        self._deaths.watch(seat.pidfd)
        self._sit(server, seat)
        for worker in workers:
            self._sit(worker, self._remote(worker, 0))

    def _post(self, post: Post) -> None:
        """Let the deed say where this agent is."""
        self.posts[post.node] = post
        deed = Deed(
            self.key,
            self.life,
            self.links.endpoint,
            self.keys.public,
            self.keys.secret,
            tuple(self.posts.values()),
        )
        write_deed(self.run, deed)

    def adopt(self, claimed: Claimed, member_of: Callable[[Address], Member]) -> None:
        """Sit all members of ``claimed`` as if they had been started here."""
        self.posts = {one.node: one for one in claimed.deed.agents}
        members = claimed.members
        for server in members.holders:
            told, seat = claimed.manned[server.node], claimed.seats[server.node]
            mine = [member_of(one) for one in members.workers if one.node == server.node]
            station = Station(server.node, self.posts[server.node].public, seat, member_of(server), mine, None)
            station.endpoint, station.serial = told.endpoint, told.serial
            self.stations[server.node] = station
            self._deaths.watch(seat.pidfd)
            self._sit(station.server, seat)
            for worker in mine:
                remote = self._remote(worker, 0)
                remote.pid = claimed.pid(worker.address)
                self._sit(worker, remote)

    def _enlist(self, node: int, workers: list[Member]) -> None:
        station = self.stations.get(node)
        if station is None or not station.alive:
            raise UsageError(f"{workers[0].name} is to be started on node {node}, which has no agent that is alive")
        self._check_room(node, workers)
        if not station.endpoint:
            station.workers += workers
            for worker in workers:
                self._sit(worker, self._remote(worker, 0))
            return
        station.serial += 1
        self.tell(node, Enlist(station.serial), [packed(workers, self.facts)])
        for worker in workers:
            self._sit(worker, self._remote(worker, station.serial))

    def _check_room(self, node: int, workers: Sequence[Member]) -> None:
        beyond = [one.name for one in workers if not 0 < one.address.slot < self.room - 1]
        if beyond:
            raise UsageError(
                f"node {node} has room for {self.room - 2} workers, and none for {', '.join(beyond)}; add a node, or "
                "start the run with more workers a node"
            )

    def _remote(self, worker: Member, serial: int) -> RemoteSeat:
        node = worker.address.node
        return RemoteSeat(lambda order: self.tell(node, order), worker.address.slot, serial)

    def _sit(self, member: Member, seat: Any) -> None:
        """``seat`` is at the member's address from now on."""
        if member.address in self.addresses:
            index = self.addresses.index(member.address)
            self.members[index - 1], self.seats[index - 1] = member, seat
            for name in ("words", "seconds", "waited", "figures", "usual"):
                getattr(self.board, name)[index] = 0
            return
        if len(self.addresses) == ROOM:
            raise UsageError(f"a run has at most {ROOM - 1} members over its life; start it anew with what it needs")
        self.addresses.append(member.address)
        self.members.append(member)
        self.seats.append(seat)

    def _spawn(self, node: int, keys: Any) -> subprocess.Popen[bytes]:
        boot = Bootstrap(
            node,
            self.key,
            keys.public,
            keys.secret,
            self.links.endpoint,
            self.keys.public,
            BIND,
            list(sys.path),
            self.xla,
            self.orphan_timeout,
            self.start_timeout,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "trivium.runtime.agent"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={"JAX_PLATFORMS": "cpu", **os.environ, **ONE_THREAD},
        )
        content = msgspec.msgpack.encode(boot)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead: found like any other death
            process.stdin.write(FRAME.pack(len(content)) + content)
            process.stdin.flush()
        return process

    # -- talking ------------------------------------------------------------------------------------------------------
    def tell(self, node: int, order: Order, payload: Sequence[Any] = ()) -> None:
        """Send ``order`` to the agent of ``node``."""
        self.links.send(node, packed_order(order), payload)

    def here(self, node: int, order: Here) -> None:
        """An agent is there: it meets the others, and is told all that it must know."""
        station = self.stations.get(node)
        if station is None or station.endpoint or order.run != self.key:
            log.warning("node %d says that it is there, and was not expected", node)
            return
        station.endpoint = order.endpoint
        for other in self.stations.values():
            if other is not station and other.alive:
                self._introduce(other, node, other.endpoint)
                if other.endpoint:
                    self._introduce(station, other.node)
        launch = NodeLaunch(
            node,
            station.server,
            tuple(station.workers),
            replace(self.facts, processes=self.room),
            self.parcel,
            self.sample,
            self.run,
            self.spin,
            self.orphan_timeout,
            self.life,
            self.hands,
            station.begin,
            self.memory_per_worker,
            self.injections,
        )
        self.tell(node, Setup(), [packed(launch, self.facts)])

    def _introduce(self, station: Station, to: int, endpoint: str = "") -> None:
        """Tell the agent of node ``to`` of another one, and how their link is to be shaped."""
        delay, rate = self.injections.between(station.node - 1, to - 1)
        self.tell(to, Meet(station.node, station.public, endpoint, delay, rate if rate < math.inf else 0.0))

    def part(self, node: int) -> None:
        """The node is gone: nobody waits for its link any more."""
        self.links.forget(node)
        for other in self.stations.values():
            if other.node != node and other.endpoint and other.alive:
                self.tell(other.node, Unlink(node))

    def bid_farewell(self, node: int) -> None:
        """The node is not needed any more: its end is no loss."""
        station = self.stations[node]
        if not station.seat.left:
            station.seat.left = True
            self.tell(node, Bye())

    # -- the end ------------------------------------------------------------------------------------------------------
    def close(self, *, clean: bool) -> None:
        """End all agents with their groups; ``clean``: those that are lingering may go by themselves. RunError where a
        process does not die.
        """
        seats = [*(station.seat for station in self.stations.values()), *self.former]
        try:
            for station in self.stations.values():
                if clean and station.endpoint and not station.seat.dead:
                    self.bid_farewell(station.node)
            deadline = time.monotonic() + (END_WITHIN if clean else 0.0)
            for seat in seats:
                if not (clean and seat.gone(deadline - time.monotonic())):
                    seat.kill()
            self._reap(seats)
        finally:
            self._deaths.close()
            self.links.close()
            drop_deed(self.run)
            for seat in seats:
                seat.close()

    @staticmethod
    def _reap(seats: Sequence[AgentSeat]) -> None:
        deadline = time.monotonic() + END_WITHIN
        left = [str(seat.pid) for seat in seats if not seat.gone(deadline - time.monotonic())]
        for seat in seats:
            while (living := group_of(seat.pid)) and time.monotonic() < deadline:
                await_end(living[0], deadline - time.monotonic())
            left += map(str, living)
        if left:
            raise RunError(f"process {', '.join(dict.fromkeys(left))} does not die; it may be stuck in the kernel")


def open_nodes(
    members: Sequence[Member],
    facts: Facts,
    run: Path,
    tables: dict[str, Table],
    sample: NDArray[np.int64] | None,
    *,
    begin: Callable[[Any], None] | None,
    hands: Hands = EXCHANGING,
    spin: float = 0.0,
    orphan_timeout: float = 60.0,
    start_timeout: float = 120.0,
    life: str = "",
    workers_a_node: int | None = None,
    memory_per_worker: int | None = None,
    links: Callable[[Callable[[], None]], tuple[Link, Any, Callable[[], Any]]] | None = None,
    injections: Injections | None = None,
) -> Nodes:
    """Start an agent for each node of ``members``; they import while the caller goes on, and begin once a
    ``nodes_host.NodesHost`` runs.

    ``members``: servers at slot 0 of their nodes, workers at slots 1 and on; nodes count from 1. ``begin(plane)``
    commits the first version in each node. ``workers_a_node`` is what each has room for (default: the most that one
    begins with, and two). ``links(ring)`` gives the driver's end, its keys, and what makes a pair of keys.
    """
    mail = Mailboxes(np.zeros(Mailboxes.nbytes(1) // 8, np.int64), 0, 1)
    ours, keys, fresh = (links or _real_links)(lambda: mail.ring(0))
    most = max(member.address.slot for member in members)
    nodes = Nodes(
        ours,
        keys,
        facts,
        run,
        Depot(tables),
        sample,
        hands,
        spin,
        orphan_timeout,
        start_timeout,
        life,
        facts.program.xla,
        2 + max(most, workers_a_node or most + SPARE),
        memory_per_worker,
        mail,
        fresh,
        injections or Injections(),
    )
    try:
        nodes.add(members, begin)
    except BaseException:
        nodes.close(clean=False)
        raise
    return nodes


def adopt_nodes(
    claimed: Claimed,
    member_of: Callable[[Address], Member],
    facts: Facts,
    run: Path,
    tables: dict[str, Table],
    sample: NDArray[np.int64] | None,
    *,
    hands: Hands = EXCHANGING,
    spin: float = 0.0,
    orphan_timeout: float = 60.0,
    start_timeout: float = 120.0,
    workers_a_node: int,
    memory_per_worker: int | None = None,
) -> Nodes:
    """The nodes that were ``claimed``, as ``open_nodes`` gives those that it started; see there.

    ``member_of`` makes the member at an address, for those that are there and those that join later.
    """
    mail = Mailboxes(np.zeros(Mailboxes.nbytes(1) // 8, np.int64), 0, 1)
    claimed.bells.append(lambda: mail.ring(0))
    nodes = Nodes(
        claimed.links,
        claimed.keys,
        facts,
        run,
        Depot(tables),
        sample,
        hands,
        spin,
        orphan_timeout,
        start_timeout,
        claimed.deed.life,
        facts.program.xla,
        2 + workers_a_node,
        memory_per_worker,
        mail,
        type(claimed.keys).fresh,
        Injections(),
        claimed.deed.run,
    )
    nodes.adopt(claimed, member_of)
    return nodes


def _real_links(ring: Callable[[], None]) -> tuple[Link, Any, Callable[[], Any]]:
    from trivium.runtime.curve import Keys
    from trivium.runtime.links import Links

    keys = Keys.fresh()
    ours: Link = Links(DRIVER.node, keys, bind=BIND, ring=ring)
    return ours, keys, Keys.fresh
