"""What a run's record says of waiting, staleness and links, where it ran on real processes."""

import numpy as np
import pytest

import trivium as tv
from trivium.observe.html import page
from trivium.observe.rundir import read_run
from trivium.record import KINDS, ProcessTimes
from trivium.running.telling import _lags, _staleness, _whom


def test_waiting_is_split_by_who_was_missing_and_by_whose_word_ended_it():
    assert _whom({}, {}) == {}
    assert _whom({"server 0": 3.0}, {"worker 1": 1.0, "worker 2": 0.0}) == {"worker 1": 1.0, "server 0": 2.0}
    assert _whom({"server 0": 1.0, "driver": 0.2}, {"worker 1": 3.0, "worker 2": 1.0}) == {
        "worker 1": 0.75,  # rows were read ahead meanwhile: no more than was waited
        "worker 2": 0.25,
        "driver": 0.2,
    }


def test_staleness_is_counted_over_all_workers():
    times = [
        ProcessTimes(f"worker {i}", 1.0, dict.fromkeys(KINDS, 0.0), lags=lags)
        for i, lags in enumerate([(3, 0, 1, 0), (1, 2)])
    ]
    assert _lags([*times, ProcessTimes("server 0", 1.0, {})]) == (4, 2, 1)
    assert _staleness((4, 2, 1)) == {"max": 2.0, "mean": pytest.approx(4 / 7)}
    assert _staleness(()) == {"max": 0.0, "mean": 0.0}


def rows(count=1024, width=200):
    draw = np.random.default_rng(5)
    x = draw.standard_normal((count, width)).astype(np.float32)
    return tv.from_arrays(x, (x[:, 0] > 0).astype(int))


def train(tmp_path, plan, model="logistic", **more):
    settings = {"valid": 0, "epochs": 4, "batch_size": 64, "optimizer": "sgd", "lr": 0.1, "progress": False}
    return tv.train(model, rows(), plan=plan, out=tmp_path / "run", **settings, **more)


@pytest.mark.slow
def test_a_straggler_is_who_was_waited_for(tmp_path):
    plan = tv.Plan("ps", workers=3, consistency="ssp:2", balance=False, inject=("slow:worker1:x10",))
    record = train(tmp_path, plan, "mlp:64").record
    assert sum(record.lags) == record.clocks * record.lanes
    assert record.staleness["max"] == 2.0 == len(record.lags) - 1
    assert 0.0 < record.staleness["mean"] <= 2.0
    others = [one for one in record.processes if one.name in ("worker 0", "worker 2")]
    for one in others:
        workers = {name: seconds for name, seconds in one.waited_for.items() if name.startswith("worker")}
        assert max(workers, key=lambda name: workers[name]) == "worker 1"
        assert sum(one.waited_for.values()) <= 1.05 * one.seconds["wait"] + 0.05
    assert record.carried is None and record.nodes == 1
    again = read_run(tmp_path / "run")
    assert again.record == record
    assert "Who waited for whom" in page(again) and "How stale reads were" in page(again)


@pytest.mark.slow
def test_a_backup_tells_what_it_did_without(tmp_path):
    plan = tv.Plan("ps", workers=3, consistency="backup:2", balance=False, inject=("slow:worker1:x20",))
    run = train(tmp_path, plan, "mlp:64")
    assert run.record.dropped > 0
    assert "deltas came too late and were dropped" in run.summary()


@pytest.mark.slow
def test_two_nodes_tell_what_went_between_them_and_what_that_cost(tmp_path):
    run = train(tmp_path, tv.Plan("ps", workers=2, nodes=2, filters="int8"), "mlp:64")
    record, carried = run.record, run.record.carried
    assert record.nodes == 2 and carried.filters == "int8"
    assert set(carried.sent) == set(carried.plain) == {"Delta", "Copy"}
    parameters = 64 * 201 + 2 * 65
    for kind in carried.sent:
        assert carried.plain[kind] >= record.clocks * parameters * 4
        assert carried.sent[kind] < 0.3 * carried.plain[kind]
    assert carried.nbytes > sum(carried.sent.values())
    assert 0.0 < carried.link_seconds < carried.cpu_seconds
    assert "between nodes" in run.summary() and "after int8" in run.summary()
    again = read_run(tmp_path / "run")
    assert again.record == record
    assert "What went between nodes" in page(again)
