import pytest

from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.core.role import Stop
from trivium.testing.replay import Difference, replay
from trivium.testing.scenarios import DRIVER, Scenario, build, draw, member, pace, topology


def fresh(scenario, shards):
    members, names = topology(scenario)
    driver = Driver(
        DRIVER,
        members,
        lanes=scenario.lanes,
        shards=shards,
        agenda=Agenda(pace(scenario)),
        retry=0.5,
        patience=5.0,
        names=names,
        checkpoint_every=scenario.checkpoint_every,
    )
    return {DRIVER: driver} | {address: member(scenario, address, members) for address in members.all}


@pytest.mark.parametrize("seed", range(25))
def test_a_recorded_run_gives_the_same_commands(seed):
    scenario = draw(seed)
    life = build(scenario, trace=True)
    trace = life.run().trace
    assert len(trace) > 0
    assert replay(trace, fresh(scenario, life.memory.shards)) == len(trace)


def test_another_plan_gives_other_commands():
    life = build(Scenario(clocks=6), trace=True)
    trace = life.run().trace
    with pytest.raises(Difference, match=r"recorded .* now "):
        replay(trace, fresh(Scenario(clocks=7), 1))


def test_one_command_more_shows():
    life = build(Scenario(clocks=3), trace=True)
    now, address, event, commands = life.run().trace[-1]
    trace = [*life.simulation.trace[:-1], (now, address, event, [*commands, Stop("x")])]
    with pytest.raises(Difference):
        replay(trace, fresh(life.scenario, 1))


def test_a_stranger_is_told():
    life = build(Scenario(clocks=3), trace=True)
    with pytest.raises(Difference, match="no role"):
        replay(life.run().trace, {})
