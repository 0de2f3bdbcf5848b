"""``trivium doctor``: whether this machine is fit to train on, what is slow, what is missing, and what to do."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trivium.cli import machine
from trivium.cli.screen import Screen
from trivium.observe.figures import count, size
from trivium.observe.summary import Line

__all__ = ["Check", "doctor", "examine"]

LITTLE_MEMORY = 1 << 30  # bytes below which a run of two workers with XLA becomes tight
LITTLE_DISK = 1 << 30
LARGE_CACHE = 10 << 30
SLOW_COPY = 2.0  # GB/s
SLOW_PRODUCT = 5.0  # GFLOP/s of one thread
SLOW_DISK = 20e6  # bytes a second
RUNS = Path("runs")
SHM = "/dev/shm"  # noqa: S108  looked at, never written to


@dataclass(frozen=True)
class Check:
    """One line. ``state`` is ok, warn or bad (Trivium cannot work so); ``advice`` is what to do; ``values`` are raw."""

    name: str
    text: str
    state: str = "ok"
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def doctor(as_json: bool) -> int:
    """Carry out ``trivium doctor``; returns 0, or 1 where Trivium cannot work."""
    screen, found = Screen(), []
    for one in examine():
        found.append(one)
        screen.result(_lines(one))
    warned = [one for one in found if one.state != "ok"]
    bad = [one for one in warned if one.state == "bad"]
    last = "all is well" if not warned else f"{len(warned)} of {len(found)} to look at: " + _names(warned)
    screen.result([("", last if not bad else f"Trivium cannot work here: {_names(bad)}")])
    if as_json:
        screen.json({"state": _worst(found), "checks": [asdict(one) for one in found]})
    return 1 if bad else 0


def _names(checks: list[Check]) -> str:
    return ", ".join(one.name for one in checks)


def _worst(checks: list[Check]) -> str:
    return max((one.state for one in checks), key=("ok", "warn", "bad").index)


def _lines(check: Check) -> list[Line]:
    mark = {"ok": "ok", "warn": "warn", "bad": "BAD"}[check.state]
    lines = [(mark, f"{check.name}: {check.text}")]
    return lines + ([("", f"→ {check.advice}")] if check.advice else [])


def examine() -> list[Check]:
    """Every check, in order."""
    checks: tuple[Callable[[], Check], ...] = (
        _cores,
        _memory,
        _sharing,
        _versions,
        _extras,
        _caches,
        _products,
        _copies,
        _disk,
    )
    return [check() for check in checks]


def _cores() -> Check:
    cores = machine.cores()
    bound = "" if cores.quota is None else f", {cores.quota:g} by control group"
    text = f"{cores.machine} in the machine, {cores.allowed} by affinity{bound}"
    values = {**asdict(cores), "usable": cores.usable}
    if cores.usable < cores.allowed:
        fewer = max(1, int(cores.usable))
        advice = f"say --workers {fewer} or --threads {fewer}: more than the quota only wait for each other"
        return Check("cores", text, "warn", advice, values)
    if cores.usable < 2:
        advice = "one core: the sequential design is as fast as any other here"
        return Check("cores", text, "warn", advice, values)
    return Check("cores", text, values=values)


def _memory() -> Check:
    memory = machine.memory()
    bound = "no bound" if memory.limit is None else size(memory.limit)
    text = f"{size(memory.machine)} in the machine, {bound} by control group, {size(memory.available)} available"
    if memory.available < LITTLE_MEMORY:
        advice = "close other programs, raise the limit, or train with fewer workers and --memory-per-worker"
        return Check("memory", text, "warn", advice, asdict(memory))
    return Check("memory", text, values=asdict(memory))


def _sharing() -> Check:
    from trivium.cli.speeds import shared_memory

    try:
        room = shutil.disk_usage(SHM).total
        aside = f"{SHM} has {size(room)}, which Trivium does not need"
    except OSError:
        room, aside = 0, f"{SHM} is not there, which Trivium does not need"
    wrong = shared_memory()
    if wrong is not None:
        advice = "see whether the container forbids memfd_create or futex (seccomp)"
        return Check("sharing", wrong, "bad", advice, {"shm_bytes": room})
    return Check("sharing", f"memfd, atomics and futex work; {aside}", values={"shm_bytes": room})


def _versions() -> Check:
    found = {"python": platform.python_version(), **{name: machine.installed(name) for name in machine.NEEDED}}
    text = ", ".join(f"{name} {found[name] or 'missing'}" for name in found)
    missing = [name for name, number in found.items() if number is None]
    if missing:
        return Check("versions", text, "bad", f"pip install {' '.join(missing)}", {"versions": found})
    return Check("versions", text, values={"versions": found})


def _extras() -> Check:
    found = {name: machine.installed(name) for name in machine.EXTRAS}
    have = ", ".join(f"{name} {number}" for name, number in found.items() if number) or "none"
    missing = [name for name, number in found.items() if number is None]
    text = f"{have}; missing: {', '.join(missing) or 'none'}"
    how = "; ".join(f"pip install {name} for {machine.EXTRAS[name]}" for name in missing)
    return Check("extras", text, advice=how, values={"extras": found})


def _caches() -> Check:
    root = machine.cache_root()
    sizes = {one.name: machine.folder_size(one) for one in sorted(_folders(root))}
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {size(nbytes)}" for name, nbytes in sizes.items())
    text = f"{root}: {size(total)}{f' ({parts})' if parts else ', empty'}"
    values = {"folder": str(root), "bytes": sizes}
    nearest = _nearest(root)
    if not os.access(nearest, os.W_OK):
        advice = f"{nearest} cannot be written to: data are parsed and functions compiled anew in each run"
        return Check("caches", text, "warn", f"{advice}; set XDG_CACHE_HOME to a folder of yours", values)
    if total > LARGE_CACHE:
        return Check("caches", text, "warn", f"everything there can be made anew: rm -r {root}", values)
    return Check("caches", text, values=values)


def _folders(root: Path) -> list[Path]:
    try:
        return [one for one in root.iterdir() if one.is_dir()]
    except OSError:
        return []


def _products() -> Check:
    from trivium.cli.speeds import multiplied

    threads = max(1, int(machine.cores().usable))
    one = multiplied(1)
    many = multiplied(threads) if threads > 1 else one
    text = f"{one:,.0f} GFLOP/s float32 with 1 thread, {many:,.0f} with {threads}"
    values = {"one_thread_gflops": one, "all_threads_gflops": many, "threads": threads}
    if one < SLOW_PRODUCT:
        advice = "slow for any processor: NumPy may lack a fast BLAS, or the machine is busy"
        return Check("products", text, "warn", advice, values)
    if threads > 1 and many < 1.2 * one:
        advice = f"{threads} threads gain little: the machine is busy, or its cores are halves of one (hyperthreads)"
        return Check("products", text, "warn", advice, values)
    return Check("products", text, values=values)


def _copies() -> Check:
    from trivium.cli.speeds import copied

    speed = copied()
    text, values = f"memory to memory at {speed:.1f} GB/s with 1 thread", {"copy_gb_per_second": speed}
    if speed < SLOW_COPY:
        return Check("copies", text, "warn", "the machine is busy, or swaps: look at `vmstat 1`", values)
    return Check("copies", text, values=values)


def _nearest(folder: Path) -> Path:
    """``folder``, or the first above it that exists."""
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    return here


def _disk() -> Check:
    from trivium.cli.speeds import FILE, disk

    folder = _nearest(RUNS)
    free = shutil.disk_usage(folder).free
    values: dict[str, Any] = {"folder": str(folder), "free_bytes": free}
    if free < 4 * FILE:
        advice = "free space there, or train with --out on another disk"
        return Check("disk", f"{folder}: only {size(free)} free", "warn", advice, values)
    try:
        wrote, read = disk(folder)
    except OSError as error:
        advice = "train with --out where files can be written"
        return Check("disk", f"{folder}: {error.strerror or error}", "warn", advice, values)
    values |= {"write_bytes_per_second": wrote, "read_bytes_per_second": read}
    text = f"{folder}: writes {count(wrote / 1e6)} MB/s, reads {count(read / 1e6)} MB/s, {size(free)} free"
    if free < LITTLE_DISK or wrote < SLOW_DISK:
        advice = "checkpoints will be slow or will not fit: train with --out on another disk"
        return Check("disk", text, "warn", advice, values)
    return Check("disk", text, values=values)
