import os

import pytest

from trivium.cli import machine


@pytest.fixture
def groups(tmp_path):
    """Writes a control group's files and says which group is ours."""
    mine = tmp_path / "mine"

    def make(line, **files):
        mine.write_text(line + "\n")
        for path, text in files.items():
            place = tmp_path / "fs" / path.replace("__", "/").replace("_dot_", ".")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return tmp_path / "fs", mine

    return make


def test_the_quota_of_version_2_is_the_least_on_the_way_up(groups):
    assert machine.quota(*groups("0::/a/b", a__cpu_dot_max="150000 100000", a__b__cpu_dot_max="max 100000")) == 1.5
    assert machine.quota(*groups("0::/a/b", a__b__cpu_dot_max="50000 100000")) == 0.5


def test_the_quota_of_version_1(groups):
    files = {"cpu__j__cpu.cfs_quota_us": "250000", "cpu__j__cpu.cfs_period_us": "100000"}
    assert machine.quota(*groups("4:cpu,cpuacct:/j", **files)) == 2.5
    assert machine.quota(*groups("4:cpu:/j", **files | {"cpu__j__cpu.cfs_quota_us": "-1"})) is None


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert machine.quota(tmp_path, tmp_path / "nothing") is None
    assert machine.memory(tmp_path, tmp_path / "nothing").limit is None


def test_the_limit_of_memory_of_both_versions(groups):
    assert machine.memory(*groups("0::/a", a__memory_dot_max="1073741824")).limit == 2**30
    line, name = "3:memory:/a", "memory__a__memory.limit_in_bytes"
    assert machine.memory(*groups(line, **{name: "9223372036854771712"})).limit is None
    assert machine.memory(*groups(line, **{name: "2048"})).limit == 2048


def test_cores_of_this_process():
    cores = machine.cores()
    assert cores.allowed == len(os.sched_getaffinity(0))
    assert 0 < cores.usable <= cores.allowed <= cores.machine
    assert machine.Cores(8, 4, 2.5).usable == 2.5


def test_sizes_of_folders_count_what_can_be_seen(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"12345")
    (tmp_path / "in" / "link").symlink_to("nowhere")
    assert machine.folder_size(tmp_path) == 5 + len("nowhere")
    assert machine.folder_size(tmp_path / "missing") == 0


def test_versions():
    assert machine.installed("numpy")
    assert machine.installed("no-such-package-here") is None
