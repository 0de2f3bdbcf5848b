"""One process's end of all its links to processes on other nodes: encrypted, authenticated both ways, never blocking.

Rules
-----
* Each process has a door, bound to loopback unless told otherwise. Of each pair one dials (``connect``), the other lets
  it in (``allow``); each end proves its key to the other, and who is not expected gets no further than the handshake.
* ``send`` only queues. Whole messages come into ``received``, in the order of sending among the equally urgent; a more
  urgent one overtakes, piece by piece. Header and buffers are bytes to the link; nothing is unpickled.
* A link that broke is told in ``lost``, and one that is there in ``joined``, also where the other process lived on.
  What had been sent before a loss may or may not have arrived; what is sent after waits for the next ``joined``. Take
  what is ``lost`` first, then what ``joined``; ``linked`` says how it ended.
* Nothing is dropped in silence but by a loss. What is malformed is counted; whoever sends a message beyond ``limit`` is
  dropped for good. Memory is bounded: two megabytes are under way to a peer, what its owner does not take out of
  ``received`` holds the senders back, and ``pending`` tells each sender what waits at its end.
* A ``Shape`` makes the links worse on purpose, for tests and rehearsals.

Prior art: ps-lite's van (Li et al., *Scaling Distributed Machine Learning with the Parameter Server*, OSDI 2014), which
neither encrypts nor tells of a broken link. What this does not do: send again what a loss took (roles do), route, or
discover.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import zmq

from trivium.errors import RunError, UsageError
from trivium.runtime.curve import CurveCost, Keys, checked, curve_cost
from trivium.runtime.link_loop import Arrived, Loop
from trivium.runtime.link_peer import Tally
from trivium.runtime.link_pieces import Outgoing
from trivium.runtime.shaping import Shape

__all__ = ["Arrived", "CurveCost", "Figures", "Keys", "Links", "Shape", "curve_cost"]

log = logging.getLogger(__name__)
LOOPBACK = "tcp://127.0.0.1:*"
ENDPOINT = re.compile(r"tcp://[^\s/]+:(\d{1,5}|\*)")
LIMIT = 1 << 30
UNREAD = 1 << 28
SILENCE = 10.0
END_WITHIN = 5.0  # seconds that the thread may take to close its sockets


class Figures(NamedTuple):
    """What went between this process and a peer; bytes are those of messages, and of their padding to 8.

    ``dropped``: bytes that waited or were under way when a link broke. ``seconds``: CPU time of the threads that
    encrypt, decrypt and move bytes, for all peers of this process together.
    """

    bytes_sent: int
    bytes_received: int
    messages_sent: int
    messages_received: int
    dropped: int
    malformed: int
    seconds: float


class Links:
    """The links of process ``me``; ``ring`` is called by their thread when there is something to be taken.

    ``limit``: most bytes of a message. ``unread``: bytes in ``received`` beyond which senders are held back.
    ``silence``: seconds after which a peer that says nothing is lost, the same at both ends. Raises UsageError where it
    cannot bind.

    >>> ada, bob = Keys.fresh(), Keys.fresh()
    >>> came = threading.Event()
    >>> with Links(0, ada, ring=lambda: None) as here, Links(1, bob, ring=came.set) as there:
    ...     there.allow(0, ada.public)
    ...     here.connect(1, there.endpoint, bob.public)
    ...     here.send(1, b"hello", [b"numbers"])
    ...     while not there.received and came.wait(10.0):
    ...         came.clear()
    ...     there.received[0].header, bytes(there.received[0].payload[0])
    (b'hello', b'numbers')
    """

    def __init__(
        self,
        me: int,
        keys: Keys,
        *,
        ring: Callable[[], None],
        bind: str = LOOPBACK,
        shape: Shape = Shape(),  # noqa: B008  frozen
        limit: int = LIMIT,
        unread: int = UNREAD,
        silence: float = SILENCE,
    ) -> None:
        if limit < 1 or unread < 1 or not silence > 0:
            raise UsageError(f"links with limit={limit}, unread={unread}, silence={silence}; all must be above 0")
        self.me, self.limit = me, limit
        self._shape = shape
        self._tallies: dict[int, Tally] = {}
        self._expected: dict[int, str] = {}
        self._lock, self._closed = threading.Lock(), False
        try:
            self._loop = Loop(me, keys, _endpoint(bind), ring, shape, limit=limit, unread=unread, silence=silence)
        except zmq.ZMQError as error:
            raise UsageError(f"process {me} cannot bind to {bind}: {error}; choose another address or port") from error
        self.endpoint = self._loop.sessions.endpoint
        self._thread = threading.Thread(target=self._loop.run, name="links", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- who is there -------------------------------------------------------------------------------------------------
    def allow(self, peer: int, public_key: str) -> None:
        """Let in who proves to own ``public_key``, as ``peer``; where it had another key, that one's link ends."""
        checked(public_key, "public key")
        self._expect(peer, "let in")
        self._order(self._loop.sessions.allow, peer, public_key, self._tally(peer))

    def connect(self, peer: int, endpoint: str, public_key: str) -> None:
        """Dial ``peer``, whose door must prove to own ``public_key``, until it answers; start order does not matter."""
        checked(public_key, "public key")
        self._expect(peer, "dialled")
        self._order(self._loop.sessions.connect, peer, _endpoint(endpoint), public_key, self._tally(peer))

    def forget(self, peer: int) -> None:
        """End the link to ``peer``, and neither let it in nor dial it any more; a link that there was is ``lost``."""
        self._expected.pop(peer, None)
        self._order(self._loop.sessions.forget, peer)

    @property
    def joined(self) -> deque[int]:
        """Peers whose link is there now, in order; taken by the owner with ``popleft``."""
        return self._loop.sessions.joined

    @property
    def lost(self) -> deque[int]:
        """Peers whose link broke, in order; taken by the owner with ``popleft``."""
        return self._loop.sessions.lost

    def linked(self, peer: int) -> bool:
        """Whether the link to ``peer`` is there now: what ``joined`` and ``lost`` come to, also when both have it."""
        return peer in self._loop.sessions.linked

    @property
    def refused(self) -> Counter[str]:
        """How many connections came to nothing, by cause: those to the door, and one's own to a peer."""
        return Counter(self._loop.sessions.refused)

    # -- what goes ----------------------------------------------------------------------------------------------------
    def send(self, peer: int, header: bytes, payload: Sequence[Any] = (), urgency: float = 0.0) -> None:
        """Queue a message; the most urgent goes first. Buffers are not copied: they must not change until it is sent.

        Raises UsageError for a peer that never was allowed or connected, and for a message beyond the limit. One to a
        peer that was forgotten is dropped, and counted.
        """
        tally = self._tallies.get(peer)
        if tally is None:
            raise UsageError(f"process {peer} is not linked to {self.me}; allow or connect it first")
        message = Outgoing(header, payload, urgency)
        if message.nbytes > self.limit:
            raise UsageError(
                f"a message of {message.nbytes} bytes to process {peer}; at most {self.limit}: send it in parts"
            )
        with self._lock:
            tally.queued += message.nbytes
        self._order(self._loop.send, peer, message, tally)

    def pending(self, peer: int) -> int:
        """Bytes of messages to ``peer`` that it has not taken yet."""
        tally = self._tally(peer)
        return max(0, tally.queued - tally.settled)

    @property
    def received(self) -> deque[Arrived]:
        """Whole messages, in order; taken by the owner with ``popleft``."""
        return self._loop.received

    @property
    def shape(self) -> Shape:
        """What makes all links worse, but those that have a shape of their own; may be set at any time."""
        return self._shape

    @shape.setter
    def shape(self, shape: Shape) -> None:
        self._shape = shape
        self._order(self._loop.reshape, None, shape)

    def reshape(self, peer: int, shape: Shape | None) -> None:
        """Give the link to ``peer`` a shape of its own, with a bandwidth of its own; None: that of all again."""
        self._order(self._loop.reshape, peer, shape)

    # -- what it costs ------------------------------------------------------------------------------------------------
    def figures(self, peer: int) -> Figures:
        """What went between this process and ``peer`` so far."""
        tally = self._tally(peer)
        return Figures(
            tally.sent,
            tally.received,
            tally.messages_sent,
            tally.messages_received,
            tally.dropped,
            tally.malformed,
            self.seconds,
        )

    @property
    def seconds(self) -> float:
        """CPU seconds of the threads that encrypt, decrypt and move bytes."""
        return self._loop.seconds or self._loop.clock.seconds()

    def close(self, within: float = 0.0) -> None:
        """End all links; waits at most ``within`` seconds for what was queued to arrive. A second time does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._thread.is_alive():
                self._loop.orders.append((self._loop.end, (within,)))
                self._loop.wake()
        self._thread.join(within + END_WITHIN)
        if self._thread.is_alive():
            log.error("the links of process %d did not end in %s s", self.me, within + END_WITHIN)
        else:
            self._loop.hush()

    # -- inside -------------------------------------------------------------------------------------------------------
    def _tally(self, peer: int) -> Tally:
        return self._tallies.setdefault(peer, Tally())

    def _expect(self, peer: int, how: str) -> None:
        if peer == self.me:
            raise UsageError(f"process {peer} cannot be linked to itself")
        known = self._expected.setdefault(peer, how)
        if known != how:
            raise UsageError(f"process {peer} is {known}; of a pair one dials and the other lets in: forget it first")

    def _order(self, order: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            if self._loop.failed is not None:
                raise RunError(f"the links of process {self.me} have ended: {self._loop.failed}")
            if self._closed:
                raise RunError(f"the links of process {self.me} are closed")
            self._loop.orders.append((order, arguments))
            self._loop.wake()


def _endpoint(endpoint: str) -> str:
    if not ENDPOINT.fullmatch(endpoint):
        raise UsageError(f"a link's address of {endpoint!r}; expected tcp://HOST:PORT")
    return endpoint
