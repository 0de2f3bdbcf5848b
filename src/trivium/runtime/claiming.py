"""Another driver for nodes whose driver is dead: it finds them by the run's ``deed``, and claims them.

It binds where the lost driver did and proves the same key, so that agents, who dial until somebody answers, come by
themselves. To each goes a ``Claim``, and each says who is there and what was placed last. Nothing else is believed, and
nothing was changed: until a term of its own the nodes stand as they were left.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trivium.core.membership import Members
from trivium.core.messages import Place
from trivium.core.role import Address
from trivium.errors import UsageError
from trivium.runtime.deed import Deed, Post
from trivium.runtime.seats import AgentSeat
from trivium.runtime.wire import DRIVER, Bye, Claim, End, Link, Manned, order_of, packed_order

if TYPE_CHECKING:
    from trivium.runtime.curve import Keys

__all__ = ["AdoptedSeat", "Claimed", "claim"]

log = logging.getLogger(__name__)
WITHIN = 10.0  # seconds for agents that live to answer


class AdoptedSeat(AgentSeat):
    """An agent that another process started: as ``AgentSeat``, but how it ended is not told to us."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, False
        self.pidfd = os.pidfd_open(pid)
        self.dead = self.killed = self.how = self.words = ""
        self.left = False

    @property
    def pid(self) -> int:
        """Process number, and that of the node's group."""
        return self._pid

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if not self._ended:
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                log.debug("the group of process %d is gone", self._pid)

    def gone(self, within: float) -> bool:
        """Whether the agent is dead, waiting at most ``within`` seconds; what it leaves of its group is killed."""
        if self._ended:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(max(0.0, within) * 1000):
            return False
        self.kill()
        self._ended = True
        self.how = self.words.strip().splitlines()[-1] if self.words.strip() else "its process is gone"
        return True

    def close(self) -> None:
        """Let go of what we hold of it; it is dead."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass
class Claimed:
    """The nodes of a run that answered a claim. ``ring`` is called by the links' thread, once it is set."""

    deed: Deed
    keys: Keys
    links: Link
    manned: dict[int, Manned]
    seats: dict[int, AdoptedSeat]
    bells: list[Callable[[], None]] = field(default_factory=list)

    @property
    def place(self) -> Place | None:
        """The last placement; None where there was none."""
        told = [one for one in self.manned.values() if one.placed >= 0]
        if not told:
            return None
        return msgspec.msgpack.decode(max(told, key=lambda one: one.placed).place, type=Place)

    @property
    def over(self) -> bool:
        """Whether the run was coming to its end, or never began: then there is nothing to take over."""
        place = self.place
        if place is None:
            return True
        return any(self.manned[one.node].over for one in place.servers if one.node in self.manned)

    @property
    def members(self) -> Members:
        """Those of the last placement that live."""
        place = self.place
        assert place is not None
        servers = tuple(one for one in place.servers if one.node in self.manned)
        there = {Address(node, slot) for node, one in self.manned.items() for slot, _name, pid in one.names if pid}
        homes = {one.node for one in servers}
        return Members(tuple(one for one in place.workers if one in there and one.node in homes), servers)

    @property
    def names(self) -> dict[Address, str]:
        """Of all who are or were there."""
        names = {Address(one.node, 0): f"server {one.node - 1}" for one in self.deed.agents}
        for node, told in self.manned.items():
            names |= {Address(node, slot): name for slot, name, _pid in told.names}
        return names

    def pid(self, member: Address) -> int:
        """The process of ``member``."""
        return next(pid for slot, _name, pid in self.manned[member.node].names if slot == member.slot)

    def send_away(self) -> None:
        """End who is there and not of the last placement: joiners that did not count yet, and leavers."""
        members = set(self.members.all)
        for node, told in list(self.manned.items()):
            if Address(node, 0) not in members:
                self._end(node)
                continue
            for slot, _name, pid in told.names:
                if pid and Address(node, slot) not in members:
                    self.links.send(node, packed_order(End(slot, "it did not count when the driver died")))

    def _end(self, node: int) -> None:
        seat = self.seats.pop(node)
        seat.kill()
        seat.close()
        self.links.forget(node)
        del self.manned[node]

    def let_go(self) -> None:
        """Do not drive it after all: the nodes wait for somebody else, as long as they would have."""
        self.links.close(0.5)
        for seat in self.seats.values():
            seat.close()

    def dismiss(self) -> None:
        """End it: there is nothing to take over, and all that counts was saved."""
        for node in self.manned:
            self.links.send(node, packed_order(Bye()))
        self.let_go()


def claim(run: Path, deed: Deed, within: float = WITHIN) -> Claimed | None:
    """Claim the run in ``run`` for this process; None where none of its nodes is there, or comes in time.

    An agent that lives and does not answer is ended, and with it its node: it is not to be in the way later.
    """
    from trivium.runtime.curve import Keys
    from trivium.runtime.links import Links

    living = [one for one in deed.agents if one.alive]
    if not living:
        return None
    bells: list[Callable[[], None]] = []
    came = threading.Event()
    keys = Keys(deed.public, deed.secret)

    def ring() -> None:
        came.set()
        for bell in bells:
            bell()

    try:
        links: Link = Links(DRIVER.node, keys, bind=deed.endpoint, ring=ring)
    except UsageError as error:
        log.warning("%s cannot be taken over: %s", run, error)
        return None
    for one in living:
        links.allow(one.node, one.public)
        links.send(one.node, packed_order(Claim(deed.run, os.getpid())))
    manned = _answers(links, deed, living, came, time.monotonic() + within)
    claimed = Claimed(deed, keys, links, manned, {}, bells)
    if not manned:
        claimed.let_go()
        return None
    for one in living:
        seat = AdoptedSeat(one.pid)
        if one.node in manned:
            claimed.seats[one.node] = seat
        else:
            log.warning("node %d (process %d) does not answer, and is ended", one.node, one.pid)
            seat.kill()
            seat.close()
            links.forget(one.node)
    return claimed


def _answers(
    links: Any, deed: Deed, living: Sequence[Post], came: threading.Event, deadline: float
) -> dict[int, Manned]:
    """What each agent says, until all have that live, or it is too late."""
    manned: dict[int, Manned] = {}
    while any(one.alive and one.node not in manned for one in living) and time.monotonic() < deadline:
        came.clear()
        while links.received:
            peer, header = links.received.popleft()[:2]
            order = order_of(header)
            if isinstance(order, Manned) and order.run == deed.run:
                manned[peer] = order
        came.wait(0.05)
    return manned
