"""A worker or server process: waits for a launch, runs its role to the end, and waits for the next one.

Forked by the zygote with one end of a socket to the driver's process. A launch carries descriptors (the node's arena
and the data) and a cloudpickled ``Launch``: code comes only this way, from the process that the person started. When
the socket closes, the driver's process is gone.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Advance
from trivium.core.lanes import Part
from trivium.core.messages import Apply, Failed, Gradient, Reply
from trivium.core.role import Address, Message, PeerLost, Role, Send, Work
from trivium.core.spans import IDLE, Spans
from trivium.data.table import Table
from trivium.errors import DataError
from trivium.runtime import board as boards
from trivium.runtime.board import Board
from trivium.runtime.host import RoleHost, told
from trivium.runtime.injection import Slowness
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.plane import ArrayPlane, Facts, NodeArrays, node_arrays
from trivium.runtime.pool import FRAME
from trivium.runtime.shelf import KernelShelf
from trivium.runtime.shipping import ShippedTable
from trivium.runtime.store import RunStore
from trivium.runtime.striking import slow_down

__all__ = [
    "ARRAYS",
    "EXCHANGING",
    "ChildHost",
    "Hands",
    "Launch",
    "RelayedHost",
    "main",
    "receive_launch",
    "send_launch",
]

log = logging.getLogger(__name__)
MOST_FDS = 250  # memory of the node, its data, and the files of mapped rows; the kernel's limit is 253 a message
_shelf = KernelShelf()  # of this process, over all its runs
HARD_END = 1.0  # seconds after the orphan timeout, and a process that cannot come to an end is ended
SHOW_EVERY = 0.02
MOST_FRAMES = 100  # of a thread
STEPS = (Apply, Advance)  # works that apply F


@dataclass(frozen=True)
class Hands:
    """What kind of plane a run's processes work with: its ``arrays`` in the node's memory (as ``node_arrays``), and how
    one is made over them.
    """

    arrays: Callable[[Facts], dict[str, tuple[str, tuple[int, ...]]]]
    make: Callable[[Facts, Arena, int, dict[str, Table], NDArray[np.int64] | None, Spans | None, KernelShelf], Any]
    yard: bool = False  # whether there is memory beside the arena that grows


def _array_plane(
    facts: Facts,
    arena: Arena,
    me: int,
    tables: dict[str, Table],
    sample: NDArray[np.int64] | None,
    spans: Spans | None,
    shelf: KernelShelf,
) -> ArrayPlane:
    arrays = NodeArrays(**{name: arena[name] for name in NodeArrays.__dataclass_fields__})
    return ArrayPlane(facts, arrays, me, tables, sample, spans, shelf)


def _node_plane(
    facts: Facts,
    arena: Arena,
    me: int,
    tables: dict[str, Table],
    sample: NDArray[np.int64] | None,
    spans: Spans | None,
    shelf: KernelShelf,
) -> ArrayPlane:
    from trivium.runtime.node_plane import NodePlane

    arrays = NodeArrays(**{name: arena[name] for name in NodeArrays.__dataclass_fields__})
    return NodePlane(facts, arrays, me, tables, sample, spans, shelf)


ARRAYS = Hands(node_arrays, _array_plane)
EXCHANGING = Hands(node_arrays, _node_plane)  # where there are other nodes


@dataclass(frozen=True)
class Launch:
    """All that a member process must know of a run."""

    index: int
    addresses: tuple[Address, ...]
    make_role: Callable[[], Role]
    facts: Facts
    arena: ArenaPlan
    data: ArenaPlan | None
    tables: tuple[tuple[str, ShippedTable], ...]
    sample: NDArray[np.int64] | None
    run: Path
    ring_bytes: int
    spin: float
    warm: Part | None
    cpus: tuple[int, ...]
    jax_threads: int | None
    orphan_timeout: float
    driver: int = 0  # where the driver's mail goes; not to process 0 where that is a node's agent, which relays it
    life: str = ""  # of the run, see ``RunStore``
    hands: Hands = ARRAYS
    slowness: Slowness | None = None  # as injected; so is ``disk``, seconds more of each write
    disk: float = 0.0
    name: str = ""


def send_launch(link: socket.socket, launch: bytes, fds: list[int], within: float = 10.0) -> None:
    """Hand a launch to a child; OSError if it is gone, or does not take it ``within`` so many seconds.

    DataError where there are more descriptors than can be sent at once.
    """
    if len(fds) > MOST_FDS:
        raise DataError(
            f"the rows lie in too many files: a worker is handed {len(fds)} descriptors, and at most {MOST_FDS} can be "
            "handed over; train on fewer columns (each is a file of the cache, in training, validation and test rows)"
        )
    link.settimeout(within)
    socket.send_fds(link, [FRAME.pack(len(launch))], fds)
    link.sendall(launch)


def receive_launch(link: socket.socket) -> tuple[Launch, list[int]] | None:
    """The next launch and its descriptors; None when the driver's process is gone."""
    try:
        head, fds, _flags, _address = socket.recv_fds(link, FRAME.size, MOST_FDS)
    except ConnectionError:
        return None
    if len(head) < FRAME.size:
        return None
    (size,) = FRAME.unpack(head)
    parts = bytearray()
    while len(parts) < size:
        piece = link.recv(min(1 << 20, size - len(parts)))
        if not piece:
            return None
        parts += piece
    return pickle.loads(bytes(parts)), fds  # noqa: S301 - from the process that forked us, over an inherited socket


class ChildHost(RoleHost):
    """A member's host: besides mail, it hears when the driver is gone, or its agent."""

    driver = 0
    driver_gone = False

    def ask(self, message: Message) -> None:
        """Send ``message`` to this node's server; for other threads."""
        self._asked.append(message)
        self.mail.ring(self.me)

    def poll(self) -> bool:
        """Send what other threads ask; tell the role once that its driver is dead."""
        asked = bool(self._asked)
        while self._asked:
            self._send(Send(self.role.server, self._asked.popleft()))  # type: ignore[attr-defined]  # a worker's
        if not self.driver_gone or self._told:
            return asked
        self._told = True
        self.feed(PeerLost(self.addresses[self.driver], "its process is gone"))
        return True

    _told = False

    @cached_property
    def _asked(self) -> deque[Message]:
        return deque()

    def complain(self, error: str, trace: str) -> None:
        """Tell the driver that the program failed before the role began."""
        self._send(Send(self.addresses[self.driver], Reply(0, -1, Failed(error, trace))))

    _shown = 0.0

    def computed(self, work: Work, result: Any, now: float) -> None:
        """Show F's figures on the board, now and then."""
        if now < self._shown or type(work) not in STEPS:
            return
        self._shown = now + SHOW_EVERY
        figures = self.board.figures[self.me]
        _finished, iterations, _rows, weight, loss = result
        figures[boards.LOSS] = loss
        figures[boards.WEIGHT] = weight
        figures[boards.ITERATIONS] = iterations
        figures[boards.APPLIED] = sum(work.applied) / len(work.applied) if isinstance(work, Advance) else work.clock + 1  # type: ignore[attr-defined]


class RelayedHost(ChildHost):
    """A member's host on a node whose driver is elsewhere: process 0 passes mail on, and is rung when there is some."""

    def _send(self, command: Send) -> None:
        super()._send(command)
        if self._process[command.to] == self.driver:
            self.mail.ring(0)

    def _flush(self) -> bool:
        went = super()._flush()
        if went:
            self.mail.ring(0)
        return went


class _Watch(threading.Thread):
    """Notices that the driver's process is gone, and wakes the role thread; ends an orphan that hangs."""

    def __init__(self, link: socket.socket, host: ChildHost, orphan_timeout: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._link, self._host, self._orphan_timeout = link, host, orphan_timeout
        self._over = os.eventfd(0)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._link, select.POLLHUP | select.POLLERR)
        poll.register(self._over, select.POLLIN)
        ready = poll.poll()
        if any(fd == self._link.fileno() for fd, _event in ready):
            self._host.driver_gone = True
            self._host.mail.ring(self._host.me)
            poll.unregister(self._link)
            if not poll.poll((self._orphan_timeout + HARD_END) * 1000):
                os._exit(1)

    def end(self) -> None:
        """Stop watching."""
        os.eventfd_write(self._over, 1)
        self.join(1.0)
        os.close(self._over)


def write_stacks(fd: int, at: FrameType | None = None) -> None:
    """Write where each thread is to ``fd``, its innermost frame first, as ``faulthandler`` would; this one is ``at``.

    That one walks the frames of threads that run, and may meet one that is just being left: a process that was only
    asked where it is died of it. This runs with the interpreter's lock, between two steps of the main thread, which
    never waits for long; whoever keeps the lock to himself is not seen.
    """
    parts = []
    frames = sys._current_frames()  # noqa: SLF001 - there is no other way to other threads' frames
    if at is not None:
        frames[threading.get_ident()] = at  # where it was before it was asked
    for ident, frame in frames.items():
        lines = [f"Thread 0x{ident:016x} (most recent call first):"]
        here: FrameType | None = frame
        while here is not None and len(lines) < MOST_FRAMES:
            lines.append(f'  File "{here.f_code.co_filename}", line {here.f_lineno} in {here.f_code.co_name}')
            here = here.f_back
        parts.append("\n".join(lines) + "\n")
    with contextlib.suppress(OSError):
        os.write(fd, "\n".join(parts).encode(errors="replace"))


def main(payload: bytes, fds: list[int]) -> None:  # noqa: ARG001 - the zygote's contract
    """Entry of a forked process: ``fds[0]`` is the link to the driver's process, ``fds[1]`` takes stacks."""
    link = socket.socket(fileno=fds[0])
    signal.signal(signal.SIGUSR1, lambda _signum, at: write_stacks(fds[1], at))
    allowed = os.sched_getaffinity(0)
    gc.set_threshold(50_000, 20, 50)  # a step makes few cycles: look for them seldom
    while True:
        got = receive_launch(link)
        if got is None:
            return
        launch, passed = got
        try:
            os.sched_setaffinity(0, allowed.intersection(launch.cpus) or allowed)  # a plan may be from another machine
            _run_launch(link, launch, passed)
            answer = b""
        except Exception:  # whatever it is, the driver's process must be able to say it
            answer = traceback.format_exc().encode()
        with contextlib.suppress(OSError):
            link.sendall(FRAME.pack(len(answer)) + answer)
        if answer:
            return
        del launch, got
        gc.collect()  # roles and hosts are cycles; they hold the run's memory


def _run_launch(link: socket.socket, launch: Launch, fds: list[int]) -> None:
    began = time.perf_counter()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here
    if launch.jax_threads is not None:
        from trivium.program.kernels import xla

        xla.configure(launch.jax_threads)
    arena = Arena.attach(fds[0], launch.arena)
    if launch.hands.yard:
        arena.yard = fds.pop(1)
    data = Arena.attach(fds[1], launch.data) if launch.data is not None else None
    store = RunStore(launch.run, launch.facts.shards, launch.life, slow=launch.disk)
    try:
        store.enter()
        host, plane = _set_up(launch, arena, data, fds[2:], began, store)
        watch = _Watch(link, host, launch.orphan_timeout)
        watch.start()
        _warm(launch, plane, host)
        host.mail.ring(0)
        host.run()
        watch.end()
        plane.close()
        host.board.words[launch.index, boards.STATE] = boards.LEFT
    finally:
        store.leave()
        _shelf.release()
        arena.close()
        if data is not None:
            data.close()
        for fd in (*fds[2:], *([arena.yard] if launch.hands.yard else [])):
            os.close(fd)


def _set_up(
    launch: Launch, arrays: Arena, data: Arena | None, files: Sequence[int], began: float, store: RunStore
) -> tuple[ChildHost, ArrayPlane]:
    board = Board(*(arrays[name] for name in ("words", "seconds", "waited", "figures", "usual")))
    spans = Spans(board.seconds[launch.index], board.waited[launch.index], began)
    tables = {name: shipped.open(data, files) for name, shipped in launch.tables}
    plane = launch.hands.make(launch.facts, arrays, launch.index, tables, launch.sample, spans, _shelf)
    if launch.slowness is not None:
        slow_down(plane, launch.slowness)
    plane.name, plane.folder = launch.name, launch.run
    mail = Mailboxes(arrays["mail"], launch.index, len(launch.addresses), launch.ring_bytes)
    host = (RelayedHost if launch.driver else ChildHost)(
        launch.make_role(),
        launch.index,
        launch.addresses,
        mail,
        board,
        plane=plane,
        store=store,
        spin=launch.spin,
        spans=spans,
    )
    host.driver = launch.driver
    plane.ask = host.ask
    if launch.hands.yard and launch.driver:
        host.aside |= {Gradient}  # it may wait for what this host hears
    plane.alive = host.alive
    figures: Any = board.figures[launch.index]
    plane.moved = memoryview(figures[boards.PUSHED : boards.PULLED + 1])
    return host, plane


def _warm(launch: Launch, plane: ArrayPlane, host: ChildHost) -> None:
    """Compile and try once, so that the first step is like all others; then say that we are there."""
    words = host.board.words[launch.index]
    began = time.monotonic_ns()
    words[boards.OP], words[boards.OP_SINCE] = boards.operation_code("start"), began
    try:
        if launch.warm is not None:
            plane.warm(launch.warm)
        plane.warm_optimizer()
    except Exception as error:  # the program is the user's and may raise anything
        host.complain(*told(error))
    words[boards.OP] = 0
    words[boards.COMPILE_NS] = time.monotonic_ns() - began
    words[boards.BEAT] = time.monotonic_ns()
    host.spans.switch(IDLE, time.perf_counter())
    words[boards.STATE] = boards.READY
