"""A process that has done the imports and forks workers in milliseconds.

Rules
-----
* The zygote is ``python -m trivium.runtime.zygote FD``: a plain child over an inherited socket, in a session of its own
  (Ctrl-C reaches only the parent), without standard input, without threads. Notebooks and scripts without a main guard
  work, for nothing of the parent is run again.
* One message of the socket is one typed struct (SOCK_SEQPACKET keeps them whole); descriptors ride along (SCM_RIGHTS).
  A large payload rides in a memory file. The parent believes nothing but these types.
* The parent opens a pidfd for each child before the zygote may reap it (``Known``), so a number is never taken for
  another process. It can watch and kill its children without the zygote, which may die itself: ``Gone`` says so.
* A forked child sees the descriptors passed to it and standard input, output and error; nothing else of the zygote's.
* When the parent is gone, children have ``grace`` seconds, then they are killed and the zygote ends.

Prior art: Android's zygote; Python's ``forkserver``, which cannot pass descriptors and unpickles.
What it does not do: watch whether a child makes progress; that is a role's business.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from trivium.errors import LostError, ProgramError, UsageError

__all__ = ["Child", "Exited", "Gone", "Zygote"]

log = logging.getLogger(__name__)

_POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMEXPR", "NUMBA")
ONE_THREAD = {f"{pool}_{'MAXIMUM' if pool == 'VECLIB' else 'NUM'}_THREADS": "1" for pool in _POOLS}
_INLINE = 1 << 15  # bytes of a payload that ride in the message itself
_MESSAGE = 1 << 17
_MOST_FDS = 250  # the kernel's limit is 253 a message


class Prepare(msgspec.Struct, tag=True):
    """First command: import ``modules`` ("module", or "module:function" to be called)."""

    modules: list[str]
    path: list[str]
    grace: float


class Fork(msgspec.Struct, tag=True):
    """Fork a child that runs ``entry``; with ``spilled`` the payload is in the last descriptor."""

    serial: int
    entry: str
    name: str
    payload: bytes
    cpu: int | None
    spilled: bool


class Known(msgspec.Struct, tag=True):
    """The parent holds a pidfd of ``pid``: it may be reaped."""

    pid: int


class Stop(msgspec.Struct, tag=True):
    """End: children have ``grace`` seconds."""

    grace: float


class Ready(msgspec.Struct, tag=True):
    """Imports are done; ``threads`` of the zygote, which should be 1."""

    seconds: float
    threads: int


class Forked(msgspec.Struct, tag=True):
    """Answer to ``Fork``; ``pid`` 0 and a reason where it failed."""

    serial: int
    pid: int
    error: str = ""


class Unready(msgspec.Struct, tag=True):
    """Preparing failed."""

    error: str


class Exited(msgspec.Struct, tag=True, frozen=True):
    """A child ended: with exit ``code``, or by ``signal`` (the other is 0)."""

    pid: int
    code: int
    signal: int


class Gone(msgspec.Struct, tag=True, frozen=True):
    """The zygote itself is no more; its children may live on."""


Command = Prepare | Fork | Known | Stop
Reply = Ready | Unready | Forked | Exited
_encode = msgspec.msgpack.Encoder().encode
_command = msgspec.msgpack.Decoder(Command)
_reply = msgspec.msgpack.Decoder(Reply)


@dataclass
class Child:
    """A forked process, held by ``pidfd`` (readable when it has ended)."""

    pid: int
    pidfd: int
    name: str

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Whether the process has ended, after at most ``timeout_s`` seconds."""
        return bool(_readable([self.pidfd], timeout_s))

    def close(self) -> None:
        """Let go of the pidfd. May be called again."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class _Split:
    """A process that was forked from this one, with as much of ``Popen`` as is used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code once it has ended, negative for a signal."""
        if self.returncode is None:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)
            if found is not None:
                self.returncode = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code; TimeoutExpired if it does not end in time."""
        if self.returncode is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                _readable([pidfd], timeout)
            finally:
                os.close(pidfd)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("zygote", timeout)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Zygote:
    """The parent's side. Use ``start`` or ``split``; one thread at a time."""

    def __init__(self, process: subprocess.Popen[bytes] | _Split, sock: socket.socket, timeout: float) -> None:
        self._process, self._sock, self._timeout = process, sock, timeout
        self._pending: list[Exited | Gone] = []
        self._serial = 0
        self.gone = False
        self.seconds = 0.0

    @classmethod
    def start(
        cls,
        modules: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        grace: float = 3.0,
        timeout: float = 60.0,
        apart: bool = True,
    ) -> Zygote:
        """Start a zygote that imports ``modules``; LostError if it is not ready within ``timeout`` seconds.

        ``env`` is added to the environment. BLAS and OpenMP have one thread each in any case, JAX no device unless the
        environment says so. ``grace`` seconds are what children have when this process is gone; ``timeout`` also bounds
        each ``fork``. ``apart``: in a session of its own; else in this process's, to end with its group.
        """
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "trivium.runtime.zygote", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=apart,
                env={"JAX_PLATFORMS": "cpu", **os.environ, **(env or {}), **ONE_THREAD},
            )
        made = cls(process, mine, timeout)
        made._prepare(modules, grace)
        return made

    @classmethod
    def split(cls, modules: Sequence[str], *, grace: float = 3.0, timeout: float = 60.0) -> Zygote:
        """As ``start``, but forked from this process, which has imported ``modules`` and has no other thread yet.

        It belongs to this process's group.
        """
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            pid = os.fork()
            if pid == 0:
                _become_zygote(mine, its)
        made = cls(_Split(pid), mine, timeout)
        made._prepare(modules, grace)
        return made

    def _prepare(self, modules: Sequence[str], grace: float) -> None:
        try:
            self._send(Prepare(list(modules), list(sys.path), grace))
            reply = self._await(lambda message: isinstance(message, Ready | Unready), self._timeout, "preparing")
            if isinstance(reply, Unready):
                raise ProgramError(f"workers could not be prepared: {reply.error}", reply.error)
            assert isinstance(reply, Ready)
        except BaseException:
            self.close(0.0)
            raise
        self.seconds = reply.seconds
        if reply.threads > 1:
            log.warning("the zygote has %d threads; one of %s starts threads on import", reply.threads, modules)

    @property
    def pid(self) -> int:
        """Process number of the zygote."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether its process is there; unlike ``gone`` it does not wait for somebody to read the news."""
        return not self.gone and self._process.poll() is None

    def fileno(self) -> int:
        """Descriptor that becomes readable when ``events`` has something."""
        return self._sock.fileno()

    def fork(
        self, entry: str, payload: bytes = b"", fds: Sequence[int] = (), cpu: int | None = None, name: str = "worker"
    ) -> Child:
        """A child calling ``entry`` ("module:function") with (payload, [descriptors]); exits with what that returns.

        ``fds`` stay the caller's; the child has copies, in that order, which are its own to close. ``cpu`` pins it.
        LostError if the zygote is gone.
        """
        if ":" not in entry:
            raise UsageError(f"an entry is 'module:function', got {entry!r}")
        if len(fds) > _MOST_FDS:
            raise UsageError(f"at most {_MOST_FDS} descriptors can be passed at once, got {len(fds)}")
        self._serial += 1
        serial = self._serial
        with contextlib.ExitStack() as stack:
            sent, inline, spilled = list(fds), payload, len(payload) > _INLINE
            if spilled:
                sent.append(_spill(payload, stack))
                inline = b""
            self._send(Fork(serial, entry, name, inline, cpu, spilled), sent)
        reply = self._await(lambda m: isinstance(m, Forked) and m.serial == serial, self._timeout, f"forking {name}")
        assert isinstance(reply, Forked)
        if reply.pid == 0:
            raise LostError(f"{name} could not be started: {reply.error}")
        try:
            child = Child(reply.pid, os.pidfd_open(reply.pid), name)
        except ProcessLookupError as error:  # both ended before we could look
            raise LostError(f"the zygote (process {self.pid}) died while {name} was started") from error
        self._send(Known(reply.pid))
        return child

    def events(self) -> list[Exited | Gone]:
        """What has happened since the last call; does not wait."""
        while not self.gone and _readable([self._sock.fileno()], 0.0):
            message = self._receive()
            if isinstance(message, Exited | Gone):
                self._pending.append(message)
        events, self._pending = self._pending, []
        return events

    def close(self, grace: float = 0.0, timeout: float = 5.0) -> None:
        """End the zygote and its children, after ``grace`` seconds by force; waits at most that and ``timeout``.

        Children of a zygote that was gone already are not touched: whoever holds their pidfds ends them.
        """
        if self._process.returncode is None:
            with contextlib.suppress(LostError):
                self._send(Stop(grace))
        self._sock.close()
        self.gone = True
        try:
            self._process.wait(grace + timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout)

    def _send(self, message: Command, fds: Sequence[int] = ()) -> None:
        try:
            self._sock.settimeout(self._timeout)
            socket.send_fds(self._sock, [_encode(message)], list(fds))
        except OSError as error:
            if isinstance(error, ConnectionError) and not self.gone:
                self.gone = True
                self._pending.append(Gone())
            raise LostError(f"the zygote (process {self.pid}) does not listen any more: {error}") from error

    def _receive(self) -> Reply | Gone:
        try:
            data = self._sock.recv(_MESSAGE)
        except ConnectionError:
            data = b""
        if not data:
            self.gone = True
            return Gone()
        reply: Reply = _reply.decode(data)
        return reply

    def _await(self, wanted: Callable[[Reply], bool], timeout: float, doing: str) -> Reply:
        end = time.monotonic() + timeout
        while not self.gone:
            if not _readable([self._sock.fileno()], max(0.0, end - time.monotonic())):
                raise LostError(f"the zygote (process {self.pid}) took more than {timeout:g} s over {doing}")
            message = self._receive()
            if isinstance(message, Gone):
                self._pending.append(message)
            elif wanted(message):
                return message
            elif isinstance(message, Exited):
                self._pending.append(message)
        raise LostError(f"the zygote (process {self.pid}) died over {doing}; its output says why")


def _spill(payload: bytes, stack: contextlib.ExitStack) -> int:
    file = stack.enter_context(os.fdopen(os.memfd_create("payload", os.MFD_CLOEXEC), "w+b", buffering=0))
    view = memoryview(payload)
    while view:
        view = view[file.write(view) :]
    return file.fileno()


def _readable(fds: Sequence[int], timeout_s: float | None) -> list[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]


# the zygote's side


class _Server:
    """Forks and reaps. ``children`` maps pidfd to pid; those not yet ``known`` to the parent are not reaped."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.children: dict[int, int] = {}
        self.known: set[int] = set()
        self.grace = 0.0

    def serve(self) -> None:
        """Until the parent says stop or is gone; then see the children off."""
        while True:
            watched = [fd for fd, pid in self.children.items() if pid in self.known]
            ready = _readable([self.sock.fileno(), *watched], None)  # the parent's end bounds this wait: EOF
            for fd in ready:
                if fd != self.sock.fileno():
                    self.reap(fd)
            if self.sock.fileno() in ready:
                try:
                    data, fds, _, _ = socket.recv_fds(self.sock, _MESSAGE, _MOST_FDS + 3)
                except ConnectionResetError:
                    continue  # the parent left with our news unread; its last command, or the end, comes next
                command = _command.decode(data) if data else Stop(self.grace)
                if isinstance(command, Stop):
                    self.see_off(command.grace)
                    return
                self.obey(command, fds)

    def obey(self, command: Command, fds: list[int]) -> None:
        """Carry out anything but Stop."""
        if isinstance(command, Prepare):
            self.prepare(command)
        elif isinstance(command, Known):
            self.known.add(command.pid)
        elif isinstance(command, Fork):
            self.fork(command, fds)

    def prepare(self, command: Prepare) -> None:
        """Import, then move everything out of the collector's sight, so that children share its pages."""
        began = time.monotonic()
        self.grace = command.grace
        sys.path[:] = command.path
        try:
            for name in command.modules:
                _resolve(name)() if ":" in name else importlib.import_module(name)
        except Exception:
            self.reply(Unready(traceback.format_exc()[-_INLINE:]))
            return
        gc.collect()
        gc.freeze()
        self.reply(Ready(time.monotonic() - began, len(os.listdir("/proc/self/task"))))  # noqa: PTH208 - names only

    def fork(self, command: Fork, fds: list[int]) -> None:
        """One child; its descriptors are closed on this side."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it was closed before we were started
                stream.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self.reply(Forked(command.serial, 0, str(error)))
        else:
            if pid == 0:
                self.become(command, fds)
            self.children[os.pidfd_open(pid)] = pid
            self.reply(Forked(command.serial, pid))
        for fd in fds:
            os.close(fd)

    def become(self, command: Fork, fds: list[int]) -> None:
        """The child's life. Never returns."""
        code = 1
        try:
            self.sock.close()
            for pidfd in self.children:
                os.close(pidfd)
            self.children.clear()
            if command.cpu is not None:
                os.sched_setaffinity(0, {command.cpu})
            payload = _unspill(fds.pop()) if command.spilled else command.payload
            result = _resolve(command.entry)(payload, fds)
            code = result if isinstance(result, int) else 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 255)

    def reap(self, pidfd: int) -> None:
        """Take the exit status of one ended child, and report it."""
        pid = self.children.pop(pidfd)
        self.known.discard(pid)
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        assert found is not None
        left = found.si_code == os.CLD_EXITED
        self.reply(Exited(pid, found.si_status if left else 0, 0 if left else found.si_status))

    def see_off(self, grace: float) -> None:
        """Wait for the children for ``grace`` seconds, then kill and reap what is left."""
        end = time.monotonic() + grace
        while self.children:
            ended = _readable(list(self.children), max(0.0, end - time.monotonic()))
            for pidfd in ended:
                self.reap(pidfd)
            if not ended:
                break
        for pidfd in list(self.children):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in list(self.children):
            self.reap(pidfd)

    def reply(self, message: Reply) -> None:
        """Tell the parent, if it is still there."""
        with contextlib.suppress(OSError):
            self.sock.send(_encode(message))


def _become_zygote(parents: socket.socket, sock: socket.socket) -> NoReturn:
    """The life of a process that was split off. Never returns."""
    code = 1
    try:
        parents.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        _Server(sock).serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _resolve(entry: str) -> Callable[..., object]:
    module, _, function = entry.partition(":")
    found = getattr(importlib.import_module(module), function)
    assert callable(found), f"{entry} cannot be called"
    return found  # type: ignore[no-any-return]


def _unspill(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


def main(arguments: Sequence[str]) -> None:
    """Serve the socket whose descriptor is the only argument."""
    with socket.socket(fileno=int(arguments[0])) as sock:
        sock.set_inheritable(False)
        _Server(sock).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
