"""Durable records of a simulated run over nodes, in the manner of the real run directory; see ``CountingStore``."""

from __future__ import annotations

from typing import Any, TypeAlias

from trivium.core.messages import Manifest, SaveShard, TermRecord
from trivium.core.role import Work
from trivium.errors import StorageError
from trivium.testing.counting import Wrong
from trivium.testing.counting_nodes import Cluster, Version

__all__ = ["NodesStore"]

Kept: TypeAlias = tuple[int, Version] | None


class NodesStore:
    """Terms, saved shards and manifests; what was torn fails its checksum."""

    def __init__(self, count: int, *, full_after: int | None = None) -> None:
        self.count, self.full_after = count, full_after
        self.terms: list[TermRecord] = []
        self.shards: dict[tuple[int, int], Version | None] = {}  # None: torn
        self.kept: dict[tuple[int, int], Kept] = {}
        self.manifests: list[Manifest] = []
        self.writes = 0

    def write(self, record: Work, held: Any) -> None:
        """Keep ``record``; StorageError once the disk is full."""
        self.writes += 1
        if self.full_after is not None and self.writes > self.full_after:
            raise StorageError("no space left on the run directory's disk")
        if isinstance(record, TermRecord):
            if self.terms and record.term <= self.terms[-1].term:
                raise Wrong(f"term {record.term} written after {self.terms[-1].term}")
            self.terms.append(record)
        elif isinstance(record, SaveShard):
            self._save(record, *held.snapshot(record.shard, record.clock))
        elif isinstance(record, Manifest):
            for shard in range(self.count):
                if self.shards.get((shard, record.clock)) is None:
                    raise Wrong(f"manifest of clock {record.clock} without shard {shard}")
            self.manifests.append(record)

    def _save(self, record: SaveShard, version: Version, kept: Kept) -> None:
        """What orphans save (``best`` −1) replaces no whole file, since a manifest may name it."""
        name = (record.shard, record.clock)
        if record.best >= 0 and (kept is None or kept[0] != record.best):
            raise Wrong(f"{record} holds the kept parameters {kept}")
        if self.shards.get(name) is None or record.best >= 0:
            self.shards[name], self.kept[name] = version, kept

    def torn(self, record: Work) -> None:
        """Its writer died in the middle: what was there under this name stays, for a new name there is a torn file."""
        if isinstance(record, SaveShard):
            self.shards.setdefault((record.shard, record.clock), None)

    def whole(self) -> list[int]:
        """The clocks of which every shard is saved and passes its checksum."""
        names = {name for name, version in self.shards.items() if version is not None}
        return sorted(c for c in {clock for _s, clock in names} if all((s, c) in names for s in range(self.count)))

    def manifest(self) -> Manifest | None:
        """The newest manifest whose shards are whole."""
        clocks = self.whole()
        return next((one for one in reversed(self.manifests) if one.clock in clocks), None)

    def restore(self, cluster: Cluster, name: int, clock: int) -> None:
        """A new node of ``cluster``, as of ``clock``, with the parameters that the newest manifest kept."""
        if clock == 0:
            cluster.add(name, cluster.first())
            return
        found = [self.shards[shard, clock] for shard in range(self.count)]
        if None in found:
            raise Wrong(f"clock {clock} is loaded from a torn file: {found}")
        node, manifest = cluster.add(name, found), self.manifest()
        if manifest is not None and manifest.best >= 0:
            for shard, copy in enumerate(node.shards):
                copy.kept = self.kept[shard, manifest.clock]
                if copy.kept is None or copy.kept[0] != manifest.best:
                    raise Wrong(f"{manifest} keeps {manifest.best}, the file of shard {shard} has {copy.kept}")
