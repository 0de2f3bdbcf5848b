"""Toy roles on real nodes: servers that pass bulk to and fro, workers that answer, a driver that does as it is told.

What agents are sent refers to this module by its name, so that it lies beside the tests that use it.
"""

import json
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from trivium.core.exchange import Copy
from trivium.core.lanes import Part
from trivium.core.membership import Members
from trivium.core.messages import Done, Leave, Proceed, Reply, Request
from trivium.core.role import (
    Address,
    MessageReceived,
    PeerJoined,
    PeerLost,
    PeerSilent,
    Retire,
    Role,
    Send,
    Stop,
)
from trivium.data.table import Table
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.running.job import Job, prepare
from trivium.runtime.child import Hands
from trivium.runtime.local import Member
from trivium.runtime.nodes import open_nodes
from trivium.runtime.nodes_host import NodesHost
from trivium.runtime.plane import ArrayPlane, NodeArrays, node_arrays
from trivium.runtime.store import RunStore

DRIVER = Address(0, 0)
LANES, BULK_SIZE = 4, 50_000


class Server(Role):
    """Sends ``Copy`` number n to the other server after it had number n − 1, until ``Proceed.until``; then is done."""

    def __init__(self, me, other, saved):
        super().__init__(me)
        self.other, self.saved, self.until, self.ticket = other, saved, 0, 0
        self.early = []

    def handle(self, event, now):
        """One event."""
        self._story.append((now, event))
        if isinstance(event, PeerLost):
            Path(self.saved).write_text(f"{event.peer} is gone: {event.how}")
            return [Stop("the driver is gone")]
        if not isinstance(event, MessageReceived):
            return []
        message = event.message
        if isinstance(message, Request):
            self.ticket = message.ticket
            if isinstance(message.body, Leave):
                return [Send(DRIVER, Reply(1, message.ticket, Done())), Stop("asked to leave")]
            self.until = message.body.until
            if self.me < self.other:
                return [Send(self.other, Copy(1, 0, (), (0,), True))]
            return self.answer(self.early.pop()) if self.early else []
        (number,) = message.applied
        if not self.until:
            self.early.append(number)  # the other one heard of it first
            return []
        return self.answer(number)

    def answer(self, number):
        """The next number, if there is one; say so where it was the last."""
        done = [Send(DRIVER, Reply(1, self.ticket, Done()))] if number + 2 >= self.until else []
        return [*done, *([Send(self.other, Copy(1, 0, (), (number + 1,), True))] if number + 1 < self.until else [])]


class Worker(Role):
    """Answers its driver; asks ``server`` for nothing."""

    def handle(self, event, now):
        """One event."""
        self._story.append((now, event))
        if isinstance(event, PeerLost):
            return [Stop("the driver is gone")]
        if not isinstance(event, MessageReceived):
            return []
        ticket, body = event.message.ticket, event.message.body
        answer = [Send(event.sender, Reply(1, ticket, Done()))]
        return [*answer, Stop("asked to leave")] if isinstance(body, Leave) else answer


class Driver(Role):
    """Waits until all are there, lets servers exchange ``rounds``, then does what ``then(self, event)`` says."""

    def __init__(self, members, names, rounds, then):
        super().__init__(DRIVER)
        self.members, self.names, self.rounds, self.then = members, names, rounds, then
        self.joined, self.done, self.events, self.exchanged = set(), [], [], False

    def name(self, one):
        """For people."""
        return self.names[one]

    def handle(self, event, now):
        """One event."""
        self._story.append((now, event))
        self.events.append(event)
        if isinstance(event, PeerJoined):
            self.joined.add(event.peer)
            if self.joined == set(self.members.all) and not self.exchanged:
                return self.ask(1, self.members.all, Proceed(self.rounds))
        if isinstance(event, PeerSilent):
            return [Retire(event.peer, f"silent for {event.seconds:.1f} s")]
        if isinstance(event, MessageReceived):
            self.done.append((event.sender, event.message.ticket))
            if isinstance(event.message.body, Done) and self.answered(1) and not self.exchanged:
                self.exchanged = True
        return self.then(self, event) or []

    def answered(self, ticket):
        """Whether everybody has answered ``ticket``."""
        return {sender for sender, one in self.done if one == ticket} >= set(self.members.all)

    def ask(self, ticket, peers, body):
        """A request to each."""
        return [Send(peer, Request(1, ticket, body)) for peer in peers]

    def leave(self):
        """Let everybody go."""
        return self.ask(9, self.members.all, Leave("over"))


def over(driver, event):
    """The ordinary end: everybody is asked to leave after the exchange, and the driver stops once all have."""
    if driver.answered(9):
        return [Stop("over")]
    if driver.exchanged and isinstance(event, MessageReceived) and event.message.ticket == 1:
        return driver.leave()
    return []


class Echo(ArrayPlane):
    """Packs an array that says which Copy it is beside, and refuses another one."""

    def pack(self, message):
        """The array of ``message``."""
        return [np.full(BULK_SIZE, message.applied[0], np.float32)]

    def unpack(self, sender, message, buffers):
        """Check what came."""
        (body,) = buffers
        got = np.frombuffer(body, np.float32)
        if len(got) != BULK_SIZE or not (got == message.applied[0]).all():
            raise ValueError(f"{sender} sent something else")


def make_echo(facts, arena, me, tables, sample, spans, shelf):
    """See ``Hands``."""
    arrays = NodeArrays(**{name: arena[name] for name in NodeArrays.__dataclass_fields__})
    return Echo(facts, arrays, me, tables, sample, spans, shelf)


ECHO = Hands(node_arrays, make_echo)


def no_start(plane):
    """A first version that cannot be made."""
    raise ValueError("nothing to begin with")


def prepared(folder, table=None):
    """A small job, its run directory made, and its store."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((400, 10)).astype(np.float32)
    table = table or Table({"x": x, "y": (x[:, 0] > 0).astype(np.int32)}, (0.0, 1.0))
    plan, stopping = Plan("ps", workers=2, lanes=LANES), Stopping(epochs=1)
    job = Job(model("logistic"), table, plan, out=folder, stopping=stopping, batch_size=40)
    got = prepare(replace(job, optimizer=optimizer("sgd", lr=0.1)))
    folder.mkdir(exist_ok=True)
    store = RunStore(folder, got.facts.shards)
    store.lock()
    store.take_over(0.0, lambda _words: None)
    return got, store


class Cast:
    """Who takes part: ``nodes`` nodes of a server and ``workers`` workers each."""

    def __init__(self, folder, nodes=2, workers=1):
        self.folder = folder
        self.servers = [Address(node + 1, 0) for node in range(nodes)]
        self.workers = [Address(node + 1, slot + 1) for node in range(nodes) for slot in range(workers)]

    @property
    def roster(self):
        """Members as a driver has them."""
        return Members(tuple(self.workers), tuple(self.servers))

    def name(self, address):
        """For people."""
        return f"server {address.node}" if address.slot == 0 else f"worker {address.node}.{address.slot}"

    def member(self, address):
        """The member at ``address``, also of one who joins later."""
        if address.slot == 0:
            other = Address(3 - address.node, 0)
            make = partial(Server, address, other, str(self.folder / f"saved-{address.node}"))
            return Member(address, self.name(address), make, None)
        return Member(address, self.name(address), partial(Worker, address), Part(0, LANES))

    def members(self):
        """All of them, as they are given to ``open_nodes``: in any order."""
        return [self.member(one) for one in (*self.workers, *self.servers)]


class Play:
    """A run of the cast on real processes."""

    def __init__(
        self, folder, then=over, *, nodes=2, workers=1, rounds=20, patience=5.0, orphan_timeout=1.0, **options
    ):
        self.cast = Cast(folder, nodes, workers)
        got, self.store = prepared(folder, options.pop("table", None))
        self.tables = got.tables
        self.nodes = open_nodes(
            self.cast.members(),
            got.facts,
            folder,
            got.tables,
            got.sample,
            begin=options.pop("begin", None),
            hands=ECHO,
            orphan_timeout=orphan_timeout,
            start_timeout=options.pop("start_timeout", 60.0),
            life=self.store.life,
            **options,
        )
        names = {address: self.cast.name(address) for address in (*self.cast.servers, *self.cast.workers)}
        self.driver = Driver(self.cast.roster, names, 20, then)
        self.host = NodesHost(
            self.driver,
            self.nodes,
            self.store,
            patience=patience,
            start_timeout=60.0,
            show=lambda _host: None,
            member_of=self.cast.member,
        )

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        self.host.close()
        self.nodes.close(clean=failed[0] is None)
        self.store.unlock()

    @property
    def groups(self):
        """The process group of each node."""
        return [station.seat.pid for station in self.nodes.stations.values()]

    def seat(self, address):
        """The seat at ``address``."""
        return self.nodes.seats[self.nodes.addresses.index(address) - 1]


def lonely(folder):
    """A driver that says who is there and then does nothing: for those who kill it."""

    def tell(driver, _event):
        if driver.exchanged and not told:
            told.append(True)
            pids = [seat.pid for seat in play.nodes.seats]
            sys.stdout.write(json.dumps({"groups": play.groups, "pids": pids}) + "\n")
            sys.stdout.flush()

    told = []
    play = Play(Path(folder), tell)
    with play:
        play.host.run()


if __name__ == "__main__":
    lonely(tempfile.mkdtemp() if len(sys.argv) < 2 else sys.argv[1])
