import errno
import fcntl
import json
import os
import subprocess

import numpy as np
import pytest

from trivium.core.messages import Manifest, SaveShard, TermRecord
from trivium.core.role import Address
from trivium.errors import StorageError, UsageError
from trivium.runtime.store import RunStore, append_line, checkpoints, drop_after, last_term, write_whole


class FakePlane:
    """Two shards of three and two elements; what is saved depends on the clock."""

    def snapshot(self, shard, clock):
        n = 3 - shard
        a = np.arange(n, dtype=np.float32) + 10 * shard + 100 * clock
        many = {"slots": np.stack([a, -a]), "ring": np.zeros((0, n), np.float32), "kept": a + 0.5}
        return {"a": a, "head": np.full(8, float(clock)), "step": np.zeros(4), "totals": np.zeros(1), **many}


def save(run, clock, shards=(0, 1), manifest=True, life="one"):
    store = RunStore(run, 2, life)
    for shard in shards:
        store.write(SaveShard(shard, clock, -1), FakePlane())
    if manifest:
        store.write(Manifest(3, clock, -1, b'{"clock":1}'), FakePlane())


def clocks(run):
    return [one.clock for one in checkpoints(run)]


def test_what_is_saved_is_loaded(tmp_path):
    save(tmp_path, 7)
    (one,) = checkpoints(tmp_path)
    assert (one.clock, one.shards, one.best, one.memory, one.term) == (7, 2, -1, b'{"clock":1}', 3)
    loaded = one.load()
    assert loaded["a"].tolist() == [700.0, 701.0, 702.0, 710.0, 711.0]
    assert loaded["slots"].tolist() == [loaded["a"].tolist(), (-loaded["a"]).tolist()]
    assert loaded["kept"].tolist() == (loaded["a"] + 0.5).tolist()
    assert loaded["ring"].shape == (0, 5) and loaded["head"].shape == (2, 8)


def truncate(folder):
    path = folder / "shard-1.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def flip(folder):
    path = folder / "shard-0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)


def lose_shard(folder):
    (folder / "shard-1.safetensors").unlink()


def lose_sum(folder):
    (folder / "shard-1.json").unlink()


def garble_sum(folder):
    (folder / "shard-0.json").write_text('{"sha256": "ab')


def empty_sum(folder):
    (folder / "shard-0.json").write_text("{}")


def strange_sum(folder):
    (folder / "shard-0.json").write_text("[1, 2]")


def garble_manifest(folder):
    (folder / "manifest.json").write_bytes(b"\x00\x00")


@pytest.mark.parametrize(
    "damage",
    [truncate, flip, lose_shard, lose_sum, garble_sum, empty_sum, strange_sum, garble_manifest],
    ids=lambda f: f.__name__,
)
def test_a_torn_checkpoint_falls_back_to_the_one_before(damage, tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 9)
    assert clocks(tmp_path) == [5, 9]
    damage(tmp_path / "checkpoints" / f"{9:010d}")
    assert clocks(tmp_path) == [5]


def test_orphans_write_no_manifest_and_count_once_all_shards_are_there(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 8, shards=[1], manifest=False)
    assert clocks(tmp_path) == [5]
    save(tmp_path, 8, shards=[0], manifest=False)
    last = checkpoints(tmp_path)[-1]
    assert (last.clock, last.memory, last.best) == (8, b"", -1)


def test_a_file_that_was_being_written_is_not_seen(tmp_path):
    save(tmp_path, 5)
    (tmp_path / "checkpoints" / f"{5:010d}" / ".shard-0.safetensors.99.part").write_bytes(b"half")
    assert clocks(tmp_path) == [5]


def test_shards_of_two_lives_are_no_checkpoint(tmp_path):
    save(tmp_path, 8, shards=[0], manifest=False, life="one")
    save(tmp_path, 8, shards=[1], manifest=False, life="two")
    assert clocks(tmp_path) == []


def test_a_checkpoint_with_a_manifest_is_never_rewritten(tmp_path):
    save(tmp_path, 5)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    save(tmp_path, 5, shards=[1], manifest=False, life="two")
    assert {path: path.read_bytes() for path in before} == before
    assert clocks(tmp_path) == [5]


def test_a_folder_that_is_not_whole_does_not_count_as_kept(tmp_path):
    save(tmp_path, 3)
    save(tmp_path, 5, shards=[1], manifest=False)
    save(tmp_path, 9)
    assert clocks(tmp_path) == [3, 9]


def test_what_lies_beyond_the_clock_gone_on_from_is_dropped(tmp_path):
    for clock in (3, 8):
        save(tmp_path, clock)
    drop_after(tmp_path, 3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"{3:010d}"]


def test_nobody_takes_over_while_a_member_may_write(tmp_path):
    driver = RunStore(tmp_path, 1)
    driver.take_over(0.0, pytest.fail)
    member = RunStore(tmp_path, 1, driver.life)
    member.enter()
    told, after = [], RunStore(tmp_path, 1)
    with pytest.raises(UsageError, match=rf"still written by .*process {os.getpid()}"):
        after.take_over(0.0, told.append)
    assert len(told) <= 1
    member.leave()
    after.take_over(0.0, pytest.fail)
    with pytest.raises(StorageError, match="taken over by another run"):
        member.enter()
    with (tmp_path / "members").open("rb") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_two_checkpoints_are_kept(tmp_path):
    for clock in (1, 2, 3, 10):
        save(tmp_path, clock)
    assert clocks(tmp_path) == [3, 10]


def test_terms_are_lines_and_a_torn_one_is_passed_over(tmp_path):
    store = RunStore(tmp_path, 1)
    assert last_term(tmp_path) == 0
    for term in (1, 2):
        store.write(TermRecord(term, (Address(0, 1),), (Address(0, 2),), "start"), FakePlane())
    assert json.loads((tmp_path / "terms.jsonl").read_text().splitlines()[1]) == {
        "term": 2,
        "workers": [[0, 1]],
        "owners": [[0, 2]],
        "why": "start",
    }
    with (tmp_path / "terms.jsonl").open("a") as file:
        file.write('{"term": 3, "wor')
    assert last_term(tmp_path) == 2


def test_the_lock_is_one_drivers_and_goes_with_it(tmp_path):
    first, second = RunStore(tmp_path, 1), RunStore(tmp_path, 1)
    first.lock()
    with pytest.raises(UsageError, match="is in use by a run that is alive"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_crash_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    class Crash(BaseException):
        pass

    def crash(_fd):
        raise Crash

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(Crash):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_refuses(number, tmp_path, monkeypatch):
    def refuse(_fd):
        raise OSError(number, os.strerror(number))

    save(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=os.strerror(number)):
        save(tmp_path, 2)
    with pytest.raises(StorageError, match=os.strerror(number)):
        append_line(tmp_path / "terms.jsonl", {"term": 1})
    monkeypatch.undo()
    assert clocks(tmp_path) == [1]
    assert not list(tmp_path.rglob("*.part")), "a half-written file stays behind"


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 64 KiB."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount: {mounted.stderr.decode().strip()}")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_disk_that_is_full(tiny_disk):
    save(tiny_disk, 1)
    (tiny_disk / "ballast").write_bytes(bytes(16 << 10))
    with pytest.raises(StorageError, match="No space left"):
        write_whole(tiny_disk / "large", bytes(1 << 18))
    assert clocks(tiny_disk) == [1]
    assert not list(tiny_disk.rglob("*.part"))
    write_whole(tiny_disk / "small", b"room again")


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        save(tmp_path, 1)


def test_an_unknown_record(tmp_path):
    with pytest.raises(TypeError, match="no place for"):
        RunStore(tmp_path, 1).write(object(), FakePlane())
