"""The driver's host: whom it retires, and how large its mailboxes are. What it watches for is in ``test_watch``."""

from types import SimpleNamespace

import msgspec
import pytest

from trivium.core.messages import Reply, Sums
from trivium.core.role import Address, PeerLost, Retire
from trivium.errors import UsageError
from trivium.program.program import EVALUATION
from trivium.runtime.local import RING_BYTES, DriverHost, ring_bytes


def test_who_is_killed_and_does_not_die_is_killed_once():
    made = DriverHost.__new__(DriverHost)
    buried, kills = [], []
    seat = SimpleNamespace(dead="", killed="", over=False, kill=lambda: kills.append(1), gone=lambda within: seat.over)
    made.node, made._process = SimpleNamespace(seats=[seat]), {Address(0, 1): 1}
    made._bury = lambda index, how: buried.append((index, how))
    made.feed = lambda event: None
    for _ in range(3):
        made._retire(Retire(Address(0, 1), "silent for 3.0 s"))
    assert (len(kills), seat.killed, seat.dead, buried) == (1, "silent for 3.0 s", "", [])


def test_who_is_killed_and_dies_is_buried_at_once():
    made = DriverHost.__new__(DriverHost)
    fed = []
    seat = SimpleNamespace(dead="", killed="", kill=lambda: None, gone=lambda within: True)
    made.node, made._process = SimpleNamespace(seats=[seat]), {Address(0, 1): 1}
    made._bury = lambda index, how: PeerLost(Address(0, 1), how)
    made.feed = fed.append
    made._retire(Retire(Address(0, 1), "silent for 3.0 s"))
    assert fed == [PeerLost(Address(0, 1), "killed: silent for 3.0 s")]


@pytest.mark.parametrize(("lanes", "sets"), [(8, 3), (360, 3), (5000, 3)])
def test_the_sums_of_all_lanes_fit_in_a_mailbox(lanes, sets):
    sums = Sums(0, tuple(tuple((0.1,) * len(EVALUATION) for _ in range(lanes)) for _ in range(sets)))
    message = msgspec.msgpack.encode(Reply(1 << 40, 1 << 40, sums))
    size = ring_bytes(lanes, sets, 3)
    assert len(message) <= size - 8 and size % 8 == 0
    assert size == RING_BYTES or lanes > 100


def test_more_mail_than_any_run_needs_is_refused_with_the_next_step():
    with pytest.raises(UsageError, match=r"lanes=1000000 with 17 processes needs .* lower lanes or workers"):
        ring_bytes(1_000_000, 3, 17)
