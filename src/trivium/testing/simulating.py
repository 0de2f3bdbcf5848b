"""A job under the simulated host with real arithmetic: the roles, planes and bits of a real run, in one process.

``simulate(job)`` takes what ``trivium.running.session.begin`` takes. Under reproducible BSP it ends with the same
``params_sha256`` as processes do, whatever the seed and the faults.

What it does not do: resume, write a run directory, or measure time (its seconds are virtual).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.core.role import Address, Stop, Work
from trivium.errors import RunError
from trivium.program.params import ALIGN
from trivium.running.ending import failure, final_params, params_digest
from trivium.running.job import Job, Prepared, prepare
from trivium.running.staffing import RETRY
from trivium.runtime.base import Snapshots
from trivium.runtime.faults import Fault, Network
from trivium.runtime.plane import ArrayPlane, Facts, NodeArrays, node_arrays
from trivium.runtime.simulated import Outcome, Simulation

__all__ = ["MemoryStore", "Simulated", "private_arrays", "simulate"]

DRIVER = Address(0, 0)
MEAN_SECONDS = 1e-3  # virtual, of a work


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
    """Keeps the records that are written, and nothing else."""

    def __init__(self) -> None:
        self.records: list[Work] = []

    def write(self, record: Work, held: Snapshots | None) -> None:  # noqa: ARG002 - no arrays are kept
        """Remember ``record``."""
        self.records.append(record)


class _MortalPlane(ArrayPlane):
    """A plane whose process may be killed: its pins are then dropped, as a watcher does."""

    def died(self) -> None:
        """The process of this plane is dead."""
        self.release()


def private_arrays(facts: Facts) -> NodeArrays:
    """The node's arrays in this process's own memory, each on a 64-byte boundary."""
    return NodeArrays(**{name: _aligned(*entry) for name, entry in node_arrays(facts).items()})


def _aligned(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    skip = -raw.ctypes.data % ALIGN
    return raw[skip : skip + nbytes].view(dtype).reshape(shape)


def simulate(
    job: Job,
    *,
    seed: int = 0,
    faults: Iterable[Fault] = (),
    network: Network | None = None,
    trace: bool = False,
    max_seconds: float = 1e6,
) -> Simulated:
    """Run ``job`` to its end in virtual time; raises what a real run would raise.

    Addresses of ``faults`` are those of the design: workers in slots 1 to W, servers after them.
    """
    prepared = prepare(job)
    facts, roster = prepared.facts, prepared.staffing.roster
    arrays = private_arrays(facts)
    driver_plane = ArrayPlane(facts, arrays, 0, {})
    driver_plane.first_version(facts.program.init(facts.seed))
    agenda = Agenda(prepared.pace)
    driver = Driver(
        DRIVER,
        roster,
        lanes=facts.lanes,
        shards=facts.shards,
        agenda=agenda,
        retry=RETRY,
        patience=job.plan.patience,
        names=prepared.staffing.names,
        max_time=prepared.max_time,
    )
    simulation = Simulation(
        seed=seed,
        driver=DRIVER,
        cost=_cost,
        store=MemoryStore(),
        network=network,
        faults=faults,
        validate=True,
        trace=trace,
        patience=job.plan.patience,
    )
    simulation.add(driver, None)
    planes = [driver_plane, *_add_members(simulation, prepared, arrays)]
    try:
        outcome = simulation.run(max_seconds=max_seconds)
        _raise(outcome.stops.get(DRIVER))
        params = final_params(driver_plane, agenda)
    finally:
        for plane in planes:
            plane.close()
    notices = tuple(note.text for note in driver.notes)
    why = outcome.stops[DRIVER].reason
    return Simulated(params, params_digest(facts.layout, params), agenda.clock, why, notices, outcome)


def _add_members(simulation: Simulation, prepared: Prepared, arrays: NodeArrays) -> list[ArrayPlane]:
    planes: list[ArrayPlane] = []
    for index, member in enumerate(prepared.staffing.members, start=1):
        plane = _MortalPlane(prepared.facts, arrays, index, prepared.tables, prepared.sample)
        simulation.add(member.make_role(), plane)
        planes.append(plane)
    return planes


def _cost(_address: Address, _work: Work, draw: random.Random) -> float:
    return draw.expovariate(1.0 / MEAN_SECONDS)


def _raise(stop: Stop | None) -> None:
    if stop is None:
        raise RunError("the simulated run did not end: raise max_seconds, or look at its trace for what it waits for")
    if not stop.error:
        return
    raise failure(stop)
