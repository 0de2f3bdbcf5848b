"""Whole runs under the simulated host. The rules they prove are listed in docs/protocol.md."""

import pytest

from trivium.core.membership import FIRST_CHECKPOINT
from trivium.core.messages import EvaluateRows, Fence, Gradient
from trivium.core.role import Address
from trivium.runtime.faults import Kill, Network, Partition, Pause, SlowDisk
from trivium.testing.counting import FAILURE
from trivium.testing.scenarios import DRIVER, Scenario, build, draw, lives, run

CHUNK = 200
CHUNKS = 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_seeds(chunk):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        run(draw(seed))


def test_a_seed_decides_everything():
    assert draw(7) == draw(7)
    one, two = (build(draw(7), trace=True) for _ in range(2))
    assert one.run().trace == two.run().trace


def test_the_seeds_draw_every_fault_and_design():
    drawn = [draw(seed) for seed in range(400)]
    assert {type(fault) for one in drawn for fault in one.faults} == {Kill, Pause, Partition, SlowDisk}
    assert {one.design for one in drawn} == {"apart", "allreduce", "sequential"}
    assert any(one.network.lost for one in drawn) and any(not one.network.ordered for one in drawn)


def ends(scenario):
    """How each life of ``scenario`` ended: the error, empty for a good end; None where the driver died."""
    found = []
    for _life, outcome in lives(scenario):
        stop = outcome.stops.get(DRIVER)
        found.append(None if stop is None else stop.error)
    return found


def test_a_worker_dies():
    one = Scenario(workers=3, lanes=8, clocks=10, faults=(Kill(Address(0, 2), 0.03),))
    life, outcome = next(lives(one))
    assert outcome.stops[DRIVER].reason == "epochs"
    assert [note.text for note in life.driver.notes] == [
        "worker 1 died (SIGKILL); its lanes went to worker 0, worker 2"
    ]


def test_the_last_worker_dies_and_the_run_is_resumed():
    one = Scenario(workers=1, clocks=10, checkpoint_every=0.02, faults=(Kill(Address(0, 1), 0.05),))
    first, last = ends(one)
    assert first == "worker 0 died (SIGKILL); no worker is left to take its lanes over"
    assert last == ""


def test_the_driver_dies_and_the_run_is_resumed_from_what_its_orphans_saved():
    one = Scenario(workers=2, shards=2, clocks=12, faults=(Kill(DRIVER, 0.04),))
    (_first, outcome), (second, _end) = lives(one)
    assert outcome.stops.keys() >= {Address(0, 3), Address(0, 4)}
    assert 0 < second.begin < 12


def test_the_driver_dies_again_and_again():
    one = Scenario(workers=2, shards=2, clocks=12, look_every=3, faults=(Kill(DRIVER, 0.03),), again=(0.03, 0.03))
    begins = [life.begin for life, _outcome in lives(one)]
    assert len(begins) == 4
    assert begins == sorted(begins)


def test_the_program_fails():
    one = Scenario(workers=2, clocks=6, fail_at=3, network=Network(lost=0.3))
    failed, well = ends(one)
    assert failed == f"worker 0: {FAILURE}"
    assert well == ""


def test_the_disk_is_full():
    full, well = ends(Scenario(workers=2, clocks=6, disk_full_after=1))
    assert "no space left" in full
    assert well == ""


def test_a_silent_member_is_retired():
    one = Scenario(workers=2, clocks=6, faults=(Partition(Address(0, 2), 0.02, 1000.0),))
    life, outcome = next(lives(one))
    assert life.driver.notes[0].text == "worker 1 gave no sign of life for 10.0 s while cut off"
    assert outcome.seconds < 15


def test_a_short_partition_is_waited_for():
    one = Scenario(workers=2, clocks=6, faults=(Partition(Address(0, 2), 0.02, 0.6),))
    life, _outcome = next(lives(one))
    assert life.driver.notes == []


def test_a_clock_longer_than_the_checkpoint_interval_ends():
    one = Scenario(workers=2, clocks=4, checkpoint_every=0.002, straggler=Address(0, 1))
    assert ends(one) == [""]


def test_a_person_stops_it_and_it_is_resumed():
    one = Scenario(workers=2, clocks=12, look_every=3, stop_at=0.05)
    (first, _outcome), (second, _end) = lives(one)
    assert first.driver.agenda.halted == "a person"
    assert second.begin == first.driver.agenda.clock


@pytest.mark.parametrize("design", ["apart", "allreduce", "sequential"])
@pytest.mark.parametrize(("long", "stop_at", "clock"), [(Gradient, 250.0, 2), (EvaluateRows, 50.0, 1)])
def test_a_stop_waits_for_no_long_compute(design, long, stop_at, clock):
    life = build(Scenario(design=design, workers=2, shards=2, clocks=4, look_every=1, stop_at=stop_at))
    life.simulation.cost = lambda _address, work, _draw: 100.0 if isinstance(work, long) else 1e-3
    outcome = life.run()
    assert outcome.stops[DRIVER].reason == "a person"
    assert outcome.seconds < stop_at + 1.0
    assert [one.clock for one in life.store.manifests] == [clock]


def test_a_checkpoint_waits_for_no_long_gradient():
    life = build(Scenario(workers=2, shards=2, clocks=3, checkpoint_every=150.0))
    life.simulation.cost = lambda _address, work, _draw: 100.0 if isinstance(work, Gradient) else 1e-3
    life.simulation.run(max_seconds=FIRST_CHECKPOINT + 1.0)
    assert [one.clock for one in life.store.manifests] == [0]


def test_a_live_process_that_never_answers_ends_the_run_with_its_name():
    life = build(Scenario(workers=2, shards=2, faults=(Kill(Address(0, 1), 0.03),)))
    deaf = life.simulation._processes[Address(0, 3)].role
    deaf._on_request[Fence] = lambda _body, _now: []
    outcome = life.simulation.run(max_seconds=600.0)
    stop = outcome.stops[DRIVER]
    assert stop.error.startswith("server 0 did not answer")
    assert outcome.seconds < 62.0
