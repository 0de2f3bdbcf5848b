"""What one end knows of another: what is to be sent, what is under way, what came; no sockets and no clocks.

Rules
-----
* A **session** is one stretch of being connected, with a random number. What was sent in it arrives whole and in order,
  or the session is lost, and with it all that waited; what is sent after that waits for the next one.
* Whoever receives says how much of a session's pieces it has taken (``credit``), beside what it sends anyway or soon
  after. The sender has at most ``WINDOW`` under way; so memory is bounded at both ends, an urgent message finds short
  queues, and what the receiver's owner does not take holds the sender back.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trivium.runtime.link_ends import CROWD, SMALL, Dial
from trivium.runtime.link_pieces import Chunk, Inbox, Malformed, Outbox, Outgoing
from trivium.runtime.shaping import Wire

__all__ = ["ACK", "DATA", "FRONT", "GONE", "HELLO", "WELCOME", "WINDOW", "Peer", "Tally"]

FRONT = struct.Struct("<B7xQQ")  # kind, session, credit
HELLO, WELCOME, DATA, ACK, GONE = range(1, 6)
WINDOW = 1 << 21  # bytes under way: 4 ms at full speed, many times what a network's round trip needs
TOLL = WINDOW // CROWD  # what a piece counts beside its bytes, so that there are never more than ``CROWD``
ACK_BEYOND = WINDOW // 8
ACK_WITHIN = 0.005  # seconds


@dataclass
class Tally:
    """Counts of one peer since its first day; ``queued`` is the callers', the rest belongs to the link's thread."""

    queued: int = 0
    settled: int = 0
    sent: int = 0
    received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    dropped: int = 0
    malformed: int = 0


class Peer:
    """One other process. ``send`` hands frames to its connection of this session, False when that is gone."""

    def __init__(self, number: int, key: str, tally: Tally, wire: Wire, limit: int) -> None:
        self.number, self.key, self.tally, self.limit = number, key, tally, limit
        self.wire, self.own_wire = wire, False
        self.dial: Dial | None = None
        self.endpoint, self.again_at, self.asked = "", 0.0, 0  # where to dial, when once more, with which session
        self.route, self.connection = b"", 0  # on the door
        self.stash: deque[list[Any]] = deque()  # packets that came during a cut
        self.outbox, self._accepted = Outbox(), tally.settled
        self.served = 0  # when it last sent, among the equally urgent
        self._reset(0, lambda _: False, 0.0)
        self.joined = False

    def _reset(self, session: int, send: Callable[[list[Any]], bool], now: float) -> None:
        self.session, self.send = session, send
        self.heard = self.spoke = now
        self.inbox = Inbox(self.limit)
        self.line: deque[tuple[float, Chunk]] = deque()
        self.on_line = 0
        self._flown = self._landed = 0
        self._flying: deque[tuple[int, int]] = deque()
        self.got = self.credit = self.told = 0
        self.ack_at = math.inf

    def begin(self, session: int, send: Callable[[list[Any]], bool], now: float) -> None:
        """A session has begun."""
        self._reset(session, send, now)
        self.joined = True

    def end(self) -> None:
        """The session is lost, and all that waited with it."""
        self._reset(0, lambda _: False, 0.0)
        self.joined = False
        self.stash.clear()
        self.outbox = Outbox()
        self.tally.dropped += self._accepted - self.tally.settled
        self.tally.settled = self._accepted

    def rewire(self, wire: Wire, *, own: bool, now: float) -> None:
        """Another wire, of its own or everybody's; what is on the old one comes out no later than on the new one."""
        self.wire, self.own_wire = wire, own
        self.line = deque((min(due, now + wire.shape.delay), chunk) for due, chunk in self.line)

    # -- out ----------------------------------------------------------------------------------------------------------
    @property
    def open(self) -> bool:
        """Whether another piece may be under way."""
        return self._flown - self._landed < WINDOW

    @property
    def under_way(self) -> bool:
        """Whether something was sent that the other end has not taken yet."""
        return bool(self._flying or self.line)

    @property
    def cut(self) -> bool:
        """Whether nothing may go or come."""
        return self.wire.shape.cut

    def accept(self, message: Outgoing) -> None:
        """Queue ``message``."""
        self._accepted += message.nbytes
        self.tally.messages_sent += 1
        self.outbox.put(message)

    def queue(self, now: float, most: int) -> bool:
        """Put the next piece on the wire; whether it may go out at once."""
        chunk = self.outbox.take(self.wire.piece(most))
        self.line.append((self.wire.put(len(chunk.body) + len(chunk.place), now), chunk))
        self.on_line += len(chunk.body)
        return self.line[0][0] <= now

    def release(self, now: float) -> bool:
        """Hand over what has come out of the wire, as far as the window is open; False: the connection is gone."""
        while self.line and self.line[0][0] <= now and self.open:
            _, chunk = self.line.popleft()
            self.on_line -= len(chunk.body)
            self._flown += len(chunk.body) + TOLL
            self._flying.append((self._flown, chunk.nbytes))
            if not self.say(DATA, now, chunk.place, chunk.body):
                return False
            self.tally.sent += len(chunk.body)
        return True

    def say(self, kind: int, now: float, place: bytes = b"", body: bytes | memoryview = b"") -> bool:
        """Hand one packet over; False: the connection is gone."""
        self.spoke, self.told = now, self.credit
        self.ack_at = math.inf
        front = FRONT.pack(kind, self.session, self.credit)
        if len(body) <= SMALL:
            return self.send([b"".join((front, place, body))])
        return self.send([front + place, body])

    # -- in -----------------------------------------------------------------------------------------------------------
    def landed(self, credit: int) -> None:
        """The other end has taken so much. Raises Malformed."""
        if not self._landed <= credit <= self._flown:
            raise Malformed(f"{credit} bytes taken, of {self._flown} that were sent and {self._landed} taken before")
        self._landed = credit
        while self._flying and self._flying[0][0] <= credit:
            self.tally.settled += self._flying.popleft()[1]

    def took(self, nbytes: int, now: float, *, holding: bool) -> None:
        """A piece with a body of ``nbytes`` came; ``holding``: credit is not given for now."""
        self.got += nbytes + TOLL
        self.tally.received += nbytes
        if not holding:
            self.owe(now)

    def owe(self, now: float) -> None:
        """Give credit for all that came: soon, or at once if it is much."""
        self.credit = self.got
        if self.credit > self.told:
            late = now if self.credit - self.told >= ACK_BEYOND else now + ACK_WITHIN
            self.ack_at = min(self.ack_at, late)
