"""What travels between agents and the driver's process: whole, of the right kind, and believed from the right side."""

import pickle
import time
from collections import deque
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from trivium.core.exchange import Copy, Held
from trivium.core.role import Address, MessageReceived, Role, Send
from trivium.core.spans import IDLE, Spans
from trivium.runtime import board as boards
from trivium.runtime.agent import AgentHost
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.linked import LinkedHost
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.nodes_host import NodesHost
from trivium.runtime.shaping import Shape
from trivium.runtime.striking import Bends
from trivium.runtime.warden import ARRAYS
from trivium.runtime.wire import (
    MOST_WORD,
    Bye,
    End,
    Enlist,
    Here,
    Meet,
    Part,
    Piece,
    Pull,
    Report,
    order_of,
    packed_order,
    packed_word,
    word_of,
)

HERE, THERE, DRIVER = Address(1, 0), Address(2, 0), Address(0, 0)


class FakeLinks:
    """Links whose messages go nowhere."""

    def __init__(self):
        self.received, self.lost, self.joined, self.sent = deque(), deque(), deque(), []
        self.met, self.endpoint = [], "tcp://127.0.0.1:1"

    def send(self, peer, header, payload=(), urgency=0.0):
        self.sent.append((peer, header, list(payload), urgency))

    def connect(self, peer, endpoint, key):
        self.met.append((peer, endpoint, key))

    def reshape(self, peer, shape):
        self.met.append((peer, shape))


class Noting(Role):
    """Remembers what it hears."""

    def __init__(self):
        super().__init__(HERE)
        self.heard = []

    def handle(self, event, now):
        self.heard.append(event)
        return []


class Packing:
    """A plane that packs the sum of applied clocks, and refuses an odd one."""

    def __init__(self):
        self.unpacked = []

    def carry_out(self, work):
        raise AssertionError(f"nobody asks for {work}")

    def pack(self, message):
        return [np.full(4, sum(message.applied), np.int64)]

    def unpack(self, sender, message, buffers):
        if sum(message.applied) % 2:
            raise ValueError("odd")
        self.unpacked.append((sender, message, bytes(buffers[0])))


def linked(kind=LinkedHost, processes=1, **rest):
    """A host of a noting role on node 1, with fake links."""
    board = Board(**{name: np.zeros(shape, dtype) for name, (dtype, shape) in board_arrays(processes).items()})
    mail = Mailboxes(np.zeros(Mailboxes.nbytes(processes) // 8, np.int64), 0, processes)
    made = kind.__new__(kind)
    made.links = FakeLinks()
    spans = Spans(board.seconds[0], board.waited[0], time.perf_counter(), IDLE)
    addresses = (HERE, *(Address(1, slot) for slot in range(1, processes)))
    LinkedHost.__init__(
        made, Noting(), 0, addresses, mail, board, plane=Packing(), store=None, spin=0.0, spans=spans, **rest
    )
    return made


def copy(clock):
    return Copy(1, 0, (0,), (clock,), True)


def body_of(message):
    return msgspec.msgpack.encode(message)


@pytest.mark.parametrize("order", [Here(b"key", "tcp://x:1"), Pull("a", 1, 2), Piece("a", 3), Meet(2, "k", ""), Bye()])
def test_orders_come_as_they_were_sent(order):
    assert order_of(packed_order(order)) == order and word_of(packed_order(order)) is None


@pytest.mark.parametrize(
    "header", [b"", b"o", b"oxx", b"o\x91\xa4None", b"w", b"w1234", b"o\x92\xa3End\xa1x", b"q123456"]
)
def test_what_is_no_message_is_nothing(header):
    assert order_of(header) is None and word_of(header) is None


def test_words_carry_slots_and_are_bounded():
    assert word_of(packed_word(3, 7, b"body")) == (3, 7, b"body")
    assert word_of(packed_word(0, 0, bytes(MOST_WORD))) is None


def test_bulk_is_packed_at_once_and_unpacked_before_the_role_hears_of_it():
    host = linked()
    host._send(Send(THERE, copy(2)))
    host._send(Send(DRIVER, Held(1, 0, 3)))
    (peer, header, packed, _), (other, _header, nothing, _) = host.links.sent
    assert (peer, other, nothing) == (2, 0, []) and packed[0].tolist() == [2] * 4
    host.links.received.append((2, packed_word(0, 0, header[5:]), packed))
    assert host.take_links() and not host.take_links()
    assert host.role.heard == [MessageReceived(THERE, copy(2))]
    assert host.plane.unpacked == [(THERE, copy(2), packed[0].tobytes())]
    figures = host.board.figures[0]
    assert figures[boards.PUSHED] == figures[boards.PULLED] == 32


@pytest.mark.parametrize(
    "arrived",
    [
        (2, b"garbage", []),
        (2, packed_word(0, 0, b"garbage"), []),
        (2, packed_word(0, 0, body_of(copy(3))), [b"x" * 32]),
        (2, packed_word(0, 5, body_of(copy(2))), [b"x" * 32]),
    ],
)
def test_what_cannot_be_used_is_dropped(arrived):
    host = linked()
    host.links.received.append(arrived)
    assert host.take_links()
    assert host.role.heard == []


class Noticing:
    """A warden that notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def end(self, index, why):
        self.asked.append(("end", index, why))

    def enlist(self, serial, members):
        self.asked.append(("enlist", serial, members))


@pytest.fixture
def agent():
    made = linked(AgentHost, processes=3)
    made.warden, made.box = Noticing(), Mailboxes(made.mail._words, 2, 3)
    made.driver_gone = made.dismissed = False
    made.bends = Bends(made.links)
    return made


ORDERS = [
    (End(1, "why"), []),
    (Enlist(4), [pickle.dumps(["somebody"])]),
    (Meet(3, "key", "tcp://x:1"), []),
    (Part(5.0), []),
    (Bye(), []),
]


def test_an_agent_obeys_its_driver(agent):
    for order, payload in ORDERS:
        agent.links.received.append((0, packed_order(order), payload))
    agent.take_links()
    assert agent.warden.asked == [("end", 1, "why"), ("enlist", 4, ["somebody"])]
    assert agent.links.met == [(3, "tcp://x:1", "key"), (3, Shape(cut=True))] and agent.dismissed


def test_an_agent_obeys_nobody_else_and_unpickles_nothing_of_theirs(agent):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    for order, payload in [*ORDERS, (Enlist(5), [pickle.dumps(Trap())])]:
        agent.links.received.append((2, packed_order(order), payload))
    agent.take_links()
    assert agent.warden.asked == [] and agent.links.met == [] and not agent.dismissed


def test_an_agent_passes_on_what_the_driver_says_to_its_workers_and_nobody_elses(agent):
    worker = Mailboxes(agent.mail._words, 1, 3)
    for peer, body in ((0, b"from the driver"), (2, b"from another node"), (0, bytes(agent.box.capacity))):
        agent.links.received.append((peer, packed_word(0, 1, body), []))
    agent.take_links()
    assert worker.receive() == [(2, b"from the driver")]


def test_an_agent_keeps_what_does_not_fit_yet(agent):
    worker, body = Mailboxes(agent.mail._words, 1, 3), bytes(30_000)
    for number in range(4):
        agent.links.received.append((0, packed_word(0, 1, body + bytes([number])), []))
    agent.take_links()
    got = []
    while len(got) < 4:
        got += [payload[-1] for _sender, payload in worker.receive()]
        agent._flush()
    assert got == [0, 1, 2, 3]


@pytest.fixture
def driver():
    made = linked(NodesHost, processes=1)
    board = Board(**{name: np.zeros(shape, dtype) for name, (dtype, shape) in board_arrays(8).items()})
    made.board, made.addresses = board, [DRIVER, Address(1, 0), Address(1, 1)]
    made._process = {}
    made.reported = {}
    seat = SimpleNamespace(dead="", words="", pid=7)
    station = SimpleNamespace(node=1, seat=seat, reported=0.0, memory=0, load_seconds=0.0)
    made.node = SimpleNamespace(stations={1: station}, seats=[seat, SimpleNamespace()], addresses=made.addresses)
    return made


def report(processes=3, **rest):
    arrays = {name: np.full(shape, 7, dtype) for name, (dtype, shape) in board_arrays(processes).items()}
    return Report(time.monotonic_ns(), tuple(range(processes)), (11, 12), **rest), [
        arrays[name].tobytes() for name in ARRAYS
    ]


def test_a_report_becomes_rows_of_the_drivers_board(driver):
    driver.obey(1, *report(memory=5))
    assert (driver.board.seconds[1:3] == 7).all() and not driver.board.seconds[3:].any()
    assert (driver.board.waited[1:3, :3] == 7).all() and not driver.board.waited[1:3, 3:].any()
    assert driver.node.stations[1].memory == 5 and driver.node.stations[1].reported > 0


@pytest.mark.parametrize("spoil", [lambda p: p[:-1], lambda p: [*p[:-1], p[-1][:-8]], lambda p: []])
def test_a_report_that_does_not_fit_is_dropped(driver, spoil):
    told, payload = report()
    driver.obey(1, told, spoil(payload))
    assert not driver.board.seconds.any() and driver.node.stations[1].reported == 0.0


def test_nobody_elses_reports_and_orders_are_believed(driver):
    driver.obey(2, *report())
    driver.obey(1, Enlist(1), [pickle.dumps(1)])
    driver.node.seats[0].dead = "killed"
    driver.obey(1, *report())
    assert not driver.board.seconds.any()
