"""Messages in pieces: how a link cuts what is sent, which piece goes next, and how the other end joins them again.

Rules
-----
* A message is a header and any number of buffers. As a *stream* it is those one after the other, each padded to
  ``ALIGN`` bytes; a piece is a stretch of the stream, and the first one carries the lengths beside it.
* The more urgent message goes first, piece by piece; equally urgent ones go in the order of sending. At most ``OPEN``
  messages of several pieces are begun and not finished: with ``limit`` that bounds what a receiver holds.
* Pieces of a message come in order, for the transport keeps it. What does not fit is ``Malformed`` and is dropped by
  itself; a message beyond the limit is ``TooLong``, and so is the one that goes beyond ``OPEN``.
* Buffers are not copied on the way out (but where a piece spans several); they must not change until they are sent. A
  message of one piece is not copied on the way in either, unless its memory lies off ``ALIGN``.

Nothing here knows of sockets or clocks. Prior art: HTTP/2's frames and priorities (Belshe, Peon, Thomson, RFC 7540,
2015); Bösen's managed communication (Wei et al., *Managed Communication and Consistency for Fast Data-Parallel
Iterative Analytics*, SoCC 2015).
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from trivium.errors import UsageError

__all__ = [
    "ALIGN",
    "HEAD",
    "MOST_BUFFERS",
    "OPEN",
    "PIECE",
    "Chunk",
    "Inbox",
    "Joined",
    "Malformed",
    "Outbox",
    "Outgoing",
    "TooLong",
]

PIECE = 1 << 18  # bytes of a stream in one piece: 0.4 ms of encryption, which an urgent message waits for
ALIGN = 8
OPEN = 8
MOST_BUFFERS = 1024
PLACE = struct.Struct("<QQII")  # message number, offset in its stream, bytes of the header, buffers
HEAD = PLACE.size
PADDING = bytes(ALIGN)


class Malformed(Exception):  # noqa: N818  what a peer sent, not an error of ours
    """A piece that fits nowhere."""


class TooLong(Malformed):
    """A message that the sender was not allowed to send."""


class Chunk(NamedTuple):
    """A piece to be sent: ``place`` goes before ``body``; ``nbytes`` of header and buffers are in it."""

    place: bytes
    body: bytes | memoryview
    nbytes: int


def padded(nbytes: int) -> int:
    """``nbytes`` up to the next multiple of ``ALIGN``.

    >>> padded(0), padded(1), padded(8)
    (0, 8, 8)
    """
    return -(-nbytes // ALIGN) * ALIGN


class Outgoing:
    """One message on its way out."""

    __slots__ = ("_left", "_lengths", "_offset", "_segments", "begun", "header_bytes", "length", "nbytes", "urgency")

    def __init__(self, header: bytes, payload: Sequence[Any], urgency: float) -> None:
        buffers = [flat(buffer) for buffer in payload]
        self.urgency, self.header_bytes = urgency, len(header)
        self._lengths = [buffer.nbytes for buffer in buffers]
        if len(buffers) > MOST_BUFFERS:
            raise UsageError(f"a message with {len(buffers)} buffers; at most {MOST_BUFFERS}: join the small ones")
        parts: list[bytes | memoryview] = [header, *buffers]
        self._segments: list[bytes | memoryview] = []
        for part in parts:
            self._segments += [part, PADDING[: -len(part) % ALIGN]] if len(part) % ALIGN else [part]
        self.nbytes = sum(map(len, parts))
        self.length = sum(map(len, self._segments))
        self._segments.reverse()  # what was sent is popped off the end
        self.begun, self._offset, self._left = False, 0, self.nbytes

    @property
    def done(self) -> bool:
        """Whether all of it went out."""
        return self.begun and self._offset == self.length

    def chunk(self, number: int, most: int) -> Chunk:
        """The next piece, of at most ``most`` bytes of the stream (a multiple of ``ALIGN``)."""
        place = PLACE.pack(number, self._offset, self.header_bytes, len(self._lengths))
        if not self.begun:
            place += struct.pack(f"<{len(self._lengths)}Q", *self._lengths)
        self.begun = True
        parts, room = self._take(most)
        self._offset += most - room
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        share = self._left if self.done else min(self._left, most - room)  # padding counts for nothing
        self._left -= share
        return Chunk(place, body, share)

    def _take(self, room: int) -> tuple[list[bytes | memoryview], int]:
        parts: list[bytes | memoryview] = []
        segments = self._segments
        while segments and room:
            part = segments.pop()
            if len(part) > room:
                whole = memoryview(part)
                part = whole[:room]
                segments.append(whole[room:])
            room -= len(part)
            parts.append(part)
        return parts, room


def flat(buffer: Any) -> memoryview:
    """``buffer`` as bytes, not copied. Raises UsageError where it does not lie in one stretch of memory."""
    try:
        view = memoryview(buffer)
    except TypeError as error:
        raise UsageError(f"a payload of {type(buffer).__name__}; expected arrays, bytes or memoryviews") from error
    if not view.c_contiguous:
        raise UsageError(f"a payload of shape {view.shape} with strides {view.strides}; make it contiguous first")
    return view.cast("B") if view.nbytes else memoryview(b"")


class Outbox:
    """What waits to be sent to one peer, most urgent first.

    >>> box = Outbox()
    >>> box.put(Outgoing(b"large", [bytes(1 << 20)], 0.0))
    >>> first = box.take(PIECE)
    >>> box.put(Outgoing(b"small", [], 1.0))
    >>> box.urgency, bytes(box.take(PIECE).body[:5]), box.urgency
    (1.0, b'small', 0.0)
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Outgoing]] = []
        self._open: list[tuple[float, int, Outgoing]] = []
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._heap or self._open)

    @property
    def urgency(self) -> float:
        """Of the piece that goes next; there must be one."""
        return -self._next(PIECE)[0]

    def put(self, message: Outgoing) -> None:
        """Queue ``message``."""
        self._number += 1
        heapq.heappush(self._heap, (-message.urgency, self._number, message))

    def take(self, most: int) -> Chunk:
        """The next piece, of at most ``most`` bytes; there must be one."""
        entry = self._next(most)
        message = entry[2]
        fresh = not message.begun
        chunk = message.chunk(entry[1], most)
        if fresh:
            heapq.heappop(self._heap)
            if not message.done:
                heapq.heappush(self._open, entry)
        elif message.done:
            heapq.heappop(self._open)
        return chunk

    def _next(self, most: int) -> tuple[float, int, Outgoing]:
        if not self._open:
            return self._heap[0]
        if not self._heap or self._open[0] < self._heap[0]:
            return self._open[0]
        full = len(self._open) >= OPEN and self._heap[0][2].length > most
        return self._open[0] if full else self._heap[0]


class Joined(NamedTuple):
    """A whole message as it arrived."""

    header: bytes
    payload: list[memoryview]
    nbytes: int


class Inbox:
    """Joins the pieces of one peer; at most ``limit`` bytes a message.

    >>> box, inbox = Outbox(), Inbox(limit=1000)
    >>> box.put(Outgoing(b"header", [bytes(range(100))], 0.0))
    >>> [inbox.put(piece.place, memoryview(piece.body)) for piece in (box.take(64), box.take(64))][1].header
    b'header'
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[int, _Begun] = {}

    @staticmethod
    def parted(head: memoryview, body: memoryview | None) -> tuple[memoryview, memoryview]:
        """The place and the body of a piece, whose body may come right after the place. Raises Malformed."""
        if len(head) < HEAD:
            raise Malformed(f"a piece with {len(head)} bytes before its body, expected {HEAD}")
        _, offset, _, count = PLACE.unpack_from(head)
        if body is not None:
            return head, body
        upto = HEAD + (0 if offset else 8 * count)
        return head[:upto], head[upto:]

    def put(self, place: bytes | memoryview, body: memoryview) -> Joined | None:
        """The message that this piece completes, or None. Raises Malformed, TooLong."""
        number, offset, header, count = PLACE.unpack_from(place)
        if not offset:
            return self._first(number, header, count, place, body)
        begun = self._open.get(number)
        if begun is None or offset != begun.filled or offset + len(body) > len(begun.body):
            raise Malformed(f"piece {offset} of message {number}, which is not what comes next")
        begun.add(body)
        if begun.filled < len(begun.body):
            return None
        del self._open[number]
        return _split(begun.body, begun.header, begun.lengths)

    def _first(
        self, number: int, header: int, count: int, place: bytes | memoryview, body: memoryview
    ) -> Joined | None:
        if count > MOST_BUFFERS or len(place) != HEAD + 8 * count or number in self._open:
            raise Malformed(f"message {number} of {count} buffers begins with {len(place)} bytes")
        lengths = struct.unpack_from(f"<{count}Q", place, HEAD)
        if header + sum(lengths) > self._limit:
            raise TooLong(f"a message of {header + sum(lengths)} bytes; at most {self._limit} are allowed")
        length = padded(header) + sum(padded(nbytes) for nbytes in lengths)
        if len(body) == length:
            return _split(_aligned(body) if count else body, header, lengths)
        if not 0 < len(body) < length:
            raise Malformed(f"{len(body)} bytes of a message of {length}")
        if len(self._open) >= OPEN:
            raise TooLong(f"more than {OPEN} messages at once")
        begun = self._open[number] = _Begun(header, lengths, memoryview(bytearray(length)))
        begun.add(body)
        return None


class _Begun:
    """A message of which some pieces are here."""

    __slots__ = ("body", "filled", "header", "lengths")

    def __init__(self, header: int, lengths: Sequence[int], body: memoryview) -> None:
        self.header, self.lengths, self.body, self.filled = header, lengths, body, 0

    def add(self, piece: memoryview) -> None:
        self.body[self.filled : self.filled + len(piece)] = piece
        self.filled += len(piece)


def _aligned(body: memoryview) -> memoryview:
    import numpy as np

    address: int = np.frombuffer(body, np.uint8).__array_interface__["data"][0] if len(body) else 0
    return memoryview(bytearray(body)) if address % ALIGN else body


def _split(body: memoryview, header: int, lengths: Sequence[int]) -> Joined:
    payload, at = [], padded(header)
    for nbytes in lengths:
        payload.append(body[at : at + nbytes])
        at += padded(nbytes)
    return Joined(bytes(body[:header]), payload, header + sum(lengths))
