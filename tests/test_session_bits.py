"""The same plan gives the same bits: for any number of workers, through deaths, on processes and simulated."""

import os
import signal
from dataclasses import replace

import pytest

from tests.watching import alive, network_job, strike, uneven_job, wide_job
from trivium.core.role import Address
from trivium.errors import RunError
from trivium.program.optimizers import optimizer
from trivium.runtime.faults import Kill, Network, Pause
from trivium.testing.simulating import simulate

pytestmark = pytest.mark.slow
JOBS = {"wide": wide_job, "network": network_job, "uneven": uneven_job}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The digest that every run of a job must end in."""
    out = tmp_path_factory.mktemp("never") / "run"
    return {name: simulate(job(out, "sequential", 1)).params_sha256 for name, job in JOBS.items()}


def kill_one(live):
    os.kill(live.pids["worker 1"], signal.SIGKILL)


def stop_one(live):
    os.kill(live.pids["worker 1"], signal.SIGSTOP)


@pytest.mark.parametrize("name", JOBS)
def test_a_sequential_run_has_the_bits_of_the_simulation(name, warm, simulated, tmp_path):
    record = warm.run(JOBS[name](tmp_path / "run", "sequential", 1))
    assert record.params_sha256 == simulated[name]
    assert record.reproducible and record.notices == ()


@pytest.mark.parametrize(
    ("name", "design", "workers", "shards"),
    [
        ("wide", "ps", 1, None),
        ("wide", "ps", 2, 1),
        ("wide", "ps", 3, 3),
        ("wide", "allreduce", 1, 1),
        ("wide", "allreduce", 2, 3),
        ("wide", "allreduce", 4, 3),
        ("network", "ps", 1, 2),
        ("network", "ps", 4, 1),
        ("network", "allreduce", 2, None),
        ("network", "allreduce", 3, 2),
        ("uneven", "ps", 2, 1),
        ("uneven", "allreduce", 4, None),
    ],
)
def test_workers_and_shards_do_not_change_bits(name, design, workers, shards, warm, simulated, tmp_path):
    record = warm.run(JOBS[name](tmp_path / "run", design, workers, shards=shards))
    assert record.params_sha256 == simulated[name]
    assert record.workers == workers


@pytest.mark.parametrize(
    ("name", "design", "workers", "shards"),
    [
        ("wide", "ps", 2, 3),
        ("wide", "ps", 4, 1),
        ("wide", "allreduce", 3, 3),
        ("wide", "allreduce", 4, 1),
        ("network", "ps", 3, 1),
        ("network", "allreduce", 2, 2),
    ],
)
def test_a_worker_killed_in_the_middle_does_not_change_bits(name, design, workers, shards, warm, simulated, tmp_path):
    record, watcher = strike(warm, JOBS[name](tmp_path / "run", design, workers, shards=shards), kill_one)
    assert any("worker 1 died (SIGKILL)" in text for text in record.notices)
    assert watcher.notices == list(record.notices)
    assert watcher.clocks[0] < record.clocks
    assert record.params_sha256 == simulated[name]


@pytest.mark.parametrize(
    ("name", "design", "workers", "shards"),
    [("wide", "ps", 2, 1), ("wide", "allreduce", 3, 3), ("network", "ps", 2, 2)],
)
def test_a_worker_that_is_stopped_is_fenced_and_bits_stay(name, design, workers, shards, warm, simulated, tmp_path):
    pids = []

    def act(live):
        pids.append(live.pids["worker 1"])
        stop_one(live)

    job = JOBS[name](tmp_path / "run", design, workers, shards=shards, patience=1.0)
    record, _watcher = strike(warm, job, act)
    assert any("worker 1 gave no sign of life" in text for text in record.notices)
    assert any("stopped by a signal" in text for text in record.notices)
    assert any("worker 1 died" in text for text in record.notices)
    assert record.params_sha256 == simulated[name]
    assert not alive(pids[0])


@pytest.mark.parametrize(("design", "workers", "movers"), [("ps", 2, 2), ("allreduce", 3, 3), ("sequential", 1, 0)])
def test_bytes_are_counted_where_they_move(design, workers, movers, warm, tmp_path):
    job = network_job(tmp_path / "run", design, workers)
    record = warm.run(replace(job, plan=replace(job.plan, reproducible=False)))
    moved = record.clocks * job.program.for_data(job.data.spec).layout.nbytes
    assert record.bytes == {"pushed": movers * moved, "pulled": movers * moved}
    counted = [(one.bytes_pushed, one.bytes_pulled) for one in record.processes if one.name.startswith("worker")]
    assert counted == [(moved, moved) if movers else (0, 0)] * workers


@pytest.mark.parametrize("design", ["ps", "allreduce"])
def test_simulated_faults_end_in_the_bits_of_processes(design, simulated, tmp_path):
    victim = Address(0, 3 if design == "ps" else 2)  # a parameter server has its server before its workers
    wild = Network(jitter=1e-3, lost=0.02, doubled=0.05, ordered=False)
    for seed, faults in enumerate(([Kill(victim, 0.05)], [Pause(victim, 0.03, 30.0)], [Kill(victim, 0.004)])):
        job = wide_job(tmp_path / "run", design, 3, shards=3)
        ended = simulate(job, seed=seed, faults=faults, network=wild)
        assert any("worker 1 died" in text for text in ended.notices)
        assert ended.params_sha256 == simulated["wide"]


def test_other_data_have_other_bits(simulated, tmp_path):
    job = network_job(tmp_path / "run", "sequential", 1, epochs=2)
    assert simulate(job).params_sha256 != simulated["network"]


def test_a_simulated_run_that_diverges_ends_with_one_error(tmp_path):
    job = replace(network_job(tmp_path / "run", "ps", 2), optimizer=optimizer("sgd", lr=1e12))
    with pytest.raises(RunError, match=r"diverged: the valid loss is (nan|inf) after clock 5"):
        simulate(job)
