import errno
import gc
import os
import socket
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from trivium.errors import StorageError, UsageError
from trivium.runtime.memory import Arena, ArenaPlan, Segment, available_memory, receive_segment, send_segment


def memfds():
    """Descriptors and mappings of this process that are memory files."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().count("/memfd:here")
    links = [
        str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink() and int(path.name) > 2
    ]
    return maps + sum("/memfd:here" in link for link in links)


def test_a_segment_is_zero_allocated_sealed_and_gone_when_closed():
    segment = Segment.create(100_000, "here")
    stat = os.fstat(segment.fd)
    assert stat.st_size == 100_000
    assert stat.st_blocks * 512 >= 100_000, "pages are there from the start"
    assert not segment.array("u1", (100_000,)).any()
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 10)
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 10**6)
    segment.close()
    segment.close()
    assert memfds() == 0
    with pytest.raises(UsageError, match="closed"):
        segment.array("u1", (1,))


def test_views_outlive_close_and_then_free_the_mapping():
    segment = Segment.create(4096, "here")
    view = segment.array("i8", (8,), 64)
    segment.close()
    view[:] = 7
    assert view.sum() == 56
    assert memfds() > 0
    del view, segment
    assert memfds() == 0


def test_two_mappings_are_one_memory():
    with Segment.create(4096, "here") as one, Segment.attach(os.dup(one.fd)) as two:
        assert two.nbytes == 4096
        one.array("f4", (3, 5), 128)[2, 4] = 2.5
        got = two.array("f4", (3, 5), 128)
        assert got[2, 4] == 2.5
        assert got.ctypes.data % 64 == 0
        del got


def test_bad_arrays_are_refused():
    with Segment.create(256, "here") as segment:
        for shape, offset in (((4,), 8), ((33,), 0), ((1,), 256), ((1,), -64)):
            with pytest.raises(UsageError, match="multiples of 64"):
                segment.array("f8", shape, offset)
        assert segment.array("f8", (0, 3), 0).shape == (0, 3)
    with pytest.raises(UsageError, match="1 byte or more"):
        Segment.create(0)


def test_too_much_is_refused_before_anything_is_taken(monkeypatch):
    wanted = psutil.virtual_memory().total * 2
    with pytest.raises(StorageError, match=f"'here' needs {wanted:,} bytes, and [0-9,]+ are available"):
        Segment.create(wanted, "here")

    def full(fd, offset, nbytes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)  # another process was faster
    with pytest.raises(StorageError, match=r"'here' needs 4,096 bytes.*No space left"):
        Segment.create(4096, "here")
    assert memfds() == 0


def write(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_tightest_control_group_of_the_way_up_counts(tmp_path):
    mine = tmp_path / "cgroup"
    mine.write_text("0::/a/b\n")
    root = tmp_path / "v2"
    write(root / "a/b", memory__max="max", memory__current="70")
    write(root / "a", memory__max="1000", memory__current="300", memory__stat="anon 5\ninactive_file 40")
    assert available_memory(root, mine) == 740
    write(root / "a/b", memory__max="100")
    assert available_memory(root, mine) == 30
    write(root / "a/b", memory__max="60")
    assert available_memory(root, mine) == 0


def test_control_groups_of_version_1(tmp_path):
    mine = tmp_path / "cgroup"
    mine.write_text("3:cpu:/x\n2:memory,other:/job\n")
    root = tmp_path / "v1"
    write(root / "memory/job", memory__limit_in_bytes="500", memory__usage_in_bytes="100")
    write(root / "memory", memory__limit_in_bytes=str(1 << 62), memory__usage_in_bytes="0")
    assert available_memory(root, mine) == 400
    assert available_memory(tmp_path / "none", tmp_path / "none") > 1 << 20


def test_an_arena_is_the_same_on_both_sides_of_a_socket():
    plan = ArenaPlan()
    plan.add("head", "float64", (3,))
    plan.add("bits", "uint8", (5, 13))
    plan.add("empty", "int32", (0,))
    plan.add("words", np.int64, (9,))
    with pytest.raises(UsageError, match="'head' already"):
        plan.add("head", "float64", (3,))
    arena = Arena.create(plan, "here")
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        send_segment(here, arena.segment)
        same = msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=ArenaPlan)
        other = Arena(receive_segment(there), same)
        assert other.segment.name == "here"
        here.close()
        with pytest.raises(StorageError, match="no segment came"):
            receive_segment(there)
    arena["bits"][:] = np.arange(65).reshape(5, 13)
    arena["words"][:] = -1
    assert np.array_equal(other["bits"], np.arange(65).reshape(5, 13))
    assert other["words"].tolist() == [-1] * 9
    assert not other["head"].any()
    assert all(other[name].ctypes.data % 64 == 0 for name in ("head", "bits", "words"))
    with pytest.raises(UsageError, match="did you mean 'words'"):
        other["word"]
    other.close()
    arena.close()
    assert memfds() == 0


def test_a_segment_smaller_than_its_plan_is_refused():
    plan = ArenaPlan()
    plan.add("a", "f8", (100,))
    with Segment.create(64, "here") as segment, pytest.raises(StorageError, match="has 64 bytes, the plan needs 832"):
        Arena(segment, plan)
