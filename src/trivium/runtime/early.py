"""Starts the processes that workers are forked from before this process has imported anything heavy itself.

A command knows from its first words what its workers will import, while its own imports take longer than starting a
process does. ``begin`` costs a few milliseconds here and lets the other imports go on beside; the first session then
adopts what was begun. What nobody adopts ends with this process.
"""

from __future__ import annotations

import os

from trivium.runtime.pool import GRACE, Pool

__all__ = ["MODULES", "XLA_MODULES", "begin", "modules", "pool_for"]

MODULES = ("numpy", "numba", "trivium.runtime.child", "trivium.runtime.store", "trivium.runtime.shelf:preload")
XLA_MODULES = ("jax", "trivium.program.kernels.xla", "trivium.program.kernels.network")

_begun: dict[tuple[int, bool], Pool] = {}  # by process, since a fork must not touch its parent's


def begin(*, xla: bool) -> None:
    """Let the processes for programs with, or without, XLA begin to import. Returns at once; again does nothing."""
    key = (os.getpid(), xla)
    if key not in _begun:
        _begun[key] = Pool(modules(xla))
        _begun[key].start()


def pool_for(*, xla: bool, grace: float = GRACE) -> Pool:
    """The pool that was begun, once, if it leaves orphans ``grace`` seconds; else a new one, not started yet."""
    begun = _begun.pop((os.getpid(), xla), None)
    if begun is not None and begun.grace >= grace:
        return begun
    if begun is not None:
        begun.close()
    return Pool(modules(xla), max(grace, GRACE))


def modules(xla: bool) -> tuple[str, ...]:
    """What a zygote imports for programs with, or without, XLA."""
    return MODULES + XLA_MODULES if xla else MODULES
