"""XLA in a process of ours: threads, device and cache, settled before its first use; and arrays shared with it.

Rules
-----
* The number of threads is fixed when the backend is made, so ``configure`` must come before the first array. A worker
  calls it first of all; kernels call it again, which then only checks.
* Parameters enter as *aliases* of NumPy memory: no copy, and what is written there later is seen by the next call. That
  holds because each call is waited for before it returns, and because compiled functions keep nothing between calls.
* Compiled code is kept in a cache folder of the user, named by processor and versions: code compiled for one processor
  must not run on another.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.program.params import ALIGN, Layout

__all__ = ["Aliases", "aligned", "cache_folder", "configure", "threads_in_use"]

log = logging.getLogger(__name__)

THREADS = "NPROC"  # the variable from which XLA takes the size of its thread pool
KEPT = 64  # aliases of parameter buffers held at a time


def configure(threads: int, device: str | None = None, cache: Path | None = None) -> bool:
    """Make this process's XLA use ``threads`` threads, on the CPU unless ``device`` is named.

    True if that is how it now is; False, with a warning in the log, if the backend exists already with another count.
    """
    now = threads_in_use()
    if now is not None:
        if now != threads:
            log.warning(
                "XLA runs already with %d threads, %d were asked for: call trivium.program.kernels.xla.configure(%d) "
                "before the first use of jax in this process",
                now,
                threads,
                threads,
            )
        return now == threads
    os.environ[THREADS] = str(threads)
    import jax

    if device is not None or not jax.config.jax_platforms:
        jax.config.update("jax_platforms", device or "cpu")
    if not jax.config.jax_compilation_cache_dir:
        folder = cache or cache_folder()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.devices()
    return True


def threads_in_use() -> int | None:
    """Threads of this process's XLA; None before its first use. Unconfigured, XLA takes every core it may run on."""
    if "jax" not in sys.modules:
        return None
    from jax._src import xla_bridge

    if not xla_bridge.backends_are_initialized():
        return None
    return int(os.environ.get(THREADS) or len(os.sched_getaffinity(0)))


def cache_folder() -> Path:
    """Folder for compiled code of this processor and these versions."""
    from importlib.metadata import version

    about = f"{platform.machine()} {_processor()} {version('jax')} {version('jaxlib')}"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "trivium" / "xla" / hashlib.sha256(about.encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "CPU part", "Features")
    return " ".join(sorted({line for line in lines if line.startswith(wanted)}))


def aligned(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Zeroed array on a boundary of 64 bytes, which XLA can share."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    skip = -raw.ctypes.data % ALIGN
    return raw[skip : skip + nbytes].view(dtype).reshape(shape)


class Aliases:
    """Parameter buffers as tuples of XLA arrays, one a slice, without copying.

    A buffer that cannot be shared (not on a 64-byte boundary) is copied at each call: slower, never stale.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: OrderedDict[int, tuple[Any, ...]] = OrderedDict()

    def clear(self) -> None:
        """Hold no buffer any more."""
        self._held.clear()

    def of(self, a: NDArray[Any]) -> tuple[Any, ...]:
        """The slices of ``a``; holding them keeps the memory of ``a`` alive, so its address stays its own."""
        address = a.__array_interface__["data"][0]
        found = self._held.get(address)
        if found is not None:
            return found
        views = tuple(self._layout.views(a).values())
        arrays, shared = zip(*(share(view) for view in views), strict=True)
        if all(shared):
            self._held[address] = arrays
            if len(self._held) > KEPT:
                self._held.popitem(last=False)
        return arrays


def share(view: NDArray[Any]) -> tuple[Any, bool]:
    """An XLA array on the memory of ``view`` if that is possible, else a copy; and whether it was possible."""
    import jax

    array = jax.device_put(view, may_alias=True)
    if array.devices().pop().platform != "cpu":
        return array, False
    return array, bool(array.unsafe_buffer_pointer() == view.__array_interface__["data"][0])
