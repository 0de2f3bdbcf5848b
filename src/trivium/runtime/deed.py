"""``nodes.json`` in the run directory: what lets another process drive a run over nodes whose driver is dead.

Trust
-----
* Agents believe whoever proves to own the driver's key, and run code that it sends. The secret half of that key is in
  this file, so whoever can read it can do as this user in every node of the run. It is made with mode 0600 before the
  first agent is started, and one that others may read, or that another user owns, is not believed.
* The run directory's lock says whether the driver lives; the file says nothing of that. It goes when the run is over.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgspec

from trivium.errors import StorageError, UsageError

__all__ = ["Deed", "Post", "born", "drop_deed", "read_deed", "write_deed"]

NAME = "nodes.json"


class Post(msgspec.Struct, frozen=True):
    """One agent: its node, the public key that it proves, its process (0: not started yet) and when that was born."""

    node: int
    public: str
    pid: int = 0
    born: int = 0

    @property
    def alive(self) -> bool:
        """Whether that process is there, and no other one of its number."""
        return self.pid > 0 and born(self.pid) == self.born


class Deed(msgspec.Struct, frozen=True):
    """The run's key and life, the driver's door and keys, and all agents there ever were."""

    run: bytes
    life: str
    endpoint: str
    public: str
    secret: str
    agents: tuple[Post, ...]

    def __repr__(self) -> str:
        return f"Deed({self.endpoint}, {len(self.agents)} agents)"


def born(pid: int) -> int:
    """When the process ``pid`` began, in ticks since the machine did; −1 if it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if words[0] in "ZX" else int(words[19])


def write_deed(run: Path, deed: Deed) -> None:
    """Write it whole, for this user's eyes alone; StorageError if it cannot."""
    path, beside = run / NAME, run / f".{NAME}.{os.getpid()}.part"
    try:
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(deed))
        beside.rename(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror}; free space or permissions there") from None


def read_deed(run: Path) -> Deed | None:
    """What is there; None where nothing is. UsageError where it is not to be believed, or cannot be read."""
    path = run / NAME
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; it was written by the user who began the run"
        ) from None
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
        raise UsageError(
            f"{path} holds the key of a run's driver, and others than you may read or own it (mode "
            f"{stat.S_IMODE(about.st_mode):04o}); remove it to go on from the last checkpoint"
        )
    try:
        return msgspec.json.decode(content, type=Deed)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} cannot be read ({error}); remove it to go on from the last checkpoint") from None


def drop_deed(run: Path) -> None:
    """There is nothing to take over any more."""
    with contextlib.suppress(OSError):
        (run / NAME).unlink(missing_ok=True)
