"""A change of a run's size, as a value: who is there afterwards, who must be started first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trivium.core.membership import Members
from trivium.core.role import Address

__all__ = ["Change", "resized", "sized", "topology"]


@dataclass(frozen=True)
class Change:
    """``members`` are those after it, ``joins`` have to be started; ``why`` is for people."""

    members: Members
    why: str
    joins: tuple[Address, ...] = ()
    names: Mapping[Address, str] = field(default_factory=dict)
    handed: bool = False  # whether there was a term in which those that leave and their heirs both counted

    def without(self, peer: Address) -> Change:
        """After the loss of ``peer``, and of its node's workers if it is a server."""
        members = self.members.without(peer)
        if peer in self.members.holders:
            runners = tuple(one for one in members.workers if one.node != peer.node)
            members = Members(runners, members.holders)
        return Change(members, self.why, self.joins, self.names, self.handed)


def topology(workers: int, nodes: int) -> tuple[Members, dict[Address, str]]:
    """Servers and workers of a run, and their names.

    One node: the driver in slot 0, the server in slot 1, workers after it. Several: the driver alone on node 0, node k
    is ``Address.node`` k + 1, its server in slot 0, its workers after it; a node's workers run neighbouring lanes.

    >>> members, names = topology(3, 2)
    >>> members.holders
    (Address(node=1, slot=0), Address(node=2, slot=0))
    >>> [names[one] for one in members.workers], members.workers[2]
    (['worker 0', 'worker 1', 'worker 2'], Address(node=2, slot=2))
    """
    if nodes == 1:
        server = Address(0, 1)
        runners = tuple(Address(0, 2 + i) for i in range(workers))
        return Members(runners, (server,)), {
            server: "server 0",
            **{one: f"worker {i}" for i, one in enumerate(runners)},
        }
    servers = tuple(Address(1 + node, 0) for node in range(nodes))
    runners = tuple(
        Address(1 + node, 1 + i)
        for node in range(nodes)
        for i in range(workers * (node + 1) // nodes - workers * node // nodes)
    )
    names = {one: f"server {node}" for node, one in enumerate(servers)}
    names |= {one: f"worker {i}" for i, one in enumerate(runners)}
    return Members(runners, servers), names


def resized(members: Members, names: Mapping[Address, str], workers: int, nodes: int) -> Change | None:
    """From ``members`` to ``workers`` on ``nodes``; None if that is what there is.

    The last nodes go, and the last workers of the fullest nodes; joiners go where there are the fewest. A run that was
    begun on one node stays on it: there the driver is of the same node.
    """
    servers = members.holders
    nodes = min(nodes, workers)
    if len(servers) == 1 and servers[0].node == 0:
        nodes = 1
    used = (*members.all, *names)  # an address is never used again
    highest = max(one.node for one in used)
    stay = (*servers[:nodes], *(Address(highest + 1 + i, 0) for i in range(nodes - len(servers))))
    homes = {one.node: [w for w in members.workers if w.node == one.node] for one in stay}
    slots = {home: max((one.slot for one in used if one.node == home), default=0) for home in homes}
    while sum(map(len, homes.values())) < workers or not all(homes.values()):  # each node has one, even if others go
        home = min(homes, key=lambda one: (len(homes[one]), one))
        slots[home] += 1
        homes[home].append(Address(home, slots[home]))
    while sum(map(len, homes.values())) > workers:
        homes[max(homes, key=lambda home: (len(homes[home]), home))].pop()
    runners = tuple(sorted(one for at in homes.values() for one in at))
    after = Members(runners, stay)
    if after == members:
        return None
    joins = tuple(one for one in (*stay, *runners) if one not in members.all)
    number = 1 + max((int(name.rpartition(" ")[2]) for name in names.values() if name.startswith("worker")), default=-1)
    called = {one: f"server {one.node - 1}" for one in joins if one in stay}
    called |= {one: f"worker {number + i}" for i, one in enumerate(one for one in joins if one not in stay)}
    why = f"{sized(after)}, before {sized(members)}"
    return Change(after, why, joins, called)


def sized(members: Members) -> str:
    """``members`` in words: how many workers, on how many nodes."""
    workers, nodes = len(members.workers), len(members.holders)
    return f"{workers} worker{'s' * (workers != 1)}" + (f" on {nodes} nodes" if nodes > 1 else "")
