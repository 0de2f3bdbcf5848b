"""A run that ends in a way of its own, and runs beside each other: nobody waits for ever, and nobody is refused."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import trivium as tv
from trivium.errors import RunError
from trivium.face.fallback import HereLive, InProcess, warn
from trivium.running import session as sessions
from trivium.running.live import Live
from trivium.testing.records import a_record

X = np.random.default_rng(0).standard_normal((50, 3))


class Nobody:
    """An owner whose processes are never used."""

    def hold(self):
        pass

    def let_go(self):
        pass


class Leaving:
    """An observer that ends the interpreter at once, or would."""

    def __init__(self, error):
        self.error = error

    def stage(self, *_):
        raise self.error


def job(out):
    return tv.Job(tv.models.logistic(), tv.from_arrays(X, (X[:, 0] > 0).astype(int)), tv.Plan("sequential"), out)


ENDS = [SystemExit(3), KeyboardInterrupt()]


@pytest.fixture(params=["processes", "here"])
def start(request, tmp_path):
    """How to start a run whose observer raises."""
    if request.param == "processes":
        return lambda error: Live(Nobody(), job(tmp_path / "run"), Leaving(error))
    return lambda error: HereLive(job(tmp_path / "run"), Leaving(error), "a test")


@pytest.mark.parametrize("error", ENDS, ids=["exit", "interrupt"])
def test_whatever_ends_a_run_is_raised_to_who_waits_for_it(error, start):
    live = start(error)
    with pytest.raises(type(error)):
        live.wait(20.0)
    with pytest.raises(type(error)):
        live.result()


@pytest.mark.parametrize("kind", [Live, HereLive])
def test_a_run_that_is_over_with_nothing_to_show_is_an_error(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(Live, "_drive", lambda _: None)
    monkeypatch.setattr("trivium.face.fallback.run_here", lambda *_: None)
    live = kind(Nobody(), job(tmp_path / "a"), None) if kind is Live else kind(job(tmp_path / "a"), None, "a test")
    with pytest.raises(RunError, match="ended without a record or an error"):
        live.wait(20.0)


# -- beside each other -------------------------------------------------------------------------------------------------
@pytest.fixture
def implicit(monkeypatch):
    """No implicit session yet; none starts a process."""
    monkeypatch.setattr(sessions, "_implicit", [])
    return sessions._implicit


def test_threads_run_beside_each_other(implicit, monkeypatch):
    together = threading.Barrier(3, timeout=20.0)

    class Slow:
        def __init__(self, session, job, observer):
            session.hold()
            self.session = session

        def result(self):
            together.wait()
            self.session.let_go()
            return a_record()

    monkeypatch.setattr(sessions, "Live", Slow)
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            records = [one.result() for one in [pool.submit(sessions.run_beside, None) for _ in range(3)]]
        assert records == [a_record()] * 3
        assert len(implicit) == 3  # kept for the next ones


def test_threads_that_come_at_once_find_one_session(implicit, monkeypatch):
    made = []

    class Slow(sessions.Session):
        def __init__(self):
            time.sleep(0.05)
            super().__init__()
            made.append(self)

    monkeypatch.setattr(sessions, "Session", Slow)
    with ThreadPoolExecutor(4) as pool:
        found = {id(one.result()) for one in [pool.submit(sessions.default) for _ in range(4)]}
    assert len(made) == len(found) == 1


# -- what is not as it was asked for -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (tv.Plan("ps", workers=2), "by one thread, instead of by design 'ps'"),
        (tv.Plan("sequential", cores=(0, 1)), "by one thread, instead of by design 'sequential' with 2 threads"),
        (tv.Plan("sequential", threads=2), ""),
        (tv.Plan("sequential", cores=(0,)), ""),
    ],
)
def test_a_plan_that_is_not_carried_out_is_told_once(plan, said, monkeypatch, recwarn):
    monkeypatch.setattr("trivium.face.fallback._warned", set())
    for _ in range(2):
        warn("here", plan)
    told = [str(one.message) for one in recwarn if one.category is InProcess]
    assert told == ([f"here: trained in it, {said}"] if said else [])
