"""How the driver's host watches: who is only shown, who is given up, by what is on the board."""

import time
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from trivium.core.lanes import Part
from trivium.core.messages import EvaluateRows, Gradient, Reply, Sums
from trivium.core.role import Address, PeerLost, PeerSilent, Retire
from trivium.errors import UsageError
from trivium.program.program import EVALUATION
from trivium.runtime import board as boards
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.host import WRITE_WITHIN
from trivium.runtime.local import RING_BYTES, UNKNOWN, DriverHost, ring_bytes

PATIENCE = 2.0
WORKERS = (Address(0, 1), Address(0, 2))


class FakeSeat:
    """A process that lives until it is told otherwise."""

    def __init__(self, pid):
        self.pid, self.dead, self.killed, self.kills, self.over = pid, "", "", 0, False

    def gone(self, within):
        return self.over

    def kill(self):
        self.kills += 1

    def ask_stack(self):
        pass

    def stack_text(self):
        return ""

    def stopped(self):
        return False

    def last_words(self):
        return ""


def watcher(workers=WORKERS):
    """A driver's host over a board of two members, without processes and without a role; both have joined."""
    made = DriverHost.__new__(DriverHost)
    board = Board(**{name: np.zeros(shape, dtype) for name, (dtype, shape) in board_arrays(3).items()})
    made.board, made.me, made.addresses = board, 0, (Address(0, 0), *WORKERS)
    made._process = {address: index for index, address in enumerate(made.addresses)}
    pool = SimpleNamespace(exits=dict)
    made.node = SimpleNamespace(seats=[FakeSeat(11), FakeSeat(12)], pool=pool, plane=SimpleNamespace())
    made.driver = SimpleNamespace(name=lambda peer: f"worker {peer.slot - 1}", members=SimpleNamespace(workers=workers))
    made.patience, made.start_timeout, made._soon = PATIENCE, 60.0, PATIENCE / 2
    made.suspects, made._joined = {}, {1, 2}
    now = time.monotonic()
    made._began = made._looked = now
    board.words[:, boards.STATE] = boards.READY
    return made, now


def look(made, now):
    """What the watcher says at ``now``, everyone's host being alive."""
    made._looked = now
    made.board.words[:, boards.BEAT] = int(now * 1e9)
    return [(event.peer.slot, event.doing) for event in made._look(now) if isinstance(event, PeerSilent)]


def computing(made, index, work, since, usual=0.0):
    """Process ``index`` has been at ``work`` since ``since``."""
    code = boards.operation_code(type(work).__name__)
    made.board.words[index, boards.OP], made.board.words[index, boards.OP_SINCE] = code, int(since * 1e9)
    made.board.usual[index, code] = usual


GRADIENT, LOOKING = Gradient(0, (Part(0, 8),)), EvaluateRows(0, ("train",), Part(0, 8))


def test_a_kind_that_was_never_finished_is_shown_and_not_given_up():
    made, now = watcher()
    made.board.usual[1, boards.operation_code("Gradient")] = 1e-3
    computing(made, 1, LOOKING, now)
    assert look(made, now + 5 * PATIENCE) == []
    assert made.suspects == {1: "worker 0: EvaluateRows for 10.0 s"}
    assert look(made, now + (UNKNOWN + 1) * PATIENCE) == [(1, "EvaluateRows")]


def test_a_kind_is_judged_by_its_own_usual_time():
    made, now = watcher()
    computing(made, 1, GRADIENT, now, usual=1.0)
    computing(made, 2, GRADIENT, now, usual=1e-3)
    assert look(made, now + 5.0) == [(2, "Gradient")]
    assert look(made, now + 11.0) == [(1, "Gradient"), (2, "Gradient")]


def test_a_work_that_gets_on_is_not_slow():
    made, now = watcher()
    computing(made, 1, LOOKING, now)
    made.board.words[1, boards.OP_SINCE] = int((now + 100.0) * 1e9)
    assert look(made, now + 100.5) == [] and made.suspects == {}


def test_the_last_worker_is_never_given_up_for_being_slow():
    made, now = watcher(workers=WORKERS[:1])
    computing(made, 1, GRADIENT, now, usual=1e-3)
    assert look(made, now + 1000.0) == []
    assert made.suspects == {1: "worker 0: Gradient for 1000.0 s"}


@pytest.mark.parametrize("process", [0, 1])
def test_a_slow_disk_is_shown_and_ends_a_process_only_after_long(process):
    made, now = watcher()
    made.board.words[process, boards.WRITE_SINCE] = int(now * 1e9)
    assert look(made, now + 5 * PATIENCE) == []
    who = "worker 0" if process else "the driver"
    assert made.suspects == {process: f"{who}: writing to disk for 10.0 s"}
    late = [(1, "writing to disk")] if process else []
    assert look(made, now + WRITE_WITHIN + 1.0) == late
    made.board.words[process, boards.WRITE_SINCE] = 0
    assert look(made, now + WRITE_WITHIN + 2.0) == [] and made.suspects == {}


def test_who_is_killed_and_does_not_die_is_killed_once_and_holds_nobody_up():
    made, now = watcher()
    lost, dropped = [], []
    made.node.plane.drop = dropped.append
    made.mail = SimpleNamespace(reset=lambda index: None, ring=lambda index: None)
    made.feed = lost.append
    seat = made.node.seats[0]
    for _ in range(3):
        made._retire(Retire(WORKERS[0], "silent for 3.0 s"))
        assert look(made, now) == []
    assert (seat.kills, lost, dropped) == (1, [], [])
    assert made.suspects == {1: "worker 0: killed (silent for 3.0 s), but does not die"}
    seat.over = True
    made._looked = now
    assert made._look(now) == [PeerLost(WORKERS[0], "killed: silent for 3.0 s")]
    assert dropped == [1] and made.suspects == {} and look(made, now) == []


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
