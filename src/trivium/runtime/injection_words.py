"""Faults in words, for ``--inject``: what can be planned, its grammar, and whether it fits a run.

==================================== ==================================================================================
words                                what happens
==================================== ==================================================================================
``slow:worker1:x4``                  each step of the worker takes 4 times as long: it waits, and burns no CPU
``slow:each:x4@0.1``                 likewise each worker's, each step with probability 0.1
``kill:node1@clock50``               once clock 50 is reached, SIGKILL (a node: all of its processes)
``kill:server0@3s``                  likewise 3 seconds after the run began; also ``worker0``, ``driver``
``stop:worker1@clock5+2s``           SIGSTOP, and SIGCONT 2 seconds later
``partition:node1@clock20+3s``       nothing goes into the node or out of it for 3 seconds
``delay:5ms``, ``delay:node1:5ms``   what goes from node to node, or into this one and out of it, comes 5 ms later
``bandwidth:100Mbit``,               likewise no more than so many bits a second
``bandwidth:node0:1Gbit``
``slowdisk:server0:0.5s``            each write to the run directory takes half a second more
==================================== ==================================================================================

A plan is read before the start; what it says of processes that are not there, or of links where there are none, is an
error then, never ignored.

Prior art: *Chaos Monkey* (Basiri et al., *Chaos engineering*, 2016); tc-netem's words for links; Harlap et al. (SoCC
2016) for waits in the place of slow machines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

from trivium.errors import PlanError, unknown

__all__ = [
    "Bandwidth",
    "Delay",
    "Injection",
    "Kill",
    "Partition",
    "Slow",
    "SlowDisk",
    "Stop",
    "When",
    "check",
    "parse_injection",
]

EACH = "each"
NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
DURATIONS = {"us": Fraction(1, 10**6), "ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60)}
RATES = {"Kbit": Fraction(125), "Mbit": Fraction(125_000), "Gbit": Fraction(125_000_000)}  # bytes a second
ANYONE = ("node", "worker", "server", "driver")


# -- what can be planned -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class When:
    """Once a clock is reached, or so many seconds after the run began."""

    clock: int | None = None
    seconds: float | None = None

    def come(self, clock: int, seconds: float) -> bool:
        """Whether it is time."""
        return clock >= self.clock if self.clock is not None else seconds >= (self.seconds or 0.0)

    def at(self, seconds_per_clock: float) -> float:
        """Seconds after the run began, or about so many."""
        return self.clock * seconds_per_clock if self.clock is not None else (self.seconds or 0.0)


@dataclass(frozen=True)
class _Planned:
    """Base of all plans; ``text`` is how it was asked for."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Slow(_Planned):
    """Steps of ``who`` ("worker 1", "each") take ``factor`` times as long, each with probability ``chance``."""

    who: str
    factor: float
    chance: float


@dataclass(frozen=True)
class Kill(_Planned):
    """SIGKILL for ``who``; a node: for all of its processes."""

    who: str
    when: When


@dataclass(frozen=True)
class Stop(_Planned):
    """SIGSTOP for ``who``, SIGCONT after ``seconds``."""

    who: str
    when: When
    seconds: float


@dataclass(frozen=True)
class Partition(_Planned):
    """Nothing gets into the node ``who`` or out of it for ``seconds``."""

    who: str
    when: When
    seconds: float


@dataclass(frozen=True)
class Delay(_Planned):
    """Links of the node ``who`` ("": of all) are ``seconds`` longer, one way."""

    who: str
    seconds: float


@dataclass(frozen=True)
class Bandwidth(_Planned):
    """Links of the node ``who`` ("": of all) carry ``rate`` bytes a second."""

    who: str
    rate: float


@dataclass(frozen=True)
class SlowDisk(_Planned):
    """Each write of ``who`` takes ``seconds`` more."""

    who: str
    seconds: float


Injection = Slow | Kill | Stop | Partition | Delay | Bandwidth | SlowDisk


# -- the grammar -------------------------------------------------------------------------------------------------------
def parse_injection(text: str) -> Injection:
    """Read one plan; PlanError says where it is wrong and what is allowed there.

    >>> parse_injection("slow:each:x4@0.1")
    Slow(text='slow:each:x4@0.1', who='each', factor=4.0, chance=0.1)
    >>> parse_injection("stop:worker1@clock5+2s")
    Stop(text='stop:worker1@clock5+2s', who='worker 1', when=When(clock=5, seconds=None), seconds=2.0)
    >>> str(parse_injection("bandwidth:100Mbit")), parse_injection("bandwidth:100Mbit").rate
    ('bandwidth:100Mbit', 12500000.0)
    """
    kind, _, rest = text.partition(":")
    if kind not in GRAMMAR:
        raise PlanError(f"inject {text!r}: {unknown('fault', kind, GRAMMAR)}; as in {EXAMPLES['slow']!r}")
    return GRAMMAR[kind](text, rest)


def _wrong(text: str, found: str, expected: str) -> NoReturn:
    kind = text.partition(":")[0]
    told = f"found {found!r}" if found else "nothing there"
    raise PlanError(f"inject {text!r}: {told}, expected {expected}; as in {EXAMPLES[kind]!r}")


def _split(text: str, rest: str, mark: str, expected: str) -> tuple[str, str]:
    before, found, after = rest.partition(mark)
    if not found:
        _wrong(text, rest, f"{expected} with {mark!r} between them")
    return before, after


def _who(text: str, given: str, kinds: Iterable[str]) -> str:
    """The name of a process or node, as the run calls it."""
    for kind in kinds:
        if kind in (EACH, "driver"):
            if given == kind:
                return given
        elif re.fullmatch(rf"{kind}[0-9]{{1,9}}", given):
            return f"{kind} {int(given.removeprefix(kind))}"
    shown = [kind if kind in (EACH, "driver") else f"{kind}0" for kind in kinds]
    _wrong(text, given, f"whom it strikes ({', '.join(shown)} …)")


def _measure(text: str, given: str, units: Mapping[str, Fraction], what: str) -> float:
    found = re.fullmatch(rf"({NUMBER})({'|'.join(units)})", given)
    value = float(Fraction(found[1]) * units[found[2]]) if found else 0.0
    if found is None or not value > 0:
        _wrong(text, given, f"{what} above 0 in {', '.join(units)}")
    return value


def _seconds(text: str, given: str) -> float:
    return _measure(text, given, DURATIONS, "a time")


def _when(text: str, given: str) -> When:
    clock = re.fullmatch(r"clock([0-9]{1,12})", given)
    if clock:
        return When(clock=int(clock[1]))
    found = re.fullmatch(rf"({NUMBER})({'|'.join(DURATIONS)})", given)
    if found is None:
        _wrong(text, given, "when: clock50, or a time as in 3s")
    return When(seconds=float(Fraction(found[1]) * DURATIONS[found[2]]))


def _slow(text: str, rest: str) -> Slow:
    given, how = _split(text, rest, ":", "whom and how much")
    who = _who(text, given, ("worker", EACH))
    times, at, chance = how.partition("@")
    factor = re.fullmatch(rf"x({NUMBER})", times)
    if factor is None or not float(factor[1]) > 1:
        _wrong(text, times, "how many times slower, above 1, as in x4")
    if at and not (re.fullmatch(NUMBER, chance) and 0 < float(chance) <= 1):
        _wrong(text, chance, "a probability above 0, at most 1")
    return Slow(text, who, float(factor[1]), float(chance) if at else 1.0)


def _kill(text: str, rest: str) -> Kill:
    who, when = _split(text, rest, "@", "whom and when")
    return Kill(text, _who(text, who, ANYONE), _when(text, when))


def _for_a_while(text: str, rest: str, kinds: Iterable[str]) -> tuple[str, When, float]:
    who, later = _split(text, rest, "@", "whom and when")
    when, seconds = _split(text, later, "+", "when and for how long")
    return _who(text, who, kinds), _when(text, when), _seconds(text, seconds)


def _stop(text: str, rest: str) -> Stop:
    return Stop(text, *_for_a_while(text, rest, ANYONE))


def _partition(text: str, rest: str) -> Partition:
    return Partition(text, *_for_a_while(text, rest, ("node",)))


def _link(text: str, rest: str) -> tuple[str, str]:
    """The node, or "" for all, and the rest."""
    given, colon, more = rest.partition(":")
    return (_who(text, given, ("node",)), more) if colon else ("", rest)


def _delay(text: str, rest: str) -> Delay:
    who, given = _link(text, rest)
    return Delay(text, who, _seconds(text, given))


def _bandwidth(text: str, rest: str) -> Bandwidth:
    who, given = _link(text, rest)
    return Bandwidth(text, who, _measure(text, given, RATES, "a rate"))


def _slowdisk(text: str, rest: str) -> SlowDisk:
    who, seconds = _split(text, rest, ":", "whom and how long")
    return SlowDisk(text, _who(text, who, ("server", "worker", "driver")), _seconds(text, seconds))


GRAMMAR: Mapping[str, Callable[[str, str], Injection]] = {
    "slow": _slow,
    "kill": _kill,
    "stop": _stop,
    "partition": _partition,
    "delay": _delay,
    "bandwidth": _bandwidth,
    "slowdisk": _slowdisk,
}
EXAMPLES = {
    "slow": "slow:worker1:x4",
    "kill": "kill:node1@clock50",
    "stop": "stop:worker1@clock5+2s",
    "partition": "partition:node1@clock20+3s",
    "delay": "delay:5ms",
    "bandwidth": "bandwidth:100Mbit",
    "slowdisk": "slowdisk:server0:0.5s",
}


def check(injections: Iterable[Injection], names: Iterable[str]) -> None:
    """PlanError where a plan strikes someone who is not in ``names`` ("worker 0", "server 0", "node 0", "driver"), or
    a link where there are not two nodes.

    >>> check([parse_injection("kill:node2@3s")], ["driver", "node 1"])
    Traceback (most recent call last):
    trivium.errors.PlanError: inject 'kill:node2@3s': unknown node 'node2' (did you mean 'node1'?); allowed: node1
    """
    here = set(names)
    nodes = {name for name in here if name.startswith("node ")}
    for plan in injections:
        if isinstance(plan, Delay | Bandwidth | Partition) and len(nodes) < 2:
            raise PlanError(
                f"inject {plan.text!r}: there is no link between nodes in a run on one node; ask for more (nodes=2)"
            )
        if plan.who not in here and plan.who not in ("", EACH):
            kind = "node" if plan.who.startswith("node ") else "process"
            like = nodes if kind == "node" else here - nodes
            allowed = [name.replace(" ", "") for name in like]
            raise PlanError(f"inject {plan.text!r}: {unknown(kind, plan.who.replace(' ', ''), allowed)}")
