"""What the processes do that share memory in the tests of atomics, mailboxes and versions."""

import itertools

import msgspec
import numpy as np

from trivium.runtime.atomics import fetch_add, futex_wake, load, store
from trivium.runtime.mailbox import Mailboxes
from trivium.runtime.memory import Segment
from trivium.runtime.versions import Versions


def warm():
    """Compile (or load) in the zygote, so that the children start running."""
    words = np.zeros(Mailboxes.nbytes(2, 1024) // 8, np.int64)
    box = Mailboxes(words, 0, 2, 1024)
    box.send(0, b"x")
    box.wait(0.0)
    box.receive()
    shard = Versions(np.zeros(Versions.words(2), np.int64), 2)
    shard.commit(shard.begin(), 0)
    shard.pin(0)
    shard.unpin(0)
    fetch_add(words, 0, 0)
    futex_wake(words, 0, 1)


def words_of(fd):
    segment = Segment.attach(fd)
    return segment.array("i8", (segment.nbytes // 8,))


def count(payload, fds):
    """Add ``payload`` ones to word 0, once word 1 is set."""
    words = words_of(fds[0])
    fetch_add(words, 2, 1)
    while load(words, 1) == 0:
        pass
    for _ in range(int(payload)):
        fetch_add(words, 0, 1)


def wake(payload, fds):
    """Set word 0 and wake whoever sleeps on it."""
    words = words_of(fds[0])
    store(words, 0, 1)
    futex_wake(words, 0, 1)


def echo(payload, fds):
    """Send everything back to its sender, until an empty message comes."""
    me, processes, capacity, spin = msgspec.msgpack.decode(payload)
    box = Mailboxes(words_of(fds[0]), me, processes, capacity)
    while True:
        box.wait(10.0, spin)
        for who, body in box.receive():
            if not body:
                return
            while not box.send(who, body):
                pass


def talk(payload, fds):
    """Send numbered messages of changing length to process 0, for ever."""
    me, processes, capacity = msgspec.msgpack.decode(payload)
    box = Mailboxes(words_of(fds[0]), me, processes, capacity)
    for number in itertools.count():
        body = bytes([number % 251]) * (number % 97) + number.to_bytes(8, "little")
        while not box.send(0, body):
            pass


def look(payload, fds):
    """Pin and read a shard of int64 arrays over and over; 1 at the first torn or old one, 0 after clock ``last``."""
    which, slots, size, last = msgspec.msgpack.decode(payload)
    words = words_of(fds[0])
    need = Versions.words(2, slots)
    shard = Versions(words, 2, slots)
    newest = -1
    while newest < last:
        slot = shard.pin(which)
        if slot < 0:
            continue
        seen = words[need + slot * size : need + (slot + 1) * size]
        low, tag, high = int(seen.min()), shard.clock_of(slot), int(seen.max())
        shard.unpin(which)
        if not newest <= low == high == tag:
            return 1
        newest = tag
    return 0
