"""The two kinds of ends a link has, over ZeroMQ with CURVE: the door that others come to, and a dial to another's.

Rules
-----
* A connection's name on the door is libzmq's own, never one that the other side chose: who is let in may not pass for
  somebody else. Whose it is follows from the key that it proved.
* What libzmq's monitor tells of the door names a connection by its descriptor; descriptors come again, so each
  connection that was accepted gets a number here, and what falls is told by that.
* A connection that ends before it said who it is was refused: scanners, other protocols, wrong keys. They are counted
  by their cause.
* Nothing lingers, nothing is queued for a connection that is not there, and no queue is so short that libzmq would drop
  what the link's window lets out.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from typing import Any

import zmq

from trivium.runtime.curve import Keys
from trivium.runtime.link_pieces import MOST_BUFFERS, PIECE

__all__ = ["CROWD", "SMALL", "Dial", "Door", "End"]

CROWD = 1024  # pieces that a link may have under way
SMALL = 1 << 14  # bytes of a body that goes in one frame with what comes before it
LARGEST = PIECE + SMALL + 16 * MOST_BUFFERS
HANDSHAKE_WITHIN = 5.0
DIAL_AGAIN, DIAL_SLOWLY = 0.05, 1.0  # seconds between attempts, at first and at most
EVENT = struct.Struct("=HI")  # a monitor's event and its value; then unused bytes
FAILURES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "a key that is not let in",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "a wrong key or another protocol",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "a handshake that was broken off",
}
TOLD = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(FAILURES)
STRANGER = "something that does not speak the protocol"


class End:
    """What both have: a socket, and a monitor of its connections."""

    def __init__(self, context: zmq.Context[Any], kind: int, keys: Keys, silence: float) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(kind)
        self.monitor: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        for socket in (self.socket, self.monitor):
            socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 2 * CROWD
        self.socket.maxmsgsize = LARGEST
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_WITHIN * 1e3))
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, int(silence / 4 * 1e3))
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(silence * 1e3))
        self.socket.setsockopt(zmq.HEARTBEAT_TTL, int(silence * 1e3))
        keys.put_on(self.socket)
        where = f"inproc://monitor-{secrets.token_hex(8)}"
        self.socket.monitor(where, TOLD)
        self.monitor.rcvhwm = 0  # else libzmq's thread would wait for ours
        self.monitor.connect(where)

    def events(self) -> Iterator[tuple[int, int]]:
        """What libzmq has to tell: event and value."""
        while True:
            try:
                event, _ = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield EVENT.unpack(event)

    def receive(self) -> list[zmq.Frame] | None:
        """The frames that came next, or None."""
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def send(self, frames: list[Any]) -> bool:
        """Whether ``frames`` are on their way; False: the connection is gone."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                return False
            raise
        return True

    def close(self) -> None:
        """Both sockets, at once."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)


class Door(End):
    """Where others connect. ``fallen``: numbers of connections that have ended, to be taken by the owner."""

    def __init__(self, context: zmq.Context[Any], keys: Keys, bind: str, silence: float) -> None:
        super().__init__(context, zmq.ROUTER, keys, silence)
        self.socket.curve_server = True
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.bind(bind)
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self.fallen: list[int] = []
        self._connections: dict[int, int] = {}
        self._claimed: set[int] = set()
        self._count, self._cause = 0, STRANGER

    def watch(self) -> list[str]:
        """Take in what the monitor tells; the causes for which connections were refused."""
        causes = []
        for event, value in self.events():
            if event == zmq.EVENT_ACCEPTED:
                self._count += 1
                self._connections[value] = self._count
            elif event in FAILURES:
                self._cause = FAILURES[event]
            elif event == zmq.EVENT_DISCONNECTED and value in self._connections:
                number = self._connections.pop(value)
                if number in self._claimed:
                    self._claimed.remove(number)
                    self.fallen.append(number)
                else:
                    causes.append(self._cause)
                self._cause = STRANGER
        return causes

    def claim(self, frame: zmq.Frame) -> int | None:
        """The number of the connection that ``frame`` came by, which now has an owner; None when it is gone."""
        number = self._connections.get(int(frame.get(zmq.SRCFD)))
        if number is not None:
            self._claimed.add(number)
        return number


class Dial(End):
    """A connection to the door of one other process, whose key is ``key``; libzmq dials again until it answers."""

    def __init__(self, context: zmq.Context[Any], keys: Keys, endpoint: str, key: str, silence: float) -> None:
        super().__init__(context, zmq.DEALER, keys, silence)
        self.up, self.stuck = False, False  # connected; given up by libzmq, to be made anew
        self.causes: list[str] = []  # of attempts that failed, to be taken by the owner
        self.socket.curve_serverkey = key.encode()
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, int(DIAL_AGAIN * 1e3))
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, int(DIAL_SLOWLY * 1e3))
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    def watch(self) -> Iterator[bool]:
        """True each time that the connection comes up, False each time that it is gone."""
        for event, _ in self.events():
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.up = True
                yield True
            elif event in FAILURES:
                self.stuck = self.stuck or event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                self.causes.append(FAILURES[event])
            elif event == zmq.EVENT_DISCONNECTED and self.up:
                self.up = False
                yield False
