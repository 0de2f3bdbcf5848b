import time
from pathlib import Path

import numpy as np
import pytest

from trivium.runtime import atomics
from trivium.runtime.memory import Segment
from trivium.runtime.zygote import Zygote

HERE = str(Path(__file__).parent)


@pytest.fixture
def words():
    return np.arange(10, 26, dtype=np.int64)


def test_words_are_read_written_added_to_and_exchanged(words):
    assert atomics.supported()
    assert atomics.load(words, 3) == 13
    atomics.store(words, 3, -(1 << 62))
    assert atomics.load(words, 3) == words[3] == -(1 << 62)
    assert atomics.fetch_add(words, 4, 6) == 14
    assert words[4] == 20
    assert atomics.exchange_if(words, 5, 14, 1) == 0
    assert words[5] == 15
    assert atomics.exchange_if(words, 5, 15, 1) == 1
    assert words[5] == 1
    assert words[[0, 1, 2, 6, 15]].tolist() == [10, 11, 12, 16, 25]


@pytest.mark.parametrize(("at", "offset", "count"), [(0, 0, 0), (8, 0, 11), (17, 3, 8), (0, 0, 64)])
def test_copies_are_those_of_numpy(words, at, offset, count):
    source = bytes(range(100, 164))
    want = words.copy()
    want.view(np.uint8)[at : at + count] = np.frombuffer(source, np.uint8)[offset : offset + count]
    atomics.copy_in(words, at, source, offset, count)
    assert np.array_equal(words, want)
    out = np.zeros(80, np.uint8)
    atomics.copy_out(words, at, out, offset, count)
    assert out.tobytes() == bytes(offset) + source[offset : offset + count] + bytes(80 - offset - count)


def test_the_clock_is_that_of_the_machine():
    before = time.monotonic_ns()
    now = atomics.monotonic_ns()
    atomics.yield_cpu()
    assert before <= now <= time.monotonic_ns()


def test_a_futex_wait_ends_at_once_where_the_low_half_differs_else_after_its_timeout(words):
    words[0] = (7 << 32) | 5
    began = time.monotonic()
    assert atomics.futex_wait(words, 0, 6, 60_000_000_000) == -1
    assert atomics.futex_wake(words, 0, 10) == 0
    assert time.monotonic() - began < 30
    began = time.monotonic()
    assert atomics.futex_wait(words, 0, 5, 20_000_000) == -1
    assert time.monotonic() - began >= 0.02


@pytest.mark.slow
def test_processes_add_without_loss_and_wake_each_other(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    zygote = Zygote.start(["memory_entries:warm"])
    with Segment.create(4096) as segment:
        shared = segment.array("i8", (8,))
        children = [zygote.fork("memory_entries:count", b"20000", [segment.fd]) for _ in range(2)]
        while atomics.load(shared, 2) < 2:
            atomics.yield_cpu()
        atomics.store(shared, 1, 1)
        assert all(child.wait(20.0) for child in children)
        assert shared[0] == 40_000
        shared[:] = 0
        children.append(zygote.fork("memory_entries:wake", b"", [segment.fd]))
        end = time.monotonic() + 20
        while atomics.load(shared, 0) == 0 and time.monotonic() < end:
            atomics.futex_wait(shared, 0, 0, 10_000_000_000)
        assert shared[0] == 1
        assert children[-1].wait(20.0)
        for child in children:
            child.close()
        del shared
    zygote.close()
