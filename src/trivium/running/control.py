"""Asking a run that goes on: a Unix socket in its directory; one request and one answer, each a line of JSON.

::

    {"do": "scale", "workers": 8, "nodes": 2}    {"do": "switch", "consistency": "ssp:3"}
    {"do": "stop"}                               {"do": "status"}
    → {"ok": {…}}  or  {"error": "…", "exit_code": 2}

Rules
-----
1. Only the same user is heard: the socket is theirs alone (mode 0600), and the kernel says who is at the other end
   (SO_PEERCRED); each side asks it.
2. Everything is bounded: a line has at most ``MOST`` bytes, a request must be whole ``HEAR`` seconds after its
   connection, an answer ``ask``'s timeout after that. What is asked is checked on both sides.
3. The run decides: ``handle`` is called in the thread of ``Control``, one request at a time, and says what was done;
   ``told`` in its answer is a sentence for the person.
4. The address of a Unix socket has 107 bytes at most, and some file systems take none: then the socket lies in a new
   folder (mode 0700) under the user's runtime folder or the temporary one, and the file ``control`` in the run's says
   where.
5. A run that was killed leaves its socket behind; nobody is at the other end, which is how it is known. Whoever drives
   the run has it locked, so the next driver may remove it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trivium.errors import RunError, StorageError, TriviumError, UsageError, unknown

__all__ = ["Control", "ask", "checked"]

log = logging.getLogger(__name__)

SOCKET, POINTER, PREFIX = "control.sock", "control", "trivium-"
LONGEST = 107  # bytes of a socket's address
MOST = 1 << 16  # bytes of a line
HEAR = 5.0  # seconds for a request to come
ANSWER = 120.0  # seconds for an answer
CONNECT = 5.0
Handle = Callable[[dict[str, Any]], dict[str, Any]]


class _Scale(msgspec.Struct, tag_field="do", tag="scale", forbid_unknown_fields=True):
    workers: int
    nodes: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("nodes", self.nodes)):
            if value is not None and not 1 <= value < 1 << 20:
                raise ValueError(f"{name} must be 1 or more, got {value}")


class _Switch(msgspec.Struct, tag_field="do", tag="switch", forbid_unknown_fields=True):
    consistency: str

    def __post_init__(self) -> None:
        from trivium.core.consistency import Rule

        Rule.parse(self.consistency)


class _Stop(msgspec.Struct, tag_field="do", tag="stop", forbid_unknown_fields=True):
    pass


class _Status(msgspec.Struct, tag_field="do", tag="status", forbid_unknown_fields=True):
    pass


REQUESTS = {"scale": _Scale, "switch": _Switch, "stop": _Stop, "status": _Status}


def checked(request: Any) -> dict[str, Any]:
    """``request`` with everything that it may say; UsageError where it is none.

    >>> checked({"do": "scale", "workers": 4})
    {'do': 'scale', 'workers': 4, 'nodes': None}
    """
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise UsageError(f'a request is an object such as {{"do": "status"}}, got {str(request)[:80]}')
    kind = REQUESTS.get(request["do"])
    if kind is None:
        raise UsageError(unknown("request", request["do"], REQUESTS))
    try:
        made = msgspec.convert(request, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"request {request['do']}: {error}") from None
    return dict(msgspec.to_builtins(made))


# -- the run's side ----------------------------------------------------------------------------------------------------
class Control:
    """Hears requests for ``run`` in a thread of its own until ``close``; ``handle`` answers them, or raises.

    StorageError where no socket can be made. Whoever makes it drives ``run``, and has it locked until it is closed.
    ``handle`` is given what ``checked`` gives; a TriviumError that it raises is raised where it was asked.
    """

    def __init__(self, run: Path, handle: Handle) -> None:
        self._run, self._handle = run, handle
        self._folder: Path | None = None
        self._clear()
        self._listener = self._listen()  # its folder is known then
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """Where the socket lies."""
        return (self._folder or self._run.absolute()) / SOCKET

    def close(self) -> None:
        """Hear nothing more; no trace is left. What is being answered has ``HEAR`` seconds to end."""
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join(HEAR)
        self._clear()
        self._waker.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clear(self) -> None:
        """Remove what an earlier driver left, or this one."""
        pointed = _pointed(self._run)
        folders = {pointed.parent if pointed else None, self._folder}
        for folder in folders - {None}:
            with contextlib.suppress(OSError):
                if folder is not None and folder.name.startswith(PREFIX):
                    (folder / SOCKET).unlink(missing_ok=True)
                    folder.rmdir()
        for path in (self._run / SOCKET, self._run / POINTER):
            with contextlib.suppress(OSError):
                if path.is_socket() or (path.name == POINTER and path.is_file()):
                    path.unlink()

    def _listen(self) -> socket.socket:
        why = OSError("")
        with contextlib.suppress(OSError):
            return _bound(self.path)
        for parent in _folders():
            try:
                self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
                (self._run / POINTER).write_text(f"{self.path}\n", encoding="utf-8")
                return _bound(self.path)
            except OSError as error:
                why = error
                self._clear()
        raise StorageError(
            f"no socket can be made for {self._run}: {why.strerror or why}; free a temporary folder, or set TMPDIR"
        )

    def _serve(self) -> None:
        with self._listener, self._woken, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    return
                with contextlib.suppress(OSError):  # one that hung up is no concern of the others
                    link, _ = self._listener.accept()
                    with link:
                        self._answer(link)

    def _answer(self, link: socket.socket) -> None:
        if _peer(link) != os.geteuid():
            log.warning("a process of user %d was not heard", _peer(link))
            return
        try:
            heard: Any = _heard(link, HEAR)
        except UsageError as error:
            heard = error
        _say(link, self._told(heard), HEAR)

    def _told(self, heard: Any) -> dict[str, Any]:
        """The answer to what was heard, or to what was wrong with it."""
        try:
            if isinstance(heard, UsageError):
                raise heard
            return {"ok": self._handle(checked(heard))}
        except TriviumError as error:
            return {"error": str(error), "exit_code": error.exit_code}
        except Exception as error:
            log.exception("a request could not be carried out")
            return {"error": f"{type(error).__name__}: {error}", "exit_code": 1}


def _bound(path: Path) -> socket.socket:
    """A socket that listens at ``path``, to this user alone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) > LONGEST:
            raise OSError(f"{path} is too long for a socket")
        listener.bind(os.fspath(path))
        path.chmod(0o600)  # before it listens nobody can connect
        listener.listen(8)
    except OSError:
        listener.close()
        raise
    return listener


def _folders() -> tuple[str, ...]:
    """Where a folder for a socket may be made: the user's own place for such things, else temporary ones."""
    return f"/run/user/{os.geteuid()}", tempfile.gettempdir(), "/tmp"  # noqa: S108  mkdtemp's folders are private


def _pointed(run: Path) -> Path | None:
    """Where the socket of ``run`` lies, if not in it."""
    try:
        told = Path((run / POINTER).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None
    return told if told.is_absolute() and told.name == SOCKET else None


# -- the asking side ---------------------------------------------------------------------------------------------------
def ask(run: Path, request: dict[str, Any], *, timeout: float = ANSWER) -> dict[str, Any]:
    """What the live run in ``run`` answers to ``request`` within ``timeout`` seconds.

    Raises UsageError where no run is live there, or it refuses; RunError where it does not answer.
    """
    asked = checked(request)
    path = _address(run)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(CONNECT)
        try:
            link.connect(os.fspath(path))
        except OSError as error:
            raise UsageError(_nobody(run, error)) from None
        if _peer(link) != os.geteuid():
            raise UsageError(f"{run} is driven by another user ({_peer(link)}); ask as that user")
        try:
            _say(link, asked, CONNECT)
            told = _heard(link, timeout)
        except (OSError, UsageError) as error:
            raise RunError(_no_answer(run, error, timeout)) from None
    if "error" in told:
        kind = UsageError if told.get("exit_code") == UsageError.exit_code else RunError
        raise kind(str(told["error"]))
    answer = told.get("ok")
    return dict(answer) if isinstance(answer, dict) else {}


def _address(run: Path) -> Path:
    """The socket of ``run``; UsageError where there is none."""
    if not run.is_dir():
        raise UsageError(f"{run}: no such run; `trivium runs` lists those there are")
    path = run.absolute() / SOCKET
    if path.is_socket():
        return path
    elsewhere = _pointed(run)
    if elsewhere is None:
        raise UsageError(_nobody(run, None))
    return elsewhere


def _nobody(run: Path, error: OSError | None) -> str:
    """Why nothing can be asked of ``run``, and how to see what is live."""
    from trivium.runtime.store import lock_holders

    driver = next(iter(lock_holders(run / "lock")), None)
    see = "`trivium runs` says which are running"
    if driver is not None:
        return f"{run} is driven by process {driver}, which hears no requests (yet, or no more); try again, or {see}"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return f"no run is live in {run}: its process died and left its socket; {see}, `trivium resume {run}` goes on"
    why = f" ({error.strerror or error})" if error is not None else ""
    return f"no run is live in {run}{why}; {see}"


def _no_answer(run: Path, error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"{run} did not answer within {timeout:g} s; it may still do what was asked: see `trivium report {run}`"
    return f"{run} ended before it answered; `trivium report {run}` says what happened"


# -- lines -------------------------------------------------------------------------------------------------------------
def _say(link: socket.socket, told: dict[str, Any], timeout: float) -> None:
    try:
        line = msgspec.json.encode(told)
    except TypeError as error:
        line = msgspec.json.encode({"error": f"the answer cannot be told: {error}", "exit_code": 1})
    if len(line) >= MOST:
        line = msgspec.json.encode({"error": f"the answer has {len(line)} bytes, at most {MOST} are", "exit_code": 1})
    link.settimeout(timeout)
    link.sendall(line + b"\n")


def _heard(link: socket.socket, timeout: float) -> dict[str, Any]:
    """The one line of the other side; UsageError where it is none, TimeoutError where it is late."""
    end, line = time.monotonic() + timeout, bytearray()
    while not line.endswith(b"\n"):
        link.settimeout(max(1e-3, end - time.monotonic()))
        piece = link.recv(4096)
        line += piece
        if len(line) > MOST:
            raise UsageError(f"a request has at most {MOST} bytes")
        if not piece or time.monotonic() > end:
            if piece:
                raise TimeoutError
            raise UsageError(f"a request is a whole line, got {bytes(line[:80])!r}")
    try:
        told = msgspec.json.decode(bytes(line))
    except msgspec.DecodeError as error:
        raise UsageError(f"a request is a line of JSON: {error}") from None
    if not isinstance(told, dict):
        raise UsageError(f"a request is an object, got {str(told)[:80]}")
    return told


def _peer(link: socket.socket) -> int:
    """The user at the other end, as the kernel knows it."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)
