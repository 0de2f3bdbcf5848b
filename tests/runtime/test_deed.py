"""The file that lets another process drive a run: for its owner alone, whole or not there, never of somebody else."""

import os
import stat
import subprocess
import sys

import pytest

from trivium.errors import UsageError
from trivium.runtime.deed import Deed, Post, born, drop_deed, read_deed, write_deed


def deed(*agents):
    return Deed(b"\x00key\xff", "life", "tcp://127.0.0.1:5555", "p" * 40, "s" * 40, agents)


def test_it_comes_back_as_it_was_and_goes(tmp_path):
    assert read_deed(tmp_path) is None
    whole = deed(Post(1, "a"), Post(2, "b", os.getpid(), born(os.getpid())))
    write_deed(tmp_path, deed())
    write_deed(tmp_path, whole)
    assert read_deed(tmp_path) == whole
    assert [one.name for one in tmp_path.iterdir()] == ["nodes.json"], "nothing half written is left"
    drop_deed(tmp_path)
    drop_deed(tmp_path)
    assert read_deed(tmp_path) is None


def test_it_is_for_its_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_deed(tmp_path, deed())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "nodes.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_one_that_others_could_read_or_write_is_not_believed(tmp_path, mode):
    write_deed(tmp_path, deed())
    (tmp_path / "nodes.json").chmod(mode)
    with pytest.raises(UsageError, match="others than you may read or own it"):
        read_deed(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": 1}', b"\xff\xfe"])
def test_one_that_is_damaged_says_so(tmp_path, content):
    write_deed(tmp_path, deed())
    (tmp_path / "nodes.json").write_bytes(content)
    with pytest.raises(UsageError, match="remove it to go on from the last checkpoint"):
        read_deed(tmp_path)


def test_the_secret_is_not_shown():
    assert "s" * 40 not in repr(deed(Post(1, "a")))


def test_a_process_is_known_by_its_birth():
    assert not Post(1, "a").alive, "it was not started yet"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = Post(1, "a", process.pid, born(process.pid))
        assert here.alive
        assert not Post(1, "a", process.pid, here.born + 1).alive, "another one has its number"
        process.kill()
        process.wait()
        assert not here.alive and born(process.pid) == -1
