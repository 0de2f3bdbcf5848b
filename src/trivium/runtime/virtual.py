"""What the simulated host keeps of each process, and what lies in its heap until it is due."""

from __future__ import annotations

from typing import Any, TypeAlias

from trivium.core.role import Address, Event, Message, Role, Work
from trivium.runtime.base import Plane

__all__ = [
    "FAULT",
    "INTERNAL",
    "PLAIN",
    "Bulk",
    "Due",
    "Entry",
    "Finish",
    "Joining",
    "Process",
    "Ready",
    "Strike",
    "Write",
]

PLAIN, INTERNAL, FAULT = range(3)  # kinds of what lies in the heap


class Process:
    """A role and its plane, and how far its works, its writes and its timers are."""

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
        "pack",
        "paused",
        "plane",
        "role",
        "slow",
        "timers",
        "unpack",
        "writing",
    )

    def __init__(self, role: Role, plane: Plane | None) -> None:
        self.role, self.plane, self.address = role, plane, role.me
        self.begin = getattr(plane, "begin", None)
        self.died = getattr(plane, "died", None)
        self.pack = getattr(plane, "pack", None)
        self.unpack = getattr(plane, "unpack", None)
        self.alive = True
        self.paused = False
        self.held: list[tuple[Event, int]] = []
        self.busy_until = self.io_until = 0.0
        self.disk = 0.0
        self.slow: tuple[float, float] | None = None  # factor and chance
        self.cut = 0  # partitions under way
        self.writing: list[Work] = []
        self.timers: dict[str, int] = {}


Entry: TypeAlias = tuple[float, int, Process, Event, int]


class Finish(Event, frozen=True):
    """Internal: ``work`` has had its time."""

    work: Work


class Write(Event, frozen=True):
    """Internal: ``record`` has had its time; it is written from ``held``."""

    record: Work
    held: Any


class Due(Event, frozen=True):
    """Internal: a timer, valid if ``number`` is the last one set under this name."""

    name: str
    number: int


class Ready(Event, frozen=True):
    """Internal: a read is due."""

    clock: int


class Bulk(Event, frozen=True):
    """Internal: ``message`` arrives from another node with what its plane packed beside it."""

    sender: Address
    message: Message
    payload: Any


class Joining(Event, frozen=True):
    """Internal: ``peer``, which was launched, is ready unless it died meanwhile."""

    peer: Address


class Strike(Event, frozen=True):
    """Internal: a fault strikes, or (``over``) ends."""

    fault: Any
    over: bool = False
