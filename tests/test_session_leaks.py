"""A run leaves nothing behind, here or in the warm processes, whether it ended well or not; and it says so clearly."""

import json
import logging
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.watching import Watcher, _digits, ended, holdings, network_job, strike, until, wide_job
from trivium.data.table import Table
from trivium.errors import PlanError, ProgramError, RunError, StorageError, UsageError
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.program.program import Program
from trivium.record import KINDS
from trivium.running.job import Job
from trivium.running.session import Session, run, yardstick
from trivium.testing.troubled import Gate, Raising, Troubled

pytestmark = pytest.mark.slow
log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[1]


def seen(session, job):
    """What this process and each of the warm ones hold after ``job``."""
    record = session.run(job)
    seats = session.pool(xla=job.program.xla)._idle
    assert until(lambda: not any(holdings(seat.pid)["maps"] for seat in seats)), "a run's memory is still held"
    return record, {"here": holdings(), **{seat.pid: holdings(seat.pid) for seat in seats}}


def own_job(out, design, workers):
    """A program of a person's own functions."""
    program = Program.from_loss(own_start, own_loss, optimizer("sgd", lr=0.1), batch_size=64)
    return Job(program, _digits[0], Plan(design, workers=workers), out, stopping=Stopping(max_iter=10))


def own_start(_key):
    return {"w": np.zeros((64, 10), np.float32)}


def own_loss(params, batch, _key):
    import jax

    logits = jax.nn.log_softmax(batch["x"] @ params["w"])
    return -jax.numpy.take_along_axis(logits, batch["y"][:, None], axis=1).mean(), {}


def averaging_job(out, design, workers):
    """Models are averaged instead of gradients summed."""
    job = network_job(out, design, workers)
    return replace(job, plan=replace(job.plan, combine="model", every=4))


def softmax_job(out, design, workers):
    """Dense rows, by XLA and L-BFGS."""
    return Job(model("softmax"), _digits[0], Plan(design, workers=workers), out, stopping=Stopping(max_iter=5))


@pytest.mark.parametrize("job", [wide_job, network_job, own_job, averaging_job, softmax_job])
def test_five_warm_runs_hold_no_more_than_two(job, tmp_path):
    with Session() as session:
        first = [seen(session, job(tmp_path / f"{i}", "ps", 2))[1] for i in range(2)][-1]
        began = time.perf_counter()
        last = [seen(session, job(tmp_path / f"{i}", "ps", 2))[1] for i in range(2, 5)][-1]
        milliseconds = (time.perf_counter() - began) / 3 * 1e3
        log.info("a warm %s takes %.0f ms", job.__name__, milliseconds)
        assert len(last) == 4, "the same three processes served all runs"
        assert last == first
        assert last["here"]["maps"] == 0
    assert not [child for child in psutil.Process().children() if child.pid in last]


def test_a_sequential_run_of_many_threads_leaves_none(tmp_path):
    with Session() as session:
        job = replace(
            wide_job(tmp_path / "run", "sequential", 1), plan=Plan("sequential", threads=3, reproducible=True)
        )
        (first, held), (_, later) = seen(session, job), seen(session, replace(job, out=tmp_path / "again"))
        assert first.threads == 3
        assert later == held


def failing(kind, out):
    """A job that fails in its own way, and how."""
    job = wide_job(out, "ps", 2)
    if kind == "raises at the start":
        return replace(job, program=Troubled(job.program, Raising(1))), ProgramError, "ValueError: this program fails"
    if kind == "raises in the middle":
        return replace(job, program=Troubled(job.program, Raising(30))), ProgramError, "ValueError: this program fails"
    if kind == "diverges":
        steep = replace(network_job(out, "ps", 2), optimizer=optimizer("sgd", lr=1e12))
        return steep, RunError, r"^diverged: the valid loss is (nan|inf) after clock 5; start anew .*columns$"
    if kind == "too large a model":
        width = 10**7
        table = Table({"x": np.zeros((16, 1), np.float32), "y": np.zeros(16, np.int32)}, tuple(map(float, range(10))))
        job = Job(model(f"mlp:{width},{width}"), table, Plan("ps", workers=2), out, batch_size=8)
        return job, StorageError, r"needs [\d,]+ bytes, and [\d,]+ are available|MiB free; checkpoints and model"
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["raises at the start", "raises in the middle", "diverges", "too large a model"])
def test_a_run_that_fails_says_why_once_and_leaves_nothing(kind, warm, tmp_path):
    for before in (wide_job(tmp_path / "before", "ps", 2), network_job(tmp_path / "xla", "ps", 1)):
        warm.run(before)
    before = holdings()
    job, error, words = failing(kind, tmp_path / "run")
    watcher = Watcher()
    with pytest.raises(error, match=words) as caught:
        ended(warm.begin(job, watcher))
    if error is ProgramError:
        assert "in strike" in caught.value.traceback and "troubled.py" in caught.value.traceback
        assert (tmp_path / "run" / "events.jsonl").read_text().count("this program fails") == 1
    elif error is RunError:
        assert not (tmp_path / "run" / "model.safetensors").exists()
    else:
        assert not (tmp_path / "run").exists()
    del caught
    after = holdings()
    assert after["fds"] <= before["fds"] and after["maps"] <= before["maps"], (before, after)
    assert after["threads"] <= before["threads"] + 1, "the one that begins to prepare other workers may have begun"
    assert warm.run(wide_job(tmp_path / "after", "ps", 2)).stopped_by == "max_iter"


def test_a_directory_that_holds_something(warm, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and nothing is overwritten"):
        warm.run(wide_job(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_directory_that_cannot_be_made(warm, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the run directory"):
        warm.run(wide_job(tmp_path / "file" / "run"))


def test_a_directory_that_goes_away_in_the_middle(warm, tmp_path):
    def act(live):
        (tmp_path / "run" / "checkpoints").write_text("a file where a folder must be")
        live.stop("stopped")

    with pytest.raises(StorageError, match="cannot write"):
        strike(warm, wide_job(tmp_path / "run", "ps", 2), act)


def test_one_run_at_a_time_in_a_session(warm, tmp_path):
    job, gate, watcher = wide_job(tmp_path / "run"), Gate(tmp_path / "gate", 12), Watcher()
    with gate.shut():
        live = warm.begin(replace(job, program=Troubled(job.program, gate)), watcher)
        assert watcher.middle.wait(60.0)
        with pytest.raises(UsageError, match="this session has a run going on"):
            warm.begin(wide_job(tmp_path / "second"))
    assert ended(live).stopped_by == "max_iter"
    assert not (tmp_path / "second").exists()
    assert warm.run(wide_job(tmp_path / "third")).stopped_by == "max_iter"


def test_a_plan_that_cannot_be_is_refused_before_anything_starts(warm, tmp_path):
    with pytest.raises(PlanError, match="lanes=500 but only"):
        warm.begin(replace(wide_job(tmp_path / "run"), plan=Plan("ps", workers=2, lanes=500)))
    assert not (tmp_path / "run").exists()


def test_time_is_accounted_for(warm, tmp_path):
    warm.run(network_job(tmp_path / "first", "ps", 2))
    began = time.perf_counter()
    record = warm.run(network_job(tmp_path / "run", "ps", 2, epochs=20))
    wall = time.perf_counter() - began
    for one in record.processes:
        assert set(one.seconds) == set(KINDS)
        assert sum(one.seconds.values()) == pytest.approx(one.wall, rel=1e-9)
        assert 0.5 * wall < one.wall < wall
        assert sum(one.waited_for.values()) <= one.seconds["wait"] * 1.02 + 1e-3
    assert sum(record.breakdown.values()) == pytest.approx(1.0)
    parts = record.seconds + record.startup_seconds + record.compile_seconds + record.load_seconds
    assert parts + record.evaluate_seconds < wall * 1.02
    assert min(record.seconds, record.evaluate_seconds) > 0 and record.startup_seconds >= 0
    shown = json.loads((tmp_path / "run" / "spans.json").read_text())["processes"]
    assert {one["name"] for one in shown} == {"worker 0", "worker 1", "server 0"}
    assert shown[0]["seconds"] == pytest.approx(record.processes[0].seconds)


def test_memory_is_counted_once(warm, tmp_path):
    record = warm.run(wide_job(tmp_path / "run", "ps", 2))
    largest = max(one.peak_rss_bytes for one in record.processes)
    assert 1 << 20 < largest < 1 << 30
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    data = 240 * 9000 * 4
    assert data < record.peak_rss_bytes < sum(one.peak_rss_bytes for one in record.processes) + mine + 8 * data


# -- where a run may be started from ----------------------------------------------------------------------------------
def test_from_a_thread(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(wide_job(tmp_path / "run"))))
    thread.start()
    thread.join(60.0)
    assert found[0].stopped_by == "max_iter"


DAEMON = """
import multiprocessing as mp, sys
from pathlib import Path
from tests.watching import _digits, wide_job
from trivium.running.session import run

def child(out):
    print(run(wide_job(out)).params_sha256, flush=True)

if __name__ == "__main__":
    out = Path(sys.argv[1])
    print(run(wide_job(out / "a")).params_sha256, flush=True)
    process = mp.get_context("fork").Process(target=child, args=(out / "b",), daemon=True)
    process.start()
    process.join(60.0)
    print(process.exitcode, flush=True)
    print(run(wide_job(out / "c")).params_sha256, flush=True)
"""


def test_from_a_daemonic_fork_of_a_process_that_trains(tmp_path):
    asked = [sys.executable, "-c", DAEMON, str(tmp_path)]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=100.0, check=True)
    first, forked, code, last = done.stdout.split()
    assert first == forked == last and code == "0"


XLA = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
print(float(jnp.ones(3).sum()), len(jax.devices()))
from tests.watching import _digits, network_job
from trivium.running.session import run
print(run(network_job(Path(sys.argv[1]) / "a", "sequential", 1)).params_sha256)
"""


def test_from_a_process_that_has_an_xla_client(warm, tmp_path):
    asked = [sys.executable, "-c", XLA, str(tmp_path)]
    done = subprocess.run(
        asked,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100.0,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    here = warm.run(network_job(tmp_path / "b", "ps", 2))
    assert done.stdout.split()[-1] == here.params_sha256


def test_the_yardstick_leaves_nothing(tmp_path):
    job = network_job(tmp_path / "run")
    assert yardstick(job, 1, 0.1) > 0
    assert not (tmp_path / "run").exists()
