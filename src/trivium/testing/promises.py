"""What servers and their driver say, held against what the nodes' memories have: a watch of the simulated host.

Every word that somebody may count on is checked as it is said. A copy has what its ``Held`` claims; all copies that
count in the message's term have what ``Taken``, ``Settled``, ``Fresh``, ``View`` and ``Reached`` claim. What was
claimed once, was acknowledged: no later term may place a shard that has less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trivium.core.exchange import Advance, Combine, Fresh, Gather, Held, Learned, Scale, Settled, Taken, View
from trivium.core.messages import Place, Reached, Reply, Request, Stands, TermRecord
from trivium.core.role import Address, Command, Compute, Event, Message, MessageReceived, Persist, Role, Send
from trivium.testing.counting import Wrong
from trivium.testing.counting_nodes import Clocks, Cluster

__all__ = ["Promises"]

STEPS = (Gather, Combine, Scale, Advance)


class Promises:
    """Called with every event and its commands. ``acknowledged[shard][lane]``: the clocks that somebody counts on."""

    def __init__(self, cluster: Cluster, driver: Address, roles: dict[Address, Role], terms: list[TermRecord]) -> None:
        self.cluster, self.driver, self.roles, self.terms = cluster, driver, roles, terms
        self.acknowledged: list[list[int]] = [[cluster.begin] * cluster.lanes for _ in range(cluster.shards)]
        self.workers: tuple[Address, ...] = ()  # as of the last term, be it on disk or not
        self.places: dict[int, Place] = {}
        self.place: Place | None = None
        self._on_send: dict[type[Message], Callable[[Address, Address, Any], None]] = {
            Request: self._request,
            Reply: self._reply,
            View: self._view,
            Taken: self._taken,
            Held: self._held,
            Settled: self._settled,
            Fresh: self._fresh,
            Learned: self._learned,
        }

    def __call__(self, address: Address, event: Event, commands: list[Command]) -> None:
        """Check what ``address`` made of ``event``."""
        if isinstance(event, MessageReceived) and isinstance(event.message, Request):
            self._was_placed(address, event.message)
        for command in commands:
            if isinstance(command, Send):
                check = self._on_send.get(type(command.message))
                if check is not None:
                    check(address, command.to, command.message)
            elif isinstance(command, Persist) and isinstance(command.record, TermRecord):
                self.workers = command.record.workers
            elif isinstance(command, Compute) and isinstance(command.work, STEPS):
                self._begins(address, command)

    def _begins(self, address: Address, command: Compute) -> None:
        """What an orphan sums is saved by nobody, or by half of the orphans: it only ends what it was at."""
        if getattr(self.roles.get(address), "orphaned", False):
            raise Wrong(f"{address} is an orphan and begins {command.work}")

    # -- what it is held against --------------------------------------------------------------------------------------
    def _placed(self, term: int) -> Place:
        if term not in self.places:
            raise Wrong(f"a word of term {term}, which nobody was placed in")
        return self.places[term]

    def _copies(self, term: int, shard: int) -> list[tuple[Address, Clocks]]:
        """The living copies that count in ``term``, and how far they are.

        A primary sends its step to the copies as it begins to apply it: such a step is as good as applied, since it
        waits for nobody. The copies may have it first.
        """
        found, holders = [], self._placed(term).holders[shard]
        for one in holders:
            copy = self.cluster.nodes[one.node].shards[shard]
            if self.cluster.nodes[one.node].alive:
                first = one == holders[0]
                found.append((one, max(copy.applied, copy.begun, key=sum) if first else copy.applied))
        return found

    def _acknowledge(self, sender: Address, message: Message, term: int, shard: int, clocks: dict[int, int]) -> None:
        """``message`` says that these clocks of lanes are held by all."""
        for one, applied in self._copies(term, shard):
            if any(applied[lane] < clock for lane, clock in clocks.items()):
                raise Wrong(f"{sender} says {message}; {one} has applied {applied} of shard {shard}")
        known = self.acknowledged[shard]
        for lane, clock in clocks.items():
            known[lane] = max(known[lane], clock)

    # -- servers ------------------------------------------------------------------------------------------------------
    def _view(self, sender: Address, to: Address, message: View) -> None:
        place, node = self._placed(message.term), self.cluster.nodes[sender.node]
        for shard, held in enumerate(node.shards):
            if not held.applied or min(held.applied) < message.floor:
                raise Wrong(f"{message} of node {node.name}, whose shard {shard} is at {held.applied}")
            clocks = dict.fromkeys(range(self.cluster.lanes), message.floor)
            if place.rule.own:
                lo = place.ranges[place.workers.index(to)].lo
                clocks |= {lo + i: max(clock, message.floor) for i, clock in enumerate(message.lanes)}
            self._acknowledge(sender, message, message.term, shard, clocks)

    def _taken(self, sender: Address, _to: Address, message: Taken) -> None:
        self._acknowledge(sender, message, message.term, message.shard, dict(enumerate(message.applied)))

    def _fresh(self, sender: Address, _to: Address, message: Fresh) -> None:
        self._acknowledge(sender, message, message.term, message.shard, dict(enumerate(message.applied)))

    def _settled(self, sender: Address, _to: Address, message: Settled) -> None:
        for one, applied in self._copies(message.term, message.shard):
            if sum(applied) < message.tag:
                raise Wrong(f"{sender} says {message}, {one} has applied {applied}")

    def _held(self, sender: Address, _to: Address, message: Held) -> None:
        shard = self.cluster.nodes[sender.node].shards[message.shard]
        if message.tag not in shard.history or not shard.full:
            raise Wrong(f"{sender} says {message}, its copy has {sorted(shard.versions)}")

    def _learned(self, sender: Address, _to: Address, message: Learned) -> None:
        for shard in message.shards:
            if not self.cluster.nodes[sender.node].shards[shard].full:
                raise Wrong(f"{sender} says {message}, and has no whole copy of shard {shard}")

    def _reply(self, sender: Address, _to: Address, message: Reply) -> None:
        if isinstance(message.body, Stands):
            self._stands(sender, message.body)
        elif isinstance(message.body, Reached):
            for shard, holders in enumerate(self._placed(message.term).holders):
                if holders[0] == sender:
                    lanes = dict.fromkeys(range(self.cluster.lanes), message.body.clock)
                    self._acknowledge(sender, message, message.term, shard, lanes)

    def _stands(self, sender: Address, body: Stands) -> None:
        node = self.cluster.nodes[sender.node]
        node.standing = True
        for one in body.copies:
            shard = node.shards[one.shard]
            if not shard.full or shard.applied != one.applied:
                raise Wrong(f"{sender} stands at {one}, its copy is full: {shard.full}, at {shard.applied}")
            if one.before != one.applied and sum(one.before) not in shard.sums:
                raise Wrong(f"{sender} stands at {one}, the sum of its last step is not here")

    def _was_placed(self, address: Address, message: Request) -> None:
        role = self.roles.get(address)
        if isinstance(message.body, Place) and message.term == getattr(role, "term", -1):
            node = self.cluster.nodes.get(address.node)
            if node is not None and address in message.body.servers:
                node.standing = False

    # -- the driver ---------------------------------------------------------------------------------------------------
    def _request(self, _sender: Address, _to: Address, message: Request) -> None:
        if not self.terms or self.terms[-1].term < message.term:
            raise Wrong(f"term {message.term} is announced before it is on disk")
        if isinstance(message.body, Place) and message.body is not self.place:
            self.place = self.places[message.term] = message.body
            self.cluster.holders = message.body.holders
            self._check_place(message.body)

    def _check_place(self, place: Place) -> None:
        self._check_ranges(place)
        for shard, holders in enumerate(place.holders):
            self._check_holders(shard, holders, place)
            known = self.acknowledged[shard]
            if any(clock < known[lane] for lane, clock in enumerate(place.applied[shard])):
                raise Wrong(f"shard {shard} is placed at {place.applied[shard]}, {known} was acknowledged")

    def _check_ranges(self, place: Place) -> None:
        lanes = [lane for part in place.ranges for lane in range(*part)]
        if sorted(lanes) != list(range(self.cluster.lanes)):
            raise Wrong(f"lanes are placed as {place.ranges}")

    def _check_holders(self, shard: int, holders: tuple[Address, ...], place: Place) -> None:
        if not set(holders) <= set(place.servers) or len(set(holders)) != len(holders):
            raise Wrong(f"shard {shard} is held by {holders} of {place.servers}")
        alive = [one for one in holders if self.cluster.nodes[one.node].alive]
        copies = {one: self.cluster.nodes[one.node].shards[shard] for one in alive}
        for one, copy in copies.items():
            if not copy.full:
                raise Wrong(f"shard {shard} is placed on {one}, which has no whole copy")
            for other in copies.values():
                if any(other.history.get(tag, digest) != digest for tag, digest in copy.history.items()):
                    raise Wrong(f"shard {shard} is placed on {alive}, whose copies went different ways")
            if shard not in place.behind and copy.applied != place.applied[shard]:
                raise Wrong(f"shard {shard} is placed at {place.applied[shard]} on {one}, which is at {copy.applied}")
        if holders[0] in copies and copies[holders[0]].applied != place.applied[shard]:
            raise Wrong(f"shard {shard} is placed at {place.applied[shard]}, {copies[holders[0]].applied} is there")
