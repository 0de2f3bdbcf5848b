"""A cluster of the real roles with costs in place of arithmetic: what ``benchmarks.scale`` and ``.simulator`` run.

The roles are those of real runs: one server a node, its workers, the driver. Their role threads take time here: each
event occupies its process for what handling it takes, and waits while the process is at another one. What follows from
an event leaves its process when it was handled, a message after the other.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from trivium.core.consistency import Rule
from trivium.core.exchange import Advance
from trivium.core.membership import Members
from trivium.core.messages import Gradient
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address, ComputeFinished, Event, MessageReceived, Send, Work
from trivium.designs.ps.driver import NodesDriver
from trivium.designs.ps.server import Server
from trivium.designs.ps.worker import Worker
from trivium.runtime.costs import CostPlane, ForgetfulStore
from trivium.runtime.simulated import Simulation
from trivium.runtime.virtual import Process

__all__ = ["DRIVER", "Desks", "Hops", "Seen", "Shape", "apart", "build", "spread"]

DRIVER = Address(0, 0)
TRIMMED = 0.1  # of the slowest handlings of a kind: there the processor was at something else
Kind = tuple[type, type]  # of role, and of event, message or work


@dataclass(frozen=True)
class Hops:
    """Seconds that a process gives to a message, apart from its role: to write and hand it over, to take and read it.

    ``near`` within a node (mailbox), ``far`` to another one (link); ``near_way`` and ``far_way`` until it is there,
    processes woken up, the network apart.
    """

    near_send: float = 0.0
    near_take: float = 0.0
    far_send: float = 0.0
    far_take: float = 0.0
    near_way: float = 0.0
    far_way: float = 0.0


@dataclass(frozen=True)
class Shape:
    """A cluster: who is there, how many lanes and shards, the rule, the copies; ``steps`` clocks are trained."""

    members: Members
    lanes: int
    shards: int
    steps: int
    rule: str = "bsp"
    copies: int = 1


def spread(workers: int, nodes: int) -> Members:
    """Each node has a server; workers are spread over the nodes, as runs of several nodes have it."""
    runners = [
        Address(1 + node, 1 + i)
        for node in range(nodes)
        for i in range(workers * (node + 1) // nodes - workers * node // nodes)
    ]
    return Members(tuple(runners), tuple(Address(1 + node, 0) for node in range(nodes)))


def apart(workers: int, servers: int) -> Members:
    """Shards on ``servers`` nodes without workers, each worker on a node of its own: how others place them."""
    nodes = range(1, 1 + servers + workers)
    return Members(tuple(Address(node, 1) for node in nodes[servers:]), tuple(Address(node, 0) for node in nodes))


class Next(Event, frozen=True):
    """Internal: a process has time for what waits at it."""


def kind_of(event: Event) -> type:
    """What an event is about: the type of its message or its work, else its own."""
    if isinstance(event, MessageReceived):
        return type(event.message)
    return type(event.work) if isinstance(event, ComputeFinished) else type(event)


class Desks(Simulation):
    """A simulation whose processes handle one event at a time, which takes as long as ``handling`` says.

    ``measured`` has the seconds that each kind of event took here; ``means`` sums them up.
    """

    def __init__(
        self, *, handling: Mapping[Kind, float] | None = None, hops: Hops | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.handling, self.hops = handling or {}, hops or Hops()
        self.measured: defaultdict[Kind, list[float]] = defaultdict(list)
        self.lead: Address | None = None  # the primary of shard 0
        self.at_lead: list[tuple[float, float]] = []  # when it handled an event, and for how long
        self._free: dict[Address, float] = {}
        self._waiting: defaultdict[Address, deque[tuple[Event, int]]] = defaultdict(deque)

    def _deliver(self, process: Process, event: Event, kind: int) -> None:
        address = process.address
        waiting = self._waiting[address]
        if type(event) is Next:
            event, kind = waiting.popleft()
        elif waiting or self._free.get(address, 0.0) > self.now:
            waiting.append((event, kind))
            if len(waiting) == 1:
                self._push(self._free[address], address, Next())
            return
        began = self.now
        super()._deliver(process, event, kind)
        if address == self.lead:
            self.at_lead.append((began, self.now - began))
        self._free[address], self.now = self.now, began
        if waiting:
            self._push(self._free[address], address, Next())

    def _take(self, process: Process, event: Event) -> None:
        """Let time pass: the event is taken, and handled by the role."""
        self.now += self.handling.get((type(process.role), kind_of(event)), 0.0)
        if isinstance(event, MessageReceived):
            self.now += self.hops.near_take if event.sender.node == process.address.node else self.hops.far_take

    def _send(self, process: Process, command: Send) -> None:
        near = process.address.node == command.to.node
        self.now += self.hops.near_send if near else self.hops.far_send
        left, way = self.now, self.hops.near_way if near else self.hops.far_way
        self.now += way
        super()._send(process, command)
        self.now = left

    def add(self, role: Any, plane: Any) -> None:
        """As ever; the role's handling is timed."""
        super().add(role, plane)
        process, handle = self._processes[role.me], role.handle

        def timed(event: Event, now: float) -> Any:
            began = time.perf_counter()
            commands = handle(event, now)
            self.measured[type(role), kind_of(event)].append(time.perf_counter() - began)
            self._take(process, event)
            return commands

        role.handle = timed

    def load(self, start: float, end: float) -> float:
        """Share of the time from ``start`` to ``end`` that the lead's role thread was busy."""
        return sum(seconds for at, seconds in self.at_lead if start <= at < end) / (end - start)

    def terms(self) -> int:
        """Terms there were."""
        return int(self._processes[DRIVER].role.term)  # type: ignore[attr-defined]

    def means(self) -> dict[Kind, float]:
        """Seconds of each kind of event, its slowest left out."""
        return {
            kind: fmean(sorted(found)[: max(1, int(len(found) * (1 - TRIMMED)))])
            for kind, found in self.measured.items()
        }


@dataclass
class Seen:
    """What ``watch`` notes: when shard 0 made each step, and when each worker's gradients began and ended."""

    steps: list[float] = field(default_factory=list)
    ends: defaultdict[Address, list[float]] = field(default_factory=lambda: defaultdict(list))
    spent: defaultdict[Address, list[float]] = field(default_factory=lambda: defaultdict(list))  # seconds of each
    done: defaultdict[Address, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))  # lanes


def build(
    shape: Shape,
    *,
    cost: Callable[[Address, Work, Any], float],
    arrival: Callable[..., float],
    handling: Mapping[Kind, float] | None = None,
    hops: Hops | None = None,
    balance: Any = None,
) -> tuple[Desks, Seen]:
    """A run of ``shape``, ready, and what it will have seen."""
    seen = Seen()
    host = Desks(
        seed=0,
        driver=DRIVER,
        store=ForgetfulStore(),
        cost=_noted(cost, seen),
        arrival=arrival,
        patience=1e9,
        handling=handling,
        hops=hops,
    )
    host.watch, host.lead = _watch(host, seen), shape.members.holders[0]
    members, lanes, shards = shape.members, shape.lanes, shape.shards
    agenda = Agenda(Pace(total=shape.steps, every=1, watch="", last_sets=()))
    driver = NodesDriver(
        DRIVER, members, lanes=lanes, shards=shards, agenda=agenda, retry=1e6, patience=1e9, names={},
        rule=Rule.parse(shape.rule), copies=shape.copies, balance=balance,
    )  # fmt: skip
    host.add(driver, None)
    common: dict[str, Any] = {"reproducible": False, "retry": 1e6, "orphan_timeout": 60.0}
    homes = {one.node: one for one in members.holders}
    for one in members.holders:
        host.add(Server(one, DRIVER, lanes, shards, elementwise=True, **common), CostPlane(lanes))
    for one in members.workers:
        host.add(Worker(one, DRIVER, homes[one.node], lanes, **common), CostPlane(lanes))
    return host, seen


def _noted(cost: Callable[[Address, Work, Any], float], seen: Seen) -> Callable[[Address, Work, Any], float]:
    def told(address: Address, work: Work, draw: Any) -> float:
        seconds = cost(address, work, draw)
        if type(work) is Gradient:
            seen.spent[address].append(seconds)
        return seconds

    return told


def _watch(host: Desks, seen: Seen) -> Callable[[Address, Event, Any], None]:
    def watch(address: Address, event: Event, _commands: Any) -> None:
        if type(event) is not ComputeFinished:
            return
        work = event.work
        if type(work) is Gradient:
            seen.ends[address].append(host.now)
            seen.done[address].append((host.now, sum(hi - lo for lo, hi in work.parts)))
        elif type(work) is Advance and work.shard == 0 and address == host.lead:
            seen.steps.append(host.now)

    return watch
