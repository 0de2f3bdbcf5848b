"""Who may talk to this process: its key, the keys it lets in, and what the encryption costs.

Each end proves its key to the other (CurveZMQ: Bernstein, Lange, Schwabe, *The security impact of a new cryptographic
library*, 2012; Hintjens, ZeroMQ RFC 26): the one that connects names the key it expects, the one that is connected to
looks the other's key up in its list. Who is not on the list gets no further than the handshake.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from zmq.utils import z85

from trivium.errors import UsageError

__all__ = ["Clock", "CurveCost", "Gate", "Keys", "checked", "curve_cost"]

GATE = "inproc://zeromq.zap.01"  # where libzmq asks, by ZeroMQ RFC 27
KEY_LENGTH = 40
MARKS = 100_000
UNDER_WAY = 4  # pieces, while measuring


@dataclass(frozen=True)
class Keys:
    """A process's pair of keys, z85 text of 40 characters each; the secret one is never shown.

    >>> keys = Keys.fresh()
    >>> len(keys.public), keys.secret in repr(keys)
    (40, False)
    """

    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        checked(self.public, "public key")
        checked(self.secret, "secret key")

    @staticmethod
    def fresh() -> Keys:
        """A new pair."""
        public, secret = zmq.curve_keypair()
        return Keys(public.decode(), secret.decode())

    def put_on(self, socket: zmq.Socket[bytes]) -> None:
        """Make this pair ``socket``'s own, before it binds or connects."""
        socket.curve_publickey, socket.curve_secretkey = self.public.encode(), self.secret.encode()


def checked(key: str, what: str) -> bytes:
    """The 32 bytes that z85 text stands for. Raises UsageError, which does not show the key."""
    try:
        raw = z85.decode(key.encode("ascii"))
    except (ValueError, KeyError, UnicodeEncodeError, AttributeError):
        raw = b""
    if len(key) != KEY_LENGTH or len(raw) != 32:
        raise UsageError(f"a {what} of {len(key)} characters that is not z85 text; expected {KEY_LENGTH}: Keys.fresh()")
    return raw


class Gate:
    """Answers libzmq's questions whether a key may come in; the key itself, as z85 text, becomes the connection's user.

    Its socket is polled and answered by the thread that owns the links; until then a handshake waits, and nothing else.
    """

    def __init__(self, context: zmq.Context[Any], allowed: Container[str]) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(GATE)
        self._allowed = allowed

    def answer(self) -> None:
        """All questions there are."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            cut = frames.index(b"") + 1
            self.socket.send_multipart([*frames[:cut], *self._reply(frames[cut:])])

    def _reply(self, frames: list[bytes]) -> list[bytes]:
        version, request = frames[:2]
        key = z85.encode(frames[6]) if len(frames) == 7 and frames[5] == b"CURVE" else b""
        if key.decode() not in self._allowed:
            return [version, request, b"400", b"this key is not let in", b"", b""]
        return [version, request, b"200", b"", key, b""]


class Clock:
    """CPU seconds of a context's io threads, which encrypt and decrypt; made before the context's first socket.

    Linux gives each thread a clock by its id; the threads are found by a name that libzmq gives them.
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        mark = secrets.randbelow(MARKS)
        context.set(zmq.THREAD_NAME_PREFIX, mark)
        self._name = f"{mark}/ZMQbg/IO"
        self._threads: list[int] = []

    def seconds(self) -> float:
        """So far; 0.0 before the threads run and after they have ended."""
        self._threads = self._threads or self._found()
        try:
            return sum(time.clock_gettime((~thread << 3) | 6) for thread in self._threads)
        except OSError:
            return 0.0

    def _found(self) -> list[int]:
        found = []
        for task in Path("/proc/self/task").iterdir():
            try:
                if (task / "comm").read_text().startswith(self._name):
                    found.append(int(task.name))
            except OSError:  # it has ended meanwhile
                continue
        return found


class CurveCost(NamedTuple):
    """CPU seconds to move a GB (1e9 bytes) between two processes, both ends together: encrypted, and plain."""

    curve: float
    plain: float

    @property
    def encryption(self) -> float:
        """CPU seconds a GB that encrypting and decrypting take."""
        return max(0.0, self.curve - self.plain)


def curve_cost(megabytes: int = 64, piece: int = 1 << 18) -> CurveCost:
    """What encryption costs here: ``megabytes`` in pieces over loopback, with CURVE and without, by libzmq's CPU time.

    >>> curve_cost(4).curve > 0
    True
    """
    pieces = max(1, megabytes * 1_000_000 // piece)
    return CurveCost(*(_spent(pieces, piece, keys) * 1e9 / (pieces * piece) for keys in (Keys.fresh(), None)))


def _spent(pieces: int, piece: int, keys: Keys | None) -> float:
    """CPU seconds of libzmq for ``pieces`` from one socket to another; both ends use one pair of keys, if any."""
    with zmq.Context() as context:
        clock = Clock(context)
        with context.socket(zmq.PULL) as here, context.socket(zmq.PUSH) as there:
            for socket in (here, there):
                socket.linger, socket.hwm = 0, UNDER_WAY
                if keys is not None:
                    keys.put_on(socket)
            if keys is not None:
                here.curve_server = True
                there.curve_serverkey = keys.public.encode()
            there.connect(f"tcp://127.0.0.1:{here.bind_to_random_port('tcp://127.0.0.1')}")
            return _moved(here, there, pieces, bytes(piece), clock)


def _moved(here: zmq.Socket[bytes], there: zmq.Socket[bytes], pieces: int, body: bytes, clock: Clock) -> float:
    there.send(body)
    here.recv()  # the handshake is not counted
    start = clock.seconds()
    for number in range(pieces + UNDER_WAY):
        if number < pieces:
            there.send(body)
        if number >= UNDER_WAY:
            here.recv(copy=False)
    return clock.seconds() - start
