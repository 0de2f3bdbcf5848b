"""What messages and bytes cost on this machine: measured on the real mailboxes, links and arrays, in seconds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.simulated import Hops
from trivium.core.exchange import EXCHANGED, Delta, Entry, View
from trivium.core.lanes import Part
from trivium.core.messages import MESSAGES
from trivium.runtime.curve import Keys, curve_cost
from trivium.runtime.links import Links
from trivium.runtime.mailbox import Mailboxes

__all__ = ["Bytes", "measured_bytes", "measured_hops"]

ROUNDS = 400
BURST = 10  # messages of a step that a process sends or gets at once
NEAR = """
import sys, numpy as np
from trivium.runtime.mailbox import Mailboxes
box = Mailboxes(np.memmap(sys.argv[1], np.int64, "r+"), 1, 2)
while True:
    box.wait(10.0, 1e-4)
    for _, body in box.receive():
        if body == b"end":
            sys.exit()
        box.send(0, body)
"""
FAR = """
import sys, threading
from trivium.runtime.links import Keys, Links
public, secret, endpoint, expected = sys.argv[1:]
rung = threading.Event()
links = Links(1, Keys(public, secret), ring=rung.set)
links.connect(0, endpoint, expected)
while rung.wait(60.0):
    rung.clear()
    while links.received:
        arrived = links.received.popleft()
        if arrived.header == b"end":
            links.close(10.0)
            sys.exit()
        links.send(0, arrived.header, arrived.payload)
"""


@dataclass(frozen=True)
class Bytes:
    """Seconds a byte: to sum an array into another, to apply a step of SGD, to copy, and to encrypt and decrypt one."""

    add: float
    apply: float
    copy: float
    curve: float


def measured_bytes(nbytes: int = 1 << 25) -> Bytes:
    """On float32 arrays of ``nbytes``, larger than most caches."""
    a, b, c = (np.ones(nbytes // 4, np.float32) for _ in range(3))

    def apply() -> None:
        np.multiply(b, 0.1, out=c)
        np.subtract(a, c, out=c)

    return Bytes(
        _usual(lambda: np.add(a, b, out=a), 15) / nbytes,
        _usual(apply, 15) / nbytes,
        _usual(lambda: np.copyto(c, a), 15) / nbytes,
        curve_cost(32).curve / 1e9,
    )


def _usual(work: Callable[[], object], times: int) -> float:
    """Seconds of ``work``: the lower quartile, since others use the machine, too."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.quantiles(found, n=4)[0]


def _spent(work: Callable[[], object], times: int) -> float:
    """CPU seconds of ``work`` in all threads of this process."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def measured_hops() -> Hops:
    """What messages cost their processes, and how long they are on their way apart from the network.

    Links are measured by CPU seconds, which other processes of the machine do not lengthen: those of a burst are what a
    message takes its process, what one alone takes more is counted as its way (threads and processes that wake up).
    """
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(_union()).decode
    view = View(1, (7, 7, 7, 7), 7, 3, False)
    delta = Delta(1, 0, 7, (Entry(7, (Part(0, 4),)),), (Part(0, 4),))
    (view_out, view_in), (delta_out, delta_in) = (
        (_usual(lambda: encode(one), 99), _usual(lambda: decode(encode(one)), 99))  # noqa: B023 - called at once
        for one in (view, delta)
    )
    put, took, near = _near(encode(view))
    each, alone = _far(encode(delta))
    return Hops(
        near_send=view_out + put,
        near_take=view_in - view_out + took,
        far_send=delta_out + each,
        far_take=delta_in - delta_out + each,
        near_way=max(0.0, near - put - took),
        far_way=2 * max(0.0, alone - each),
    )


def _union() -> object:
    union = MESSAGES[0]
    for one in (*MESSAGES[1:], *EXCHANGED):
        union = union | one  # type: ignore[assignment]
    return union


def _near(body: bytes) -> tuple[float, float, float]:
    """Seconds to put a message into a mailbox, to take one out, and from one process to the other, woken up."""
    words = np.zeros(Mailboxes.nbytes(2) // 8, np.int64)
    one, two = Mailboxes(words, 0, 2), Mailboxes(words, 1, 2)
    one.send(1, body), two.receive()  # compiled, once
    put = _usual(lambda: one.send(1, body), 99)
    took = time.perf_counter()
    while two.receive():
        pass
    took = (time.perf_counter() - took) / 99
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words"
        words[:] = 0
        words.tofile(path)
        box = Mailboxes(np.memmap(path, np.int64, "r+"), 0, 2)
        with subprocess.Popen([sys.executable, "-c", NEAR, str(path)]) as child:

            def there_and_back() -> None:
                box.send(1, body)
                while not box.receive():
                    if not box.wait(30.0, 1e-4) and child.poll() is not None:
                        raise SystemExit("the other end of the mailbox died")

            there_and_back()
            way = _usual(there_and_back, ROUNDS) / 2
            box.send(1, b"end")
    return put, took, way


def _far(body: bytes) -> tuple[float, float]:
    """CPU seconds of a process for a small message on a link, sent or taken: one of many, and one alone."""
    ours, its, rung = Keys.fresh(), Keys.fresh(), threading.Event()
    with Links(0, ours, ring=rung.set) as links:
        links.allow(1, its.public)
        command = [sys.executable, "-c", FAR, its.public, its.secret, links.endpoint, ours.public]
        with subprocess.Popen(command):

            def take(count: int) -> None:
                while count:
                    if not rung.wait(30.0):
                        raise SystemExit("the other end of the link said nothing for 30 s")
                    rung.clear()
                    while links.received:
                        links.received.popleft()
                        count -= 1

            def there_and_back(count: int = 1) -> None:
                for _ in range(count):
                    links.send(1, body)
                take(count)

            there_and_back()
            alone = _spent(there_and_back, ROUNDS) / 2
            each = _spent(lambda: there_and_back(BURST), ROUNDS // BURST * 10) / BURST / 2
            links.send(1, b"end")
            links.close(5.0)
    return each, alone
