"""Links over real sockets: what arrives, who is refused, what a loss looks like, and that nothing is left behind."""

import contextlib
import hashlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import zmq

from tests.runtime.link_ends import PATIENCE, Owner, Tap, descriptors, pair, paired, port, tasks
from trivium.errors import RunError, UsageError
from trivium.runtime.link_peer import FRONT, WINDOW
from trivium.runtime.link_pieces import PIECE
from trivium.runtime.links import Keys, Links, Shape

OTHER = """
import sys, threading
from trivium.runtime.links import Keys, Links
public, secret, endpoint, expected = sys.argv[1:]
rung = threading.Event()
links = Links(1, Keys(public, secret), ring=rung.set)
links.connect(0, endpoint, expected)
links.send(0, b"here")
while rung.wait(60.0):
    rung.clear()
    while links.received:
        arrived = links.received.popleft()
        if arrived.header == b"end":
            links.close(10.0)
            sys.exit()
        links.send(0, arrived.header, arrived.payload)
"""


def other(owner, keys):
    """The echoing end, in a process of its own."""
    owner.links.allow(1, keys.public)
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, keys.public, keys.secret, owner.links.endpoint, owner.keys.public]
    )


# -- what arrives -----------------------------------------------------------------------------------------------------
def test_arrays_arrive_whole_aligned_and_in_order():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n) for n in (0, 1, 7, 1000, 300_000)] + [np.arange(5, dtype=np.int8)]
    with paired() as (here, there):
        for k in range(20):
            there.links.send(0, b"%d" % k, arrays[k % 4 :])
        for k in range(20):
            peer, header, payload = here.take()
            assert (peer, header) == (1, b"%d" % k)
            for array, view in zip(arrays[k % 4 :], payload, strict=True):
                came = np.frombuffer(view, array.dtype)
                assert came.flags.aligned
                np.testing.assert_array_equal(came, array)


def test_both_ways_at_once():
    with paired() as (here, there):
        for k in range(200):
            here.links.send(1, b"%d" % k, [bytes([k])] * (k % 3))
            there.links.send(0, b"%d" % k, [np.full(k * 100, k)])
        assert [there.take().header for _ in range(200)] == [b"%d" % k for k in range(200)]
        assert [here.take().header for _ in range(200)] == [b"%d" % k for k in range(200)]


def test_sent_before_there_is_anybody():
    keys = Keys.fresh()
    with Owner(0) as here:
        here.links.allow(1, keys.public)
        here.links.send(1, b"early")
        assert here.links.pending(1) == 5
        with Owner(1, keys=keys) as there:
            there.links.connect(0, here.links.endpoint, here.keys.public)
            there.links.send(0, b"early too")
            assert there.take().header == b"early"
            assert here.take().header == b"early too"
            here.until(lambda: here.links.pending(1) == 0)


def test_dialled_before_it_is_let_in():
    with Owner(0) as here, Owner(1) as there:
        there.links.connect(0, here.links.endpoint, here.keys.public)
        there.until(lambda: there.links.refused)
        here.links.allow(1, there.keys.public)
        here.join(1)
        there.join(0)


def test_an_urgent_message_overtakes_a_large_one():
    large = np.random.default_rng(0).integers(0, 255, 100_000_000, np.uint8)
    with paired() as (here, there):
        there.links.send(0, b"large", [large])
        there.until(lambda: there.links.pending(0) < large.nbytes - 2 * WINDOW)  # it is on its way
        there.links.send(0, b"urgent", urgency=1.0)
        before = there.links.pending(0)
        assert here.take().header == b"urgent"
        after = there.links.pending(0)
        assert after > large.nbytes // 10, (before, after)
        arrived = here.take(60.0)
        assert arrived.header == b"large"
        assert hashlib.sha256(arrived.payload[0]).digest() == hashlib.sha256(large).digest()


def test_many_peers_at_one_door():
    with Owner(0) as here:
        there = [Owner(k) for k in range(1, 6)]
        for owner in there:
            here.links.allow(owner.links.me, owner.keys.public)
            owner.links.connect(0, here.links.endpoint, here.keys.public)
            owner.links.send(0, b"%d" % owner.links.me, [bytes(3 * PIECE)])
        assert sorted((here.take()[:2]) for _ in there) == [(k, b"%d" % k) for k in range(1, 6)]
        for owner in there:
            here.links.send(owner.links.me, b"to %d" % owner.links.me)
            assert owner.take().header == b"to %d" % owner.links.me
            owner.links.close()
        lost = set()
        here.until(lambda: lost.update(here.links.lost) or len(lost) == 5)


def test_figures_count_what_went():
    with paired() as (here, there):
        there.links.send(0, b"12345678", [bytes(1000), bytes(4 * PIECE)])
        here.take()
        there.until(lambda: there.links.pending(0) == 0)
        sent, came = there.links.figures(0), here.links.figures(1)
        assert (sent.bytes_sent, sent.messages_sent) == (came.bytes_received, came.messages_received)
        assert (sent.bytes_sent, sent.messages_sent) == (8 + 1000 + 4 * PIECE, 1)
        assert 0 < sent.seconds < PATIENCE
        assert 0 < came.seconds < PATIENCE
    assert here.links.figures(1).seconds >= came.seconds  # also after the end


# -- what is held back ------------------------------------------------------------------------------------------------
def test_who_does_not_take_holds_the_sender_back():
    with paired(unread=1 << 20) as (here, there):
        for _ in range(64):
            there.links.send(0, b"", [bytes(1 << 20)])
        here.until(lambda: len(here.links.received) >= 2)
        with pytest.raises(AssertionError, match="not within"):
            here.until(lambda: len(here.links.received) > 8, within=0.5)
        assert there.links.pending(0) > 50 << 20
        for _ in range(64):
            here.take()
        there.until(lambda: there.links.pending(0) == 0)


def test_a_message_beyond_the_limit_is_the_senders_mistake():
    with paired(limit=1000) as (here, there):
        with pytest.raises(UsageError, match=r"1001 bytes.*at most 1000"):
            there.links.send(0, b"x", [bytes(1000)])
        there.links.send(0, b"", [bytes(1000)])
        assert len(here.take().payload[0]) == 1000


def test_a_receiver_drops_who_goes_beyond_its_limit():
    with Owner(0, limit=1000) as here, Owner(1) as there:
        here.links.allow(1, there.keys.public)
        there.links.connect(0, here.links.endpoint, here.keys.public)
        here.join(1)
        there.links.send(0, b"", [bytes(1001)])
        here.lose(1)
        there.join(0)
        there.links.send(0, b"more")
        there.lose(0)
        assert not here.links.received
        assert here.links.figures(1).malformed == 1


@pytest.mark.parametrize(
    ("mistake", "match"),
    [
        (lambda links: links.send(7, b""), "process 7 is not linked"),
        (lambda links: links.send(1, b"", ["text"]), "payload of str"),
        (lambda links: links.send(1, b"", [np.zeros((4, 4))[:, 1]]), "contiguous"),
        (lambda links: links.send(1, b"", [b""] * 2000), "at most 1024"),
        (lambda links: links.connect(1, links.endpoint, Keys.fresh().public), "one dials"),
        (lambda links: links.allow(0, Keys.fresh().public), "itself"),
        (lambda links: links.allow(2, "short"), "z85"),
        (lambda links: links.connect(2, "ipc:///tmp/x", Keys.fresh().public), "tcp://HOST:PORT"),
        (lambda links: setattr(links, "shape", Shape(delay=-1.0)), "delay"),
    ],
)
def test_mistakes_say_what_is_expected(mistake, match):
    with Owner(0) as here:
        here.links.allow(1, Keys.fresh().public)
        with pytest.raises(UsageError, match=match):
            mistake(here.links)


def test_an_address_that_is_taken():
    with Owner(0) as here, pytest.raises(UsageError, match="cannot bind"):
        Links(1, Keys.fresh(), ring=lambda: None, bind=here.links.endpoint)


def test_after_the_end():
    here, there = pair()
    here.links.close()
    here.links.close()
    with pytest.raises(RunError, match="closed"):
        here.links.send(1, b"late")
    there.lose(0, within=5.0)
    there.links.close()


# -- who is refused ---------------------------------------------------------------------------------------------------
def refused_only(owner, count=1, within=10.0):
    owner.until(lambda: sum(owner.links.refused.values()) >= count, within)
    assert not owner.links.joined
    assert not owner.links.received


def still_works(here):
    """The door serves who is expected."""
    with Owner(9) as there:
        here.links.allow(9, there.keys.public)
        there.links.connect(0, here.links.endpoint, here.keys.public)
        there.links.send(0, b"fine")
        while here.take().peer != 9:  # what the others had sent comes first
            pass


def test_a_key_that_is_not_let_in(caplog):
    with Owner(0) as here, Owner(1) as there:
        here.links.allow(1, Keys.fresh().public)
        there.links.connect(0, here.links.endpoint, here.keys.public)
        there.links.send(0, b"let me in")
        refused_only(here, 2)
        refused_only(there, 2)
        assert "a key that is not let in" in here.links.refused
        assert there.links.pending(0) == 9
        still_works(here)
    assert len([record for record in caplog.records if record.message.startswith("process 0")]) == 1  # said once


def test_a_door_with_another_key():
    with Owner(0) as here, Owner(1) as there:
        here.links.allow(1, there.keys.public)
        there.links.connect(0, here.links.endpoint, Keys.fresh().public)
        there.links.send(0, b"for somebody else")
        refused_only(here, 2)
        refused_only(there, 2)
        still_works(here)


def test_a_right_public_key_without_its_secret():
    with Owner(0) as here:
        right = Keys.fresh()
        here.links.allow(1, right.public)
        with Owner(1, keys=Keys(right.public, Keys.fresh().secret)) as there:
            there.links.connect(0, here.links.endpoint, here.keys.public)
            refused_only(here, 2)
            still_works(here)


def test_nobody_passes_for_another():
    """Process 2 says that it is process 1: the key decides."""
    with Owner(0) as here, Owner(1) as there:
        here.links.allow(2, there.keys.public)
        there.links.connect(0, here.links.endpoint, here.keys.public)
        here.until(lambda: here.links.figures(2).malformed)
        assert not here.links.joined


def test_a_client_without_encryption():
    with Owner(0) as here, zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(here.links.endpoint)
        plain.send_multipart([FRONT.pack(1, 5, 0), b"payload"])
        refused_only(here)
        still_works(here)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4,
        random.Random(0).randbytes(100_000),
        b"\xff" + bytes(8) + b"\x7f" + bytes(100),
        b"\xff" + bytes(7) + b"\x01\x7f\x01\x05" + bytes(100),  # the protocol's second version, which knew no keys
        b"\xff" + bytes(7) + b"\x01\x7f\x03\x01CURVE" + bytes(46) + b"\x04\xff" * 30,
        b"\xff" + bytes(7) + b"\x01\x7f\x03\x00NULL" + bytes(60),
    ],
    ids=["scan", "http", "random", "greeting", "downgrade", "garbled", "null"],
)
def test_bytes_that_are_no_greeting(sent):
    with Owner(0) as here:
        with socket.create_connection(("127.0.0.1", port(here.links.endpoint))) as stranger:
            stranger.sendall(sent)
            with contextlib.suppress(OSError):  # it was turned away already
                stranger.shutdown(socket.SHUT_WR)
            refused_only(here)
        still_works(here)


def test_somebody_who_says_nothing():
    with Owner(0) as here, socket.create_connection(("127.0.0.1", port(here.links.endpoint))):
        refused_only(here, within=15.0)
        still_works(here)


class Rogue:
    """Somebody with a key that is let in, who then does not keep to the protocol."""

    def __init__(self, context, here):
        keys = Keys.fresh()
        here.links.allow(1, keys.public)
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        keys.put_on(self.socket)
        self.socket.curve_serverkey = here.keys.public.encode()
        self.socket.connect(here.links.endpoint)

    def greet(self, here):
        self.say(1, 7, 0, b"\1\0\0\0\1\0\0\0")
        here.join(1)

    def say(self, kind, session, credit, rest=b"", *more):
        self.socket.send_multipart([FRONT.pack(kind, session, credit) + rest, *more])


@pytest.mark.parametrize(
    "packets",
    [
        [[b""]],
        [[b"x" * 10]],
        [[b"a" * 24, b"b", b"c"]],
        [[FRONT.pack(3, 7, 0)]],
        [[FRONT.pack(3, 7, 0) + bytes(23)]],
        [[FRONT.pack(3, 7, 0) + b"\xff" * 24, b"body"]],
        [[FRONT.pack(3, 7, 0) + b"\1" + bytes(15) + b"\5\0\0\0\0\0\0\0", b""]],
        [[FRONT.pack(4, 7, 1 << 60)]],
        [[FRONT.pack(99, 7, 0)]],
        [[FRONT.pack(1, 8, 0)]],
        [[FRONT.pack(1, 8, 0) + b"\1\0\0\0\2\0\0\0"]],
    ],
)
def test_malformed_packets_are_counted_and_dropped(packets):
    with Owner(0) as here, zmq.Context() as context:
        rogue = Rogue(context, here)
        rogue.greet(here)
        for packet in packets:
            rogue.socket.send_multipart(packet)
        here.until(lambda: here.links.figures(1).malformed == len(packets))
        rogue.say(3, 7, 0, bytes(16) + b"\5\0\0\0\0\0\0\0", b"right\0\0\0")
        assert here.take().header == b"right"
        rogue.socket.close()
        here.lose(1)


def test_random_packets_never_stop_the_thread():
    rng = random.Random(3)
    with Owner(0, limit=1 << 16) as here, zmq.Context() as context:
        rogue = Rogue(context, here)
        rogue.greet(here)
        for _ in range(2000):
            front = FRONT.pack(rng.choice([1, 2, 3, 3, 3, 4, 6]), rng.choice([7, 7, 7, 8]), rng.choice([0, 0, 1 << 40]))
            place = rng.choice([rng.randbytes(24), bytes([rng.randrange(4)] + [0] * 15 + [8, 0, 0, 0, 0, 0, 0, 0])])
            rogue.socket.send_multipart([front + place, *[rng.randbytes(8 * rng.randrange(5))] * rng.randrange(2)])
        rogue.say(3, 9, 0)
        here.until(lambda: here.links.figures(1).malformed > 100)
        rogue.socket.close()
        still_works(here)


def test_no_plain_byte_on_the_wire():
    secret = random.Random(1).randbytes(1 << 16)
    with Owner(0) as here, Owner(1) as there, Tap(port(here.links.endpoint)) as tap:
        here.links.allow(1, there.keys.public)
        there.links.connect(0, tap.endpoint, here.keys.public)
        there.links.send(0, b"a header to be kept", [secret])
        here.links.send(1, b"another to be kept", [secret[::-1]])
        assert bytes(here.take().payload[0]) == secret
        assert bytes(there.take().payload[0]) == secret[::-1]
        wire = bytes(tap.seen)
    assert len(wire) > 2 * len(secret)
    assert b"CURVE" in wire
    assert b"to be kept" not in wire
    for start in range(0, len(secret), 16):
        assert secret[start : start + 16] not in wire
        assert secret[::-1][start : start + 16] not in wire


# -- losses -----------------------------------------------------------------------------------------------------------
def test_a_broken_connection_is_lost_and_then_joined():
    with Owner(0) as here, Owner(1) as there, Tap(port(here.links.endpoint)) as tap:
        here.links.allow(1, there.keys.public)
        there.links.connect(0, tap.endpoint, here.keys.public)
        for k in range(5):
            here.join(1)
            there.join(0)
            there.links.send(0, b"%d" % k)
            assert here.take().header == b"%d" % k
            tap.sever()
            assert here.lose(1) < 5.0
            assert there.lose(0) < 5.0
            there.until(lambda: there.links.linked(0))
            there.links.send(0, b"after %d" % k, [bytes(PIECE * 2)])
            assert here.take().header == b"after %d" % k


def test_what_was_under_way_is_counted_as_dropped():
    with Owner(0) as here, Owner(1) as there, Tap(port(here.links.endpoint)) as tap:
        here.links.allow(1, there.keys.public)
        there.links.connect(0, tap.endpoint, here.keys.public)
        there.join(0)
        there.links.send(0, b"", [bytes(200_000_000)])
        there.until(lambda: there.links.pending(0) < 190_000_000)
        tap.sever()
        there.lose(0)
        assert there.links.pending(0) == 0
        assert there.links.figures(0).dropped > 1_000_000
        there.join(0)
        there.links.send(0, b"next")
        assert here.take().header == b"next"


def test_another_key_takes_the_place_of_the_first():
    with Owner(0) as here, Owner(1) as first, Owner(1) as second:
        here.links.allow(1, first.keys.public)
        first.links.connect(0, here.links.endpoint, here.keys.public)
        here.join(1)
        first.join(0)
        here.links.allow(1, second.keys.public)
        here.lose(1)
        first.links.send(0, b"still me?")
        first.lose(0)
        second.links.connect(0, here.links.endpoint, here.keys.public)
        second.links.send(0, b"me now")
        assert here.take().header == b"me now"


def test_who_is_forgotten_gets_nothing_more():
    with paired() as (here, there):
        here.links.forget(1)
        here.lose(1)
        there.links.send(0, b"hello?")
        there.lose(0)
        here.links.send(1, b"into the void")
        here.until(lambda: here.links.pending(1) == 0)
        assert not here.links.received


@pytest.mark.slow
def test_two_processes():
    keys = Keys.fresh()
    with Owner(0) as here:
        process = other(here, keys)
        try:
            assert here.take(60.0).header == b"here"
            arrays = [np.random.default_rng(0).standard_normal(400_000), np.arange(10)]
            here.links.send(1, b"echo", arrays)
            arrived = here.take()
            for array, view in zip(arrays, arrived.payload, strict=True):
                np.testing.assert_array_equal(np.frombuffer(view, array.dtype), array)
            here.links.send(1, b"end")
            here.join(1)
            here.lose(1)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_killed_process_is_lost_soon():
    keys = Keys.fresh()
    with Owner(0) as here:
        process = other(here, keys)
        here.take(60.0)
        here.join(1)
        process.send_signal(signal.SIGKILL)
        assert here.lose(1) < 2.0
        process.wait()


@pytest.mark.slow
def test_a_stopped_process_is_lost_and_comes_back():
    keys = Keys.fresh()
    with Owner(0, silence=1.0) as here:
        process = other(here, keys)
        try:
            here.take(60.0)
            here.join(1)
            process.send_signal(signal.SIGSTOP)
            assert here.lose(1) < 10.0
            process.send_signal(signal.SIGCONT)
            here.join(1)
            here.links.send(1, b"again")
            assert here.take().header == b"again"
        finally:
            process.kill()
            process.wait()


# -- shapes -----------------------------------------------------------------------------------------------------------
def round_trips(here, there, count=5):
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        here.links.send(1, b"ping")
        there.take()
        there.links.send(0, b"pong")
        here.take()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[count // 2]


def test_a_delay_is_added_each_way_and_taken_away_again():
    with paired() as (here, there):
        plain = round_trips(here, there)
        here.links.shape = there.links.shape = Shape(delay=0.05)
        assert 0.1 <= round_trips(here, there) < 0.2 + 4 * plain
        there.links.shape = Shape()
        assert 0.05 <= round_trips(here, there) < 0.15 + 4 * plain
        here.links.shape = Shape()
        assert round_trips(here, there) < 0.05


def test_a_delay_does_not_narrow_the_link():
    with paired(shape=Shape(delay=0.1)) as (here, there):
        there.links.send(0, b"", [bytes(20_000_000)])
        start = time.perf_counter()
        here.take()
        assert 0.1 <= time.perf_counter() - start < 1.0  # a window a round trip would take 10 × 0.2 s


@pytest.mark.parametrize("bandwidth", [1e6, 10e6])
def test_a_bandwidth_is_kept(bandwidth):
    with paired() as (here, there):
        there.links.shape = Shape(bandwidth=bandwidth)
        start = time.perf_counter()
        for _ in range(10):
            there.links.send(0, b"", [bytes(int(bandwidth / 20))])
        for _ in range(10):
            here.take()
        assert 0.95 < (time.perf_counter() - start) / 0.5 < 1.8


def test_a_bandwidth_is_shared_by_all_peers_and_urgent_ones_go_first():
    with Owner(0) as here, Owner(1) as one, Owner(2) as two:
        for owner in (one, two):
            owner.links.allow(0, here.keys.public)
            here.links.connect(owner.links.me, owner.links.endpoint, owner.keys.public)
            owner.join(0)
        here.until(lambda: len(here.links.joined) == 2)
        here.links.shape = Shape(bandwidth=4e6)
        start = time.perf_counter()
        here.links.send(1, b"slow", [bytes(1_000_000)])
        here.links.send(2, b"first", [bytes(1_000_000)], urgency=1.0)
        two.take()
        first = time.perf_counter() - start
        one.take()
        both = time.perf_counter() - start
        assert first > 0.95 * 0.25
        assert both > 0.95 * 0.5
        assert first / both < 0.75


def test_an_urgent_message_overtakes_on_a_slow_link():
    with paired(shape=Shape(bandwidth=2e6)) as (here, there):
        there.links.send(0, b"large", [bytes(2_000_000)])
        there.until(lambda: there.links.pending(0) < 1_900_000)
        start = time.perf_counter()
        there.links.send(0, b"urgent", urgency=2.0)
        assert here.take().header == b"urgent"
        assert time.perf_counter() - start < 0.2
        assert here.take().header == b"large"


def test_a_waiting_link_does_not_spin():
    with paired(shape=Shape(delay=0.5, bandwidth=1e4)) as (here, there):
        thread = next(thread for thread in threading.enumerate() if thread.name == "links")
        before = time.clock_gettime((~thread.native_id << 3) | 6)
        there.links.send(0, b"", [bytes(10_000)])
        start = time.perf_counter()
        here.take()
        spent = time.clock_gettime((~thread.native_id << 3) | 6) - before
        assert spent < 0.1 * (time.perf_counter() - start)


def test_a_short_cut_holds_back_and_loses_nothing():
    with paired() as (here, there):
        there.links.shape = Shape(cut=True)
        there.links.send(0, b"held")
        here.links.send(1, b"held too")
        with pytest.raises(AssertionError, match="not within"):
            here.until(lambda: here.links.received or there.links.received, within=0.4)
        there.links.shape = Shape()
        assert here.take().header == b"held"
        assert there.take().header == b"held too"
        assert not here.links.lost
        assert not there.links.lost


def test_a_long_cut_is_a_loss_at_both_ends():
    with paired(silence=0.6) as (here, there):
        here.links.reshape(1, Shape(cut=True))
        here.lose(1)
        there.lose(0)
        there.links.send(0, b"while cut")
        with pytest.raises(AssertionError, match="not within"):
            here.until(lambda: here.links.joined or here.links.received, within=1.0)
        here.links.reshape(1, None)
        here.join(1)
        there.join(0)
        assert here.take().header == b"while cut"


def test_a_cut_from_one_peer_leaves_the_others():
    with paired(silence=0.6) as (here, there), Owner(2, silence=0.6) as third:
        here.links.allow(2, third.keys.public)
        third.links.connect(0, here.links.endpoint, here.keys.public)
        here.join(2)
        here.links.reshape(1, Shape(cut=True))
        here.lose(1)
        there.lose(0)
        third.links.send(0, b"still here")
        assert here.take().header == b"still here"
        assert not here.links.lost


# -- the end ----------------------------------------------------------------------------------------------------------
def test_nothing_is_left_behind():
    pair_once = pair()  # whatever is made once in a process
    for owner in pair_once:
        owner.links.close()
    before, threads = descriptors(), threading.active_count()
    running = tasks()
    for _ in range(3):
        with paired() as (here, there):
            there.links.send(0, b"", [bytes(50_000_000)])
            here.links.send(1, b"", [bytes(5_000_000)])
            there.take()
            start = time.perf_counter()
        assert time.perf_counter() - start < 5.0
    with pytest.raises(UsageError):
        Links(1, Keys.fresh(), ring=lambda: None, bind="tcp://203.0.113.1:1")
    assert descriptors() == before
    assert threading.active_count() == threads
    end = time.monotonic() + PATIENCE
    while tasks() > running:  # the kernel takes a moment to forget a thread that was joined
        assert time.monotonic() < end, "a thread is left"


def test_a_close_that_waits_for_what_was_sent():
    with Owner(0) as here, Owner(1) as there:
        here.links.allow(1, there.keys.public)
        there.links.connect(0, here.links.endpoint, here.keys.public)
        there.links.send(0, b"last words", [bytes(10_000_000)])
        there.links.close(within=PATIENCE)
        assert here.take().header == b"last words"
        assert there.links.pending(0) == 0


def test_a_close_without_an_answer_is_bounded():
    with Owner(0) as here:
        here.links.allow(1, Keys.fresh().public)
        here.links.send(1, b"nobody")
        start = time.perf_counter()
        here.links.close(within=0.3)
        assert 0.3 <= time.perf_counter() - start < 3.0


@pytest.mark.slow
def test_a_process_that_forgets_to_close_ends():
    script = "from trivium.runtime.links import *; links = Links(0, Keys.fresh(), ring=lambda: None)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", script], timeout=30.0, check=False).returncode == 0
