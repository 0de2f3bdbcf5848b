"""The whole contract between roles and what runs them.

A **host** owns roles: it feeds them events and carries their commands out. The local host does so with processes and
shared memory, the simulated host in one process under virtual time. Bulk arithmetic goes through a **plane**, durable
records through a **store**; both hosts use the same ones, which is why they end in the same bits.
"""

from __future__ import annotations

from typing import Any, Protocol

from trivium.core.role import Work

__all__ = ["Plane", "Store"]


class Plane(Protocol):
    """What one process can do with bulk data."""

    def carry_out(self, work: Work) -> Any:
        """Do ``work``; the result is what its class promises. Raises what user code raises."""

    def read(self, clock: int) -> None:
        """Hold all shards readable at ``clock`` until the next call."""


class Store(Protocol):
    """What survives: the run directory."""

    def write(self, record: Work, plane: Plane) -> None:
        """Write ``record`` so that it is there after a crash, or raise StorageError."""
