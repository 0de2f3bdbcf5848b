"""The whole contract between roles and what runs them.

A host owns roles. It feeds them events and carries their commands out: the local host with processes and shared memory,
the simulated host in one process under virtual time. Bulk arithmetic goes through a ``Plane``.
"""

from __future__ import annotations
