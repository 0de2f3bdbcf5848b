"""Runs in this process: the bits of a run on processes, what is started from, and that nothing is left behind."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize

from tests.watching import Watcher, holdings, network_job, uneven_job, wide_job
from trivium.core.membership import Driver
from trivium.core.pacing import Agenda
from trivium.data.table import Table
from trivium.errors import PlanError, ProgramError, RunError, UsageError
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.record import KINDS
from trivium.running.inline import alone, run_inline
from trivium.running.job import Job, prepare
from trivium.running.staffing import DRIVER, RETRY
from trivium.testing.replay import replay
from trivium.testing.simulating import simulate
from trivium.testing.troubled import Raising, Troubled

JOBS = {"wide": wide_job, "network": network_job, "uneven": uneven_job}
ADAM = optimizer("adam")


def small(rows=200, **more):
    draw = np.random.default_rng(3)
    x = draw.standard_normal((rows, 5))
    y = (x @ [1.0, -2.0, 0.5, 0.0, 0.0] + draw.standard_normal(rows) > 0).astype(np.int32)
    return Job(model("logistic"), Table({"x": x, "y": y}, (0.0, 1.0)), Plan("sequential", threads=1), **more)


@pytest.mark.parametrize("name", JOBS)
def test_it_has_the_bits_of_the_simulation(name, tmp_path):
    job = JOBS[name](tmp_path / "never", "sequential", 1)
    finished = run_inline(job)
    assert finished.record.params_sha256 == simulate(job).params_sha256
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("reproducible", [True, False])
def test_it_has_the_bits_of_a_process(name, reproducible, warm, tmp_path):
    job = JOBS[name](tmp_path / "run", "sequential", 1, threads=1)
    job = replace(job, plan=replace(job.plan, reproducible=reproducible))
    there, here = warm.run(job), run_inline(replace(job, out=None)).record
    assert here.params_sha256 == there.params_sha256
    assert (here.clocks, here.stopped_by, here.loss) == (there.clocks, there.stopped_by, there.loss)
    assert here.history == there.history


def test_logistic_regression_comes_to_the_optimum_of_scipy():
    job = small(l2=0.01, stopping=Stopping(tol=1e-9))
    x, s = job.data.columns["x"], 2.0 * job.data.columns["y"] - 1

    def objective(p):
        return np.logaddexp(0, -s * (x @ p[:5] + p[5])).mean() + 0.005 * p[:5] @ p[:5]

    best = scipy.optimize.minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
    finished = run_inline(job)
    assert finished.record.objective == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(finished.views["w"], best.x[:5], atol=1e-5)
    assert finished.record.run == "" and finished.record.stopped_by == "converged"


def test_the_kinds_of_time_sum_to_the_wall_time_of_the_worker():
    (one,) = run_inline(small(optimizer=ADAM, stopping=Stopping(epochs=20))).record.processes
    assert set(one.seconds) == set(KINDS)
    assert sum(one.seconds.values()) == pytest.approx(one.wall)
    assert one.seconds["compute"] > 0 and one.seconds["apply"] > 0


def test_any_plan_is_trained_as_by_one_process():
    job = small(l2=0.01)
    bits = run_inline(job).record.params_sha256
    for plan in (Plan("ps", workers=2), Plan("allreduce", workers=3, shards=2)):
        record = run_inline(replace(job, plan=plan)).record
        assert (record.design, record.workers, record.threads) == ("sequential", 1, 1)
        assert record.params_sha256 == bits
    assert alone(Plan("ps", workers=2, reproducible=True, lanes=4)).lanes == 4
    relaxed = Plan(
        "ps", workers=2, nodes=2, copies=2, consistency="asp", filters="int8", bandwidth="1Gbit", balance=True
    )
    assert alone(replace(relaxed, inject=("slow:each:x4",))).consistency == "bsp"


# -- where it starts from ----------------------------------------------------------------------------------------------
def test_a_run_that_starts_from_parameters_begins_there():
    first = run_inline(small(l2=0.01, stopping=Stopping(tol=1e-9)))
    again = run_inline(small(l2=0.01, stopping=Stopping(tol=1e-6), start=first.views))
    assert again.record.clocks <= 2
    np.testing.assert_allclose(again.params, first.params, atol=1e-6)
    assert run_inline(small(l2=0.01, start=first.saved, stopping=Stopping(max_iter=1))).record.clocks <= 2


def test_steps_one_by_one_with_the_state_of_the_last_are_those_of_one_run():
    whole = run_inline(small(optimizer=ADAM, batch_size="full", stopping=Stopping(max_iter=7)))
    saved = None
    for _ in range(7):
        step = run_inline(small(optimizer=ADAM, batch_size="full", stopping=Stopping(max_iter=1), start=saved))
        saved = step.saved
    assert saved["clock"] == 7
    assert step.record.params_sha256 == whole.record.params_sha256


def test_a_start_that_does_not_fit_is_refused():
    fitting = run_inline(small(stopping=Stopping(max_iter=1))).views
    with pytest.raises(UsageError, match="unknown parameter 'v'"):
        run_inline(small(start={**fitting, "v": fitting["w"]}))
    with pytest.raises(UsageError, match="lacks the parameter 'b'"):
        run_inline(small(start={"w": fitting["w"]}))
    with pytest.raises(UsageError, match=r"start\['w'\] has shape \(3,\), expected \(5,\)"):
        run_inline(small(start={**fitting, "w": np.zeros(3)}))
    saved = run_inline(small(optimizer=ADAM, stopping=Stopping(max_iter=1))).saved
    with pytest.raises(UsageError, match="2 vectors of state; logistic with sgd has"):
        run_inline(small(optimizer=optimizer("sgd", lr=0.1), start=saved))
    with pytest.raises(PlanError, match="lbfgs starts anew"):
        run_inline(small(start=saved))


@pytest.mark.slow
def test_processes_start_from_the_same_place(warm, tmp_path):
    first = run_inline(network_job(None, "sequential", 1, epochs=1))
    for name, start in (("views", first.views), ("saved", first.saved)):
        job = network_job(tmp_path / name, "ps", 2, epochs=1, shards=2)
        there = warm.run(replace(job, start=start))
        assert there.params_sha256 == run_inline(replace(job, start=start)).record.params_sha256


# -- how it ends -------------------------------------------------------------------------------------------------------
def test_an_error_of_the_person_is_the_cause_of_ours():
    job = small()
    with pytest.raises(ProgramError, match="worker 0: ") as caught:
        run_inline(replace(job, program=Troubled(job.program, Raising(3))))
    assert caught.value.__cause__ is not None


def test_a_run_that_diverges_ends_with_one_error():
    job = small(valid=0.2, stopping=Stopping(epochs=5))
    with pytest.raises(RunError, match="diverged: the valid loss is"):
        run_inline(replace(job, optimizer=optimizer("sgd", lr=1e300)))


class Interrupting(Watcher):
    """Ctrl-C while the run goes on."""

    def progress(self, progress):
        raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing():
    before = holdings()
    job = small(optimizer=ADAM, stopping=Stopping(epochs=1_000_000))
    with pytest.raises(KeyboardInterrupt):
        run_inline(job, Interrupting())
    assert holdings() == before
    assert run_inline(small(stopping=Stopping(max_iter=3))).record.clocks >= 3


def test_max_time_and_wishes_end_a_run():
    endless = small(optimizer=ADAM, stopping=Stopping(epochs=1_000_000, max_time=0.05))
    assert run_inline(endless).record.stopped_by == "max_time"
    record = run_inline(replace(endless, stopping=Stopping(epochs=1_000_000)), wishes=["enough"]).record
    assert record.stopped_by == "enough"


def test_an_observer_hears_of_stages_and_steps():
    class Hears(Watcher):
        stages = ()

        def stage(self, name, seconds=None):
            self.stages += ((name, seconds is None),)

    heard = Hears()
    run_inline(small(optimizer=ADAM, stopping=Stopping(epochs=1_000_000, max_time=0.5)), heard)
    assert [name for name, begins in heard.stages if begins] == ["start", "train", "save"]
    assert len(heard.clocks) >= 2 and heard.clocks == sorted(heard.clocks)


def test_it_runs_in_a_thread_beside_another():
    found = []

    def work():
        found.append(run_inline(network_job(None, "sequential", 1)).record.params_sha256)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(100)
    assert len(found) == 2 and len(set(found)) == 1


def test_its_trace_replays_to_the_same_commands():
    trace = []
    job = network_job(None, "sequential", 1)
    record = run_inline(job, trace=trace).record
    prepared = prepare(replace(job, plan=alone(job.plan)))
    (member,), staffing = prepared.staffing.members, prepared.staffing
    driver = Driver(
        DRIVER,
        staffing.roster,
        lanes=job.plan.lanes,
        shards=1,
        agenda=Agenda(prepared.pace),
        retry=RETRY,
        patience=job.plan.patience,
        names=staffing.names,
    )
    assert replay(trace, {DRIVER: driver, member.address: member.make_role()}) == len(trace) > 3 * record.clocks
