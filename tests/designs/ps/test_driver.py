"""The driver of a parameter server by itself: what members say goes in, what is asked of them comes out."""

import pytest

from trivium.core.consistency import Rule
from trivium.core.exchange import Dropped, Learn, Learned, Tempo
from trivium.core.lanes import Part
from trivium.core.membership import Members
from trivium.core.messages import (
    Copied,
    Done,
    Leave,
    Left,
    Manifest,
    Place,
    Proceed,
    Reached,
    Reply,
    Request,
    Save,
    Stand,
    Stands,
    TermRecord,
)
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import (
    Address,
    Launch,
    MessageReceived,
    PeerJoined,
    PeerLost,
    Persist,
    Persisted,
    ScaleRequested,
    Send,
    Started,
    Stop,
    SwitchRequested,
    TimerFired,
)
from trivium.designs.ps.change import topology
from trivium.designs.ps.driver import NodesDriver

DRIVER, LANES = Address(0, 0), 4
S1, S2, S3 = (Address(node, 0) for node in (1, 2, 3))
W1, W2, W3 = (Address(node, 1) for node in (1, 2, 3))


class Advice:
    """A balancer that says what it is told to say."""

    def __init__(self):
        self.told, self.says, self.ranges = [], None, ()

    def heard(self, worker, seconds, _now):
        self.told.append((worker, seconds))

    def dropped(self, lane, _now):
        self.told.append(lane)

    def advice(self, _now):
        says, self.says = self.says, None
        return says

    def changed(self, _members, ranges, _now):
        self.ranges = tuple(ranges)


class Fed:
    """A driver, and what its members hold: of each server, the clocks of each shard's copy."""

    def __init__(self, workers=2, nodes=2, *, shards=2, copies=2, rule="bsp", clocks=8, balance=None):
        members, names = topology(workers, nodes)
        self.role = NodesDriver(
            DRIVER,
            members,
            rule=Rule.parse(rule),
            copies=copies,
            balance=balance,
            lanes=LANES,
            shards=shards,
            agenda=Agenda(Pace(clocks, 1, "", ())),
            retry=0.5,
            patience=10.0,
            names=names,
        )
        self.asked, self.commands, self.shards = {}, [], shards
        zero = (0,) * LANES
        self.copies = {one: dict.fromkeys(range(shards), (zero, zero)) for one in members.holders}
        self.feed(Started())
        for one in members.all:
            self.feed(PeerJoined(one))

    def feed(self, event, now=0.0):
        self.commands = self.role.handle(event, now)
        self.role.validate()
        for one in self.commands:
            if isinstance(one, Send) and isinstance(one.message, Request):
                self.asked[one.to] = one.message
        return self.commands

    def of(self, kind):
        """What was asked last of whom, where it is of ``kind``."""
        return {one: request.body for one, request in self.asked.items() if isinstance(request.body, kind)}

    def answer(self, peer, body):
        request = self.asked.pop(peer)
        return self.feed(MessageReceived(peer, Reply(request.term, request.ticket, body)))

    def say(self, peer, message):
        return self.feed(MessageReceived(peer, message))

    def written(self):
        """What was to be written is on disk."""
        for one in [one for one in self.commands if isinstance(one, Persist)]:
            self.feed(Persisted(one.record))

    def stand(self):
        """The term is on disk, and all servers stand as ``copies`` says."""
        self.written()
        for server in list(self.of(Stand)):
            held = self.copies.get(server, {})
            self.answer(server, Stands(tuple(Copied(shard, *clocks, False) for shard, clocks in held.items())))

    def begin(self):
        """To the lease: all stand, all are placed, all proceed."""
        self.stand()
        placed = self.of(Place)
        while self.of(Place):
            self.answer(next(iter(self.of(Place))), Done())
        place = next(iter(placed.values()))
        for server, held in self.copies.items():
            self.copies[server] = {shard: held[shard] for shard in held if server in place.holders[shard]}
        self.lease()
        return place

    def lease(self):
        """Workers take the lease; the first one, which ends where it begins, is used up at once."""
        first = False
        for one, request in list(self.asked.items()):
            if not isinstance(request.body, Proceed) or self.asked.get(one) is not request:
                continue
            if one in self.role.members.workers:
                self.answer(one, Done())
            elif request.body.until == 0:
                first = True
                self.answer(one, Reached(0, False, 0, 0.0, 0.0, 0.0))
        if first:
            self.written()
            self.lease()

    def hold(self, server, shard, clocks, before=None):
        """``server`` has come to these ``clocks``."""
        self.copies[server][shard] = (clocks, before or clocks)

    @property
    def notes(self):
        return [one.text for one in self.role.notes]


def sent(commands, kind):
    return [(one.to, one.message) for one in commands if isinstance(one, Send) and isinstance(one.message, kind)]


# -- a term -----------------------------------------------------------------------------------------------------------
def test_a_term_is_on_disk_before_servers_stand_and_placed_before_it_proceeds():
    fed = Fed()
    (record,) = [one.record for one in fed.commands if isinstance(one, Persist)]
    assert isinstance(record, TermRecord)
    assert fed.asked == {}
    fed.feed(Persisted(record))
    assert set(fed.of(Stand)) == {S1, S2}
    fed.stand()
    assert set(fed.of(Place)) == {S1, S2, W1, W2}
    for one in (S1, S2, W1):
        fed.answer(one, Done())
        assert not fed.of(Proceed)
    fed.answer(W2, Done())
    assert set(fed.of(Proceed)) == {S1, S2, W1, W2}


def test_copies_go_round_and_no_server_leads_all():
    place = Fed(3, 3, shards=3).begin()
    assert place.holders == ((S1, S2), (S2, S3), (S3, S1))
    assert place.servers == (S1, S2, S3)
    assert place.ranges == (Part(0, 1), Part(1, 2), Part(2, 4))


@pytest.mark.parametrize(("copies", "held"), [(1, 1), (2, 2), (5, 2)])
def test_there_are_as_many_copies_as_were_asked_for_but_no_more_than_nodes(copies, held):
    place = Fed(copies=copies).begin()
    assert {len(one) for one in place.holders} == {held}


def test_the_copy_that_is_furthest_leads_and_one_that_is_a_step_behind_gets_that_step():
    fed = Fed()
    fed.begin()
    fed.hold(S1, 0, (1,) * LANES)
    fed.hold(S2, 0, (2,) * LANES, (1,) * LANES)
    fed.hold(S1, 1, (1,) * LANES)
    fed.hold(S2, 1, (1,) * LANES)
    fed.feed(PeerLost(W1, "SIGKILL"))
    place = fed.begin()
    assert place.holders[0] == (S2, S1)
    assert place.applied == ((2,) * LANES, (1,) * LANES)
    assert place.behind == (0,)


def test_a_copy_that_is_further_behind_does_not_count():
    fed = Fed()
    fed.begin()
    fed.hold(S1, 0, (3,) * LANES, (2,) * LANES)
    fed.feed(PeerLost(W1, "SIGKILL"))
    place = fed.begin()
    assert place.holders[0] == (S1,)
    again = fed.feed(TimerFired("retry"), 1.0)
    assert sent(again, Learn) == [(S2, Learn(fed.role.term, (0,), (S1,)))]  # it learns the shard anew


def test_what_was_acknowledged_is_held_by_who_counted_not_by_who_learned_something_else():
    """A copy that never counted may not lead while one that did is there, however far it is."""
    fed = Fed(3, 3, shards=1)
    fed.begin()
    fed.hold(S3, 0, (9,) * LANES)
    fed.feed(PeerLost(W3, "SIGKILL"))
    place = fed.begin()
    assert place.holders[0][0] == S1
    assert place.applied == ((0,) * LANES,)


# -- losses -----------------------------------------------------------------------------------------------------------
def test_a_worker_s_lanes_go_to_the_others():
    fed = Fed()
    fed.begin()
    fed.feed(PeerLost(W1, "SIGKILL"))
    place = fed.begin()
    assert (place.workers, place.ranges) == ((W2,), (Part(0, 4),))
    assert "worker 0 died (SIGKILL); its lanes went to worker 1" in fed.notes


def test_a_lost_server_takes_its_node_s_workers_with_it_and_other_copies_take_over():
    fed = Fed()
    fed.begin()
    fed.feed(PeerLost(S1, "SIGKILL"))
    del fed.copies[S1]
    place = fed.begin()
    assert place.holders == ((S2,), (S2,))
    assert place.workers == (W2,)
    (note,) = [text for text in fed.notes if "server 0 died" in text]
    assert "its node's 1 workers went with it; other copies take over 1 of its shards" in note


def test_the_last_copy_s_death_ends_the_run_with_its_name():
    fed = Fed(copies=1)
    fed.begin()
    fed.feed(PeerLost(S1, "SIGKILL"))
    del fed.copies[S1]
    fed.stand()
    (stop,) = [one for one in fed.commands if isinstance(one, Stop)]
    assert stop.error == "no copy is left of 1 of the 2 shards"
    assert stop.kind == "lost"


def test_the_last_worker_s_death_ends_the_run():
    fed = Fed(1, 1)
    fed.begin()
    worker = fed.role.members.workers[0]
    (stop,) = [one for one in fed.feed(PeerLost(worker, "SIGKILL")) if isinstance(one, Stop)]
    assert "no worker is left to take its lanes over" in stop.error


def test_missing_copies_are_learned_while_training_goes_on_and_count_from_the_next_term():
    fed = Fed(3, 3, shards=1)
    fed.begin()
    fed.feed(PeerLost(S2, "SIGKILL"))
    del fed.copies[S2]
    place = fed.begin()
    assert place.holders == ((S1,),)
    assert set(fed.of(Proceed)) >= {S1}  # the lease is out
    learn = Learn(fed.role.term, (0,), (S1,))
    assert sent(fed.feed(TimerFired("retry"), 1.0), Learn) == [(S3, learn)]
    fed.hold(S3, 0, (0,) * LANES)
    fed.say(S3, Learned(fed.role.term, (0,)))
    assert fed.begin().holders == ((S1, S3),)
    assert "2 copies of all shards again" in fed.notes


def test_learned_of_an_old_term_changes_nothing():
    fed = Fed(3, 3, shards=1)
    fed.begin()
    fed.feed(PeerLost(S2, "SIGKILL"))
    del fed.copies[S2]
    fed.begin()
    term = fed.role.term
    assert fed.say(S3, Learned(term - 1, (0,))) == []
    assert fed.role.term == term


# -- balance ----------------------------------------------------------------------------------------------------------
def test_lanes_move_by_a_term_of_their_own():
    advice = Advice()
    fed = Fed(rule="ssp:3", balance=advice)
    assert fed.begin().tempo
    fed.say(W1, Tempo(1, 0.1))
    assert fed.role.term == 1
    advice.says = (3, 1)
    fed.say(W2, Tempo(1, 0.3))
    assert advice.told == [(W1, 0.1), (W2, 0.3)]
    place = fed.begin()
    assert place.ranges == (Part(0, 3), Part(3, 4)) == advice.ranges
    assert any(text.startswith("lanes move: 3, 1") for text in fed.notes)


def test_what_a_worker_says_of_an_old_term_is_passed_over():
    advice = Advice()
    fed = Fed(rule="ssp:3", balance=advice)
    fed.begin()
    fed.say(W1, Tempo(0, 0.1))
    assert advice.told == []


def test_a_lane_that_was_left_out_twice_is_told_to_balance():
    advice = Advice()
    fed = Fed(rule="backup:1", balance=advice)
    fed.begin()
    fed.say(S1, Dropped(1, (3,)))
    assert advice.told == [3]


def test_a_loss_cuts_lanes_evenly_again():
    advice = Advice()
    fed = Fed(3, 3, rule="ssp:3", balance=advice)
    fed.begin()
    advice.says = (2, 1, 1)
    fed.say(W2, Tempo(1, 0.3))
    fed.begin()
    fed.feed(PeerLost(W1, "SIGKILL"))
    assert fed.begin().ranges == (Part(0, 2), Part(2, 4))


# -- size -------------------------------------------------------------------------------------------------------------
def test_a_joiner_is_started_and_warm_before_the_term_that_counts_it():
    fed = Fed()
    fed.begin()
    (launch,) = fed.feed(ScaleRequested(3))
    assert isinstance(launch, Launch)
    (joiner,) = launch.peers
    assert fed.role.term == 1
    fed.feed(PeerJoined(joiner))
    place = fed.begin()
    assert joiner in place.workers
    assert place.ranges == (Part(0, 1), Part(1, 2), Part(2, 4))


def test_a_joining_node_has_its_copies_before_it_counts():
    fed = Fed()
    fed.begin()
    (launch,) = fed.feed(ScaleRequested(3, 3))
    assert set(launch.peers) == {S3, W3}
    fed.feed(PeerJoined(S3))
    assert not sent(fed.feed(PeerJoined(W3)), Request)
    ((to, learn),) = sent(fed.commands, Learn)
    assert to == S3
    assert fed.role.term == 1
    fed.copies[S3] = dict.fromkeys(learn.shards, ((0,) * LANES, (0,) * LANES))
    fed.say(S3, Learned(1, learn.shards))
    place = fed.begin()
    assert S3 in place.servers and any(S3 in held for held in place.holders)


def test_a_scale_is_called_off_where_a_joiner_dies():
    fed = Fed()
    fed.begin()
    fed.feed(ScaleRequested(3, 3))
    fed.feed(PeerJoined(S3))
    commands = fed.feed(PeerLost(W3, "did not start"))
    assert [to for to, message in sent(commands, Request) if isinstance(message.body, Leave)] == [S3]
    assert (fed.role.term, fed.role.change) == (1, None)
    assert any(
        "before it joined: 3 workers on 3 nodes, before 2 workers on 2 nodes is called off" in t for t in fed.notes
    )
    assert fed.role.members == Members((W1, W2), (S1, S2))


def test_those_that_are_scaled_away_leave_after_the_term_that_is_without_them():
    fed = Fed(4, 2)
    fed.begin()
    fed.feed(ScaleRequested(2))
    place = fed.begin()
    assert len(place.workers) == 2
    leaving = fed.of(Leave)
    assert len(leaving) == 2 and not set(leaving) & set(place.workers)
    one = next(iter(leaving))
    fed.answer(one, Left((3,), ()))
    assert fed.role.left[one] == Left((3,), ())


def test_one_change_at_a_time():
    fed = Fed()
    fed.begin()
    fed.feed(ScaleRequested(3))
    assert fed.feed(ScaleRequested(4)) == []
    assert fed.notes[-1] == "scale to 4 workers: another change is under way; ask again"


def test_more_workers_than_lanes_are_refused():
    fed = Fed()
    fed.begin()
    assert fed.feed(ScaleRequested(LANES + 1)) == []
    assert fed.notes[-1] == "scale to 5 workers: there are 4 lanes, a worker needs one"


def test_a_worker_s_death_in_the_middle_of_a_change_does_not_stop_the_change():
    fed = Fed()
    fed.begin()
    (launch,) = fed.feed(ScaleRequested(3))
    fed.feed(PeerLost(W1, "SIGKILL"))
    fed.begin()
    fed.feed(PeerJoined(launch.peers[0]))
    assert launch.peers[0] in fed.begin().workers


# -- another consistency ----------------------------------------------------------------------------------------------
def test_another_consistency_begins_where_all_lanes_are_at_one_clock():
    fed = Fed(rule="ssp:3")
    fed.begin()
    fed.feed(SwitchRequested("bsp"))
    for one in (S1, S2):
        for shard in (0, 1):
            fed.hold(one, shard, (3, 2, 2, 2))
    place = fed.begin()
    assert place.rule == Rule("ssp", 3)  # the lanes are apart still
    assert {body.until for body in fed.of(Proceed).values()} == {3}  # the lease is cut short there
    for one in (S1, S2):
        for shard in (0, 1):
            fed.hold(one, shard, (3,) * LANES)
        fed.answer(one, Reached(3, False, 3, 8.0, 8.0, 4.0))
    fed.written()
    assert fed.begin().rule == Rule()  # of a term of its own


def test_the_consistency_that_there_is_needs_no_term():
    fed = Fed(rule="ssp:3")
    fed.begin()
    assert fed.feed(SwitchRequested("ssp:3")) == []
    assert fed.role.term == 1


# -- the end ----------------------------------------------------------------------------------------------------------
def test_a_run_ends_with_a_checkpoint_and_all_leave():
    fed = Fed(clocks=1)
    fed.begin()
    for one in (S1, S2):
        fed.answer(one, Reached(1, False, 1, 8.0, 8.0, 4.0))
    fed.written()
    assert {body.clock for body in fed.of(Save).values()} == {1}
    for one in (S1, S2):
        fed.answer(one, Done())
    (manifest,) = [one.record for one in fed.commands if isinstance(one, Persist)]
    assert isinstance(manifest, Manifest)
    fed.feed(Persisted(manifest))
    assert set(fed.of(Leave)) == {S1, S2, W1, W2}
    for one in (S1, S2, W1):
        fed.answer(one, Done())
    (stop,) = [one for one in fed.answer(W2, Left((1,), ((W1, 0.5),))) if isinstance(one, Stop)]
    assert (stop.reason, stop.error) == ("epochs", "")
    assert fed.role.left == {W2: Left((1,), ((W1, 0.5),))}


def test_requests_are_sent_again_until_they_are_answered():
    fed = Fed()
    fed.stand()
    fed.answer(S1, Done())
    again = {to for to, message in sent(fed.feed(TimerFired("retry"), 0.5), Request) if isinstance(message.body, Place)}
    assert again == {S2, W1, W2}
