"""Whole runs of the parameter server over nodes, under the simulated host, counted exactly.

A seed decides nodes, workers, copies, shards, the consistency rule, the network and its faults: nodes die as one or are
cut off, a person scales the run, messages are lost, doubled and late. What must hold is in ``testing.counting_nodes``
(each step of each copy), in ``testing.promises`` (each word that somebody counts on) and here (how a run may end).
Where a run does not end well, it is resumed from what the store holds, as in ``testing.scenarios``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from trivium.core.balance import Balancer
from trivium.core.consistency import Rule
from trivium.core.membership import Members
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address, Role, Work
from trivium.designs.ps.change import topology
from trivium.designs.ps.driver import NodesDriver
from trivium.designs.ps.server import Server
from trivium.designs.ps.worker import Worker
from trivium.runtime.base import Plane
from trivium.runtime.faults import CutNode, Fault, Kill, KillNode, Network, Partition, Pause, Slow, SlowDisk
from trivium.runtime.simulated import Outcome, Simulation
from trivium.testing.counting import FAILURE, Wrong
from trivium.testing.counting_nodes import Cluster, NodePlane
from trivium.testing.counting_store import NodesStore
from trivium.testing.promises import Promises

__all__ = ["DRIVER", "Life", "Scenario", "build", "check", "draw", "lives", "run"]

DRIVER = Address(0, 0)
MOST_EVENTS = 300_000
LONGEST = 600.0  # virtual seconds within which every run must have ended
PATIENCE = 10.0  # seconds after which the host tells of a silence
MOST_NODES, MOST_SLOTS = 8, 12  # of what may be launched


@dataclass(frozen=True)
class Scenario:
    """One run: its shape, its faults, its network. ``scale``: (time, workers, nodes) that a person asks for."""

    nodes: int = 2
    workers: int = 4
    copies: int = 2
    shards: int = 2
    lanes: int = 8
    clocks: int = 8
    rule: str = "bsp"
    elementwise: bool = True
    reproducible: bool = True
    balance: bool = False
    look_every: int = 0
    finish_at: int | None = None
    faults: tuple[Fault, ...] = ()
    scale: tuple[tuple[float, int, int], ...] = ()
    spares: bool = True  # whether what is launched also starts
    network: Network = field(default_factory=Network)
    stop_at: float | None = None
    checkpoint_every: float | None = None
    disk_full_after: int | None = None
    fail_at: int | None = None
    straggler: Address | None = None  # whose works take 30 times as long
    detect: float = 0.05
    again: tuple[float, ...] = ()  # when the driver of each resumed run is killed
    seed: int = 0

    @property
    def kind(self) -> Rule:
        """The rule, parsed."""
        return Rule.parse(self.rule)


def pace(scenario: Scenario) -> Pace:
    """What the agenda of ``scenario`` follows."""
    return Pace(
        total=scenario.clocks if scenario.finish_at is None else None,
        every=scenario.look_every or 1,
        watch="valid" if scenario.look_every else "",
        last_sets=("train",),
        keep_best=bool(scenario.look_every),
    )


def member(scenario: Scenario, address: Address, server: Address) -> Role:
    """The role at ``address``, of the node of ``server``."""
    common = {"reproducible": scenario.reproducible, "retry": 0.5, "orphan_timeout": 3.0}
    if address == server:
        return Server(address, DRIVER, scenario.lanes, scenario.shards, elementwise=scenario.elementwise, **common)  # type: ignore[arg-type]
    return Worker(address, DRIVER, server, scenario.lanes, **common)  # type: ignore[arg-type]


@dataclass
class Life:
    """One run of a scenario, from a start or a resumption to its end."""

    scenario: Scenario
    simulation: Simulation
    driver: NodesDriver
    cluster: Cluster
    store: NodesStore
    promises: Promises
    begin: int = 0  # the clock it goes on from

    def run(self) -> Outcome:
        """Run, and check what must hold at the end of any run."""
        outcome = self.simulation.run(max_seconds=LONGEST, max_events=MOST_EVENTS)
        check(self, outcome)
        return outcome

    def resumed(self, again: int) -> Life:
        """The next life, from what the store holds; ``again`` counts them from 1."""
        one, store = self.scenario, self.store
        one = replace(
            one,
            faults=tuple(Kill(DRIVER, at) for at in one.again[again - 1 : again]),
            scale=(),
            stop_at=None,
            disk_full_after=None,
            fail_at=None,
            seed=one.seed + again * 1_000_003,
        )
        store.full_after = None
        manifest = store.manifest()
        agenda = Agenda.resumed(pace(one), manifest.pace if manifest else b"", store.whole())
        term = store.terms[-1].term if store.terms else 0
        return _assemble(one, agenda, store, term, trace=self.simulation.tracing, validate=self.simulation.validate)


def build(scenario: Scenario, *, trace: bool = False, validate: bool = True) -> Life:
    """The first life of ``scenario``, ready to run."""
    store = NodesStore(scenario.shards, full_after=scenario.disk_full_after)
    return _assemble(scenario, Agenda(pace(scenario)), store, 0, trace=trace, validate=validate)


def _cluster(scenario: Scenario, begin: int) -> Cluster:
    return Cluster(
        scenario.shards,
        scenario.lanes,
        scenario.kind,
        elementwise=scenario.elementwise,
        reproducible=scenario.reproducible,
        finish_at=scenario.finish_at,
        fail_at=scenario.fail_at,
        begin=begin,
    )


def _assemble(scenario: Scenario, agenda: Agenda, store: NodesStore, term: int, *, trace: bool, validate: bool) -> Life:
    members, names = topology(scenario.workers, scenario.nodes)
    cluster = _cluster(scenario, agenda.clock)
    roles: dict[Address, Role] = {}
    promises = Promises(cluster, DRIVER, roles, store.terms)

    def cost(address: Address, _work: Work, draw: random.Random) -> float:
        return (1e-4 + draw.random() * 4e-3) * (30 if address == scenario.straggler else 1)

    def make(address: Address, server: Address) -> tuple[Role, Plane]:
        role = roles[address] = member(scenario, address, server)
        if address.node not in cluster.nodes:
            store.restore(cluster, address.node, cluster.begin)
        return role, NodePlane(cluster.nodes[address.node], server=address == server)

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
        watch=promises if validate else None,
        patience=PATIENCE,
        spare=_spare(scenario, members, make),
        scale=scenario.scale,
    )
    driver = NodesDriver(
        DRIVER,
        members,
        lanes=scenario.lanes,
        shards=scenario.shards,
        agenda=agenda,
        retry=0.5,
        patience=5.0,
        names=names,
        rule=scenario.kind,
        copies=scenario.copies,
        balance=_balancer(scenario, members),
        checkpoint_every=scenario.checkpoint_every,
        term=term,
    )
    simulation.add(driver, None)
    homes = {one.node: one for one in members.holders}
    for address in members.all:
        simulation.add(*make(address, homes[address.node]))
    return Life(scenario, simulation, driver, cluster, store, promises, agenda.clock)


def _balancer(scenario: Scenario, members: Members) -> Balancer | None:
    if not scenario.balance:
        return None
    return Balancer(scenario.lanes, members.workers, cooldown=0.02, pause=0.001)


def _spare(
    scenario: Scenario, members: Members, make: Callable[[Address, Address], tuple[Role, Plane]]
) -> dict[Address, Callable[[], tuple[Role, Plane]]]:
    """What a driver may launch: workers on the nodes that there are, and whole nodes."""
    if not scenario.scale or not scenario.spares:
        return {}
    homes = {one.node: one for one in members.holders}
    if 0 not in homes:
        homes |= {node: Address(node, 0) for node in range(1, MOST_NODES) if node not in homes}
    places = [Address(node, slot) for node in homes for slot in range(MOST_SLOTS)]
    return {
        one: lambda one=one: make(one, homes[one.node])  # type: ignore[misc]
        for one in places
        if one not in members.all and one != DRIVER
    }


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
    _check_copies(life)
    _check_saved(life)
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


def _check_copies(life: Life) -> None:
    """Every version that can be read is right; what was acknowledged is there while copies live."""
    cluster = life.cluster
    for shard in range(cluster.shards):
        for node in cluster.nodes.values():
            for version in node.shards[shard].versions.values():
                if len(set(version.applied)) == 1 and version.value != cluster.right(shard, version):
                    raise Wrong(f"shard {shard} on node {node.name} at {version.applied} is {version.value}")
        known = life.promises.acknowledged[shard]
        for node in cluster.counting(shard):
            applied = max(node.shards[shard].applied, node.shards[shard].begun, key=sum)
            if any(clock < known[lane] for lane, clock in enumerate(applied)):
                raise Wrong(f"node {node.name} has {applied} of shard {shard}, {known} was told")


def _check_saved(life: Life) -> None:
    for (shard, clock), version in life.store.shards.items():
        if version is None:
            continue
        if version.applied != (clock,) * life.cluster.lanes or version.value != life.cluster.right(shard, version):
            raise Wrong(f"shard {shard} was saved wrong at clock {clock}: {version}")


def _looks(scenario: Scenario) -> list[int]:
    """The clocks at which a run without faults looks."""
    if not scenario.look_every:
        return []
    return [c for c in range(1, scenario.clocks + 1) if c % scenario.look_every == 0 or c == scenario.clocks]


def _check_history(life: Life) -> None:
    agenda, cluster = life.driver.agenda, life.cluster
    looks = _looks(life.scenario)[: len(agenda.history)]
    if [one.clock for one in agenda.history] != looks:
        raise Wrong(f"looked at {[one.clock for one in agenda.history]}, not at {looks}")
    for one in agenda.history:
        if one.rows != cluster.lanes:
            raise Wrong(f"{one} is not over {cluster.lanes} lanes")
        if cluster.rule.kind != "backup" and one.loss != cluster.loss(one.clock):
            raise Wrong(f"{one}: the loss is {cluster.loss(one.clock)}")
    losses = {one.clock: one.loss for one in agenda.history}
    best = min(losses, key=lambda clock: (losses[clock], clock), default=-1)
    if agenda.best_clock != best:
        raise Wrong(f"the best clock is {best} of {losses}, the agenda has {agenda.best_clock}")


def _check_orphans(life: Life, outcome: Outcome) -> None:
    """Without a driver, all that live have saved what was committed, and stopped."""
    scenario = life.scenario
    for address, role in life.promises.roles.items():
        if address not in outcome.stops and life.simulation.lives(address) and not _struck_by(scenario, address):
            raise Wrong(f"{type(role).__name__} {address} did not stop although the driver is gone")
    only = all(isinstance(fault, Kill) and fault.target == DRIVER for fault in scenario.faults)
    if not only or scenario.disk_full_after is not None or not life.cluster.holders or not scenario.kind.whole:
        return
    applied = [min(node.shards[s].applied) for s in range(scenario.shards) for node in life.cluster.counting(s)[:1]]
    least = min(applied)
    if least > life.begin and least not in life.store.whole():
        raise Wrong(f"clock {least} was committed, the orphans saved {life.store.whole()}")


def _struck_by(scenario: Scenario, address: Address) -> bool:
    """Whether a fault takes ``address`` away, or keeps it from all that the others do."""
    for fault in scenario.faults:
        if isinstance(fault, Kill) and fault.target == address:
            return True
        if isinstance(fault, KillNode) and fault.node == address.node:
            return True
        if isinstance(fault, Pause | Partition) and fault.target == address and fault.seconds > PATIENCE:
            return True
        if isinstance(fault, CutNode) and fault.node == address.node and fault.seconds > PATIENCE:
            return True
    return False


def _check_excuse(life: Life, error: str) -> None:
    """A run fails only where all workers or all copies of some shard were struck, or the disk."""
    scenario = life.scenario
    if scenario.disk_full_after is not None and "no space" in error:
        return
    if scenario.stop_at is not None and "before the start" in error:
        return
    members, _names = topology(scenario.workers, scenario.nodes)
    servers = [one for one, role in life.promises.roles.items() if isinstance(role, Server)]
    gone = {one.node for one in servers if _struck_by(scenario, one)}
    workers = life.promises.workers or members.workers
    if all(_struck_by(scenario, one) or one.node in gone for one in workers):
        return
    placed = life.cluster.holders or (members.holders,)
    if any({one.node for one in holders} <= gone for holders in placed):
        return
    raise Wrong(f"failed without a reason: {error}")


def _check_success(life: Life) -> None:
    scenario, agenda, cluster, store = life.scenario, life.driver.agenda, life.cluster, life.store
    wanted = scenario.finish_at if scenario.finish_at is not None else scenario.clocks
    clock = agenda.clock
    if not agenda.halted and clock != wanted:
        raise Wrong(f"ended at clock {clock}, not {wanted}")
    for shard in range(cluster.shards):
        for node in cluster.counting(shard):
            if node.shards[shard].applied != (clock,) * cluster.lanes:
                applied = node.shards[shard].applied
                raise Wrong(f"ended at clock {clock}, shard {shard} on node {node.name} is at {applied}")
    if not store.manifests or store.manifests[-1].clock != clock:
        raise Wrong("ended without a checkpoint")
    if not agenda.halted:
        _check_last(life)
    quiet = not scenario.faults and not scenario.scale and not scenario.network.lost and scenario.network.ordered
    if quiet and not scenario.balance and scenario.kind.kind != "backup":
        rows = sum(segment.rows for segment in life.driver.segments)
        if rows != (clock - life.begin) * scenario.lanes:
            raise Wrong(f"clocks {life.begin} to {clock} of {scenario.lanes} lanes gave {rows} rows")


def _check_last(life: Life) -> None:
    agenda, looks, cluster = life.driver.agenda, _looks(life.scenario), life.cluster
    if len(agenda.history) != len(looks):
        raise Wrong(f"looked {len(agenda.history)} times, not at all of {looks}")
    at = agenda.best_clock if looks else agenda.clock
    one = agenda.last["train"]
    if one.rows != cluster.lanes or (cluster.rule.kind != "backup" and one.loss != cluster.loss(at)):
        raise Wrong(f"{one}: at clock {at} the loss is {cluster.loss(at)} over {cluster.lanes} lanes")


# -- what a seed decides ----------------------------------------------------------------------------------------------
def draw(seed: int) -> Scenario:
    """The scenario that ``seed`` decides: shape, rule, network and faults."""
    rng = random.Random(seed)
    nodes = rng.choice([1, 2, 2, 3, 3])
    rule = rng.choice(["bsp", "bsp", "ssp:0", "essp:0", "ssp:1", "ssp:3", "essp:2", "asp", "backup:1", "backup:2"])
    exact = Rule.parse(rule).whole and not rule.startswith("backup")
    lanes = rng.choice([4, 6, 8])
    scenario = Scenario(
        nodes=nodes,
        workers=rng.randint(nodes, min(6, lanes)),
        copies=rng.choice([1, 2, 2, 3]),
        shards=rng.randint(1, 4),
        lanes=lanes,
        clocks=rng.randint(1, 8),
        rule=rule,
        elementwise=rng.random() < 0.6 or not exact,
        reproducible=rng.random() < 0.5 and exact,
        balance=rng.random() < 0.2,
        look_every=rng.choice([0, 0, 1, 3]),
        network=Network(
            jitter=rng.choice([1e-5, 1e-3, 1e-2]),
            lost=rng.choice([0.0, 0.0, 0.05, 0.2]),
            doubled=rng.choice([0.0, 0.1]),
            ordered=rng.random() < 0.6,
        ),
        checkpoint_every=rng.choice([None, 0.02]),
        detect=rng.choice([0.001, 0.05]),
        stop_at=rng.random() * 0.1 if rng.random() < 0.1 else None,
        disk_full_after=rng.randint(0, 12) if rng.random() < 0.03 else None,
        again=tuple(rng.random() * 0.1 for _ in range(rng.choice([0, 0, 1, 2]))),
        seed=seed,
    )
    if exact and rng.random() < 0.15:
        scenario = replace(scenario, finish_at=rng.randint(1, scenario.clocks), look_every=0)
    if rng.random() < 0.07:
        scenario = replace(scenario, fail_at=rng.randrange(scenario.clocks))
    members, _names = topology(scenario.workers, nodes)
    if rng.random() < 0.25:
        scenario = replace(scenario, straggler=rng.choice(members.workers))
    if rng.random() < 0.3:
        scenario = replace(scenario, scale=_scale(rng, scenario), spares=rng.random() < 0.9)
    return replace(scenario, faults=_faults(rng, members))


def _scale(rng: random.Random, scenario: Scenario) -> tuple[tuple[float, int, int], ...]:
    asked = []
    for _ in range(rng.choice([1, 1, 2])):
        nodes = 0 if scenario.nodes == 1 else rng.choice([0, 0, 1, 2, 3])
        asked.append((rng.random() * 0.1, rng.randint(1, scenario.lanes), nodes))
    return tuple(asked)


def _faults(rng: random.Random, members: Members) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    servers = members.holders
    for _ in range(rng.choice([0, 1, 1, 2])):
        at, kind = rng.random() * 0.15, rng.random()
        if kind < 0.3 and len(servers) > 1:
            faults.append(KillNode(rng.choice(servers).node, at))
        elif kind < 0.4 and len(servers) > 1:
            faults.append(CutNode(rng.choice(servers).node, at, rng.choice([0.005, 0.6, 1000.0])))
        else:
            faults.append(_fault(rng, members, at))
    if rng.random() < 0.1:
        faults.append(SlowDisk(rng.choice((DRIVER, *servers)), rng.choice([0.05, 0.5])))
    if rng.random() < 0.15:
        faults.append(Slow(rng.choice(members.workers), 10.0, rng.choice([0.1, 1.0])))
    return tuple(faults)


def _fault(rng: random.Random, members: Members, at: float) -> Fault:
    target = rng.choice(members.all) if rng.random() < 0.8 else DRIVER
    kind = rng.random()
    if kind < 0.5:
        return Kill(target, at)
    if kind < 0.75:
        return Pause(target, at, rng.choice([0.01, 1.0, 30.0 if target == DRIVER else 1000.0]))
    return Partition(target, at, rng.choice([0.005, 0.6, 30.0 if target == DRIVER else 1000.0]))
