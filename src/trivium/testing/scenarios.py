"""Whole runs of a design under the simulated host, counted exactly: what a seed decides, and what must then hold.

A scenario is one run with its faults. Where the run does not end well (its driver or its last holder died, its disk was
full, a person stopped it), it is resumed from what the store holds, as often as ``again`` says and once more, until it
has ended: the result must be that of a run without any fault.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from trivium.core.membership import Driver, Members
from trivium.core.messages import Apply, Fold, Request
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address, Command, Compute, Event, Role, Send, Work
from trivium.designs.allreduce import roles as allreduce
from trivium.designs.sequential import roles as sequential
from trivium.runtime.faults import Fault, Kill, Network, Partition, Pause, SlowDisk
from trivium.runtime.simulated import Outcome, Simulation, Watch
from trivium.testing import apart
from trivium.testing.counting import FAILURE, CountingMemory, CountingPlane, CountingStore, Wrong, expected, loss_at

__all__ = ["DRIVER", "Life", "Scenario", "build", "check", "draw", "lives", "run"]

DRIVER = Address(0, 0)
MOST_EVENTS = 300_000
LONGEST = 600.0  # virtual seconds within which every run must have ended


@dataclass(frozen=True)
class Scenario:
    """One run: its shape, its faults, its network."""

    design: str = "apart"
    workers: int = 2
    shards: int = 1
    lanes: int = 8
    clocks: int = 12
    elementwise: bool = True
    reproducible: bool = True
    look_every: int = 0
    finish_at: int | None = None
    faults: tuple[Fault, ...] = ()
    network: Network = field(default_factory=Network)
    stop_at: float | None = None
    checkpoint_every: float | None = None
    disk_full_after: int | None = None
    fail_at: int | None = None
    straggler: Address | None = None  # whose works take 30 times as long
    detect: float = 0.05
    again: tuple[float, ...] = ()  # when the driver of each resumed run is killed
    seed: int = 0


def topology(scenario: Scenario) -> tuple[Members, dict[Address, str]]:
    """Who takes part in ``scenario``."""
    rooms = {"apart": apart.topology, "allreduce": allreduce.topology, "sequential": sequential.topology}
    return rooms[scenario.design](scenario.workers, scenario.shards)


def member(scenario: Scenario, address: Address, members: Members) -> Role:
    """The role at ``address``."""
    common = {"reproducible": scenario.reproducible, "retry": 0.5, "orphan_timeout": 3.0}
    if scenario.design == "apart" and address in members.workers:
        return apart.Worker(address, DRIVER, scenario.lanes, **common)  # type: ignore[arg-type]
    kind = {"apart": apart.Server, "allreduce": allreduce.Peer, "sequential": sequential.Solo}[scenario.design]
    return kind(address, DRIVER, scenario.lanes, elementwise=scenario.elementwise, **common)  # type: ignore[arg-type]


def pace(scenario: Scenario) -> Pace:
    """What the agenda of ``scenario`` follows."""
    return Pace(
        total=scenario.clocks if scenario.finish_at is None else None,
        every=scenario.look_every or 1,
        watch="valid" if scenario.look_every else "",
        last_sets=("train",),
        keep_best=bool(scenario.look_every),
    )


def _announced_after_written(store: CountingStore) -> Watch:
    def watch(address: Address, _event: Event, commands: list[Command]) -> None:
        if address != DRIVER:
            return
        for command in commands:
            if isinstance(command, Send) and isinstance(command.message, Request):
                term = command.message.term
                if not store.terms or store.terms[-1].term < term:
                    raise Wrong(f"term {term} is announced before it is on disk")

    return watch


def _orphans_apply_nothing(roles: dict[Address, Role]) -> Watch:
    """What an orphan sums is saved by nobody, or by half of the orphans: it only ends what it was at."""

    def watch(address: Address, _event: Event, commands: list[Command]) -> None:
        if getattr(roles.get(address), "orphaned", False):
            for command in commands:
                if isinstance(command, Compute) and isinstance(command.work, Apply | Fold):
                    raise Wrong(f"{address} is an orphan and begins {command.work}")

    return watch


def _both(first: Watch, second: Watch) -> Watch:
    def watch(address: Address, event: Event, commands: list[Command]) -> None:
        first(address, event, commands)
        second(address, event, commands)

    return watch


@dataclass
class Life:
    """One run of a scenario, from a start or a resumption to its end."""

    scenario: Scenario
    simulation: Simulation
    driver: Driver
    memory: CountingMemory
    store: CountingStore
    begin: int = 0  # the clock it goes on from

    def run(self) -> Outcome:
        """Run, and check what must hold at the end of any run."""
        outcome = self.simulation.run(max_seconds=LONGEST, max_events=MOST_EVENTS)
        check(self, outcome)
        return outcome

    def resumed(self, again: int) -> Life:
        """The next life, from what the store holds; ``again`` counts them from 1."""
        one, store = self.scenario, self.store
        faults = tuple(Kill(DRIVER, at) for at in one.again[again - 1 : again])
        one = replace(
            one, faults=faults, stop_at=None, disk_full_after=None, fail_at=None, seed=one.seed + again * 1_000_003
        )
        store.full_after = None
        manifest = store.manifest()
        agenda = Agenda.resumed(pace(one), manifest.pace if manifest else b"", store.whole())
        store.memory = store.restore(agenda.clock)
        term = store.terms[-1].term if store.terms else 0
        return _assemble(one, agenda, store, term, trace=self.simulation.tracing, validate=self.simulation.validate)


def build(scenario: Scenario, *, trace: bool = False, validate: bool = True) -> Life:
    """The first life of ``scenario``, ready to run."""
    shards = 1 if scenario.design == "sequential" else scenario.shards
    memory = CountingMemory(shards, scenario.lanes, scenario.finish_at)
    store = CountingStore(memory, full_after=scenario.disk_full_after)
    return _assemble(scenario, Agenda(pace(scenario)), store, 0, trace=trace, validate=validate)


def _assemble(
    scenario: Scenario, agenda: Agenda, store: CountingStore, term: int, *, trace: bool, validate: bool
) -> Life:
    members, names = topology(scenario)
    roles = {address: member(scenario, address, members) for address in members.all}
    memory = store.memory
    memory.fail_at = scenario.fail_at

    def cost(address: Address, _work: Work, draw: random.Random) -> float:
        return (1e-4 + draw.random() * 4e-3) * (30 if address == scenario.straggler else 1)

    simulation = Simulation(
        seed=scenario.seed,
        driver=DRIVER,
        cost=cost,
        detect=scenario.detect,
        store=store,
        network=scenario.network,
        faults=scenario.faults,
        stop_at=scenario.stop_at,
        validate=validate,
        trace=trace,
        watch=_both(_announced_after_written(store), _orphans_apply_nothing(roles)) if validate else None,
    )
    driver = Driver(
        DRIVER,
        members,
        lanes=scenario.lanes,
        shards=memory.shards,
        agenda=agenda,
        retry=0.5,
        patience=5.0,
        names=names,
        checkpoint_every=scenario.checkpoint_every,
        term=term,
    )
    simulation.add(driver, None)
    for role in roles.values():
        simulation.add(role, CountingPlane(memory))
    return Life(scenario, simulation, driver, memory, store, agenda.clock)


def lives(scenario: Scenario, *, trace: bool = False, validate: bool = True) -> Iterator[tuple[Life, Outcome]]:
    """Run ``scenario`` and its resumptions until one has ended well; each is checked as it ends."""
    life = build(scenario, trace=trace, validate=validate)
    for again in range(1, len(scenario.again) + 3):
        outcome = life.run()
        yield life, outcome
        if _ended_well(life, outcome):
            return
        life = life.resumed(again)
    raise Wrong("a run without a fault did not end well")


def run(scenario: Scenario, *, trace: bool = False, validate: bool = True) -> int:
    """Run ``scenario`` to its end, through all its lives; returns the number of events.

    Raises Wrong, ProtocolError or AssertionError where something does not hold that must.
    """
    return sum(outcome.events for _life, outcome in lives(scenario, trace=trace, validate=validate))


# -- what must hold ---------------------------------------------------------------------------------------------------
def _ended_well(life: Life, outcome: Outcome) -> bool:
    stopped = outcome.stops.get(DRIVER)
    return stopped is not None and not stopped.error and not life.driver.agenda.halted


def check(life: Life, outcome: Outcome) -> None:
    """What must hold at the end of any run."""
    dies = any(isinstance(fault, Kill) and fault.target == DRIVER for fault in life.scenario.faults)
    gone = dies and DRIVER not in outcome.stops  # whoever is stopped then, stays: see _check_orphans
    if (outcome.seconds >= LONGEST and not gone) or outcome.events >= MOST_EVENTS:
        raise Wrong(f"did not end within {LONGEST} s: driver {life.driver.phase}, asked {life.driver.waiting()}")
    _check_memory(life)
    _check_history(life)
    stopped = outcome.stops.get(DRIVER)
    if stopped is None:
        _check_orphans(life, outcome)
    elif not stopped.error:
        _check_success(life)
    elif life.scenario.fail_at is not None and FAILURE in stopped.error:
        if stopped.exit_code != 1:
            raise Wrong(f"a failure of the program ended with {stopped}")
    else:
        _check_excuse(life, stopped.error)


def _check_memory(life: Life) -> None:
    memory, lanes = life.memory, life.scenario.lanes
    for shard in range(memory.shards):
        for clock, value in memory.versions[shard].items():
            right = expected(memory.shards, lanes, clock)[shard]
            if value != right:
                raise Wrong(f"shard {shard} at clock {clock} is {value}, not {right}")
    for (shard, clock), saved in life.store.shards.items():
        if saved is not None and saved != expected(memory.shards, lanes, clock)[shard]:
            raise Wrong(f"shard {shard} was saved wrong at clock {clock}")


def _looks(scenario: Scenario) -> list[int]:
    """The clocks at which a run without faults looks."""
    if not scenario.look_every:
        return []
    return [c for c in range(1, scenario.clocks + 1) if c % scenario.look_every == 0 or c == scenario.clocks]


def _check_history(life: Life) -> None:
    agenda, shards, lanes = life.driver.agenda, life.memory.shards, life.scenario.lanes
    looks = _looks(life.scenario)[: len(agenda.history)]
    if [one.clock for one in agenda.history] != looks:
        raise Wrong(f"looked at {[one.clock for one in agenda.history]}, not at {looks}")
    losses = {clock: loss_at(shards, lanes, clock) for clock in looks}
    for one in agenda.history:
        if one.rows != lanes or one.loss != losses[one.clock]:
            raise Wrong(f"{one}: the loss is {losses[one.clock]} over {lanes} lanes")
    best = min(losses, key=lambda clock: (losses[clock], clock), default=-1)
    if agenda.best_clock != best:
        raise Wrong(f"the best clock is {best} of {losses}, the agenda has {agenda.best_clock}")


def _check_orphans(life: Life, outcome: Outcome) -> None:
    """Without a driver, all that live have saved what was committed, and stopped."""
    members, _names = topology(life.scenario)
    struck = {fault.target for fault in life.scenario.faults if isinstance(fault, Kill | Pause | Partition | SlowDisk)}
    for address in members.all:
        if address not in struck and address not in outcome.stops:
            raise Wrong(f"{address} did not stop although the driver is gone")
    if struck == {DRIVER} and life.scenario.disk_full_after is None:
        least = min(life.memory.clock(shard) for shard in range(life.memory.shards))
        started = life.store.terms and life.driver.standing.keys() == set(range(life.memory.shards))
        if started and least > life.begin and least not in life.store.whole():
            raise Wrong(f"clock {least} was committed, the orphans saved {life.store.whole()}")


def _check_excuse(life: Life, error: str) -> None:
    """A run fails only where the last worker or the last holder was struck, or the disk."""
    scenario, (members, _names) = life.scenario, topology(life.scenario)
    if scenario.disk_full_after is not None and "no space" in error:
        return
    if scenario.stop_at is not None and "before the start" in error:
        return
    struck = {fault.target for fault in scenario.faults if isinstance(fault, Kill | Pause | Partition)}
    if not (set(members.holders) <= struck or set(members.workers) <= struck):
        raise Wrong(f"failed without a reason: {error}")


def _check_success(life: Life) -> None:
    scenario, agenda, memory, store = life.scenario, life.driver.agenda, life.memory, life.store
    wanted = scenario.finish_at if scenario.finish_at is not None else scenario.clocks
    clock = agenda.clock
    if not agenda.halted and clock != wanted:
        raise Wrong(f"ended at clock {clock}, not {wanted}")
    if any(memory.clock(shard) != clock for shard in range(memory.shards)):
        raise Wrong(f"ended at clock {clock}, shards are at {[memory.clock(s) for s in range(memory.shards)]}")
    if not store.manifests or store.manifests[-1].clock != clock:
        raise Wrong("ended without a checkpoint")
    if not agenda.halted:
        _check_last(life)
    if not scenario.faults and not scenario.network.lost and scenario.network.ordered:
        rows = sum(segment.rows for segment in life.driver.segments)
        if rows != (clock - life.begin) * scenario.lanes:
            raise Wrong(f"clocks {life.begin} to {clock} of {scenario.lanes} lanes gave {rows} rows")


def _check_last(life: Life) -> None:
    agenda, looks = life.driver.agenda, _looks(life.scenario)
    if len(agenda.history) != len(looks):
        raise Wrong(f"looked {len(agenda.history)} times, not at all of {looks}")
    at = agenda.best_clock if looks else agenda.clock
    right = loss_at(life.memory.shards, life.scenario.lanes, at)
    one = agenda.last["train"]
    if one.rows != life.scenario.lanes or one.loss != right:
        raise Wrong(f"{one}: the loss at clock {at} is {right} over {life.scenario.lanes} lanes")
    kept = {clock for clock, _value in life.memory.kept.values()}
    if looks and kept != {agenda.best_clock}:
        raise Wrong(f"kept clocks {kept}, the best is {agenda.best_clock}")


# -- what a seed decides ----------------------------------------------------------------------------------------------
def draw(seed: int) -> Scenario:
    """The scenario that ``seed`` decides: design, sizes, network and faults."""
    rng = random.Random(seed)
    scenario = Scenario(
        design=rng.choice(["apart", "apart", "apart", "allreduce", "allreduce", "sequential"]),
        workers=rng.randint(1, 4),
        shards=rng.randint(1, 3),
        lanes=rng.choice([4, 8]),
        clocks=rng.randint(1, 12),
        elementwise=rng.random() < 0.5,
        reproducible=rng.random() < 0.5,
        look_every=rng.choice([0, 1, 3]),
        network=Network(
            jitter=rng.choice([1e-5, 1e-3, 1e-2]),
            lost=rng.choice([0.0, 0.0, 0.05, 0.2]),
            doubled=rng.choice([0.0, 0.1]),
            ordered=rng.random() < 0.7,
        ),
        checkpoint_every=rng.choice([None, 0.02]),
        seed=seed,
    )
    if rng.random() < 0.2:
        scenario = replace(scenario, finish_at=rng.randint(1, scenario.clocks), look_every=0)
    members, _names = topology(scenario)
    scenario = replace(
        scenario,
        straggler=rng.choice(members.workers) if rng.random() < 0.2 else None,
        detect=rng.choice([0.001, 0.05]),
        stop_at=rng.random() * 0.1 if rng.random() < 0.2 else None,
        disk_full_after=rng.randint(0, 12) if rng.random() < 0.03 else None,
        fail_at=rng.randrange(scenario.clocks) if rng.random() < 0.1 else None,
        again=tuple(rng.random() * 0.1 for _ in range(rng.choice([0, 0, 1, 2]))),
    )
    kind = rng.random()
    if kind < 0.1:
        return replace(scenario, faults=_power_cut(rng, members))
    if kind < 0.2 and len(members.workers) > 2:
        dies, straggles = members.workers[-1], members.workers[-2]
        return replace(scenario, faults=(Kill(dies, rng.random() * 0.15),), straggler=straggles)
    return replace(scenario, faults=_faults(rng, members))


def _faults(rng: random.Random, members: Members) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        target = rng.choice(members.all) if rng.random() < 0.75 else DRIVER
        at = rng.random() * 0.15
        kind = rng.random()
        if kind < 0.6:
            faults.append(Kill(target, at))
        elif kind < 0.85:
            faults.append(Pause(target, at, rng.choice([0.01, 1.0, 30.0 if target == DRIVER else 1000.0])))
        else:
            faults.append(Partition(target, at, rng.choice([0.005, 0.6, 30.0 if target == DRIVER else 1000.0])))
    if rng.random() < 0.1:
        faults.append(SlowDisk(rng.choice((DRIVER, *members.all)), rng.choice([0.05, 0.5])))
    return tuple(faults)


def _power_cut(rng: random.Random, members: Members) -> tuple[Fault, ...]:
    """The driver dies in the midst of the work, and at times a holder too, while it saves on a slow disk."""
    at, holder = 0.01 + rng.random() * 0.05, rng.choice(members.holders)
    faults: list[Fault] = [Kill(DRIVER, at)]
    if rng.random() < 0.5:
        faults.append(SlowDisk(holder, 0.05))
        if rng.random() < 0.5:
            faults.append(Kill(holder, at + 0.06 + rng.random() * 0.05))
    return tuple(faults)
