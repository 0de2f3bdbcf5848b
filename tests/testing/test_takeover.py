"""The driver dies and another takes the run over, simulated: nothing acknowledged is lost, no look is made twice."""

import pytest

from trivium.core.messages import Request, Stand
from trivium.core.role import Address, MessageReceived, PeerJoined, PeerLost, TimerFired
from trivium.designs.ps.server import Server
from trivium.runtime.faults import Kill
from trivium.testing.scenarios_nodes import DRIVER, Scenario
from trivium.testing.takeover import drawn, run

SEEDS, SLICES = 1200, 6


@pytest.mark.parametrize("part", range(SLICES))
def test_whatever_a_seed_decides(part):
    taken = 0
    for seed in range(part, SEEDS, SLICES):
        try:
            taken += run(*drawn(seed)).took_over
        except Exception as error:
            error.add_note(f"seed {seed}: {drawn(seed)}")
            raise
    assert taken > SEEDS // SLICES // 10, "seeds in which nobody takes over say nothing"


def test_the_looks_and_the_kept_parameters_are_those_of_a_driver_that_lives():
    kept = 0
    for at in range(5, 60, 5):
        scenario = Scenario(clocks=8, look_every=1, workers=3, faults=(Kill(DRIVER, at / 1000),), seed=at)
        taken = run(scenario, at / 1000 + 0.06)
        if not taken.took_over:
            continue
        agenda = taken.life.driver.agenda
        assert [one.clock for one in agenda.history] == list(range(1, 9))
        assert agenda.best_clock == min(agenda.history, key=lambda one: (one.loss, one.clock)).clock
        kept += agenda.kept >= 0
    assert kept > 3


@pytest.mark.parametrize("rule", ["bsp", "ssp:2", "essp:2", "asp", "backup:1"])
def test_each_rule_goes_on(rule):
    for at in (0.02, 0.03, 0.04, 0.05, 0.06):
        scenario = Scenario(rule=rule, clocks=30, nodes=3, faults=(Kill(DRIVER, at),), seed=round(1000 * at))
        assert run(scenario, at + 0.1).took_over


def test_a_late_word_of_the_lost_driver_wakes_nobody():
    server = Server(Address(1, 0), DRIVER, 4, 1, reproducible=True, retry=1.0, orphan_timeout=3.0, elementwise=True)
    assert server._adoptable
    own = Server(Address(0, 1), DRIVER, 4, 1, reproducible=True, retry=1.0, orphan_timeout=3.0, elementwise=True)
    for role in (server, own):
        role.handle(lost(), 0.0)
        assert role.orphaned
        assert role.handle(MessageReceived(DRIVER, stand(5)), 0.1) == []
        assert role.orphaned, "it was under way when the driver died"
        role.handle(PeerJoined(DRIVER), 0.2)
        role.handle(MessageReceived(DRIVER, stand(6)), 0.3)
    assert not server.orphaned and server.term == 6
    assert own.orphaned, "the driver of one node has the memory: there is nothing to go on with"


def test_whoever_came_may_die_as_well_and_the_wait_begins_anew():
    server = Server(Address(1, 0), DRIVER, 4, 1, reproducible=True, retry=1.0, orphan_timeout=3.0, elementwise=True)
    server.handle(lost(), 0.0)
    server.handle(PeerJoined(DRIVER), 2.0)
    assert server.handle(fired("orphan"), 3.0) == [], "somebody is there"
    again = server.handle(lost(), 4.0)
    assert [(one.name, one.at) for one in again] == [("orphan", 7.0)]
    assert [type(one).__name__ for one in server.handle(fired("orphan"), 7.0)] == ["Stop"]


def lost():
    return PeerLost(DRIVER, "its process is gone")


def fired(name):
    return TimerFired(name)


def stand(term):
    return Request(term, 1, Stand())
