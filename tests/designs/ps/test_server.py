"""A server by itself: events in, commands out. Tests of the rules in ``designs.ps.server`` are named after them."""

import pytest

from trivium.core.consistency import Rule
from trivium.core.exchange import (
    Advance,
    Combine,
    Copy,
    Delta,
    Dropped,
    Entry,
    Fetch,
    Forget,
    Fresh,
    Gather,
    Held,
    Learn,
    Learned,
    Partial,
    Scale,
    Settled,
    Show,
    Taken,
    TakeUp,
    View,
    Want,
    Whole,
)
from trivium.core.lanes import Part
from trivium.core.messages import (
    Adopt,
    Copied,
    Done,
    Keep,
    KeepShard,
    Place,
    Proceed,
    Push,
    Reached,
    Reply,
    Request,
    Save,
    SaveShard,
    Stand,
    Stands,
)
from trivium.core.role import (
    Address,
    Compute,
    ComputeFinished,
    MessageReceived,
    PeerLost,
    Persist,
    Persisted,
    Send,
    SetTimer,
    Started,
    Stop,
    TimerFired,
)
from trivium.designs.ps.server import Server
from trivium.errors import ProtocolError

DRIVER, S1, S2, S3, W1, W2 = Address(0, 0), Address(1, 0), Address(2, 0), Address(3, 0), Address(1, 1), Address(2, 1)
LANES, LEFT, RIGHT, ALL = 4, Part(0, 2), Part(2, 4), Part(0, 4)
ZERO, ONE, TWO = (0,) * LANES, (1,) * LANES, (2,) * LANES
COMMON = {"reproducible": False, "retry": 0.5, "orphan_timeout": 3.0}
MADE = (False, 1, 8.0, 8.0, 4.0)  # what Advance gives


class Fed:
    """A server, and what it answers with."""

    def __init__(self, me, holders, *, rule="bsp", elementwise=True, servers=(S1, S2), until=4, **settings):
        self.role = Server(me, DRIVER, LANES, len(holders), elementwise=elementwise, **(COMMON | settings))
        self.term = self.ticket = 0
        self.rule, self.holders, self.servers = Rule.parse(rule), holders, servers
        self.feed(Started())
        for index in range(len(holders)):
            self.done(Adopt(index), (0, False))
        if until:
            self.begin(holders)
            self.ask(Proceed(until))

    def feed(self, event, now=0.0):
        commands = self.role.handle(event, now)
        self.role.validate()
        return commands

    def hear(self, sender, message):
        return self.feed(MessageReceived(sender, message))

    def done(self, work, result=None):
        return self.feed(ComputeFinished(work, result))

    def ask(self, body):
        self.ticket += 1
        return self.hear(DRIVER, Request(self.term, self.ticket, body))

    def answer(self, body):
        return Send(DRIVER, Reply(self.term, self.ticket, body))

    def stand(self):
        """A new term; what it has forgotten is done."""
        self.term += 1
        commands = self.ask(Stand())
        while works := [one.work for one in commands if isinstance(one, Compute)]:
            assert all(isinstance(work, Forget) for work in works)
            commands = [more for work in works for more in self.done(work)]
        return commands

    def place(self, holders=None, applied=None, behind=(), workers=(W1, W2), ranges=(LEFT, RIGHT)):
        self.holders = holders or self.holders
        applied = applied or (ZERO,) * len(self.holders)
        return self.ask(Place(self.rule, workers, ranges, self.holders, self.servers, applied, behind, False))

    def begin(self, holders=None, **placement):
        self.stand()
        return self.place(holders, **placement)

    def push(self, clock, part=LEFT, worker=W1):
        return self.hear(worker, Push(self.term, clock, (part,)))

    def delta(self, number, clock, part=RIGHT, sender=S2, shard=0):
        return self.hear(sender, Delta(self.term, shard, number, (Entry(clock, (part,)),), ()))

    def step(self, clock=0):
        """A clock of one shard that it leads, to the end of F; both halves came."""
        self.push(clock)
        (command,) = self.delta(clock + 1, clock)
        work = command.work
        if isinstance(work, Combine):
            commands = self.done(work)
            work = commands[-1].work
        return self.done(work, MADE)


def alone(rule="bsp", **settings):
    """One node, both workers on it."""
    fed = Fed(S1, ((S1,),), rule=rule, servers=(S1,), until=0, **settings)
    fed.begin(workers=(W1, Address(1, 2)))
    fed.ask(Proceed(4))
    return fed


def entry(clock, part, node=-1, number=0):
    return Entry(clock, (part,), node, number)


def views(commands):
    return [one for one in commands if isinstance(one, Send) and isinstance(one.message, View)]


def works(commands):
    return [one.work for one in commands if isinstance(one, Compute)]


# -- rule 1: what comes next, exactly once ----------------------------------------------------------------------------
def test_rule_1_a_push_is_admitted_once():
    fed = alone()
    assert fed.push(0) == []
    assert fed.role.shards[0].expect == [1, 1, 0, 0]
    for _ in range(2):
        assert works(fed.push(0)) == []
    assert fed.role.shards[0].have == 0b0011
    both = (entry(0, LEFT), entry(0, RIGHT))
    assert fed.push(0, RIGHT, Address(1, 2)) == [Compute(Advance(0, 0, ONE, both, True, -1))]
    assert works(fed.push(0, RIGHT, Address(1, 2))) == []


def test_rule_1_a_delta_that_is_early_will_be_sent_again():
    fed = Fed(S1, ((S1,),))
    assert fed.delta(2, 1) == []
    assert fed.role.shards[0].pending == []
    assert fed.delta(1, 0) == []
    assert len(fed.role.shards[0].pending) == 1


def test_rule_1_what_was_applied_is_answered_and_changes_nothing():
    fed = Fed(S1, ((S1,),))
    fed.step()
    before = list(fed.role.shards[0].expect)
    assert fed.delta(1, 0) == [Send(S2, Taken(1, 0, 1, ONE))]
    assert fed.role.shards[0].expect == before
    assert fed.role.shards[0].pending == []


def test_rule_1_a_delta_of_a_step_under_way_is_not_answered_yet():
    fed = Fed(S1, ((S1,),))
    fed.push(0)
    fed.delta(1, 0)
    assert fed.delta(1, 0) == []


def test_rule_1_half_of_a_node_s_sum_is_refused_whole():
    """A sum of lanes of which one was applied already cannot be taken apart."""
    fed = alone("asp")
    assert len(fed.push(0, Part(0, 1))) == 1
    assert not fed.role.shards[0].admit(fed.role.shards[0].batch[0].of((entry(0, LEFT),)))
    assert fed.role.shards[0].expect == [1, 0, 0, 0]


# -- rule 2: steps ----------------------------------------------------------------------------------------------------
def test_rule_2_a_whole_step_is_summed_in_the_order_of_lanes_whoever_was_first():
    fed = Fed(S1, ((S1,),))
    assert fed.delta(7, 0) == []
    (command,) = fed.push(0)
    assert command.work == Advance(0, 0, ONE, (entry(0, LEFT), entry(0, RIGHT, 2, 7)), True, -1)


def test_rule_2_otherwise_a_step_is_whatever_was_admitted_since_the_last():
    fed = alone("ssp:3")
    (first,) = fed.push(0)
    assert first.work == Advance(0, 0, (1, 1, 0, 0), (entry(0, LEFT),), False, -1)
    assert fed.push(0, RIGHT, Address(1, 2)) == []  # one step is under way at a time
    again = works(fed.done(first.work, MADE))
    assert again == [Advance(0, 2, ONE, (entry(0, RIGHT),), False, -1)]


def test_rule_2_backup_goes_on_without_the_slowest_lanes_and_counts_them():
    fed = alone("backup:2")
    commands = fed.push(0)
    assert works(commands) == [Advance(0, 0, ONE, (entry(0, LEFT),), True, -1)]
    assert fed.role.dropped == 2
    assert works(fed.push(0, RIGHT, Address(1, 2))) == []  # it comes too late
    fed.done(works(commands)[0], MADE)
    commands = fed.push(1)
    assert Send(DRIVER, Dropped(1, (2, 3))) in commands  # for the second time running
    assert fed.role.dropped == 4


# -- rule 3: settled before told --------------------------------------------------------------------------------------
def test_rule_3_nothing_is_told_before_all_copies_hold_the_step():
    fed = Fed(S1, ((S1, S2, S3),), servers=(S1, S2, S3))
    fed.push(0)
    (command,) = fed.delta(1, 0)
    assert isinstance(command.work, Combine)
    copy = Copy(1, 0, ZERO, ONE, True)
    advance = Advance(0, 0, ONE, (), True, -1)
    assert fed.done(command.work) == [Send(S2, copy), Send(S3, copy), Compute(advance)]
    assert fed.done(advance, MADE) == []
    assert fed.hear(S2, Held(1, 0, LANES)) == []
    commands = fed.hear(S3, Held(1, 0, LANES))
    settled = Settled(1, 0, LANES)
    assert commands[:3] == [Send(S2, Taken(1, 0, 1, ONE)), Send(S2, settled), Send(S3, settled)]
    assert [one.message.floor for one in views(commands)] == [1]


def test_rule_3_a_copy_that_held_before_the_primary_had_applied_counts():
    fed = Fed(S1, ((S1, S2),))
    fed.push(0)
    (command,) = fed.delta(1, 0)
    fed.done(command.work)
    assert fed.hear(S2, Held(1, 0, LANES)) == []
    commands = fed.done(Advance(0, 0, ONE, (), True, -1), MADE)
    assert commands[0] == Send(S2, Taken(1, 0, 1, ONE))


def test_rule_3_of_two_copies_the_other_knows_by_itself():
    fed = Fed(S2, ((S1, S2),))
    commands = fed.hear(S1, Copy(1, 0, ZERO, ONE, True))
    assert commands == [Compute(Advance(0, 0, ONE, (), True, -1))]
    commands = fed.done(commands[0].work, MADE)
    assert commands[0] == Send(S1, Held(1, 0, LANES))
    assert [(one.to, one.message.floor) for one in views(commands)] == [(W2, 1)]


def test_rule_3_of_three_copies_one_waits_to_be_told():
    fed = Fed(S2, ((S1, S2, S3),), servers=(S1, S2, S3))
    fed.hear(S1, Copy(1, 0, ZERO, ONE, True))
    commands = fed.done(Advance(0, 0, ONE, (), True, -1), MADE)
    assert commands == [Send(S1, Held(1, 0, LANES))]
    assert fed.hear(S1, Settled(1, 0, 0)) == []  # of an older step
    assert [one.message.floor for one in views(fed.hear(S1, Settled(1, 0, LANES)))] == [1]


def test_rule_3_fresh_values_say_that_a_delta_was_taken():
    """A node without a copy hears of a step once: what its values have, was taken."""
    fed = Fed(S1, ((S2,),))
    (command,) = fed.push(0)
    fed.done(command.work)
    commands = fed.hear(S2, Fresh(1, 0, ONE, False))
    assert commands == [Compute(Forget(0, 1)), Compute(Show(0, ONE))]
    assert fed.role.shards[0].outbox.sent == {}


def test_rule_3_fresh_values_without_it_leave_a_delta_where_it_is():
    fed = Fed(S1, ((S2,),), rule="essp:3")
    (command,) = fed.push(0)
    fed.done(command.work)
    assert fed.hear(S2, Fresh(1, 0, (0, 0, 1, 1), False)) == [Compute(Show(0, (0, 0, 1, 1)))]
    assert list(fed.role.shards[0].outbox.sent) == [1]


def test_a_copy_that_comes_twice_is_applied_once():
    fed = Fed(S2, ((S1, S2),))
    copy = Copy(1, 0, ZERO, ONE, True)
    (command,) = fed.hear(S1, copy)
    assert fed.hear(S1, copy) == []  # while it is applied
    fed.done(command.work, MADE)
    assert fed.hear(S1, copy) == [Send(S1, Held(1, 0, LANES))]
    assert fed.role.shards[0].applied == ONE


def test_a_copy_of_a_step_after_the_next_is_not_applied():
    fed = Fed(S2, ((S1, S2),))
    assert fed.hear(S1, Copy(1, 0, ONE, TWO, True)) == []
    assert fed.role.shards[0].applied == ZERO


def test_held_for_an_old_tag_is_told_how_far_the_others_are():
    fed = Fed(S1, ((S1, S2),))
    fed.step()
    fed.hear(S2, Held(1, 0, LANES))
    fed.push(1)
    (command,) = fed.delta(2, 1)
    fed.done(command.work)
    fed.done(Advance(0, LANES, TWO, (), True, -1), MADE)
    assert fed.hear(S2, Held(1, 0, LANES)) == [Send(S2, Settled(1, 0, LANES))]
    assert fed.role.shards[0].stage == "copying"


def test_a_step_that_nobody_has_acknowledged_is_sent_again():
    fed = Fed(S1, ((S1, S2),))
    fed.step()
    fed.feed(TimerFired("retry"))
    assert Send(S2, Copy(1, 0, ZERO, ONE, True)) in fed.feed(TimerFired("retry"))


# -- rule 4: a node sums before it sends ------------------------------------------------------------------------------
def test_rule_4_under_bsp_all_of_a_node_s_lanes_leave_together():
    fed = Fed(S1, ((S2,),), until=0)
    fed.begin(workers=(W1, Address(1, 2), W2), ranges=(Part(0, 1), Part(1, 3), Part(3, 4)))
    fed.ask(Proceed(4))
    assert works(fed.push(0, Part(0, 1))) == []
    (work,) = works(fed.push(0, Part(1, 3), Address(1, 2)))
    node = Part(0, 3)
    assert work == Gather(0, 1, (entry(0, Part(0, 1)), entry(0, Part(1, 3))), (node,))
    assert fed.done(work) == [Send(S2, Delta(1, 0, 1, (entry(0, node),), (node,)))]


def test_rule_4_reproducible_sums_go_as_whole_subtrees():
    fed = Fed(S1, ((S2,),), until=0, reproducible=True)
    fed.begin(workers=(W1, W2), ranges=(Part(0, 3), Part(3, 4)))
    fed.ask(Proceed(4))
    (work,) = works(fed.push(0, Part(0, 3)))
    assert work.parts == (Part(0, 2), Part(2, 3))


def test_rule_4_otherwise_what_has_gathered_leaves_as_one_sum():
    fed = Fed(S1, ((S2,),), rule="asp")
    (work,) = works(fed.push(0))
    assert work == Gather(0, 1, (entry(0, LEFT),), ())
    commands = fed.done(work)
    assert commands[0] == Send(S2, Delta(1, 0, 1, (entry(0, LEFT),), ()))
    assert views(commands)[0].message.lanes == (1, 1)  # under asp the block is free once the delta has left


def test_rule_4_a_delta_is_sent_again_until_it_is_taken():
    fed = Fed(S1, ((S2,),))
    (command,) = fed.push(0)
    (sent,) = fed.done(command.work)
    fed.feed(TimerFired("retry"))
    assert sent in fed.feed(TimerFired("retry"))
    assert works(fed.hear(S2, Taken(1, 0, 1, ONE))) == [Forget(0, 1)]
    fed.feed(TimerFired("retry"))
    assert sent not in fed.feed(TimerFired("retry"))


def test_a_push_that_came_already_is_told_what_the_view_is():
    fed = alone()
    fed.push(0)
    told = View(1, (0, 0), 0, fed.role._told[W1].last, False)
    assert fed.push(0) == [Send(W1, told)]
    assert fed.hear(W1, Push(1, -1, ())) == [Send(W1, told)]  # a greeting


# -- rule 5: terms ----------------------------------------------------------------------------------------------------
def test_rule_5_a_term_drops_what_is_not_settled():
    fed = Fed(S1, ((S1,),))
    fed.push(0)
    assert fed.stand() == [fed.answer(Stands((Copied(0, ZERO, ZERO, False),)))]
    assert (fed.role.shards[0].have, fed.role.shards[0].pending) == (0, [])


def test_rule_5_a_server_stands_when_no_step_is_under_way():
    fed = alone()
    fed.push(0)
    (command,) = fed.push(0, RIGHT, Address(1, 2))
    assert fed.stand() == []
    assert fed.done(command.work, MADE) == [fed.answer(Stands((Copied(0, ONE, ZERO, False),)))]


def test_rule_5_a_fenced_primary_that_wakes_up_is_not_heard():
    """It was stopped when the others went on under a higher term: what it then sends is of a term that is over."""
    fed = Fed(S2, ((S1, S2),))
    fed.begin(((S2,),))
    fed.ask(Proceed(4))
    assert fed.hear(S1, Copy(1, 0, ZERO, ONE, True)) == []
    assert fed.hear(S1, Settled(1, 0, LANES)) == []
    assert fed.hear(S1, Fresh(1, 0, ONE, False)) == []
    assert fed.hear(S1, Delta(1, 0, 1, (entry(0, LEFT),), ())) == []
    assert fed.role.shards[0].applied == ZERO


def test_rule_5_a_fenced_primary_tells_nobody():
    fed = Fed(S1, ((S1, S2),))
    fed.push(0)
    (command,) = fed.delta(1, 0)
    fed.done(command.work)
    assert fed.stand() == []  # F is still at work
    commands = fed.done(Advance(0, 0, ONE, (), True, -1), MADE)
    assert not views(commands)
    assert not [one for one in commands if isinstance(one, Send) and one.to != DRIVER]
    assert fed.hear(S2, Held(1, 0, LANES)) == []  # an acknowledgement of the term before counts for nothing


def test_rule_5_a_copy_that_is_a_step_behind_gets_that_step_again():
    fed = Fed(S1, ((S1, S2),))
    fed.push(0)
    (command,) = fed.delta(1, 0)
    fed.done(command.work)
    fed.done(Advance(0, 0, ONE, (), True, -1), MADE)
    assert fed.stand() == [fed.answer(Stands((Copied(0, ONE, ZERO, False),)))]
    commands = fed.place(applied=(ONE,), behind=(0,))
    assert Send(S2, Copy(2, 0, ZERO, ONE, True)) in commands
    assert not views(commands)  # not settled yet
    commands = fed.hear(S2, Held(2, 0, LANES))
    assert [one.message.floor for one in views(commands)] == [1]


def test_rule_5_a_lane_that_some_shard_lacks_is_computed_again_and_refused_by_those_that_have_it():
    fed = Fed(S1, ((S1,), (S1,)), until=0)
    fed.stand()
    fed.role.shards[0].applied = fed.role.shards[0].before = fed.role.shards[0].seen = ONE
    fed.place(applied=(ONE, ZERO))
    fed.ask(Proceed(4))
    assert fed.push(0) == []
    assert [one.have for one in fed.role.shards] == [0, 0b0011]


def test_a_lower_term_is_refused():
    fed = Fed(S1, ((S1,),))
    assert fed.hear(W1, Push(0, 0, (LEFT,))) == []
    assert fed.role.shards[0].have == 0


def test_place_asked_twice_in_a_term_is_answered_and_changes_nothing():
    fed = Fed(S1, ((S1,),))
    fed.begin()
    place = Place(fed.rule, (W1, W2), (LEFT, RIGHT), fed.holders, fed.servers, (ZERO,), (), False)
    fed.push(0)
    assert fed.hear(DRIVER, Request(fed.term, fed.ticket, place)) == [fed.answer(Done())]
    assert fed.role.shards[0].have == 0b0011


def test_another_place_in_a_term_begins_from_what_it_says():
    """Servers were placed first, to save; then all are, in the same term."""
    fed = Fed(S1, ((S1,),))
    fed.begin()
    fed.place()
    fed.ask(Proceed(4))
    assert fed.push(0) == []
    assert fed.role.shards[0].have == 0b0011


def test_a_push_between_stand_and_place_is_not_admitted():
    fed = Fed(S1, ((S1,),))
    fed.stand()
    assert fed.push(0) == []
    assert fed.role.shards[0].have == 0


# -- views ------------------------------------------------------------------------------------------------------------
def test_a_view_is_shown_before_it_is_told():
    fed = Fed(S1, ((S2,),))
    assert fed.hear(S2, Fresh(1, 0, ONE, False)) == [Compute(Show(0, ONE))]
    commands = fed.done(Show(0, ONE))
    assert [(one.to, one.message.floor) for one in views(commands)] == [(W1, 1)]


def test_fresh_values_that_come_while_others_are_shown_are_asked_for_again():
    fed = Fed(S1, ((S2,),), rule="essp:1")
    fed.push(0)
    fed.hear(S2, Fresh(1, 0, (0, 0, 1, 1), False))
    assert fed.hear(S2, Fresh(1, 0, ONE, False)) == []
    assert Send(S2, Want(1, 0, 2)) in fed.done(Show(0, (0, 0, 1, 1)))


def test_fresh_values_that_are_older_than_the_view_are_passed_over():
    fed = Fed(S1, ((S2,),), rule="asp")
    fed.hear(S2, Fresh(1, 0, ONE, False))
    fed.done(Show(0, ONE))
    assert works(fed.hear(S2, Fresh(1, 0, (0, 0, 1, 1), False))) == []


def test_under_ssp_fresh_values_come_for_the_asking():
    fed = Fed(S1, ((S1,),), rule="ssp:2")
    (command,) = fed.push(0)
    commands = fed.done(command.work, MADE)
    assert not [one for one in commands if isinstance(one.message, Fresh)]
    assert fed.hear(S2, Want(1, 0, 2)) == []  # it has that already
    assert fed.hear(S2, Want(1, 0, 0)) == [Send(S2, Fresh(1, 0, (1, 1, 0, 0), False))]
    (command,) = fed.push(1)
    assert Send(S2, Fresh(1, 0, (2, 2, 0, 0), False)) in fed.done(command.work, MADE)


def test_under_essp_servers_send_them_unasked():
    fed = Fed(S1, ((S1,),), rule="essp:2")
    (command,) = fed.push(0)
    assert Send(S2, Fresh(1, 0, (1, 1, 0, 0), False)) in fed.done(command.work, MADE)


def test_whoever_is_too_far_ahead_at_the_start_of_a_lease_asks():
    """Lanes that came from elsewhere may be further than the view lets them go on: nobody pushes, nobody else asks."""
    fed = Fed(S1, ((S2,),), rule="ssp:1", until=0)
    ahead = (5, 5, 1, 1)
    fed.stand()
    fed.role.shards[0].applied = fed.role.shards[0].before = fed.role.shards[0].seen = ahead
    fed.place(applied=(ahead,))
    assert Send(S2, Want(1, 0, sum(ahead))) in fed.ask(Proceed(9))


def test_a_node_that_has_just_come_says_nothing_of_what_it_has_not():
    fed = Fed(S1, ((S2,),), until=0)
    fed.stand()
    commands = fed.place(applied=(ONE,))
    assert Send(S2, Want(1, 0, 0)) in commands
    assert not views(commands)
    fed.hear(S2, Fresh(1, 0, ONE, False))
    assert [one.message.floor for one in views(fed.done(Show(0, ONE)))] == [1]


# -- two-step F -------------------------------------------------------------------------------------------------------
def two_steps():
    fed = Fed(S1, ((S1,), (S2,)), elementwise=False)
    fed.push(0)
    (command,) = fed.delta(1, 0)
    assert isinstance(command.work, Combine)
    assert fed.done(command.work) == [Compute(Scale(0, 0))]
    assert fed.done(Scale(0, 0)) == [Send(S2, Partial(1, 0, 0, False))]
    return fed


def test_a_two_step_f_waits_for_all_partial_sums():
    fed = two_steps()
    assert fed.hear(S2, Partial(1, 1, 0, False)) == [Compute(Advance(0, 0, ONE, (), True, -1))]


def test_a_shard_that_is_ahead_binds_the_others():
    fed = two_steps()
    assert fed.hear(S2, Partial(1, 1, 0, True)) == [Compute(Advance(0, 0, ONE, (), True, 1))]


def test_a_shard_that_is_ahead_says_so_to_one_that_asks():
    fed = two_steps()
    fed.hear(S2, Partial(1, 1, 0, False))
    fed.done(Advance(0, 0, ONE, (), True, -1), MADE)
    assert fed.hear(S2, Partial(1, 1, 0, False)) == [Send(S2, Partial(1, 0, 0, True))]


# -- rule 7: learners -------------------------------------------------------------------------------------------------
def joiner():
    """A server of a node that is to come: it was never placed."""
    fed = Fed(S3, ((S1,),), until=0)
    fed.term = 4
    assert fed.hear(DRIVER, Learn(4, (0,), (S1,))) == [Send(S1, Fetch(4, 0))]
    (command,) = fed.hear(S1, Whole(4, 0, ONE, ONE, False))
    assert command.work == TakeUp(0, ONE)
    assert fed.done(command.work) == [Send(DRIVER, Learned(4, (0,)))]
    return fed


def test_rule_7_a_shard_is_handed_out_between_two_steps():
    fed = Fed(S1, ((S1,),), servers=(S1, S2, S3))
    fed.push(0)
    (command,) = fed.delta(1, 0)
    assert fed.hear(S3, Fetch(1, 0)) == []
    assert Send(S3, Whole(1, 0, ONE, ONE, False)) in fed.done(command.work, MADE)
    fed.push(1)
    (command,) = fed.delta(2, 1)
    assert fed.done(command.work)[0] == Send(S3, Copy(1, 0, ONE, TWO, True))  # and each step from then on


def test_rule_7_a_learner_does_not_hold_a_step_up():
    fed = Fed(S1, ((S1,),), servers=(S1, S2, S3))
    fed.hear(S3, Fetch(1, 0))
    fed.push(0)
    (command,) = fed.delta(1, 0)
    fed.done(command.work)
    assert views(fed.done(Advance(0, 0, ONE, (), True, -1), MADE))


def test_rule_7_a_learner_that_is_not_placed_yet_takes_one_step_after_another():
    fed = joiner()
    for clock, after in ((1, TWO), (2, (3,) * LANES)):
        (command,) = fed.hear(S1, Copy(4, 0, (clock,) * LANES, after, True))
        assert command.work == Advance(0, clock * LANES, after, (), True, -1)
        fed.done(command.work, MADE)
    assert fed.role.shards[0].applied == (3,) * LANES


def test_rule_7_a_learner_that_misses_a_step_fetches_all_again():
    fed = joiner()
    assert fed.hear(S1, Copy(4, 0, TWO, (3,) * LANES, True)) == [Send(S1, Fetch(4, 0))]
    (command,) = fed.hear(S1, Whole(4, 0, (3,) * LANES, (3,) * LANES, False))
    assert command.work == TakeUp(0, (3,) * LANES)


def test_rule_7_a_learner_tells_of_its_copy_when_the_next_term_begins():
    fed = joiner()
    fed.term = 4
    assert fed.stand()[-1] == fed.answer(Stands((Copied(0, ONE, ONE, False),)))


def test_learn_twice_fetches_once():
    fed = joiner()
    assert fed.hear(DRIVER, Learn(4, (0,), (S1,))) == [Send(DRIVER, Learned(4, (0,)))]


# -- the lease, keeping, saving ---------------------------------------------------------------------------------------
def test_a_lease_is_used_up_when_its_last_step_is_settled():
    fed = Fed(S1, ((S1, S2),), until=1)
    fed.push(0)
    (command,) = fed.delta(1, 0)
    fed.done(command.work)
    reached = fed.answer(Reached(1, False, 1, 8.0, 8.0, 4.0))
    assert reached not in fed.done(Advance(0, 0, ONE, (), True, -1), MADE)
    assert reached in fed.hear(S2, Held(1, 0, LANES))


def test_a_server_that_leads_nothing_answers_a_lease_at_once():
    fed = Fed(S1, ((S2,),))
    assert fed.ask(Proceed(5))[-1] == fed.answer(Done())


def test_keep_waits_until_the_view_has_the_clock():
    fed = Fed(S1, ((S2,),))
    assert fed.ask(Keep(1)) == []
    fed.hear(S2, Fresh(1, 0, ONE, False))
    (work,) = works(fed.done(Show(0, ONE)))
    assert work == KeepShard(0, 1)
    assert fed.done(work) == [fed.answer(Done())]


def test_a_server_saves_what_it_leads():
    fed = Fed(S1, ((S1,), (S2,)))
    record = SaveShard(0, 1, -1)
    assert fed.ask(Save(1, -1)) == [Persist(record)]
    assert fed.feed(Persisted(record)) == [fed.answer(Done())]


def test_an_orphan_saves_the_last_two_clocks_and_stops_if_no_driver_comes():
    fed = Fed(S1, ((S1,),))
    fed.step()
    commands = fed.feed(PeerLost(DRIVER, "SIGKILL"))
    first, second = SaveShard(0, 0, -1), SaveShard(0, 1, -1)
    assert commands == [SetTimer("orphan", 3.0), Persist(first), Persist(second)]
    assert fed.feed(Persisted(first)) == []
    assert fed.feed(Persisted(second)) == []
    assert fed.feed(TimerFired("orphan")) == [Stop("the driver is gone; what was committed is saved")]


def test_what_is_counted_and_not_there_is_refused():
    fed = Fed(S1, ((S1,),))
    fed.role.shards[0].have = 1
    with pytest.raises(ProtocolError, match="shard 0 counts 1, has 0"):
        fed.role.validate()


def test_readers_of_what_is_not_applied_are_refused():
    fed = Fed(S1, ((S1,),))
    fed.role.shards[0].seen = ONE
    with pytest.raises(ProtocolError, match="shard 0 shows"):
        fed.role.validate()
