"""Which error a run that failed raises."""

import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tests.watching import wide_job
from trivium.core.role import Stop
from trivium.data.read import read
from trivium.errors import LostError, ProgramError, RunError, StoppedError, StorageError, UsageError
from trivium.plan import Plan, Stopping
from trivium.program.models import logistic
from trivium.program.optimizers import optimizer
from trivium.program.program import Program
from trivium.running.ending import failure
from trivium.running.job import Job


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("program", ProgramError),
        ("storage", StorageError),
        ("lost", LostError),
        ("stopped", StoppedError),
        ("run", RunError),
    ],
)
def test_the_kind_decides_and_not_the_words(kind, error):
    words = "worker 0: OSError: cannot write, no space, silent, it alone held the parameters"
    made = failure(Stop("failed", words, 1, "", kind), "; a hint")
    assert type(made) is error
    assert str(made).startswith(words)


def test_a_failure_of_the_program_carries_its_traceback():
    made = failure(Stop("failed", "worker 0: ValueError: no", 1, "Traceback …", "program"))
    assert isinstance(made, ProgramError)
    assert made.traceback == "Traceback …"


@pytest.mark.slow
def test_a_program_that_cannot_be_sent_leaves_no_directory(warm, tmp_path):
    lock = threading.Lock()

    def loss(params, batch, _key):
        with lock:
            return (batch["x"] @ params["w"]).mean(), {}

    program = Program.from_loss(lambda _key: {"w": np.zeros(64, np.float32)}, loss, optimizer("sgd"))
    job = Job(program, read("sklearn:digits"), Plan("ps", workers=2), tmp_path / "run", stopping=Stopping(max_iter=2))
    with pytest.raises(ProgramError, match=r"cannot be sent to the workers: .*lock.*; keep locks, files"):
        warm.run(job)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_disk_too_small_is_said_before_anything_starts(warm, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"0\.0 MiB free; checkpoints and model of this run take up to \d\.\d MiB"):
        warm.run(wide_job(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"program": logistic}, "program is the function logistic itself"),
        ({"program": "logistic"}, "program is str 'logistic', expected Program: tv.models.logistic"),
        ({"data": ([[1.0]], [0])}, r"data is tuple .*, expected Table: tv.read"),
        ({"plan": "ps"}, "plan is str 'ps', expected Plan"),
    ],
)
def test_what_is_no_job_is_said_at_once(tmp_path, changes, words):
    given = {"program": logistic(), "data": read("sklearn:digits"), "plan": Plan(), "out": str(tmp_path / "run")}
    assert Job(**given).out == tmp_path / "run"
    with pytest.raises(UsageError, match=words):
        Job(**given | changes)
