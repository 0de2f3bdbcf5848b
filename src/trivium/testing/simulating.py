"""A job under the simulated host with real arithmetic: the roles, planes and bits of a real run, in one process.

``simulate(job)`` takes what ``trivium.running.session.begin`` takes. Under reproducible BSP it ends with the same
``params_sha256`` as processes do, whatever the seed and the faults.

A node is an address's node: its processes work on arrays of its own, and nothing else goes from one to another than
what planes pack beside messages. Of several nodes the driver's has no arrays; the run's parameters are then those of
the last checkpoint, as in a real run.

What it does not do: resume, write a run directory, or measure time (its seconds are virtual).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.messages import SaveShard
from trivium.core.pacing import Agenda
from trivium.core.role import Address, Launch, PeerLost, Role, Stop, Work
from trivium.errors import RunError
from trivium.running.ending import failure, final_params, params_digest, saved_params
from trivium.running.job import Job, Prepared, prepare
from trivium.running.sites import make_driver
from trivium.runtime.base import Snapshots
from trivium.runtime.faults import Fault, Network
from trivium.runtime.inline import private_arrays
from trivium.runtime.local import Member
from trivium.runtime.node_plane import NodePlane
from trivium.runtime.plane import ArrayPlane, NodeArrays
from trivium.runtime.simulated import Outcome, Simulation
from trivium.runtime.virtual import Process

__all__ = ["MemoryStore", "Simulated", "private_arrays", "simulate"]

DRIVER = Address(0, 0)
MEAN_SECONDS = 1e-3  # virtual, of a work

Saved = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Simulated:
    """What came of a simulated run; ``outcome.trace`` has every event and command if it was asked for."""

    params: NDArray[Any]
    params_sha256: str
    clocks: int
    stopped_by: str
    notices: tuple[str, ...]
    outcome: Outcome


class MemoryStore:
    """Keeps the records that are written, and of each shard what was saved last."""

    def __init__(self) -> None:
        self.records: list[Work] = []
        self._saved: dict[int, tuple[int, Saved]] = {}

    def write(self, record: Work, held: Snapshots | None) -> None:
        """Remember ``record``."""
        self.records.append(record)
        if isinstance(record, SaveShard) and held is not None:
            self._saved[record.shard] = (record.clock, held.snapshot(record.shard, record.clock))

    def checkpoint(self, clock: int, shards: int) -> Saved:
        """What was saved of ``clock``, joined over shards; RunError where that is not the last checkpoint."""
        if {self._saved.get(shard, (-1,))[0] for shard in range(shards)} != {clock}:
            raise RunError(f"clock {clock} was not saved: {self._saved.keys()}")
        parts = [self._saved[shard][1] for shard in range(shards)]
        return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in ("a", "kept")}


class _MortalPlane(ArrayPlane):
    """A plane whose process may be killed: its pins are then dropped, as a watcher does."""

    def died(self) -> None:
        """The process of this plane is dead."""
        self.release()


class _MortalNodePlane(NodePlane):
    """Likewise of a parameter server."""

    def died(self) -> None:
        """The process of this plane is dead."""
        self.release()


class _Simulation(Simulation):
    """Members that join are made when the driver launches them, whatever their addresses."""

    stage: _Stage

    def _launch(self, process: Process, command: Launch) -> None:
        for peer in command.peers:
            node = Address(peer.node, 0)
            if peer.slot and self.stage.apart and not self.lives(node) and node not in command.peers:
                self._push(self.now, self.driver, PeerLost(peer, "its node is gone"))
                continue
            self.spare[peer] = partial(self.stage.member, peer)
        super()._launch(process, command)


class _Stage:
    """The planes of all processes, and each node's arrays."""

    def __init__(self, job: Job, prepared: Prepared) -> None:
        self._prepared = prepared
        self._serves = job.plan.design == "ps"
        self.apart = job.plan.nodes > 1
        self.facts = replace(prepared.facts, processes=max(prepared.staffing.room, len(prepared.staffing.members) + 1))
        self.planes: list[ArrayPlane] = []
        self._arrays: dict[int, NodeArrays] = {}
        self.driver_plane = None if self.apart else self._plane(DRIVER, {})

    def member(self, address: Address) -> tuple[Role, ArrayPlane]:
        """The role and the plane at ``address``."""
        staffing = self._prepared.staffing
        given = {member.address: member for member in staffing.members}
        member: Member = given.get(address) or staffing.member_of(address)
        return member.make_role(), self._plane(address, self._prepared.tables if member.warm is not None else {})

    def _plane(self, address: Address, tables: dict[str, Any]) -> ArrayPlane:
        fresh = address.node not in self._arrays
        if fresh:
            self._arrays[address.node] = private_arrays(self.facts)
        make = _MortalNodePlane if self._serves else _MortalPlane
        plane = make(self.facts, self._arrays[address.node], address.slot, tables, self._prepared.sample)
        if fresh:
            plane.first_version(self.facts.program.init(self.facts.seed))
        self.planes.append(plane)
        return plane

    def close(self) -> None:
        """Let go of all."""
        for plane in self.planes:
            plane.close()


def simulate(
    job: Job,
    *,
    seed: int = 0,
    faults: Iterable[Fault] = (),
    network: Network | None = None,
    trace: bool = False,
    max_seconds: float = 1e6,
    scale: Iterable[tuple[float, int, int]] = (),
) -> Simulated:
    """Run ``job`` to its end in virtual time; raises what a real run would raise.

    Addresses of ``faults`` are those of the design: on one node workers before the holders of an allreduce, after the
    server of a parameter server; of several nodes each server in slot 0. ``scale``: (time, workers, nodes) that a
    person asks for meanwhile.
    """
    prepared = prepare(job)
    agenda, store, stage = Agenda(prepared.pace), MemoryStore(), _Stage(job, prepared)
    driver = make_driver(job, prepared, agenda, DRIVER, 0)
    driver.checkpoint_every = None  # it would follow from virtual seconds
    simulation = _Simulation(
        seed=seed,
        driver=DRIVER,
        cost=_cost,
        store=store,
        network=network,
        faults=faults,
        validate=True,
        trace=trace,
        patience=job.plan.patience,
        scale=scale,
    )
    simulation.stage = stage
    simulation.add(driver, None)
    try:
        for member in prepared.staffing.members:
            simulation.add(*stage.member(member.address))
        outcome = simulation.run(max_seconds=max_seconds)
        _raise(outcome.stops.get(DRIVER))
        if stage.driver_plane is not None:
            params = final_params(stage.driver_plane, agenda)
        else:
            params = saved_params(store.checkpoint(agenda.clock, prepared.facts.shards), agenda)
    finally:
        stage.close()
    notices = tuple(note.text for note in driver.notes)
    why = outcome.stops[DRIVER].reason
    return Simulated(params, params_digest(prepared.facts.layout, params), agenda.clock, why, notices, outcome)


def _cost(_address: Address, _work: Work, draw: random.Random) -> float:
    return draw.expovariate(1.0 / MEAN_SECONDS)


def _raise(stop: Stop | None) -> None:
    if stop is None:
        raise RunError("the simulated run did not end: raise max_seconds, or look at its trace for what it waits for")
    if not stop.error:
        return
    raise failure(stop)
