"""Where a run's processes are: on one node whose memory this process maps too, or on nodes that share nothing.

A site is opened, told what to begin with, launched, hosted, asked for its end and closed; ``live`` drives it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trivium.core.balance import Balancer
from trivium.core.consistency import Rule
from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.core.role import Address
from trivium.designs.ps.driver import NodesDriver
from trivium.errors import StorageError
from trivium.running.ending import final_params, last_head, saved_params
from trivium.running.job import Job, Prepared
from trivium.running.staffing import RETRY
from trivium.running.starting import Begin
from trivium.runtime.child import ARRAYS, EXCHANGING, Hands
from trivium.runtime.claiming import Claimed
from trivium.runtime.host import Trace
from trivium.runtime.injection import Injections
from trivium.runtime.inline import private_arrays
from trivium.runtime.local import DriverHost, LocalNode
from trivium.runtime.nodes import Nodes, adopt_nodes, open_nodes
from trivium.runtime.nodes_host import NodesHost
from trivium.runtime.plane import NodeArrays
from trivium.runtime.pool import Pool
from trivium.runtime.store import RunStore, checkpoints, last_term

__all__ = ["Site", "make_driver", "open_site"]

TEMPI = 3  # of which a worker's speed is the median: each is a median already


def make_driver(
    job: Job, prepared: Prepared, agenda: Agenda, me: Address, term: int, claimed: Claimed | None = None
) -> Driver:
    """The driver's role for ``job``; for nodes that were ``claimed``, one that goes on where the lost one was."""
    plan, staffing = job.plan, prepared.staffing
    settings: dict[str, Any] = {
        "lanes": plan.lanes,
        "shards": prepared.facts.shards,
        "agenda": agenda,
        "retry": RETRY,
        "patience": plan.patience,
        "names": staffing.names,
        "max_time": prepared.max_time,
        "checkpoint_every": plan.checkpoint_every,
        "term": term,
    }
    if plan.design != "ps":
        return Driver(me, staffing.roster, **settings)
    members, place = (staffing.roster, None) if claimed is None else (claimed.members, claimed.place)
    balance = Balancer(plan.lanes, members.workers, window=TEMPI) if plan.balances else None
    rule = Rule.parse(plan.consistency) if place is None else place.rule
    return NodesDriver(me, members, rule=rule, copies=plan.copy_count, balance=balance, standing=place, **settings)


class Site(abc.ABC):
    """Processes and memory of one run."""

    node: Any

    def __init__(self, job: Job, prepared: Prepared, life: str) -> None:
        self.job, self.prepared, self.life = job, prepared, life

    @abc.abstractmethod
    def begin(self, begin: Begin) -> None:
        """Commit the first version."""

    @abc.abstractmethod
    def launch(self) -> None:
        """Start the processes."""

    @abc.abstractmethod
    def arrays(self) -> NodeArrays:
        """Memory to compile with."""

    @abc.abstractmethod
    def host(self, store: RunStore, agenda: Agenda, *, show: Callable[[Any], None], trace: Trace | None) -> Any:
        """What runs the driver's role."""

    @abc.abstractmethod
    def ending(self, agenda: Agenda) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The run's parameters and F's scalars, once it has ended in order; copies."""

    def close(self, *, clean: bool) -> None:
        """End or give back the processes, free the memory."""
        self.node.close(clean=clean)


@final
class OneNode(Site):
    """Everything in memory that this process maps as well."""

    node: LocalNode

    def __init__(self, job: Job, prepared: Prepared, life: str, pool: Pool) -> None:
        super().__init__(job, prepared, life)
        self.node = LocalNode(
            pool,
            list(prepared.staffing.members),
            prepared.facts,
            job.folder.absolute(),  # warm processes may have begun in another folder
            prepared.tables,
            prepared.sample,
            prepared.staffing.spin,
            job.plan.orphan_timeout,
            life,
            job.plan.memory_per_worker,
            hands=_hands(job, prepared),
            injections=Injections.parse(job.plan.inject),
        )
        self.node.open()

    def begin(self, begin: Begin) -> None:
        """Commit the first version, for all processes."""
        begin(self.node.plane)

    def launch(self) -> None:
        """Start the processes."""
        self.node.launch()

    def arrays(self) -> NodeArrays:
        """The node's own."""
        arrays: NodeArrays = self.node.plane.arrays
        return arrays

    def host(self, store: RunStore, agenda: Agenda, *, show: Callable[[Any], None], trace: Trace | None) -> DriverHost:
        """The driver's host in this process."""
        plan = self.job.plan
        driver = make_driver(self.job, self.prepared, agenda, self.node.addresses[0], last_term(self.job.folder))
        return DriverHost(
            driver,
            self.node,
            store,
            patience=plan.patience,
            start_timeout=plan.start_timeout,
            show=show,
            trace=trace,
            member_of=self.prepared.staffing.member_of,
        )

    def ending(self, agenda: Agenda) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """From the node's memory."""
        return final_params(self.node.plane, agenda), last_head(self.node.plane)


@final
class ManyNodes(Site):
    """Nodes that share nothing with this process or each other; those that were ``claimed`` are there already."""

    node: Nodes

    def __init__(self, job: Job, prepared: Prepared, life: str, claimed: Claimed | None = None) -> None:
        super().__init__(job, prepared, life)
        self.claimed = claimed

    def begin(self, begin: Begin) -> None:
        """Start an agent for each node; each commits the first version for itself."""
        plan, prepared = self.job.plan, self.prepared
        self._begin = begin
        if self.claimed is not None:
            self._adopt(self.claimed)
            return
        self.node = open_nodes(
            prepared.staffing.members,
            prepared.facts,
            self.job.folder.absolute(),
            prepared.tables,
            prepared.sample,
            begin=begin,
            hands=_hands(self.job, prepared),
            spin=prepared.staffing.spin,
            orphan_timeout=plan.orphan_timeout,
            start_timeout=plan.start_timeout,
            life=self.life,
            workers_a_node=prepared.staffing.room - 2,
            memory_per_worker=plan.memory_per_worker,
            injections=Injections.parse(plan.inject),
        )

    def _adopt(self, claimed: Claimed) -> None:
        plan, prepared = self.job.plan, self.prepared
        prepared.staffing.names.update(claimed.names)
        claimed.send_away()
        self.node = adopt_nodes(
            claimed,
            prepared.staffing.member_of,
            prepared.facts,
            self.job.folder.absolute(),
            prepared.tables,
            prepared.sample,
            spin=prepared.staffing.spin,
            orphan_timeout=plan.orphan_timeout,
            start_timeout=plan.start_timeout,
            workers_a_node=prepared.staffing.room - 2,
            memory_per_worker=plan.memory_per_worker,
        )

    def launch(self) -> None:
        """They are started already, and begin once they are hosted."""

    def arrays(self) -> NodeArrays:
        """Some of our own."""
        return private_arrays(self.prepared.facts)

    def host(self, store: RunStore, agenda: Agenda, *, show: Callable[[Any], None], trace: Trace | None) -> NodesHost:
        """The driver's host in this process, with links to all nodes."""
        plan, me, term = self.job.plan, self.node.addresses[0], last_term(self.job.folder)
        driver = make_driver(self.job, self.prepared, agenda, me, term, self.claimed)
        return NodesHost(
            driver,
            self.node,
            store,
            patience=plan.patience,
            start_timeout=plan.start_timeout,
            show=show,
            trace=trace,
            member_of=self.prepared.staffing.member_of,
            begin=self._begin,
        )

    def ending(self, agenda: Agenda) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """From the last checkpoint: every run ends with one."""
        last = next((one for one in reversed(checkpoints(self.job.folder)) if one.clock == agenda.clock), None)
        if last is None:
            raise StorageError(f"{self.job.folder} lacks the last checkpoint (clock {agenda.clock}); resume the run")
        saved = last.load()
        return saved_params(saved, agenda), saved["head"][0]

    def close(self, *, clean: bool) -> None:
        """End all nodes, if any was started."""
        if hasattr(self, "node"):
            super().close(clean=clean)
        elif self.claimed is not None:
            self.claimed.let_go()


def _hands(job: Job, prepared: Prepared) -> Hands:
    """What kind of plane the run's processes work with."""
    if not prepared.facts.program.row_shards:
        return EXCHANGING if job.plan.design == "ps" else ARRAYS
    from trivium.runtime.row_plane import ROWS

    return ROWS


def open_site(
    job: Job, prepared: Prepared, life: str, pool_of: Callable[..., Pool], claimed: Claimed | None = None
) -> Site:
    """The site of ``job``; ``pool_of(xla=, grace=)`` gives processes for a single node, ``claimed`` are living ones."""
    if job.plan.nodes > 1:
        return ManyNodes(job, prepared, life, claimed)
    pool = pool_of(xla=prepared.facts.program.xla, grace=job.plan.orphan_timeout + 2.0)
    pool.start()
    return OneNode(job, prepared, life, pool)
