"""The thread that owns a process's links: it reads, sends, times and wakes the owner; nobody else touches a socket.

A turn waits for sockets, orders or the next time that something is due (in milliseconds, libzmq's grain); it never
spins, and looks at what is silent ten times a second.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import zmq

from trivium.runtime.curve import Clock, Keys
from trivium.runtime.link_peer import ACK, Peer, Tally
from trivium.runtime.link_pieces import PIECE, Joined, Outgoing
from trivium.runtime.link_sessions import Sessions
from trivium.runtime.shaping import Shape, Wire

__all__ = ["Arrived", "Loop"]

log = logging.getLogger(__name__)
TICK = 0.1  # seconds between looks at who is silent, and at what must be tried again
BATCH = 32  # pieces sent before what came is read again
LOOK_AGAIN = 0.005  # seconds, at whether the owner has taken what it was given
BEAT_EVERY = 1.0
AWAY = 0.5  # seconds that a turn was late: this thread was stopped or starved, and nobody else was silent


class Arrived(NamedTuple):
    """A message from ``peer``; its buffers begin at multiples of 8 bytes and belong to whoever takes it."""

    peer: int
    header: bytes
    payload: list[memoryview]


class Loop:
    """All links of process ``me``. Other threads only put (method, arguments) into ``orders`` and ``wake`` it."""

    def __init__(
        self,
        me: int,
        keys: Keys,
        bind: str,
        ring: Callable[[], None],
        shape: Shape,
        *,
        limit: int,
        unread: int,
        silence: float,
    ) -> None:
        self.orders: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.received: deque[Arrived] = deque()
        self.failed: BaseException | None = None
        self.seconds = 0.0  # of the io threads, once they have ended
        self._ring, self._beat, self._most_unread = ring, min(BEAT_EVERY, silence / 4), unread
        self._unread, self._sizes = 0, deque[int]()
        self._busy = False
        self._turned, self._served, self._tick_at, self._due, self._until = monotonic(), 0, 0.0, 0.0, math.inf
        self._context: zmq.Context[Any] = zmq.Context()
        self.clock = Clock(self._context)
        self._poller = zmq.Poller()
        self._look: dict[Any, Callable[[], None]] = {}
        try:
            self.sessions = Sessions(me, keys, self._context, bind, Wire(shape), limit, silence, self)
        except zmq.ZMQError:
            self._context.destroy(0)
            raise
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller.register(self._bell, zmq.POLLIN)

    def wake(self) -> None:
        """End the wait; by any thread, before the end was ordered."""
        os.eventfd_write(self._bell, 1)

    def hush(self) -> None:
        """Nobody wakes it any more, and it has ended."""
        os.close(self._bell)

    def run(self) -> None:
        """Until the end is ordered; all sockets are closed then."""
        try:
            while monotonic() < self._until:
                self._turn()
        except Exception as error:
            self.failed = error
            log.exception("the links of process %d have ended", self.sessions.me)
            self._ring()
        finally:
            self.seconds = self.clock.seconds()
            self.sessions.close()
            self._context.destroy(0)

    # -- orders -------------------------------------------------------------------------------------------------------
    def send(self, number: int, message: Outgoing, tally: Tally) -> None:
        """Queue ``message``; one to a peer that is no more is dropped, and counted."""
        peer = self.sessions.peers.get(number)
        if peer is None:
            tally.settled += message.nbytes
            tally.dropped += message.nbytes
        else:
            peer.accept(message)

    def reshape(self, number: int | None, shape: Shape | None) -> None:
        """Give all links, or the one to ``number``, another shape; None: the shape that all have."""
        sessions = self.sessions
        if number is None:
            sessions.wire = Wire(shape or Shape())
        own = number is not None and shape is not None
        wire = Wire(shape) if own and shape is not None else sessions.wire
        for peer in list(sessions.peers.values()):
            if peer.number == number or (number is None and not peer.own_wire):
                peer.rewire(wire, own=own, now=monotonic())
                sessions.uncut(peer)

    def end(self, within: float) -> None:
        """End in ``within`` seconds, or as soon as all that was queued has arrived."""
        self._until = monotonic() + within

    # -- what the sessions want ---------------------------------------------------------------------------------------
    def listen(self, socket: zmq.Socket[bytes], look: Callable[[], None]) -> None:
        """Call ``look`` whenever ``socket`` has something."""
        self._poller.register(socket, zmq.POLLIN)
        self._look[socket] = look

    def unlisten(self, socket: zmq.Socket[bytes]) -> None:
        """Do not look at ``socket`` any more."""
        self._poller.unregister(socket)
        del self._look[socket]

    def deliver(self, peer: Peer, message: Joined) -> None:
        """Hand a whole message to the owner."""
        self._unread += message.nbytes
        self._sizes.append(message.nbytes)  # before the owner can take it
        self.received.append(Arrived(peer.number, message.header, message.payload))
        self.sessions.news = True

    @property
    def holding(self) -> bool:
        """Whether the owner has not taken what it was given."""
        return self._unread > self._most_unread

    # -- a turn -------------------------------------------------------------------------------------------------------
    def _turn(self) -> None:
        sessions = self.sessions
        wait = 0.0 if self._busy else min(max(0.0, min(self._due, self._until) - monotonic()), TICK)
        ready = self._poller.poll(math.ceil(wait * 1e3))
        self._busy = sessions.busy = False
        self._notice_absence(wait)
        self._take_orders()
        for source, _ in ready:
            look = self._look.get(source)
            if look is not None:
                look()
        if not sessions.busy:
            sessions.let_fall()
        now = monotonic()
        self._tick(now)
        self._count_unread(now)
        self._pump(now)
        self._give_credit(now)
        self._busy |= sessions.busy
        if sessions.news:
            sessions.news = False
            self._ring()
        if self._until < math.inf and not any(peer.outbox or peer.under_way for peer in sessions.peers.values()):
            self._until = -math.inf

    def _notice_absence(self, wait: float) -> None:
        now = monotonic()
        away = now - self._turned - wait
        self._turned = now
        if away > AWAY:
            for peer in self.sessions.peers.values():
                peer.heard += away

    def _take_orders(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while self.orders:
            order, arguments = self.orders.popleft()
            order(*arguments)

    def _tick(self, now: float) -> None:
        if now >= self._tick_at:
            self._tick_at = now + TICK
            for peer in list(self.sessions.peers.values()):
                self.sessions.look_after(peer, now)
                if peer.joined and not peer.cut and now - peer.spoke > self._beat:
                    self.sessions.say(peer, ACK)
        self._due = self._tick_at

    def _count_unread(self, now: float) -> None:
        """Hold the peers back while their messages are not taken."""
        held = self.holding
        while len(self._sizes) > len(self.received):
            self._unread -= self._sizes.popleft()
        if self.holding:
            self._due = min(self._due, now + LOOK_AGAIN)
        elif held:
            for peer in self.sessions.peers.values():
                peer.owe(now)

    # -- out ----------------------------------------------------------------------------------------------------------
    def _pump(self, now: float) -> None:
        """Send, the most urgent first; among equals, whoever was served longest ago."""
        linked = [peer for peer in self.sessions.peers.values() if peer.joined and not peer.cut]
        for peer in linked:
            self._release(peer, now)
        ready = linked
        for _ in range(BATCH):
            ready = [peer for peer in ready if self._may_queue(peer, now)]
            if not ready:
                break
            self._serve(max(ready, key=lambda peer: (peer.outbox.urgency, -peer.served)), now)
        else:
            self._busy = True
        for peer in linked:
            if peer.line and peer.open:
                self._due = min(self._due, peer.line[0][0])

    def _may_queue(self, peer: Peer, now: float) -> bool:
        if not peer.joined or not peer.outbox or peer.on_line >= peer.wire.room():
            return False
        if peer.wire.shape.fair:
            return peer.open and not peer.line
        if not peer.wire.free(now):
            self._due = min(self._due, peer.wire.next)
            return False
        return True

    def _serve(self, peer: Peer, now: float) -> None:
        self._served += 1
        peer.served = self._served
        if peer.queue(now, PIECE):
            self._release(peer, now)

    def _release(self, peer: Peer, now: float) -> None:
        if not peer.release(now):
            self.sessions.lose(peer, "cannot be sent to")

    def _give_credit(self, now: float) -> None:
        for peer in list(self.sessions.peers.values()):
            if peer.ack_at < math.inf and not peer.cut:
                if peer.ack_at <= now:
                    self.sessions.say(peer, ACK)
                else:
                    self._due = min(self._due, peer.ack_at)
