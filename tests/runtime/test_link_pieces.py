"""Pieces without sockets: any messages, cut and sent in any order of urgency, come out as they went in."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from trivium.runtime.link_peer import TOLL, WINDOW, Peer, Tally
from trivium.runtime.link_pieces import ALIGN, OPEN, PLACE, Inbox, Malformed, Outbox, Outgoing, TooLong
from trivium.runtime.shaping import Shape, Wire

MESSAGES = st.lists(
    st.tuples(st.binary(max_size=40), st.lists(st.binary(max_size=90), max_size=5), st.sampled_from([0.0, 1.0, 2.0])),
    max_size=12,
)


def sent(box, most=16):
    while box:
        yield box.take(most)


def came(pieces, limit=10_000):
    inbox = Inbox(limit)
    joined = [inbox.put(*inbox.parted(memoryview(piece.place + bytes(piece.body)), None)) for piece in pieces]
    return [message for message in joined if message is not None]


@given(MESSAGES, st.integers(1, 20), st.data())
def test_what_goes_in_comes_out(messages, most, data):
    box, pieces = Outbox(), []
    for header, payload, urgency in messages:
        box.put(Outgoing(header, payload, urgency))
        pieces += itertools.islice(sent(box, most * ALIGN), data.draw(st.integers(0, 4)))
    pieces += sent(box, most * ALIGN)
    out = [(message.header, [bytes(buffer) for buffer in message.payload]) for message in came(pieces)]
    assert sorted(out) == sorted((header, payload) for header, payload, _ in messages)
    for level in {urgency for *_, urgency in messages}:  # equally urgent ones keep their order
        wanted = [(header, payload) for header, payload, urgency in messages if urgency == level]
        rest = iter(out)
        assert all(message in rest for message in wanted)
    assert sum(piece.nbytes for piece in pieces) == sum(len(h) + sum(map(len, p)) for h, p, _ in messages)
    assert all(len(piece.body) <= most * ALIGN and len(piece.body) % ALIGN == 0 for piece in pieces)


def test_the_more_urgent_goes_first_piece_by_piece():
    box = Outbox()
    box.put(Outgoing(b"a" * 32, [], 0.0))
    order = [bytes(box.take(16).body[:1])]
    box.put(Outgoing(b"b" * 32, [], 1.0))
    order.append(bytes(box.take(16).body[:1]))
    box.put(Outgoing(b"c", [], 2.0))
    box.put(Outgoing(b"d", [], 0.0))
    order += [bytes(piece.body[:1]) for piece in sent(box)]
    assert order == [b"a", b"b", b"c", b"b", b"a", b"d"]


def test_no_more_than_so_many_are_begun():
    box, pieces = Outbox(), []
    for urgency in range(3 * OPEN):
        box.put(Outgoing(b"%02d" % urgency * 16, [], float(urgency)))
        pieces.append(box.take(16))
    box.put(Outgoing(b"short", [], 99.0))
    pieces += sent(box)
    begun = set()
    for piece in pieces:
        number, offset, length, _ = PLACE.unpack_from(piece.place)
        begun.add(number)
        if offset + len(piece.body) >= length:
            begun.remove(number)
        assert len(begun) <= OPEN
    assert len(came(pieces)) == 3 * OPEN + 1


def test_large_buffers_are_not_copied():
    buffer = bytearray(1000)
    box = Outbox()
    box.put(Outgoing(b"12345678", [buffer], 0.0))
    pieces = [box.take(504), box.take(504)]
    assert pieces[1].body.obj is buffer
    received = memoryview(b"12345678" + bytes(8))
    assert Inbox(100).put(PLACE.pack(1, 0, 8, 1) + (8).to_bytes(8, "little"), received).payload[0].obj is received.obj


PLACES = {
    "unknown message": (PLACE.pack(1, 8, 0, 0), b"x"),
    "too many buffers": (PLACE.pack(1, 0, 0, 5000), b""),
    "lengths missing": (PLACE.pack(1, 0, 0, 2), b""),
    "more than it says": (PLACE.pack(1, 0, 8, 0), bytes(16)),
    "nothing of it": (PLACE.pack(1, 0, 8, 0), b""),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_does_not_fit_is_malformed(name):
    place, body = PLACES[name]
    inbox = Inbox(1000)
    with pytest.raises(Malformed):
        inbox.put(place, memoryview(body))
    assert inbox.put(PLACE.pack(1, 0, 1, 0), memoryview(b"a" + bytes(7))).header == b"a"


def test_pieces_out_of_place_are_malformed():
    inbox = Inbox(1000)
    assert inbox.put(PLACE.pack(1, 0, 32, 0), memoryview(bytes(8))) is None
    for offset, nbytes in ((16, 8), (8, 32), (0, 8)):
        with pytest.raises(Malformed):
            inbox.put(PLACE.pack(1, offset, 32, 0), memoryview(bytes(nbytes)))
    assert inbox.put(PLACE.pack(1, 8, 32, 0), memoryview(bytes(24))).header == bytes(32)


def test_beyond_the_limit():
    with pytest.raises(TooLong, match="at most 100"):
        Inbox(100).put(PLACE.pack(1, 0, 101, 0), memoryview(bytes(8)))
    with pytest.raises(TooLong, match="at most 100"):
        Inbox(100).put(PLACE.pack(1, 0, 0, 1) + b"\xff" * 8, memoryview(bytes(8)))
    inbox = Inbox(100)
    for number in range(OPEN):
        inbox.put(PLACE.pack(number, 0, 100, 0), memoryview(bytes(8)))
    with pytest.raises(TooLong, match="at once"):
        inbox.put(PLACE.pack(OPEN, 0, 100, 0), memoryview(bytes(8)))


def test_a_window_bounds_what_is_under_way():
    taken = []
    peer = Peer(1, "key", Tally(), Wire(Shape()), 1 << 30)
    peer.begin(5, lambda frames: taken.append(frames) is None, 0.0)
    tally, message = peer.tally, Outgoing(b"", [bytes(3 * WINDOW)], 0.0)
    tally.queued += message.nbytes
    peer.accept(message)
    while peer.open:
        peer.queue(0.0, 1 << 16)
        assert peer.release(0.0)
    assert WINDOW - (1 << 17) < tally.sent <= WINDOW
    assert tally.settled == 0
    peer.landed(2 * ((1 << 16) + TOLL))
    assert tally.settled == 2 << 16
    assert peer.open
    for wrong in (1 << 60, 0):
        with pytest.raises(Malformed):
            peer.landed(wrong)
    peer.end()
    assert (tally.settled, tally.dropped) == (3 * WINDOW, 3 * WINDOW - (2 << 16))
