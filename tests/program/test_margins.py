"""Gradients and curvatures against differences, and Newton's method against SciPy's minimisers."""

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from scipy.sparse import csr_array

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.errors import PlanError
from trivium.learn.running import Task, carry_out
from trivium.program.kernels.blas import held
from trivium.program.margin_losses import LOSSES, SIGNED, loss_of
from trivium.program.margins import Margins
from trivium.program.optimizers.newton import Newton

STREAM = np.random.default_rng(0)
X = STREAM.standard_normal((40, 4))
WEIGHT = STREAM.uniform(0.2, 2.0, 40)
CODES = STREAM.integers(0, 3, 40).astype(np.int32)
SIGNS = np.where(CODES[:, None] == np.arange(3), 1.0, -1.0)
SMOOTH = ["squared_error", "log_loss", "smooth_hinge", "squared_hinge", "huber", "softmax", "crammer_singer"]
KINKED = sorted(LOSSES.keys() - set(SMOOTH))


def table(loss, sparse=False):
    y = CODES if loss in ("softmax", "crammer_singer") else SIGNS
    rows = csr_array(X) if sparse else None
    x = X if rows is None else Csr(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data, 4)
    return Table({"x": x, "y": y, "weight": WEIGHT})


def sums(loss, a, curved=True, sparse=False):
    rows = table(loss, sparse)
    program = Margins(loss, 3, width=0.7, constant=2.0, curved=curved).for_data(rows.spec)
    kernel, out = program.kernel(1, 40, False), program.delta_layout.empty()
    flat = program.layout.pack({"W": a[:12].reshape(4, 3), "b": a[12:]})
    _, weight, value = kernel.delta(flat, kernel.read(Batch(rows, 0, 40)), out, 0)
    assert weight == pytest.approx(WEIGHT.sum())
    views = program.delta_layout.views(out)
    return value, np.concatenate([views["W"].ravel(), views["b"]]), views.get("H"), program.place


def test_threads_of_blas_are_held_while_it_computes_and_looks_and_given_back():
    rows = Table({"x": STREAM.standard_normal((5000, 100)), "y": STREAM.standard_normal((5000, 2))})
    program = Margins("squared_error", 2).for_data(rows.spec)
    kernel, a = program.kernel(8, 5000, True), program.layout.empty()
    ready, outputs, before, during = kernel.read(Batch(rows, 0, 5000)), kernel._outputs, held().now(), []
    kernel._outputs = lambda *given: (during.append(held().now()), outputs(*given))[1]
    for look in (
        lambda: kernel.delta(a, ready, program.delta_layout.empty(), 0),
        lambda: kernel.evaluate(a, ready),
        lambda: kernel.predict(a, ready),
    ):
        during.clear()
        look()
        assert during == [[1] * len(before)] * 2
        assert held().now() == before


@pytest.mark.parametrize("loss", SMOOTH + KINKED)
def test_gradient(loss):
    at = STREAM.standard_normal(15)
    assert check_grad(lambda a: sums(loss, a)[0], lambda a: sums(loss, a)[1], at) < 1e-4


@pytest.mark.parametrize("loss", SMOOTH)
def test_curvature_is_the_change_of_the_gradient(loss):
    at, step = STREAM.standard_normal(15), 1e-6
    _, before, h, place = sums(loss, at)
    move = STREAM.standard_normal(15)
    change = (sums(loss, at + step * move)[1] - before) / step
    rows = np.hstack([move[:12].reshape(4, 3).T, move[12:, None]])  # by output, the intercept last
    if place.kind == "joint":
        expected = (h[0] @ rows.ravel()).reshape(3, 5)
    else:
        expected = np.stack([h[k % len(h)] @ rows[k] for k in range(3)])
    found = np.hstack([change[:12].reshape(4, 3).T, change[12:, None]])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loss", ["log_loss", "softmax"])
def test_sparse_rows_are_summed_alike(loss):
    at = STREAM.standard_normal(15)
    for dense, sparse in zip(sums(loss, at)[:3], sums(loss, at, sparse=True)[:3], strict=True):
        np.testing.assert_allclose(sparse, dense, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge", "softmax"])
def test_newton_ends_where_scipy_does(loss):
    rows = table(loss)
    program = Margins(loss, 3, curved=True).for_data(rows.spec)
    found = carry_out(Task(program, rows, Newton(program.place, tol=1e-10), l2=0.1), None)
    total = WEIGHT.sum()

    def objective(a):
        program = Margins(loss, 3).for_data(rows.spec)
        kernel, out = program.kernel(1, 40, False), program.delta_layout.empty()
        flat = program.layout.pack({"W": a[:12].reshape(4, 3), "b": a[12:]})
        value = kernel.delta(flat, kernel.read(Batch(rows, 0, 40)), out, 0)[2]
        views = program.layout.views(out)
        gradient = np.concatenate([views["W"].ravel() / total + 0.1 * a[:12], views["b"] / total])
        return value / total + 0.05 * (a[:12] @ a[:12]), gradient

    best = minimize(objective, np.zeros(15), jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 0}).x
    np.testing.assert_allclose(found.views["W"].ravel(), best[:12], atol=1e-6)
    np.testing.assert_allclose(found.views["b"], best[12:], atol=1e-6)
    assert found.record.clocks < 20


def test_bounds_and_l1_meet_the_conditions_of_the_least_value():
    rows = Table({"x": X, "y": X @ [[1.0], [-2.0], [0.1], [0.0]]})
    program = Margins("squared_error", constant=0.0, curved=True).for_data(rows.spec)
    newton = Newton(program.place, tol=0.0, quadratic=True, positive=True)
    w = carry_out(Task(program, rows, newton, l1=0.05), None).views["W"]
    slope = X.T @ (X @ w - rows.columns["y"]) / 40 + 0.05
    assert (w >= 0).all()
    assert (w == 0).any()
    np.testing.assert_allclose(slope[w > 0], 0.0, atol=1e-9)
    assert (slope[w == 0] >= -1e-9).all()


def test_unknown_loss_and_signed_ones():
    with pytest.raises(PlanError, match="hinge"):
        loss_of("hinges")
    assert set(SIGNED) < set(LOSSES)
