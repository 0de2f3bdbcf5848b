"""Who waited for whom, as workers tell it, and what was dropped, as servers do: roles fed by hand."""

import pytest

from trivium.core.consistency import Rule
from trivium.core.exchange import Advance, View
from trivium.core.lanes import Part
from trivium.core.membership import Members
from trivium.core.messages import (
    Adopt,
    Gradient,
    Leave,
    Left,
    Place,
    Proceed,
    Push,
    Reply,
    Request,
    Served,
    Stand,
)
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address, Compute, ComputeFinished, MessageReceived, ReadReady, Send, Started
from trivium.designs.ps.driver import NodesDriver
from trivium.designs.ps.server import Server
from trivium.designs.ps.worker import Worker

DRIVER, SERVER, ADA, BOB, EVE = (Address(0, slot) for slot in range(5))
LANES = 3
SETTINGS = {"reproducible": False, "retry": 1.0, "orphan_timeout": 3.0}


def place(rule, applied=(0, 0, 0)):
    ranges = tuple(Part(lane, lane + 1) for lane in range(LANES))
    return Place(Rule.parse(rule), (ADA, BOB, EVE), ranges, ((SERVER,),), (SERVER,), (applied,), (), False)


class Told:
    """A role, and what it says."""

    def __init__(self, role):
        self.role, self.ticket, self.commands = role, 0, []

    def hear(self, message, now, sender=DRIVER):
        self.commands = self.role.handle(MessageReceived(sender, message), now)
        return self.commands

    def ask(self, body, now):
        self.ticket += 1
        return self.hear(Request(1, self.ticket, body), now)

    def said(self, kind):
        return [one.message for one in self.commands if isinstance(one, Send) and isinstance(one.message, kind)]


class Ada(Told):
    """The worker of lane 0."""

    def __init__(self, rule):
        super().__init__(Worker(ADA, DRIVER, SERVER, LANES, **SETTINGS))
        self.role.handle(Started(), 0.0)
        self.ask(place(rule), 0.0)
        self.ask(Proceed(100), 0.0)
        self.view(0, 0, 0, 0.0)

    def view(self, taken, floor, last, now):
        self.hear(View(1, (taken,), floor, last, False), now, SERVER)

    def step(self, clock, now):
        """Read and compute; done at ``now``."""
        self.role.handle(ReadReady(clock), now)
        self.role.handle(ComputeFinished(Gradient(clock, (Part(0, 1),)), None), now)

    def left(self):
        self.ask(Leave("over"), 99.0)
        (reply,) = self.said(Reply)
        assert isinstance(reply.body, Left)
        return dict(reply.body.waited), reply.body.lags


def test_under_bsp_a_wait_is_for_whose_lane_came_last():
    ada = Ada("bsp")
    ada.step(0, 1.0)
    ada.view(1, 1, 2, 3.5)  # lane 2 came last
    ada.step(1, 4.0)
    ada.view(2, 2, 1, 4.5)
    ada.step(2, 9.0)
    ada.view(3, 3, 0, 9.5)  # its own: it waited for the server alone
    waited, lags = ada.left()
    assert waited == {EVE: 2.5, BOB: 0.5}
    assert lags[0] == 4 and not any(lags[1:])


def test_time_between_two_leases_is_nobodys_fault():
    ada = Ada("bsp")
    ada.ask(Proceed(1), 0.0)
    ada.step(0, 1.0)
    ada.view(1, 1, 1, 2.0)
    ada.ask(Proceed(2), 50.0)
    assert ada.left()[0] == {BOB: 1.0}


def test_where_lanes_run_apart_a_wait_is_for_the_lane_that_was_missing():
    ada = Ada("ssp:1")
    ada.step(0, 1.0)
    ada.view(1, 0, 2, 1.0)  # goes on at once, a clock ahead of lane 2
    ada.step(1, 2.0)
    ada.view(2, 0, 2, 2.0)  # two clocks ahead: it waits
    ada.view(2, 0, 1, 4.0)  # lane 2 came, lane 1 is missing still
    ada.view(2, 1, 2, 5.0)
    waited, lags = ada.left()
    assert waited == {BOB: 3.0}
    assert lags[:3] == (1, 2, 0)


class Ps(Told):
    """The only server."""

    def __init__(self, rule):
        super().__init__(Server(SERVER, DRIVER, LANES, 1, elementwise=True, **SETTINGS))
        self.role.handle(Started(), 0.0)
        self.role.handle(ComputeFinished(Adopt(0), (0, False)), 0.0)
        self.ask(Stand(), 0.0)
        self.ask(place(rule), 0.0)
        self.ask(Proceed(100), 0.0)

    def push(self, lane, clock):
        self.hear(Push(1, clock, (Part(lane, lane + 1),)), 1.0, (ADA, BOB, EVE)[lane])
        works = [one.work for one in self.commands if isinstance(one, Compute) and isinstance(one.work, Advance)]
        for work in works:
            self.commands = self.role.handle(ComputeFinished(work, (False, 1, 3.0, 3.0, 0.5)), 1.0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_server_tells_which_lane_came_last(order):
    server = Ps("bsp")
    for lane in order:
        server.push(lane, 0)
    assert [view.last for view in server.said(View)] == [order[-1]] * 3


def test_a_server_tells_how_many_deltas_were_left_out():
    server = Ps("backup:1")
    for clock in range(4):
        for lane in (0, 1):
            server.push(lane, clock)
    server.ask(Leave("over"), 9.0)
    assert [reply.body for reply in server.said(Reply)] == [Served(4)]


def test_the_driver_keeps_what_all_of_them_tell():
    names = {SERVER: "server 0", ADA: "worker 0"}
    driver = NodesDriver(
        DRIVER,
        Members((ADA,), (SERVER,)),
        rule=Rule.parse("backup:1"),
        copies=1,
        lanes=LANES,
        shards=1,
        agenda=Agenda(Pace(1, 1, "", ())),
        retry=1.0,
        patience=10.0,
        names=names,
    )
    driver._dismissed = {EVE: Request(1, 7, Leave("it was scaled away"))}
    driver.handle(MessageReceived(EVE, Reply(1, 7, Left((3,), ((ADA, 2.0),)))), 1.0)
    assert driver.left == {EVE: Left((3,), ((ADA, 2.0),))}
    driver._remember(SERVER, Served(4))
    driver._remember(SERVER, Served(2))
    assert driver.dropped == 6
