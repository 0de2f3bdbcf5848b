"""What this machine allows the process: cores by affinity and by control groups, memory, packages, cache folders.

Everything is read from ``/proc``, ``/sys`` and the installed packages; nothing is measured and nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["EXTRAS", "NEEDED", "Cores", "Memory", "cache_root", "cores", "folder_size", "installed", "memory", "quota"]

GROUPS, MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 1 << 60  # control groups of version 1 say "no limit" as a number near 2⁶³
NEEDED = ("trivium", "numpy", "scipy", "numba", "jax", "pyarrow", "scikit-learn")
EXTRAS = {
    "pillow": "folders of images",
    "pandas": "data frames of pandas",
    "polars": "data frames of polars",
    "onnx": "trivium export --to onnx",
    "torch": "benchmarks beside PyTorch",
    "ray": "clusters of Ray",
    "dask": "clusters of Dask",
}


@dataclass(frozen=True)
class Cores:
    """Processors of the ``machine``, those ``allowed`` by affinity, and the ``quota`` of the control groups."""

    machine: int
    allowed: int
    quota: float | None

    @property
    def usable(self) -> float:
        """What may be computed on at once."""
        return min(self.allowed, self.quota or self.allowed)


@dataclass(frozen=True)
class Memory:
    """Bytes: of the ``machine``, the ``limit`` of the control groups (None: none), what is ``available`` now."""

    machine: int
    limit: int | None
    available: int


def cores() -> Cores:
    """The cores of this process."""
    return Cores(os.cpu_count() or 1, len(os.sched_getaffinity(0)), quota())


def quota(groups: Path = GROUPS, mine: Path = MINE) -> float | None:
    """Cores that the control groups (v1 and v2) let this process use at once; None where there is no bound."""
    found: list[float] = []
    for _, controllers, path in _memberships(mine):
        if controllers == "":
            texts = [_text(folder / "cpu.max").split() for folder in _upwards(groups, path)]
        elif "cpu" in controllers.split(","):
            roots = [groups / name for name in ("cpu", "cpu,cpuacct", "cpuacct,cpu")]
            texts = [
                [*_text(folder / "cpu.cfs_quota_us").split(), *_text(folder / "cpu.cfs_period_us").split()]
                for root in roots
                for folder in _upwards(root, path)
            ]
        else:
            continue
        found += [int(pair[0]) / int(pair[1]) for pair in texts if len(pair) == 2 and pair[0].isdigit()]
    return min(found, default=None)


def memory(groups: Path = GROUPS, mine: Path = MINE) -> Memory:
    """The memory of the machine and of this process's control groups."""
    import psutil

    from trivium.runtime.memory import available_memory

    limits: list[int] = []
    for _, controllers, path in _memberships(mine):
        if controllers == "":
            texts = [_text(folder / "memory.max") for folder in _upwards(groups, path)]
        elif "memory" in controllers.split(","):
            texts = [_text(folder / "memory.limit_in_bytes") for folder in _upwards(groups / "memory", path)]
        else:
            continue
        limits += [int(text) for text in map(str.strip, texts) if text.isdigit() and int(text) < UNLIMITED]
    return Memory(int(psutil.virtual_memory().total), min(limits, default=None), available_memory(groups, mine))


def _memberships(mine: Path) -> Iterator[tuple[str, str, str]]:
    for line in _text(mine).splitlines():
        number, controllers, path = line.split(":", 2)
        yield number, controllers, path


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it up to ``root``; in a container the path may not be seen, the root is."""
    here = root / path.lstrip("/")
    while here != root and root in here.parents:
        yield here
        here = here.parent
    yield root


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def installed(package: str) -> str | None:
    """The version of ``package``; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cache_root() -> Path:
    """The user's folder of everything that Trivium keeps between runs: parsed data, compiled functions."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trivium"


def folder_size(folder: Path) -> int:
    """Bytes of all files below ``folder``; what vanishes or is not ours meanwhile counts as nothing."""
    total = 0
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return 0
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                total += folder_size(Path(entry.path))
            else:
                total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
