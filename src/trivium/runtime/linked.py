"""A host whose role has peers on other nodes: what is for them goes over links, with what its plane packs beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec

from trivium.core.exchange import BULK
from trivium.core.role import Address, Message, MessageReceived, Send
from trivium.core.spans import SEND, WAIT
from trivium.errors import TriviumError
from trivium.runtime import board as boards
from trivium.runtime.host import RoleHost
from trivium.runtime.wire import Crossed, Link, Order, Word, order_of, packed_order, packed_word, word_of

__all__ = ["LinkedHost"]

log = logging.getLogger(__name__)
PACKED = frozenset(BULK)


class LinkedHost(RoleHost):
    """Sends what is for other nodes over ``links``, and hears from there. Set ``links`` before ``run``."""

    links: Link

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._peers: set[int] = set()  # nodes that were sent anything

    def crossed(self) -> Crossed:
        """What was sent to other nodes so far, without what processes cost; by any thread."""
        traffic = getattr(self.plane, "traffic", None)
        kinds: tuple[tuple[str, int, int], ...] = ()
        if traffic is not None:
            plain = traffic.plain.copy()
            kinds = tuple((name, sent, plain.get(name, sent)) for name, sent in traffic.packed.copy().items())
        nbytes = sum(self.links.figures(peer).bytes_sent for peer in tuple(self._peers))
        return Crossed(kinds, nbytes, self.links.seconds)

    def _send(self, command: Send) -> None:
        to, message = command.to, command.message
        if to.node == self.role.me.node:
            super()._send(command)
            return
        if message is not self._last[0]:
            self._last = (message, self._encode(message))
        packed: Sequence[Any] = ()
        if type(message) in PACKED:
            packed = self.plane.pack(message)  # type: ignore[union-attr]
            self.board.figures[self.me, boards.PUSHED] += sum(memoryview(one).nbytes for one in packed)
        self._peers.add(to.node)
        self.links.send(to.node, packed_word(self.role.me.slot, to.slot, self._last[1]), packed)

    def order(self, node: int, order: Order, payload: Sequence[Any] = ()) -> None:
        """Send ``order`` to the process of ``node``."""
        self._peers.add(node)
        self.links.send(node, packed_order(order), payload)

    def take_links(self) -> bool:
        """Handle what came over links; True if there was something.

        What is beside a message is unpacked right before the role hears of it: not while earlier events still wait.
        """
        received = self.links.received
        if not received:
            return False
        while received and not self._events:
            peer, header, payload = received.popleft()[:3]
            word = word_of(header)
            if word is not None:
                self.word(peer, word, payload)
                continue
            order = order_of(header)
            if order is None:
                log.warning("dropped %d bytes from node %d that are no message", len(header), peer)
            else:
                self.obey(peer, order, payload)
        return True

    def word(self, peer: int, word: Word, payload: Sequence[Any]) -> None:
        """A message of the role at ``word.sender`` of node ``peer``; unpacked before the role hears of it."""
        sender = Address(peer, word.sender)
        if self.stopped is not None or word.to != self.role.me.slot:
            return
        message = self.decoded(sender, word.body)
        if message is None or not (type(message) not in PACKED or self._unpacked(sender, message, payload)):
            return
        now = perf_counter()
        if self.spans.kind == WAIT:
            self.spans.switch(SEND, now)
        self.feed(MessageReceived(sender, message))

    def decoded(self, sender: Address, body: bytes) -> Message | None:
        """The message in ``body``; None, and a line in the log, where it is none."""
        try:
            return self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("dropped a message of %s that cannot be read: %s", tuple(sender), error)
            return None

    def _unpacked(self, sender: Address, message: Message, payload: Sequence[Any]) -> bool:
        try:
            self.plane.unpack(sender, message, payload)  # type: ignore[union-attr]
        except (TriviumError, ValueError, LookupError) as error:  # of a term that is over, or damaged: it comes again
            log.warning("dropped %s of %s: %s", type(message).__name__, tuple(sender), error)
            return False
        self.board.figures[self.me, boards.PULLED] += sum(memoryview(one).nbytes for one in payload)
        return True

    def obey(self, peer: int, order: Order, payload: Sequence[Any]) -> None:
        """For subclasses: ``order`` came from ``peer``."""
        raise NotImplementedError
