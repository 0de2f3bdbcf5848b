"""The inline host: a run's roles in this process and this thread, events and commands through one queue.

For data that are small, and for places where no process can be started. Nothing is shared, written or waited for: a
message is there at once, a record counts as written, a timer that asks again never fires, since nothing is lost.

Rules
-----
* The roles, the plane and the order of every sum are those of a sequential run on processes, and so are the bits.
* Whatever ends the loop (an error, Ctrl-C) leaves nothing behind but garbage.
* Between two events the host looks at the time, at most every ``LOOK_EVERY`` seconds: wishes, ``max_time``, progress.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.membership import Driver
from trivium.core.messages import Apply
from trivium.core.role import (
    Command,
    Compute,
    ComputeFailed,
    ComputeFinished,
    Event,
    MessageReceived,
    PeerJoined,
    Persist,
    Persisted,
    Read,
    ReadReady,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    StopRequested,
    TimerFired,
    Work,
)
from trivium.core.spans import IDLE, LOAD, SEND, Spans
from trivium.program.params import ALIGN
from trivium.record import KINDS
from trivium.runtime.host import Trace, told
from trivium.runtime.plane import ArrayPlane, Facts, NodeArrays, node_arrays
from trivium.runtime.versions import SLOTS

__all__ = ["InlineHost", "LocalVersions", "inline_plane", "private_arrays"]

LOOK_EVERY = 0.05  # seconds
NO_RESULT = (False, 0, 0.0, 0.0, 0.0)


class LocalVersions:
    """``Versions`` for one thread: the same rules, without words that others read."""

    def __init__(self, readers: int, slots: int = SLOTS) -> None:
        self.readers, self.slots = readers, slots
        self._clocks = [-1] * slots
        self._pins = [-1] * readers
        self._last = self._before = -1

    def begin(self) -> int:
        """A slot to fill, neither one of the last two versions nor pinned; -1 if there is none."""
        taken = (self._last, self._before, *self._pins)
        for k in range(1, self.slots + 1):
            slot = (self._last + k) % self.slots
            if slot not in taken:
                return slot
        return -1

    def commit(self, slot: int, clock: int) -> None:
        """``slot`` is the version of ``clock``."""
        self._clocks[slot] = clock
        self._last, self._before = slot, self._last

    def pin(self, reader: int, clock: int = -1) -> int:
        """The slot of ``clock`` (-1: the newest), held until ``unpin``; -1 if it is not among the last two."""
        slot = self._last
        if clock >= 0 and (slot < 0 or self._clocks[slot] != clock):
            slot = self._before
            if slot >= 0 and self._clocks[slot] != clock:
                slot = -1
        self._pins[reader] = slot
        return slot

    def unpin(self, reader: int) -> None:
        """Let go."""
        self._pins[reader] = -1

    drop = unpin

    def current(self) -> tuple[int, int]:
        """(clock, slot) of the newest version; (-1, -1) before the first."""
        return (self._clocks[self._last], self._last) if self._last >= 0 else (-1, -1)

    def clock_of(self, slot: int) -> int:
        """Clock of ``slot`` as last committed, -1 if never."""
        return self._clocks[slot]


def private_arrays(facts: Facts) -> NodeArrays:
    """The node's arrays in memory of this process: one allocation, each array on a 64-byte boundary."""
    entries = [(name, np.dtype(dtype), shape, math.prod(shape)) for name, (dtype, shape) in node_arrays(facts).items()]
    sizes = [-(-count * dtype.itemsize // ALIGN) * ALIGN for _, dtype, _, count in entries]
    raw = np.zeros(sum(sizes) + ALIGN, np.uint8)
    at = -raw.ctypes.data % ALIGN
    arrays: dict[str, NDArray[Any]] = {}
    for (name, dtype, shape, count), size in zip(entries, sizes, strict=True):
        arrays[name] = raw[at : at + count * dtype.itemsize].view(dtype).reshape(shape)
        at += size
    return NodeArrays(**arrays)


def inline_plane(facts: Facts, me: int, **settings: Any) -> ArrayPlane:
    """A plane over private arrays, whose versions nobody else reads."""
    plane = ArrayPlane(facts, private_arrays(facts), me, **settings)
    for held in plane.held:
        held.versions = LocalVersions(held.versions.readers)  # type: ignore[assignment]
    return plane


class InlineHost:
    """Runs a driver and one member that is worker and holder, until the driver stops.

    ``show`` is called about five times a second, ``wishes`` are reasons to stop, appended by anybody.
    """

    def __init__(
        self,
        driver: Driver,
        member: Role,
        plane: ArrayPlane,
        *,
        show: Callable[[InlineHost], None] | None = None,
        show_every: float = 0.2,
        trace: Trace | None = None,
    ) -> None:
        self.driver, self.member, self.plane = driver, member, plane
        self.show, self.show_every, self.trace = show, show_every, trace
        self.seconds, self.waited = np.zeros(len(KINDS)), np.zeros(2)
        self.spans = plane.spans = Spans(self.seconds, self.waited, perf_counter(), LOAD)
        self.wishes: list[str] = []
        self.error: BaseException | None = None  # what the person's code raised
        self.clock, self.applied = 0, NO_RESULT  # the clock committed last, and what ``Apply`` said of it
        self._carry_out, self._read_plane = plane.carry_out, plane.read
        self._stopped: Stop | None = None
        self._queue: deque[tuple[Role, Event]] = deque()
        self._max_time = float("inf")
        self._next_look = self._next_show = 0.0
        self._roles = {driver.me: driver, member.me: member}
        self._carry: dict[type[Command], Callable[[Role, Any], None]] = {
            Send: self._send,
            Compute: self._compute,
            Read: self._read,
            Persist: self._persist,
            SetTimer: self._set_timer,
            Stop: self._stop,
        }

    def run(self) -> Stop:
        """Until the driver stops."""
        driver, member, queue, carry = self.driver, self.member, self._queue, self._carry
        queue.extend(((driver, Started()), (member, Started()), (driver, PeerJoined(member.me))))
        try:
            with np.errstate(all="ignore"):  # a rate that diverges is told of in words
                while self._stopped is None:
                    role, event = queue.popleft()
                    now = perf_counter()
                    if now >= self._next_look:
                        self._look(now)
                    commands = role.handle(event, now)
                    if self.trace is not None:
                        self.trace.append((now, role.me, event, commands))
                    for command in commands:
                        carry[type(command)](role, command)
            self.spans.switch(IDLE, perf_counter())
            return self._stopped
        finally:
            self._carry = {}  # a cycle
            queue.clear()

    def _look(self, now: float) -> None:
        self._next_look = now + LOOK_EVERY
        if self.wishes:
            self._queue.append((self.driver, StopRequested(self.wishes.pop(0))))
        if now >= self._max_time:
            self._max_time = float("inf")
            self._queue.append((self.driver, TimerFired("max_time")))
        if self.show is not None and now >= self._next_show:
            self._next_show = now + self.show_every
            self.show(self)

    # -- commands -----------------------------------------------------------------------------------------------------
    def _send(self, role: Role, command: Send) -> None:
        self._queue.append((self._roles[command.to], MessageReceived(role.me, command.message)))

    def _compute(self, role: Role, command: Compute) -> None:
        work = command.work
        try:
            result = self._carry_out(work)
        except Exception as error:
            self.error = error
            self._queue.append((role, ComputeFailed(work, *told(error))))
            return
        self._done(work, result)
        self._queue.append((role, ComputeFinished(work, result)))

    def _done(self, work: Work, result: Any) -> None:
        self.spans.switch(SEND, perf_counter())
        if type(work) is Apply:
            self.clock, self.applied = work.clock + 1, result

    def _read(self, role: Role, command: Read) -> None:
        self._read_plane(command.clock)
        self._queue.append((role, ReadReady(command.clock)))

    def _persist(self, role: Role, command: Persist) -> None:
        self._queue.append((role, Persisted(command.record)))

    def _set_timer(self, _role: Role, command: SetTimer) -> None:
        if command.name == "max_time":
            self._max_time = command.at

    def _stop(self, role: Role, command: Stop) -> None:
        if role is self.driver:
            self._stopped = command
