"""Compiling, once: whether this user's cache has what a run needs, so that one process compiles it and not each.

Numba keeps compiled functions beside their source, or in the user's cache folder, for each type they were called with.
A worker that finds none compiles for seconds, and several workers compile the same thing side by side. So the driver's
process compiles first where a marker is missing; the marker is named after sources, versions and types, and says
nothing but that it was done.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
from pathlib import Path

import trivium
from trivium.core.lanes import Part
from trivium.data.table import Csr, Table
from trivium.runtime.plane import ArrayPlane, Facts, NodeArrays

__all__ = ["compile_once", "is_warm", "marker"]

log = logging.getLogger(__name__)
ROOMS = ("program", "data", "runtime")


def marker(facts: Facts, table: Table) -> Path:
    """The file that says: compiled for this program and optimizer, these types, these sources and versions."""
    import numba

    root = Path(trivium.__file__).parent
    sources = sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))
    about = [
        platform.machine(),
        platform.python_version(),
        numba.__version__,
        type(facts.program).__name__,
        facts.optimizer.name,
        facts.layout.dtype,
        str(facts.optimizer.scalar_count > 0),
        *(f"{name}:{_types(column)}" for name, column in sorted(table.columns.items())),
        *(f"{path}:{path.stat().st_mtime_ns}" for path in sources),
    ]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256("\n".join(about).encode()).hexdigest()[:24]
    return Path(base) / "trivium" / "compiled" / digest


def _types(column: object) -> str:
    if isinstance(column, Csr):
        return f"csr {column.values.dtype}"
    return str(getattr(column, "dtype", ""))


def is_warm(facts: Facts, table: Table) -> bool:
    """Whether it was all compiled before."""
    return marker(facts, table).exists()


def compile_once(facts: Facts, arrays: NodeArrays, table: Table) -> None:
    """Compile in this process what workers and servers will load.

    Functions of XLA are left to the workers, and so is a program of the user's own: nobody watches this process.
    """
    plane = ArrayPlane(facts, arrays, 0, {"train": table})
    try:
        if not facts.program.xla and type(facts.program).__module__.startswith("trivium.program."):
            plane.warm(Part(0, 1))
        plane.warm_optimizer()
    except Exception:  # the members meet the same error, and tell it as the program's
        log.debug("could not compile ahead", exc_info=True)
        return
    finally:
        plane.close()
    path = marker(facts, table)
    with contextlib.suppress(OSError):  # without a marker the next run only asks again
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
