"""Bounds on memory: control groups made and removed, and a look that kills who has too much."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from trivium.runtime.cages import Cage, Keeper, pss

GREEDY = "import time; x = bytearray({0} << 20); print(len(x), flush=True); time.sleep(60)"


@pytest.fixture
def greedy():
    """A process that holds so many MiB."""
    made = []

    def start(megabytes):
        process = subprocess.Popen([sys.executable, "-c", GREEDY.format(megabytes)], stdout=subprocess.PIPE)
        made.append(process)
        return process

    yield start
    for process in made:
        process.kill()
        process.wait(10)
        process.stdout.close()


def seat(process):
    return SimpleNamespace(pid=process.pid, dead="", killed="", caged=None, kill=process.kill)


def test_who_holds_too_much_is_killed_and_told(greedy):
    large, small = greedy(200), greedy(1)
    for process in (large, small):
        process.stdout.readline()
    seats = [seat(large), seat(small)]
    keeper = Keeper(seats, 100 << 20)
    keeper.look(time.monotonic())
    assert large.wait(10) == -9 and small.poll() is None
    assert "GiB, and memory_per_worker is 0.10 GiB" in seats[0].killed and not seats[1].killed
    assert keeper.most[large.pid] > 200 << 20


def test_looks_are_not_more_often_than_wanted(greedy, monkeypatch):
    looked = []
    monkeypatch.setattr("trivium.runtime.cages.pss", lambda pid: looked.append(pid) or 0)
    keeper = Keeper([seat(greedy(1))], 1 << 30)
    for now in (10.0, 10.1, 10.4, 10.6):
        keeper.look(now)
    assert len(looked) == 2


def test_pss_of_nobody_is_nothing():
    assert pss(2**22 + 1) == 0


def tree(tmp_path, version):
    if version == 2:
        here = tmp_path / "groups" / "a"
        here.mkdir(parents=True)
        (here / "cgroup.subtree_control").write_text("cpu memory")
        (tmp_path / "mine").write_text("0::/a\n")
    else:
        (tmp_path / "groups" / "memory" / "a").mkdir(parents=True)
        (tmp_path / "mine").write_text("4:memory:/a\n0::/\n")
    return tmp_path / "groups", tmp_path / "mine"


@pytest.mark.parametrize(("version", "bound"), [(2, "memory.max"), (1, "memory.limit_in_bytes")])
def test_a_group_is_made_below_ours(tmp_path, version, bound):
    cage = Cage.make("one", 12345, *tree(tmp_path, version))
    assert cage.place.name == "one" and cage.place.parent.name == "a"
    assert (cage.place / bound).read_text() == "12345"
    assert cage.hold(77) and (cage.place / "cgroup.procs").read_text() == "77"
    events = cage.place / ("memory.events" if version == 2 else "memory.oom_control")
    events.write_text("oom_kill_disable 0\noom_kill 0\n")
    assert not cage.burst()
    events.write_text("oom_kill_disable 0\noom_kill 2\n")
    assert cage.burst()


def test_without_the_right_there_is_no_group(tmp_path):
    (tmp_path / "mine").write_text("0::/a\n")
    assert Cage.make("one", 1, tmp_path / "groups", tmp_path / "mine") is None
    assert Cage.make("one", 1, tmp_path / "groups", tmp_path / "absent") is None


@pytest.mark.slow
def test_the_kernel_kills_at_the_bound(greedy):
    cage = Cage.make("trivium-test", 64 << 20)
    if cage is None:
        pytest.skip("this machine lets nobody make a memory control group here")
    waits = "import sys; sys.stdin.readline(); x = bytearray(200 << 20); print(len(x))"
    process = subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert cage.hold(process.pid)
        process.communicate(b"go\n", timeout=30)
        assert process.returncode == -9 and cage.burst()
    finally:
        process.kill()
        cage.close()
    assert not cage.place.exists()


def test_a_group_of_another_is_left_alone(tmp_path):
    groups, mine = tree(tmp_path, 2)
    (groups / "a" / "one").mkdir()
    assert Cage.make("one", 1, groups, mine) is None
    assert (groups / "a" / "one").is_dir()


def test_two_runs_of_a_process_have_groups_of_their_own(monkeypatch):
    names = []
    monkeypatch.setattr(Cage, "make", lambda name, _limit: names.append(name))
    for _ in range(2):
        Keeper([SimpleNamespace(pid=1)], 1 << 30).start()
    assert len(set(names)) == len(names) == 2


def test_memory_that_cannot_be_looked_at_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr("trivium.runtime.cages.pss", lambda _pid: None)
    seats = [SimpleNamespace(pid=pid, dead="", killed="", caged=None) for pid in (7, 8)]
    keeper = Keeper(seats, 1 << 30)
    for now in (1.0, 2.0):
        keeper.look(now)
    ((text),) = [one.getMessage() for one in caplog.records]
    assert "memory_per_worker=1073741824 is not enforced: /proc/7/smaps_rollup cannot be read" in text
    caplog.clear()
    kept = [SimpleNamespace(pid=9, dead="", killed="", caged=lambda: False)]  # the kernel keeps its bound
    Keeper(kept, 1 << 30).look(1.0)
    assert not caplog.records


def test_pss_of_what_may_not_be_read_is_unknown(tmp_path):
    (tmp_path / "5" / "smaps_rollup").mkdir(parents=True)
    assert pss(5, tmp_path) is None
    assert pss(6, tmp_path) == 0
