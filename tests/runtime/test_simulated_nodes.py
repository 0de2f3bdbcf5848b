"""What the simulated host does between nodes: bulk, deaths and cuts of whole nodes, shapes, launches."""

import numpy as np
import pytest

from trivium.core.exchange import Copy, Delta
from trivium.core.messages import Adopt, Committed
from trivium.core.role import (
    Address,
    Compute,
    ComputeFinished,
    Launch,
    MessageReceived,
    PeerJoined,
    PeerLost,
    PeerSilent,
    Role,
    ScaleRequested,
    Send,
    Started,
)
from trivium.runtime.faults import CutNode, Kill, KillNode, Network, Shape, Slow
from trivium.runtime.simulated import Simulation

DRIVER, A, B, C = Address(0, 0), Address(1, 0), Address(2, 0), Address(2, 1)
DELTA = Delta(1, 0, 1, (), ())
WORD = Committed(1, 0, 1, False)


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


class Parcels:
    """Packs what it holds at that moment; notes what is unpacked, and what its role knew by then."""

    def __init__(self, role, nbytes=0):
        self.role, self.holds, self.unpacked, self.deaths = role, "first", [], 0
        self.nbytes = nbytes

    def pack(self, message):
        return [np.zeros(self.nbytes, np.uint8), self.holds]

    def unpack(self, sender, message, payload):
        self.unpacked.append((sender, message, payload[1], len(self.role.got(MessageReceived))))

    def carry_out(self, work):
        self.holds = work.shard

    def read(self, clock):
        raise NotImplementedError

    def died(self):
        self.deaths += 1


class Disk:
    def write(self, record, held):
        raise NotImplementedError


def host(*roles, planes=None, driver=None, **settings):
    settings = {"network": Network(latency=1.0, jitter=0.0)} | settings
    simulation = Simulation(seed=0, driver=DRIVER, cost=lambda *_: 2.0, store=Disk(), **settings)
    simulation.add(driver or Recorder(DRIVER), None)
    planes = planes if planes is not None else {}
    for role in roles:
        planes.setdefault(role.me, Parcels(role))
        simulation.add(role, planes[role.me])
    return simulation


def test_bulk_is_packed_at_once_and_unpacked_right_before_the_message():
    a, b = Recorder(A, [Compute(Adopt(7)), Send(B, DELTA)]), Recorder(B)
    planes = {}
    host(a, b, planes=planes).run()
    assert planes[B].unpacked == [(A, DELTA, "first", 0)]
    assert b.got(MessageReceived) == [(1.0, MessageReceived(A, DELTA))]


def test_only_bulk_is_packed_and_only_for_another_node():
    a, b, c = Recorder(A, [Send(B, WORD)]), Recorder(B, [Send(C, DELTA)]), Recorder(C)
    planes = {}
    host(a, b, c, planes=planes).run()
    assert len(b.got(MessageReceived)) == len(c.got(MessageReceived)) == 1
    assert planes[B].unpacked == planes[C].unpacked == []


def test_a_lost_message_loses_its_bulk_and_a_doubled_one_brings_it_twice():
    def unpacked(**network):
        a, b, planes = Recorder(A, [Send(B, DELTA)] * 100), Recorder(B), {}
        host(a, b, planes=planes, network=Network(**network)).run()
        assert len(b.got(MessageReceived)) == len(planes[B].unpacked)
        return len(planes[B].unpacked)

    assert 60 < unpacked(lost=0.2) < 95
    assert 105 < unpacked(doubled=0.2) < 140


def test_bulk_that_comes_to_a_dead_process_is_not_unpacked():
    a, b, planes = Recorder(A, [Send(B, DELTA)]), Recorder(B), {}
    host(a, b, planes=planes, faults=[Kill(B, 0.5)]).run()
    assert planes[B].unpacked == []


def test_planes_that_do_not_pack_are_let_be():
    class Bare:
        def carry_out(self, work):
            raise NotImplementedError

        def read(self, clock):
            raise NotImplementedError

    a, b = Recorder(A, [Send(B, Copy(1, 0, (0,), (1,), True))]), Recorder(B)
    host(a, b, planes={A: Bare(), B: Bare()}).run()
    assert len(b.got(MessageReceived)) == 1


def test_a_node_dies_as_one():
    a, b, c = Recorder(A), Recorder(B, [Compute(Adopt(0))]), Recorder(C, [Send(A, WORD)])
    driver, planes = Recorder(DRIVER), {}
    host(a, b, c, driver=driver, planes=planes, faults=[KillNode(2, 0.5)], detect=0.1).run()
    assert (planes[A].deaths, planes[B].deaths, planes[C].deaths) == (0, 1, 1)
    assert b.got(ComputeFinished) == []
    assert {event.peer for _now, event in driver.got(PeerLost)} == {B, C}
    assert len(a.got(MessageReceived)) == 1  # what was sent before may still arrive


def test_a_cut_node_hears_itself_only_and_is_told_as_silent():
    a = Recorder(A, [], {ComputeFinished: [Send(B, WORD)]})
    a.at_start = [Compute(Adopt(0))]
    b = Recorder(B, [Compute(Adopt(0))], {ComputeFinished: [Send(C, WORD), Send(A, WORD)]})
    c, driver = Recorder(C), Recorder(DRIVER)
    host(a, b, c, driver=driver, faults=[CutNode(2, 1.0, 100.0)], patience=10.0).run()
    assert (len(a.got(MessageReceived)), len(b.got(MessageReceived)), len(c.got(MessageReceived))) == (0, 0, 1)
    assert driver.got(PeerSilent) == [(11.0, PeerSilent(B, 10.0, "cut off")), (11.0, PeerSilent(C, 10.0, "cut off"))]


def test_a_short_cut_ends_in_silence_of_nobody():
    a = Recorder(A, [Compute(Adopt(0))], {ComputeFinished: [Send(B, WORD)]})
    b, driver = Recorder(B), Recorder(DRIVER)
    host(a, b, driver=driver, faults=[CutNode(2, 0.5, 1.0)], patience=10.0).run()
    assert len(b.got(MessageReceived)) == 1
    assert driver.got(PeerSilent) == []


def test_slow_works_take_longer_by_their_chance():
    def finished(chance):
        a = Recorder(A, [Compute(Adopt(0))] * 200)
        host(a, faults=[Slow(A, 4.0, chance)]).run()
        return a.got(ComputeFinished)[-1][0]

    assert finished(1.0) == 1600.0
    assert finished(0.0) == 400.0
    assert 400 + 1200 * 0.15 < finished(0.25) < 400 + 1200 * 0.35


def test_a_shape_delays_what_crosses_the_border_and_carries_bulk_one_after_the_other():
    a, b, c = Recorder(A, [Send(B, DELTA), Send(B, DELTA)]), Recorder(B, [Send(C, WORD)]), Recorder(C)
    planes = {A: Parcels(a, nbytes=1000)}
    host(a, b, c, planes=planes, faults=[Shape(2, delay=0.5, bandwidth=100.0)]).run()
    assert [now for now, _event in b.got(MessageReceived)] == pytest.approx([11.5, 21.5])
    assert c.got(MessageReceived) == [(1.0, MessageReceived(B, WORD))]


def test_a_launched_process_starts_joins_and_works():
    joiner = Recorder(C, [Send(A, WORD)])
    driver, a = Recorder(DRIVER, [Launch((C,))]), Recorder(A)
    host(a, driver=driver, spare={C: lambda: (joiner, Parcels(joiner))}, launch=3.0).run()
    (at, _started), *_ = joiner.told
    assert 0.0 < at <= 3.0
    assert (at, PeerJoined(C)) in driver.got(PeerJoined)
    assert len(a.got(MessageReceived)) == 1


def test_a_launched_process_that_dies_first_never_joins():
    joiner, driver = Recorder(C), Recorder(DRIVER, [Launch((C,))])
    host(driver=driver, spare={C: lambda: (joiner, Parcels(joiner))}, launch=3.0, faults=[KillNode(2, 0.001)]).run()
    assert joiner.told == []
    assert [event.peer for _now, event in driver.got(PeerJoined)] == []
    assert [event.peer for _now, event in driver.got(PeerLost)] == [C]


def test_what_cannot_be_launched_is_told_as_lost_and_hears_nothing():
    driver = Recorder(DRIVER, [Launch((C,)), Send(C, WORD)])
    host(driver=driver, spare={}).run()
    assert [event for _now, event in driver.got(PeerLost)] == [PeerLost(C, "did not start")]


def test_a_person_asks_for_another_size():
    driver = Recorder(DRIVER)
    host(driver=driver, scale=[(1.5, 4, 2)]).run()
    assert driver.got(ScaleRequested) == [(1.5, ScaleRequested(4, 2))]
