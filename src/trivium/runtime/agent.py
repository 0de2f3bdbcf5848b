"""The agent of a node: ``python -m trivium.runtime.agent``, started by the driver's process, in a session of its own.

Rules
-----
* What it must know comes over its standard input (``Bootstrap``), never by arguments or environment. That stays open:
  when it ends, the driver's process is gone. A link to it that is broken for ``orphan_timeout`` means the same.
* Code comes only over the link to the driver, whose key it was started with, in ``Setup`` and ``Enlist``.
* It hosts the node's server in its own process, and its workers as children, in one process group: whoever kills that
  leaves nothing of the node. Memory is the node's own; rows come from the cache's files where they are the same here,
  else over the link.
* Mail between its workers and the driver has a box of its own and is passed on as it is.
* Without a driver its role saves what it holds, and waits: whoever proves the driver's key and the run's (``Claim``) is
  the next one. What has not ended ``orphan_timeout`` and a second later is killed. It outlives its role until the
  driver says ``Bye``, so that figures can be read.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Advance
from trivium.core.messages import Apply, Failed, Reply
from trivium.core.role import Address, PeerJoined, PeerLost, Stop, Work
from trivium.core.spans import IDLE
from trivium.errors import LostError
from trivium.runtime import board as boards
from trivium.runtime.child import HARD_END, SHOW_EVERY, Hands
from trivium.runtime.early import modules
from trivium.runtime.host import MOST_TRACE, told
from trivium.runtime.injection import Injections
from trivium.runtime.linked import LinkedHost
from trivium.runtime.local import LocalNode, Member
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.plane import Facts
from trivium.runtime.pool import FRAME, Pool
from trivium.runtime.pool import GRACE as POOL_GRACE
from trivium.runtime.seats import await_end
from trivium.runtime.shaping import Shape
from trivium.runtime.shipping import Parcel
from trivium.runtime.store import RunStore
from trivium.runtime.striking import Bends, shaped
from trivium.runtime.warden import Warden
from trivium.runtime.wire import (
    CHUNK,
    DRIVER,
    AskStack,
    Bootstrap,
    Bye,
    Claim,
    End,
    Enlist,
    Fell,
    Here,
    Link,
    Manned,
    Meet,
    Order,
    Part,
    Piece,
    Pull,
    Report,
    Setup,
    Unlink,
    Word,
    order_of,
    packed_order,
    packed_word,
)

__all__ = ["Agent", "AgentHost", "NodeLaunch", "main"]

log = logging.getLogger(__name__)
UNDER_WAY = 4  # chunks of rows that were asked for and are not here yet
GRACE = 2.0  # seconds beyond the orphan timeout in which everything has ended
LINGER_EVERY = 0.02


@dataclass(frozen=True)
class NodeLaunch:
    """All that a node must know of a run. ``facts.processes`` is the room of its board; ``begin(plane)`` commits the
    first version, None where copies come from others.
    """

    node: int
    server: Member
    workers: tuple[Member, ...]
    facts: Facts
    parcel: Parcel
    sample: NDArray[np.int64] | None
    run: Path
    spin: float
    orphan_timeout: float
    life: str
    hands: Hands
    begin: Callable[[Any], None] | None
    memory_per_worker: int | None = None
    injections: Injections = field(default_factory=Injections)


class AgentHost(LinkedHost):
    """The server's host: passes its workers' mail on, and carries the driver's orders out.

    ``follow`` is told the process of another driver that has claimed ``run``.
    """

    def __init__(
        self,
        node: LocalNode,
        launch: NodeLaunch,
        links: Link,
        store: RunStore,
        bends: Bends,
        *,
        run: bytes = b"",
        follow: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        super().__init__(
            launch.server.make_role(),
            0,
            node.addresses,
            node.mail,
            node.board,
            plane=node.plane,
            store=store,
            spin=launch.spin,
            spans=node.spans,
        )
        self.node, self.links, self.bends, self._name = node, links, bends, launch.server.name
        self.box = Mailboxes(node.arena["mail"], node.relay, len(node.addresses), node.ring_bytes)
        self.warden = Warden(node, self._tell, self.crossed)
        self.driver_gone = self.dismissed = False
        self._told = False
        self._run, self._follow = run, follow
        self._cut_since: float | None = None
        self._shown = 0.0

    def _tell(self, report: Report, arrays: Sequence[Any]) -> None:
        if not self.driver_gone:
            self.order(DRIVER.node, report, arrays)

    def complain(self, error: str, trace: str) -> None:
        """Tell the driver that the program failed before the role began."""
        failed = self._encode(Reply(0, -1, Failed(error, trace)))
        self.links.send(DRIVER.node, packed_word(self.role.me.slot, DRIVER.slot, failed))

    def poll(self) -> bool:
        """Look at the links and at the workers' mail for the driver; tell once that it is gone."""
        found = self.take_links()
        for sender, payload in self.box.receive():
            self.links.send(DRIVER.node, packed_word(self.addresses[sender].slot, DRIVER.slot, payload))
            found = True
        self._watch_link()
        self.bends.look(time.monotonic())
        if self.driver_gone and not self._told:
            self._told = found = True
            self._orphan()
        return found

    def _watch_link(self) -> None:
        """A driver that is stopped or cut off for a while is not gone; one that is for long is."""
        links = self.links
        for which, since in ((links.lost, time.monotonic()), (links.joined, None)):
            while which:
                if which.popleft() == DRIVER.node:
                    self._cut_since = since
        if self._cut_since is not None and time.monotonic() > self._cut_since + self.node.orphan_timeout:
            self.driver_gone = True

    def _orphan(self) -> None:
        """The workers need not know: without their server's word they begin nothing, and they are ended with it."""
        if self.stopped is None:
            self.feed(PeerLost(DRIVER, "its process is gone"))

    def _claimed(self, claim: Claim) -> None:
        """Another driver is there: tell it all that it must know. What it wants comes in a term of its own."""
        if claim.run != self._run:
            log.warning("a driver of another run claims this one")
            return
        if not self._told:  # nobody has noticed yet that the one before is gone
            self._orphan()
        self.driver_gone = self._told = False
        self._cut_since = None
        self._follow(claim.pid)
        if self.stopped is None:
            self.feed(PeerJoined(DRIVER))
        self.order(DRIVER.node, self._manned())
        self.warden.wake()

    def _manned(self) -> Manned:
        seats = [(one.address.slot, one.name, 0 if seat.dead else seat.pid) for one, seat in self._seated()]
        placed, place = getattr(self.role, "placement", None) or (-1, None)
        held = b"" if place is None else msgspec.msgpack.encode(place)
        own = (self.role.me.slot, self._name, os.getpid())
        over = self.stopped is not None
        return Manned(self._run, self.links.endpoint, (own, *seats), over, placed, held, self.warden.serial)

    def _seated(self) -> list[tuple[Member, Any]]:
        return list(zip(self.node.members, self.node.seats, strict=False))

    # -- what comes ---------------------------------------------------------------------------------------------------
    def word(self, peer: int, word: Word, payload: Sequence[Any]) -> None:
        """For the server, or from the driver for a worker: that is passed on as it is, if it fits in a mailbox."""
        index = self._process.get(Address(self.role.me.node, word.to))
        if index == 0:
            super().word(peer, word, payload)
        elif index is not None and peer == DRIVER.node and len(word.body) <= self.box.capacity - 8:
            if self._full or not self.box.send(index, word.body):
                self._full.append((self.box, index, word.body))
        else:
            log.warning("dropped %d bytes from node %d for slot %d", len(word.body), peer, word.to)

    def obey(self, peer: int, order: Order, payload: Sequence[Any]) -> None:
        """Orders of the driver; nobody else's."""
        if peer != DRIVER.node:
            log.warning("node %d gives orders to node %d", peer, self.role.me.node)
        elif isinstance(order, Meet):
            meet(self.links, order, self.bends)
        elif isinstance(order, Unlink):
            unlink(self.links, order, self.bends)
        elif isinstance(order, Claim):
            self._claimed(order)
        elif isinstance(order, Part):
            self.bends.cut(time.monotonic() + order.seconds)
        elif isinstance(order, Enlist):
            self.warden.enlist(order.serial, pickle.loads(payload[0]))  # noqa: S301 - from the driver, see the rules
        elif isinstance(order, End):
            self.warden.end(self._process.get(Address(self.role.me.node, order.slot), 0), order.why)
        elif isinstance(order, AskStack):
            self.warden.ask_stack(self._process.get(Address(self.role.me.node, order.slot), 0))
        elif isinstance(order, Bye):
            self.dismissed = True
            self.stopped = self.stopped or Stop("the driver needs this node no more")

    def computed(self, work: Work, result: Any, now: float) -> None:
        """Show F's figures on the board, now and then."""
        if now < self._shown or not isinstance(work, Apply | Advance):
            return
        self._shown = now + SHOW_EVERY
        figures = self.board.figures[self.me]
        _finished, iterations, _rows, weight, loss = result
        figures[boards.LOSS], figures[boards.WEIGHT], figures[boards.ITERATIONS] = loss, weight, iterations
        figures[boards.APPLIED] = work.clock + 1 if isinstance(work, Apply) else sum(work.applied) / len(work.applied)

    # -- the end ------------------------------------------------------------------------------------------------------
    def linger(self, within: float) -> None:
        """Pass mail on until the driver says goodbye; without one, workers have ``within`` seconds to end."""
        self.board.words[0, boards.STATE] = boards.LEFT
        self.warden.often = True
        self.warden.wake()
        gone_since: float | None = None
        while not self.dismissed:
            self.poll()
            self._flush()
            if self.driver_gone:
                gone_since = gone_since or time.monotonic()
                if self._all_ended() or time.monotonic() > gone_since + within:
                    return
            self.mail.receive()
            self.mail.wait(LINGER_EVERY, 0.0)

    def _all_ended(self) -> bool:
        words = self.board.words
        return all(
            seat.dead or int(words[index, boards.STATE]) == boards.LEFT
            for index, seat in enumerate(self.node.seats, start=1)
        )


def unlink(links: Link, order: Unlink, bends: Bends) -> None:
    """A node is gone."""
    links.forget(order.node)
    bends.drop(order.node)


def meet(links: Link, order: Meet, bends: Bends) -> None:
    """Let a node in, or dial it."""
    if order.endpoint:
        links.connect(order.node, order.endpoint, order.key)
    else:
        links.allow(order.node, order.key)
    bends.put(order.node, Shape(order.delay, order.bandwidth or None))


class _NotNeededError(Exception):
    """There is nothing to do any more."""


@dataclass
class Agent:
    """One agent's life, from its bootstrap to its end; ``open_links`` makes its end of the links."""

    boot: Bootstrap
    open_links: Callable[[Bootstrap, Callable[[], None]], Link]
    aside: deque[Any] = field(default_factory=deque)  # what came before it could be used
    gone: bool = False
    _bell: threading.Event = field(default_factory=threading.Event)
    _host: AgentHost | None = None
    _bends: Bends | None = None
    _driver: int = 0  # how many there were before this one

    def run(self) -> None:
        """Until the run is over for this node."""
        pool = split_pool(self.boot)  # before there are other threads
        threading.Thread(target=self._lifeline, name="lifeline", daemon=True).start()
        links = self.open_links(self.boot, self._ring)
        try:
            links.send(DRIVER.node, packed_order(Here(self.boot.run, links.endpoint)))
            _order, payload = self._await(links, Setup, self.boot.start_within)
            launch: NodeLaunch = pickle.loads(payload[0])  # noqa: S301 - from the driver, see the rules
            self._serve(launch, pool, links)
        except _NotNeededError as reason:
            log.info("node %d: %s", self.boot.node, reason)
        except Exception:
            links.send(DRIVER.node, packed_order(Fell(traceback.format_exc()[-MOST_TRACE:])))
            raise
        finally:
            pool.close()
            links.close(0.0 if self.gone else GRACE / 2)

    # -- before the run -----------------------------------------------------------------------------------------------
    def _bent(self, links: Link) -> Bends:
        self._bends = self._bends or Bends(links)
        return self._bends

    def _ring(self) -> None:
        self._bell.set()
        if self._host is not None:
            self._host.mail.ring(0)

    def _lifeline(self) -> None:
        """Notice the end of the driver's process; then see to it that all of this ends in bounds."""
        while True:
            try:
                if not os.read(sys.stdin.fileno(), 1):
                    break
            except OSError:
                break
        self._bereft(0)

    def _bereft(self, driver: int) -> None:
        """The ``driver``-th driver is gone; unless another one comes, all of this ends in bounds."""
        if driver != self._driver:
            return
        self.gone = True
        if self._host is not None:
            self._host.driver_gone = True
        self._ring()
        threading.Event().wait(self.boot.orphan_timeout + HARD_END + GRACE)
        if driver == self._driver:
            os.killpg(0, signal.SIGKILL)

    def _follow(self, pid: int) -> None:
        """Another driver, the process ``pid``, has claimed the run: its end is noticed like that of the one before."""
        self._driver += 1
        self.gone = False
        threading.Thread(target=self._watch, args=(pid, self._driver), name="lifeline", daemon=True).start()

    def _watch(self, pid: int, driver: int) -> None:
        await_end(pid)
        self._bereft(driver)

    def _await(self, links: Link, kind: type[Any], within: float, match: Any = None) -> tuple[Any, Sequence[Any]]:
        """The next order of ``kind`` from the driver; what else comes meanwhile is put aside. LostError in the end."""
        deadline = time.monotonic() + within
        while True:
            self._bell.clear()
            while links.received:
                arrived = links.received.popleft()
                order = order_of(arrived[1]) if arrived[0] == DRIVER.node else None
                if isinstance(order, kind) and (match is None or order.source == match):
                    return order, arrived[2]
                if isinstance(order, Bye):
                    raise _NotNeededError("the run ended before it began")
                if isinstance(order, Meet):
                    meet(links, order, self._bent(links))
                elif isinstance(order, Unlink):
                    unlink(links, order, self._bent(links))
                else:
                    self.aside.append(arrived)
            if self.gone:
                raise _NotNeededError("the driver's process went before it began")
            if time.monotonic() > deadline:
                raise LostError(f"the driver sent no {kind.__name__} within {within:g} s")
            self._bell.wait(0.1)

    def _fetch(self, links: Link, source: str, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` with the rows ``source``, a few chunks under way at a time."""
        starts = range(0, len(out), CHUNK)
        for number, start in enumerate(starts):
            ahead = starts[:UNDER_WAY] if number == 0 else starts[number + UNDER_WAY - 1 : number + UNDER_WAY]
            for one in ahead:
                pull = Pull(source, one, min(one + CHUNK, len(out)))
                links.send(DRIVER.node, packed_order(pull))
            piece, payload = self._await(links, Piece, self.boot.start_within, source)
            body = np.frombuffer(payload[0], np.uint8) if payload else out[:0]
            if piece.start != start or len(body) != min(CHUNK, len(out) - start):
                raise LostError(f"rows {source!r} from byte {start} did not come as they were asked for")
            out[start : start + len(body)] = body

    # -- the run ------------------------------------------------------------------------------------------------------
    def _serve(self, launch: NodeLaunch, pool: Any, links: Link) -> None:
        rows = launch.parcel.unpack(lambda source, out: self._fetch(links, source, out))
        node = LocalNode(
            pool,
            list(launch.workers),
            launch.facts,
            launch.run,
            {},
            launch.sample,
            launch.spin,
            launch.orphan_timeout,
            launch.life,
            launch.memory_per_worker,
            at=launch.server.address,
            driver=DRIVER,
            hands=launch.hands,
            rows=rows,
            injections=launch.injections,
        )
        node.open()
        try:
            self._on_node(node, launch, links)
        finally:
            self._host = None
            node.close(clean=False)

    def _on_node(self, node: LocalNode, launch: NodeLaunch, links: Link) -> None:
        if launch.begin is not None and not self._begins(launch, node, links):
            return
        node.launch()
        injections, bends = launch.injections, self._bent(links)
        store = RunStore(launch.run, launch.facts.shards, launch.life, slow=injections.disk(launch.server.name))
        store.enter()
        bends.put(DRIVER.node, shaped(*injections.shape(launch.node - 1)))
        host = AgentHost(node, launch, links, store, bends, run=self.boot.run, follow=self._follow)
        try:
            self._host = host
            host.driver_gone = self.gone
            host.warden.start()
            self._warm(host)
            while self.aside:
                links.received.appendleft(self.aside.pop())
            host.run()
            host.linger(HARD_END)
        finally:
            host.warden.close()
            store.leave()

    def _begins(self, launch: NodeLaunch, node: LocalNode, links: Link) -> bool:
        """Commit the first version; where the program cannot, the driver is told, and ends the run."""
        assert launch.begin is not None
        try:
            launch.begin(node.plane)
            return True
        except Exception as error:  # the program is the user's and may raise anything
            body = msgspec.msgpack.encode(Reply(0, -1, Failed(*told(error))))
            links.send(DRIVER.node, packed_word(launch.server.address.slot, DRIVER.slot, body))
            self._await(links, Bye, self.boot.start_within)
            return False

    @staticmethod
    def _warm(host: AgentHost) -> None:
        """Compile and try F once, while the workers do likewise; then say that we are there."""
        words, began = host.board.words[0], time.monotonic_ns()
        words[boards.OP], words[boards.OP_SINCE] = boards.operation_code("start"), began
        plane: Any = host.plane
        plane.alive = host.alive
        try:
            plane.warm_optimizer()
        except Exception as error:  # the program is the user's and may raise anything
            host.complain(*told(error))
        words[boards.OP] = 0
        words[boards.COMPILE_NS] = time.monotonic_ns() - began
        words[boards.BEAT] = time.monotonic_ns()
        host.spans.switch(IDLE, time.perf_counter())
        words[boards.STATE] = boards.READY
        host.warden.wake()


def split_pool(boot: Bootstrap) -> Pool:
    """Import what workers need, then let a zygote be forked from here: imports are done once a node, not twice."""
    names = modules(boot.xla)
    for name in names:
        module, _, function = name.partition(":")
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    return Pool.split(names, max(boot.orphan_timeout + GRACE, POOL_GRACE))


def read_bootstrap(fd: int) -> Bootstrap:
    """What the driver's process wrote to ``fd``; LostError where it broke off."""
    content = bytearray()
    size: int | None = None
    while size is None or len(content) < size:
        piece = os.read(fd, FRAME.size if size is None else size - len(content))
        if not piece:
            raise LostError("the driver's process went before it said what to do")
        content += piece
        if size is None and len(content) == FRAME.size:
            (size,) = FRAME.unpack(content)
            content.clear()
    return msgspec.msgpack.decode(bytes(content), type=Bootstrap)


def open_links(boot: Bootstrap, ring: Callable[[], None]) -> Link:
    """The node's end of the links, on its way to the driver."""
    from trivium.runtime.curve import Keys
    from trivium.runtime.links import Links

    links: Link = Links(boot.node, Keys(boot.public, boot.secret), bind=boot.bind, ring=ring)
    links.connect(DRIVER.node, boot.driver, boot.driver_key)
    return links


def main() -> None:
    """Serve the driver's process that wrote to our standard input."""
    boot = read_bootstrap(sys.stdin.fileno())
    sys.path[:] = boot.path
    Agent(boot, open_links).run()


if __name__ == "__main__":
    importlib.import_module("trivium.runtime.agent").main()  # under its own name, which what the driver sends refers to
