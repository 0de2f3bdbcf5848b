import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.errors import UsageError
from trivium.runtime.mailbox import MOST, Mailboxes
from trivium.runtime.memory import Segment
from trivium.runtime.zygote import Zygote

HERE = str(Path(__file__).parent)


def boxes(processes, capacity):
    words = np.zeros(Mailboxes.nbytes(processes, capacity) // 8, np.int64)
    return [Mailboxes(words, me, processes, capacity) for me in range(processes)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 56), st.booleans()), min_size=1, max_size=60
    )
)
def test_rings_are_queues_of_bounded_size(actions):
    """Against plain lists: what is sent comes once, in order, and a ring is full exactly when it says so."""
    all_boxes, capacity = boxes(3, 64), 64
    queues = {(a, b): [] for a in range(3) for b in range(3)}
    for number, (sender, receiver, size, drains) in enumerate(actions):
        body = bytes([number % 256]) * size
        queue = queues[sender, receiver]
        used = sum(8 + -(-len(one) // 8) * 8 for one in queue)
        fits = used + 8 + -(-size // 8) * 8 <= capacity
        assert all_boxes[sender].send(receiver, body) is fits
        if fits:
            queue.append(body)
        if drains:
            assert all_boxes[receiver].wait(0.0) == any(queues[who, receiver] for who in range(3))
            for who, got in all_boxes[receiver].receive():
                assert got == queues[who, receiver].pop(0)
    for me, box in enumerate(all_boxes):
        while got := box.receive():
            for who, body in got:
                assert body == queues[who, me].pop(0)
    assert not any(queues.values())


def test_a_receive_is_bounded_and_each_sender_has_its_turn():
    first, second, third = boxes(3, 16 * MOST)
    for number in range(MOST):
        assert first.send(2, b"a%d" % number)
        assert second.send(2, b"b%d" % number)
    got = [third.receive() for _ in range(3)]
    assert [len(part) for part in got] == [MOST, MOST, 0]
    assert {who for who, _ in got[0]} == {0}
    assert [body for who, body in got[0] + got[1] if who == 1] == [b"b%d" % number for number in range(MOST)]


def test_a_message_to_oneself_arrives():
    (box,) = boxes(1, 64)
    assert box.send(0, b"self")
    assert box.receive() == [(0, b"self")]


def test_bad_arguments_are_refused():
    words = np.zeros(Mailboxes.nbytes(2, 64) // 8, np.int64)
    for given_words in (words[:-1], words.astype(np.int32), words.reshape(2, -1), np.zeros(4 * len(words), "i8")[::2]):
        with pytest.raises(UsageError, match=f"int64 array of {len(words)} words"):
            Mailboxes(given_words, 0, 2, 64)
    with pytest.raises(UsageError, match="allowed: 0 to 1"):
        Mailboxes(words, 2, 2, 64)
    with pytest.raises(UsageError, match="at most 56 fit"):
        Mailboxes(words, 0, 2, 64).send(1, bytes(57))
    for capacity in (8, 60):
        with pytest.raises(UsageError, match="multiple of 8"):
            Mailboxes.nbytes(2, capacity)
    with pytest.raises(UsageError, match="1 process"):
        Mailboxes.nbytes(0)


@pytest.mark.parametrize("spin", [0.0, 0.002])
def test_a_wait_ends_in_time_or_for_a_ring(spin):
    one, two = boxes(2, 64)
    began = time.monotonic()
    assert one.wait(0.02, spin) is False
    assert 0.02 <= time.monotonic() - began < 5
    two.ring(0)
    two.ring(0)
    assert one.wait(60.0, spin) is True
    assert one.wait(0.0, spin) is False
    assert one.receive() == []


def test_a_reset_empties_both_directions_and_no_other():
    one, two, three = boxes(3, 64)
    one.send(1, b"to the dead")
    two.send(0, b"from the dead")
    three.send(0, b"alive")
    three.ring(1)
    one.reset(1)
    assert one.receive() == [(2, b"alive")]
    assert two.wait(0.0) is False
    for number in range(10):
        assert two.send(0, b"successor %d" % number)
        assert one.receive() == [(1, b"successor %d" % number)]


@pytest.fixture
def zygote(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    made = Zygote.start(["memory_entries:warm"])
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("spin", [0.0, 0.001])
def test_messages_go_round_between_processes(zygote, spin):
    capacity, rounds = 256, 300
    with Segment.create(Mailboxes.nbytes(3, capacity)) as segment:
        box = Mailboxes(segment.array("i8", (segment.nbytes // 8,)), 0, 3, capacity)
        children = [
            zygote.fork("memory_entries:echo", msgspec.msgpack.encode((me, 3, capacity, spin)), [segment.fd])
            for me in (1, 2)
        ]
        for number in range(rounds):
            wanted = {(who, bytes([number % 256]) * (number % 200 + 1)) for who in (1, 2)}
            for who, body in wanted:
                assert box.send(who, body)
            got = []
            while len(got) < 2:
                assert box.wait(20.0, spin), "no answer"
                got += box.receive()
            assert set(got) == wanted
        for who, child in enumerate(children, 1):
            assert box.send(who, b"")
            assert child.wait(20.0)
            child.close()
        del box


@pytest.mark.slow
def test_a_killed_sender_leaves_whole_messages_and_its_successor_is_heard(zygote):
    capacity = 1024
    with Segment.create(Mailboxes.nbytes(2, capacity)) as segment:
        box = Mailboxes(segment.array("i8", (segment.nbytes // 8,)), 0, 2, capacity)
        for _ in range(5):
            child = zygote.fork("memory_entries:talk", msgspec.msgpack.encode((1, 2, capacity)), [segment.fd])
            heard = 0
            while heard < 200:
                assert box.wait(20.0, 0.0), "no message"
                heard = whole(box.receive(), heard)
            child.kill()
            assert child.wait(20.0)
            while got := box.receive():
                heard = whole(got, heard)
            box.reset(1)
            child.close()
        del box


def whole(messages, heard):
    """Check that messages are numbered on from ``heard``."""
    for who, body in messages:
        assert who == 1
        assert body == bytes([heard % 251]) * (heard % 97) + heard.to_bytes(8, "little")
        heard += 1
    return heard
