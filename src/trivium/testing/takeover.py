"""The driver of a run over nodes dies, and another one takes the live run over: under the simulated host, counted.

A seed decides all that it decides in ``scenarios_nodes``, when the driver dies, and how long after that another one
comes. It knows what the real one knows: the last placement, which the servers tell; the last decisions of the agenda
and the terms, which are on disk. The same ``Promises`` watch both drivers, so that whatever was acknowledged to the
first one must be there for the second; the looks must be those of a run whose driver never died.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trivium.core.membership import Members
from trivium.core.messages import Decided, Place
from trivium.core.pacing import Agenda
from trivium.core.role import Address, PeerJoined, Role, Started, Work
from trivium.designs.ps.change import topology
from trivium.designs.ps.driver import NodesDriver
from trivium.designs.ps.server import Server
from trivium.runtime.base import Plane
from trivium.runtime.faults import CutNode, Kill, KillNode, Partition, Pause
from trivium.runtime.simulated import Simulation
from trivium.runtime.virtual import INTERNAL, Joining, Strike
from trivium.testing.counting import Wrong
from trivium.testing.counting_nodes import Cluster, NodePlane
from trivium.testing.counting_store import NodesStore
from trivium.testing.promises import Promises
from trivium.testing.scenarios_nodes import DRIVER, PATIENCE, Life, Scenario, check, draw, member, pace

__all__ = ["Taken", "drawn", "run"]

RETRY, SOON = 0.5, 2.0  # members wait for 3 s


@dataclass(frozen=True)
class Follow:
    """At time ``at`` another driver comes, if the one before it is dead."""

    at: float


@dataclass(frozen=True)
class Taken:
    """How a scenario went: its last life, and whether a second driver ``took_over``."""

    life: Life
    took_over: bool


class _Store(NodesStore):
    """Keeps what the agenda has come to as well."""

    decided: Decided | None = None

    def write(self, record: Work, held: Any) -> None:
        super().write(record, held)
        if isinstance(record, Decided):
            self.decided = record


class _Simulation(Simulation):
    """One in which drivers follow each other: ``follow`` makes the next one, or None."""

    follow: Callable[[], NodesDriver | None]

    def _strike(self, event: Strike) -> None:
        if not isinstance(event.fault, Follow):
            super()._strike(event)
            return
        if self.lives(DRIVER):
            return
        driver = self.follow()
        if driver is None:
            return
        for address in [one for one in self._processes if self.lives(one) and one not in driver.members.all]:
            self._kill(address, "it is not of the run")
        self.add(driver, None)
        self._push(self.now, DRIVER, Started())
        for address in driver.members.all:
            self._push(self.now + self.random.random() * self.detect, address, PeerJoined(DRIVER))
            self._push(self.now + self.random.random() * self.detect, DRIVER, Joining(address), INTERNAL)


def drawn(seed: int) -> tuple[Scenario, float]:
    """The scenario of ``seed``, in which the driver dies; when another one comes."""
    rng = random.Random(seed * 2 + 1)
    scenario = draw(seed)
    if scenario.nodes == 1:
        nodes = rng.choice([2, 3])
        scenario = replace(scenario, nodes=nodes, workers=max(scenario.workers, nodes), scale=(), straggler=None)
    at = rng.random() * 0.12
    members, _names = topology(scenario.workers, scenario.nodes)
    faults = [one for one in scenario.faults if _is_short(one) and getattr(one, "target", None) in (None, *members.all)]
    if rng.random() < 0.5:
        faults = []
    scenario = replace(
        scenario, faults=(*faults, Kill(DRIVER, at)), again=(), stop_at=None, disk_full_after=None, fail_at=None
    )
    return scenario, at + scenario.detect + rng.random() * rng.choice([0.01, SOON])


def _is_short(fault: object) -> bool:
    """Whether it is one that a host need not judge: what was silent under the first driver, the second must find."""
    if isinstance(fault, Pause | Partition | CutNode):
        return fault.seconds < PATIENCE
    return isinstance(fault, Kill | KillNode)


def run(scenario: Scenario, follow_at: float, *, trace: bool = False) -> Taken:
    """Run ``scenario``; Wrong where something does not hold that must."""
    life = _assembled(scenario, follow_at, trace=trace)
    first = life.driver
    outcome = life.simulation.run(max_seconds=600.0, max_events=300_000)
    took_over = life.driver is not first
    check(life, outcome)
    alone = len(scenario.faults) == 1
    stop = outcome.stops.get(DRIVER)
    if took_over and alone and (stop is None or stop.error):
        raise Wrong(f"taken over, and ended with {stop}: driver {life.driver.phase}, asked {life.driver.waiting()}")
    return Taken(life, took_over)


def _assembled(scenario: Scenario, follow_at: float, *, trace: bool) -> Life:
    members, names = topology(scenario.workers, scenario.nodes)
    store = _Store(scenario.shards)
    cluster = Cluster(
        scenario.shards,
        scenario.lanes,
        scenario.kind,
        elementwise=scenario.elementwise,
        reproducible=scenario.reproducible,
        finish_at=scenario.finish_at,
    )
    roles: dict[Address, Role] = {}
    promises = Promises(cluster, DRIVER, roles, store.terms)

    def make(address: Address, server: Address) -> tuple[Role, Plane]:
        role = roles[address] = member(scenario, address, server)
        if address.node not in cluster.nodes:
            store.restore(cluster, address.node, 0)
        return role, NodePlane(cluster.nodes[address.node], server=address == server)

    def cost(address: Address, _work: Work, rng: random.Random) -> float:
        return (1e-4 + rng.random() * 4e-3) * (30 if address == scenario.straggler else 1)

    simulation = _Simulation(
        seed=scenario.seed,
        driver=DRIVER,
        cost=cost,
        detect=scenario.detect,
        store=store,
        network=scenario.network,
        faults=[*scenario.faults, Follow(follow_at)],  # type: ignore[list-item]
        validate=True,
        trace=trace,
        watch=promises,
        patience=PATIENCE,
        spare={one: lambda one=one: make(one, Address(one.node, 0)) for one in _places(scenario, members)},  # type: ignore[misc]
        scale=scenario.scale,
    )
    driver = _driver(scenario, members, names, Agenda(pace(scenario)), 0)
    life = Life(scenario, simulation, driver, cluster, store, promises)
    simulation.follow = lambda: _follower(life, names)
    simulation.add(life.driver, None)
    for address in members.all:
        simulation.add(*make(address, Address(address.node, 0)))
    return life


def _places(scenario: Scenario, members: Members) -> list[Address]:
    """Who may be launched."""
    if not scenario.scale or not scenario.spares:
        return []
    places = [Address(node, slot) for node in range(1, 8) for slot in range(12)]
    return [one for one in places if one not in members.all]


def _driver(
    scenario: Scenario,
    members: Members,
    names: dict[Address, str],
    agenda: Agenda,
    term: int,
    standing: Place | None = None,
) -> NodesDriver:
    return NodesDriver(
        DRIVER,
        members,
        lanes=scenario.lanes,
        shards=scenario.shards,
        agenda=agenda,
        retry=RETRY,
        patience=5.0,
        names=names,
        rule=scenario.kind if standing is None else standing.rule,
        copies=scenario.copies,
        checkpoint_every=scenario.checkpoint_every,
        term=term,
        standing=standing,
    )


def _follower(life: Life, names: dict[Address, str]) -> NodesDriver | None:
    """The next driver, from what the living servers and the disk tell; None where there is nothing to take over."""
    simulation, store, roles = life.simulation, life.store, life.promises.roles
    told = [role.placement for one, role in roles.items() if isinstance(role, Server) and simulation.lives(one)]
    placements = [one for one in told if one is not None]
    assert isinstance(store, _Store)
    if not placements or store.decided is None:
        return None
    _term, place = max(placements, key=lambda one: one[0])
    if any(one in simulation.stops for one in (*place.workers, *place.servers)):
        return None
    servers = tuple(one for one in place.servers if simulation.lives(one))
    homes = {one.node for one in servers}
    workers = tuple(one for one in place.workers if simulation.lives(one) and one.node in homes)
    if not servers or not workers:
        return None
    agenda = Agenda.followed(pace(life.scenario), store.decided.pace)
    life.driver = _driver(life.scenario, Members(workers, servers), names, agenda, store.terms[-1].term, place)
    return life.driver
