"""Faults as data: what fails, when. The same plans drive simulated and real runs."""

from __future__ import annotations

from dataclasses import dataclass

from trivium.core.role import Address

__all__ = ["Fault", "Kill", "Network", "Partition", "Pause", "SlowDisk"]


@dataclass(frozen=True)
class Kill:
    """The process of ``target`` dies at time ``at`` (seconds), between any two of its steps."""

    target: Address
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
class SlowDisk:
    """Each write of ``target`` takes ``seconds``; a kill meanwhile leaves a torn file."""

    target: Address
    seconds: float


Fault = Kill | Pause | Partition | SlowDisk


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
