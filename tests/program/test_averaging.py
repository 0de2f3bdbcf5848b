"""Averaging of models against the summed gradient, and against local steps written out."""

import numpy as np
import pytest

from trivium.data.batches import Batch
from trivium.data.table import Table
from trivium.errors import PlanError
from trivium.program.averaging import Average, ModelAveraging
from trivium.program.least_squares import LeastSquares
from trivium.program.linear import Linear
from trivium.program.logistic import Logistic
from trivium.program.optimizers import optimizer
from trivium.program.optimizers.base import State, Step
from trivium.program.optimizers.schedules import Exponential

LR, L2 = 0.5, 0.1


@pytest.fixture
def table():
    stream = np.random.default_rng(0)
    x = stream.normal(0, 1, (64, 5)).astype(np.float32)
    return Table({"x": x, "y": (x[:, 0] > 0).astype(np.int32)}, ("n", "y"))


def gradient(program, a, batch):
    kernel, out = program.kernel(1, 64, True), program.layout.empty()
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    pull = a * np.array([1] * 5 + [0] * 11)
    return out / stats[1] + L2 * pull


def average(program, a, batches):
    kernel, total, weight = program.kernel(1, 64, True), program.layout.empty(), 0.0
    for batch in batches:
        out = program.layout.empty()
        stats = kernel.delta(a, kernel.read(batch), out, 0)
        total, weight = total + out, weight + stats[1]
    fresh, nothing = program.layout.empty(), np.zeros((0, 16))
    states = [State(np.zeros(8), nothing, nothing) for _ in range(2)]
    step = Step(0, weight, 0.0, 0.0, L2, program.layout.penalised())
    Average().update(a, total, states[0], np.zeros(0), step, fresh, states[1])
    return fresh


def test_one_local_step_in_equal_lanes_is_the_step_of_the_summed_gradient(table):
    logistic = Logistic().for_data(table.spec)
    program = ModelAveraging(Logistic(), optimizer("sgd", lr=LR), 1, l2=L2).for_data(table.spec)
    a = program.init(0)
    a[:5] = 0.3
    lanes = [Batch(table, 16 * i, 16 * i + 16) for i in range(4)]
    wanted = a - LR * gradient(logistic, a, Batch(table, 0, 64))
    assert average(program, a, lanes) == pytest.approx(wanted, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("picked", [False, True])
def test_local_steps_follow_the_parts_of_the_batch(table, picked):
    logistic = Logistic().for_data(table.spec)
    program = ModelAveraging(Logistic(), optimizer("sgd", lr=LR), 3, l2=L2).for_data(table.spec)
    index = np.arange(63)[::-1].copy()
    batch = Batch(table, index=index) if picked else Batch(table, 0, 63)
    kernel, a, out = program.kernel(1, 63, True), program.init(0), program.layout.empty()
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    wanted = a.copy()
    for h in range(3):
        part = Batch(table, index=index[21 * h : 21 * h + 21]) if picked else Batch(table, 21 * h, 21 * h + 21)
        wanted = wanted - LR * gradient(logistic, wanted, part)
    assert stats[:2] == (63, 63)
    assert out / 63 == pytest.approx(wanted, rel=1e-12, abs=1e-14)
    assert not a.any()


def test_each_round_starts_with_fresh_momenta(table):
    program = ModelAveraging(Logistic(), optimizer("adam", lr=0.1), 2).for_data(table.spec)
    kernel, a, out = program.kernel(1, 64, True), program.init(0), [program.layout.empty() for _ in range(2)]
    for one in out:
        kernel.delta(a, kernel.read(Batch(table, 0, 64)), one, 0)
    assert out[0].tobytes() == out[1].tobytes()
    assert np.abs(out[0][:5] / 64).max() == pytest.approx(0.2, rel=0.01)  # two steps of Adam move by at most 2·lr


def test_more_steps_than_rows_and_no_rows(table):
    program = ModelAveraging(Logistic(), optimizer("sgd", lr=LR), 8).for_data(table.spec)
    kernel, a, out = program.kernel(1, 8, True), program.init(0) + 1, program.layout.empty()
    assert kernel.delta(a, kernel.read(Batch(table, 0, 3)), out, 0)[:2] == (3, 3)
    assert not np.array_equal(out / 3, a)
    assert kernel.delta(a, kernel.read(Batch(table, 0, 0)), out, 0) == (0, 0, 0)
    assert not out.any()


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(PlanError, match="lbfgs"):
        ModelAveraging(Logistic(), optimizer("lbfgs"), 2)
    with pytest.raises(PlanError, match="needs the gradient of all rows"):
        ModelAveraging(LeastSquares(), LeastSquares().defaults.optimizer, 2)
    with pytest.raises(PlanError, match="at least one local step"):
        ModelAveraging(Logistic(), optimizer("sgd"), 0)
    with pytest.raises(PlanError, match="constant learning rate"):
        ModelAveraging(Logistic(), optimizer("sgd", lr=Exponential(0.1, 10, 0.5)), 2)


def test_what_it_predicts_is_what_the_program_does():
    assert ModelAveraging(Linear("hinge"), optimizer("sgd"), 2).output == "score"
