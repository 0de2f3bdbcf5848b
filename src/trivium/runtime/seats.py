"""Processes of other nodes as the driver's watch sees them: agents, which are our children, and who is behind them.

A node's agent and its workers are one process group, killed as one: before its leader is reaped, while its number can
mean nobody else. Of workers is known what their agent reports.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from trivium.runtime.wire import AskStack, End, Order

__all__ = ["AgentSeat", "Deaths", "RemoteSeat", "await_end", "group_of"]


def group_of(number: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError):
                state, _parent, group = (place / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == number and state not in "ZX":
                    found.append(int(place.name))
    return found


class AgentSeat:
    """A node's server: the agent's process, which is our child."""

    caged: Callable[[], bool] | None = None

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pidfd = os.pidfd_open(process.pid)
        self.dead = self.killed = self.how = self.words = ""
        self.left = False  # in order

    @property
    def pid(self) -> int:
        """Process number, and that of the node's group."""
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def gone(self, within: float) -> bool:
        """Whether the agent is dead, waiting at most ``within`` seconds; what it leaves of its group is killed."""
        if self.process.returncode is not None:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(max(0.0, within) * 1000):
            return False
        self.kill()
        code = self.process.wait()
        self.how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if code > 0 and self.words:
            self.how = self.words.strip().splitlines()[-1]
        return True

    def stopped(self) -> bool:
        """Whether a signal has stopped it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def ask_stack(self) -> None:
        """It is not asked."""

    def stack_text(self) -> str:
        """Not known."""
        return ""

    def last_words(self) -> str:
        """It says them over the link."""
        return ""

    def close(self) -> None:
        """Let go of what we hold of it; it is dead."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


class RemoteSeat:
    """A worker of a node, as its agent reports it. ``serial``: reports before that one are of somebody else."""

    caged: Callable[[], bool] | None = None

    def __init__(self, tell: Callable[[Order], None], slot: int, serial: int) -> None:
        self._tell, self._slot, self.serial = tell, slot, serial
        self.pid = 0
        self.dead = self.killed = self.how = self.stack = ""
        self.halted = False

    def kill(self) -> None:
        """Let the agent kill it."""
        self._tell(End(self._slot, self.killed or "killed"))

    def gone(self, within: float) -> bool:  # noqa: ARG002 - nobody waits for a report here
        """Whether it was reported dead, or its node is."""
        return bool(self.how)

    def stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self.halted

    def ask_stack(self) -> None:
        """Let it say where it is."""
        self._tell(AskStack(self._slot))

    def stack_text(self) -> str:
        """Where it was when it was asked last."""
        return self.stack

    def last_words(self) -> str:
        """Its agent has told them with its end."""
        return ""


def await_end(pid: int, within: float | None = None) -> None:
    """Wait until the process ``pid``, whosever it is, has ended, at most ``within`` seconds if that is given."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([pidfd], [], [], None if within is None else max(0.0, within))
    finally:
        os.close(pidfd)


class Deaths(threading.Thread):
    """Rings at once when a watched process ends: the driver's host sleeps otherwise."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__(name="deaths", daemon=True)
        self._ring = ring
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.EPOLLIN)

    def watch(self, pidfd: int) -> None:
        """Once, for its end."""
        self._poll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)

    def run(self) -> None:
        """Until ``close``."""
        while True:
            for fd, _event in self._poll.poll():
                if fd == self._bell:
                    return
                self._ring()

    def close(self) -> None:
        """Stop watching."""
        os.eventfd_write(self._bell, 1)
        self.join(1.0)
        self._poll.close()
        os.close(self._bell)
