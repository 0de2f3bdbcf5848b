"""Whole runs of a design under the simulated host, counted exactly: what a seed decides, and what must then hold."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from trivium.core.membership import Driver, Members
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address, Role, Work
from trivium.designs.allreduce import roles as allreduce
from trivium.designs.ps import roles as ps
from trivium.designs.sequential import roles as sequential
from trivium.runtime.faults import Fault, Kill, Network, Pause, SlowDisk
from trivium.runtime.simulated import Outcome, Simulation
from trivium.testing.counting import CountingMemory, CountingPlane, CountingStore, Wrong, expected

__all__ = ["DRIVER", "Scenario", "build", "check", "draw", "run"]

DRIVER = Address(0, 0)
LONGEST = 120.0  # virtual seconds within which every run must have ended


@dataclass(frozen=True)
class Scenario:
    """One run: its shape, its faults, its network."""

    design: str = "ps"
    workers: int = 2
    shards: int = 1
    lanes: int = 8
    clocks: int = 12
    elementwise: bool = True
    reproducible: bool = True
    look_every: int = 0
    finish_at: int | None = None
    faults: tuple[Fault, ...] = ()
    network: Network = Network()
    stop_at: float | None = None
    checkpoint_every: float | None = None
    disk_full_after: int | None = None
    seed: int = 0


def topology(scenario: Scenario) -> tuple[Members, dict[Address, str]]:
    """Who takes part in ``scenario``."""
    rooms = {"ps": ps.topology, "allreduce": allreduce.topology, "sequential": sequential.topology}
    return rooms[scenario.design](scenario.workers, scenario.shards)


def member(scenario: Scenario, address: Address, members: Members) -> Role:
    """The role at ``address``."""
    common = {"reproducible": scenario.reproducible, "retry": 0.5, "orphan_timeout": 3.0}
    if scenario.design == "ps" and address in members.workers:
        return ps.Worker(address, DRIVER, scenario.lanes, **common)  # type: ignore[arg-type]
    kind = {"ps": ps.Server, "allreduce": allreduce.Peer, "sequential": sequential.Solo}[scenario.design]
    return kind(address, DRIVER, scenario.lanes, elementwise=scenario.elementwise, **common)  # type: ignore[arg-type]


def build(
    scenario: Scenario, *, trace: bool = False, validate: bool = True
) -> tuple[Simulation, Driver, CountingMemory, CountingStore]:
    """A simulation of ``scenario``, ready to run."""
    members, names = topology(scenario)
    shards = 1 if scenario.design == "sequential" else scenario.shards
    memory = CountingMemory(shards, scenario.lanes, scenario.finish_at)
    store = CountingStore(memory, full_after=scenario.disk_full_after)

    def cost(_address: Address, _work: Work, draw: random.Random) -> float:
        return 1e-4 + draw.random() * 4e-3

    simulation = Simulation(
        seed=scenario.seed,
        driver=DRIVER,
        cost=cost,
        store=store,
        network=scenario.network,
        faults=scenario.faults,
        stop_at=scenario.stop_at,
        validate=validate,
        trace=trace,
    )
    pace = Pace(
        total=scenario.clocks if scenario.finish_at is None else None,
        every=scenario.look_every or 1,
        watch="valid" if scenario.look_every else "",
        last_sets=("train",),
        keep_best=bool(scenario.look_every),
    )
    driver = Driver(
        DRIVER,
        members,
        lanes=scenario.lanes,
        shards=shards,
        agenda=Agenda(pace),
        retry=0.5,
        patience=5.0,
        names=names,
        checkpoint_every=scenario.checkpoint_every,
    )
    simulation.add(driver, None)
    for address in members.all:
        simulation.add(member(scenario, address, members), CountingPlane(memory))
    return simulation, driver, memory, store


def run(scenario: Scenario, *, trace: bool = False) -> Outcome:
    """Run ``scenario`` and check all that must hold; Wrong, ProtocolError or AssertionError otherwise."""
    simulation, driver, memory, store = build(scenario, trace=trace)
    outcome = simulation.run(max_seconds=LONGEST)
    check(scenario, outcome, driver, memory, store)
    return outcome


def _may_end(scenario: Scenario) -> set[Address]:
    """Whose death may end the run: the driver's, the last holder's, the last worker's."""
    members, _names = topology(scenario)
    fatal = {DRIVER}
    struck = {fault.target for fault in scenario.faults if isinstance(fault, Kill | Pause)}
    if set(members.holders) <= struck or set(members.workers) <= struck:
        fatal |= struck
    return fatal


def check(
    scenario: Scenario, outcome: Outcome, driver: Driver, memory: CountingMemory, store: CountingStore
) -> None:
    """What must hold at the end of any run."""
    if outcome.seconds >= LONGEST or not (outcome.quiet or outcome.stops):
        raise Wrong(f"did not end within {LONGEST} s: driver {driver.phase}, asked {driver.waiting()}")
    for shard in range(memory.shards):
        for clock, value in memory.versions[shard].items():
            right = expected(memory.shards, scenario.lanes, clock)[shard]
            if value != right:
                raise Wrong(f"shard {shard} at clock {clock} is {value}, not {right}")
    for (shard, clock), value in store.shards.items():
        if value != expected(memory.shards, scenario.lanes, clock)[shard]:
            raise Wrong(f"shard {shard} was saved wrong at clock {clock}")
    stopped = outcome.stops.get(DRIVER)
    if stopped is not None and not stopped.error:
        _check_success(scenario, driver, memory, store)
        return
    excused = scenario.disk_full_after is not None or scenario.stop_at is not None
    struck = {fault.target for fault in scenario.faults if isinstance(fault, Kill | Pause)}
    if not excused and not struck & _may_end(scenario):
        raise Wrong(f"failed without a reason: {stopped}")


def _check_success(scenario: Scenario, driver: Driver, memory: CountingMemory, store: CountingStore) -> None:
    wanted = scenario.finish_at if scenario.finish_at is not None else scenario.clocks
    clock = driver.agenda.clock
    if not driver.agenda.halted and clock != wanted:
        raise Wrong(f"ended at clock {clock}, not {wanted}")
    if any(memory.clock(shard) != clock for shard in range(memory.shards)):
        raise Wrong(f"ended at clock {clock}, shards are at {[memory.clock(s) for s in range(memory.shards)]}")
    if not store.manifests or store.manifests[-1].clock != clock:
        raise Wrong("ended without a checkpoint")
    for name, one in driver.agenda.last.items():
        if name == "train" and one.rows != scenario.lanes:
            raise Wrong(f"evaluated {one.rows} lanes of {scenario.lanes}")


def draw(seed: int) -> Scenario:
    """The scenario that ``seed`` decides: design, sizes, network and faults."""
    rng = random.Random(seed)
    design = rng.choice(["ps", "ps", "allreduce"])
    workers = rng.randint(1, 4)
    shards = rng.randint(1, 3)
    scenario = Scenario(
        design=design,
        workers=workers,
        shards=shards,
        lanes=rng.choice([4, 8]),
        clocks=rng.randint(1, 12),
        elementwise=rng.random() < 0.5,
        reproducible=rng.random() < 0.5,
        look_every=rng.choice([0, 3]),
        network=Network(
            jitter=rng.choice([1e-5, 1e-3]),
            lost=rng.choice([0.0, 0.0, 0.05]),
            doubled=rng.choice([0.0, 0.1]),
            ordered=rng.random() < 0.7,
        ),
        checkpoint_every=rng.choice([None, 0.02]),
        seed=seed,
    )
    if rng.random() < 0.2:
        scenario = replace(scenario, finish_at=rng.randint(1, scenario.clocks), look_every=0)
    return replace(scenario, faults=_faults(rng, scenario), stop_at=_stop(rng))


def _stop(rng: random.Random) -> float | None:
    return rng.random() * 0.1 if rng.random() < 0.1 else None


def _faults(rng: random.Random, scenario: Scenario) -> tuple[Fault, ...]:
    members, _names = topology(scenario)
    faults: list[Fault] = []
    for _ in range(rng.choice([0, 1, 1, 2])):
        target = rng.choice(members.all) if rng.random() < 0.9 else DRIVER
        at = rng.random() * 0.15
        if rng.random() < 0.7:
            faults.append(Kill(target, at))
        else:
            faults.append(Pause(target, at, rng.choice([0.01, 1.0, 30.0])))
    if rng.random() < 0.1:
        faults.append(SlowDisk(rng.choice(members.all), 0.5))
    return tuple(faults)
