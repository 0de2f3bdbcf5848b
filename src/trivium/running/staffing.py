"""Who takes part in a run: from a plan to roles, processes, shards and cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from trivium.core.lanes import share
from trivium.core.membership import Members
from trivium.core.role import Address, Role
from trivium.designs.allreduce import roles as allreduce
from trivium.designs.ps import roles as ps
from trivium.designs.sequential import roles as sequential
from trivium.plan import Plan
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import BLOCK
from trivium.program.program import Program
from trivium.runtime.local import Member

__all__ = ["Staffing", "staff"]

DRIVER = Address(0, 0)
SHARD_BYTES = 1 << 19  # a server of its own pays from about this size on
RETRY = 1.0
SPIN = 3e-4

Topology = Callable[[int, int], tuple[Members, dict[Address, str]]]
TOPOLOGIES: dict[str, Topology] = {
    "sequential": sequential.topology,
    "allreduce": allreduce.topology,
    "ps": ps.topology,
}
HOLDERS: dict[str, Any] = {"sequential": sequential.Solo, "allreduce": allreduce.Peer, "ps": ps.Server}


@dataclass(frozen=True)
class Staffing:
    """Members with their roles; ``spin`` seconds are what a waiting process spins before it sleeps."""

    roster: Members
    names: dict[Address, str]
    members: tuple[Member, ...]
    shards: int
    spin: float


def staff(plan: Plan, program: Program, optimizer: Optimizer, *, ahead: bool) -> Staffing:
    """Roles, shards and cores for ``plan``; ``ahead``: rows must be gathered, which may be done while others are waited
    for.
    """
    workers = plan.worker_count
    shards = shard_count(plan, program)
    roster, names = TOPOLOGIES[plan.design](workers, shards)
    ranges = share(plan.lanes, workers)
    members = []
    for i, address in enumerate(roster.all):
        runs = address in roster.workers
        make = partial(
            make_role,
            plan.design,
            address,
            plan.lanes,
            runs,
            plan.reproducible,
            plan.orphan_timeout,
            optimizer.scalar_count == 0,
            ahead and runs and plan.design != "sequential" and not plan.reproducible,
        )
        index = i if runs else i - workers
        members.append(
            Member(
                address,
                names[address],
                make,
                ranges[i] if runs else None,
                _cpus(plan, index),
                _xla_threads(plan, program) if runs else None,
            )
        )
    crowded = len(members) > len(plan.cores) + len(roster.holders)
    return Staffing(roster, names, tuple(members), shards, 0.0 if crowded else SPIN)


def shard_count(plan: Plan, program: Program) -> int:
    """As asked for; else one for each peer, and for each worker's worth of parameters at servers."""
    layout = program.layout
    if plan.design == "sequential":
        return 1
    if program.delta_layout.size != layout.size:
        return 1  # Δ is not cut where A is
    if plan.shards is not None:
        return min(plan.shards, layout.blocks)
    enough = max(1, layout.nbytes // SHARD_BYTES)
    return max(1, min(plan.worker_count, enough, layout.size // BLOCK or 1))


def make_role(
    design: str,
    address: Address,
    lanes: int,
    runs: bool,
    reproducible: bool,
    orphan_timeout: float,
    elementwise: bool,
    ahead: bool,
) -> Role:
    """The role at ``address``; called in the process that hosts it."""
    if design == "ps" and runs:
        worker = ps.Worker(
            address, DRIVER, lanes, reproducible=reproducible, retry=RETRY, orphan_timeout=orphan_timeout
        )
        worker.read_ahead = ahead
        return worker
    role: Any = HOLDERS[design](
        address,
        DRIVER,
        lanes,
        reproducible=reproducible,
        retry=RETRY,
        orphan_timeout=orphan_timeout,
        elementwise=elementwise,
    )
    role.read_ahead = ahead
    return role  # type: ignore[no-any-return]


def _cpus(plan: Plan, index: int) -> tuple[int, ...]:
    if plan.design == "sequential":
        return plan.cores[: plan.thread_count] if plan.pin or plan.threads is not None else ()
    return (plan.cores[index % len(plan.cores)],) if plan.pin else ()


def _xla_threads(plan: Plan, program: Program) -> int | None:
    if not program.xla:
        return None
    return 1 if plan.reproducible else plan.thread_count
