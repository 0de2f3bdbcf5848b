"""What a round trip between two processes costs by the means at hand: the floor under a step that computes nothing.

An 8-byte message goes to a second process on another core and back: by pipe, by eventfd, by ZeroMQ over ipc, and (two
threads of one process) ZeroMQ inproc. Median microseconds of 5 batches of 2,000. Run:
``.venv/bin/python -m benchmarks.peers.roundtrip [pipe …]``
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import zmq

from benchmarks import measure

ROUNDS, BATCHES, WORD = 2000, 5, b"12345678"


def timed(there_and_back: Callable[[], object]) -> float:
    """Median microseconds of one round trip."""
    for _ in range(200):
        there_and_back()
    found = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        for _ in range(ROUNDS):
            there_and_back()
        found.append((time.perf_counter() - start) / ROUNDS * 1e6)
    return statistics.median(found)


def pair(receive: Callable[[], object], reply: Callable[[], object]) -> int:
    """A forked child on the last core that answers until it is told no more; its process id."""
    child = os.fork()
    if child == 0:
        measure.pin(1, len(os.sched_getaffinity(0)) - 1)
        for _ in range(200 + ROUNDS * BATCHES):
            receive()
            reply()
        os._exit(0)
    measure.pin(1)
    return child


def pipe() -> float:
    """Two pipes."""
    (there, send), (back, answer) = os.pipe(), os.pipe()
    child = pair(lambda: os.read(there, 8), lambda: os.write(answer, WORD))
    found = timed(lambda: (os.write(send, WORD), os.read(back, 8)))
    os.waitpid(child, 0)
    return found


def eventfd() -> float:
    """Two eventfds."""
    there, back = os.eventfd(0), os.eventfd(0)
    child = pair(lambda: os.eventfd_read(there), lambda: os.eventfd_write(back, 1))

    def both() -> None:
        os.eventfd_write(there, 1)
        os.eventfd_read(back)

    found = timed(both)
    os.waitpid(child, 0)
    return found


def zmq_ipc() -> float:
    """ZeroMQ PAIR sockets over a Unix socket; the child makes its own context."""
    with tempfile.TemporaryDirectory() as place:
        address = f"ipc://{place}/link"
        child = os.fork()
        if child == 0:
            measure.pin(1, len(os.sched_getaffinity(0)) - 1)
            _echo(zmq.Context(), address)
            os._exit(0)
        measure.pin(1)
        found = _ask(zmq.Context(), address)
        os.waitpid(child, 0)
    return found


def zmq_inproc() -> float:
    """ZeroMQ PAIR sockets between two threads."""
    context = zmq.Context()
    other = threading.Thread(target=_echo, args=(context, "inproc://link"))
    other.start()
    found = _ask(context, "inproc://link")
    other.join()
    return found


def _echo(context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
    socket = context.socket(zmq.PAIR)
    socket.connect(address)
    for _ in range(200 + ROUNDS * BATCHES):
        socket.send(socket.recv())
    socket.close()


def _ask(context: zmq.Context[zmq.Socket[bytes]], address: str) -> float:
    socket = context.socket(zmq.PAIR)
    socket.bind(address)
    found = timed(lambda: (socket.send(WORD), socket.recv()))
    socket.close()
    return found


def main() -> None:
    """Each means after the other, each in a process of its own (this script again)."""
    ways = {"pipe": pipe, "eventfd": eventfd, "zmq-ipc": zmq_ipc, "zmq-inproc": zmq_inproc}
    cases: measure.Cases = {}
    for case, way in ways.items():
        if measure.wanted(case):
            kept = os.sched_getaffinity(0)
            cases[case] = {"value": way(), "unit": "us"}
            os.sched_setaffinity(0, kept)
    measure.emit("roundtrip", sys.version.split()[0], cases)


if __name__ == "__main__":
    main()
