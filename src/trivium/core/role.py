"""Roles: pure state machines that are fed events and answer with commands.

Rules
-----
1. A role does no I/O. It has no socket, thread, clock, shared memory or global random source; time is the ``now`` it is
   handed (seconds, from any origin).
2. Events are facts, in the past tense. Commands are imperatives. Both are frozen.
3. Messages are small typed structs. Bulk arrays never ride in them: a message names lanes, shards and clocks, and the
   host knows where their blocks lie.
4. No role asks which host it is on: the same object runs on processes, on a cluster and under simulation.
5. Each role keeps its *story*, the last events it saw; every ``ProtocolError`` prints it.

Prior art: dask/distributed's worker state machine (retrofitted there after years of deadlocks), h11, Trio's injected
clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import msgspec

from trivium.errors import ProtocolError

__all__ = [
    "Address",
    "Command",
    "Compute",
    "ComputeFailed",
    "ComputeFinished",
    "Event",
    "Launch",
    "Message",
    "MessageReceived",
    "PeerJoined",
    "PeerLost",
    "PeerSilent",
    "Persist",
    "Persisted",
    "Read",
    "ReadReady",
    "Retire",
    "Role",
    "ScaleRequested",
    "Send",
    "SetTimer",
    "Started",
    "Stop",
    "StopRequested",
    "SwitchRequested",
    "TimerFired",
    "Work",
]


class Address(NamedTuple):
    """A role's place: node, and slot on that node."""

    node: int
    slot: int


class Message(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Base of all that travels between roles."""


class Work(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Base of all that touches bulk data; carried out by a host's plane."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of what a role is told."""


class Started(Event, frozen=True, gc=False):
    """The host runs: the first event of a role's life."""


class MessageReceived(Event, frozen=True, gc=False):
    """``message`` from ``sender`` arrived; it may be late, doubled or out of order."""

    sender: Address
    message: Message


class ComputeFinished(Event, frozen=True, gc=False):
    """``work`` is done; ``result`` is what its kind promises."""

    work: Work
    result: Any


class ComputeFailed(Event, frozen=True, gc=False):
    """``work`` raised: the error and its traceback, as text."""

    work: Work
    error: str
    traceback: str


class ReadReady(Event, frozen=True, gc=False):
    """All shards can be read at ``clock``; they stay readable until the next ``Read``."""

    clock: int


class Persisted(Event, frozen=True, gc=False):
    """``record`` is on disk, fsynced; or ``error`` says why not."""

    record: Work
    error: str = ""


class TimerFired(Event, frozen=True, gc=False):
    """The timer ``name`` is due."""

    name: str


class PeerJoined(Event, frozen=True, gc=False):
    """``peer`` has imported, compiled and mapped its data."""

    peer: Address


class PeerLost(Event, frozen=True, gc=False):
    """``peer`` is dead, reaped, and writes nothing any more; ``how``, and what it was ``doing``, in words."""

    peer: Address
    how: str
    doing: str = ""


class PeerSilent(Event, frozen=True, gc=False):
    """No sign of life from ``peer`` for ``seconds``; ``doing`` is what it was at."""

    peer: Address
    seconds: float
    doing: str


class StopRequested(Event, frozen=True, gc=False):
    """A person wants the run to end in order."""

    reason: str


class ScaleRequested(Event, frozen=True, gc=False):
    """A person wants ``workers`` in total, on ``nodes`` nodes (0: on those that there are)."""

    workers: int
    nodes: int = 0


class SwitchRequested(Event, frozen=True, gc=False):
    """A person wants another consistency from the next term on; ``consistency`` as in a plan."""

    consistency: str


class Command(msgspec.Struct, frozen=True, gc=False):
    """Base of what a role wants done."""


class Send(Command, frozen=True, gc=False):
    """Hand ``message`` to the role at ``to``."""

    to: Address
    message: Message


class Compute(Command, frozen=True, gc=False):
    """Do ``work`` on bulk data; ``ComputeFinished`` or ``ComputeFailed`` follows."""

    work: Work


class Read(Command, frozen=True, gc=False):
    """Make all shards readable at exactly ``clock``; ``ReadReady`` follows."""

    clock: int


class Persist(Command, frozen=True, gc=False):
    """Write ``record`` to the run directory and fsync; ``Persisted`` follows."""

    record: Work


class Launch(Command, frozen=True, gc=False):
    """Start processes at ``peers``; ``PeerJoined`` follows for each, or ``PeerLost``."""

    peers: tuple[Address, ...]


class Retire(Command, frozen=True, gc=False):
    """Kill ``peer`` and reap it; ``PeerLost`` follows."""

    peer: Address
    why: str


class SetTimer(Command, frozen=True, gc=False):
    """Fire ``name`` at time ``at``; a later call with the same name replaces it."""

    name: str
    at: float


class Stop(Command, frozen=True, gc=False):
    """The role is done; ``error`` is empty, or the reason of failure with its exit code.

    ``kind`` is whose failure it is: "program" (the user's code raised), "storage", "lost" (a process died whose work
    nobody could take over), "stopped" (a person, before there was anything to save) or "run".
    """

    reason: str
    error: str = ""
    exit_code: int = 0
    traceback: str = ""
    kind: str = "run"


Commands: TypeAlias = list[Command]


class Role:
    """A state machine: ``handle(event, now) -> commands``."""

    story_length: ClassVar[int] = 200

    def __init__(self, me: Address) -> None:
        self.me = me
        self._story: deque[tuple[float, Event]] = deque(maxlen=self.story_length)
        self._handlers: dict[type[Event], Callable[[Any, float], Commands]] = {}

    def handle(self, event: Event, now: float) -> Commands:
        """Take ``event`` in and say what is to be done."""
        self._story.append((now, event))
        return self._handlers[type(event)](event, now)

    def story(self) -> list[str]:
        """The last events, oldest first."""
        return [f"{now:.6f} {event}" for now, event in self._story]

    def waits(self) -> bool:
        """Whether it waits for others in the middle of work (rather than having none)."""
        return False

    def validate(self) -> None:
        """Raise ProtocolError where an invariant does not hold."""

    def refuse(self, message: str) -> ProtocolError:
        """A ProtocolError with this role's story."""
        return ProtocolError(f"{type(self).__name__} {tuple(self.me)}: {message}", self.story())
