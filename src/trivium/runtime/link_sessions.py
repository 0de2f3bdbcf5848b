"""Who is connected: greetings, losses and what arrives; the part of the links' thread that knows the peers.

A session begins so: who dials sends HELLO with a fresh random number once the handshake is done, and again until the
door answers WELCOME with the same number. A packet of a session that is not known is answered with GONE, so that both
ends agree soon that it is lost. A loss is noticed by what comes first: the connection's end as libzmq's monitor tells
it, a refused send, GONE, or silence.
"""

from __future__ import annotations

import logging
import secrets
import struct
from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import zmq

from trivium.runtime.curve import Gate, Keys
from trivium.runtime.link_ends import Dial, Door
from trivium.runtime.link_peer import ACK, DATA, FRONT, GONE, HELLO, WELCOME, Peer, Tally
from trivium.runtime.link_pieces import Joined, Malformed, TooLong
from trivium.runtime.shaping import Wire

__all__ = ["Ears", "Sessions"]

log = logging.getLogger(__name__)
VERSION = 1
INTRODUCTION = struct.Struct("<II")  # version, number of who speaks
BATCH = 32  # packets read from a socket before the others have their turn
AGAIN = 0.5  # seconds after which a greeting is said again, and a dial that libzmq has given up is made anew


class Ears(Protocol):
    """What the sessions want of the thread that they live in."""

    def listen(self, socket: zmq.Socket[bytes], look: Callable[[], None]) -> None:
        """Call ``look`` whenever ``socket`` has something."""

    def unlisten(self, socket: zmq.Socket[bytes]) -> None:
        """Do not look at ``socket`` any more."""

    def deliver(self, peer: Peer, message: Joined) -> None:
        """Hand a whole message to the owner."""

    @property
    def holding(self) -> bool:
        """Whether the owner has not taken what it was given."""


class Sessions:
    """All peers of process ``me``, by number; its door, and its dials to other doors."""

    def __init__(
        self,
        me: int,
        keys: Keys,
        context: zmq.Context[Any],
        bind: str,
        wire: Wire,
        limit: int,
        silence: float,
        ears: Ears,
    ) -> None:
        self.me, self.keys, self.wire, self.limit, self.silence = me, keys, wire, limit, silence
        self.peers: dict[int, Peer] = {}
        self.linked: set[int] = set()
        self.joined: deque[int] = deque()
        self.lost: deque[int] = deque()
        self.refused: Counter[str] = Counter()
        self.news = self.busy = False  # something for the owner; more in a socket than was read
        self._context, self._ears = context, ears
        self._allowed: dict[str, int] = {}
        self._routes: dict[bytes, Peer] = {}
        self._said: set[str] = set()
        self._gate = Gate(context, self._allowed)
        self._door = Door(context, keys, bind, silence)
        self.endpoint = self._door.endpoint
        ears.listen(self._gate.socket, self._gate.answer)
        ears.listen(self._door.monitor, self._watch_door)
        ears.listen(self._door.socket, self._read_door)

    # -- whom there is ------------------------------------------------------------------------------------------------
    def allow(self, number: int, key: str, tally: Tally) -> None:
        """Let in who proves to own ``key``, as peer ``number``."""
        known = self.peers.get(number)
        if known is None or known.key != key or known.endpoint:
            self.forget(number)
            self.peers[number] = Peer(number, key, tally, self.wire, self.limit)
            self._allowed[key] = number

    def connect(self, number: int, endpoint: str, key: str, tally: Tally) -> None:
        """Dial peer ``number`` at ``endpoint``, whose door must prove to own ``key``."""
        known = self.peers.get(number)
        if known is None or (known.key, known.endpoint) != (key, endpoint):
            self.forget(number)
            self.peers[number] = known = Peer(number, key, tally, self.wire, self.limit)
            known.endpoint = endpoint
            self._dial(known)

    def forget(self, number: int) -> None:
        """End the link to ``number``, which is neither let in nor dialled any more."""
        peer = self.peers.pop(number, None)
        if peer is not None:
            if peer.joined and not peer.cut:
                peer.say(GONE, monotonic())  # else it would learn when it next says something
            self.lose(peer, "is not wanted any more")
            peer.end()
            self._hang_up(peer)
            self._allowed.pop(peer.key, None)

    def lose(self, peer: Peer, why: str) -> None:
        """The session with ``peer`` is over, if there is one."""
        if not peer.joined:
            return
        log.info("process %d lost process %d, which %s", self.me, peer.number, why)
        peer.end()
        self.linked.discard(peer.number)
        self._routes.pop(peer.route, None)
        peer.route, peer.connection, peer.asked = b"", 0, 0
        self.lost.append(peer.number)
        self.news = True

    def look_after(self, peer: Peer, now: float) -> None:
        """Give up who was silent for too long; dial and greet again who does not answer."""
        if peer.joined and now - peer.heard > self.silence:
            self.lose(peer, f"was silent for {now - peer.heard:.1f} s")
            if peer.endpoint:
                self._dial(peer)
        elif peer.endpoint and not peer.joined and now >= peer.again_at:
            peer.again_at = now + AGAIN
            if peer.dial is None or peer.dial.stuck:
                self._dial(peer)
            elif peer.dial.up:
                self._greet(peer, anew=False)

    def uncut(self, peer: Peer) -> None:
        """What came during a cut comes now."""
        while peer.stash and not peer.cut:
            self._heard(peer, peer.stash.popleft())

    def let_fall(self) -> None:
        """End the sessions of connections to the door that are gone, once all that came by them was read."""
        while self._door.fallen:
            number = self._door.fallen.pop()
            for peer in self.peers.values():
                if peer.connection == number:
                    self.lose(peer, "closed its connection")

    def close(self) -> None:
        """All sockets, at once."""
        for peer in self.peers.values():
            self._hang_up(peer)
        self._door.close()
        self._gate.socket.close(0)

    # -- connections --------------------------------------------------------------------------------------------------
    def _dial(self, peer: Peer) -> None:
        self._hang_up(peer)
        try:
            dial = peer.dial = Dial(self._context, self.keys, peer.endpoint, peer.key, self.silence)
        except zmq.ZMQError as error:
            self._refuse(f"dialling process {peer.number}: {error}")
            return
        self._ears.listen(dial.monitor, lambda: self._watch_dial(peer, dial))
        self._ears.listen(dial.socket, lambda: self._read_dial(peer, dial))

    def _hang_up(self, peer: Peer) -> None:
        if peer.dial is not None:
            self._ears.unlisten(peer.dial.monitor)
            self._ears.unlisten(peer.dial.socket)
            peer.dial.close()
            peer.dial = None

    def _watch_door(self) -> None:
        for cause in self._door.watch():
            self._refuse(cause)

    def _watch_dial(self, peer: Peer, dial: Dial) -> None:
        for up in dial.watch():
            if up:
                self.lose(peer, "has connected anew")
                self._greet(peer, anew=True)
            else:
                while (frames := dial.receive()) is not None:
                    self._from_dial(peer, frames)
                self.lose(peer, "closed its connection")
        for cause in dial.causes:
            self._refuse(f"dialling process {peer.number}: {cause}")
        dial.causes.clear()

    def _refuse(self, cause: str) -> None:
        self.refused[cause] += 1
        if cause not in self._said:
            self._said.add(cause)
            log.warning("process %d at %s, refused: %s; counted from now on", self.me, self.endpoint, cause)

    def _greet(self, peer: Peer, *, anew: bool) -> None:
        """Say hello, for another session or the same once more."""
        if peer.dial is not None and not peer.cut:
            peer.asked = secrets.randbits(63) + 1 if anew or not peer.asked else peer.asked
            peer.again_at = monotonic() + AGAIN
            peer.dial.send([FRONT.pack(HELLO, peer.asked, 0) + INTRODUCTION.pack(VERSION, self.me)])

    # -- packets ------------------------------------------------------------------------------------------------------
    def _read_door(self) -> None:
        for _ in range(BATCH):
            frames = self._door.receive()
            if frames is None:
                return
            self._from_door(frames[0].bytes, frames[1:])
        self.busy = True

    def _read_dial(self, peer: Peer, dial: Dial) -> None:
        for _ in range(BATCH):
            frames = None if peer.dial is not dial else dial.receive()
            if frames is None:
                return
            self._from_dial(peer, frames)
        self.busy = True

    def _from_door(self, route: bytes, frames: list[zmq.Frame]) -> None:
        peer = self._routes.get(route)
        if not self._sound(peer, frames):
            return
        kind, session, _ = FRONT.unpack_from(frames[0].buffer)
        if kind == HELLO:
            self._greeted(route, session, frames[0])
        elif peer is not None and session == peer.session:
            self._packet(peer, frames)
        elif kind in {DATA, ACK} and not self.wire.shape.cut:
            self._door.send([route, FRONT.pack(GONE, session, 0)])

    def _from_dial(self, peer: Peer, frames: list[zmq.Frame]) -> None:
        if not self._sound(peer, frames):
            return
        kind, session, _ = FRONT.unpack_from(frames[0].buffer)
        if kind == WELCOME:
            self._welcomed(peer, session)
        elif session == peer.session:
            self._packet(peer, frames)

    def _sound(self, peer: Peer | None, frames: list[zmq.Frame]) -> bool:
        if 1 <= len(frames) <= 2 and len(frames[0]) >= FRONT.size:
            return True
        self._malformed(peer, f"a packet of {len(frames)} frames")
        return False

    def _greeted(self, route: bytes, session: int, frame: zmq.Frame) -> None:
        self._watch_door()  # what it tells of came before the greeting
        peer = self.peers.get(self._allowed.get(str(frame.get("User-Id")), -1))
        body = frame.buffer[FRONT.size :]
        if peer is None:
            self._refuse("a key that is not let in any more")
            return
        if len(body) != INTRODUCTION.size or INTRODUCTION.unpack(body) != (VERSION, peer.number):
            self._malformed(peer, f"a greeting that is not version {VERSION} of process {peer.number}")
            return
        connection = self._door.claim(frame)
        if connection is None or peer.cut:
            return
        if peer.session != session:
            self.lose(peer, "has connected anew")
            peer.route, peer.connection = route, connection
            self._routes[route] = peer
            self._begin(peer, session, lambda frames: self._door.send([route, *frames]))
        self.say(peer, WELCOME)

    def _welcomed(self, peer: Peer, session: int) -> None:
        if peer.dial is not None and session == peer.asked and not peer.joined and not peer.cut:
            self._begin(peer, session, peer.dial.send)

    def _begin(self, peer: Peer, session: int, send: Callable[[list[Any]], bool]) -> None:
        peer.begin(session, send, monotonic())
        self.linked.add(peer.number)
        self.joined.append(peer.number)
        self.news = True

    def say(self, peer: Peer, kind: int) -> None:
        """Send a packet without a body."""
        if not peer.say(kind, monotonic()):
            self.lose(peer, "cannot be sent to")

    def _packet(self, peer: Peer, frames: list[zmq.Frame]) -> None:
        if peer.cut:
            peer.stash.append(frames)
        else:
            self._heard(peer, frames)

    def _heard(self, peer: Peer, frames: list[zmq.Frame]) -> None:
        peer.heard = monotonic()
        kind, session, credit = FRONT.unpack_from(frames[0].buffer)
        if session != peer.session:  # lost meanwhile
            return
        if kind == GONE:
            self.lose(peer, "has lost track of this process")
            self._greet(peer, anew=True)
            return
        try:
            peer.landed(credit)
            if kind == DATA:
                self._piece(peer, frames)
            elif kind != ACK:
                raise Malformed(f"a packet of kind {kind}")
        except TooLong as error:
            self._malformed(peer, f"{error}; it is dropped")
            self.forget(peer.number)
        except Malformed as error:
            self._malformed(peer, str(error))

    def _piece(self, peer: Peer, frames: list[zmq.Frame]) -> None:
        head = frames[0].buffer
        place, body = peer.inbox.parted(head[FRONT.size :], frames[1].buffer if len(frames) > 1 else None)
        peer.took(len(body), peer.heard, holding=self._ears.holding)
        message = peer.inbox.put(place, body)
        if message is not None:
            peer.tally.messages_received += 1
            self._ears.deliver(peer, message)

    def _malformed(self, peer: Peer | None, what: str) -> None:
        if peer is None:
            self._refuse("a packet that nobody is known for")
            return
        peer.tally.malformed += 1
        said = f"malformed {peer.number}"
        if said not in self._said:
            self._said.add(said)
            log.warning("process %d got from process %d %s; such are counted from now on", self.me, peer.number, what)
