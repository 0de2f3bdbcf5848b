"""Deaths of real processes on nodes that share nothing: a program that counts must come out exact."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.watching import Watcher, alive, ended, holdings, until
from trivium.errors import LostError
from trivium.running.session import begin, resume
from trivium.runtime.seats import group_of
from trivium.testing.tally import counters, miscounted, tally_job

pytestmark = pytest.mark.slow
RULES = ["bsp", "ssp:3"]
EPOCHS = 30


def strike(job, act, begun=20):
    """Run ``job`` with ``act(live)`` done once a clock after ``begun`` is there; the record. Nothing may be left."""
    before, watcher = holdings(), Watcher(begun)
    live = begin(job, watcher)
    assert watcher.middle.wait(60.0), "the run never came to its middle"
    pids = live.pids
    act(live, pids)
    pids |= live.pids
    record = ended(live)
    assert until(lambda: not any(map(alive, pids.values())), 5.0), "a process is left"
    assert until(lambda: not any(group_of(pid) for name, pid in pids.items() if name.startswith("server")), 5.0)
    assert until(lambda: holdings()["maps"] <= before["maps"], 5.0), "memory is left"
    return record


def kill(name):
    return lambda _live, pids: os.kill(pids[name], signal.SIGKILL)


def kill_group(name):
    return lambda _live, pids: os.killpg(pids[name], signal.SIGKILL)


def told(record, text):
    return any(text in notice for notice in record.notices)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("act", "words"),
    [
        (kill("worker 1"), "worker 1 died (SIGKILL)"),
        (kill("server 0"), "other copies take over"),
        (kill("server 1"), "its node's 2 workers went with it"),
        (kill_group("server 0"), "server 0 died (SIGKILL)"),
    ],
)
def test_nothing_is_lost_and_nothing_applied_twice(rule, act, words, tmp_path):
    record = strike(tally_job(tmp_path / "run", rule, epochs=EPOCHS), act)
    assert told(record, words), record.notices
    assert miscounted(counters(tmp_path / "run"), EPOCHS) == ""
    assert record.clocks == 12 * EPOCHS


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["server 1", "worker 2"])
def test_who_is_stopped_beyond_patience_is_fenced(rule, name, tmp_path):
    job = tally_job(tmp_path / "run", rule, epochs=EPOCHS, patience=1.0)
    record = strike(job, lambda _live, pids: os.kill(pids[name], signal.SIGSTOP))
    assert told(record, f"{name} gave no sign of life"), record.notices
    assert miscounted(counters(tmp_path / "run"), EPOCHS) == ""


@pytest.mark.parametrize("rule", RULES)
def test_who_is_stopped_for_a_while_goes_on(rule, tmp_path):
    job = tally_job(tmp_path / "run", rule, epochs=EPOCHS, inject=("stop:node1@clock30+1s",))
    record = strike(job, lambda _live, _pids: None)
    assert told(record, "injected: stop node 1") and not told(record, "died"), record.notices
    assert miscounted(counters(tmp_path / "run"), EPOCHS) == ""


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("seconds", "patience", "dies"), [(1, 10.0, False), (8, 1.0, True)])
def test_a_partition(rule, seconds, patience, dies, tmp_path):
    plan = {"patience": patience, "inject": (f"partition:node1@clock30+{seconds}s",)}
    record = strike(tally_job(tmp_path / "run", rule, epochs=EPOCHS, **plan), lambda _live, _pids: None)
    assert told(record, "injected: partition node 1")
    assert told(record, "server 1 died (killed: silent for") == dies, record.notices
    assert miscounted(counters(tmp_path / "run"), EPOCHS) == ""


@pytest.mark.parametrize("rule", RULES)
def test_a_driver_that_is_killed_is_gone_on_from(rule, tmp_path):
    run, script = tmp_path / "run", Path(__file__).with_name("tally_script.py")
    first = subprocess.Popen([sys.executable, str(script), str(run), rule], stdout=subprocess.PIPE, text=True)
    try:
        pids = [int(word) for word in first.stdout.readline().split()]
        assert len(pids) == 6, "it did not begin"
        first.kill()
    finally:
        first.kill()
        first.wait(10.0)
        first.stdout.close()
    watcher = Watcher()
    record = ended(resume(run, watcher, tally_job(run, rule)))
    assert not any(map(alive, pids)), "the run before is still there"
    assert watcher.clocks[0] > 0, "it began anew"
    assert miscounted(counters(run), 20) == ""
    assert record.clocks == 12 * 20


def test_the_last_node_that_holds_a_shard_ends_the_run_with_a_word(tmp_path):
    job = tally_job(tmp_path / "run", "bsp", epochs=EPOCHS, copies=1)
    with pytest.raises(LostError, match="no copy is left of"):
        strike(job, kill("server 1"))


def test_what_is_injected_on_the_command_line_strikes_once_and_is_told(tmp_path):
    faults = ("kill:node1@clock30", "slow:worker0:x3", "delay:2ms", "slowdisk:server0:0.1s")
    record = strike(tally_job(tmp_path / "run", "ssp:3", epochs=EPOCHS, inject=faults), lambda _live, _pids: None)
    assert sum("injected: kill node 1 at clock" in one for one in record.notices) == 1, record.notices
    assert told(record, "server 1 died (SIGKILL)")
    assert miscounted(counters(tmp_path / "run"), EPOCHS) == ""


def test_what_never_struck_is_told(tmp_path):
    job = tally_job(tmp_path / "run", "ssp:3", epochs=4, inject=("kill:node1@clock4000",))
    record = ended(begin(job, Watcher()))
    assert told(record, "never injected: kill:node1@clock4000"), record.notices
    assert miscounted(counters(tmp_path / "run"), 4) == ""
