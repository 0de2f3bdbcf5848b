"""The warden of a node: a thread of its agent that finds who died, starts and ends processes, and reports.

It alone uses the pool once the run goes on. Reports go out several times a second, whatever the role thread is at, so
that a long compute there is no silence; at once where somebody died, and often until everybody is ready.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trivium.errors import TriviumError
from trivium.runtime import board as boards
from trivium.runtime.local import LocalNode, Member
from trivium.runtime.watch import ended
from trivium.runtime.wire import Crossed, Report

__all__ = ["ARRAYS", "Warden"]

log = logging.getLogger(__name__)
REPORT_EVERY = 0.1
START_EVERY = 0.01
TICK = 1.0 / os.sysconf("SC_CLK_TCK")  # seconds
SILENT = 1.0  # seconds after which it is looked whether a signal has stopped somebody
ARRAYS = ("words", "seconds", "waited", "figures", "usual")  # of the board, in the order of a report's payload


class Warden(threading.Thread):
    """Watches over the members of ``node``; ``tell(report, arrays)`` sends, from this thread, with what ``crossed``
    the links.
    """

    def __init__(
        self,
        node: LocalNode,
        tell: Callable[[Report, Sequence[Any]], None],
        crossed: Callable[[], Crossed] = Crossed,
    ) -> None:
        super().__init__(name="warden", daemon=True)
        self._node, self._tell, self._crossed = node, tell, crossed
        self._spent: dict[int, float] = {}  # CPU seconds of each process, those that are dead included
        self._todo: deque[Callable[[], None] | None] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ends: dict[int, str] = {}
        self._asked: set[int] = set()
        self._serial = 0
        self.often = False  # the end is near, and somebody waits for it

    @property
    def serial(self) -> int:
        """Of the last ``enlist`` that was carried out."""
        return self._serial

    # -- orders, from the role thread ---------------------------------------------------------------------------------
    def end(self, index: int, why: str) -> None:
        """Kill the process ``index``; its death is found and reported."""
        self._ask(lambda: self._kill(index, why))

    def enlist(self, serial: int, members: Sequence[Member]) -> None:
        """Start ``members``; from then on reports have ``serial``."""
        self._ask(lambda: self._enlist(serial, members))

    def ask_stack(self, index: int) -> None:
        """Let the process ``index`` say where it is; reports tell it."""
        self._ask(lambda: self._stack(index))

    def wake(self) -> None:
        """Look and report now."""
        self._ask(lambda: None)

    def close(self, within: float = 2.0) -> None:
        """The last report; then nothing any more."""
        self._todo.append(None)
        os.eventfd_write(self._bell, 1)
        self.join(within)
        if not self.is_alive():
            os.close(self._bell)

    def _ask(self, what: Callable[[], None]) -> None:
        self._todo.append(what)
        os.eventfd_write(self._bell, 1)

    # -- the thread ---------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Until ``close``."""
        over = False
        while not over:
            self._wait()
            while self._todo:
                what = self._todo.popleft()
                if what is None:
                    over = True
                else:
                    what()
            for keeper in self._node.keepers:
                keeper.look(time.monotonic())
            self._find_dead()
            self._report()

    def _wait(self) -> None:
        """Until somebody dies or asks, at most until the next report is due."""
        node, poll = self._node, select.poll()
        poll.register(self._bell, select.POLLIN)
        starting = self.often
        for index, seat in enumerate(node.seats, start=1):
            if not seat.dead:
                poll.register(seat.child.pidfd, select.POLLIN)
                starting = starting or int(node.board.words[index, boards.STATE]) == boards.STARTING
        poll.poll((START_EVERY if starting else REPORT_EVERY) * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _find_dead(self) -> None:
        node, hows = self._node, self._node.pool.exits()
        for index, seat in enumerate(node.seats, start=1):
            if seat.dead or not (seat.pid in hows or seat.gone(0.0)):
                continue
            if int(node.board.words[index, boards.STATE]) == boards.LEFT:
                seat.dead = "left"
                continue
            seat.dead = (
                f"killed: {seat.killed}" if seat.killed else ended(seat, hows.get(seat.pid, ""), node.pool.exits)
            )
            self._ends[index] = seat.dead
            node.bury(index)

    def _report(self) -> None:
        node = self._node
        board, now = node.board, time.monotonic_ns()
        silent = [
            index
            for index, seat in enumerate(node.seats, start=1)
            if not seat.dead and now - int(board.words[index, boards.BEAT]) > SILENT * 1e9
        ]
        assert node.rows is not None
        report = Report(
            now,
            tuple(address.slot for address in node.addresses),
            (os.getpid(), *(seat.pid for seat in node.seats)),
            tuple(self._ends.items()),
            tuple(index for index in silent if node.seats[index - 1].stopped()),
            tuple((index, node.seats[index - 1].stack_text()) for index in self._asked),
            node.shared_bytes,
            node.load_seconds,
            self._serial,
            msgspec.structs.replace(self._crossed(), cpu_seconds=self._cpu_seconds()),
        )
        self._tell(report, [getattr(board, name).tobytes() for name in ARRAYS])

    def _cpu_seconds(self) -> float:
        for seat in self._node.seats:
            if not seat.dead:
                self._spent[seat.pid] = max(self._spent.get(seat.pid, 0.0), cpu_seconds(seat.pid))
        return time.process_time() + sum(self._spent.values())

    # -- what it is asked for -----------------------------------------------------------------------------------------
    def _kill(self, index: int, why: str) -> None:
        if 0 < index <= len(self._node.seats):
            seat = self._node.seats[index - 1]
            seat.killed = seat.killed or why
            seat.kill()

    def _enlist(self, serial: int, members: Sequence[Member]) -> None:
        self._serial = serial
        for member in members:
            self._ends.pop(self._node.addresses.index(member.address), None)
        try:
            self._node.enlist(members)
        except (TriviumError, ValueError) as error:
            log.exception("cannot start %s", ", ".join(member.name for member in members))
            for member in members:
                self._ends[self._node.addresses.index(member.address)] = f"could not be started: {error}"

    def _stack(self, index: int) -> None:
        if 0 < index <= len(self._node.seats):
            self._asked.add(index)
            self._node.seats[index - 1].ask_stack()


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of process ``pid``, to the tick; 0 where it is gone.

    >>> 0.0 < cpu_seconds(os.getpid()) <= time.process_time() + TICK
    True
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK
