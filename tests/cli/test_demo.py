import os
import subprocess
import sys
from dataclasses import replace

import pytest

from trivium.cli import main
from trivium.cli.demo import Killer, table, verdict_of
from trivium.testing.records import a_moment, a_record


@pytest.fixture
def records():
    return [
        a_record(design="sequential", workers=1, threads=2, samples_per_second=4000.0, seconds=2.0, loss=0.05),
        a_record(design="allreduce", samples_per_second=1000.0, seconds=8.0, loss=0.04),
    ]


def test_the_table_has_a_line_a_run(records):
    head, _, first, second = table(records).splitlines()
    assert head.startswith("model, data")
    assert "sequential 1×2" in first
    assert "4.00k rows/s" in first
    assert "allreduce 2" in second
    assert "94.0 %" in second


def test_the_verdict_is_honest(records):
    text = verdict_of(records)
    assert "allreduce 0.25×; two processes do not pay" in text
    assert "Losses agree within 0.01" in text
    assert "allreduce paid" in verdict_of([records[0], replace(records[1], samples_per_second=9000.0)])


def test_a_loss_that_was_not_reached_is_no_time_to_it(records):
    assert "not reached" in table([replace(records[0], stopped_by="epochs")])
    assert "2.0 s" in table([replace(records[0], stopped_by="target_loss")])


def test_a_narrow_terminal_gets_fewer_columns(records):
    for width in (80, 100, 130):
        assert all(len(line) <= width for line in table(records, width).splitlines())
    assert "load+idle" in table(records, 130)
    assert "load+idle" not in table(records, 80)


def test_the_killer_kills_once_and_for_real():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    killer = Killer(clock=10)
    killer.live = type("Live", (), {"pids": {"driver": os.getpid(), "worker-0": os.getpid(), "worker-1": child.pid}})
    killer.progress(a_moment(clock=9))
    assert killer.killed is None
    killer.progress(a_moment(clock=10))
    killer.progress(a_moment(clock=11))
    assert killer.killed == child.pid
    assert child.wait(timeout=10) == -9


def test_a_demo_whose_worker_lived_says_so_and_fails(session, capsys):
    session.record = replace(session.record, design="sequential")
    assert main(["demo"]) == 1
    told = capsys.readouterr()
    assert told.out.count("killed no worker of") == 2
    raced = [job.plan for job in session.jobs if not job.plan.reproducible]
    threads = [plan.threads for plan in raced if plan.design == "sequential"]
    assert len(raced) == 2 * 2 * (2 + len(set(threads))) and 1 in threads
    assert list(dict.fromkeys(plan.design for plan in raced)) == ["sequential", "allreduce", "ps"]
    assert len(session.jobs) == len(raced) + 4
