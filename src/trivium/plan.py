"""Settings of a run: frozen, checked when made, passed along, never global."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field

from trivium.errors import PlanError, unknown

__all__ = ["COMBINES", "CONSISTENCIES", "DESIGNS", "Plan", "Stopping", "parse_bandwidth"]

DESIGNS = ("auto", "sequential", "allreduce", "ps")
CONSISTENCIES = ("bsp", "ssp:S", "essp:S", "asp", "backup:K")
COMBINES = ("sum", "model")
MEMORY_AT_LEAST = 128 << 20
COPIES = 2  # of each shard, where there are nodes to hold them
ORPHANS_WAIT, ORPHANS_OF_NODES_WAIT = 3.0, 60.0  # seconds
UNSAID = math.nan  # of an orphan_timeout that follows from the nodes

_CONSISTENCY = re.compile(r"(bsp|asp)|(ssp|essp):\d{1,9}|backup:0*[1-9]\d{0,8}")
_BANDWIDTH = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)(bit|B)(?:/s)?")
_FILTER = re.compile(r"[a-z][a-z0-9-]*(?::[0-9.eE+-]+)?")
_INJECTION = re.compile(r"[a-z]+:\S+")


def parse_bandwidth(text: str) -> int:
    """Bytes a second. Bits and bytes by their own letters, in powers of 1000, of 1024 with an ``i``; PlanError else.

    >>> parse_bandwidth("100Mbit"), parse_bandwidth("50MB/s"), parse_bandwidth("1.5 GiB")
    (12500000, 50000000, 1610612736)
    """
    found = _BANDWIDTH.fullmatch(text.strip())
    if found is None:
        raise PlanError(
            f"bandwidth={text!r}: expected a number with a unit of bits or bytes (B) a second; write 100Mbit, 1Gbit or "
            "50MB"
        )
    power = " kMGT".index(found[2].replace("K", "k") or " ")
    nbytes = int(float(found[1]) * (1024 if found[3] else 1000) ** power / (8 if found[4] == "bit" else 1))
    if nbytes < 1:
        raise PlanError(f"bandwidth={text!r} is too little; it must be 1 byte a second or more")
    return nbytes


@dataclass(frozen=True)
class Stopping:
    """When a run ends; whichever comes first.

    ``epochs`` passes over the data, ``max_iter`` iterations of the optimizer, ``max_time`` seconds of training, ``tol``
    the optimizer's own test, ``target_loss`` on the validation rows if there are any, else on a fixed sample of the
    training rows, ``patience`` evaluations of the validation loss without a new best (the best epoch is kept).
    """

    epochs: int | None = None
    max_iter: int | None = None
    max_time: float | None = None
    tol: float | None = None
    target_loss: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "max_iter", "max_time", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise PlanError(f"{name} must be above 0, got {value!r}")
        if self.tol is not None and not self.tol >= 0:
            raise PlanError(f"tol must be 0 or more, got {self.tol!r}")


@dataclass(frozen=True)
class Plan:
    """Where and how a program is trained.

    ``design`` "auto" is settled before the run starts: ``sequential`` with all cores while data and model fit one
    machine, else ``ps`` (see ``trivium.running.choosing``); the run says what was chosen, and why.

    ``workers`` is the total; ``lanes`` never changes in a run and never follows from ``workers``. ``threads`` is for
    ``sequential`` only (default: all allowed cores). ``patience`` seconds without a sign of life, and a process counts
    as lost. ``combine="model"`` averages models each ``every`` steps instead of summing gradients.

    ``memory_per_worker`` bytes bound what each worker holds, as its share of all pages that it maps (PSS): rows then
    pass through it in windows, and who needs more is ended.

    Of a parameter server only: ``consistency`` ``bsp``, ``ssp:S``, ``essp:S`` (S clocks of slack), ``asp`` or
    ``backup:K`` (a clock goes on without its K slowest lanes). ``nodes`` are hosts, or virtual ones on this machine
    that share no memory; each has one worker or more. ``copies`` of each shard, its primary among them (default: 2
    where there are 2 nodes or more). ``balance``: lanes move from slow workers to fast ones (default: unless ``bsp``).
    ``filters`` between nodes, as ``"key-cache,int8"``; ``bandwidth`` that a node may use to send to others, as
    ``"100Mbit"`` (see ``parse_bandwidth``).

    ``inject``: faults to be made on purpose, as ``("slow:worker1:x4", "kill:node1@clock50")``. ``orphan_timeout``
    seconds are how long processes without a driver wait for a new one (default: 3 on one node, 60 on several).

    >>> plan = Plan("ps", workers=4, nodes=2, consistency="ssp:3")
    >>> plan.copy_count, plan.balances, plan.orphan_timeout
    (2, True, 60.0)
    """

    design: str = "auto"
    workers: int | None = None
    lanes: int = 8
    threads: int | None = None
    shards: int | None = None
    pin: bool = False
    consistency: str = "bsp"
    reproducible: bool = False
    combine: str = "sum"
    every: int = 1
    memory_per_worker: int | None = None
    patience: float = 10.0
    start_timeout: float = 120.0
    orphan_timeout: float = UNSAID
    checkpoint_every: float = 30.0
    nodes: int = 1
    copies: int | None = None
    balance: bool | None = None
    filters: str = ""
    bandwidth: str | None = None
    inject: tuple[str, ...] = ()
    cores: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))

    def __post_init__(self) -> None:
        for kind, given, allowed in (("design", self.design, DESIGNS), ("combine", self.combine, COMBINES)):
            if given not in allowed:
                raise PlanError(unknown(kind, given, allowed))
        if not _CONSISTENCY.fullmatch(self.consistency):
            raise PlanError(unknown("consistency", self.consistency, CONSISTENCIES))
        if math.isnan(self.orphan_timeout):
            object.__setattr__(self, "orphan_timeout", ORPHANS_WAIT if self.nodes <= 1 else ORPHANS_OF_NODES_WAIT)
        for name in ("lanes", "every", "patience", "start_timeout", "orphan_timeout", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise PlanError(f"{name} must be above 0, got {getattr(self, name)!r}")
        least = MEMORY_AT_LEAST
        if self.memory_per_worker is not None and self.memory_per_worker < least:
            raise PlanError(
                f"memory_per_worker={self.memory_per_worker} bytes: an interpreter with its libraries needs "
                f"{least >> 20} MiB before it holds a row; give more"
            )
        for name in ("workers", "threads", "shards", "nodes", "copies"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PlanError(f"{name} must be 1 or more, got {value}")
        self._check_faults()
        self._check_design()
        if self.combine == "sum" and self.every != 1:
            raise PlanError(f"every={self.every} has a meaning only with combine='model'")
        if self.worker_count > self.lanes:
            raise PlanError(
                f"workers={self.worker_count} is more than lanes={self.lanes}; a lane is the least unit of work: raise "
                "lanes (it changes the order of the sums) or lower workers"
            )
        self._check_consistency()
        self._check_nodes()

    def _check_consistency(self) -> None:
        """What of ``consistency`` needs neither program nor optimizer; see ``trivium.running.consistency``."""
        kind, _, number = self.consistency.partition(":")
        if kind == "bsp" or (kind != "backup" and number and not int(number)):
            return  # with no slack it is bsp
        if self.reproducible:
            raise PlanError(
                f"consistency={self.consistency}: what is summed depends on who is early, so that nothing is the same "
                "twice; leave reproducible out, or use consistency='bsp'"
            )
        if self.combine == "model":
            raise PlanError(
                f"combine='model' with consistency={self.consistency}: models are averaged when all are there; use "
                "consistency='bsp', or combine='sum'"
            )
        if kind == "backup" and int(number) >= self.lanes:
            raise PlanError(
                f"consistency={self.consistency} would do without all of lanes={self.lanes}; lower the number, or "
                "raise lanes"
            )

    def _check_nodes(self) -> None:
        if self.nodes > self.worker_count:
            raise PlanError(
                f"nodes={self.nodes} is more than workers={self.worker_count}; each node needs a worker: raise workers "
                "or lower nodes"
            )
        if self.nodes == 1:
            for name in ("copies", "filters", "bandwidth"):
                if (value := getattr(self, name)) and value != 1:
                    raise PlanError(f"{name}={value}: on one node nothing is sent from node to node; raise nodes")
        if self.copies is not None and self.copies > self.nodes:
            raise PlanError(
                f"copies={self.copies} is more than nodes={self.nodes}; a node holds one copy of a shard: "
                "raise nodes or lower copies"
            )
        for one in self.filters.split(",") if self.filters else ():
            if not _FILTER.fullmatch(one.strip()):
                raise PlanError(
                    f"filters={self.filters!r}: found {one!r}, expected a name, and a number where it has one; write "
                    "key-cache,int8 or topk:0.01,float16"
                )
        if self.bandwidth is not None:
            parse_bandwidth(self.bandwidth)

    def _check_faults(self) -> None:
        given: object = self.inject
        if isinstance(given, str):
            raise PlanError(f"inject={given!r} is one text; give a tuple of them: ({given!r},)")
        object.__setattr__(self, "inject", tuple(self.inject))  # JSON gives a list
        for one in self.inject:
            if not _INJECTION.fullmatch(str(one)):
                raise PlanError(f"inject={one!r} is no fault; write slow:worker1:x4 or kill:node1@clock50")

    def _check_design(self) -> None:
        """What the design has no use for is an error, never ignored."""
        if self.design == "auto":
            several = f"workers={self.workers}" if self.workers not in (None, 1) else self.asks_several
            if self.threads not in (None, 1) and several:
                raise PlanError(
                    f"threads={self.threads} and {several}: one process has threads, several have workers; give one of "
                    "them"
                )
            return
        if self.design != "ps" and self.asks_servers:
            raise PlanError(f"{self.asks_servers}: only parameter servers have that; use design='ps'")
        if self.design != "sequential":
            if self.threads not in (None, 1):
                raise PlanError(
                    f"threads={self.threads}: workers of {self.design!r} have one thread each; raise workers instead"
                )
            return
        if self.workers not in (None, 1):
            raise PlanError(
                f"workers={self.workers}: the sequential design is one process; use threads=, or design 'ps' or "
                "'allreduce'"
            )
        if self.inject:
            raise PlanError(f"inject={self.inject[0]}: the sequential design is one process; use 'ps' or 'allreduce'")
        if self.shards is not None:
            raise PlanError("shards: the sequential design does not cut the parameters; use 'ps' or 'allreduce'")

    @property
    def asks_servers(self) -> str:
        """The first thing that was asked for and that only parameter servers have; empty where nothing was."""
        asked = {
            "consistency": self.consistency != "bsp",
            "nodes": self.nodes != 1,
            "copies": self.copies not in (None, 1),
            "balance": self.balance is True,
            "filters": bool(self.filters),
            "bandwidth": self.bandwidth is not None,
        }
        name = next((name for name, given in asked.items() if given), "")
        return name and f"{name}={getattr(self, name)}"

    @property
    def asks_several(self) -> str:
        """The first thing that was asked for and needs several processes, workers apart; empty where nothing was."""
        return self.asks_servers or (f"inject={self.inject[0]}" if self.inject else "")

    @property
    def copy_count(self) -> int:
        """Copies of each shard, with the default filled in."""
        return self.copies if self.copies is not None else min(COPIES, self.nodes)

    @property
    def balances(self) -> bool:
        """Whether lanes move from slow to fast workers, with the default filled in."""
        return self.balance if self.balance is not None else self.consistency != "bsp"

    @property
    def bytes_per_second(self) -> int | None:
        """``bandwidth`` as a number; None: no bound."""
        return None if self.bandwidth is None else parse_bandwidth(self.bandwidth)

    @property
    def worker_count(self) -> int:
        """Workers, with the default filled in: 1 for sequential (and while "auto" is not settled), else one a core."""
        if self.design == "sequential" or (self.design == "auto" and self.workers is None and not self.asks_several):
            return 1
        return self.workers if self.workers is not None else min(self.lanes, max(len(self.cores), self.nodes))

    @property
    def thread_count(self) -> int:
        """Threads of each worker's arithmetic."""
        if self.design not in ("auto", "sequential"):
            return 1
        return self.threads if self.threads is not None else len(self.cores)
