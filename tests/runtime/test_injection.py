"""Plans at work: slow steps, strikes, links, and the same for the simulated host."""

import math
import pickle
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.core.role import Address
from trivium.runtime import faults
from trivium.runtime.injection import Injections, Strike


def planned(*texts):
    return Injections.parse(texts)


# -- slow steps --------------------------------------------------------------------------------------------------------
def test_who_is_not_slowed_has_no_slowness():
    plans = planned("slow:worker1:x4", "kill:worker0@3s")
    assert plans.slowness("worker 0", 7) is None
    assert plans.slowness("worker 1", 7).after(0.25, 0, 0) == 0.75
    assert planned().slowness("worker 1", 7) is None
    assert not planned()
    assert plans


@given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 7), st.floats(0, 10))
def test_a_step_is_drawn_from_seed_worker_and_clock_alone(seed, clock, lane, seconds):
    once = planned("slow:each:x4@0.5").slowness("worker 2", seed)
    again = pickle.loads(pickle.dumps(planned("slow:each:x4@0.5"))).slowness("worker 2", seed)
    again.after(1.0, clock + 1, lane)  # draws do not depend on those before
    wait = once.after(seconds, clock, lane)
    assert wait in (0.0, 3.0 * seconds)
    assert again.after(seconds, clock, 0) == wait


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_as_many_steps_are_slow_as_was_said(chance):
    plans = planned(f"slow:each:x4@{chance}")
    slow = [[plans.slowness(f"worker {i}", 3).after(1.0, clock) > 0 for clock in range(4000)] for i in range(2)]
    for draws in slow:
        assert sum(draws) / 4000 == pytest.approx(chance, abs=5 * math.sqrt(chance * (1 - chance) / 4000))
    both = sum(a and b for a, b in zip(*slow, strict=True)) / 4000
    assert both == pytest.approx(chance**2, abs=0.04)  # each worker for itself
    other = [plans.slowness("worker 0", 4).after(1.0, clock) > 0 for clock in range(4000)]
    assert other != slow[0]


def test_slow_in_two_ways_is_slow_in_both():
    slowness = planned("slow:worker1:x4", "slow:each:x2@0.5").slowness("worker 1", 0)
    waits = [slowness.after(1.0, clock) for clock in range(200)]
    assert set(waits) == {3.0, 7.0}
    twice = planned("slow:each:x2@0.5", "slow:each:x2@0.5").slowness("worker 1", 0)
    assert {twice.after(1.0, clock) for clock in range(200)} == {0.0, 1.0, 3.0}  # each plan draws for itself


# -- strikes -----------------------------------------------------------------------------------------------------------
def test_each_strikes_once_when_its_time_has_come():
    plans = planned(
        "kill:node1@clock50", "kill:driver@2s", "stop:worker1@clock5+2s", "partition:node1@1s+3s", "slow:each:x4"
    )
    assert plans.due(0, 0.0) == []
    assert plans.due(5, 0.5) == [Strike("worker 1", "stop", 2.0)]
    assert plans.due(5, 1.0) == [Strike("node 1", "cut", 3.0)]
    assert plans.due(49, 1.9) == []
    assert plans.due(120, 9.0) == [Strike("node 1", "kill"), Strike("driver", "kill")]
    assert plans.due(10**6, 1e6) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 5)), max_size=20))
def test_nothing_strikes_early_or_twice(moments):
    moments = list(zip(sorted(c for c, _ in moments), sorted(s for _, s in moments), strict=True))
    plans = planned("kill:worker0@clock7", "stop:worker1@2s+1s")
    struck = [(strike.name, clock, seconds) for clock, seconds in moments for strike in plans.due(clock, seconds)]
    by_clock = [m for m in moments if m[0] >= 7][:1]
    by_time = [m for m in moments if m[1] >= 2.0][:1]
    wanted = [("worker 0", *m) for m in by_clock] + [("worker 1", *m) for m in by_time]
    assert sorted(struck) == sorted(wanted)


def test_strikes_say_their_signal():
    assert [Strike("x", what).signal for what in ("kill", "stop", "cut")] == [signal.SIGKILL, signal.SIGSTOP, None]


# -- links and disks ---------------------------------------------------------------------------------------------------
def test_links_have_the_shape_of_both_their_ends():
    plans = planned(
        "delay:5ms", "delay:node1:20ms", "bandwidth:100Mbit", "bandwidth:node1:1Gbit", "bandwidth:node2:8Mbit"
    )
    assert plans.shape(0) == pytest.approx((0.005, 12.5e6))
    assert plans.shape(1) == pytest.approx((0.025, 12.5e6))
    assert plans.shape(2) == pytest.approx((0.005, 1e6))
    assert plans.between(0, 1) == pytest.approx((0.025, 12.5e6))
    assert plans.between(1, 2) == plans.between(2, 1) == pytest.approx((0.025, 1e6))
    assert planned("slow:each:x4").shape(0) == (0, math.inf)


def test_disks_of_those_who_were_named_are_slow():
    plans = planned("slowdisk:server0:0.5s", "slowdisk:server0:250ms")
    assert plans.disk("server 0") == 0.75
    assert plans.disk("server 1") == 0


# -- the simulated host ------------------------------------------------------------------------------------------------
ADDRESSES = {
    "driver": Address(0, 0),
    "node 0": Address(1, 0),
    "node 1": Address(2, 0),
    "server 0": Address(1, 0),
    "server 1": Address(2, 0),
    "worker 0": Address(1, 1),
    "worker 1": Address(2, 1),
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("slow:worker1:x4", [faults.Slow(Address(2, 1), 4.0, 1.0)]),
        ("slow:each:x4@0.1", [faults.Slow(Address(1, 1), 4.0, 0.1), faults.Slow(Address(2, 1), 4.0, 0.1)]),
        ("kill:node1@clock50", [faults.KillNode(2, 5.0)]),
        ("kill:server0@3s", [faults.Kill(Address(1, 0), 3.0)]),
        ("kill:driver@clock20", [faults.Kill(Address(0, 0), 2.0)]),
        ("stop:worker1@clock5+2s", [faults.Pause(Address(2, 1), 0.5, 2.0)]),
        ("stop:node0@1s+2s", [faults.Pause(Address(1, 0), 1.0, 2.0), faults.Pause(Address(1, 1), 1.0, 2.0)]),
        ("partition:node1@clock20+3s", [faults.CutNode(2, 2.0, 3.0)]),
        ("slowdisk:server0:0.5s", [faults.SlowDisk(Address(1, 0), 0.5)]),
        ("delay:node1:20ms", [faults.Shape(2, 0.02)]),
        ("delay:5ms", [faults.Shape(1, 0.0025), faults.Shape(2, 0.0025)]),
        ("bandwidth:node0:1Gbit", [faults.Shape(1, 0.0, 125e6)]),
    ],
)
def test_the_same_plans_drive_the_simulated_host(text, wanted):
    assert list(planned(text).as_faults(ADDRESSES, seconds_per_clock=0.1)) == wanted


def test_one_shape_a_node_holds_all_that_is_wrong_with_it():
    found = planned("delay:4ms", "delay:node1:20ms", "bandwidth:8Mbit").as_faults(ADDRESSES, 0.1)
    assert list(found) == [faults.Shape(1, 0.002, 1e6), faults.Shape(2, 0.022, 1e6)]
    assert found[0].delay + found[1].delay == planned("delay:4ms", "delay:node1:20ms").between(0, 1)[0]
