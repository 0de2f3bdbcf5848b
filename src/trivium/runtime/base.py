"""The whole contract between roles and what runs them.

A **host** owns roles: it feeds them events and carries their commands out. The local host does so with processes and
shared memory, the simulated host in one process under virtual time. Bulk arithmetic goes through a **plane**, durable
records through a **store**; both hosts use the same ones, which is why they end in the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from trivium.core.messages import SaveShard
from trivium.core.role import Address, Message, Work

__all__ = ["BulkPlane", "Plane", "Snapshots", "Store", "as_asked"]


class Snapshots(Protocol):
    """What a store is given to write from."""

    def snapshot(self, shard: int, clock: int) -> Any:
        """A copy of ``shard`` as of ``clock``, kept parameters included. Raises RunError where it is not there."""


class Plane(Snapshots, Protocol):
    """What one process can do with bulk data."""

    def carry_out(self, work: Work) -> Any:
        """Do ``work``; the result is what its class promises. Raises what user code raises."""

    def read(self, clock: int) -> None:
        """Hold all shards readable at ``clock`` until the next call."""


class BulkPlane(Plane, Protocol):
    """A plane whose bulk data also goes to other nodes, beside messages of the classes in ``core.exchange.BULK``.

    A host packs each such message that it sends to another node at once, before it carries out the next command, and
    unpacks each that comes before it feeds it to the role. Messages within a node are not packed: memory is shared.
    """

    def pack(self, message: Message) -> Sequence[Any]:
        """The buffers that go beside ``message``: bytes or read-only memory, never written again. RunError if none."""

    def unpack(self, sender: Address, message: Message, buffers: Sequence[Any]) -> None:
        """Keep what came, for the works that the role may ask for; it may be late, doubled or of a term that is over.

        ``buffers`` are the plane's from now on, and only to be read. RunError where they are not what they should be.
        """


class Store(Protocol):
    """What survives: the run directory."""

    def write(self, record: Work, held: Snapshots | None) -> None:
        """Write ``record`` so that it is there after a crash, or raise StorageError."""


class _Copy:
    """One shard, as it was when that was asked for; or what copies it now, where nothing has changed since."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def snapshot(self, _shard: int, _clock: int) -> Any:
        """What was copied."""
        return self._content() if callable(self._content) else self._content


def as_asked(record: Work, plane: Snapshots | None) -> Snapshots | None:
    """What ``record`` is to be written from, as it is now: a disk takes its time, and the plane goes on meanwhile."""
    if isinstance(record, SaveShard) and plane is not None:
        return _Copy(plane.snapshot(record.shard, record.clock))
    return plane
