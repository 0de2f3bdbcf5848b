"""Faults made on purpose in a real run: who is to be struck is sent the signal, who is to be slow waits; all is said.

Rules
-----
* The driver's host looks; it sends the signals itself, for every process of the run is on its machine. A node is struck
  as one: its whole process group.
* Whoever has no process yet is struck as soon as it has one; of whoever is dead already it is said. What never came
  due is told at the end.
* The driver's own process cannot wake itself: a shell does, which is started before.
* A partition is carried out by the agent that is cut off, and ends by its own clock: nobody could tell it.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trivium.core.membership import Note
from trivium.core.messages import Gradient
from trivium.core.role import Work
from trivium.runtime import board as boards
from trivium.runtime.host import BEAT_EVERY
from trivium.runtime.injection import Injections, Slowness, Strike
from trivium.runtime.shaping import Shape

__all__ = ["GONE", "UNBORN", "Bends", "Striker", "applied", "shaped", "slow_down", "strike", "tell"]

GONE, UNBORN = 0, -1  # in the place of a process number: it is dead, it has none yet
LOOK_OFTEN = 0.01  # seconds between two looks while something may strike
SAID_WITHIN = 0.1  # seconds in which what was told is on disk, before its teller is struck himself
DOES = {"kill": "kill", "stop": "stop", "cut": "partition"}


def applied(host: Any) -> int:
    """The clock that the run has come to, as far as the driver's host knows."""
    clock: int = max(int(np.max(host.board.figures[:, boards.APPLIED])), host.driver.agenda.clock)
    return clock


@dataclass
class Striker:
    """Carries out what is planned in ``injections``.

    ``find(name)`` is the number of a process, minus that of a group, ``GONE`` or ``UNBORN``; ``cut(name, seconds)``
    parts a node from all others; ``tell(text)`` is for people.
    """

    injections: Injections
    find: Callable[[str], int]
    cut: Callable[[str, float], None]
    tell: Callable[[str], None]
    _due: list[Strike] = field(default_factory=list)
    _halted: list[tuple[float, str]] = field(default_factory=list)
    _wakers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether anything may strike yet, or end."""
        return bool(self._due or self._halted or self._wakers or self.injections.waiting)

    def look(self, clock: int, seconds: float, now: float) -> None:
        """Strike whoever is due at ``clock``, ``seconds`` after the run began; ``now`` is of any clock."""
        self._due += self.injections.due(clock, seconds)
        for strike in list(self._due):
            if self._strike(strike, clock, now):
                self._due.remove(strike)
        for at, name in [one for one in self._halted if one[0] <= now]:
            self._halted.remove((at, name))
            self._send(self.find(name), signal.SIGCONT)
        self._wakers = [one for one in self._wakers if one.poll() is None]

    def close(self) -> None:
        """The run is over: say what never struck, wake who still sleeps."""
        for _at, name in self._halted:
            self._send(self.find(name), signal.SIGCONT)
        for plan in self.injections.waiting:
            self.tell(f"never injected: {plan}; the run was over before")
        for waker in self._wakers:
            waker.wait()
        self._halted, self._wakers = [], []

    def _strike(self, strike: Strike, clock: int, now: float) -> bool:
        """Whether it is done with."""
        pid = self.find(strike.name)
        if pid == UNBORN:
            return False
        what = f"{DOES[strike.what]} {strike.name} at clock {clock}"
        if pid == GONE:
            self.tell(f"not injected: {what}: it is not there any more")
            return True
        self.tell(f"injected: {what}" + (f" for {strike.seconds:g} s" if strike.seconds else ""))
        if strike.signal is None:
            self.cut(strike.name, strike.seconds)
            return True
        if pid == os.getpid():
            time.sleep(SAID_WITHIN)
        if strike.seconds and pid == os.getpid():
            wake = f"sleep {strike.seconds}; kill -CONT {pid}"
            waker = subprocess.Popen(["/bin/sh", "-c", wake], start_new_session=True)  # noqa: S603 - of numbers alone
            self._wakers.append(waker)
        elif strike.seconds:
            self._halted.append((now + strike.seconds, strike.name))
        self._send(pid, strike.signal)
        return True

    @staticmethod
    def _send(pid: int, number: int) -> None:
        if pid not in (GONE, UNBORN):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def strike(host: Any) -> None:
    """Let ``host.striker`` look, once everybody has joined, and the host look often while something may strike."""
    striker, waits = host.striker, host.striker.waits
    host.beat = LOOK_OFTEN if waits else BEAT_EVERY
    if waits and host.joined_at:
        striker.look(applied(host), time.perf_counter() - host.joined_at, time.monotonic())


def tell(host: Any, text: str) -> None:
    """Among the driver's notes; at once, since it may be the last one."""
    host.driver.notes.append(Note(time.perf_counter(), text))
    host.show(host)


def slow_down(plane: Any, slowness: Slowness) -> None:
    """Make each gradient of ``plane`` take longer, by waiting; to be called before a host takes ``plane`` up."""
    carry_out = plane.carry_out

    def slowly(work: Work) -> Any:
        if type(work) is not Gradient:
            return carry_out(work)
        began = time.perf_counter()
        result = carry_out(work)
        time.sleep(slowness.after(time.perf_counter() - began, work.clock))
        return result

    plane.carry_out = slowly


def shaped(delay: float, rate: float) -> Shape:
    """The shape of a link, as ``Injections.between`` has it.

    >>> shaped(0.005, math.inf)
    Shape(delay=0.005, bandwidth=None, cut=False)
    """
    return Shape(delay, rate if rate < math.inf else None)


class Bends:
    """How the links of one process are made worse, and for how long it is cut off; whoever has no shape is left alone.

    ``links`` have ``reshape(peer, shape)``, as ``links.Links`` do.
    """

    def __init__(self, links: Any) -> None:
        self._links = links
        self._shapes: dict[int, Shape] = {}
        self._cut_until = -math.inf

    def put(self, peer: int, shape: Shape) -> None:
        """The link to ``peer``, which was just made known, has ``shape``."""
        self._shapes[peer] = shape
        if self._cut_until > -math.inf or not shape.fair:
            self._bend(peer)

    def drop(self, peer: int) -> None:
        """There is no link to ``peer`` any more."""
        self._shapes.pop(peer, None)

    def cut(self, until: float) -> None:
        """Nothing goes in or out before ``look`` is told of a time from ``until`` on."""
        self._cut_until = max(self._cut_until, until)
        for peer in self._shapes:
            self._bend(peer)

    def look(self, now: float) -> None:
        """End the cut if it is time."""
        if -math.inf < self._cut_until <= now:
            self._cut_until = -math.inf
            for peer in self._shapes:
                self._bend(peer)

    def _bend(self, peer: int) -> None:
        shape = replace(self._shapes[peer], cut=self._cut_until > -math.inf)
        self._links.reshape(peer, None if shape.fair else shape)
