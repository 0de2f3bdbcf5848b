"""The roles by themselves: events in, commands out. Tests of the rules in ``core.member`` are named after them."""

import pytest

from trivium.core.holder import Holder
from trivium.core.lanes import Part
from trivium.core.member import Member
from trivium.core.membership import PHASES, Driver, Members
from trivium.core.messages import (
    Adopt,
    Apply,
    Assign,
    Committed,
    Done,
    Evaluate,
    EvaluateRows,
    Failed,
    Fence,
    Fold,
    Gradient,
    Keep,
    KeepShard,
    Leave,
    Manifest,
    Partials,
    Proceed,
    Push,
    Reached,
    Reply,
    Request,
    Save,
    SaveShard,
    Standing,
    Sums,
    TermRecord,
)
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import (
    Address,
    Compute,
    ComputeFailed,
    ComputeFinished,
    MessageReceived,
    PeerJoined,
    PeerLost,
    PeerSilent,
    Persist,
    Persisted,
    Read,
    ReadReady,
    Retire,
    Send,
    SetTimer,
    Started,
    Stop,
    StopRequested,
    TimerFired,
)
from trivium.core.runner import Runner
from trivium.errors import ProtocolError

DRIVER, W0, W1, S0, S1 = (Address(0, slot) for slot in range(5))
COMMON = {"reproducible": False, "retry": 0.5, "orphan_timeout": 3.0}
LEFT, RIGHT, ALL = Part(0, 4), Part(4, 8), Part(0, 8)
DONE = (False, 1, 8.0, 8.0, 4.0)  # what Apply gives


def asked(role, term, ticket, body):
    return role.handle(MessageReceived(DRIVER, Request(term, ticket, body)), 0.0)


def said(role, sender, message):
    return role.handle(MessageReceived(sender, message), 0.0)


def finished(role, work, result=None):
    return role.handle(ComputeFinished(work, result), 0.0)


def answer(term, ticket, body):
    return Send(DRIVER, Reply(term, ticket, body))


def assignment(clock=0, owners=(S0,)):
    return Assign((W0, W1), (LEFT, RIGHT), owners, clock)


def runner(owners=(S0,), until=4):
    """Worker 0 with a lease, about to read clock 0."""
    role = Runner(W0, DRIVER, 8, **COMMON)
    assert asked(role, 1, 1, assignment(owners=owners)) == [answer(1, 1, Done())]
    assert asked(role, 1, 2, Proceed(until)) == [Read(0)]
    return role


def pushed(owners=(S0,), until=4):
    """Worker 0, when it has pushed clock 0."""
    role = runner(owners, until)
    work = Gradient(0, (LEFT,))
    assert role.handle(ReadReady(0), 0.0) == [Compute(work)]
    push = Push(1, 0, (LEFT,))
    assert finished(role, work) == [Send(owner, push) for owner in owners]
    return role


def holder(elementwise=True, owners=(S0,), clock=0, me=S0):
    """A server assigned in term 1, with a lease of 4 clocks."""
    role = Holder(me, DRIVER, 8, elementwise=elementwise, **COMMON)
    mine = [shard for shard, owner in enumerate(owners) if owner == me]
    assert asked(role, 1, 1, Fence(owners)) == [Compute(Adopt(shard)) for shard in mine]
    for shard in mine:
        commands = finished(role, Adopt(shard), (clock, False))
    assert commands == [answer(1, 1, Standing(tuple((shard, clock) for shard in mine)))]
    assert asked(role, 1, 2, assignment(clock, owners)) == [answer(1, 2, Done())]
    assert asked(role, 1, 3, Proceed(clock + 4)) == []
    return role


def apply_clock(role, clock=0, term=1):
    said(role, W0, Push(term, clock, (LEFT,)))
    (command,) = said(role, W1, Push(term, clock, (RIGHT,)))
    return command.work


# -- rules of core.member ---------------------------------------------------------------------------------------------
def test_rule_1_a_runner_starts_a_clock_when_every_shard_has_committed_it():
    role = pushed(owners=(S0, S1))
    assert said(role, S0, Committed(1, 0, 1, False)) == []
    assert said(role, S1, Committed(1, 1, 1, False)) == [Read(1)]
    role.validate()


def test_rule_1_a_runner_pushes_all_its_parts_to_every_owner_once():
    role = Runner(W0, DRIVER, 8, **(COMMON | {"reproducible": True}))
    asked(role, 1, 1, Assign((W0, W1), (Part(0, 3), Part(3, 8)), (S0, S1, S0), 0))
    asked(role, 1, 2, Proceed(1))
    parts = (Part(0, 2), Part(2, 3))
    assert role.handle(ReadReady(0), 0.0) == [Compute(Gradient(0, parts))]
    push = Push(1, 0, parts)
    assert finished(role, Gradient(0, parts)) == [Send(S0, push), Send(S1, push)]


def test_rule_2_a_holder_applies_when_it_has_every_lane():
    role = holder()
    assert said(role, W0, Push(1, 0, (LEFT,))) == []
    assert said(role, W1, Push(1, 0, (RIGHT,))) == [Compute(Apply(0, 0, (LEFT, RIGHT), False, -1))]
    role.validate()


def test_rule_2_parts_of_lanes_that_it_has_are_dropped():
    role = holder()
    for _ in range(3):
        assert said(role, W0, Push(1, 0, (LEFT,))) == []
        role.validate()
    (command,) = said(role, W1, Push(1, 0, (RIGHT,)))
    assert command.work.parts == (LEFT, RIGHT)
    assert said(role, W1, Push(1, 0, (RIGHT,))) == []


def test_rule_2_parts_are_in_order_whoever_was_first():
    role = holder()
    said(role, W1, Push(1, 0, (RIGHT,)))
    (command,) = said(role, W0, Push(1, 0, (LEFT,)))
    assert command.work.parts == (LEFT, RIGHT)


def test_rule_2_a_push_of_an_applied_clock_is_answered_and_changes_nothing():
    role = holder()
    work = apply_clock(role)
    word = Committed(1, 0, 1, False)
    assert finished(role, work, DONE) == [Send(W0, word), Send(W1, word)]
    assert said(role, W0, Push(1, 0, (LEFT,))) == [Send(W0, word)]
    assert (role.shards[0].have, role.shards[0].parts) == (0, [])


def test_rule_3_a_push_beyond_the_next_clock_is_refused():
    role = holder()
    with pytest.raises(ProtocolError, match="pushed clock 1; shard 0 is at 0"):
        said(role, W0, Push(1, 1, (LEFT,)))


def test_rule_3_shards_more_than_one_clock_apart_are_refused():
    role = holder(owners=(S0, S0))
    role.shards[1].clock = 2
    with pytest.raises(ProtocolError, match=r"shards are \[0, 2\], more than one clock apart"):
        role.validate()


@pytest.mark.parametrize("elementwise", [True, False])
def test_rule_4_a_fence_is_answered_when_no_sum_is_computed(elementwise):
    role = holder(elementwise)
    work = apply_clock(role)
    assert isinstance(work, Apply if elementwise else Fold)
    assert asked(role, 2, 4, Fence((S0,))) == []
    clock = 1 if elementwise else 0
    assert finished(role, work, DONE) == [answer(2, 4, Standing(((0, clock),)))]


def test_rule_4_a_fence_forgets_what_is_not_committed():
    role = holder()
    said(role, W0, Push(1, 0, (LEFT,)))
    assert asked(role, 2, 4, Fence((S0,))) == [answer(2, 4, Standing(((0, 0),)))]
    assert (role.shards[0].have, role.shards[0].parts) == (0, [])
    assert said(role, W1, Push(1, 0, (RIGHT,))) == []  # of the term that is over
    assert role.shards[0].have == 0


def test_rule_4_an_heir_adopts_before_it_stands():
    role = holder()
    assert asked(role, 2, 4, Fence((S0, S0))) == [Compute(Adopt(1))]
    assert finished(role, Adopt(1), (1, False)) == [answer(2, 4, Standing(((0, 0), (1, 1))))]


def test_rule_5_a_settled_shard_binds_the_others():
    role = holder(elementwise=False, owners=(S0, S1))
    work = apply_clock(role)
    assert finished(role, work) == [Send(S1, Partials(1, 0, 0, False))]
    assert said(role, S1, Partials(1, 1, 0, True)) == [Compute(Apply(0, 0, (LEFT, RIGHT), True, 1))]


def test_rule_5_without_one_all_partial_sums_are_awaited():
    role = holder(elementwise=False, owners=(S0, S1))
    finished(role, apply_clock(role))
    assert said(role, S1, Partials(0, 1, 0, False)) == []  # of an old term
    assert said(role, S1, Partials(1, 1, 0, False)) == [Compute(Apply(0, 0, (LEFT, RIGHT), True, -1))]


def test_rule_5_a_shard_that_is_ahead_says_so():
    role = holder(elementwise=False, owners=(S0, S1), clock=1)
    assert said(role, S1, Partials(1, 1, 0, False)) == [Send(S1, Partials(1, 0, 0, True))]
    asked(role, 2, 4, Fence((S0, S1)))
    commands = asked(role, 2, 5, assignment(0, (S0, S1)))
    assert commands == [answer(2, 5, Done()), Send(S1, Partials(2, 0, 0, True))]


def test_rule_6_an_assignment_is_answered_when_the_old_gradient_is_done():
    role = runner()
    role.handle(ReadReady(0), 0.0)
    again = Assign((W0,), (ALL,), (S0,), 0)
    assert asked(role, 2, 3, again) == []
    assert asked(role, 2, 3, again) == []
    assert finished(role, Gradient(0, (LEFT,))) == [answer(2, 3, Done())]  # and nothing is pushed
    assert asked(role, 2, 4, Proceed(4)) == [Read(0)]
    assert role.handle(ReadReady(0), 0.0) == [Compute(Gradient(0, (ALL,)))]


def test_rule_6_a_holder_that_is_not_assigned_says_how_far_the_lease_came_and_saves():
    role = holder()
    finished(role, apply_clock(role), DONE)
    asked(role, 2, 4, Fence((S0,)))
    assert asked(role, 2, 5, Proceed(1)) == [answer(2, 5, Reached(1, False, 1, 8.0, 8.0, 4.0))]
    assert asked(role, 2, 6, Save(1, -1)) == [Persist(SaveShard(0, 1, -1))]
    assert said(role, W0, Push(1, 1, (LEFT,))) == []
    role.validate()


def test_rule_7_a_push_is_sent_again_after_a_time_without_progress():
    role = pushed()
    timer = SetTimer("retry", 0.5)
    assert role.handle(TimerFired("retry"), 0.0) == [timer]  # progress since the last one: none is known yet
    assert role.handle(TimerFired("retry"), 0.0) == [Send(S0, Push(1, 0, (LEFT,))), timer]


def test_rule_7_a_failure_is_told_until_somebody_ends_this_process():
    role = runner()
    role.handle(ReadReady(0), 0.0)
    told = Send(DRIVER, Reply(1, -1, Failed("division by zero", "Traceback …")))
    assert role.handle(ComputeFailed(Gradient(0, (LEFT,)), "division by zero", "Traceback …"), 0.0) == [told]
    for _ in range(3):
        assert told in role.handle(TimerFired("retry"), 0.0)


# -- members ----------------------------------------------------------------------------------------------------------
def test_the_same_ticket_gets_the_same_answer():
    role = runner()
    assert asked(role, 1, 2, Proceed(4)) == []  # a runner does not answer a lease
    role = holder()
    assert asked(role, 1, 2, assignment()) == []  # an older ticket than the last
    assert asked(role, 2, 4, Fence((S0,))) == asked(role, 2, 4, Fence((S0,)))


def test_a_term_begins_with_a_fence_or_an_assignment():
    role = runner()
    assert asked(role, 2, 9, Proceed(9)) == []
    assert (role.term, role.until) == (1, 4)


def test_a_lower_term_is_refused():
    role = holder()
    asked(role, 3, 4, Fence((S0,)))
    assert asked(role, 2, 5, Fence((S0,))) == []
    assert role.term == 3


def test_a_read_asked_for_in_an_old_term_is_passed_over():
    role = runner()
    assert role.stage == "reading"
    asked(role, 2, 3, assignment(1))
    assert role.stage == "idle"
    assert asked(role, 2, 4, Proceed(4)) == [Read(1)]
    assert role.handle(ReadReady(0), 0.0) == []
    assert role.handle(ReadReady(1), 0.0) == [Compute(Gradient(1, (LEFT,)))]


def test_a_runner_works_within_its_lease():
    role = pushed(until=1)
    assert said(role, S0, Committed(1, 0, 1, False)) == []
    assert asked(role, 1, 3, Proceed(2)) == [Read(1)]


def test_a_runner_stops_when_f_has_finished():
    role = pushed()
    assert said(role, S0, Committed(1, 0, 1, True)) == []
    assert role.stage == "idle"


def test_a_runner_without_lanes_answers_an_evaluation_at_once():
    role = Runner(W1, DRIVER, 8, **COMMON)
    asked(role, 1, 1, Assign((W0, W1), (ALL, Part(8, 8)), (S0,), 0))
    assert asked(role, 1, 2, Evaluate(0, ("valid",))) == [answer(1, 2, Sums(0, ()))]


def test_an_evaluation_of_before_a_fence_is_not_answered():
    role = Runner(W0, DRIVER, 8, **COMMON)
    asked(role, 1, 1, assignment())
    work = EvaluateRows(0, ("valid",), LEFT)
    assert asked(role, 1, 2, Evaluate(0, ("valid",))) == [Compute(work)]
    asked(role, 2, 3, assignment())
    assert finished(role, work, ()) == []
    assert asked(role, 2, 4, Evaluate(0, ("valid",))) == [Compute(work)]
    assert finished(role, work, ((),)) == [answer(2, 4, Sums(0, ((),)))]


def test_a_holder_says_when_the_lease_is_used_up():
    role = Holder(S0, DRIVER, 8, elementwise=True, **COMMON)
    asked(role, 1, 1, Fence((S0,)))
    finished(role, Adopt(0), (0, False))
    asked(role, 1, 2, assignment())
    assert asked(role, 1, 3, Proceed(1)) == []
    commands = finished(role, apply_clock(role), DONE)
    assert commands[-1] == answer(1, 3, Reached(1, False, 1, 8.0, 8.0, 4.0))


def test_rows_are_counted_across_terms():
    role = holder()
    finished(role, apply_clock(role, 0), DONE)
    asked(role, 2, 4, Fence((S0,)))
    asked(role, 2, 5, assignment(1))
    assert asked(role, 2, 6, Proceed(1)) == [answer(2, 6, Reached(1, False, 1, 8.0, 8.0, 4.0))]


def test_finished_shards_of_different_clocks_are_not_reached():
    role = holder(owners=(S0, S0))
    said(role, W0, Push(1, 0, (LEFT,)))
    first, second = said(role, W1, Push(1, 0, (RIGHT,)))
    ended = (True, 1, 8.0, 8.0, 4.0)
    assert not any(isinstance(c, Send) and isinstance(c.message, Reply) for c in finished(role, first.work, ended))
    assert finished(role, second.work, ended)[-1] == answer(1, 3, Reached(1, True, 1, 8.0, 8.0, 4.0))


def test_keeping_and_saving_are_answered_when_all_shards_are_done():
    role = holder(owners=(S0, S0))
    assert asked(role, 1, 4, Keep(0)) == [Compute(KeepShard(0, 0)), Compute(KeepShard(1, 0))]
    assert finished(role, KeepShard(1, 0)) == []
    assert finished(role, KeepShard(0, 0)) == [answer(1, 4, Done())]
    records = [SaveShard(0, 0, -1), SaveShard(1, 0, -1)]
    assert asked(role, 1, 5, Save(0, -1)) == [Persist(record) for record in records]
    assert role.handle(Persisted(records[0]), 0.0) == []
    assert role.handle(Persisted(records[1]), 0.0) == [answer(1, 5, Done())]


def test_what_a_slow_disk_still_writes_is_not_written_twice():
    role = holder()
    assert asked(role, 1, 4, Save(0, -1)) == [Persist(SaveShard(0, 0, -1))]
    asked(role, 2, 5, Fence((S0,)))
    asked(role, 2, 6, assignment())
    assert asked(role, 2, 7, Save(0, -1)) == []
    assert role.handle(Persisted(SaveShard(0, 0, -1)), 0.0) == [answer(2, 7, Done())]


def test_a_full_disk_is_a_failure():
    role = holder()
    asked(role, 1, 4, Save(0, -1))
    commands = role.handle(Persisted(SaveShard(0, 0, -1), "no space"), 0.0)
    assert commands == [Send(DRIVER, Reply(1, -1, Failed("no space", "", storage=True)))]


def test_an_orphan_saves_what_is_committed_and_stops():
    role = holder()
    finished(role, apply_clock(role), DONE)
    records = [SaveShard(0, 0, -1), SaveShard(0, 1, -1)]
    commands = role.handle(PeerLost(DRIVER, "SIGKILL"), 1.0)
    assert commands == [SetTimer("orphan", 4.0), *(Persist(record) for record in records)]
    assert said(role, W0, Push(1, 1, (LEFT,))) == []
    assert role.handle(Persisted(records[0]), 1.0) == []
    assert role.handle(Persisted(records[1]), 1.0) == [Stop("the driver is gone; what was committed is saved")]


def test_an_orphan_whose_disk_is_full_says_so():
    role = holder()
    finished(role, apply_clock(role), DONE)
    role.handle(PeerLost(DRIVER, "SIGKILL"), 1.0)
    assert role.handle(Persisted(SaveShard(0, 0, -1), "disk full"), 1.0) == []
    assert role.handle(Persisted(SaveShard(0, 1, -1)), 1.0) == [
        Stop("the driver is gone; not all could be saved: disk full")
    ]


def test_an_orphan_saves_no_version_that_is_not_there():
    role = holder(clock=5)
    commands = role.handle(PeerLost(DRIVER, "SIGKILL"), 1.0)
    assert commands[1:] == [Persist(SaveShard(0, 5, -1))]


def test_an_orphaned_runner_stops_in_time():
    role = runner()
    assert role.handle(PeerLost(DRIVER, "SIGKILL"), 1.0) == [SetTimer("orphan", 4.0)]
    assert role.handle(TimerFired("orphan"), 4.0) == [Stop("the driver is gone")]


def test_leaving():
    assert asked(runner(), 1, 3, Leave("epochs")) == [answer(1, 3, Done()), Stop("epochs")]


def test_what_no_part_of_a_member_handles_is_refused():
    with pytest.raises(ProtocolError, match="did not expect Push"):
        said(Member(W0, DRIVER, 8, **COMMON), W1, Push(0, 0, ()))


def test_a_protocol_error_prints_the_story():
    role = holder()
    with pytest.raises(ProtocolError) as caught:
        said(role, W0, Push(1, 7, (LEFT,)))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("Holder (0, 3): ")
    assert len(lines) == 1 + len(role.story()) == 1 + len(caught.value.story)
    assert "Fence" in lines[1]
    assert "Push(term=1, clock=7" in lines[-1]


# -- the driver -------------------------------------------------------------------------------------------------------
class Told:
    """A driver of two workers and two servers; commands of the last event."""

    def __init__(self, **changes):
        pace = Pace(total=4, every=1, watch="", last_sets=("train",))
        settings = {"lanes": 8, "shards": 2, "agenda": Agenda(pace), "retry": 0.5, "patience": 5.0}
        names = {W0: "worker 0", W1: "worker 1", S0: "server 0", S1: "server 1"}
        self.role = Driver(DRIVER, Members((W0, W1), (S0, S1)), **(settings | {"names": names} | changes))
        self.tell(Started())

    def tell(self, event, now=0.0):
        self.commands = self.role.handle(event, now)
        self.role.validate()
        return self.commands

    def answer(self, **bodies):
        """The answers of all that are asked, by kind of member."""
        for member, request in list(self.role._asked.items()):
            kind = "worker" if member in (W0, W1) else "server"
            body = bodies.get(kind, Done())
            self.tell(MessageReceived(member, Reply(request.term, request.ticket, body(member))))

    def to_acting(self, clock=0):
        for member in self.role.members.all:
            if self.role.phase == "joining":
                self.tell(PeerJoined(member))
        self.go_on(clock)
        return self

    def to_standing(self, *clocks):
        """The new term is on disk, and its holders stand at ``clocks``."""
        self.tell(Persisted(self.commands[-1].record))
        owned = {owner: [s for s, o in enumerate(self.role.owners) if o == owner] for owner in self.role.owners}
        self.answer(server=lambda me: Standing(tuple((shard, clocks[shard]) for shard in owned[me])))

    def go_on(self, clock=0):
        self.to_standing(clock, clock)
        self.answer(worker=lambda _me: Done(), server=lambda _me: Done())
        return self

    def asks(self):
        """Who is asked what by the last commands."""
        return {command.to: command.message.body for command in self.commands if isinstance(command, Send)}


def reached(clock):
    return {"worker": lambda _me: Done(), "server": lambda _me: Reached(clock, False, clock, 8.0 * clock, 8.0, 1.0)}


def test_a_term_is_on_disk_before_it_is_announced():
    told = Told()
    for member in (W0, W1, S0):
        assert told.tell(PeerJoined(member)) == []
    record = TermRecord(1, (W0, W1), (S0, S1), "start")
    assert told.tell(PeerJoined(S1)) == [Persist(record)]
    fence = Request(1, 1, Fence((S0, S1)))
    assert told.tell(Persisted(record)) == [Send(S0, fence), Send(S1, fence)]


def test_all_lanes_start_at_the_least_committed_clock():
    told = Told()
    for member in (W0, W1, S0, S1):
        told.tell(PeerJoined(member))
    told.tell(Persisted(told.commands[-1].record))
    told.tell(MessageReceived(S0, Reply(1, 1, Standing(((0, 3),)))))
    told.tell(MessageReceived(S1, Reply(1, 1, Standing(((1, 2),)))))
    body = Assign((W0, W1), (LEFT, RIGHT), (S0, S1), 2)
    assert told.commands == [Send(member, Request(1, 2, body)) for member in (W0, W1, S0, S1)]


def test_a_whole_run():
    told = Told().to_acting()
    told.answer(**reached(0))
    assert told.commands[0].message.body == Proceed(4)
    told.answer(**reached(4))
    assert told.commands[0].message.body == Evaluate(4, ("train",))
    sums = {W0: Sums(0, (((1.0, 1.0, 2.0, 1.0),) * 4,)), W1: Sums(4, (((1.0, 1.0, 4.0, 0.0),) * 4,))}
    told.answer(worker=sums.get)
    one = told.role.agenda.last["train"]
    assert (one.rows, one.loss, one.accuracy) == (8.0, 3.0, 0.5)
    assert told.commands[0].message.body == Save(4, -1)
    told.answer(server=lambda _me: Done())
    (persist,) = told.commands
    assert (persist.record.clock, type(persist.record)) == (4, Manifest)
    told.tell(Persisted(persist.record))
    assert told.commands[0].message.body == Leave("epochs")
    told.answer(worker=lambda _me: Done(), server=lambda _me: Done())
    assert told.commands == [Stop("epochs")]
    assert sum(segment.rows for segment in told.role.segments) == 32.0


def test_a_lost_worker_s_lanes_move_in_a_new_term():
    told = Told().to_acting()
    assert told.tell(PeerLost(W1, "SIGKILL")) == [Persist(TermRecord(2, (W0,), (S0, S1), "worker 1 died (SIGKILL)"))]
    told.go_on(clock=1)
    assert told.role.notes[0].text == "worker 1 died (SIGKILL); its lanes went to worker 0"
    assert told.commands[0].message.body == Proceed(1)


def test_a_lost_holder_s_shards_go_to_another():
    told = Told().to_acting()
    told.tell(PeerLost(S0, "SIGKILL"))
    assert told.role.owners == (S1, S1)


@pytest.mark.parametrize(
    ("victims", "said"),
    [((W0, W1), "no worker is left to take its lanes over"), ((S0, S1), "it alone held the parameters")],
)
def test_a_run_that_cannot_go_on_says_why(victims, said):
    told = Told().to_acting()
    for victim in victims:
        told.tell(PeerLost(victim, "SIGKILL"))
    (stop,) = told.commands
    assert (stop.exit_code, stop.kind, told.role.phase) == (3, "lost", "stopped")
    assert said in stop.error


def test_the_silent_are_retired_only_after_patience():
    told = Told().to_acting()
    assert told.tell(PeerSilent(W1, 4.9, "computing")) == []
    assert told.tell(PeerSilent(W1, 5.1, "computing")) == [Retire(W1, "silent for 5.1 s while computing")]


def test_old_answers_change_nothing():
    told = Told().to_acting()
    request = told.role._asked[W0]
    for reply in (Reply(1, request.ticket - 1, Done()), Reply(0, request.ticket, Done())):
        assert told.tell(MessageReceived(W0, reply)) == []
    assert W0 in told.role._asked


def test_whoever_has_not_answered_is_asked_again():
    told = Told().to_acting()
    request = told.role._asked[W0]
    told.tell(MessageReceived(W0, Reply(1, request.ticket, Done())))
    told.tell(TimerFired("retry"), 1.0)
    assert told.commands == [*(Send(m, request) for m in (W1, S0, S1)), SetTimer("retry", 1.5)]
    assert told.role.waiting() == ("worker 1", "server 0", "server 1")


def overdue(told, rounds=61):
    """The retries after which the driver gave up, and how."""
    for count in range(rounds):
        commands = told.tell(TimerFired("retry"))
        if any(isinstance(command, Stop) for command in commands):
            return count, commands
    return None


def test_a_request_that_needs_no_long_compute_is_not_asked_for_ever():
    told = Told(retry=1.0).to_acting()
    told.answer(**reached(0))
    told.tell(PeerLost(W1, "SIGKILL"))
    told.tell(Persisted(told.commands[-1].record))
    told.tell(MessageReceived(S1, Reply(2, told.role._ticket, Standing(((1, 0),)))))
    words = "server 0 did not answer for 61 s when asked to stand still for a new term, though alive"
    assert overdue(told) == (60, [Stop("failed", words, 1)])


def test_a_disk_that_takes_no_record_of_the_driver_ends_the_run():
    told = Told(retry=1.0)
    for member in told.role.members.all:
        told.tell(PeerJoined(member))
    count, (stop,) = overdue(told)
    assert (count, stop.kind) == (60, "storage")
    assert stop.error == "cannot write: the run directory took no record for 61 s"


def test_an_answer_of_anybody_gives_all_others_time():
    told = Told(retry=1.0).to_acting()
    told.answer(**reached(0))
    told.tell(PeerLost(W1, "SIGKILL"))
    told.tell(Persisted(told.commands[-1].record))
    assert overdue(told, 60) is None
    told.tell(MessageReceived(S1, Reply(2, told.role._ticket, Standing(((1, 0),)))))
    assert overdue(told, 60) is None


def test_what_may_wait_for_a_gradient_is_asked_as_long_as_it_takes():
    told = Told(retry=1.0).to_acting()
    told.answer(**reached(0))
    assert overdue(told, 500) is None  # a lease
    told.tell(PeerLost(W1, "SIGKILL"))
    told.to_standing(0, 0)
    for server in (S0, S1):
        told.tell(MessageReceived(server, Reply(2, told.role._ticket, Done())))
    assert told.role.waiting() == ("worker 0",)
    assert overdue(told, 500) is None  # an assignment behind an old gradient


def test_an_assignment_before_the_first_lease_waits_for_no_gradient():
    told = Told(retry=1.0, patience=10.0)
    for member in told.role.members.all:
        told.tell(PeerJoined(member))
    told.to_standing(0, 0)
    count, (stop,) = overdue(told, 200)
    assert count == 100
    assert stop.error.startswith("worker 0, worker 1, server 0, server 1 did not answer for 101 s when asked to take")


def test_a_segment_counts_once_even_if_a_term_overtakes_it():
    told = Told().to_acting()
    ticket = told.role._asked[S0].ticket
    told.tell(PeerLost(W1, "SIGKILL"))
    late = MessageReceived(S0, Reply(1, ticket, Reached(0, False, 0, 8.0, 8.0, 1.0)))
    told.tell(late)
    told.tell(late)
    assert [segment.rows for segment in told.role.segments] == [8.0]


def test_a_checkpoint_that_finds_nothing_new_waits_twice_as_long():
    told = Told(checkpoint_every=1.0).to_acting()
    told.answer(**reached(0))
    waits = []
    for _ in range(3):
        waits += [command.at for command in told.commands if isinstance(command, SetTimer)]
        told.tell(TimerFired("checkpoint"))
        told.to_standing(0, 0)
        told.answer(**reached(0))
        if told.asks()[S0] == Save(0, -1):
            told.answer(server=lambda _me: Done())
            told.tell(Persisted(told.commands[-1].record))
        told.answer(worker=lambda _me: Done(), server=lambda _me: Done())
        told.answer(**reached(0))
    assert waits == [1.0, 2.0, 4.0]


def test_a_stop_in_a_lease_goes_through_a_term():
    told = Told().to_acting()
    told.answer(**reached(0))
    (persist,) = told.tell(StopRequested("a person"))
    assert persist.record.why == "a person"
    assert told.tell(StopRequested("a person")) == []


def test_a_stop_saves_and_ends_without_a_word_from_the_runners():
    told = Told().to_acting()
    told.answer(**reached(0))
    told.tell(StopRequested("a person"))
    told.to_standing(2, 2)
    assert told.asks() == {S0: Proceed(2), S1: Proceed(2)}
    told.answer(**reached(2))
    assert told.asks() == {S0: Save(2, -1), S1: Save(2, -1)}
    told.answer(server=lambda _me: Done())
    told.tell(Persisted(told.commands[-1].record))
    assert set(told.asks()) == {W0, W1, S0, S1}
    assert set(told.asks().values()) == {Leave("a person")}
    assert told.role.waiting() == ("server 0", "server 1")  # not for a runner, which may be at an old gradient
    assert sum(segment.rows for segment in told.role.segments) == 16.0


def test_a_stop_needs_lanes_where_shards_are_apart():
    told = Told().to_acting()
    told.answer(**reached(0))
    told.tell(StopRequested("a person"))
    told.to_standing(2, 1)
    assert told.asks()[W0] == Assign((W0, W1), (LEFT, RIGHT), (S0, S1), 1)


def test_the_first_checkpoint_comes_soon_and_the_others_as_asked():
    told = Told(checkpoint_every=10.0, agenda=Agenda(Pace(total=100, every=1, watch="", last_sets=()))).to_acting()
    told.answer(**reached(0))
    waits = []
    for clock in (1, 2, 3, 4, 4, 5):
        waits += [command.at for command in told.commands if isinstance(command, SetTimer)]
        told.tell(TimerFired("checkpoint"))
        told.to_standing(clock, clock)
        told.answer(**reached(clock))
        if told.asks()[S0] == Save(clock, -1):
            told.answer(server=lambda _me: Done())
            told.tell(Persisted(told.commands[-1].record))
        told.answer(worker=lambda _me: Done(), server=lambda _me: Done())
        told.answer(**reached(clock))
    assert waits == [3.0, 10.0, 10.0, 10.0, 10.0, 20.0]


def test_a_checkpoint_is_saved_before_the_lanes_are_assigned():
    told = Told(checkpoint_every=1.0).to_acting()
    told.answer(**reached(0))
    told.tell(TimerFired("checkpoint"))
    told.to_standing(2, 2)
    told.answer(**reached(2))
    assert told.asks() == {S0: Save(2, -1), S1: Save(2, -1)}
    told.answer(server=lambda _me: Done())
    told.tell(Persisted(told.commands[-1].record))
    assert told.asks() == dict.fromkeys((W0, W1, S0, S1), Assign((W0, W1), (LEFT, RIGHT), (S0, S1), 2))


def test_a_stop_waits_for_no_evaluation():
    told = Told().to_acting()
    told.answer(**reached(0))
    told.answer(**reached(4))
    assert told.asks() == dict.fromkeys((W0, W1), Evaluate(4, ("train",)))
    told.tell(StopRequested("a person"))
    told.to_standing(4, 4)
    assert told.asks() == {S0: Save(4, -1), S1: Save(4, -1)}


def test_a_stop_waits_for_no_assignment():
    told = Told().to_acting()
    told.tell(PeerLost(W1, "SIGKILL"))
    told.to_standing(1, 1)
    assert isinstance(told.asks()[W0], Assign)
    (persist,) = told.tell(StopRequested("a person"))
    assert persist.record.why == "a person"
    told.to_standing(1, 1)
    assert told.asks() == {S0: Proceed(1), S1: Proceed(1)}


def test_a_stop_lets_all_keep_what_some_have_kept_before_it_saves():
    pace = Pace(total=4, every=1, watch="valid", last_sets=("train",), keep_best=True)
    told = Told(agenda=Agenda(pace)).to_acting()
    told.answer(**reached(0))
    told.answer(**reached(1))
    assert set(told.asks()) == {W0, W1}
    told.answer(worker=lambda me: Sums(0 if me == W0 else 4, (((1.0, 1.0, 0.5, 0.0),) * 4,)))
    assert told.asks() == {S0: Keep(1), S1: Keep(1)}
    request = told.role._asked[S0]
    told.tell(
        MessageReceived(S0, Reply(request.term, request.ticket, Done()))
    )  # its kept parameters are those of 1 now
    told.tell(StopRequested("a person"))
    told.tell(PeerLost(S1, "SIGKILL"))
    told.to_standing(1, 1)
    assert told.asks() == {S0: Keep(1)}
    told.answer(server=lambda _me: Done())
    assert told.asks() == {S0: Save(1, 1)}


def test_a_stop_before_the_start_fails():
    told = Told()
    assert told.tell(StopRequested("a person")) == [Stop("failed", "a person before the start", 1, kind="stopped")]


def test_a_failure_carries_name_and_traceback():
    told = Told().to_acting()
    told.tell(MessageReceived(W1, Reply(1, -1, Failed("division by zero", "Traceback …"))))
    assert told.commands == [Stop("failed", "worker 1: division by zero", 1, "Traceback …", "program")]


def test_a_failure_carries_its_kind_whatever_its_words():
    words = "cannot write: no space"
    told = Told().to_acting()
    told.tell(MessageReceived(W1, Reply(1, -1, Failed(words, "Traceback …"))))
    assert told.commands[0].kind == "program"
    told = Told().to_acting()
    told.tell(MessageReceived(S0, Reply(1, -1, Failed("it is full", "", storage=True))))
    assert told.commands[0].kind == "storage"
    told = Told().to_acting()
    told.tell(PeerLost(W1, "SIGKILL"))
    (persist,) = told.commands
    assert told.tell(Persisted(persist.record, "it is full"))[0].kind == "storage"


def test_only_the_phases_of_the_table_follow_each_other():
    assert set(PHASES) == set().union(*PHASES.values(), {"joining"})
    told = Told()
    with pytest.raises(ProtocolError, match="from joining to acting"):
        told.role._go("acting")
