"""Shared memory: segments without a name in any file system, arrays laid out in them, descriptors passed on.

Rules
-----
* A segment is a ``memfd`` whose pages are allocated when it is made: it fails then and there with ``StorageError``, and
  never later with SIGBUS. Before that the want is compared with what the machine and the control groups leave.
* Whoever is to see a segment gets its descriptor, by fork or over a Unix socket. The kernel frees it with its last
  holder, so that no crash leaves anything behind. Its size is sealed.
* Every array begins on a 64-byte boundary. An ``Arena`` lays out a plan: the same plan gives the same views anywhere.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from trivium.errors import StorageError, UsageError, unknown

__all__ = ["Arena", "ArenaPlan", "Segment", "available_memory", "receive_segment", "send_segment"]

ALIGN = 64
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Segment:
    """``nbytes`` of memory that processes share; made by ``create`` or ``attach``, which own ``fd`` from then on."""

    def __init__(self, fd: int, nbytes: int, name: str) -> None:
        self.fd, self.nbytes, self.name = fd, nbytes, name
        self._map: mmap.mmap | None = mmap.mmap(fd, nbytes)

    @classmethod
    def create(cls, nbytes: int, name: str = "trivium") -> Segment:
        """A new segment, all zero; StorageError where the memory cannot be had."""
        if nbytes < 1:
            raise UsageError(f"a segment has 1 byte or more, got {nbytes}")
        room = available_memory()
        if nbytes > room:
            raise StorageError(_too_much(nbytes, room, name))
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(fd, 0, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, nbytes, name)
        except OSError as error:
            os.close(fd)
            raise StorageError(f"{_too_much(nbytes, room, name)} ({error.strerror})") from error

    @classmethod
    def attach(cls, fd: int, name: str = "trivium") -> Segment:
        """The segment behind a descriptor that was passed to this process."""
        nbytes = os.fstat(fd).st_size
        if nbytes == 0:
            raise StorageError(f"descriptor {fd} holds no segment: its size is 0")
        return cls(fd, nbytes, name)

    def array(self, dtype: DTypeLike, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """A view of the segment from byte ``offset``, a multiple of 64."""
        if self._map is None:
            raise UsageError(f"segment {self.name!r} is closed")
        count = int(np.prod(shape, dtype=np.int64))
        stop = offset + count * np.dtype(dtype).itemsize
        if offset < 0 or offset % ALIGN or stop > self.nbytes:
            raise UsageError(
                f"array of {dtype} {shape} at byte {offset} of segment {self.name!r}: offsets are multiples of {ALIGN} "
                f"and arrays end by byte {self.nbytes}"
            )
        if count == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)

    def close(self) -> None:
        """Let go of the descriptor, and of the mapping once the last view is gone. May be called again."""
        if self._map is None:
            return
        try:
            self._map.close()
        except BufferError:
            pass  # views live: the mapping goes with them
        finally:
            self._map = None
            os.close(self.fd)

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArenaPlan(msgspec.Struct):
    """Named arrays and where each will lie; a message, so that every process lays out the same.

    >>> plan = ArenaPlan()
    >>> plan.add("sum", "float32", (5,)); plan.add("head", "float64", (2, 8))
    >>> plan.nbytes, plan.entries["head"]
    (192, ('float64', (2, 8), 64))
    """

    entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
    nbytes: int = 0

    def add(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        """Reserve ``name``, after all others and on a 64-byte boundary."""
        if name in self.entries:
            raise UsageError(f"the arena has an array {name!r} already")
        self.entries[name] = (np.dtype(dtype).name, tuple(int(n) for n in shape), self.nbytes)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self.nbytes += -(-size // ALIGN) * ALIGN


class Arena:
    """The arrays of ``plan`` in one segment: ``arena["name"]``."""

    def __init__(self, segment: Segment, plan: ArenaPlan) -> None:
        if segment.nbytes < plan.nbytes:
            raise StorageError(f"segment {segment.name!r} has {segment.nbytes} bytes, the plan needs {plan.nbytes}")
        self.segment, self.plan = segment, plan
        self.yard = -1  # descriptor of memory beside it that grows, where a run has some; it belongs to whoever set it
        self._views = {name: segment.array(*entry) for name, entry in plan.entries.items()}

    @classmethod
    def create(cls, plan: ArenaPlan, name: str = "trivium") -> Arena:
        """A new segment, all zero, laid out by ``plan``."""
        return cls(Segment.create(max(plan.nbytes, ALIGN), name), plan)

    @classmethod
    def attach(cls, fd: int, plan: ArenaPlan, name: str = "trivium") -> Arena:
        """The arena another process made with the same plan."""
        return cls(Segment.attach(fd, name), plan)

    @property
    def fd(self) -> int:
        """Descriptor of the segment, to pass on."""
        return self.segment.fd

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._views:
            raise UsageError(unknown("array of the arena", name, self._views))
        return self._views[name]

    def close(self) -> None:
        """Let go of the arrays and of the segment."""
        self._views.clear()
        self.segment.close()


def send_segment(sock: socket.socket, segment: Segment) -> None:
    """Pass ``segment`` to the process at the other end of a Unix socket."""
    socket.send_fds(sock, [segment.name.encode()], [segment.fd])


def receive_segment(sock: socket.socket) -> Segment:
    """The segment passed by ``send_segment``; waits as long as the socket's timeout allows."""
    name, fds, _, _ = socket.recv_fds(sock, 256, 1)
    if not fds:
        raise StorageError("no segment came over the socket: the other end closed it or sent something else")
    return Segment.attach(fds[0], name.decode())


def available_memory(groups: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process may still use: the least of the machine and of its control groups (v1 and v2)."""
    room = [int(psutil.virtual_memory().available)]
    for line in _text(mine).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            room += _left(groups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            room += _left(groups / "memory", path, *files)
    return max(0, min(room))


def _left(root: Path, path: str, limit: str, usage: str, cache: str) -> list[int]:
    """What each group from ``path`` up to the root leaves; its reclaimable cache counts as free."""
    here, room = root / path.lstrip("/"), []
    while here == root or root in here.parents:
        bound, used = _text(here / limit).strip(), _text(here / usage).strip()
        if bound.isdigit() and used.isdigit():
            stat = dict(line.split()[:2] for line in _text(here / "memory.stat").splitlines() if " " in line)
            room.append(int(bound) - int(used) + int(stat.get(cache, 0)))
        here = here.parent
    return room


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _too_much(nbytes: int, room: int, name: str) -> str:
    return (
        f"shared memory {name!r} needs {nbytes:,} bytes, and {room:,} are available here; lower the number of workers, "
        "the batch size or the model, or raise the memory limit"
    )
