"""A session that trains nothing, so that the command line is tested alone and in milliseconds."""

import sys
import types
from dataclasses import dataclass, replace

import numpy as np
import pytest

import trivium.running
from trivium.data.read import part_of_test
from trivium.data.table import Table
from trivium.program.logistic import Logistic
from trivium.program.optimizers import optimizer
from trivium.program.program import Defaults
from trivium.runtime import early
from trivium.testing.records import a_moment, a_record


@dataclass(frozen=True)
class FakeMlp(Logistic):
    """A logistic regression with the name and defaults of a network."""

    @property
    def name(self):
        return "mlp:64"

    @property
    def defaults(self):
        return Defaults(optimizer("adam", lr=1e-3), 256, 50, None, valid=0.1, patience=3)


class FakeLive:
    """Ends after ``polls`` waits; a stop ends it at once unless it is deaf."""

    def __init__(self, session, record):
        self.session, self.record, self.polls = session, record, session.polls
        self.reasons, self.killed = [], False

    def wait(self, timeout=None):
        assert timeout is not None, "every wait has a bound"
        if self.session.during:
            self.session.during(self)
        if self.session.error:
            raise self.session.error
        if self.reasons and not self.session.deaf:
            return replace(self.record, stopped_by="interrupted")
        self.polls -= 1
        return self.record if self.polls < 0 else None

    def stop(self, reason):
        self.reasons.append(reason)

    def kill(self):
        self.killed = True


class FakeSession(types.ModuleType):
    """Remembers the job it was given."""

    def __init__(self):
        super().__init__("trivium.running.session")
        self.jobs, self.lives, self.yardsticks = [], [], []
        self.begun, self.trusts = [], []
        self.error = self.during = None
        self.deaf, self.polls, self.alone = False, 2, 1000.0
        self.record = a_record()
        session = self

        @dataclass(frozen=True)
        class Job:
            program: object
            data: object
            valid: object
            test: object
            plan: object
            stopping: object
            optimizer: object
            batch_size: object
            l1: object
            l2: object
            seed: object
            out: object
            sources: object = None

        self.Job = Job
        self.begin = lambda job, observer: session._begin(job, observer, job.out)
        self.resume = lambda path, observer, *, trust: session._resume(path, observer, trust)

    def _resume(self, path, observer, trust):
        self.trusts.append(trust)
        return self._begin(None, observer, path)

    def _begin(self, job, observer, out):
        self.jobs.append(job)
        observer.stage("start")
        observer.progress(a_moment(valid_loss=0.5))
        observer.notice("worker-1 died; its lanes moved")
        self.lives.append(FakeLive(self, replace(self.record, run=str(out))))
        return self.lives[-1]

    def yardstick(self, job, threads, seconds):
        self.yardsticks.append((threads, seconds))
        return self.alone


def fake_read(source, *, part="train", features=None, classes=None, **_):
    rows = 40 if part == "test" or "test" in str(source) else 100
    x = np.zeros((rows, features or 3), np.float32)
    y = (np.arange(rows) % 2).astype(np.int32)
    return Table({"x": x, "y": y}, classes or (0.0, 1.0), name=str(source))


@pytest.fixture
def session(monkeypatch, tmp_path):
    """The fake session; the working directory is empty."""
    fake = FakeSession()
    reader = types.ModuleType("trivium.data.read")
    reader.read, reader.part_of_test = fake_read, part_of_test
    models = types.ModuleType("trivium.program.models")
    models.model = lambda text: FakeMlp() if text.startswith("mlp") else Logistic()
    for name, module in (("running.session", fake), ("data.read", reader), ("program.models", models)):
        monkeypatch.setitem(sys.modules, f"trivium.{name}", module)
    monkeypatch.setattr(early, "begin", lambda *, xla: fake.begun.append(xla))
    monkeypatch.setattr(trivium.running, "session", fake, raising=False)
    monkeypatch.chdir(tmp_path)
    return fake
