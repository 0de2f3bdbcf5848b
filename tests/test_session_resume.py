"""A run that is stopped or orphaned leaves a checkpoint and no process; resumed, it ends in the same bits."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.watching import Watcher, alive, ended, network_job, until, wide_job
from trivium.data.read import read
from trivium.errors import UsageError
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.running.job import Job
from trivium.running.remembering import remembered_job
from trivium.running.session import load_params, resume
from trivium.testing.simulating import simulate
from trivium.testing.troubled import Gate, Troubled

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def stopped(session, job, after, gate):
    """``job`` stopped while its processes wait before call ``after``."""
    watcher = Watcher()
    with gate.shut():
        live = session.begin(replace(job, program=Troubled(job.program, gate)), watcher)
        assert watcher.middle.wait(60.0)
        live.stop("interrupted")
    return ended(live)


def patient_job(out, **plan):
    """Stops by patience at an epoch that was not the best, whose parameters are kept."""
    job = network_job(out, "ps", 2, shards=2, **plan)
    return replace(job, stopping=Stopping(epochs=40, patience=3), optimizer=replace(job.optimizer, lr=0.05))


@pytest.mark.parametrize("after", [6, 40, 120])
def test_stopped_and_resumed_is_as_never_stopped(after, warm, tmp_path):
    job = patient_job(tmp_path / "run")
    whole = simulate(patient_job(tmp_path / "never"))
    assert whole.stopped_by == "patience"
    half = stopped(warm, job, after, Gate(tmp_path / "gate", after))
    assert half.stopped_by == "interrupted" and half.clocks < whole.clocks
    assert half.params_sha256 != whole.params_sha256
    record = ended(resume(tmp_path / "run", job=job))
    assert record.params_sha256 == whole.params_sha256
    assert (record.stopped_by, record.clocks) == ("patience", whole.clocks)
    assert record.best_clock is not None and record.best_clock < record.clocks
    loaded, digest = load_params(tmp_path / "run"), hashlib.sha256()
    for one in job.program.for_data(job.data.spec).layout.slices:
        digest.update(loaded[one.name].tobytes())
    assert digest.hexdigest() == record.params_sha256


def test_a_stop_saves_and_ends_while_gradients_go_on(warm, tmp_path):
    job, gate, watcher = network_job(tmp_path / "run", epochs=40), Gate(tmp_path / "gate", 40), Watcher()
    with gate.shut():
        live = warm.begin(replace(job, program=Troubled(job.program, gate)), watcher)
        assert watcher.middle.wait(60.0)
        live.stop("interrupted")
        record = live.wait(10.0)
    assert record is not None and record.stopped_by == "interrupted"
    assert ended(resume(tmp_path / "run", job=job)).stopped_by == "epochs"


def test_a_line_search_resumed_twice_by_other_numbers_of_workers(warm, tmp_path):
    job = wide_job(tmp_path / "run", "allreduce", 2, shards=3)
    first = stopped(warm, job, 12, Gate(tmp_path / "gate", 12))
    again = replace(job, plan=replace(job.plan, workers=3), program=Troubled(job.program, Gate(tmp_path / "gate2", 25)))
    watcher = Watcher(begun=first.clocks)
    with again.program.trouble.shut():
        live = resume(tmp_path / "run", watcher, again)
        assert watcher.middle.wait(60.0)
        live.stop("interrupted")
    half = ended(live)
    assert half.stopped_by == "interrupted" and half.clocks > first.clocks
    last = ended(resume(tmp_path / "run", job=replace(job, plan=replace(job.plan, workers=1))))
    assert last.params_sha256 == simulate(job).params_sha256
    terms = [json.loads(line)["term"] for line in (tmp_path / "run" / "terms.jsonl").read_text().splitlines()]
    assert terms == sorted(set(terms)), "a term was used twice"


def test_frequent_checkpoints_do_not_change_bits(warm, tmp_path):
    record = warm.run(network_job(tmp_path / "run", "ps", 2, epochs=40, shards=2, checkpoint_every=0.02))
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved[-1] == f"{record.clocks:010d}"
    terms = (tmp_path / "run" / "terms.jsonl").read_text().count('"why":"checkpoint"')
    assert terms >= 1
    assert record.params_sha256 == simulate(network_job(tmp_path / "never", "sequential", 1, epochs=40)).params_sha256


def test_nothing_to_resume(tmp_path):
    with pytest.raises(UsageError, match="has no checkpoint to go on from"):
        resume(tmp_path)


@pytest.fixture(scope="module")
def begun(warm, tmp_path_factory):
    """A run on rows of a file, with a checkpoint, and all that was read."""
    folder = tmp_path_factory.mktemp("begun")
    for name, shift in (("train", 0), ("valid", 1), ("test", 2)):
        rows = (f"{(i + shift) % 2} 1:{i} 2:{i * i % 7}" for i in range(1, 60))
        (folder / f"{name}.libsvm").write_text("\n".join(rows) + "\n")
    sources = {name: str(folder / f"{name}.libsvm") for name in ("train", "valid", "test")}
    fit = {"features": 2, "classes": (0, 1)}
    job = Job(
        model("logistic"),
        read(sources["train"]),
        Plan(),
        folder / "run",
        valid=read(sources["valid"], **fit),
        test=read(sources["test"], **fit),
        stopping=Stopping(max_iter=2),
        sources={"model": "logistic"},
    )
    warm.run(job)
    return folder


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_rows_that_are_not_those_of_the_start_are_refused(begun, name):
    path = begun / f"{name}.libsvm"
    before = path.read_text()
    path.write_text(before.replace("2:1", "2:3", 1))
    try:
        with pytest.raises(UsageError, match=rf"{name}.libsvm is not what .*run was started on \(fingerprint of the"):
            resume(begun / "run")
    finally:
        path.write_text(before)


def test_a_job_with_other_tables_is_refused(begun):
    job = remembered_job(begun / "run")
    with pytest.raises(UsageError, match="was started with test data; resume it likewise"):
        resume(begun / "run", job=replace(job, test=None))


@pytest.mark.parametrize("name", ["plan.json", "data.json"])
@pytest.mark.parametrize("content", ["", "{}", "[1", "[]", None])
def test_a_damaged_description_is_said(begun, name, content):
    path = begun / "run" / name
    before = path.read_text()
    try:
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(UsageError, match=rf"{name} cannot be read \(.+\); bring the file back"):
            resume(begun / "run")
    finally:
        path.write_text(before)


# -- the process that started the run dies ----------------------------------------------------------------------------
def script(run, mode, design="ps", workers=2):
    return subprocess.Popen(
        [sys.executable, "tests/orphan_script.py", str(run), mode, design, str(workers)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def whole_digest(tmp_path_factory):
    """What the script ends in when nobody disturbs it."""
    with script(tmp_path_factory.mktemp("whole") / "run", "end") as process:
        out, err = process.communicate("", timeout=90.0)
    assert process.returncode == 0, err
    return out.split()[-1]


@pytest.mark.parametrize(("design", "workers", "count"), [("ps", 2, 3), ("allreduce", 1, 1), ("sequential", 1, 1)])
def test_the_parent_is_killed_and_its_orphans_save_and_go(design, workers, count, tmp_path, whole_digest):
    with script(tmp_path / "run", "hang", design, workers) as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        zygotes = children_of(process.pid)
        assert len(pids) == count and zygotes and all(map(alive, pids + zygotes))
        process.kill()
        began = time.monotonic()
        assert until(lambda: not any(map(alive, pids + zygotes)), 2.0 + 2.0), "orphans are left"
        assert time.monotonic() - began < 4.0
    assert list((tmp_path / "run" / "checkpoints").glob("*/shard-0.safetensors"))
    run = str(tmp_path / "run")
    go_on = f"from trivium.running.session import resume; print(resume({run!r}).result().params_sha256)"
    asked = [sys.executable, "-c", go_on]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=90.0, check=True)
    assert done.stdout.split()[-1] == whole_digest
    looked = [json.loads(line)["clock"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert looked == sorted(set(looked)), "an evaluation is told twice"


def test_interrupted_at_the_keyboard(tmp_path):
    with script(tmp_path / "run", "wait") as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        zygotes = children_of(process.pid)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate("", timeout=30.0)
        assert time.monotonic() - began < 8.0
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in err
    assert not any(map(alive, pids + zygotes))
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["stopped_by"] == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / f"{record['clocks']:010d}" / "manifest.json").exists()
