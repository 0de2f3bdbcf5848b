"""Faults as data: what fails, when. The same plans drive simulated and real runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trivium.core.role import Address

__all__ = ["CutNode", "Fault", "Kill", "KillNode", "Network", "Partition", "Pause", "Shape", "Slow", "SlowDisk"]


@dataclass(frozen=True)
class Kill:
    """The process of ``target`` dies at time ``at`` (seconds), between any two of its steps."""

    target: Address
    at: float


@dataclass(frozen=True)
class KillNode:
    """All processes of ``node`` die at the one instant ``at``, and its memory with them."""

    node: int
    at: float


@dataclass(frozen=True)
class Pause:
    """The process of ``target`` stops at ``at`` for ``seconds`` (SIGSTOP, SIGCONT): it does nothing, then goes on."""

    target: Address
    at: float
    seconds: float


@dataclass(frozen=True)
class Partition:
    """From ``at`` on, for ``seconds``, what ``target`` sends is lost, and what is sent to it."""

    target: Address
    at: float
    seconds: float


@dataclass(frozen=True)
class CutNode:
    """From ``at`` on, for ``seconds``, what goes into ``node`` or out of it is lost; inside of it all is heard."""

    node: int
    at: float
    seconds: float


@dataclass(frozen=True)
class Slow:
    """Each compute of ``target`` takes ``factor`` times as long, with probability ``chance``."""

    target: Address
    factor: float
    chance: float = 1.0


@dataclass(frozen=True)
class Shape:
    """What goes into ``node`` or out of it takes ``delay`` seconds more, and its bulk ``bandwidth`` bytes a second."""

    node: int
    delay: float = 0.0
    bandwidth: float = math.inf


@dataclass(frozen=True)
class SlowDisk:
    """Each write of ``target`` takes ``seconds``; a kill meanwhile leaves a torn file."""

    target: Address
    seconds: float


Fault = Kill | KillNode | Pause | Partition | CutNode | Slow | Shape | SlowDisk


@dataclass(frozen=True)
class Network:
    """How messages travel: ``latency`` seconds plus an exponential ``jitter``; shares that are lost or doubled.

    ``ordered`` keeps messages of one pair in order, as links do; False lets them overtake each other.
    """

    latency: float = 20e-6
    jitter: float = 20e-6
    lost: float = 0.0
    doubled: float = 0.0
    ordered: bool = True
