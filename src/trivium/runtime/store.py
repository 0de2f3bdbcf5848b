"""The run directory: what survives.

::

    RUN/
      lock            held (flock) by the driver; the kernel frees it with its holder
      plan.json       settings, versions        data.json   shapes and fingerprint of the data
      terms.jsonl     a line for each term, fsynced before it is announced
      checkpoints/CLOCK/shard-K.safetensors, shard-K.json (sha256), manifest.json
      metrics.jsonl   events.jsonl   spans.json   model.safetensors   record.json

A file appears whole or not at all: written beside its name, fsynced, renamed, and the folder fsynced. A checkpoint
counts when its manifest is there, or, after the driver's death, when all its shards are; a torn one falls back to the
one before.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.messages import Manifest, SaveShard, TermRecord
from trivium.core.role import Work
from trivium.errors import StorageError, UsageError

__all__ = ["Checkpoint", "RunStore", "append_line", "checkpoints", "last_term", "write_whole"]

KEPT_CHECKPOINTS = 2


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash leaves the old file or the new one; StorageError if it cannot."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror}; free space or permissions there, then `trivium resume "
            f"{_run_of(path)}`"
        ) from None


def _run_of(path: Path) -> Path:
    parts = path.parts
    return Path(*parts[: parts.index("checkpoints")]) if "checkpoints" in parts else path.parent


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, value: object) -> None:
    """Append ``value`` as one line of JSON and fsync; StorageError if it cannot."""
    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(value) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


@dataclass(frozen=True)
class Checkpoint:
    """One saved clock: its folder, its shards' files, the agenda's memory (empty for an orphans' one)."""

    clock: int
    folder: Path
    shards: int
    best: int
    memory: bytes
    term: int

    def load(self) -> dict[str, NDArray[Any]]:
        """All shards' arrays, joined: ``a``, ``slots``, ``ring``, ``head`` (shards, …), ``step``, ``kept``."""
        from safetensors.numpy import load_file

        parts = [load_file(self.folder / f"shard-{k}.safetensors") for k in range(self.shards)]
        joined = {name: np.concatenate([p[name] for p in parts], axis=-1) for name in ("a", "slots", "ring", "kept")}
        joined |= {name: np.stack([p[name] for p in parts]) for name in ("head", "step", "totals")}
        return joined


def checkpoints(run: Path) -> list[Checkpoint]:
    """Whole checkpoints of ``run``, oldest first."""
    found = []
    for folder in sorted((run / "checkpoints").glob("[0-9]*")):
        one = _checkpoint(folder)
        if one is not None:
            found.append(one)
    return found


def last_term(run: Path) -> int:
    """The highest term that was written, 0 if none was; a torn last line is passed over."""
    try:
        lines = (run / "terms.jsonl").read_bytes().splitlines()
    except OSError:
        return 0
    last = 0
    for line in lines:
        try:
            last = max(last, int(json.loads(line)["term"]))
        except (ValueError, KeyError, TypeError):
            continue
    return last


def _checkpoint(folder: Path) -> Checkpoint | None:
    try:
        sums = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("shard-*.json")}
        shards = next(iter(sums.values()))["shards"] if sums else 0
        if not shards or len(sums) != shards:
            return None
        for name, one in sums.items():
            if hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest() != one["sha256"]:
                return None
        manifest = folder / "manifest.json"
        held: dict[str, Any] = {"term": 0, "best": -1, "pace": ""}
        if manifest.exists():
            held = json.loads(manifest.read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Checkpoint(int(folder.name), folder, shards, held["best"], held["pace"].encode(), held["term"])


class RunStore:
    """Writes durable records below ``run``; each process has its own."""

    def __init__(self, run: Path, shards: int) -> None:
        self.run, self.shards = run, shards
        self._lock: Any = None

    def lock(self) -> None:
        """Take the run for this driver; UsageError if another one has it."""
        try:
            self._lock = (self.run / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise UsageError(f"{self.run} is in use by a run that is alive; wait for it or choose another") from None
        except OSError as error:
            raise StorageError(f"cannot write in {self.run}: {error.strerror}") from None

    def unlock(self) -> None:
        """Give the run back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write(self, record: Work, plane: Any) -> None:
        """See ``trivium.runtime.base.Store``."""
        if isinstance(record, TermRecord):
            append_line(self.run / "terms.jsonl", msgspec.to_builtins(msgspec.structs.asdict(record)))
        elif isinstance(record, SaveShard):
            self._save_shard(record, plane)
        elif isinstance(record, Manifest):
            self._save_manifest(record)
        else:
            raise TypeError(f"no place for {record}")

    def _folder(self, clock: int) -> Path:
        return self.run / "checkpoints" / f"{clock:010d}"

    def _save_shard(self, record: SaveShard, plane: Any) -> None:
        from safetensors.numpy import save

        folder = self._folder(record.clock)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror}") from None
        content = save(plane.snapshot(record.shard, record.clock))
        name = folder / f"shard-{record.shard}"
        write_whole(name.with_suffix(".safetensors"), content)
        about = {"sha256": hashlib.sha256(content).hexdigest(), "shards": self.shards, "clock": record.clock}
        write_whole(name.with_suffix(".json"), json.dumps(about).encode())

    def _save_manifest(self, record: Manifest) -> None:
        about = {"term": record.term, "clock": record.clock, "best": record.best, "pace": record.pace.decode()}
        write_whole(self._folder(record.clock) / "manifest.json", json.dumps(about).encode())
        whole = sorted((self.run / "checkpoints").glob("[0-9]*"))
        for old in [folder for folder in whole if int(folder.name) < record.clock][: -(KEPT_CHECKPOINTS - 1) or None]:
            shutil.rmtree(old, ignore_errors=True)
