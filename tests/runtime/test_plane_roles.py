"""Real planes under the parameter server's own roles, on the simulated host: what ends where, in which bits."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from trivium.core.consistency import Rule
from trivium.core.lanes import Part, subtrees
from trivium.core.messages import Apply, Fold, Gradient
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address
from trivium.data.batches import BatchPlan
from trivium.data.table import Table
from trivium.designs.ps.change import topology
from trivium.designs.ps.driver import NodesDriver
from trivium.designs.ps.filters import parse_filters
from trivium.designs.ps.server import Server
from trivium.designs.ps.worker import Worker
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.runtime.faults import KillNode, Network
from trivium.runtime.node_plane import NodePlane
from trivium.runtime.plane import ArrayPlane, Facts
from trivium.runtime.simulated import Simulation
from trivium.testing.simulating import MemoryStore, private_arrays

ROWS, WIDTH, LANES, CLOCKS = 64, 9000, 8, 12
DRIVER = Address(0, 0)


@pytest.fixture(scope="module")
def table():
    draw = np.random.default_rng(5)
    x = draw.standard_normal((ROWS, WIDTH)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    return Table({"x": x, "y": y}, (0.0, 1.0))


@dataclass(frozen=True)
class Run:
    nodes: int = 3
    workers: int = 6
    copies: int = 2
    shards: int = 3
    rule: str = "bsp"
    name: str = "momentum"
    reproducible: bool = True
    filters: str = ""
    faults: tuple = ()
    network: Network = field(default_factory=Network)
    seed: int = 0
    clocks: int = CLOCKS


class Mortal(NodePlane):
    def died(self):
        self.release()


def facts_of(run, table):
    options = {"lbfgs": {"tol": 0.0}}.get(run.name, {"lr": 0.05})
    return Facts(
        model("logistic").for_data(table.spec),
        optimizer(run.name, **options),
        BatchPlan(ROWS, LANES, None, seed=1),
        LANES,
        run.shards,
        1 + run.workers,
        run.reproducible,
        1,
        0.0,
        0.01,
        0,
        parse_filters(run.filters),
    )


def carry(run, table):
    """Run to the end; (driver's Stop, planes of the servers by node)."""
    facts = facts_of(run, table)
    members, names = topology(run.workers, run.nodes)
    driver = NodesDriver(
        DRIVER,
        members,
        lanes=LANES,
        shards=run.shards,
        agenda=Agenda(Pace(total=run.clocks, every=4, watch="train", last_sets=("train",), keep_best=False)),
        retry=0.5,
        patience=5.0,
        names=names,
        rule=Rule.parse(run.rule),
        copies=run.copies,
        balance=None,
        term=0,
    )
    simulation = Simulation(
        seed=run.seed,
        driver=DRIVER,
        cost=lambda _address, _work, draw: 1e-4 + draw.random() * 4e-3,
        store=MemoryStore(),
        network=run.network,
        faults=run.faults,
        validate=True,
    )
    simulation.add(driver, None)
    homes = {one.node: one for one in members.holders}
    arrays = {node: private_arrays(facts) for node in homes}
    servers = {}
    common = {"reproducible": run.reproducible, "retry": 0.5, "orphan_timeout": 3.0}
    for index, address in enumerate(members.all):
        plane = Mortal(facts, arrays[address.node], index % facts.processes, {"train": table})
        if address == homes[address.node]:
            plane.first_version(facts.program.init(0))
            servers[address.node] = plane
            elementwise = facts.optimizer.scalar_count == 0
            role = Server(address, DRIVER, LANES, run.shards, elementwise=elementwise, **common)
        else:
            role = Worker(address, DRIVER, homes[address.node], LANES, **common)
        simulation.add(role, plane)
    outcome = simulation.run(max_seconds=600.0, max_events=300_000)
    return driver, outcome.stops.get(DRIVER), servers


def params(plane, clock):
    plane.read(clock)
    return plane.view().copy()


def alone(run, table):
    """The same run in one memory."""
    facts = replace(facts_of(run, table), filters=None)
    plane = ArrayPlane(facts, private_arrays(facts), 0, {"train": table})
    plane.first_version(facts.program.init(0))
    whole, two_step = tuple(subtrees(LANES, Part(0, LANES))), facts.optimizer.scalar_count > 0
    for clock in range(run.clocks):
        plane.read(clock)
        plane.carry_out(Gradient(clock, whole))
        for shard in range(run.shards) if two_step else ():
            plane.carry_out(Fold(shard, clock, whole))
        for shard in range(run.shards):
            plane.carry_out(Apply(shard, clock, whole, two_step, -1))
    return params(plane, run.clocks)


KILL = (KillNode(2, 0.05),)
POOR = Network(latency=1e-3, jitter=2e-3, lost=0.05, doubled=0.1, ordered=False)


@pytest.mark.parametrize(
    "run",
    [
        Run(nodes=1, workers=2, copies=1),
        Run(nodes=2, workers=4, copies=1),
        Run(nodes=2, workers=3, copies=2, network=POOR),
        Run(),
        Run(name="lbfgs"),
        Run(name="lbfgs", network=POOR, seed=3),
        Run(faults=KILL, network=POOR),
        Run(faults=KILL, name="lbfgs"),
        Run(faults=KILL, rule="ssp:0", copies=3, name="adam"),
    ],
    ids=lambda run: (
        f"{run.nodes}x{run.workers}c{run.copies}-{run.name}-{len(run.faults)}{'poor' * (run.network is POOR)}"
    ),
)
def test_bits_are_those_of_one_memory_whoever_dies(run, table):
    _driver, stop, servers = carry(run, table)
    assert stop is not None and not stop.error, stop
    expected = alone(run, table)
    dead = {fault.node for fault in run.faults}
    for node, plane in servers.items():
        if node not in dead:
            np.testing.assert_array_equal(params(plane, run.clocks), expected)


@pytest.mark.parametrize("rule", ["ssp:2", "essp:1", "asp", "backup:1"])
@pytest.mark.parametrize("faults", [(), KILL], ids=["calm", "kill"])
def test_rules_that_let_lanes_run_apart_learn_as_much(rule, faults, table):
    run = Run(rule=rule, faults=faults, reproducible=False, name="sgd", network=POOR)
    driver, stop, servers = carry(run, table)
    assert stop is not None and not stop.error, stop
    first, last = driver.agenda.history[0].loss, driver.agenda.history[-1].loss
    assert last < 0.7 * np.log(2) and last < first
    live = [plane for node, plane in servers.items() if node not in {fault.node for fault in faults}]
    for plane in live[1:]:
        np.testing.assert_array_equal(params(plane, CLOCKS), params(live[0], CLOCKS))


def test_filters_keep_copies_in_step(table):
    run = Run(filters="topk:0.1,int8", name="sgd", faults=KILL, network=POOR)
    driver, stop, servers = carry(run, table)
    assert stop is not None and not stop.error, stop
    assert driver.agenda.history[-1].loss < driver.agenda.history[0].loss
    live = [plane for node, plane in servers.items() if node != 2]
    np.testing.assert_array_equal(params(live[0], CLOCKS), params(live[1], CLOCKS))
    packed = sum(plane.traffic.packed.get("Delta", 0) for plane in live)
    assert packed < 0.3 * sum(plane.traffic.plain.get("Delta", 0) for plane in live)
