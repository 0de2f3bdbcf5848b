"""How a launch reaches a child: whole, with its descriptors, or not at all."""

import os
import pickle
import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from trivium.data.spool import DiskSpool
from trivium.data.table import Csr, Table
from trivium.errors import DataError
from trivium.runtime import child
from trivium.runtime.child import receive_launch, send_launch
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.pool import FRAME
from trivium.runtime.shipping import ship_tables
from trivium.runtime.watch import innermost


@pytest.fixture
def link():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def received(theirs):
    """A thread that receives one launch, and where it puts it."""
    got = []
    thread = threading.Thread(target=lambda: got.append(receive_launch(theirs)), daemon=True)
    thread.start()
    return thread, got


@pytest.mark.parametrize("size", [0, 10, 5 << 20])
def test_a_launch_comes_whole_with_its_descriptors(size, link):
    ours, theirs = link
    reads, writes = os.pipe()
    thread, got = received(theirs)
    send_launch(ours, pickle.dumps({"body": b"x" * size}), [reads, writes])
    thread.join(20.0)
    ((launch, fds),) = got
    assert launch == {"body": b"x" * size}
    os.write(fds[1], b"through")
    assert os.read(reads, 7) == b"through"
    for fd in (reads, writes, *fds):
        os.close(fd)


@pytest.mark.parametrize("sent", [b"", FRAME.pack(100), FRAME.pack(100) + b"x" * 99, b"\x01\x02"])
def test_a_launch_that_breaks_off_is_none(sent, link):
    ours, theirs = link
    ours.sendall(sent)
    ours.close()
    assert receive_launch(theirs) is None


def test_two_launches_do_not_mix(link):
    ours, theirs = link
    for body in (b"first", b"second"):
        send_launch(ours, pickle.dumps(body), [])
    assert [receive_launch(theirs) for _ in range(2)] == [(b"first", []), (b"second", [])]


def test_a_child_that_takes_nothing_does_not_hold_us_up(link):
    with pytest.raises(OSError, match="timed out"):
        send_launch(link[0], bytes(64 << 20), [], within=0.05)


def launched(link, monkeypatch, cpus, set_affinity):
    """What a child says that is launched on ``cpus`` and whose run fails at once."""
    ours, theirs = link
    monkeypatch.setattr(child.os, "sched_setaffinity", set_affinity)
    monkeypatch.setattr(child.socket, "socket", lambda fileno: theirs)
    monkeypatch.setattr(child.signal, "signal", lambda *_args: None)
    monkeypatch.setattr(child.gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(child, "receive_launch", lambda _link: (SimpleNamespace(cpus=cpus), []))
    monkeypatch.setattr(child, "_run_launch", lambda *_: 1 / 0)
    child.main(b"", [theirs.fileno(), -1])
    return ours.recv(1 << 16).decode(errors="replace")


@pytest.mark.parametrize("wish", ["none", "one of ours", "ours and others", "others"])
def test_a_child_runs_on_those_of_its_cores_that_this_machine_lets_it(wish, link, monkeypatch):
    allowed = os.sched_getaffinity(0)
    one, other = min(allowed), 100_000
    cpus = {"none": (), "one of ours": (one,), "ours and others": (one, other), "others": (other,)}[wish]
    set_to = []
    said = launched(link, monkeypatch, cpus, lambda _pid, cores: set_to.append(set(cores)))
    assert set_to == [{one} if one in cpus else allowed]
    assert "ZeroDivisionError" in said


def test_cores_that_cannot_be_had_are_said_and_not_died_of(link, monkeypatch):
    def refuse(_pid, _cores):
        raise OSError(22, "Invalid argument")

    assert "Invalid argument" in launched(link, monkeypatch, (), refuse)


def test_tables_are_shipped_as_they_are():
    x = Csr(np.array([0, 2, 3]), np.array([0, 4, 1], np.int32), np.array([1.0, 2.0, 3.0], np.float32), 5)
    table = Table({"x": x, "y": np.array([1, 0], np.int32)}, ("no", "yes"), 0.5, "small")
    arrays, shipped, files = ship_tables({"train": table})
    assert files == []
    plan = ArenaPlan()
    for name, one in arrays.items():
        plan.add(name, one.dtype, one.shape)
    with_memory = Arena.create(plan, "test")
    for name, one in arrays.items():
        with_memory[name][...] = one
    opened = {name: one.open(with_memory, []) for name, one in shipped}["train"]
    assert (opened.classes, opened.scale, opened.name) == (("no", "yes"), 0.5, "small")
    got = opened.columns["x"]
    assert got.width == 5 and opened.columns["y"].tolist() == [1, 0]
    for name in ("indptr", "indices", "values"):
        np.testing.assert_array_equal(getattr(got, name), getattr(x, name))
    del opened, got
    with_memory.close()


def test_rows_in_files_are_shipped_by_descriptor_each_file_once(tmp_path):
    spool = DiskSpool(tmp_path)
    spool.add({"x": np.arange(6.0, dtype=np.float32).reshape(3, 2), "y": np.array([0, 1, 1], np.int32)})
    columns, mapped = spool.finish()
    table = Table(columns, (0.0, 1.0), mapped=mapped)
    arrays, shipped, files = ship_tables({"train": table, "test": table})
    assert arrays == {} and len(files) == 2
    fds = [os.open(one.path, os.O_RDONLY) for one in files]
    opened = {name: one.open(None, fds) for name, one in shipped}
    for fd in fds:
        os.close(fd)
    for got in opened.values():
        np.testing.assert_array_equal(got.columns["x"], [[0, 1], [2, 3], [4, 5]])
        assert got.columns["y"].tolist() == [0, 1, 1] and set(got.mapped) == {"x", "y"}


def test_as_many_descriptors_come_as_can_be_sent_at_once(link):
    ours, theirs = link
    fds = [os.memfd_create("one") for _ in range(child.MOST_FDS)]
    thread, got = received(theirs)
    send_launch(ours, pickle.dumps("launch"), fds)
    thread.join(20.0)
    ((_launch, passed),) = got
    assert len(passed) == len(fds) == 250
    with pytest.raises(DataError, match=r"handed 251 descriptors, and at most 250 .*; train on fewer columns"):
        send_launch(ours, pickle.dumps("launch"), [*fds, fds[0]])
    for fd in (*fds, *passed):
        os.close(fd)


def test_a_child_says_where_its_threads_are(tmp_path):
    inside, out = threading.Event(), threading.Event()

    def carry_out():
        inside.set()
        out.wait(20)

    thread = threading.Thread(target=carry_out)
    thread.start()
    try:
        assert inside.wait(10)
        with (tmp_path / "stack").open("wb") as file:
            child.write_stacks(file.fileno())
    finally:
        out.set()
        thread.join(10)
    text = (tmp_path / "stack").read_text()
    assert "test_a_child_says_where_its_threads_are" in text
    assert innermost(text).startswith(" (threading.py:")
