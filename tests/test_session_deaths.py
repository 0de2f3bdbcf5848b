"""Each kind of process is killed or hangs in the middle: the run goes on, or ends with one error, within a bound."""

import os
import re
import signal
import time
from dataclasses import replace

import pytest

from tests.watching import Watcher, alive, ended, network_job, strike, until, wide_job
from trivium.errors import LostError
from trivium.running.session import Session, resume
from trivium.testing.simulating import simulate
from trivium.testing.troubled import Endless, Gate, Troubled

pytestmark = pytest.mark.slow


def sigkill(name):
    return lambda live: os.kill(live.pids[name], signal.SIGKILL)


def test_the_only_server_is_killed(warm, tmp_path):
    job = network_job(tmp_path / "run", "ps", 2, epochs=50, shards=1, checkpoint_every=0.01)
    pids, gate, watcher = [], Gate(tmp_path / "gate", 400), Watcher()
    saved = (tmp_path / "run" / "checkpoints").glob
    with gate.shut():
        live = warm.begin(replace(job, program=Troubled(job.program, gate)), watcher)
        assert watcher.middle.wait(60.0)
        assert until(lambda: any(saved("*/manifest.json")))
        pids += live.pids.values()
        began = time.monotonic()
        sigkill("server 0")(live)
        with pytest.raises(
            LostError, match=r"server 0 died \(SIGKILL\) while \w+.*; it alone held the parameters"
        ) as caught:
            ended(live)
        assert time.monotonic() - began < 5.0
    assert caught.value.exit_code == 3
    assert f"trivium resume {tmp_path / 'run'}" in str(caught.value)
    assert not any(alive(pid) for pid in pids)


def test_one_of_two_servers_is_killed_and_the_other_goes_on_from_its_copies(warm, tmp_path):
    job = network_job(tmp_path / "run", "ps", 2, shards=2, nodes=2)
    record, _watcher = strike(warm, job, sigkill("server 0"))
    told = re.compile(r"server 0 died \(SIGKILL\).*; its node's 1 workers went with it; other copies take over 1 of")
    assert any(told.search(text) for text in record.notices)
    assert record.params_sha256 == simulate(network_job(tmp_path / "never", "sequential", 1)).params_sha256


def test_the_zygote_is_killed_and_the_run_goes_on(tmp_path):
    with Session() as session:
        job = wide_job(tmp_path / "run", "ps", 2)
        record, _watcher = strike(session, job, lambda _live: os.kill(zygote_of(session), signal.SIGKILL))
        assert record.params_sha256 == simulate(job).params_sha256
        again = session.run(wide_job(tmp_path / "again", "ps", 3))  # one process more than there were
        assert again.params_sha256 == record.params_sha256


def zygote_of(session):
    return session.pool(xla=False)._zygote.pid


def test_the_zygote_is_killed_and_then_a_worker(tmp_path):
    def act(live):
        os.kill(zygote_of(session), signal.SIGKILL)
        sigkill("worker 0")(live)

    with Session() as session:
        record, _watcher = strike(session, wide_job(tmp_path / "run", "ps", 2), act)
    assert any("worker 0 died (its process is gone)" in text for text in record.notices)


def test_all_workers_are_killed(warm, tmp_path):
    def act(live):
        for name in ("worker 0", "worker 1"):
            sigkill(name)(live)

    with pytest.raises(LostError, match="no worker is left to take its lanes over") as caught:
        strike(warm, wide_job(tmp_path / "run", "ps", 2), act)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("after", [1, 30])
def test_a_compute_without_end_is_shown_then_lost(after, warm, tmp_path):
    """After 1 call it hangs in the trial at the start, after 30 in the middle of a clock."""
    job = wide_job(tmp_path / "run", "ps", 2, patience=1.0, start_timeout=4.0)
    watcher = Watcher()
    live = warm.begin(replace(job, program=Troubled(job.program, Endless(tmp_path / "claim", after))), watcher)
    record = ended(live)
    notices = "\n".join(record.notices)
    assert "gave no sign of life" in notices and "died (killed: silent for" in notices
    if after > 1:
        assert any("turn, from troubled.py" in text for text in watcher.suspects), watcher.suspects
        assert "troubled.py" in notices and "in turn" in notices
    assert record.params_sha256 == simulate(job).params_sha256


def test_killed_by_the_person(warm, tmp_path):
    job, gate, watcher = wide_job(tmp_path / "run", "ps", 2), Gate(tmp_path / "gate", 12), Watcher()
    with gate.shut():
        live = warm.begin(replace(job, program=Troubled(job.program, gate)), watcher)
        assert watcher.middle.wait(60.0)
        pids = list(live.pids.values())
        live.kill()
        with pytest.raises(Exception, match="the run was killed"):
            live.wait(1.0)
    assert until(lambda: not any(alive(pid) for pid in pids), 2.0)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_killed_before_it_has_begun(tmp_path):
    with Session() as session:
        live = session.begin(wide_job(tmp_path / "run", "ps", 2))
        live.kill()
        with pytest.raises(Exception, match="the run was killed"):
            ended(live)


def test_what_was_saved_before_the_only_server_died_is_gone_on_from(warm, tmp_path):
    job = network_job(tmp_path / "run", "ps", 2, epochs=20, shards=1, checkpoint_every=0.01)
    saved = (tmp_path / "run" / "checkpoints").glob

    def act(live):
        assert until(lambda: any(saved("*/manifest.json")))
        sigkill("server 0")(live)

    with pytest.raises(LostError):
        strike(warm, job, act, after=250)
    first = max(int(path.parent.name) for path in saved("*/manifest.json"))
    watcher = Watcher()
    record = ended(resume(tmp_path / "run", watcher, replace(job, plan=replace(job.plan, checkpoint_every=30.0))))
    assert first > 0 and watcher.clocks[0] >= first
    assert record.params_sha256 == simulate(network_job(tmp_path / "never", "sequential", 1, epochs=20)).params_sha256
