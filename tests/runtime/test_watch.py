"""The watch: who is only shown, who is given up, by what is on the board; time is handed in."""

import numpy as np
import pytest

from trivium.core.lanes import Part
from trivium.core.messages import EvaluateRows, Gradient
from trivium.core.role import Address, PeerJoined, PeerLost
from trivium.runtime import board as boards
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.host import WRITE_WITHIN
from trivium.runtime.watch import LOOK_EVERY, UNKNOWN, Watch, innermost

PATIENCE = 2.0
WORKERS = (Address(0, 1), Address(0, 2))
GRADIENT, LOOKING = Gradient(0, (Part(0, 8),)), EvaluateRows(0, ("train",), Part(0, 8))


class FakeSeat:
    """A process that lives until it is told otherwise."""

    def __init__(self, pid):
        self.pid, self.dead, self.killed, self.over, self.halted, self.words = pid, "", "", False, False, ""
        self.how, self.caged = "", None

    def gone(self, within):
        return self.over

    def ask_stack(self):
        pass

    def stack_text(self):
        return ""

    def stopped(self):
        return self.halted

    def last_words(self):
        return self.words


class Scene:
    """A watch over two workers that have joined, at second 100."""

    def __init__(self, joined=True, patience=PATIENCE):
        arrays = {name: np.zeros(shape, dtype) for name, (dtype, shape) in board_arrays(3).items()}
        self.board, self.seats, self.workers, self.ends = (
            Board(**arrays),
            [FakeSeat(11), FakeSeat(12)],
            list(WORKERS),
            {},
        )
        self.now = 100.0
        self.watch = Watch(
            self.board,
            (Address(0, 0), *WORKERS),
            self.seats,
            patience=patience,
            start_timeout=60.0,
            now=self.now,
            exits=lambda: self.ends,
            bury=lambda index, how: PeerLost(WORKERS[index - 1], how),
            workers=lambda: self.workers,
            name=lambda peer: f"worker {peer.slot - 1}",
        )
        if joined:
            self.board.words[:, boards.STATE] = boards.READY
            self.beat()
            assert [type(event) for event in self.watch.look(self.now)] == [PeerJoined, PeerJoined]

    def beat(self, *processes):
        self.board.words[list(processes) or [0, 1, 2], boards.BEAT] = int(self.now * 1e9)

    def until(self, second, *, beating=(0, 1, 2), obey=True):
        """Look each 50 ms up to ``second``; who was given up, with what it was at. A given-up worker leaves."""
        told = []
        while self.now < 100.0 + second:
            self.now += LOOK_EVERY
            self.beat(*beating)
            for event in self.watch.look(self.now):
                told.append((event.peer.slot - 1, event.doing))
                if obey:
                    self.seats[event.peer.slot - 1].dead = "killed"
                    self.workers.remove(event.peer)
        return told

    def computing(self, index, work, usual=0.0, inline=False):
        """Process ``index`` begins ``work`` now."""
        code = boards.operation_code(type(work).__name__)
        self.board.words[index, boards.OP] = code + boards.INLINE * inline
        self.board.words[index, boards.OP_SINCE] = 0 if inline else int(self.now * 1e9)
        self.board.usual[index, code] = usual


def test_a_kind_that_was_never_finished_is_shown_and_given_up_late():
    scene = Scene()
    scene.board.usual[1, boards.operation_code("Gradient")] = 1e-3
    scene.computing(1, LOOKING)
    assert scene.until(5 * PATIENCE) == []
    assert scene.watch.suspects == {1: "worker 0: EvaluateRows for 10.0 s"}
    assert scene.until((UNKNOWN + 1) * PATIENCE) == [(0, "EvaluateRows")]


def test_a_kind_is_judged_by_its_own_usual_time():
    scene = Scene()
    scene.computing(1, GRADIENT, usual=1.0)
    scene.computing(2, GRADIENT, usual=1e-3)
    assert scene.until(9.0) == [(1, "Gradient")]
    assert scene.watch.suspects.keys() == {2}


@pytest.mark.parametrize("usual", [0.0, 0.1])
def test_workers_that_are_slow_together_are_shown_and_kept(usual):
    scene = Scene()
    for index in (1, 2):
        scene.computing(index, GRADIENT, usual)
    assert scene.until(100 * PATIENCE) == []
    assert scene.watch.suspects.keys() == {1, 2}
    scene.board.words[2, boards.OP] = 0  # one is done: now the other is a straggler
    assert scene.until(101 * PATIENCE) == [(0, "Gradient")]


def test_a_work_that_gets_on_is_not_slow():
    scene = Scene()
    scene.computing(1, LOOKING)
    for second in range(1, 30):
        scene.board.words[1, boards.OP_SINCE] = int(scene.now * 1e9)
        assert scene.until(0.5 * second) == [] and scene.watch.suspects == {}


def test_the_last_worker_is_never_given_up_for_being_slow():
    scene = Scene()
    scene.workers.remove(WORKERS[1])
    scene.seats[1].dead = "killed"
    scene.computing(1, GRADIENT, usual=1e-3)
    assert scene.until(100.0) == []
    assert scene.watch.suspects == {1: "worker 0: Gradient for 100.0 s"}


def test_a_server_is_given_up_for_a_slow_compute_though_no_worker_is_left_to_compare():
    scene = Scene()
    scene.workers.clear()
    scene.computing(1, GRADIENT, usual=1e-3)
    assert scene.until(2 * PATIENCE, obey=False)[0] == (0, "Gradient")


@pytest.mark.parametrize("halted", [False, True])
def test_a_slow_compute_on_the_thread_that_beats_is_no_silence_but_a_stopped_process_is(halted):
    scene = Scene()
    scene.seats[0].halted = halted
    scene.computing(1, GRADIENT, usual=1.0, inline=True)
    told = scene.until(3 * PATIENCE, beating=(0, 2))
    assert told == ([(0, "stopped by a signal")] if halted else [])
    assert scene.until(5 * PATIENCE + 1.0, beating=(0, 2)) == ([] if halted else [(0, "Gradient")])


def test_the_last_worker_is_not_given_up_for_a_slow_compute_on_the_thread_that_beats():
    scene = Scene()
    scene.workers.remove(WORKERS[1])
    scene.seats[1].dead = "killed"
    scene.computing(1, GRADIENT, usual=1e-3, inline=True)
    assert scene.until(50.0, beating=(0,)) == []
    assert scene.watch.suspects == {1: "worker 0: Gradient for 50.0 s"}


def test_the_silent_are_shown_and_then_given_up():
    scene = Scene()
    assert scene.until(PATIENCE - 0.1, beating=(0, 2)) == []
    assert scene.watch.suspects == {1: "worker 0: waiting for 1.9 s"}
    assert scene.until(PATIENCE + 0.1, beating=(0, 2)) == [(0, "waiting")]


@pytest.mark.parametrize("what", ["silent", "computing", "writing", "inline"])
def test_who_was_away_itself_judges_nobody_by_that_time(what):
    scene = Scene()
    if what in ("computing", "inline"):
        scene.computing(1, GRADIENT, usual=1e-3, inline=what == "inline")
    if what == "writing":
        scene.board.words[1, boards.WRITE_SINCE] = int(scene.now * 1e9)
    scene.now += 1000.0  # the whole machine was suspended
    beating = (0, 2) if what in ("silent", "inline") else (0, 1, 2)
    bound = WRITE_WITHIN if what == "writing" else PATIENCE
    assert scene.until(1000.0 + bound - 0.2, beating=beating) == []
    assert len(scene.until(1000.0 + bound + 0.2, beating=beating)) == 1


@pytest.mark.parametrize("process", [0, 1])
def test_a_slow_disk_is_shown_and_ends_a_process_only_after_long(process):
    scene = Scene()
    scene.board.words[process, boards.WRITE_SINCE] = int(scene.now * 1e9)
    assert scene.until(5 * PATIENCE) == []
    who = "worker 0" if process else "the driver"
    assert scene.watch.suspects == {process: f"{who}: writing to disk for 10.0 s"}
    late = [(0, "writing to disk")] if process else []
    assert scene.until(WRITE_WITHIN + 0.2) == late


def test_a_start_without_end_is_given_up():
    scene = Scene(joined=False)
    scene.board.words[1, boards.STATE] = boards.READY
    scene.beat()
    assert list(scene.watch.look(scene.now)) == [PeerJoined(WORKERS[0])]
    assert scene.until(59.9) == []
    assert scene.until(60.2) == [(1, "starting")]


def test_who_is_killed_and_does_not_die_holds_nobody_up():
    scene = Scene()
    scene.seats[0].killed = "silent for 3.0 s"
    assert scene.until(10.0) == []
    assert scene.watch.suspects == {1: "worker 0: killed (silent for 3.0 s), but does not die"}
    scene.seats[0].over = True
    assert list(scene.watch.look(scene.now)) == [PeerLost(WORKERS[0], "killed: silent for 3.0 s")]
    assert scene.watch.suspects == {} and list(scene.watch.look(scene.now)) == []


@pytest.mark.parametrize(
    ("end", "words", "told"),
    [("SIGSEGV", "", "SIGSEGV"), ("exit code 7", "", "exit code 7"), ("exit code 1", "a\nKeyError: 3", "KeyError: 3")],
)
def test_how_it_died_is_said(end, words, told):
    scene = Scene()
    scene.ends[11], scene.seats[0].words = end, words
    assert list(scene.watch.look(scene.now)) == [PeerLost(WORKERS[0], told)]


def test_one_whose_end_nobody_knows_is_gone(monkeypatch):
    monkeypatch.setattr("trivium.runtime.watch.TOLD_WITHIN", 0.0)
    scene = Scene()
    scene.seats[1].over = True
    assert list(scene.watch.look(scene.now)) == [PeerLost(WORKERS[1], "its process is gone")]


def test_the_innermost_place_is_that_of_the_thread_that_computes():
    stack = (
        'Thread 1:\n  File "/x/host.py", line 1 in wait\n\n'
        'Thread 2:\n  File "/x/user.py", line 5 in turn\n  File "/x/mid.py", line 3 in loss\n'
        '  File "/x/plane.py", line 9 in carry_out\n'
    )
    assert innermost(stack) == " (user.py:5 in turn, from mid.py:3 in loss)"
    assert innermost("Thread 1:\n") == ""
