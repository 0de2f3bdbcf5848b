"""The simulated host: every role in one process, virtual time, one seed deciding each delay, loss and crash.

With real planes it *verifies* (and under reproducible BSP ends in the same bits as processes do); with a cost model in
their place it *predicts*. Nothing here knows what the roles are about.

Semantics
---------
* A process is an address with a role and a plane. It computes one work at a time, in order; a work takes effect when it
  finishes. A killed process has no effects after its death; what it sent before may still arrive.
* Deaths are told to the driver after a detection delay, when nothing of the dead can run any more (killed and reaped).
  If the driver dies, its members are told. A paused process handles nothing until it goes on; after ``patience`` the
  driver hears of its silence.
* A partition loses what its target sends, and what is sent to it, until it is over.
* A write to the store counts once it is finished; a kill before that leaves a torn file.
* Planes and stores that verify may have three more methods: ``begin(work)`` when a work is asked for, ``died()`` when
  their process is killed, ``torn(record)`` when a write is broken off.

Prior art: FoundationDB's deterministic simulation; Trio's and h11's injected clocks and I/O.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from trivium.core.role import (
    Address,
    Command,
    Compute,
    ComputeFailed,
    ComputeFinished,
    Event,
    Message,
    MessageReceived,
    PeerJoined,
    PeerLost,
    PeerSilent,
    Persist,
    Persisted,
    Read,
    ReadReady,
    Retire,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    StopRequested,
    TimerFired,
    Work,
)
from trivium.errors import StorageError
from trivium.runtime.base import Plane, Store, as_asked
from trivium.runtime.faults import Fault, Kill, Network, Partition, Pause, SlowDisk

__all__ = ["Outcome", "Simulation"]

Cost = Callable[[Address, Work, random.Random], float]
Arrival = Callable[[Address, Address, Message, float], float]
Watch = Callable[[Address, Event, list[Command]], None]


@dataclass
class Outcome:
    """How a simulation ended."""

    seconds: float
    events: int
    stops: dict[Address, Stop]
    quiet: bool  # nothing more could ever happen
    trace: list[tuple[float, Address, Event, list[Command]]] = field(default_factory=list)


class _Process:
    __slots__ = (
        "address",
        "alive",
        "begin",
        "busy_until",
        "cut",
        "died",
        "disk",
        "held",
        "io_until",
        "paused",
        "plane",
        "role",
        "timers",
        "writing",
    )

    def __init__(self, role: Role, plane: Plane | None) -> None:
        self.role, self.plane, self.address = role, plane, role.me
        self.begin = getattr(plane, "begin", None)
        self.died = getattr(plane, "died", None)
        self.alive = True
        self.paused = False
        self.held: list[tuple[Event, int]] = []
        self.busy_until = self.io_until = 0.0
        self.disk = 0.0
        self.cut = 0  # partitions under way
        self.writing: list[Work] = []
        self.timers: dict[str, int] = {}


class _Finish(Event, frozen=True):
    """Internal: ``work`` has had its time."""

    work: Work


class _Write(Event, frozen=True):
    """Internal: ``record`` has had its time; it is written from ``held``."""

    record: Work
    held: Any


class _Timer(Event, frozen=True):
    """Internal: a timer, valid if ``number`` is the last one set under this name."""

    name: str
    number: int


class _Ready(Event, frozen=True):
    """Internal: a read is due."""

    clock: int


class _Fault(Event, frozen=True):
    """Internal: a fault strikes, or (``over``) ends."""

    fault: Any
    over: bool = False


_PLAIN, _INTERNAL, _FAULT = range(3)  # kinds of what lies in the heap
_Entry: TypeAlias = tuple[float, int, _Process, Event, int]


class Simulation:
    """Owns processes and virtual time.

    ``cost(address, work, random)`` gives seconds; ``validate`` checks each role's invariants after every event,
    ``watch`` sees every event with its commands; ``arrival(sender, to, message, now)`` says when a message comes where
    ``network`` should not draw it; ``detect`` is the most seconds until a death is told.
    """

    def __init__(
        self,
        *,
        seed: int,
        driver: Address,
        cost: Cost,
        store: Store,
        network: Network | None = None,
        faults: Iterable[Fault] = (),
        stop_at: float | None = None,
        validate: bool = False,
        trace: bool = False,
        watch: Watch | None = None,
        arrival: Arrival | None = None,
        detect: float = 0.05,
        patience: float = 10.0,
    ) -> None:
        self.random = random.Random(seed)
        self.driver, self.cost, self.store = driver, cost, store
        self.network = network or Network()
        self.validate, self.tracing, self.detect, self.patience = validate, trace, detect, patience
        self.watch, self.arrival = watch, arrival
        self.faults = list(faults)
        self.stop_at = stop_at
        self.now = 0.0
        self.events = 0
        self._over = False
        self.stops: dict[Address, Stop] = {}
        self.trace: list[tuple[float, Address, Event, list[Command]]] = []
        self._processes: dict[Address, _Process] = {}
        self._heap: list[_Entry] = []
        self._number = 0
        self._torn = getattr(store, "torn", None)
        self._last: dict[tuple[Address, Address], float] = {}
        self._carry: dict[type[Command], Callable[[_Process, Any], None]] = {
            Send: self._send,
            Compute: self._compute,
            Read: self._read,
            Persist: self._persist,
            Retire: self._retire,
            SetTimer: self._set_timer,
            Stop: self._stop,
        }

    def add(self, role: Role, plane: Plane | None) -> None:
        """A process that hosts ``role``."""
        self._processes[role.me] = _Process(role, plane)

    def run(self, *, max_seconds: float = 1e9, max_events: int = 10_000_000) -> Outcome:
        """Go on until all have stopped, nothing can happen, or a bound is reached."""
        self._begin()
        heap = self._heap
        while heap and self.events < max_events and any(p.alive for p in self._processes.values()):
            quiet = self._burst(heap, max_seconds, max_events)
            if quiet:
                break
        return Outcome(self.now, self.events, self.stops, not heap, self.trace)

    def _burst(self, heap: list[_Entry], max_seconds: float, max_events: int) -> bool:
        """Handle up to 256 events; True if the driver is done or the bound on time was reached."""
        pop = heapq.heappop
        for _ in range(min(256, max_events - self.events)):
            if not heap:
                return False
            at, _n, process, event, kind = pop(heap)
            if at > max_seconds or self._over:
                return True
            self.now = at
            if kind == _FAULT:
                self._strike(process, event)  # type: ignore[arg-type]
            elif process.paused:
                process.held.append((event, kind))
            elif process.alive:
                self._deliver(process, event, kind)
        return False

    def _begin(self) -> None:
        for address in self._processes:
            self._push(0.0, address, Started())
            if address != self.driver:
                self._push(self.random.random() * 0.01, self.driver, PeerJoined(address))
        for fault in self.faults:
            if isinstance(fault, SlowDisk):
                self._processes[fault.target].disk = fault.seconds
            else:
                self._push(fault.at, fault.target, _Fault(fault), _FAULT)
        if self.stop_at is not None:
            self._push(self.stop_at, self.driver, StopRequested("a person"))

    def _push(self, at: float, address: Address, event: Event, kind: int = _PLAIN) -> None:
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, self._processes[address], event, kind))

    def _deliver(self, process: _Process, event: Event, kind: int) -> None:
        if kind == _INTERNAL:
            told = self._due(process, event)
            if told is None:
                return
            event = told
        self.events += 1
        role, carry = process.role, self._carry
        commands = role.handle(event, self.now)
        if self.tracing:
            self.trace.append((self.now, process.address, event, commands))
        for command in commands:
            carry[type(command)](process, command)
        if self.validate:
            role.validate()
        if self.watch is not None:
            self.watch(process.address, event, commands)

    def _due(self, process: _Process, event: Event) -> Event | None:
        """What an internal event becomes for the role."""
        plane = process.plane
        if isinstance(event, _Finish):
            assert plane is not None
            try:
                return ComputeFinished(event.work, plane.carry_out(event.work))
            except AssertionError:
                raise  # a broken invariant of the simulation itself, not the user's
            except Exception as error:  # user code may raise anything
                return ComputeFailed(event.work, str(error), "")
        if isinstance(event, _Ready):
            assert plane is not None
            plane.read(event.clock)
            return ReadReady(event.clock)
        if isinstance(event, _Write):
            return self._written(process, event.record, event.held)
        assert isinstance(event, _Timer)
        return TimerFired(event.name) if process.timers.get(event.name) == event.number else None

    def _written(self, process: _Process, record: Work, held: Any) -> Event:
        process.writing.remove(record)
        try:
            self.store.write(record, held)
        except StorageError as error:
            return Persisted(record, str(error))
        return Persisted(record)

    # -- commands -----------------------------------------------------------------------------------------------------
    def _send(self, process: _Process, command: Send) -> None:
        network, draw, to = self.network, self.random, self._processes[command.to]
        event = MessageReceived(process.address, command.message)
        if self.arrival is not None:
            at = self.arrival(process.address, command.to, command.message, self.now)
            self._number += 1
            heapq.heappush(self._heap, (at, self._number, to, event, _PLAIN))
            return
        if process.cut or to.cut or (network.lost and draw.random() < network.lost):
            return
        for _ in range(2 if network.doubled and draw.random() < network.doubled else 1):
            at = self.now + network.latency
            if network.jitter:
                at += draw.expovariate(1.0) * network.jitter
            if network.ordered:
                pair = (process.address, command.to)
                at = self._last[pair] = max(at, self._last.get(pair, 0.0))
            self._push(at, command.to, event)

    def _compute(self, process: _Process, command: Compute) -> None:
        start = max(self.now, process.busy_until)
        process.busy_until = start + self.cost(process.address, command.work, self.random)
        if process.begin is not None:
            process.begin(command.work)
        self._push(process.busy_until, process.address, _Finish(command.work), _INTERNAL)

    def _read(self, process: _Process, command: Read) -> None:
        self._push(self.now, process.address, _Ready(command.clock), _INTERNAL)

    def _persist(self, process: _Process, command: Persist) -> None:
        start = max(self.now, process.io_until)
        process.io_until = start + process.disk + self.random.random() * 1e-3
        process.writing.append(command.record)
        held = as_asked(command.record, process.plane)
        self._push(process.io_until, process.address, _Write(command.record, held), _INTERNAL)

    def _retire(self, _process: _Process, command: Retire) -> None:
        if self._processes[command.peer].alive:
            self._kill(command.peer, command.why)

    def _set_timer(self, process: _Process, command: SetTimer) -> None:
        self._number += 1
        process.timers[command.name] = self._number
        self._push(max(command.at, self.now), process.address, _Timer(command.name, self._number), _INTERNAL)

    def _stop(self, process: _Process, command: Stop) -> None:
        process.alive = False
        self.stops[process.address] = command
        if process.address != self.driver:
            self._tell_death(process.address, "left")
            return
        self._over = True
        for other in self._processes.values():
            other.alive = False  # a host ends its processes when its driver is done

    # -- faults -------------------------------------------------------------------------------------------------------
    def _strike(self, process: _Process, event: _Fault) -> None:
        fault, address = event.fault, process.address
        if not process.alive:
            return
        if isinstance(fault, Kill):
            self._kill(address, "SIGKILL")
        elif event.over:
            self._end(process, fault)
        else:
            self._begin_fault(process, fault)

    def _begin_fault(self, process: _Process, fault: Pause | Partition) -> None:
        doing = "stopped" if isinstance(fault, Pause) else "cut off"
        if isinstance(fault, Pause):
            process.paused = True
        else:
            process.cut += 1
        self._push(self.now + fault.seconds, process.address, _Fault(fault, True), _FAULT)
        if fault.seconds > self.patience and process.address != self.driver:
            silent = PeerSilent(process.address, self.patience, doing)
            self._push(self.now + self.patience, self.driver, silent)

    def _end(self, process: _Process, fault: Pause | Partition) -> None:
        if isinstance(fault, Partition):
            process.cut -= 1
            return
        process.paused = False
        held, process.held = process.held, []
        for event, kind in held:
            self._push(self.now, process.address, event, kind)

    def _kill(self, address: Address, how: str) -> None:
        process = self._processes[address]
        process.alive = False
        for record in process.writing:
            if self._torn is not None:
                self._torn(record)
        if process.died is not None:
            process.died()
        self._tell_death(address, how)

    def _tell_death(self, address: Address, how: str) -> None:
        listeners: Sequence[Address] = (self.driver,) if address != self.driver else tuple(self._processes)
        for listener in listeners:
            if listener != address:
                self._push(self.now + self.random.random() * self.detect, listener, PeerLost(address, how))
