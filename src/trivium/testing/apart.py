"""``core``'s holder and runner in processes of their own: so each is seen to keep its part of the protocol by itself.

No design is cut like this. A peer of an allreduce is both at once, and hides what one of them leaves to the other.
"""

from __future__ import annotations

from typing import final

from trivium.core.holder import Holder
from trivium.core.membership import Members
from trivium.core.messages import Done, Proceed
from trivium.core.role import Address, Commands
from trivium.core.runner import Runner

__all__ = ["Server", "Worker", "topology"]


@final
class Server(Holder):
    """Holds one or more shards."""


@final
class Worker(Runner):
    """Runs lanes; takes a lease note of at once, since only servers can say when it is used up."""

    def _proceed(self, body: Proceed, now: float) -> Commands:
        return [*self._answer(Done()), *super()._proceed(body, now)]


def topology(workers: int, shards: int) -> tuple[Members, dict[Address, str]]:
    """Workers in slots 1 to W, a server for each shard after them; slot 0 is the driver's."""
    runners = tuple(Address(0, 1 + i) for i in range(workers))
    servers = tuple(Address(0, 1 + workers + i) for i in range(shards))
    names = {address: f"worker {i}" for i, address in enumerate(runners)}
    names |= {address: f"server {i}" for i, address in enumerate(servers)}
    return Members(runners, servers), names
