"""Growing memory of a node: ranges are apart, readers follow a shard that moves, bounds hold."""

import os
import threading

import numpy as np
import pytest

from trivium.errors import RunError, StorageError
from trivium.program.tables import RowBlock, TableSpec
from trivium.runtime.row_plane_memory import GENERATION, WORDS, Lodging, Yard, laid

PROCESSES = 3


@pytest.fixture
def yards():
    fd = Yard.create(PROCESSES)
    ends = np.zeros(PROCESSES, np.int64)
    yield [Yard(fd, me, ends) for me in range(PROCESSES)]
    os.close(fd)


def pages(yard):
    return os.fstat(yard.fd).st_blocks * 512


def lodging(yards, spec, expected=None):
    """(the writer's, a reader's) of one shard."""
    words = np.zeros(WORDS, np.int64)
    return Lodging(spec, words, yards[0], expected), Lodging(spec, words, yards[1], expected)


def test_ranges_are_apart_and_what_is_freed_is_given_back(yards):
    plots = [yard.take(10_000) for yard in yards for _ in range(3)]
    for number, plot in enumerate(plots):
        plot.raw[:] = number + 1
    seen = [yards[2].open(plot.offset, plot.nbytes).raw for plot in plots]
    assert [set(raw.tolist()) for raw in seen] == [{number + 1} for number in range(9)]
    before = pages(yards[0])
    plots[0].free()
    assert pages(yards[0]) == before - plots[0].nbytes
    assert not seen[0].any() and seen[1].all()


def test_who_comes_after_a_dead_process_takes_what_it_had_not(yards):
    first = yards[1].take(5000)
    first.raw[:] = 7
    heir = Yard(yards[1].fd, 1, yards[1]._ends)
    heir.take(5000).raw[:] = 8
    assert (first.raw == 7).all()


def test_memory_that_is_not_there_is_said(yards, monkeypatch):
    monkeypatch.setattr("trivium.runtime.row_plane_memory.available_memory", lambda: 1 << 20)
    with pytest.raises(StorageError, match="add nodes"):
        yards[0].take(2 << 20)


def test_arrays_are_laid_on_boundaries():
    found = laid(np.zeros(1000, np.uint8), {"a": ("int64", (3,)), "b": ("float32", (2, 4))})
    assert found["a"].shape == (3,) and found["b"].shape == (2, 4)
    assert (found["b"].ctypes.data - found["a"].ctypes.data) == 64


def test_a_reader_follows_a_shard_that_grows(yards):
    spec = TableSpec("t", width=4, update="add")
    writer, reader = lodging(yards, spec)
    assert reader.pull(np.array([1])) is None, "nobody has begun"
    writer.begin(0)
    wanted = {}
    rng = np.random.default_rng(0)
    for step in range(40):
        keys = np.unique(rng.integers(0, 1 << 40, 700))
        rows = rng.standard_normal((len(keys), 4)).astype(np.float32)
        writer.push(keys, rows, 1.0, 1.0, None)
        writer.advanced(step + 1)
        wanted |= dict(zip(keys.tolist(), rows, strict=True))
    keys = np.array(sorted(wanted))
    np.testing.assert_array_equal(reader.pull(keys), np.stack([wanted[key] for key in keys.tolist()]))
    assert reader.tag == 40 and len(writer) == len(wanted) and reader.words[GENERATION] > 4
    assert pages(yards[0]) < 2 * writer.nbytes, "what was outgrown was not given back"


def test_reads_beside_a_writer_that_grows_are_of_whole_rows(yards):
    spec = TableSpec("t", width=8, update="add", dtype="int64")
    writer, reader = lodging(yards, spec)
    writer.begin(0)
    stop, seen = threading.Event(), []

    def read():
        keys = np.arange(2000)
        while not stop.is_set():
            rows = reader.pull(keys)
            seen.append(bool((rows == rows[:, :1]).all()))

    thread = threading.Thread(target=read)
    thread.start()
    for step in range(60):
        keys = np.arange(100 * step, 100 * step + 400)
        writer.push(keys, np.ones((400, 8), np.int64), 1.0, 1.0, None)
    stop.set()
    thread.join()
    assert seen and all(seen)


def test_a_shard_takes_no_more_than_it_is_expected_to_need(yards):
    spec = TableSpec("t", rows=10_000, width=16, update="add")
    (bounded, _), (free, _) = lodging(yards, spec, 10_000), lodging(yards, spec)
    for one in (bounded, free):
        one.begin(0)
        for start in range(0, 10_000, 500):
            one.push(np.arange(start, start + 500), np.ones((500, 16), np.float32), 1.0, 1.0, None)
    assert bounded.shard.capacity == 10_000 < free.shard.capacity


def test_a_bound_on_bytes_holds_for_growth_and_for_what_comes_whole(yards):
    spec = TableSpec("t", width=16, update="add")
    writer, _ = lodging(yards, spec)
    with pytest.raises(StorageError, match="left of what a node may hold"):
        writer.begin(0, None, 1000)
    writer.begin(0, None, 1 << 18)
    with pytest.raises(StorageError, match="its limit is 262,144 bytes"):
        writer.push(np.arange(4000), np.ones((4000, 16), np.float32), 1.0, 1.0, 1 << 18)
    assert len(writer) == 0


def block(keys):
    return RowBlock(np.asarray(keys), np.arange(len(keys), dtype=np.float32)[:, None], np.ones(len(keys), np.int64))


def test_what_is_pending_is_loaded_when_it_is_needed_and_not_where_it_is_not(yards):
    spec = TableSpec("t", update="add")
    loads = []

    def load():
        loads.append(1)
        return block([3, 5])

    writer, reader = lodging(yards, spec)
    writer.pend(16, load, lambda: None)
    assert reader.pull(np.array([5])) is None and reader.tag == 16 and not loads
    assert writer.reach(np.array([5, 4])).ravel().tolist() == [1.0, 0.0] and len(loads) == 1
    assert reader.pull(np.array([5])).item() == 1.0
    writer.pend(24, load, lambda: None)
    writer.leave(32)
    assert len(loads) == 1 and reader.tag == 32
    with pytest.raises(RunError, match="holds no rows"):
        writer.push(np.array([1]), np.ones((1, 1), np.float32), 1.0, 1.0, None)


def test_another_process_goes_on_where_one_has_begun(yards):
    spec = TableSpec("t", update="add")
    writer, other = lodging(yards, spec)
    writer.begin(8, block([1, 2]))
    other.attach()
    other.push(np.array([2, 9]), np.array([[1.0], [4.0]], np.float32), 1.0, 1.0, None)
    assert writer.pull(np.array([1, 2, 9])).ravel().tolist() == [0.0, 2.0, 4.0]
    assert other.snapshot().counts.tolist() == [1, 2, 1] == writer.snapshot().counts.tolist()
