"""The simulated host by itself, with roles that only record what they are told."""

import pytest

from trivium.core.messages import Adopt, Committed
from trivium.core.role import (
    Address,
    Compute,
    ComputeFailed,
    ComputeFinished,
    MessageReceived,
    PeerLost,
    PeerSilent,
    Persist,
    Persisted,
    Read,
    ReadReady,
    Retire,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    StopRequested,
    TimerFired,
)
from trivium.errors import StorageError
from trivium.runtime.faults import Kill, Network, Partition, Pause, SlowDisk
from trivium.runtime.simulated import Simulation

DRIVER, A, B = Address(0, 0), Address(0, 1), Address(1, 0)


class Recorder(Role):
    """Does ``at_start`` when it starts, and notes what it is told."""

    def __init__(self, me, at_start=(), on=None):
        super().__init__(me)
        self.at_start, self.on, self.told = list(at_start), on or {}, []

    def handle(self, event, now):
        self.told.append((now, event))
        if isinstance(event, Started):
            return self.at_start
        return list(self.on.get(type(event), ()))

    def got(self, kind):
        return [(now, event) for now, event in self.told if isinstance(event, kind)]


class Hands:
    """Notes the work that took effect."""

    def __init__(self, error=None):
        self.done, self.deaths, self.error = [], 0, error

    def carry_out(self, work):
        if self.error:
            raise self.error
        self.done.append(work)
        return work.shard

    def read(self, clock):
        self.done.append(clock)

    def died(self):
        self.deaths += 1


class Disk:
    def __init__(self, full=False):
        self.full, self.written, self.broken = full, [], []

    def write(self, record, plane):
        if self.full:
            raise StorageError("full")
        self.written.append(record)

    def torn(self, record):
        self.broken.append(record)


def host(*roles, seed=0, disk=None, hands=None, **settings):
    settings = {"network": Network(latency=1.0, jitter=0.0)} | settings
    simulation = Simulation(seed=seed, driver=DRIVER, cost=lambda *_: 2.0, store=disk or Disk(), **settings)
    simulation.add(Recorder(DRIVER), None)
    for role in roles:
        simulation.add(role, (hands or {}).get(role.me, Hands()))
    return simulation


def word(number):
    return Committed(1, 0, number, False)


def test_a_message_takes_its_latency():
    b = Recorder(B)
    host(Recorder(A, [Send(B, word(1))]), b).run()
    assert b.got(MessageReceived) == [(1.0, MessageReceived(A, word(1)))]


def test_links_keep_order_and_loose_networks_do_not():
    def order(ordered):
        b = Recorder(B)
        sends = [Send(B, word(n)) for n in range(50)]
        host(Recorder(A, sends), b, network=Network(latency=0.0, jitter=1.0, ordered=ordered)).run()
        return [event.message.clock for _now, event in b.got(MessageReceived)]

    assert order(True) == list(range(50))
    assert order(False) != list(range(50))
    assert sorted(order(False)) == list(range(50))


def test_shares_of_messages_are_lost_and_doubled():
    b = Recorder(B)
    host(Recorder(A, [Send(B, word(0))] * 1000), b, network=Network(lost=0.2)).run()
    assert 740 < len(b.got(MessageReceived)) < 860
    b = Recorder(B)
    host(Recorder(A, [Send(B, word(0))] * 1000), b, network=Network(doubled=0.2)).run()
    assert 1140 < len(b.got(MessageReceived)) < 1260


def test_works_are_done_one_after_the_other():
    a = Recorder(A, [Compute(Adopt(0)), Compute(Adopt(1))])
    host(a).run()
    assert a.got(ComputeFinished) == [(2.0, ComputeFinished(Adopt(0), 0)), (4.0, ComputeFinished(Adopt(1), 1))]


def test_what_a_program_raises_is_told_and_a_broken_invariant_is_not():
    a = Recorder(A, [Compute(Adopt(0))])
    host(a, hands={A: Hands(ValueError("mine"))}).run()
    assert a.got(ComputeFailed)[0][1].error == "mine"
    with pytest.raises(AssertionError, match="ours"):
        host(Recorder(A, [Compute(Adopt(0))]), hands={A: Hands(AssertionError("ours"))}).run()


def test_a_killed_process_has_no_effects_any_more():
    hands, disk, a = Hands(), Disk(), Recorder(A, [Compute(Adopt(0)), Persist(Adopt(1)), Send(B, word(1))])
    b = Recorder(B)
    simulation = host(a, b, hands={A: hands}, disk=disk, faults=[SlowDisk(A, 3.0), Kill(A, 0.5)])
    simulation.run()
    assert (hands.done, hands.deaths, disk.written, disk.broken) == ([], 1, [], [Adopt(1)])
    assert len(b.got(MessageReceived)) == 1  # it was on its way
    told = simulation._processes[DRIVER].role.got(PeerLost)
    assert [event for _now, event in told] == [PeerLost(A, "SIGKILL")]
    assert 0.5 <= told[0][0] <= 0.55


def test_members_hear_of_the_driver_s_death():
    a, b = Recorder(A), Recorder(B)
    host(a, b, faults=[Kill(DRIVER, 0.5)]).run()
    assert [role.got(PeerLost)[0][1] for role in (a, b)] == [PeerLost(DRIVER, "SIGKILL")] * 2


def test_a_stopped_process_hears_everything_later():
    a = Recorder(A, [SetTimer("t", 0.5)])
    host(a, Recorder(B, [Send(A, word(1))]), faults=[Pause(A, 0.1, 5.0)]).run()
    assert [now for now, _event in a.got(TimerFired) + a.got(MessageReceived)] == [5.1, 5.1]


def test_the_driver_hears_of_a_long_silence():
    simulation = host(Recorder(A), faults=[Pause(A, 0.1, 50.0)], patience=10.0)
    simulation.run()
    assert simulation._processes[DRIVER].role.got(PeerSilent) == [(10.1, PeerSilent(A, 10.0, "stopped"))]


def test_a_partition_loses_both_ways_until_it_is_over():
    a = Recorder(A, [SetTimer("t", 0.5), SetTimer("u", 2.0)], {TimerFired: [Send(B, word(1))]})
    b = Recorder(B, [SetTimer("t", 0.6)], {TimerFired: [Send(A, word(2))]})
    host(a, b, faults=[Partition(A, 0.1, 1.0)]).run(max_seconds=3.5)
    assert b.got(MessageReceived) == [(3.0, MessageReceived(A, word(1)))]
    assert a.got(MessageReceived) == []


def test_a_timer_is_replaced_by_name():
    a = Recorder(A, [SetTimer("t", 1.0), SetTimer("t", 2.0), SetTimer("u", 1.5)])
    host(a).run()
    assert a.got(TimerFired) == [(1.5, TimerFired("u")), (2.0, TimerFired("t"))]


def test_records_are_written_in_time_or_refused():
    disk, a = Disk(), Recorder(A, [Persist(Adopt(0))])
    host(a, disk=disk).run()
    assert (disk.written, a.got(Persisted)[0][1].error) == ([Adopt(0)], "")
    a = Recorder(A, [Persist(Adopt(0))])
    host(a, disk=Disk(full=True)).run()
    assert a.got(Persisted)[0][1].error == "full"


def test_reading_and_retiring():
    a, hands = Recorder(A, [Read(3)]), Hands()
    simulation = host(a, Recorder(B, [Retire(A, "silent")]), hands={A: hands})
    simulation.run()
    assert hands.deaths == 1
    assert [event.how for _now, event in simulation._processes[DRIVER].role.got(PeerLost)] == ["silent"]
    assert a.got(ReadReady) in ([], [(0.0, ReadReady(3))])


def test_the_end_of_the_driver_ends_all():
    simulation = host(Recorder(A, [SetTimer("t", 9.0)]), stop_at=1.0)
    simulation._processes[DRIVER].role.on = {StopRequested: [Stop("done")]}
    outcome = simulation.run()
    assert outcome.stops == {DRIVER: Stop("done")}
    assert outcome.seconds == 1.0


def test_bounds_hold():
    forever = {TimerFired: [SetTimer("t", 0.0)]}
    outcome = host(Recorder(A, [SetTimer("t", 0.0)], forever)).run(max_events=500)
    assert outcome.events == 500
    assert host(Recorder(A, [SetTimer("t", 50.0)])).run(max_seconds=10.0).seconds < 10.0


def test_a_seed_decides_all():
    def trace(seed):
        roles = Recorder(A, [Send(B, word(n)) for n in range(20)]), Recorder(B)
        return host(*roles, seed=seed, trace=True, network=Network(lost=0.3, jitter=1.0)).run().trace

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_whoever_watches_sees_every_event():
    seen = []
    outcome = host(Recorder(A, [SetTimer("t", 1.0)]), watch=lambda who, event, _done: seen.append((who, event))).run()
    assert len(seen) == outcome.events
    assert (A, TimerFired("t")) in seen
