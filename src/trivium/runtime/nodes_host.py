"""The driver's host where nodes share nothing with it: its role here, links to everything else.

Rules
-----
* An agent's death is heard at once (it is our child), its silence by its reports: they are sent by a thread of its own
  whatever it computes. While a node is silent its workers are not judged: only their agent knows how they are.
* A dead agent's whole process group is killed. The role hears of the server first, then of each worker of the node;
  nothing of the node can be heard after that, for only its agent had links.
* Who is to be retired is killed here (an agent, with its group) or by its agent (a worker); ``PeerLost`` follows.
* A node whose server and workers have all left is let go; that is no loss.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from trivium.core.membership import Driver
from trivium.core.role import Address, Event, Launch, Message, PeerLost, Retire, Send, Stop, StopRequested
from trivium.core.spans import IDLE, Spans
from trivium.runtime import board as boards
from trivium.runtime.host import Trace
from trivium.runtime.linked import LinkedHost
from trivium.runtime.local import JOIN_EVERY, SHOW_EVERY, Member
from trivium.runtime.nodes import Nodes, Station
from trivium.runtime.seats import AgentSeat, RemoteSeat
from trivium.runtime.store import RunStore
from trivium.runtime.striking import GONE, UNBORN, Striker, strike, tell
from trivium.runtime.warden import ARRAYS
from trivium.runtime.watch import LOOK_EVERY, Watch
from trivium.runtime.wire import CHUNK, Crossed, Fell, Here, Order, Part, Piece, Pull, Report, Word

__all__ = ["NodesHost"]

log = logging.getLogger(__name__)
SETTLE_WITHIN = 2.0  # seconds in which all have left, once the run is over
OLD = 0.5  # seconds after which a report says nothing of now
TIMES = (boards.BEAT, boards.OP_SINCE, boards.WRITE_SINCE)  # words that are times of the reporter's clock


class NodesHost(LinkedHost):
    """Carries membership out over nodes. ``show`` is called a few times a second; ``member_of`` and ``begin`` are for
    those that the driver launches while the run goes on.
    """

    def __init__(
        self,
        driver: Driver,
        nodes: Nodes,
        store: RunStore,
        *,
        patience: float,
        start_timeout: float,
        show: Callable[[Any], None],
        trace: Trace | None = None,
        member_of: Callable[[Address], Member] | None = None,
        begin: Callable[[Any], None] | None = None,
    ) -> None:
        board = nodes.board
        spans = Spans(board.seconds[0], board.waited[0], time.perf_counter(), IDLE)
        super().__init__(
            driver,
            0,
            nodes.addresses,
            nodes.mail,
            board,
            plane=None,
            store=store,
            spin=0.0,
            spans=spans,
            trace=trace,
        )
        self.driver, self.node, self.show, self.links = driver, nodes, show, nodes.links
        self.addresses = nodes.addresses  # which grow
        self.member_of, self.begin = member_of, begin
        self.wishes: list[str | Event] = []  # reasons to stop, or what else a person asks for; by other threads
        self.joined_at = 0.0
        self.reported: dict[int, Crossed] = {}  # by the number of the agent's process: a node may be started anew
        self._cpu_before = time.process_time()
        self.striker = Striker(nodes.injections, self._process_of, self._part, partial(tell, self))
        self._next_look = self._next_show = 0.0
        self._looked = time.monotonic()
        self.watch = Watch(
            board,
            nodes.addresses,
            nodes.seats,
            patience=patience,
            start_timeout=start_timeout,
            now=time.monotonic(),
            exits=dict,
            bury=self._bury,
            workers=lambda: driver.members.workers,
            name=driver.name,
        )

    def run(self) -> Stop:
        """Until the role stops, and, where it ended in order, everybody has left and told the last figures."""
        stop = super().run()
        deadline = time.monotonic() + SETTLE_WITHIN
        while not stop.error and not self._settled() and time.monotonic() < deadline:
            self.take_links()
            self.mail.wait(0.05)
        self.striker.close()
        return stop

    def crossed_all(self) -> Crossed:
        """What crossed the links between all processes of the run, as far as it was reported."""
        own = self.crossed()
        cost = time.process_time() - self._cpu_before
        every = [msgspec.structs.replace(own, cpu_seconds=cost), *self.reported.values()]
        sent: Counter[str] = Counter()
        plain: Counter[str] = Counter()
        for one in every:
            for name, went, would in one.kinds:
                sent[name] += went
                plain[name] += would
        return Crossed(
            tuple((name, sent[name], plain[name]) for name in sorted(sent)),
            sum(one.nbytes for one in every),
            sum(one.link_seconds for one in every),
            sum(one.cpu_seconds for one in every),
        )

    def _settled(self) -> bool:
        states = self.board.words[:, boards.STATE]
        return all(
            seat.dead or states[index] == boards.LEFT or seat.gone(0.0)
            for index, seat in enumerate(self.node.seats, start=1)
        )

    def close(self) -> None:
        """Break the cycles, so that memory is given back now and not at some collection."""
        self._carry.clear()
        self._writer = None
        self._handle = self.role.handle
        del self.watch, self.striker

    def poll(self) -> bool:
        """Look for messages, wishes, deaths, silence; show progress."""
        found = self.take_links()
        if self.links.lost:  # an agent's death is found by its process, its silence by its reports
            self.links.lost.clear()
            self.links.joined.clear()
        if self.wishes:
            wish = self.wishes.pop(0)
            self.feed(StopRequested(wish) if isinstance(wish, str) else wish)
            return True
        now = time.monotonic()
        strike(self)
        died = any(self._died(station) for station in self.node.stations.values())
        if now < self._next_look and not died:
            return found
        self._next_look = now + (LOOK_EVERY if self.watch.complete else JOIN_EVERY)
        self._suspend_judgement(now)
        for event in self.watch.look(now):  # one by one: see there
            self.feed(event)
            found = True
        self._let_go()
        if not self.joined_at and self.watch.complete:
            self.joined_at = time.perf_counter()
        if now >= self._next_show:
            self._next_show = now + SHOW_EVERY
            self.show(self)
        return found

    # -- faults on purpose --------------------------------------------------------------------------------------------
    def _process_of(self, name: str) -> int:
        """For the striker."""
        kind, _, number = name.partition(" ")
        if kind == "driver":
            return os.getpid()
        if kind == "node":
            station = self.node.stations.get(int(number) + 1)
            return -station.seat.pid if station is not None and station.alive else GONE
        for address, seat in zip(self.addresses[1:], self.node.seats, strict=True):
            if self.driver.name(address) == name and not (seat.dead or seat.how):
                return int(seat.pid) or UNBORN
        return GONE

    def _part(self, name: str, seconds: float) -> None:
        self.node.tell(int(name.partition(" ")[2]) + 1, Part(seconds))

    # -- nodes --------------------------------------------------------------------------------------------------------
    def _died(self, station: Station) -> bool:
        """Whether an agent has just been found dead: so is all of its node."""
        seat = station.seat
        if seat.dead or not seat.gone(0.0):
            return False
        self._dies(station)
        if seat.left:
            seat.dead = "left"
        return not seat.left

    def _dies(self, station: Station) -> None:
        self.node.part(station.node)
        for one in self._workers(station):
            one.how = one.how or "its node is gone"

    def _workers(self, station: Station) -> list[RemoteSeat]:
        return [
            seat
            for address, seat in zip(self.addresses[1:], self.node.seats, strict=True)
            if address.node == station.node and isinstance(seat, RemoteSeat)
        ]

    def _suspend_judgement(self, now: float) -> None:
        """While a node is silent, time stands still for its workers."""
        passed, self._looked = now - self._looked, now
        for station in self.node.stations.values():
            if station.reported and now - station.reported > OLD:
                rows = [i for i, one in enumerate(self.addresses) if one.node == station.node and one.slot]
                times = self.board.words[np.ix_(rows, TIMES)]
                self.board.words[np.ix_(rows, TIMES)] = np.where(times > 0, times + int(passed * 1e9), 0)

    def _let_go(self) -> None:
        states = self.board.words[:, boards.STATE]
        for station in self.node.stations.values():
            if not station.alive or not station.reported:
                continue
            mine = [i for i, one in enumerate(self.addresses) if one.node == station.node]
            if all(states[i] == boards.LEFT or self.node.seats[i - 1].dead for i in mine):
                self.node.bid_farewell(station.node)

    def _bury(self, index: int, how: str) -> PeerLost:
        address = self.addresses[index]
        if address.slot == 0:
            self._dies(self.node.stations[address.node])
        return PeerLost(address, how, "" if how.startswith("killed: ") else self.board.at(index))

    # -- what comes ---------------------------------------------------------------------------------------------------
    def word(self, peer: int, word: Word, payload: Sequence[Any]) -> None:
        """For the role, if it is from somebody of the run."""
        if Address(peer, word.sender) in self.node.addresses:
            super().word(peer, word, payload)

    def decoded(self, sender: Address, body: bytes) -> Message | None:
        """Nothing of a node that was declared dead."""
        seat = self.node.seats[self.node.addresses.index(sender) - 1]
        return None if seat.dead else super().decoded(sender, body)

    def obey(self, peer: int, order: Order, payload: Sequence[Any]) -> None:
        """What agents may say."""
        station = self.node.stations.get(peer)
        if station is None:
            log.warning("dropped an order of node %d, which is none of the run's", peer)
        elif isinstance(order, Here):
            self.node.here(peer, order)
        elif isinstance(order, Pull):
            piece = self.node.depot.piece(order.source, order.start, min(order.stop, order.start + CHUNK))
            self.node.tell(peer, Piece(order.source, order.start), [] if piece is None else [piece])
        elif isinstance(order, Fell):
            station.seat.words = order.words
        elif isinstance(order, Report) and not station.seat.dead:
            self._note(station, order, payload)
        else:
            log.warning("node %d says %s, which is not its to say", peer, type(order).__name__)

    def _note(self, station: Station, report: Report, payload: Sequence[Any]) -> None:
        """Copy the rows of a node's board to ours, and take note of who ended, and how."""
        board = self._board_of(report, payload)
        if board is None:
            log.warning("dropped a report of node %d whose arrays do not fit", station.node)
            return
        station.reported = time.monotonic()
        station.memory, station.load_seconds = report.memory, report.load_seconds
        self.reported[station.seat.pid] = report.crossed
        shift = time.monotonic_ns() - report.now
        ends, stacks = dict(report.ends), dict(report.stacks)
        places = [self._place(station, slot) for slot in report.slots[:-1]]
        for local, index in enumerate(places):
            if index < 0:
                continue
            seat = self.node.seats[index - 1]
            if isinstance(seat, RemoteSeat):
                if seat.serial > report.serial:
                    continue  # of somebody who was there before
                seat.pid = report.pids[local] if local < len(report.pids) else 0
                seat.how = seat.how or ends.get(local, "")
                seat.halted, seat.stack = local in report.halted, stacks.get(local, "")
            self._copy(board, local, index, places, shift)

    def _place(self, station: Station, slot: int) -> int:
        return self._index.get(Address(station.node, slot), -1)

    @property
    def _index(self) -> dict[Address, int]:
        if len(self._process) != len(self.addresses):
            self._process = {address: index for index, address in enumerate(self.addresses)}
        return self._process

    @staticmethod
    def _board_of(report: Report, payload: Sequence[Any]) -> dict[str, Any] | None:
        shapes = boards.board_arrays(len(report.slots))
        if len(payload) != len(ARRAYS):
            return None
        arrays = {}
        for name, one in zip(ARRAYS, payload, strict=True):
            dtype, shape = shapes[name]
            if memoryview(one).nbytes != int(np.prod(shape)) * np.dtype(dtype).itemsize:
                return None
            arrays[name] = np.frombuffer(one, dtype).reshape(shape)
        return arrays

    def _copy(self, board: dict[str, Any], local: int, index: int, places: Sequence[int], shift: int) -> None:
        mine = self.board
        words = board["words"][local].copy()
        for word in TIMES:
            words[word] += shift if words[word] else 0
        mine.words[index] = words
        mine.seconds[index] = board["seconds"][local]
        mine.figures[index] = board["figures"][local]
        mine.usual[index] = board["usual"][local]
        for other, place in enumerate([*places, 0]):  # the last box is the driver's
            if place >= 0:
                mine.waited[index, place] = board["waited"][local, other]

    # -- commands -----------------------------------------------------------------------------------------------------
    def _send(self, command: Send) -> None:
        station = self.node.stations.get(command.to.node)
        if station is not None and station.alive:
            super()._send(command)

    def _retire(self, command: Retire) -> None:
        index = self._index[command.peer]
        seat = self.node.seats[index - 1]
        if seat.dead or seat.killed:
            return
        seat.killed = command.why
        seat.kill()
        if isinstance(seat, AgentSeat) and seat.gone(LOOK_EVERY):
            seat.dead = f"killed: {command.why}"
            self.feed(self._bury(index, seat.dead))

    def _launch(self, command: Launch) -> None:
        assert self.member_of is not None, f"nobody said what {command} starts"
        for index in self.node.add([self.member_of(peer) for peer in command.peers], self.begin):
            self.watch.anew(index)
