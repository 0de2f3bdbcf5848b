"""Peers run lanes and each sums, applies and publishes its own share of A: a reduce-scatter, F, and an all-gather.

F is sharded over the peers (as ZeRO does with optimizer state), so that its cost falls with their number; the sum of a
shard is made where it is applied. On one node the gather costs nothing: peers read the node's versions in place.
"""

from __future__ import annotations

from typing import final

from trivium.core.holder import Holder
from trivium.core.membership import Members
from trivium.core.role import Address
from trivium.core.runner import Runner

__all__ = ["Peer", "topology"]


@final
class Peer(Holder, Runner):
    """Runs lanes and owns a share of A."""


def topology(workers: int, _shards: int) -> tuple[Members, dict[Address, str]]:
    """Workers in slots 1 to W; slot 0 is the driver's."""
    peers = tuple(Address(0, 1 + i) for i in range(workers))
    return Members(peers, peers), {address: f"worker {i}" for i, address in enumerate(peers)}
