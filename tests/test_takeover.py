"""The driver of a run over nodes is killed for real, and another process takes the live run over."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.watching import BOUND, Watcher, alive, ended, nodes_job, until
from trivium.errors import UsageError
from trivium.running.session import Session, resume
from trivium.runtime.claiming import claim
from trivium.runtime.curve import Keys
from trivium.runtime.deed import read_deed, write_deed
from trivium.runtime.seats import group_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def script(kind, run, wait=60.0, nodes=2):
    """The processes of the members of ``run``, driven by a process that is killed in the end.

    It speaks to a file: its agents would keep a pipe open.
    """
    told = run.with_name(f"{run.name}.{kind}")
    with told.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.takeover_script", kind, str(run), str(wait), str(nodes)],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        assert until(lambda: told.read_text().endswith("\n") or process.poll() is not None, BOUND)
        pids = [int(word) for word in told.read_text().split() if word.isdecimal()]
        assert process.poll() is None and pids, told.read_text()
        yield pids
    finally:
        process.kill()
        process.wait()


def killed(kind, run, wait=60.0, nodes=2):
    """The processes of the members of ``run``, whose driver was killed in the middle."""
    with script(kind, run, wait, nodes) as pids:
        return pids


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """Whatever a test does, its agents are gone afterwards."""
    yield
    left = []
    for run in filter(Path.is_dir, tmp_path.iterdir()):
        with contextlib.suppress(UsageError):
            deed = read_deed(run)
            left += [one.pid for one in deed.agents if one.alive] if deed else []
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    assert not left


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the run ends in when nobody disturbs it, on one node."""
    with Session() as session:
        return ended(session.begin(nodes_job(tmp_path_factory.mktemp("whole") / "run", workers=1, nodes=1)))


def taken(run, job, pids, whole):
    """Take ``run`` over, with the processes ``pids``; who watched."""
    watcher = Watcher()
    live = resume(run, watcher, job)
    try:
        record = ended(live)
    finally:
        live.kill()
    assert any("taken over while it lives" in text for text in watcher.notices), watcher.notices
    assert record.params_sha256 == whole.params_sha256, "not the bits of an undisturbed run"
    assert (record.clocks, record.stopped_by, record.best_clock) == (whole.clocks, whole.stopped_by, whole.best_clock)
    assert record.history == whole.history, "a look is missing, or was made twice"
    looked = [json.loads(line)["clock"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert looked == [one["clock"] for one in whole.history]
    assert until(lambda: not any(map(alive, pids)))
    assert not (run / "nodes.json").exists()
    return watcher


def test_a_live_run_is_taken_over_and_no_clock_is_lost(tmp_path, whole):
    run = tmp_path / "run"
    pids = killed("begin", run)
    assert len(pids) == 4 and all(map(alive, pids)), "the nodes wait for another driver"
    watcher = Watcher()
    live = resume(run, watcher, nodes_job(run, orphan_timeout=60.0))
    assert watcher.middle.wait(BOUND)
    seen = list(live.pids.values())
    record = ended(live)
    assert seen == pids, "the same processes go on"
    assert record.params_sha256 == whole.params_sha256
    assert record.history == whole.history
    terms = [json.loads(line) for line in (run / "terms.jsonl").read_text().splitlines()]
    assert [one["term"] for one in terms] == list(range(1, len(terms) + 1))
    assert [one["why"] for one in terms].count("taken over") == 1
    assert until(lambda: not any(map(alive, pids)))
    assert not (run / "nodes.json").exists()


def test_whoever_took_over_may_die_as_well(tmp_path, whole):
    run = tmp_path / "run"
    pids = killed("begin", run)
    assert killed("resume", run) == pids
    taken(run, nodes_job(run, orphan_timeout=60.0), pids, whole)


def test_a_node_that_died_with_the_driver_is_done_without(tmp_path, whole):
    run = tmp_path / "run"
    pids = killed("begin", run)
    agent = next(pid for pid in pids if group_of(pid))
    os.killpg(agent, signal.SIGKILL)
    assert until(lambda: not group_of(agent))
    taken(run, nodes_job(run, orphan_timeout=60.0), pids, whole)


def test_a_wrong_key_drives_nobody_and_the_run_goes_on_from_what_was_saved(tmp_path, whole):
    run = tmp_path / "run"
    pids = killed("begin", run, wait=4.0)
    deed = read_deed(run)
    false = Keys.fresh()
    wrong = msgspec.structs.replace(deed, public=false.public, secret=false.secret)
    assert claim(run, wrong, within=1.0) is None
    assert all(map(alive, pids)), "they neither obey nor mind"
    write_deed(run, wrong)
    watcher = Watcher()
    record = ended(resume(run, watcher, nodes_job(run, orphan_timeout=4.0)))
    assert any("cannot be taken over" in text for text in watcher.notices)
    assert record.params_sha256 == whole.params_sha256
    assert not any(map(alive, pids))


def test_nobody_takes_a_run_over_whose_driver_lives(tmp_path):
    run = tmp_path / "run"
    with script("begin", run) as pids:
        with pytest.raises(UsageError, match="in use by a run that is alive"):
            resume(run, job=nodes_job(run))
        assert all(map(alive, pids))
    deed = read_deed(run)
    for one in deed.agents:
        os.killpg(one.pid, signal.SIGKILL)
    assert until(lambda: not any(map(alive, pids)))


def test_the_key_is_for_its_owner_alone(tmp_path):
    run, seen = tmp_path / "run", []
    watcher = Watcher()
    live = Session().begin(nodes_job(run), watcher)
    assert watcher.middle.wait(BOUND)
    path = run / "nodes.json"
    seen.append(stat.S_IMODE(path.stat().st_mode))
    live.stop()
    ended(live)
    assert seen == [0o600] and not path.exists()


def test_without_a_follower_the_nodes_save_and_end(tmp_path, whole):
    run = tmp_path / "run"
    pids = killed("begin", run, wait=2.0)
    assert until(lambda: not any(map(alive, pids)), 2.0 + 4.0), "orphans are left"
    record = ended(resume(run, job=nodes_job(run, orphan_timeout=2.0)))
    assert record.params_sha256 == whole.params_sha256
