"""How fast this machine is at what training is made of: products of matrices, copies of memory, files.

Each measurement is the best of a few repeats within a small budget of seconds, so that another program's noise counts
little. Sizes are beyond the caches for copies and within them for products, as in a batch's step.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["copied", "disk", "multiplied", "shared_memory"]

ORDER = 1024  # of the matrices: 4 MiB each
COPY = 64 << 20  # bytes
FILE, PIECE = 64 << 20, 4 << 20  # bytes
BUDGET = 0.3  # seconds for each figure


def _best(work: Callable[[], Any], budget: float) -> float:
    """Seconds of the fastest of several calls, after one that warms; at least two are timed."""
    work()
    best, spent, times = float("inf"), 0.0, 0
    while times < 2 or (spent < budget and times < 100):
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        best, spent, times = min(best, took), spent + took, times + 1
    return best


def multiplied(threads: int, order: int = ORDER, budget: float = BUDGET) -> float:
    """Billions of float32 operations a second of a matrix product of ``order``, on ``threads`` threads."""
    import numpy as np

    limits: Any = importlib.import_module("threadpoolctl").threadpool_limits
    left, right = (np.random.default_rng(0).standard_normal((order, order), np.float32) for _ in range(2))
    out = np.empty_like(left)
    with limits(limits=threads):
        return 2 * order**3 / _best(lambda: np.matmul(left, right, out=out), budget) / 1e9


def copied(nbytes: int = COPY, budget: float = BUDGET) -> float:
    """Billions of bytes a second that one thread copies from memory to memory."""
    import numpy as np

    source, target = np.ones(nbytes, np.uint8), np.empty(nbytes, np.uint8)
    return nbytes / _best(lambda: np.copyto(target, source), budget) / 1e9


def disk(folder: Path, nbytes: int = FILE) -> tuple[float, float]:
    """Bytes a second written to (and synced), and read from, the disk of ``folder``; OSError where it cannot be.

    The reader asks the kernel to forget the file first; where that is not heeded it measures the page cache.
    """
    piece = os.urandom(1 << 16) * (PIECE >> 16)
    with tempfile.TemporaryFile(dir=folder) as file:
        fd = file.fileno()
        began = time.perf_counter()
        for _ in range(nbytes // PIECE):
            file.write(piece)
        file.flush()
        os.fsync(fd)
        wrote = time.perf_counter() - began
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        began = time.perf_counter()
        read = sum(len(got) for got in iter(lambda: file.read(PIECE), b""))
        return nbytes / wrote, read / (time.perf_counter() - began)


def shared_memory() -> str | None:
    """What fails of shared memory, atomics and futexes, tried for real on one page; None where all work."""
    from trivium.errors import StorageError
    from trivium.runtime import atomics
    from trivium.runtime.memory import Segment

    if not atomics.supported():
        return "no futex and atomics for this processor and system: Trivium needs Linux on x86-64 or aarch64"
    try:
        with Segment.create(1 << 12, "trivium-doctor") as segment:
            return _words(segment)
    except (StorageError, OSError) as error:
        return f"memory cannot be shared between processes (memfd_create): {error}"


def _words(segment: Any) -> str | None:
    from trivium.runtime import atomics

    words = segment.array("int64", (8,))
    atomics.store(words, 0, 5)
    if atomics.fetch_add(words, 0, 2) != 5 or atomics.load(words, 0) != 7:
        return "atomic addition in shared memory gave a wrong number"
    began = time.monotonic()
    if atomics.futex_wait(words, 0, 7, 1_000_000) == 0 or time.monotonic() - began > 1.0:
        return "a wait for one millisecond (futex) did not come back in time"
    return None if atomics.futex_wake(words, 0, 1) == 0 else "a wake (futex) reports sleepers that are not there"
