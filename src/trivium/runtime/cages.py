"""A bound on the memory of each worker: by a control group where one can be made, and by looking at it in any case.

The measure is PSS, the proportional set size: a page that several processes map counts for each of them by its share.
A control group stops growth at once, the kernel killing whoever cannot give pages back; but it counts by who touched a
page first, and there is often no right to make one. The look comes twice a second, counts right, and kills.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trivium.runtime.pool import Seat

__all__ = ["Cage", "Keeper", "pss"]

log = logging.getLogger(__name__)
EVERY = 0.5  # seconds between two looks
GIB = 1 << 30


def pss(pid: int, proc: Path = Path("/proc")) -> int | None:
    """The proportional set size of process ``pid`` in bytes; 0 where it is gone, None where it may not be looked at."""
    try:
        text = (proc / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except ProcessLookupError:
        return 0
    except (OSError, ValueError):
        return None if (proc / str(pid)).exists() else 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None if text else 0


@dataclass
class Cage:
    """A memory control group, below the one that this process is in."""

    place: Path
    version: int

    @classmethod
    def make(
        cls,
        name: str,
        limit: int,
        groups: Path = Path("/sys/fs/cgroup"),
        mine: Path = Path("/proc/self/cgroup"),
    ) -> Cage | None:
        """A new group of at most ``limit`` bytes; None where this process may not make one, or there is one."""
        for place, version in _parents(groups, mine):
            _sweep(place)
            made = cls(place / name, version)
            try:
                made.place.mkdir()
            except OSError as error:  # one that is there already is another's: hands off
                log.debug("no memory control group in %s: %s", place, error)
                continue
            try:
                bound = "memory.max" if version == 2 else "memory.limit_in_bytes"
                (made.place / bound).write_text(str(limit), encoding="ascii")
                return made
            except OSError as error:
                log.debug("the memory control group %s takes no bound: %s", made.place, error)
                with contextlib.suppress(OSError):
                    made.place.rmdir()
        return None

    def hold(self, pid: int) -> bool:
        """Put ``pid`` into it; whether that could be done."""
        try:
            (self.place / "cgroup.procs").write_text(str(pid), encoding="ascii")
        except OSError as error:
            log.debug("%s does not take process %d: %s", self.place, pid, error)
            return False
        return True

    def burst(self) -> bool:
        """Whether the kernel has killed in it."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError):
            for line in (self.place / name).read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1]) > 0
        return False

    def close(self) -> None:
        """Let everyone out and remove it."""
        with contextlib.suppress(OSError):
            for pid in (self.place / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(OSError):
                    (self.place.parent / "cgroup.procs").write_text(pid, encoding="ascii")
            self.place.rmdir()


def _sweep(place: Path) -> None:
    """Remove the groups of runs whose process is gone; one that still holds somebody cannot be removed."""
    for left in place.glob("trivium-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                left.rmdir()


def _parents(groups: Path, mine: Path) -> list[tuple[Path, int]]:
    """Groups of this process that have the memory controller, with the version of their tree."""
    found = []
    try:
        lines = mine.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" and (groups / path.lstrip("/") / "cgroup.subtree_control").exists():
            here = groups / path.lstrip("/")
            with contextlib.suppress(OSError):
                if "memory" in (here / "cgroup.subtree_control").read_text(encoding="ascii").split():
                    found.append((here, 2))
        elif "memory" in controllers.split(","):
            found.append((groups / "memory" / path.lstrip("/"), 1))
    return found


@dataclass
class Keeper:
    """Keeps each of ``seats`` (those of workers) below ``limit`` bytes; ``most`` is the largest PSS seen of each."""

    seats: Sequence[Seat]
    limit: int
    most: dict[int, int] = field(default_factory=dict)
    cages: list[Cage] = field(default_factory=list)
    _next: float = 0.0
    _blind: bool = False  # that somebody cannot be looked at was said

    def start(self) -> None:
        """Put each into a group of its own, where that can be done."""
        name = f"trivium-{os.getpid()}-{secrets.token_hex(4)}"  # a process may have several runs at a time
        for number, seat in enumerate(self.seats):
            cage = Cage.make(f"{name}-{number}", self.limit)
            if cage is None:
                return
            self.cages.append(cage)
            if cage.hold(seat.pid):
                seat.caged = cage.burst

    def look(self, now: float) -> None:
        """Measure, and kill who has too much; at most twice a second."""
        if now < self._next:
            return
        self._next = now + EVERY
        for seat in self.seats:
            if seat.dead or seat.killed:
                continue
            used = pss(seat.pid)
            if used is None:
                self._tell_blind(seat)
                continue
            self.most[seat.pid] = max(self.most.get(seat.pid, 0), used)
            if used > self.limit:
                seat.killed = f"held {used / GIB:.2f} GiB, and memory_per_worker is {self.limit / GIB:.2f} GiB"
                seat.kill()

    def _tell_blind(self, seat: Seat) -> None:
        """Once: nobody keeps the bound of ``seat``, unless the kernel does."""
        if self._blind or seat.caged is not None:
            return
        self._blind = True
        log.warning(
            "memory_per_worker=%d is not enforced: /proc/%d/smaps_rollup cannot be read, and no memory control group "
            "can be made; run where one of them is allowed, or watch the memory yourself",
            self.limit,
            seat.pid,
        )

    def close(self) -> None:
        """Remove the groups."""
        for seat in self.seats:
            seat.caged = None
        while self.cages:
            self.cages.pop().close()
