"""The run directory: what survives.

::

    RUN/
      lock            held (flock) by the driver; the kernel frees it with its holder
      members         held (flock, shared) by every process that may write; says which life of the run may
      plan.json       settings, versions        data.json   shapes and fingerprint of the data
      terms.jsonl     a line for each term, fsynced before it is announced
      agenda.json     of nodes: what was decided, fsynced before the lease that follows is granted
      nodes.json      of nodes, while they live: who they are, and the key to drive them (``deed``)
      checkpoints/CLOCK/shard-K.safetensors, shard-K.json (sha256), manifest.json
      metrics.jsonl   events.jsonl   spans.json   model.safetensors   record.json

A file appears whole or not at all: written beside its name, fsynced, renamed, and the folder fsynced. A checkpoint
counts when all its shards are there, by one life of the run, and are what their sums say; its manifest, which orphans
cannot write, adds what the driver knew. A torn one falls back to the one before. None with a manifest is rewritten.

A life is what one driver and its members do. Orphans outlive their driver's lock: the next driver reads nothing before
it has had ``members`` for itself, and who comes to ``members`` after that with an older life is turned away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.messages import Decided, Manifest, SaveShard, TermRecord
from trivium.core.role import Work
from trivium.errors import StorageError, UsageError

__all__ = [
    "Checkpoint",
    "RunStore",
    "append_line",
    "checkpoints",
    "decided",
    "drop_after",
    "keep_looks",
    "last_term",
    "lock_holders",
    "looks_kept",
    "write_whole",
]

KEPT_CHECKPOINTS = 2
ASK_EVERY = 0.05  # seconds between two tries to have ``members`` for oneself


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
        raise StorageError(f"cannot write {path}: {error.strerror}; free space or permissions there") from None


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

        parts = [load_file(self.folder / f"shard-{k}.safetensors") for k in range(self.dense)]
        joined = {name: np.concatenate([p[name] for p in parts], axis=-1) for name in ("a", "slots", "ring", "kept")}
        joined |= {name: np.stack([p[name] for p in parts]) for name in ("head", "step", "totals")}
        return joined

    @property
    def dense(self) -> int:
        """How many shards, the first ones, are of dense parameters; the others are rows of tables."""
        from safetensors import safe_open

        for shard in range(self.shards):
            with safe_open(self.folder / f"shard-{shard}.safetensors", "np") as file:
                if "a" not in file.keys():  # noqa: SIM118 - it is no mapping
                    return shard
        return self.shards

    def rows(self, shard: int) -> dict[str, NDArray[Any]]:
        """A table's shard: ``keys``, ``rows`` and ``counts``."""
        from safetensors.numpy import load_file

        found: dict[str, NDArray[Any]] = load_file(self.folder / f"shard-{shard}.safetensors")
        return found


def checkpoints(run: Path) -> list[Checkpoint]:
    """Whole checkpoints of ``run``, oldest first."""
    found = [_checkpoint(folder) for folder in _folders(run)]
    return [one for one in found if one is not None]


def drop_after(run: Path, clock: int) -> None:
    """Remove the checkpoints beyond ``clock``, from which the run goes on: another life shall not meet them."""
    for folder in _folders(run):
        if int(folder.name) > clock:
            shutil.rmtree(folder, ignore_errors=True)


def keep_looks(run: Path, clock: int) -> None:
    """Drop the lines of metrics.jsonl beyond ``clock``: a run that goes on from before it will write them again."""
    path = run / "metrics.jsonl"
    with contextlib.suppress(OSError):
        lines = path.read_bytes().splitlines(keepends=True)
        write_whole(path, b"".join(line for line in lines if _clock_of(line) <= clock))


def looks_kept(run: Path) -> int:
    """How many lines of metrics.jsonl there are: the last ones of a driver that died may be missing."""
    try:
        return len((run / "metrics.jsonl").read_bytes().splitlines())
    except OSError:
        return 0


def _clock_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["clock"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # torn


def lock_holders(path: Path) -> list[int]:
    """The processes that hold ``path`` (flock), as the kernel says: to try the lock might get in somebody's way."""
    try:
        status = path.stat()
        held = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return []
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    rows = [words for words in map(str.split, held.splitlines()) if len(words) >= 6 and words[1] == "FLOCK"]
    return [int(words[4]) for words in rows if words[5] == place]


def _folders(run: Path) -> list[Path]:
    """A folder for each clock that anybody began to save, oldest first."""
    return sorted(
        (path for path in (run / "checkpoints").glob("*") if path.name.isdecimal()), key=lambda p: int(p.name)
    )


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


def decided(run: Path) -> bytes:
    """What the agenda had come to when the last lease was granted; empty where nothing says so."""
    try:
        return (run / "agenda.json").read_bytes()
    except OSError:
        return b""


def _sums(folder: Path) -> dict[str, dict[str, Any]]:
    """What is said of each shard in ``folder``, by name, if all are there and of one life; else nothing."""
    try:
        sums = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("shard-*.json")}
        shards = {(one["shards"], one.get("life", "")) for one in sums.values()}
        names = {f"shard-{k}" for k in range(next(iter(shards))[0])} if len(shards) == 1 else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return sums if names == sums.keys() else {}


def _checkpoint(folder: Path) -> Checkpoint | None:
    sums = _sums(folder)
    try:
        for name, one in sums.items():
            if hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest() != one["sha256"]:
                return None
        manifest = folder / "manifest.json"
        held: dict[str, Any] = {"term": 0, "best": -1, "pace": ""}
        if manifest.exists():
            held = json.loads(manifest.read_bytes())
        found = Checkpoint(int(folder.name), folder, len(sums), held["best"], held["pace"].encode(), held["term"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if sums else None


class RunStore:
    """Writes durable records below ``run``; each process has its own, those of one ``life`` the same life.

    ``slow``: seconds that each write takes more, for tests and rehearsals.
    """

    def __init__(self, run: Path, shards: int, life: str = "", *, slow: float = 0.0) -> None:
        self.run, self.shards, self.slow = run, shards, slow
        self.life = life or os.urandom(8).hex()
        self._lock: Any = None
        self._members: Any = None

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

    def take_over(self, within: float, told: Callable[[str], None]) -> None:
        """Begin a life, once no process of an earlier one may write any more; ``told`` hears whom it waits for.

        For the driver that has the lock. Raises UsageError if they have not ended ``within`` so many seconds.
        """
        path, deadline, waited = self.run / "members", time.monotonic() + within, False
        try:
            with path.open("a+b") as members:
                while not _have(members, fcntl.LOCK_EX):
                    who = ", ".join(map(str, lock_holders(path))) or "unknown to this machine"
                    if time.monotonic() > deadline:
                        raise UsageError(
                            f"{self.run} is still written by processes of the run before (process {who}); end them, "
                            "then try again"
                        )
                    if not waited:
                        told(f"the processes of the run before still save (process {who}); waiting for their end")
                    waited = True
                    time.sleep(ASK_EVERY)
                members.truncate(0)
                members.write(self.life.encode())
                members.flush()
                for left in (*self.run.glob(".*.part"), *self.run.glob("checkpoints/*/.*.part")):
                    left.unlink(missing_ok=True)  # of a process that died in the middle
        except OSError as error:
            raise StorageError(f"cannot write in {self.run}: {error.strerror}") from None

    def enter(self) -> None:
        """For a member: from now on to ``leave`` it may write. StorageError if the run is another life's by now."""
        try:
            self._members = (self.run / "members").open("rb")
            mine = _have(self._members, fcntl.LOCK_SH) and self._members.read() == self.life.encode()
        except OSError as error:
            raise StorageError(f"cannot write in {self.run}: {error.strerror}") from None
        if not mine:
            self.leave()
            raise StorageError(f"{self.run} has been taken over by another run")

    def leave(self) -> None:
        """End what ``enter`` began: nothing is written by this member any more."""
        if self._members is not None:
            self._members.close()
            self._members = None

    def write(self, record: Work, plane: Any) -> None:
        """See ``trivium.runtime.base.Store``."""
        if self.slow:
            time.sleep(self.slow)
        if isinstance(record, TermRecord):
            append_line(self.run / "terms.jsonl", msgspec.to_builtins(msgspec.structs.asdict(record)))
        elif isinstance(record, SaveShard):
            self._save_shard(record, plane)
        elif isinstance(record, Manifest):
            self._save_manifest(record)
        elif isinstance(record, Decided):
            write_whole(self.run / "agenda.json", record.pace)
        else:
            raise TypeError(f"no place for {record}")

    def _folder(self, clock: int) -> Path:
        return self.run / "checkpoints" / f"{clock:010d}"

    def _save_shard(self, record: SaveShard, plane: Any) -> None:
        from safetensors.numpy import save

        folder = self._folder(record.clock)
        if (folder / "manifest.json").exists():
            return  # it is whole, and an orphan knows nothing that its driver did not
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror}") from None
        content = save(plane.snapshot(record.shard, record.clock))
        name = folder / f"shard-{record.shard}"
        write_whole(name.with_suffix(".safetensors"), content)
        about = {"sha256": hashlib.sha256(content).hexdigest(), "shards": self.shards, "clock": record.clock}
        about["life"] = self.life
        write_whole(name.with_suffix(".json"), json.dumps(about).encode())

    def _save_manifest(self, record: Manifest) -> None:
        about = {"term": record.term, "clock": record.clock, "best": record.best, "pace": record.pace.decode()}
        write_whole(self._folder(record.clock) / "manifest.json", json.dumps(about).encode())
        earlier = [folder for folder in _folders(self.run) if int(folder.name) < record.clock]
        spare = [folder for folder in earlier if _sums(folder)][-(KEPT_CHECKPOINTS - 1) :]
        for old in earlier:
            if spare and int(old.name) < int(spare[0].name):
                shutil.rmtree(old, ignore_errors=True)


def _have(file: Any, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
