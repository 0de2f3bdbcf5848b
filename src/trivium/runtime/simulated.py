"""The simulated host: every role in one process, virtual time, one seed deciding each delay, loss and crash.

With real planes it *verifies* (and under reproducible BSP ends in the same bits as processes do); with a cost model in
their place it *predicts*. Nothing here knows what the roles are about.

Semantics
---------
* A process is an address with a role and a plane. It computes one work at a time, in order; a work takes effect when it
  finishes. A killed process has no effects after its death; what it sent before may still arrive.
* Bulk goes with messages of ``core.exchange.BULK`` to another node: the sender's plane packs it before the next command
  is carried out, the receiver's unpacks it right before its role hears of the message. A lost message loses it, a
  doubled one brings it twice.
* Deaths are told to the driver after a detection delay, when nothing of the dead can run any more (killed and reaped).
  If the driver dies, its members are told. A paused process handles nothing until it goes on; after ``patience`` the
  driver hears of its silence.
* A partition loses what its target sends, and what is sent to it, until it is over; that of a node loses what crosses
  the node's border.
* A node dies as one: all of its processes at the same instant.
* A launched process says that it has joined after a drawn delay; ``spare`` knows how it is made.
* A write to the store counts once it is finished; a kill before that leaves a torn file.
* Planes and stores that verify may have three more methods: ``begin(work)`` when a work is asked for, ``died()`` when
  their process is killed, ``torn(record)`` when a write is broken off.

Prior art: FoundationDB's deterministic simulation; Trio's and h11's injected clocks and I/O.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trivium.core.exchange import BULK
from trivium.core.role import (
    Address,
    Command,
    Compute,
    ComputeFailed,
    ComputeFinished,
    Event,
    Launch,
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
    ScaleRequested,
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
from trivium.runtime.faults import (
    CutNode,
    Fault,
    Kill,
    KillNode,
    Network,
    Partition,
    Pause,
    Shape,
    Slow,
    SlowDisk,
)
from trivium.runtime.virtual import (
    FAULT,
    INTERNAL,
    PLAIN,
    Bulk,
    Due,
    Entry,
    Finish,
    Joining,
    Process,
    Ready,
    Strike,
    Write,
)

__all__ = ["Outcome", "Simulation"]

Cost = Callable[[Address, Work, random.Random], float]
Arrival = Callable[[Address, Address, Message, float], float]
Watch = Callable[[Address, Event, list[Command]], None]
Make = Callable[[], tuple[Role, Plane | None]]


@dataclass
class Outcome:
    """How a simulation ended."""

    seconds: float
    events: int
    stops: dict[Address, Stop]
    quiet: bool  # nothing more could ever happen
    trace: list[tuple[float, Address, Event, list[Command]]] = field(default_factory=list)


class Simulation:
    """Owns processes and virtual time.

    ``cost(address, work, random)`` gives seconds; ``validate`` checks each role's invariants after every event,
    ``watch`` sees every event with its commands; ``arrival(sender, to, message, now)`` says when a message comes where
    ``network`` should not draw it; ``detect`` is the most seconds until a death is told. ``spare`` makes the processes
    that the driver may launch, which takes up to ``launch`` seconds; ``scale`` are the (time, workers, nodes) that a
    person asks for.
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
        spare: Mapping[Address, Make] | None = None,
        launch: float = 0.05,
        scale: Iterable[tuple[float, int, int]] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.driver, self.cost, self.store = driver, cost, store
        self.network = network or Network()
        self.validate, self.tracing, self.detect, self.patience = validate, trace, detect, patience
        self.watch, self.arrival = watch, arrival
        self.faults = list(faults)
        self.stop_at = stop_at
        self.spare, self.launch, self.scale = dict(spare or {}), launch, tuple(scale)
        self.now = 0.0
        self.events = 0
        self._over = False
        self.stops: dict[Address, Stop] = {}
        self.trace: list[tuple[float, Address, Event, list[Command]]] = []
        self._processes: dict[Address, Process] = {}
        self._heap: list[Entry] = []
        self._number = 0
        self._torn = getattr(store, "torn", None)
        self._last: dict[tuple[Address, Address], float] = {}
        self._cut: Counter[int] = Counter()  # of each node, partitions under way
        self._shapes: dict[int, Shape] = {}
        self._link_free: dict[int, float] = {}  # of each shaped node, when its link has carried what was sent
        self._carry: dict[type[Command], Callable[[Process, Any], None]] = {
            Send: self._send,
            Compute: self._compute,
            Read: self._read,
            Persist: self._persist,
            Launch: self._launch,
            Retire: self._retire,
            SetTimer: self._set_timer,
            Stop: self._stop,
        }

    def add(self, role: Role, plane: Plane | None) -> None:
        """A process that hosts ``role``."""
        self._processes[role.me] = Process(role, plane)

    def lives(self, address: Address) -> bool:
        """Whether there is a process at ``address`` that was neither killed nor has stopped."""
        process = self._processes.get(address)
        return process is not None and process.alive

    def run(self, *, max_seconds: float = 1e9, max_events: int = 10_000_000) -> Outcome:
        """Go on until all have stopped, nothing can happen, or a bound is reached."""
        self._begin()
        heap = self._heap
        while heap and self.events < max_events and any(p.alive for p in self._processes.values()):
            quiet = self._burst(heap, max_seconds, max_events)
            if quiet:
                break
        return Outcome(self.now, self.events, self.stops, not heap, self.trace)

    def _burst(self, heap: list[Entry], max_seconds: float, max_events: int) -> bool:
        """Handle up to 256 events; True if the driver is done or the bound on time was reached."""
        pop = heapq.heappop
        for _ in range(min(256, max_events - self.events)):
            if not heap:
                return False
            at, _n, process, event, kind = pop(heap)
            if at > max_seconds or self._over:
                return True
            self.now = at
            if kind == FAULT:
                self._strike(event)  # type: ignore[arg-type]
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
            self._plan(fault)
        for at, workers, nodes in self.scale:
            self._push(at, self.driver, ScaleRequested(workers, nodes))
        if self.stop_at is not None:
            self._push(self.stop_at, self.driver, StopRequested("a person"))

    def _plan(self, fault: Fault) -> None:
        if isinstance(fault, SlowDisk):
            self._processes[fault.target].disk = fault.seconds
        elif isinstance(fault, Slow):
            self._processes[fault.target].slow = (fault.factor, fault.chance)
        elif isinstance(fault, Shape):
            self._shapes[fault.node] = fault
        else:
            self._push(fault.at, self.driver, Strike(fault), FAULT)

    def _push(self, at: float, address: Address, event: Event, kind: int = PLAIN) -> None:
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, self._processes[address], event, kind))

    def _deliver(self, process: Process, event: Event, kind: int) -> None:
        if kind == INTERNAL:
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

    def _due(self, process: Process, event: Event) -> Event | None:
        """What an internal event becomes for the role."""
        plane = process.plane
        if isinstance(event, Finish):
            assert plane is not None
            try:
                return ComputeFinished(event.work, plane.carry_out(event.work))
            except AssertionError:
                raise  # a broken invariant of the simulation itself, not the user's
            except Exception as error:  # user code may raise anything
                return ComputeFailed(event.work, str(error), "")
        if isinstance(event, Ready):
            assert plane is not None
            plane.read(event.clock)
            return ReadReady(event.clock)
        if isinstance(event, Write):
            return self._written(process, event.record, event.held)
        if isinstance(event, Bulk):
            assert process.unpack is not None
            process.unpack(event.sender, event.message, event.payload)
            return MessageReceived(event.sender, event.message)
        if isinstance(event, Joining):
            return PeerJoined(event.peer) if self._processes[event.peer].alive else None
        assert isinstance(event, Due)
        return TimerFired(event.name) if process.timers.get(event.name) == event.number else None

    def _written(self, process: Process, record: Work, held: Any) -> Event:
        process.writing.remove(record)
        try:
            self.store.write(record, held)
        except StorageError as error:
            return Persisted(record, str(error))
        return Persisted(record)

    # -- commands -----------------------------------------------------------------------------------------------------
    def _send(self, process: Process, command: Send) -> None:
        network, draw, to = self.network, self.random, self._processes.get(command.to)
        if to is None:
            return  # it was never started
        event: Event = MessageReceived(process.address, command.message)
        kind, payload = PLAIN, None
        abroad = process.address.node != command.to.node
        if abroad and process.pack is not None and isinstance(command.message, BULK):
            payload = process.pack(command.message)
            event, kind = Bulk(process.address, command.message, payload), INTERNAL
        if self.arrival is not None:
            at = self.arrival(process.address, command.to, command.message, self.now)
            self._number += 1
            heapq.heappush(self._heap, (at, self._number, to, event, kind))
            return
        if process.cut or to.cut or (network.lost and draw.random() < network.lost):
            return
        if abroad and self._cut and (self._cut[process.address.node] or self._cut[command.to.node]):
            return
        for _ in range(2 if network.doubled and draw.random() < network.doubled else 1):
            at = self.now + network.latency
            if network.jitter:
                at += draw.expovariate(1.0) * network.jitter
            if abroad and self._shapes:
                at += self._on_the_way(process.address.node, command.to.node, payload)
            if network.ordered:
                pair = (process.address, command.to)
                at = self._last[pair] = max(at, self._last.get(pair, 0.0))
            self._push(at, command.to, event, kind)

    def _on_the_way(self, sender: int, to: int, payload: Any) -> float:
        """Seconds more that the shapes of both ends make of a message."""
        nbytes = sum(getattr(one, "nbytes", 0) for one in payload or ())
        more = 0.0
        for node in (sender, to):
            shape = self._shapes.get(node)
            if shape is not None:
                start = max(self.now, self._link_free.get(node, 0.0))
                self._link_free[node] = start + nbytes / shape.bandwidth
                more += shape.delay + self._link_free[node] - self.now
        return more

    def _compute(self, process: Process, command: Compute) -> None:
        start = max(self.now, process.busy_until)
        seconds = self.cost(process.address, command.work, self.random)
        if process.slow is not None and self.random.random() < process.slow[1]:
            seconds *= process.slow[0]
        process.busy_until = start + seconds
        if process.begin is not None:
            process.begin(command.work)
        self._push(process.busy_until, process.address, Finish(command.work), INTERNAL)

    def _read(self, process: Process, command: Read) -> None:
        self._push(self.now, process.address, Ready(command.clock), INTERNAL)

    def _persist(self, process: Process, command: Persist) -> None:
        start = max(self.now, process.io_until)
        process.io_until = start + process.disk + self.random.random() * 1e-3
        process.writing.append(command.record)
        held = as_asked(command.record, process.plane)
        self._push(process.io_until, process.address, Write(command.record, held), INTERNAL)

    def _launch(self, _process: Process, command: Launch) -> None:
        for peer in command.peers:
            if peer not in self.spare:
                self._push(self.now + self.random.random() * self.launch, self.driver, PeerLost(peer, "did not start"))
                continue
            self.add(*self.spare.pop(peer)())
            ready = self.now + self.random.random() * self.launch
            self._push(ready, peer, Started())
            self._push(ready, self.driver, Joining(peer), INTERNAL)

    def _retire(self, _process: Process, command: Retire) -> None:
        if self._processes[command.peer].alive:
            self._kill(command.peer, command.why)

    def _set_timer(self, process: Process, command: SetTimer) -> None:
        self._number += 1
        process.timers[command.name] = self._number
        self._push(max(command.at, self.now), process.address, Due(command.name, self._number), INTERNAL)

    def _stop(self, process: Process, command: Stop) -> None:
        process.alive = False
        self.stops[process.address] = command
        if process.address != self.driver:
            self._tell_death(process.address, "left")
            return
        self._over = True
        for other in self._processes.values():
            other.alive = False  # a host ends its processes when its driver is done

    # -- faults -------------------------------------------------------------------------------------------------------
    def _strike(self, event: Strike) -> None:
        fault = event.fault
        if isinstance(fault, KillNode):
            for address in [one for one in self._processes if one.node == fault.node]:
                if self._processes[address].alive:
                    self._kill(address, "its node died")
            return
        if isinstance(fault, CutNode):
            self._cut_node(fault, event.over)
            return
        process = self._processes.get(fault.target)
        if process is None or not process.alive:
            return
        if isinstance(fault, Kill):
            self._kill(fault.target, "SIGKILL")
        elif event.over:
            self._end(process, fault)
        else:
            self._begin_fault(process, fault)

    def _begin_fault(self, process: Process, fault: Pause | Partition) -> None:
        doing = "stopped" if isinstance(fault, Pause) else "cut off"
        if isinstance(fault, Pause):
            process.paused = True
        else:
            process.cut += 1
        self._push(self.now + fault.seconds, self.driver, Strike(fault, True), FAULT)
        if fault.seconds > self.patience:
            self._tell_silence(process.address, doing)

    def _tell_silence(self, address: Address, doing: str) -> None:
        if address != self.driver:
            silent = PeerSilent(address, self.patience, doing)
            self._push(self.now + self.patience, self.driver, silent)

    def _end(self, process: Process, fault: Pause | Partition) -> None:
        if isinstance(fault, Partition):
            process.cut -= 1
            return
        process.paused = False
        held, process.held = process.held, []
        for event, kind in held:
            self._push(self.now, process.address, event, kind)

    def _cut_node(self, fault: CutNode, over: bool) -> None:
        self._cut[fault.node] += -1 if over else 1
        if over:
            return
        self._push(self.now + fault.seconds, self.driver, Strike(fault, True), FAULT)
        if fault.seconds > self.patience:
            for address, process in self._processes.items():
                if address.node == fault.node and process.alive:
                    self._tell_silence(address, "cut off")

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
