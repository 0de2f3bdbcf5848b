"""Who takes part in a run: from a plan to roles, processes, shards and cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from trivium.core.lanes import Part, share
from trivium.core.membership import Members
from trivium.core.role import Address, Role
from trivium.designs.allreduce import roles as allreduce
from trivium.designs.ps import change as ps
from trivium.designs.ps.server import Server
from trivium.designs.ps.worker import Worker
from trivium.designs.sequential import roles as sequential
from trivium.plan import Plan
from trivium.program.optimizers.base import Optimizer
from trivium.program.params import BLOCK
from trivium.program.program import Program
from trivium.runtime.local import Member

__all__ = ["Staffing", "staff"]

DRIVER = Address(0, 0)
SHARD_BYTES = 1 << 19  # a holder of its own pays from about this size on
SPLIT_BYTES = 1 << 20  # of a node's share of A: it is cut again, so that nodes that join have something to take over
ROOM = 8  # workers that may be on one node, if the plan does not begin with more
RETRY = 1.0
SPIN = 3e-4

Topology = Callable[[int, int], tuple[Members, dict[Address, str]]]
TOPOLOGIES: dict[str, Topology] = {"sequential": sequential.topology, "allreduce": allreduce.topology}
HOLDERS: dict[str, Any] = {"sequential": sequential.Solo, "allreduce": allreduce.Peer}


@dataclass(frozen=True)
class Staffing:
    """Members with their roles; ``spin`` seconds are what a waiting process spins before it sleeps.

    ``room`` is for how many processes a node's memory is laid out, the driver's or agent's among them; ``member_of``
    makes the member at an address that joins later.
    """

    roster: Members
    names: dict[Address, str]
    members: tuple[Member, ...]
    shards: int
    spin: float
    room: int
    member_of: Callable[[Address], Member]


def staff(plan: Plan, program: Program, optimizer: Optimizer, *, ahead: bool) -> Staffing:
    """Roles, shards and cores for ``plan``; ``ahead``: rows must be gathered, which may be done while others are waited
    for.
    """
    workers = plan.worker_count
    shards = shard_count(plan, program) + program.row_shards
    topology = TOPOLOGIES.get(plan.design)
    roster, names = topology(workers, shards) if topology else ps.topology(workers, plan.nodes)
    maker = _Maker(
        plan,
        shards,
        optimizer.scalar_count == 0,
        ahead and plan.design != "sequential" and not plan.reproducible,
        _xla_threads(plan, program),
    )
    ranges = dict(zip(roster.workers, share(plan.lanes, workers), strict=True))
    members = tuple(
        maker.member(address, names[address], ranges.get(address), index)
        for index, address in enumerate((*roster.workers, *(one for one in roster.holders if one not in ranges)))
    )
    members = tuple(sorted(members, key=lambda one: one.address))
    crowded = len(members) > len(plan.cores) + len(roster.holders)
    return Staffing(
        roster,
        names,
        members,
        shards,
        0.0 if crowded else SPIN,
        _room(plan, workers, len(members)),
        partial(_joiner, maker, names, Part(0, -(-plan.lanes // workers))),
    )


def _room(plan: Plan, workers: int, members: int) -> int:
    if plan.design != "ps":
        return members + 1
    return 2 + max(workers, min(plan.lanes, ROOM))


@dataclass(frozen=True)
class _Maker:
    """Makes members of a run from their addresses."""

    plan: Plan
    shards: int
    elementwise: bool
    ahead: bool
    jax_threads: int | None

    def member(self, address: Address, name: str, lanes: Part | None, index: int) -> Member:
        """The member at ``address``; ``lanes`` are what it warms up for, None where it runs none."""
        make = partial(
            make_role,
            self.plan.design,
            address,
            self.plan.lanes,
            self.shards,
            lanes is not None,
            self.plan.reproducible,
            self.plan.orphan_timeout,
            self.elementwise,
            self.ahead,
        )
        threads = self.jax_threads if lanes is not None else None
        return Member(address, name, make, lanes, _cpus(self.plan, index), threads)


def _joiner(maker: _Maker, names: dict[Address, str], lanes: Part, address: Address) -> Member:
    """Who joins at ``address`` later, under the name that the driver has given it in ``names``."""
    serves = address.slot == 0
    return maker.member(address, names[address], None if serves else lanes, address.slot)


def shard_count(plan: Plan, program: Program) -> int:
    """As asked for; else one for each peer, or for each node's server, two where they are large."""
    layout = program.layout
    if plan.design == "sequential" or program.delta_layout.size != layout.size:
        return 1  # Δ is not cut where A is
    if plan.shards is not None:
        return min(plan.shards, layout.blocks)
    if plan.design == "ps":
        share_of_node = layout.nbytes // plan.nodes
        wanted = 1 if plan.nodes == 1 else plan.nodes * (1 + (share_of_node >= SPLIT_BYTES))
        return max(1, min(wanted, layout.size // BLOCK or 1))
    enough = max(1, layout.nbytes // SHARD_BYTES)
    return max(1, min(plan.worker_count, enough, layout.size // BLOCK or 1))


def make_role(
    design: str,
    address: Address,
    lanes: int,
    shards: int,
    runs: bool,
    reproducible: bool,
    orphan_timeout: float,
    elementwise: bool,
    ahead: bool,
) -> Role:
    """The role at ``address``; called in the process that hosts it."""
    settings: dict[str, Any] = {"reproducible": reproducible, "retry": RETRY, "orphan_timeout": orphan_timeout}
    if design != "ps":
        role: Any = HOLDERS[design](address, DRIVER, lanes, elementwise=elementwise, **settings)
        role.read_ahead = ahead
        return role  # type: ignore[no-any-return]
    if not runs:
        return Server(address, DRIVER, lanes, shards, elementwise=elementwise, **settings)
    worker = Worker(address, DRIVER, Address(address.node, 1 if address.node == 0 else 0), lanes, **settings)
    worker.read_ahead = ahead
    return worker


def _cpus(plan: Plan, index: int) -> tuple[int, ...]:
    if plan.design == "sequential":
        return plan.cores[: plan.thread_count] if plan.pin or plan.threads is not None else ()
    return (plan.cores[index % len(plan.cores)],) if plan.pin else ()


def _xla_threads(plan: Plan, program: Program) -> int | None:
    if not program.xla:
        return None
    return 1 if plan.reproducible else plan.thread_count
