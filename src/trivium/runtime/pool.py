"""Processes kept warm: a zygote and the children that it forked, handed from one run to the next.

A child that ended its run in order waits for the next launch with its imports done and its functions compiled. Whatever
ended otherwise is killed and replaced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trivium.errors import LostError, RunError
from trivium.runtime.zygote import Child, Exited, Zygote

__all__ = ["Pool", "Seat"]

log = logging.getLogger(__name__)
ENTRY = "trivium.runtime.child:main"
END_WITHIN = 2.0
START_WITHIN = 60.0
GRACE = 5.0  # the default orphan timeout, and time to write
FRAME = struct.Struct("<Q")  # the length of what follows on the link
MOST_STACK = 1 << 14
MOST_WORDS = 1 << 16


@dataclass
class Seat:
    """One child and the socket to it."""

    child: Child
    link: socket.socket
    stack: int  # a memory file that the child writes its stack to on SIGUSR1
    dead: str = ""  # how it died
    killed: str = ""  # why it was killed; it may take its time to die
    xla_threads: int | None = None  # of XLA's client, once it has one: they cannot be changed
    caged: Callable[[], bool] | None = None  # says whether its memory's bound was what killed it
    how: str = ""  # how it died, where whoever reaped it has said so

    @property
    def pid(self) -> int:
        """Process id."""
        return self.child.pid

    def kill(self) -> None:
        """SIGKILL, through the descriptor: it can never reach another process."""
        with contextlib.suppress(OSError):  # it is gone, or given back meanwhile
            signal.pidfd_send_signal(self.child.pidfd, signal.SIGKILL)

    def gone(self, within: float) -> bool:
        """Whether it is dead, waiting at most ``within`` seconds."""
        poll = select.poll()
        poll.register(self.child.pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, within) * 1000))

    def stopped(self) -> bool:
        """Whether a signal has stopped it (SIGSTOP)."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def ask_stack(self) -> None:
        """Let it write where it is; it can be read with ``stack_text`` a moment later."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.stack, 0)
            os.lseek(self.stack, 0, os.SEEK_SET)
        self.child.send_signal(signal.SIGUSR1)

    def stack_text(self) -> str:
        """What it wrote when it was asked last, empty if nothing came."""
        return os.pread(self.stack, MOST_STACK, 0).decode(errors="replace")

    def last_words(self) -> str:
        """The traceback that a child sent before it ended by itself, empty if it could not."""
        self.link.setblocking(False)
        words = bytearray()
        with contextlib.suppress(OSError):
            while len(words) < MOST_WORDS and (piece := self.link.recv(MOST_WORDS)):
                words += piece
        return words[FRAME.size :].decode(errors="replace")

    def close(self) -> None:
        """Give the descriptors back."""
        self.link.close()
        self.child.close()
        if self.stack >= 0:
            os.close(self.stack)
            self.stack = -1


class Pool:
    """A zygote and its children. Not for use by two runs at once.

    ``grace`` seconds after the death of this process its children are killed, if they have not ended by then. With
    ``apart`` False they are of this process's group, and whoever kills that reaches them too.
    """

    def __init__(self, modules: tuple[str, ...], grace: float = GRACE, *, apart: bool = True) -> None:
        self.modules, self.grace, self.apart = modules, grace, apart
        self._owner = os.getpid()
        self._zygote: Zygote | None = None
        self._idle: list[Seat] = []
        self._starting: threading.Thread | None = None
        self._error: Exception | None = None
        self._ends: dict[int, str] = {}

    @classmethod
    def split(cls, modules: tuple[str, ...], grace: float = GRACE) -> Pool:
        """A pool of this process's group, whose zygote is forked from here: see ``Zygote.split``."""
        made = cls(modules, grace, apart=False)
        made._zygote = Zygote.split(modules, grace=grace)
        return made

    def start(self) -> None:
        """Begin to import, in the background; ``take`` waits for it."""
        if self._zygote is None and self._starting is None:
            self._starting = threading.Thread(target=self._start, name="zygote", daemon=True)
            self._starting.start()

    def _start(self) -> None:
        try:
            self._zygote = Zygote.start(self.modules, grace=self.grace, apart=self.apart)
        except Exception as error:
            self._error = error  # raised where it is waited for

    def _ready(self) -> Zygote:
        if self._zygote is not None and not self._zygote.alive():
            self._zygote.close()
            self._zygote = None
        self.start()
        if self._starting is not None:
            self._starting.join(START_WITHIN)
            if self._starting.is_alive():
                raise LostError(f"the process that prepares workers was not ready within {START_WITHIN:g} s")
            self._starting = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        assert self._zygote is not None
        return self._zygote

    def take(self, xla_threads: Sequence[int | None]) -> list[Seat]:
        """A child for each of ``xla_threads`` (None: it needs no XLA); a warm one where its threads are right."""
        self._ready()
        self._idle = [seat for seat in self._idle if not self._dropped(seat)]
        seats: list[Seat] = []
        try:
            seats.extend(self._seat(wanted) for wanted in xla_threads)  # as far as it gets
        except Exception:
            self.give_back(seats, clean=False)
            raise
        return seats

    def _seat(self, wanted: int | None) -> Seat:
        fits = (seat for seat in self._idle if wanted is None or seat.xla_threads in (wanted, None))
        seat = min(fits, key=lambda seat: seat.xla_threads != wanted, default=None)
        if seat is None:
            seat = self._fork_anew()
            self.exits()
            self._ends.pop(seat.pid, None)  # an earlier child may have had its number
        else:
            self._idle.remove(seat)
        seat.xla_threads = wanted if wanted is not None else seat.xla_threads
        return seat

    @staticmethod
    def _dropped(seat: Seat) -> bool:
        if seat.gone(0.0):
            seat.close()
            return True
        return False

    def _fork_anew(self) -> Seat:
        """A new child. A zygote that died meanwhile is replaced, once: the children that it had do not need it."""
        zygote = self._ready()
        try:
            return self._fork(zygote)
        except LostError:
            if zygote.alive():
                raise
            log.warning("the zygote (process %d) died and is replaced", zygote.pid)
        return self._fork(self._ready())

    @staticmethod
    def _fork(zygote: Zygote) -> Seat:
        ours, theirs = socket.socketpair()
        stack = os.memfd_create("stack", os.MFD_CLOEXEC)
        try:
            child = zygote.fork(ENTRY, b"", [theirs.fileno(), stack])
        except Exception:
            ours.close()
            os.close(stack)
            raise
        finally:
            theirs.close()
        return Seat(child, ours, stack)

    def exits(self) -> dict[int, str]:
        """How children died, by pid."""
        if self._zygote is not None:
            events = self._zygote.events()
            self._ends.update({event.pid: _how(event) for event in events if isinstance(event, Exited)})
        return self._ends

    def give_back(self, seats: list[Seat], *, clean: bool) -> None:
        """Keep those that ended in order, kill the others."""
        ending = []
        for seat in seats:
            if clean and not seat.dead and not seat.killed and self._answered(seat):
                self._idle.append(seat)
            else:
                seat.kill()
                ending.append(seat)
        self._end(ending)

    @staticmethod
    def _answered(seat: Seat) -> bool:
        """Whether the child said in time that its run is over without an error."""
        seat.link.settimeout(END_WITHIN)
        try:
            head = seat.link.recv(FRAME.size, socket.MSG_WAITALL)
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                seat.link.settimeout(None)
        return len(head) == FRAME.size and FRAME.unpack(head)[0] == 0

    @staticmethod
    def _end(seats: list[Seat]) -> None:
        """Close those that were killed; all of them, before it is said which would not die."""
        deadline = time.monotonic() + END_WITHIN
        stuck = []
        for seat in seats:
            if not seat.gone(deadline - time.monotonic()):
                stuck.append(str(seat.pid))
            seat.close()
        if stuck:
            raise RunError(f"process {', '.join(stuck)} does not die; it may be stuck in the kernel")

    def close(self) -> None:
        """End all children and the zygote, within bounds. In a fork of the owner it does nothing: they are not its."""
        if os.getpid() != self._owner:
            return
        for seat in self._idle:
            seat.link.close()
        deadline = time.monotonic() + 0.5
        for seat in self._idle:
            if not seat.gone(deadline - time.monotonic()):
                seat.kill()
                seat.gone(END_WITHIN)
            seat.close()
        self._idle = []
        if self._starting is not None:
            self._starting.join(START_WITHIN)
            self._starting = None
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def _how(event: Exited) -> str:
    """How a child ended, in words."""
    if event.signal:
        return signal.Signals(event.signal).name
    return f"exit code {event.code}"
