"""A worker by itself: events in, commands out."""

import pytest

from trivium.core.consistency import Rule
from trivium.core.exchange import NEWEST, Tempo, View
from trivium.core.lanes import Part
from trivium.core.messages import (
    Ahead,
    Done,
    Evaluate,
    EvaluateRows,
    Failed,
    Gradient,
    Place,
    Proceed,
    Push,
    Reply,
    Request,
    Sums,
)
from trivium.core.role import (
    Address,
    Compute,
    ComputeFailed,
    ComputeFinished,
    MessageReceived,
    PeerLost,
    Read,
    ReadReady,
    Send,
    SetTimer,
    TimerFired,
)
from trivium.designs.ps.worker import Worker
from trivium.errors import ProtocolError

DRIVER, SERVER, ADA, BOB = Address(0, 0), Address(1, 0), Address(1, 1), Address(2, 1)
LANES, LEFT, RIGHT = 4, Part(0, 2), Part(2, 4)
EVEN = ((0,) * LANES,)


class Fed:
    """Worker 0, its lanes the left ones unless told otherwise."""

    def __init__(self, rule="bsp", *, until=4, applied=EVEN, tempo=False, **settings):
        common = {"reproducible": False, "retry": 0.5, "orphan_timeout": 3.0}
        self.role = Worker(ADA, DRIVER, SERVER, LANES, **(common | settings))
        self.rule, self.tempo, self.term, self.ticket = Rule.parse(rule), tempo, 0, 0
        self.place(applied=applied)
        self.ask(Proceed(until))
        self.commands = self.view(min(map(min, applied)))

    def feed(self, event, now=0.0):
        commands = self.role.handle(event, now)
        self.role.validate()
        return commands

    def ask(self, body):
        self.ticket += 1
        return self.feed(MessageReceived(DRIVER, Request(self.term, self.ticket, body)))

    def place(self, workers=(ADA, BOB), ranges=(LEFT, RIGHT), applied=EVEN):
        self.term += 1
        holders = ((SERVER,),) * len(applied)
        return self.ask(Place(self.rule, workers, ranges, holders, (SERVER,), applied, (), self.tempo))

    def view(self, floor, taken=None, finished=False, last=0):
        lo, hi = self.role.range
        lanes = tuple(self.role.took) if taken is None else taken
        assert len(lanes) == hi - lo
        return self.feed(MessageReceived(SERVER, View(self.term, lanes, floor, last, finished)))

    def ready(self, clock, now=0.0):
        return self.feed(ReadReady(clock), now)

    def done(self, clock, *parts, now=0.0):
        return self.feed(ComputeFinished(Gradient(clock, parts or (LEFT,)), None), now)

    def answer(self, body):
        return Send(DRIVER, Reply(self.term, self.ticket, body))

    def push(self, clock, *parts):
        return Send(SERVER, Push(self.term, clock, parts or (LEFT,)))


GREETING = Send(SERVER, Push(1, -1, ()))


# -- a clock ----------------------------------------------------------------------------------------------------------
def test_under_bsp_a_clock_is_read_computed_pushed_and_waited_for():
    fed = Fed()
    assert fed.commands == [Read(0)]
    assert fed.ready(0) == [Compute(Gradient(0, (LEFT,)))]
    assert fed.done(0) == [fed.push(0)]
    assert fed.view(0, (0, 0)) == []
    assert fed.view(1, (1, 1)) == [Read(1)]


@pytest.mark.parametrize(("rule", "clocks"), [("ssp:0", 1), ("ssp:2", 3), ("essp:1", 2), ("asp", 4)])
def test_a_lane_is_no_further_ahead_than_the_rule_lets_it(rule, clocks):
    fed = Fed(rule)
    begun = 0
    while fed.commands:
        assert fed.commands == [Read(0 if fed.rule.exact else NEWEST)]
        fed.ready(NEWEST)
        fed.done(begun)
        begun += 1
        fed.commands = fed.view(0, (begun, begun))
    assert begun == clocks


def test_its_own_pushes_are_waited_for_where_the_rule_says_so():
    fed = Fed("ssp:3")
    fed.ready(NEWEST)
    assert fed.done(0) == [fed.push(0)]
    assert fed.view(0, (0, 0)) == []
    assert fed.view(0, (1, 1)) == [Read(NEWEST)]


def test_a_lease_is_not_overdrawn():
    fed = Fed("asp", until=1)
    fed.ready(NEWEST)
    fed.done(0)
    assert fed.view(1, (1, 1)) == []
    assert fed.ask(Proceed(2)) == [fed.answer(Done()), Read(NEWEST)]


def test_when_f_has_finished_nothing_is_begun():
    fed = Fed()
    fed.ready(0)
    fed.done(0)
    assert fed.view(1, (1, 1), finished=True) == []


def test_nothing_is_begun_before_the_server_has_said_a_word_in_this_term():
    fed = Fed()
    fed.place()
    assert fed.ask(Proceed(4)) == [fed.answer(Done())]
    assert fed.view(0) == [Read(0)]


def test_reproducible_lanes_go_as_whole_subtrees():
    fed = Fed(reproducible=True)
    fed.place(ranges=(Part(0, 3), Part(3, 4)))
    fed.ask(Proceed(4))
    fed.view(0)
    assert fed.ready(0) == [Compute(Gradient(0, (Part(0, 2), Part(2, 3))))]


def test_rows_of_the_next_clock_are_gathered_while_others_are_waited_for():
    fed = Fed(until=2)
    fed.role.read_ahead = True
    fed.ready(0)
    assert fed.done(0) == [fed.push(0), Compute(Ahead(1, (LEFT,)))]


# -- lanes that stand alike -------------------------------------------------------------------------------------------
def test_lanes_that_are_furthest_behind_come_first():
    fed = Fed("ssp:3", applied=((2, 0, 2, 2),))
    assert fed.ready(NEWEST) == [Compute(Gradient(0, (Part(1, 2),)))]
    fed.done(0, Part(1, 2))
    fed.view(1, (2, 1))
    assert fed.ready(NEWEST) == [Compute(Gradient(1, (Part(1, 2),)))]
    fed.done(1, Part(1, 2))
    fed.view(2, (2, 2))
    assert fed.ready(NEWEST) == [Compute(Gradient(2, (LEFT,)))]  # all stand alike again


def test_lanes_that_other_shards_have_are_not_computed_with_those_that_they_lack():
    """One shard has clock 0 of lane 0 alone: a sum of both lanes would be half new to it."""
    fed = Fed("asp", applied=((1, 0, 0, 0), (0, 0, 0, 0)))
    assert fed.ready(NEWEST) == [Compute(Gradient(0, (Part(0, 1),)))]
    fed.done(0, Part(0, 1))
    fed.view(0, (1, 0))
    assert fed.ready(NEWEST) == [Compute(Gradient(0, (Part(1, 2),)))]


def test_under_backup_lanes_go_one_by_one_so_that_one_can_be_left_out():
    fed = Fed("backup:1")
    assert fed.ready(NEWEST) == [Compute(Gradient(0, (Part(0, 1),)))]
    assert fed.done(0, Part(0, 1)) == [fed.push(0, Part(0, 1)), Read(NEWEST)]


def test_a_lane_that_was_left_out_goes_on_with_the_next_clock():
    fed = Fed("backup:1")
    fed.ready(NEWEST)
    fed.done(0, Part(0, 1))
    fed.ready(NEWEST)
    fed.view(1, (1, 1))  # while lane 1 is at work, the clock went on without it
    assert fed.done(0, Part(1, 2)) == [Read(NEWEST)]  # and nothing is pushed
    assert fed.ready(NEWEST) == [Compute(Gradient(1, (Part(0, 1),)))]


# -- terms ------------------------------------------------------------------------------------------------------------
def test_a_placement_is_answered_with_a_greeting_to_its_server():
    fed = Fed()
    commands = fed.place()
    assert commands == [fed.answer(Done()), Send(SERVER, Push(fed.term, -1, ()))]


def test_a_placement_waits_for_the_gradient_of_the_old_term():
    """Until then it writes blocks that may be another worker's by now."""
    fed = Fed()
    fed.ready(0)
    assert fed.place(workers=(ADA,), ranges=(Part(0, 4),)) == []
    assert fed.done(0) == [fed.answer(Done()), Send(SERVER, Push(2, -1, ()))]  # and nothing is pushed
    assert fed.ask(Proceed(4)) == [fed.answer(Done())]
    assert fed.view(0) == [Read(0)]
    assert fed.ready(0) == [Compute(Gradient(0, (Part(0, 4),)))]


def test_place_twice_in_a_term_while_the_old_gradient_is_at_work_is_answered_once():
    fed = Fed()
    fed.ready(0)
    fed.place()
    place = Place(fed.rule, (ADA, BOB), (LEFT, RIGHT), ((SERVER,),), (SERVER,), EVEN, (), False)
    assert fed.ask(place) == []  # in the same term, with another ticket
    assert fed.done(0)[0] == fed.answer(Done())


def test_a_read_asked_for_in_an_old_term_is_passed_over():
    fed = Fed()
    fed.place()
    assert fed.ready(0) == []


def test_a_view_of_an_old_term_is_passed_over():
    fed = Fed()
    fed.place()
    fed.ask(Proceed(4))
    assert fed.feed(MessageReceived(SERVER, View(1, (0, 0), 0, 0, False))) == []


def test_lanes_go_on_from_what_every_shard_has():
    fed = Fed("asp", applied=((3, 3, 0, 0), (2, 2, 0, 0)))
    assert fed.ready(NEWEST) == [Compute(Gradient(2, (LEFT,)))]


def test_whoever_is_not_placed_has_no_lanes():
    fed = Fed()
    fed.place(workers=(BOB,), ranges=(Part(0, 4),))
    assert fed.ask(Proceed(4)) == [fed.answer(Done())]
    assert fed.view(0) == []
    assert fed.ask(Evaluate(0, ("valid",))) == [fed.answer(Sums(0, ()))]


# -- looking ----------------------------------------------------------------------------------------------------------
def test_an_evaluation_waits_until_the_view_has_the_clock():
    fed = Fed(until=1)
    fed.ready(0)
    fed.done(0)
    work = EvaluateRows(1, ("valid",), LEFT)
    assert fed.ask(Evaluate(1, ("valid",))) == []
    assert fed.view(1, (1, 1)) == [Compute(work)]
    assert fed.feed(ComputeFinished(work, ())) == [fed.answer(Sums(0, ()))]


def test_an_evaluation_of_before_a_term_is_not_answered():
    fed = Fed(until=0)
    work = EvaluateRows(0, ("valid",), LEFT)
    assert fed.ask(Evaluate(0, ("valid",))) == [Compute(work)]
    fed.place()
    assert fed.feed(ComputeFinished(work, ())) == []


# -- telling ----------------------------------------------------------------------------------------------------------
def test_it_tells_how_fast_it_is_where_balance_wants_to_know():
    fed = Fed("asp", until=9, tempo=True)
    told, now = [], 0.0
    for clock in range(4):
        fed.ready(NEWEST, now + 0.5)
        now += 1.0
        told += [one.message for one in fed.done(clock, now=now) if isinstance(one, Send) and one.to == DRIVER]
        fed.view(0, (clock + 1, clock + 1))
    assert told == [Tempo(1, 0.25)] * 2  # of one lane; not before there are three


def test_pushes_and_a_greeting_are_sent_again_after_a_time_without_progress():
    fed = Fed()
    fed.ready(0)
    fed.done(0)
    fed.feed(TimerFired("retry"))
    assert fed.feed(TimerFired("retry")) == [fed.push(0), GREETING, SetTimer("retry", 0.5)]
    assert fed.view(1, (1, 1)) == [Read(1)]
    fed.feed(TimerFired("retry"))
    assert fed.push(0) not in fed.feed(TimerFired("retry"))


def test_a_failure_is_told_until_somebody_ends_this_process():
    fed = Fed()
    fed.ready(0)
    told = Send(DRIVER, Reply(1, -1, Failed("division by zero", "Traceback …")))
    assert fed.feed(ComputeFailed(Gradient(0, (LEFT,)), "division by zero", "Traceback …")) == [told]
    assert told in fed.feed(TimerFired("retry"))


def test_an_orphan_begins_nothing():
    fed = Fed()
    fed.ready(0)
    fed.feed(PeerLost(DRIVER, "SIGKILL"))
    fed.done(0)
    assert fed.view(1, (1, 1)) == []


def test_work_beyond_the_rule_is_refused():
    fed = Fed("ssp:1")
    fed.ready(NEWEST)
    fed.role._work = Gradient(3, (LEFT,))
    with pytest.raises(ProtocolError, match="works at clock 3 under ssp:1 with the view at 0"):
        fed.role.validate()
