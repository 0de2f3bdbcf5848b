"""The loop that feeds a role, in this process: what runs where, when timers fire, what happens when a ring is full."""

import threading
import time

import numpy as np
import pytest

from trivium.core.lanes import Part
from trivium.core.messages import Committed, Gradient, SaveShard, TermRecord
from trivium.core.role import (
    Address,
    Compute,
    ComputeFailed,
    ComputeFinished,
    MessageReceived,
    Persist,
    Persisted,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    TimerFired,
)
from trivium.core.spans import IDLE, Spans
from trivium.errors import RunError, StorageError
from trivium.runtime import board as boards
from trivium.runtime.board import Board, board_arrays
from trivium.runtime.host import INLINE, MOST_TRACE, RoleHost
from trivium.runtime.mailbox import Mailboxes

HERE, THERE = Address(0, 0), Address(0, 1)
RING = 256


class Scripted(Role):
    """Answers each event with what the script says, and remembers the event."""

    def __init__(self, script):
        super().__init__(HERE)
        self.script, self.events = script, []

    def handle(self, event, now):
        self.events.append(event)
        return self.script(event, now) or []


class Hands:
    """A plane that says in which thread it worked."""

    def __init__(self, do=lambda work: None):
        self.threads, self.do = [], do

    def carry_out(self, work):
        self.threads.append(threading.current_thread().name)
        return self.do(work)

    def read(self, clock):
        raise AssertionError("nobody reads")


class Shelf:
    """A store that may be full."""

    full = False

    def write(self, record, plane):
        if self.full:
            raise StorageError("cannot write: no space left")


def host(script, plane=None, store=None):
    """A host of a scripted role, and the mailbox of the other process."""
    board = Board(**{name: np.zeros(shape, dtype) for name, (dtype, shape) in board_arrays(2).items()})
    words = np.zeros(Mailboxes.nbytes(2, RING) // 8, np.int64)
    mine, other = (Mailboxes(words, me, 2, RING) for me in range(2))
    spans = Spans(board.seconds[0], board.waited[0], time.perf_counter(), IDLE)
    role = Scripted(script)
    made = RoleHost(role, 0, (HERE, THERE), mine, board, plane=plane, store=store or Shelf(), spin=0.0, spans=spans)
    return made, other


def gradient(clock):
    return Gradient(clock, (Part(0, 1),))


def run(made, within=20.0):
    """Run to the end, or fail in time."""
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    thread.join(within)
    assert not thread.is_alive(), "the host does not end"


def test_short_works_are_done_here_and_others_on_a_thread():
    def script(event, now):
        if isinstance(event, Started):
            return [Compute(gradient(0))]
        if isinstance(event, ComputeFinished):
            return [Compute(gradient(event.work.clock + 1))] if event.work.clock < 3 else [Stop("done")]
        return []

    hands = Hands()
    made, _other = host(script, hands)
    made.run()
    assert hands.threads[0] == "compute", "of the first nobody knows how long it takes"
    assert set(hands.threads[1:]) == {threading.current_thread().name}
    hands = Hands()
    made, _other = host(script, hands)
    made._took[Gradient] = 10 * INLINE
    made._compute(Compute(gradient(9)))
    while not hands.threads:
        made.mail.wait(0.05)
    assert hands.threads == ["compute"]


@pytest.mark.parametrize("inline", [True, False])
def test_what_a_program_raises_becomes_an_event(inline):
    def fail(work):
        raise ValueError("x" * 100_000)

    def script(event, now):
        if isinstance(event, Started):
            return [Compute(gradient(0))]
        return [Stop("done")] if isinstance(event, ComputeFailed) else []

    made, _other = host(script, Hands(fail))
    if inline:
        made._took[Gradient] = 1e-6
    run(made)
    failed = made.role.events[-1]
    assert failed.error.startswith("ValueError: xxx") and len(failed.error) <= MOST_TRACE
    assert len(failed.traceback) <= MOST_TRACE


def test_timers_fire_in_time_once_and_a_later_one_replaces():
    fired = []

    def script(event, now):
        if isinstance(event, Started):
            return [SetTimer("soon", now + 0.02), SetTimer("never", now + 0.01), SetTimer("never", now + 60.0)]
        if isinstance(event, TimerFired):
            fired.append((event.name, now))
            return [SetTimer("again", now + 0.01)] if event.name == "soon" else [Stop("done")]
        return []

    made, _other = host(script)
    began = time.perf_counter()
    run(made)
    assert [name for name, _now in fired] == ["soon", "again"]
    assert fired[0][1] >= began + 0.02 and fired[1][1] >= fired[0][1] + 0.01


def test_what_does_not_fit_a_ring_is_sent_later_in_order():
    count = 60

    def script(event, now):
        if isinstance(event, Started):
            return [Send(THERE, Committed(1, 0, clock, False)) for clock in range(count)]
        return [Stop("done")] if isinstance(event, MessageReceived) else []

    made, other = host(script)
    made.feed(Started())
    assert made._full, "the ring is too large for this test"
    came = []
    while len(came) < count:
        came += [made._decode(payload).clock for _sender, payload in other.receive()]
        made.turn()
    assert came == list(range(count))
    other.send(0, made._encode(Committed(1, 0, 0, True)))
    made.turn()
    assert made.stopped == Stop("done")


def test_what_follows_from_an_event_is_handled_after_it():
    """A command that feeds an event at once must not come between the commands of the first."""

    def script(event, now):
        if isinstance(event, Started):
            return [Persist(TermRecord(1, (), (), "a")), Persist(TermRecord(2, (), (), "b"))]
        if isinstance(event, Persisted) and event.record.term == 2:
            return [Stop("done")]
        return []

    made, _other = host(script)
    made.run()
    assert [type(event).__name__ for event in made.role.events] == ["Started", "Persisted", "Persisted"]
    assert [event.record.term for event in made.role.events[1:]] == [1, 2]


def test_a_full_disk_becomes_an_event():
    def script(event, now):
        if isinstance(event, Started):
            return [Persist(TermRecord(1, (), (), "a"))]
        return [Stop("done")]

    shelf = Shelf()
    shelf.full = True
    made, _other = host(script, store=shelf)
    made.run()
    assert made.role.events[-1].error == "cannot write: no space left"


class Saving(Hands):
    """A plane with one shard, which changes when it is told to."""

    content = "before"

    def snapshot(self, shard, clock):
        if clock > 5:
            raise RunError(f"shard {shard} has no version of clock {clock} to save")
        return self.content


class SlowShelf:
    """A store that writes when it is let, and remembers what it was given and in which thread."""

    def __init__(self):
        self.free, self.written = threading.Event(), []

    def write(self, record, plane):
        assert self.free.wait(20.0)
        self.written.append((plane.snapshot(record.shard, record.clock), threading.current_thread().name))


def test_a_slow_disk_holds_up_neither_mail_nor_signs_of_life_and_gets_what_was_there_when_asked():
    def script(event, now):
        if isinstance(event, Started):
            return [Persist(SaveShard(0, 5, -1))]
        return [Stop("done")] if isinstance(event, Persisted) else []

    hands, shelf = Saving(), SlowShelf()
    made, other = host(script, hands, shelf)
    made.feed(Started())
    hands.content = "after"
    other.send(0, made._encode(Committed(1, 0, 0, True)))
    beat = time.monotonic_ns()
    while not made.board.writing(0, time.monotonic()):
        made.turn()
    made.turn()
    assert [type(event) for event in made.role.events] == [Started, MessageReceived]
    assert int(made.board.words[0, boards.BEAT]) > beat
    shelf.free.set()
    run(made)
    assert shelf.written[0] == ("before", "write")
    assert Persisted(SaveShard(0, 5, -1)) in made.role.events
    assert made.board.writing(0, time.monotonic()) == 0.0


def test_what_cannot_be_copied_or_written_for_whatever_reason_becomes_an_event():
    def script(event, now):
        if isinstance(event, Started):
            return [Persist(SaveShard(0, 7, -1))]
        return [Persist(SaveShard(0, 5, -1))] if event.record.clock == 7 else [Stop("done")]

    class Odd:
        def write(self, record, plane):
            raise ValueError("not an array")

    made, _other = host(script, Saving(), Odd())
    run(made)
    errors = [event.error for event in made.role.events[1:]]
    assert errors == [
        "cannot write SaveShard: RunError: shard 0 has no version of clock 7 to save",
        "cannot write SaveShard: ValueError: not an array",
    ]


def test_a_program_that_exits_has_failed():
    def leave(work):
        raise SystemExit(3)

    def script(event, now):
        return [Compute(gradient(0))] if isinstance(event, Started) else [Stop("done")]

    made, _other = host(script, Hands(leave))
    run(made)
    assert made.role.events[-1].error == "SystemExit: 3"


@pytest.mark.parametrize("inline", [True, False])
def test_a_work_that_gets_on_shows_it_and_beats_only_where_it_holds_the_role_thread_up(inline):
    shown = []

    def lanes(work):
        made._words[boards.BEAT] = made._words[boards.OP_SINCE] = 0
        made.alive()
        shown.extend(made._words[word] > 0 for word in (boards.BEAT, boards.OP_SINCE))

    made, _other = host(lambda event, now: [], Hands(lanes))
    if inline:
        made._took[Gradient] = 1e-6
        made._compute(Compute(gradient(0)))
    else:
        made._timed(gradient(0))
    assert shown == [inline, True]


def test_each_turn_is_a_sign_of_life_and_all_time_is_accounted_for():
    def script(event, now):
        if isinstance(event, Started):
            return [SetTimer("end", now + 0.05)]
        return [Stop("done")]

    made, _other = host(script)
    began = time.perf_counter()
    beat = time.monotonic_ns()
    made.run()
    wall = time.perf_counter() - began
    assert int(made.board.words[0, boards.BEAT]) >= beat
    assert float(made.board.seconds[0].sum()) == pytest.approx(wall, abs=0.01)
