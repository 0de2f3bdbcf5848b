"""The same plan gives the same bits: for any number of workers and nodes, through deaths and changes of size.

All of it under the simulated host, whose roles, planes and bits are those of processes; some of it on processes.
"""

import os
import signal
from dataclasses import replace

import pytest

from tests.watching import network_job, strike, wide_job
from trivium.core.role import Address
from trivium.runtime.faults import CutNode, Kill, KillNode, Network
from trivium.testing.simulating import simulate

JOBS = {"network": network_job, "wide": wide_job}
SIZES = [(workers, nodes) for nodes in (1, 2, 3) for workers in range(nodes, 5)]
WILD = Network(jitter=3e-4, lost=0.01, doubled=0.05, ordered=False)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The digest that every run of a job must end in."""
    out = tmp_path_factory.mktemp("never") / "run"
    return {name: simulate(job(out, "sequential", 1)).params_sha256 for name, job in JOBS.items()}


def worker(workers, nodes):
    """The last one."""
    return Address(0, 1 + workers) if nodes == 1 else Address(nodes, 1)


CASES = {
    "nothing": lambda _workers, _nodes: {},
    "a worker is killed": lambda workers, nodes: {"faults": [Kill(worker(workers, nodes), 0.02)]},
    "a node is killed": lambda _workers, nodes: {"faults": [KillNode(nodes, 0.02)]},
    "a primary fails over": lambda _workers, _nodes: {"faults": [Kill(Address(1, 0), 0.03)]},
    "a node is cut off": lambda _workers, nodes: {"faults": [CutNode(nodes, 0.02, 1.0)]},
    "it grows": lambda workers, nodes: {"scale": [(0.02, workers + 2, nodes + (nodes > 1))]},
    "it shrinks": lambda workers, nodes: {"scale": [(0.02, max(1, workers - 1), max(1, nodes - 1))]},
    "it grows, and a worker is killed": lambda workers, nodes: {
        "scale": [(0.01, workers + 1, nodes)],
        "faults": [Kill(worker(workers, nodes), 0.03)],
    },
}
TOLD = {"a worker is killed": "died", "a node is killed": "died", "a primary fails over": "died", "it grows": "before"}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("workers", "nodes"), SIZES)
@pytest.mark.parametrize("case", CASES)
def test_bits_are_the_same_whatever_happens(case, workers, nodes, shards, simulated, tmp_path):
    if (nodes == 1 and ("node" in case or "primary" in case)) or (workers == 1 and "killed" in case):
        pytest.skip("there is nobody who could take over")
    name = "wide" if shards == 3 else "network"
    job = JOBS[name](tmp_path / "run", "ps", workers, nodes=nodes, shards=shards)
    ended = simulate(job, seed=workers, network=WILD, **CASES[case](workers, nodes))
    assert any(TOLD.get(case, "") in text for text in ended.notices) or case not in TOLD
    assert ended.params_sha256 == simulated[name]


def kill(name):
    return lambda live: os.kill(live.pids[name], signal.SIGKILL)


REAL = {
    "nothing": lambda _live: None,
    "a worker is killed": kill("worker 1"),
    "a node is killed": lambda live: os.killpg(live.pids["server 1"], signal.SIGKILL),
    "a primary fails over": kill("server 0"),
    "it grows": lambda live: live.scale(5, 3),
    "it shrinks": lambda live: live.scale(2, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("case", REAL)
def test_processes_have_the_bits_of_the_simulation(case, name, warm, simulated, tmp_path):
    record, _watcher = strike(warm, JOBS[name](tmp_path / "run", "ps", 4, nodes=2), REAL[case])
    assert any(TOLD.get(case, "") in text for text in record.notices) or case not in TOLD
    assert record.params_sha256 == simulated[name]
    assert record.reproducible


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "nodes", "shards"), [(1, 1, 1), (3, 1, 2), (2, 2, 3), (3, 3, 1), (4, 3, None)])
def test_sizes_and_shards_do_not_change_bits(workers, nodes, shards, warm, simulated, tmp_path):
    job = wide_job(tmp_path / "run", "ps", workers, nodes=nodes, shards=shards)
    assert warm.run(replace(job, plan=replace(job.plan, copies=nodes))).params_sha256 == simulated["wide"]
