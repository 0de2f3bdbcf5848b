"""Where it breaks: plans of faults at work in a real run, and the same plans for the simulated host.

Rules
-----
1. Whether a step is slow is drawn from (seed, worker, clock) and nothing else: two runs can be compared, whatever their
   consistency. All lanes that a worker runs in a clock share the draw: a step is the worker's.
2. A slow worker waits, and burns no CPU: on one machine it must not take from the others.
3. Each kill, stop and partition strikes once.
4. What goes from node to node is shaped by both ends: what is wrong with either is wrong with their link.
"""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trivium.core.role import Address
from trivium.runtime import faults
from trivium.runtime.injection_words import (
    EACH,
    Bandwidth,
    Delay,
    Injection,
    Kill,
    Partition,
    Slow,
    SlowDisk,
    Stop,
    When,
    check,
    parse_injection,
)

__all__ = [
    "Bandwidth",
    "Delay",
    "Injection",
    "Injections",
    "Kill",
    "Partition",
    "Slow",
    "SlowDisk",
    "Slowness",
    "Stop",
    "Strike",
    "When",
    "check",
    "parse_injection",
]


@dataclass(frozen=True)
class Strike:
    """What is to be done now: ``what`` is "kill", "stop" or "cut", to the process or node ``name``, for ``seconds``
    (0: for good).
    """

    name: str
    what: str
    seconds: float = 0.0

    @property
    def signal(self) -> int | None:
        """The signal to send; None for a link that is cut."""
        return {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}.get(self.what)


@dataclass(frozen=True)
class Slowness:
    """How slow a worker is made.

    >>> slowness = Injections((parse_injection("slow:worker1:x4"),)).slowness("worker 1", seed=0)
    >>> slowness.after(0.5, clock=3, lane=0)
    1.5
    """

    name: str
    seed: int
    plans: tuple[Slow, ...]

    def after(self, seconds: float, clock: int, lane: int = 0) -> float:  # noqa: ARG002  # a step is the worker's: rule 1
        """Seconds to wait after ``seconds`` of compute for ``clock``."""
        factor = math.prod(plan.factor for at, plan in enumerate(self.plans) if self._draw(at, clock) < plan.chance)
        return (factor - 1.0) * seconds

    def _draw(self, at: int, clock: int) -> float:
        """A number from [0, 1) that follows from plan, seed, worker and clock."""
        key = f"{self.seed}/{self.name}/{clock}/{at}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64


class Injections:
    """All that is planned for a run; only what has struck changes.

    >>> planned = Injections((parse_injection("kill:server0@clock10"), parse_injection("delay:5ms")))
    >>> planned.due(9, 1.0), planned.due(11, 1.2), planned.due(12, 1.3)
    ([], [Strike(name='server 0', what='kill', seconds=0.0)], [])
    >>> planned.shape(0)
    (0.005, inf)
    """

    def __init__(self, plans: Iterable[Injection] = ()) -> None:
        self.plans = tuple(plans)
        self._struck: set[int] = set()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Injections:
        """Of ``--inject`` words."""
        return cls(parse_injection(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self.plans)

    def slowness(self, name: str, seed: int) -> Slowness | None:
        """What slows the worker ``name`` ("worker 1") down; None: nothing."""
        plans = tuple(plan for plan in self.plans if isinstance(plan, Slow) and plan.who in (name, EACH))
        return Slowness(name, seed, plans) if plans else None

    @property
    def waiting(self) -> tuple[Injection, ...]:
        """What may strike yet."""
        return tuple(
            plan
            for at, plan in enumerate(self.plans)
            if at not in self._struck and isinstance(plan, Kill | Stop | Partition)
        )

    def due(self, clock: int, seconds: float) -> list[Strike]:
        """What strikes now, at ``clock`` and ``seconds`` after the run began; each once."""
        found = []
        for at, plan in enumerate(self.plans):
            if (
                at in self._struck
                or not isinstance(plan, Kill | Stop | Partition)
                or not plan.when.come(clock, seconds)
            ):
                continue
            self._struck.add(at)
            found.append(_strike(plan))
        return found

    def shape(self, node: int) -> tuple[float, float]:
        """(seconds of delay one way, bytes a second) of what goes into ``node`` or out of it; 0 and infinity: as is."""
        return self._shape(("", f"node {node}"))

    def between(self, node: int, other: int) -> tuple[float, float]:
        """Likewise of the link between two nodes, where either may be a slow one."""
        return self._shape(("", f"node {node}", f"node {other}"))

    def _shape(self, whose: tuple[str, ...]) -> tuple[float, float]:
        delays = (plan.seconds for plan in self.plans if isinstance(plan, Delay) and plan.who in whose)
        rates = (plan.rate for plan in self.plans if isinstance(plan, Bandwidth) and plan.who in whose)
        return sum(delays), min(rates, default=math.inf)

    def disk(self, name: str) -> float:
        """Seconds that each write of the process ``name`` takes more."""
        return sum(plan.seconds for plan in self.plans if isinstance(plan, SlowDisk) and plan.who == name)

    def as_faults(self, addresses: Mapping[str, Address], seconds_per_clock: float) -> tuple[faults.Fault, ...]:
        """The same plans for the simulated host, where time is what a fault goes by, not clocks.

        ``addresses`` by name, nodes by any address on them. There both ends of a link shape it, so each takes half of
        what delays all links.
        """
        found: list[faults.Fault] = []
        for plan in self.plans:
            if isinstance(plan, Slow):
                names = sorted(addresses) if plan.who == EACH else [plan.who]
                slow = [name for name in names if name.startswith("worker ")]
                found += [faults.Slow(addresses[name], plan.factor, plan.chance) for name in slow]
            elif isinstance(plan, SlowDisk):
                found.append(faults.SlowDisk(addresses[plan.who], plan.seconds))
            elif isinstance(plan, Kill | Stop | Partition):
                found += _as_faults(plan, addresses, plan.when.at(seconds_per_clock))
        return (*found, *self._as_shapes(addresses))

    def _as_shapes(self, addresses: Mapping[str, Address]) -> list[faults.Fault]:
        common, _ = self._shape(("",))
        found: list[faults.Fault] = []
        for name in sorted(name for name in addresses if name.startswith("node ")):
            delay, rate = self._shape(("", name))
            if delay or rate < math.inf:
                found.append(faults.Shape(addresses[name].node, delay - common / 2, rate))
        return found


def _strike(plan: Kill | Stop | Partition) -> Strike:
    if isinstance(plan, Kill):
        return Strike(plan.who, "kill")
    return Strike(plan.who, "stop" if isinstance(plan, Stop) else "cut", plan.seconds)


def _as_faults(plan: Kill | Stop | Partition, addresses: Mapping[str, Address], at: float) -> list[faults.Fault]:
    address = addresses[plan.who]
    if isinstance(plan, Partition):
        return [faults.CutNode(address.node, at, plan.seconds)]
    if isinstance(plan, Kill):
        whole = plan.who.startswith("node ")
        return [faults.KillNode(address.node, at) if whole else faults.Kill(address, at)]
    if not plan.who.startswith("node "):
        return [faults.Pause(address, at, plan.seconds)]
    there = sorted({one for one in addresses.values() if one.node == address.node})
    return [faults.Pause(one, at, plan.seconds) for one in there]
