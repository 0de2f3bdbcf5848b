import random

import pytest

from trivium.core.lanes import Part
from trivium.core.membership import Driver, Members
from trivium.core.messages import Ahead, Apply, Committed, EvaluateRows, Fold, Gradient, Partials, Push
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address
from trivium.errors import UsageError
from trivium.runtime.costs import CostPlane, Costs, ForgetfulStore, Links
from trivium.runtime.simulated import Simulation
from trivium.testing.apart import Server, Worker

DRIVER = Address(0, 0)


def predicted(costs, *, workers=1, servers=1, lanes=8, steps=50, bandwidth=1e9, latency=0.0):
    """Seconds a step, start and end left out: the difference of two runs."""

    def run(clocks):
        members = Members(
            tuple(Address(1 + i, 0) for i in range(workers)), tuple(Address(100 + i, 0) for i in range(servers))
        )
        links = Links(costs, bandwidth, latency)
        host = Simulation(
            seed=1, driver=DRIVER, cost=costs.seconds, store=ForgetfulStore(), arrival=links.arrival, validate=True
        )
        agenda = Agenda(Pace(total=clocks, every=1, watch="", last_sets=()))
        settings = {"lanes": lanes, "shards": servers, "agenda": agenda, "retry": 1e6, "patience": 1e6, "names": {}}
        host.add(Driver(DRIVER, members, **settings), None)
        common = {"reproducible": False, "retry": 1e6, "orphan_timeout": 1.0}
        for one in members.workers:
            host.add(Worker(one, DRIVER, lanes, **common), CostPlane(lanes))
        for one in members.holders:
            host.add(Server(one, DRIVER, lanes, elementwise=True, **common), CostPlane(lanes))
        outcome = host.run()
        assert outcome.stops[DRIVER].reason == "epochs"
        return outcome.seconds

    return (run(2 * steps) - run(steps)) / steps


def test_a_step_is_the_sum_of_its_parts():
    costs = Costs(gradient=1e-3, apply=5e-4, add=1e-4, shard_bytes=1_000_000 - 64)
    transfer, latency = 1e6 / 1e9, 5e-5
    right = 8e-3 + 5e-4 + 1e-4 + 2 * (transfer + latency)
    assert predicted(costs, latency=latency) == pytest.approx(right, rel=1e-3, abs=2e-5)


def test_more_workers_share_the_lanes():
    costs = Costs(gradient=1e-3, apply=0.0)
    assert predicted(costs, workers=4) == pytest.approx(2e-3, abs=1e-5)
    assert predicted(costs, workers=8) == pytest.approx(1e-3, abs=1e-5)


def test_a_server_s_link_bounds_what_many_workers_push():
    costs = Costs(gradient=1e-6, apply=0.0, shard_bytes=1_000_000)
    assert predicted(costs, workers=8) >= 8 * 1e-3
    assert predicted(costs, workers=8, servers=2) >= 8 * 1e-3


def test_spread_makes_all_wait_for_the_slowest():
    even, uneven = Costs(gradient=1e-3, apply=0.0), Costs(gradient=1e-3, apply=0.0, spread=0.5)
    assert predicted(uneven, workers=8) > 1.5 * predicted(even, workers=8)


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Gradient(0, (Part(0, 4), Part(6, 7))), 5.0),
        (Apply(0, 0, (Part(0, 4), Part(4, 8)), False, -1), 12.0),
        (Apply(0, 0, (Part(0, 4), Part(4, 8)), True, -1), 10.0),
        (Fold(0, 0, (Part(0, 8),)), 101.0),
        (EvaluateRows(0, ("valid",), Part(2, 5)), 3000.0),
    ],
)
def test_each_kind_of_work_has_its_cost(work, seconds):
    costs = Costs(gradient=1.0, apply=10.0, add=1.0, fold=100.0, evaluate=1000.0)
    assert costs.seconds(DRIVER, work, random.Random(0)) == seconds


def test_messages_queue_at_both_ends():
    links = Links(Costs(gradient=0, apply=0, shard_bytes=936), bandwidth=1000.0, latency=0.5)
    push = Push(1, 0, (Part(0, 8),))
    a, b, c = Address(1, 0), Address(2, 0), Address(3, 0)
    assert links.arrival(a, c, push, 0.0) == 1.5
    assert links.arrival(a, b, push, 0.0) == 2.5  # left after the first
    assert links.arrival(b, c, push, 0.0) == 2.5  # came after the first
    assert links.arrival(b, Address(2, 1), push, 7.0) == 7.0
    assert links.moved == 3000


def test_only_pushes_and_commits_carry_bulk():
    links = Links(Costs(gradient=0, apply=0, shard_bytes=1000), bandwidth=1.0, latency=0.0)
    links.arrival(Address(1, 0), Address(2, 0), Partials(1, 0, 0, False), 0.0)
    assert links.moved == 64
    links.arrival(Address(1, 0), Address(2, 0), Committed(1, 0, 1, False), 0.0)
    assert links.moved == 64 + 1064


def test_costs_are_not_negative():
    with pytest.raises(UsageError, match="apply must be 0 or more, got -1"):
        Costs(gradient=1.0, apply=-1)


def test_what_is_gathered_while_others_are_waited_for_costs_nothing():
    assert Costs(1.0, 1.0).seconds(DRIVER, Ahead(1, (Part(0, 4),)), random.Random(0)) == 0.0
