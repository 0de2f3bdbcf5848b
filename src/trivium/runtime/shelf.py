"""Compiled kernels kept on a shelf from one run of a process to the next, and loaded before processes are forked."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from trivium.program.program import Kernel, Program

__all__ = ["KernelShelf", "preload"]

KEPT = 8

Key = tuple[bytes, int, int, bool, int]


class KernelShelf:
    """Kernels by what they were made for; a run takes them and puts them back released."""

    def __init__(self) -> None:
        self._held: OrderedDict[Key, Kernel] = OrderedDict()
        self._names: dict[int, tuple[Program, bytes]] = {}

    def take(self, program: Program, threads: int, rows: int, reproducible: bool, number: int = 0) -> Kernel:
        """The kernel of an earlier run if there is one, else a new one; ``number`` tells several of one run apart."""
        key = (self._name(program), threads, rows, reproducible, number)
        kernel = self._held.pop(key, None)
        if kernel is None:
            kernel = program.kernel(threads, rows, reproducible)
        self._held[key] = kernel
        if len(self._held) > KEPT:
            self._held.popitem(last=False)
        return kernel

    def release(self) -> None:
        """The run is over: nothing of its memory is held any more."""
        self._names.clear()
        for kernel in self._held.values():
            kernel.release()

    def _name(self, program: Program) -> bytes:
        """What a program is, by content: two runs send two copies of the same one."""
        found = self._names.get(id(program))
        if found is None:
            import cloudpickle

            digest = hashlib.blake2b(cloudpickle.dumps(program), digest_size=16).digest()
            found = self._names[id(program)] = (program, digest)
        return found[1]


def preload() -> None:
    """Load what every member needs from the cache of compiled functions, once, in the process that forks them."""
    import numpy as np

    from trivium.runtime.mailbox import Mailboxes
    from trivium.runtime.versions import Versions

    box = Mailboxes(np.zeros(Mailboxes.nbytes(2, 1 << 10) // 8, np.int64), 0, 2, 1 << 10)
    box.send(0, b"x")
    box.wait(0.0)
    box.receive()
    box.ring(1)
    shard = Versions(np.zeros(Versions.words(2), np.int64), 2)
    shard.commit(shard.begin(), 0)
    shard.pin(1, 0)
    shard.unpin(1)
    shard.current()
