"""Mailboxes of one node: a byte ring for each ordered pair of processes, and a doorbell for each receiver.

Rules
-----
* A ring has one writer (its sender) and one reader. ``head`` counts bytes ever published, ``tail`` bytes ever taken;
  both only grow. A record is a length word and the payload, padded to whole words.
* A message exists once ``head`` has passed it: one 8-byte store after the payload is in place. A sender that dies
  before it has sent nothing; what it published before can be read to the end. Nobody ever sees a torn message.
* A receiver about to sleep sets ``waiting``, looks again, then sleeps on its ``bell``. A sender publishes, then looks
  at ``waiting``. Both words are sequentially consistent, so at least one of the two sees the other (Dekker).
* ``seen`` is the bell that the receiver answered last: a ring between two waits is not lost.
* Whoever reaps a dead process calls ``reset`` for it once, before a successor starts, and then ``ring`` for everyone:
  the dead one may have published and not yet woken. A reader caught in a ``reset`` notices (its ``tail`` has moved)
  and drops what it copied. Messages sent to the dead one after the reset are read by its successor; terms fence them.

Each algorithm below is a step function over ``load``, ``store``, ``fetch_add``, ``exchange_if``, ``copy_in``,
``copy_out``, ``futex_wait`` and ``futex_wake``; ``trivium.testing.explore`` runs the same source over a model memory in
every order, with a crash at every step.

Prior art: Lamport, *Specifying concurrent program modules*, 1983 (the ring); Drepper, *Futexes are tricky*, 2011.
What it does not do: queue what does not fit (``send`` says so), and carry bulk arrays (send a handle).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import UsageError
from trivium.runtime.atomics import (
    copy_in,
    copy_out,
    exchange_if,
    fetch_add,
    futex_wait,
    futex_wake,
    load,
    monotonic_ns,
    step,
    store,
    yield_cpu,
)

__all__ = ["CAPACITY", "Mailboxes"]

CAPACITY = 1 << 16  # bytes of one ring
LINE = 8  # words of one cache line: the header of a receiver
BELL, WAITING, SEEN = 0, 1, 2
HEAD, TAIL, DATA = 0, 8, 16  # of a ring; head and tail on lines of their own
ME, PROCESSES, SIZE, TURN, ROWS = 0, 1, 2, 3, 4  # words of a tray, the reader's own: settings, rows, then payloads
LOOKS = 16  # for mail between two yields of a spin: a yield costs as much as all of them
MOST = 256  # messages of one ``receive``
BODY = ROWS + 3 * MOST


@step
def ring_at(sender: int, receiver: int, processes: int, capacity: int) -> int:
    """First word of the ring from ``sender`` to ``receiver``."""
    return processes * LINE + (sender * processes + receiver) * (DATA + capacity // 8)


@step
def wake(words: Any, line: int) -> None:
    """Ring the bell at ``line`` and wake its sleeper."""
    fetch_add(words, line + BELL, 1)
    if load(words, line + WAITING) != 0:
        futex_wake(words, line + BELL, 1)


@step
def put(words: Any, ring: int, line: int, capacity: int, payload: Any) -> bool:
    """Publish ``payload`` in ``ring`` and wake the receiver at ``line`` if it sleeps; False when it does not fit."""
    count = len(payload)
    head = load(words, ring + HEAD)
    size = 8 + (count + 7) // 8 * 8
    if head + size - load(words, ring + TAIL) > capacity:
        return False
    at = head % capacity
    start = (ring + DATA) * 8
    words[ring + DATA + at // 8] = count
    part = min(count, capacity - at - 8)
    copy_in(words, start + at + 8, payload, 0, part)
    if part < count:
        copy_in(words, start, payload, part, count - part)
    store(words, ring + HEAD, head + size)
    if load(words, line + WAITING) != 0:
        wake(words, line)
    return True


@step
def take(words: Any, ring: int, sender: int, tray: Any, count: int) -> int:
    """Copy the messages of one ring into ``tray``, rows (sender, first byte, last byte + 1) from row ``count`` on.

    Returns the rows filled. A length is believed only within bounds: after a ``reset`` a successor may be writing here.
    """
    capacity = tray[SIZE]
    head = load(words, ring + HEAD)
    first = load(words, ring + TAIL)
    tail = first
    rows = count
    used = tray[ROWS + 3 * count - 1] if count > 0 else BODY * 8
    start = (ring + DATA) * 8
    while tail < head and rows < MOST:
        at = tail % capacity
        size = words[ring + DATA + at // 8]
        begin = (used + 7) // 8 * 8
        if size < 0 or begin + size > len(tray) * 8:
            break
        part = min(size, capacity - at - 8)
        copy_out(words, start + at + 8, tray, begin, part)
        if part < size:
            copy_out(words, start, tray, begin + part, size - part)
        used = begin + size
        tray[ROWS + 3 * rows] = sender
        tray[ROWS + 3 * rows + 1] = begin
        tray[ROWS + 3 * rows + 2] = used
        rows += 1
        tail += 8 + (size + 7) // 8 * 8
    if tail != first and exchange_if(words, ring + TAIL, first, tail) == 0:
        return count
    return rows


@step
def drain(words: Any, tray: Any) -> int:
    """``take`` from each sender once, each time another one first; returns the rows filled."""
    me, processes = tray[ME], tray[PROCESSES]
    turn = tray[TURN]
    tray[TURN] = turn + 1 if turn + 1 < processes else 0
    count = 0
    for k in range(processes):
        sender = turn + k if turn + k < processes else turn + k - processes
        count = take(words, ring_at(sender, me, processes, tray[SIZE]), sender, tray, count)
    return count


@step
def mail(words: Any, me: int, processes: int, capacity: int) -> bool:
    """Whether any ring to ``me`` holds a message."""
    for sender in range(processes):
        ring = ring_at(sender, me, processes, capacity)
        if load(words, ring + HEAD) != load(words, ring + TAIL):
            return True
    return False


@step
def called(words: Any, me: int, processes: int, capacity: int) -> bool:
    """Whether ``me`` was rung since it last answered (it answers now), or has mail."""
    bell = load(words, me * LINE + BELL)
    if bell != load(words, me * LINE + SEEN):
        store(words, me * LINE + SEEN, bell)
        return True
    return mail(words, me, processes, capacity)


@step
def await_mail(words: Any, me: int, processes: int, capacity: int, spin_ns: int, timeout_ns: int) -> bool:
    """Wait until ``called``: spin for ``spin_ns``, then sleep for ``timeout_ns`` or until a signal."""
    if called(words, me, processes, capacity):
        return True
    if spin_ns > 0:
        end = monotonic_ns() + spin_ns
        while monotonic_ns() < end:
            yield_cpu()
            for _ in range(LOOKS):
                if called(words, me, processes, capacity):
                    return True
    if timeout_ns <= 0:
        return False
    line = me * LINE
    bell = load(words, line + SEEN)
    store(words, line + WAITING, 1)
    if not mail(words, me, processes, capacity):
        futex_wait(words, line + BELL, bell, timeout_ns)  # a ring since ``seen`` makes it return at once
    store(words, line + WAITING, 0)
    return called(words, me, processes, capacity)


@step
def empty(words: Any, ring: int) -> None:
    """Take everything out of ``ring``, in the place of its reader or beside it."""
    while True:
        tail = load(words, ring + TAIL)
        head = load(words, ring + HEAD)
        if tail == head or exchange_if(words, ring + TAIL, tail, head) == 1:
            return


@step
def clear(words: Any, process: int, processes: int, capacity: int) -> None:
    """Empty all rings from and to a dead ``process``; its header is as if it had answered."""
    for other in range(processes):
        empty(words, ring_at(process, other, processes, capacity))
        empty(words, ring_at(other, process, processes, capacity))
    store(words, process * LINE + WAITING, 0)
    store(words, process * LINE + SEEN, load(words, process * LINE + BELL))


class Mailboxes:
    """The mailboxes of a node as process ``me`` uses them. One thread at a time may send, and one receive.

    ``words`` is an int64 array of ``nbytes(processes, capacity) // 8`` words over memory that all processes map, zero
    at first. ``capacity`` is the size of one ring in bytes, a multiple of 8; a message has at most ``capacity - 8``.

    >>> words = np.zeros(Mailboxes.nbytes(2, 1024) // 8, np.int64)
    >>> ada, bob = Mailboxes(words, 0, 2, 1024), Mailboxes(words, 1, 2, 1024)
    >>> ada.send(1, b"hello")
    True
    >>> bob.wait(timeout_s=1.0, spin_s=0.0), bob.receive()
    (True, [(0, b'hello')])
    """

    def __init__(self, words: NDArray[np.int64], me: int, processes: int, capacity: int = CAPACITY) -> None:
        need = self.nbytes(processes, capacity) // 8
        if words.dtype != np.int64 or words.ndim != 1 or len(words) < need or not words.flags.c_contiguous:
            raise UsageError(
                f"mailboxes of {processes} processes need a contiguous int64 array of {need} words, got {words.dtype} "
                f"of shape {words.shape}; size it with Mailboxes.nbytes"
            )
        if not 0 <= me < processes:
            raise UsageError(f"process {me} is not one of {processes}; allowed: 0 to {processes - 1}")
        self.me, self.processes, self.capacity = me, processes, capacity
        self._words = words
        self._rings = [int(ring_at(me, to, processes, capacity)) for to in range(processes)]
        self._lines = [to * LINE for to in range(processes)]
        self._tray = np.zeros(BODY + capacity // 8, np.int64)
        self._tray[:ROWS] = (me, processes, capacity, 0)
        self._rows, self._bytes = self._tray.data[ROWS:], self._tray.data.cast("B")

    @staticmethod
    def nbytes(processes: int, capacity: int = CAPACITY) -> int:
        """Bytes of shared memory for ``processes``² rings of ``capacity`` bytes and their headers."""
        if processes < 1:
            raise UsageError(f"mailboxes need 1 process or more, got {processes}")
        if capacity < 16 or capacity % 8:
            raise UsageError(f"capacity must be a multiple of 8 and at least 16 bytes, got {capacity}")
        return 8 * int(ring_at(processes, 0, processes, capacity))

    def send(self, to: int, payload: bytes) -> bool:
        """Publish ``payload`` to process ``to``; False when the ring is full, and the caller keeps it.

        Raises UsageError for a message that can never fit.
        """
        if len(payload) > self.capacity - 8:
            raise UsageError(
                f"a message of {len(payload)} bytes; at most {self.capacity - 8} fit in a ring of {self.capacity}: "
                "send a handle to a block, or raise the capacity"
            )
        sent: bool = put(self._words, self._rings[to], self._lines[to], self.capacity, payload)
        return sent

    def receive(self) -> list[tuple[int, bytes]]:
        """All messages there are, as (sender, payload), each sender's in order; at most ``capacity`` bytes at once."""
        rows, body = self._rows, self._bytes
        count = drain(self._words, self._tray)
        return [(rows[k], bytes(body[rows[k + 1] : rows[k + 2]])) for k in range(0, 3 * count, 3)]

    def wait(self, timeout_s: float, spin_s: float = 0.0) -> bool:
        """Whether there may be mail or somebody rang; spins ``spin_s``, then sleeps at most ``timeout_s`` seconds.

        False after the timeout, or early when a signal came (so that its Python handler runs): wait again.
        """
        came: bool = await_mail(
            self._words, self.me, self.processes, self.capacity, int(spin_s * 1e9), int(timeout_s * 1e9)
        )
        return came

    def ring(self, process: int) -> None:
        """Wake ``process`` without a message."""
        wake(self._words, self._lines[process])

    def reset(self, process: int) -> None:
        """Empty both directions of a reaped ``process``; once, before a successor starts. ``ring`` the others then."""
        clear(self._words, process, self.processes, self.capacity)
