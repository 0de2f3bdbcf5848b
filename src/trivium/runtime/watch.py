"""Who is only shown, who is given up: the watch over a node's processes, by what is on the board and by their pidfds.

Rules
-----
* A dead process is told at once. One without a sign of life for ``patience`` seconds is given up; so is one that does
  not come to the end of its start.
* A compute far beyond what is usual for its kind is shown as a suspect, with the place where it is; beyond the patience
  too, it is given up. A kind that was never finished has no usual time, and may rightly take long: ``UNKNOWN`` times
  the patience.
* Nobody is given up for a slow compute unless another worker is not slow: where all are, the work is long and the
  processes are not to blame, and where one is left, nobody else could do it. They are shown, however long it takes.
* A compute on the thread that beats looks like silence, and is told from it by its mark on the board; a process that a
  signal has stopped is silent, whatever it was at.
* Where this process was away itself (stopped, starved, the whole machine suspended), all clocks start anew: nobody is
  judged by time in which nobody was looking.
* Who was started later has its own time to start; who has left in order is no loss, whatever becomes of it.
* Events are made one by one, and each is judged after what followed from the one before.

Time is the ``now`` that is handed in, so that all of it is tested without processes and without waiting. What it does
not do: tell a hang from a very long compute; it shows both.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from trivium.core.role import Address, Event, PeerJoined, PeerSilent
from trivium.runtime import board as boards
from trivium.runtime.board import Board
from trivium.runtime.host import WRITE_WITHIN

__all__ = ["LOOK_EVERY", "SUSPECT", "UNKNOWN", "Watch", "Watched", "ended"]

log = logging.getLogger(__name__)
LOOK_EVERY = 0.05
SUSPECT = 10.0  # times its own median, and a compute is a suspect
UNKNOWN = 6.0  # times the patience, for a kind of compute that was never finished
HALTED = "stopped by a signal"
TOLD_WITHIN = 0.5  # seconds after a death in which the zygote says how


class Watched(Protocol):
    """A process as the watch sees it: a child of this one, or one of another node by its agent's reports."""

    dead: str  # how it died, once that is known and told
    killed: str  # why it was killed
    how: str  # how it died, where whoever reaped it has said so
    caged: Callable[[], bool] | None

    @property
    def pid(self) -> int:
        """Process id, for people and for ``exits``."""

    def gone(self, within: float) -> bool:
        """Whether it is dead, waiting at most ``within`` seconds."""

    def stopped(self) -> bool:
        """Whether a signal has stopped it."""

    def ask_stack(self) -> None:
        """Let it write where it is."""

    def stack_text(self) -> str:
        """What it wrote."""

    def last_words(self) -> str:
        """The traceback that it ended with."""


class Watch:
    """Watches ``seats[i]``, process i + 1 of ``addresses``; process 0 is the driver's own. Both may grow.

    ``exits`` says how children ended, by pid; ``bury`` makes the event of a death and lets go of what the dead one
    held; ``workers`` are those that the driver counts on now; ``name`` is for people.
    """

    def __init__(
        self,
        board: Board,
        addresses: Sequence[Address],
        seats: Sequence[Watched],
        *,
        patience: float,
        start_timeout: float,
        now: float,
        exits: Callable[[], dict[int, str]],
        bury: Callable[[int, str], Event],
        workers: Callable[[], Sequence[Address]],
        name: Callable[[Address], str],
    ) -> None:
        self.board, self.addresses, self.seats = board, addresses, seats
        self.patience, self.start_timeout = patience, start_timeout
        self.suspects: dict[int, str] = {}
        self.joined: set[int] = set()
        self._exits, self._bury, self._workers, self._name = exits, bury, workers, name
        self._looked = self._since = now  # ``_since``: no clock reaches further back
        self._began: dict[int, float] = {}  # when each was seen first
        self._soon = min(1.0, patience / 2)  # seconds after which the silent and the slow are shown

    @property
    def complete(self) -> bool:
        """Whether everyone has come to the end of its start."""
        return all(index in self.joined or seat.dead for index, seat in enumerate(self.seats, start=1))

    def anew(self, index: int) -> None:
        """Process ``index`` is another one from now on."""
        self.joined.discard(index)
        self._began.pop(index, None)
        self.suspects.pop(index, None)

    def look(self, now: float) -> Iterator[Event]:
        """What has happened since the last look."""
        if now - self._looked > self.patience / 2:
            self._since = now
        self._looked = now
        self.suspects.pop(0, None)
        written = self._lasting(self.board.writing(0, now), now)
        if written > self._soon:
            self.suspects[0] = f"the driver: writing to disk for {written:.1f} s"
        hows = self._exits()
        for index, seat in enumerate(self.seats, start=1):
            if not seat.dead:
                yield from self._look_at(index, seat, hows, now)

    def _lasting(self, seconds: float, now: float) -> float:
        """``seconds`` up to ``now``, as far as somebody was looking."""
        return min(seconds, now - self._since)

    def _look_at(self, index: int, seat: Watched, hows: dict[int, str], now: float) -> Iterator[Event]:
        address, words = self.addresses[index], self.board.words[index]
        if words[boards.STATE] == boards.LEFT:
            self.suspects.pop(index, None)
            return
        if seat.pid in hows or seat.gone(0.0):
            seat.dead = f"killed: {seat.killed}" if seat.killed else ended(seat, hows.get(seat.pid, ""), self._exits)
            self.suspects.pop(index, None)
            yield self._bury(index, seat.dead)
            return
        if seat.killed:
            self.suspects[index] = f"{self._name(address)}: killed ({seat.killed}), but does not die"
            return
        state = int(words[boards.STATE])
        if state == boards.STARTING:
            waited = self._lasting(now - self._began.setdefault(index, now), now)
            if waited > self.start_timeout:
                yield PeerSilent(address, waited, "starting")
            return
        if index not in self.joined:
            self.joined.add(index)
            yield PeerJoined(address)
            return
        silent = self._lasting(now - float(words[boards.BEAT]) * 1e-9, now)
        halted = silent > self._soon and seat.stopped()
        if state == boards.READY and silent > self._soon and (halted or not self.board.inline(index)):
            doing = self._suspect(index, HALTED if halted else self.board.doing(index), silent)
            if silent > self.patience:
                yield PeerSilent(address, silent, doing)
            return
        yield from self._judge_write(index, now)
        yield from self._judge_compute(index, now)

    # -- judging ------------------------------------------------------------------------------------------------------
    def _judge_write(self, index: int, now: float) -> Iterator[Event]:
        """A disk may be slow without fault of the process: that is shown, and ends it after ``WRITE_WITHIN`` only."""
        took = self._lasting(self.board.writing(index, now), now)
        if took > max(WRITE_WITHIN, self.patience):
            yield PeerSilent(self.addresses[index], took, "writing to disk")

    def _judge_compute(self, index: int, now: float) -> Iterator[Event]:
        took = self._slow(index, now)
        if not took:
            written = self._lasting(self.board.writing(index, now), now)
            if written > self._soon:
                self._suspect(index, "writing to disk", written)
            else:
                self.suspects.pop(index, None)
            return
        doing = self._suspect(index, self.board.doing(index), took)
        if took > self._limit(index) and self._replaceable(index, now):
            yield PeerSilent(self.addresses[index], took, doing)

    def _slow(self, index: int, now: float) -> float:
        """Seconds of the compute that ``index`` is at if they are far beyond what is usual; else 0."""
        doing = self.board.doing(index)
        if not doing or doing == "start":
            return 0.0
        took = self._lasting(self.board.since(index, now), now)
        return took if took > max(self._soon, SUSPECT * self._usual(index)) else 0.0

    def _usual(self, index: int) -> float:
        return float(self.board.usual[index, boards.operation_code(self.board.doing(index))])

    def _limit(self, index: int) -> float:
        usual = self._usual(index)
        return max(self.patience, SUSPECT * usual) if usual else UNKNOWN * self.patience

    def _replaceable(self, index: int, now: float) -> bool:
        """Whether somebody could take over: another worker that is alive and not slow itself."""
        workers = self._workers()
        if self.addresses[index] not in workers:
            return True
        others = [i for i, address in enumerate(self.addresses) if i != index and address in workers]
        return any(not self.seats[i - 1].dead and not self._slow(i, now) for i in others)

    def _suspect(self, index: int, doing: str, seconds: float) -> str:
        """Show ``index`` to the person, with the place where it is; what it does, in words."""
        seat = self.seats[index - 1]
        if index not in self.suspects:
            seat.ask_stack()  # to be read at a later look
        place = innermost(seat.stack_text())
        doing = doing or ("computing" if place else "waiting")
        self.suspects[index] = f"{self._name(self.addresses[index])}: {doing}{place} for {seconds:.1f} s"
        return f"{doing}{place}"


def ended(seat: Watched, how: str, exits: Callable[[], dict[int, str]]) -> str:
    """How ``seat`` died. The zygote says so in ``exits`` a moment after its descriptor does; it may have said why."""
    if seat.how:
        return seat.how
    if how == "SIGKILL" and seat.caged is not None and seat.caged():
        return "killed by the kernel: it needed more than memory_per_worker"
    if how.startswith("SIG"):
        return how
    words = seat.last_words().strip()
    if words:
        log.error("process %d failed:\n%s", seat.pid, words)
        return words.splitlines()[-1]
    deadline = time.monotonic() + TOLD_WITHIN
    while not how and time.monotonic() < deadline:
        time.sleep(0.005)
        how = exits().get(seat.pid, "")
    return how or "its process is gone"


def innermost(stack: str) -> str:
    """Where the computing thread of a written stack is: its two innermost frames outside of the platform's hands.

    Of the threads that a child writes, the one that carries work out has ``carry_out`` in it.
    """
    for thread in stack.split("\n\n"):
        frames = re.findall(r'File "([^"]*)", line (\d+) in (\S+)', thread)
        if any(function == "carry_out" for _file, _line, function in frames):
            inner = [f"{Path(file).name}:{line} in {function}" for file, line, function in frames[:2]]
            return f" ({', from '.join(inner)})"
    return ""
