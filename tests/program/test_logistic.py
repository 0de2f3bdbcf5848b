"""Gradients and losses of logistic regression against finite differences, NumPy and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import approx_fprime
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_log_loss

from trivium.data.batches import Batch
from trivium.data.sources.libsvm import read_libsvm
from trivium.data.table import Csr, DataSpec, Table
from trivium.errors import DataError, PlanError
from trivium.program.logistic import Logistic
from trivium.program.optimizers import optimizer
from trivium.program.optimizers.minimize import minimize

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

CLASSES = ("no", "yes")


def make(rows=203, features=7, dtype="float32", seed=0):
    stream = np.random.default_rng(seed)
    x = stream.normal(0, 1, (rows, features)).astype(dtype)
    y = (x[:, 0] + stream.normal(0, 1, rows) > 0).astype(np.int32)
    return Table({"x": x, "y": y}, CLASSES)


def sparse(table):
    x = scipy.sparse.csr_matrix(table.columns["x"] * (np.abs(table.columns["x"]) > 0.5))
    csr = Csr(x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data, x.shape[1])
    return Table({**table.columns, "x": csr}, CLASSES), Table({**table.columns, "x": x.toarray()}, CLASSES)


def fitted(table, dtype="float64", threads=1):
    program = Logistic(dtype=dtype).for_data(table.spec)
    a = program.init(0)
    a[: table.spec.features] = np.linspace(-1, 1, table.spec.features)
    a[program.layout.slices[1].start] = 0.3
    return program, program.kernel(threads, len(table), reproducible=threads == 1), a


def delta(kernel, a, batch, layout):
    out = layout.empty()
    out[:] = np.nan
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    return np.array(stats), out


def reference(table, a, features, rows=slice(None)):
    """Loss sum and gradient (w, b) by NumPy in float64."""
    x, y = table.columns["x"][rows].astype(np.float64) * table.scale, table.columns["y"][rows]
    weight = table.columns.get("weight", np.ones(len(table)))[rows]
    z = x @ a[:features] + a[-8]
    r = weight * (expit(z) - y)
    return (weight * np.logaddexp(0, np.where(y, -z, z))).sum(), np.append(x.T @ r, r.sum())


def check(table, a, features, stats, out, rows=slice(None), rel=1e-10):
    loss, gradient = reference(table, a, features, rows)
    assert stats[2] == pytest.approx(loss, rel=rel)
    assert np.append(out[:features], out[-8]) == pytest.approx(gradient, rel=rel, abs=rel * 100)
    assert not out[features:-8].any()
    assert not out[-7:].any()


@pytest.mark.parametrize("rows", [1, 3, 4, 203, 600])
def test_range_of_rows(rows):
    table = make(rows)
    program, kernel, a = fitted(table)
    stats, out = delta(kernel, a, Batch(table, 0, rows), program.layout)
    assert stats[:2].tolist() == [rows, rows]
    check(table, a, 7, stats, out)


def test_picked_rows():
    table, index = make(), np.array([5, 5, 200, 0, 17, 99, 3])
    program, kernel, a = fitted(table)
    stats, out = delta(kernel, a, Batch(table, index=index), program.layout)
    check(table, a, 7, stats, out, index)


def test_gradient_is_that_of_the_loss():
    table = make(40, 3, "float64")
    program, kernel, a = fitted(table)
    ready, scratch = kernel.read(Batch(table, 0, 40)), program.layout.empty()
    slope = approx_fprime(a, lambda at: kernel.delta(at, ready, scratch, 0)[2], 1e-7)
    _, out = delta(kernel, a, Batch(table, 0, 40), program.layout)
    assert out == pytest.approx(slope, abs=1e-4)


def test_weights_equal_repeated_rows():
    table = make()
    weight = np.random.default_rng(2).integers(0, 4, len(table)).astype(np.float32)
    program, kernel, a = fitted(table)
    repeated = np.repeat(np.arange(len(table)), weight.astype(int))
    weighed = Table({**table.columns, "weight": weight}, CLASSES)
    s1, out1 = delta(kernel, a, Batch(weighed, 0, len(table)), program.layout)
    s2, out2 = delta(kernel, a, Batch(table, index=repeated), program.layout)
    assert s1[0] == len(table)
    assert s1[1:] == pytest.approx(s2[1:], rel=1e-12)
    assert out1 == pytest.approx(out2, rel=1e-9, abs=1e-9)


def test_bytes_with_a_scale_equal_floats():
    x = np.random.default_rng(3).integers(0, 256, (50, 11)).astype(np.uint8)
    y = (np.arange(50) % 2).astype(np.int32)
    table = Table({"x": x, "y": y}, CLASSES, scale=1 / 255)
    program, kernel, a = fitted(table)
    stats, out = delta(kernel, a, Batch(table, 0, 50), program.layout)
    check(table, a, 11, stats, out)


def test_float32_parameters_lose_only_float32():
    table = make(1000)
    program, kernel, a = fitted(table, "float32")
    stats, out = delta(kernel, a, Batch(table, 0, 1000), program.layout)
    wide = np.zeros(16)
    wide[:7], wide[-8] = a[:7], a[16]
    loss, gradient = reference(table, wide, 7)
    assert stats[2] == pytest.approx(loss, rel=1e-6)
    assert np.append(out[:7], out[16]) == pytest.approx(gradient, rel=1e-4, abs=1e-3)


def test_sparse_equals_dense():
    csr, dense = sparse(make(300, 20))
    program, kernel, a = fitted(csr)
    for batch in (Batch(csr, 0, 300), Batch(csr, index=np.array([7, 7, 299, 0]))):
        stats, out = delta(kernel, a, batch, program.layout)
        check(dense, a, 20, stats, out, slice(None) if batch.index is None else batch.index)
    assert kernel.predict(a, kernel.read(Batch(csr, 0, 9))) == pytest.approx(
        fitted(dense)[1].predict(a, fitted(dense)[1].read(Batch(dense, 0, 9))), rel=1e-10
    )


def test_threads_share_the_rows():
    table = make(9001)
    program, kernel, a = fitted(table, threads=2)
    stats, out = delta(kernel, a, Batch(table, 0, 9001), program.layout)
    check(table, a, 7, stats, out, rel=1e-9)


def test_evaluation_and_prediction_agree_with_scikit_learn():
    table = make()
    _, kernel, a = fitted(table)
    ready = kernel.read(Batch(table, 0, len(table)))
    p, sums = kernel.predict(a, ready), kernel.evaluate(a, ready)
    z = table.columns["x"].astype(float) @ a[:7] + a[8]
    assert p[:, 1] == pytest.approx(expit(z), rel=1e-10)
    assert sums[2] / sums[1] == pytest.approx(reference_log_loss(table.columns["y"], p[:, 1]), rel=1e-10)
    assert sums[3] == (p.argmax(axis=1) == table.columns["y"]).sum()


def test_extreme_margins_give_no_overflow_and_infinite_ones_an_infinite_loss():
    table = make(16, 2, "float64")
    program, kernel, a = fitted(table)
    a[:2] = 1e6
    stats, out = delta(kernel, a, Batch(table, 0, 16), program.layout)
    assert np.isfinite(stats[2])
    assert np.isfinite(out).all()
    a[:2] = [1e308, 0]
    table.columns["x"][:, 0] *= 100
    stats, _ = delta(kernel, a, Batch(table, 0, 16), program.layout)
    assert stats[2] == np.inf


def test_bits_follow_from_rows_and_parameters_alone():
    table, index = make(5000, 54), np.random.default_rng(4).permutation(5000)[:777]
    program, kernel, a = fitted(table)
    _, first = delta(kernel, a, Batch(table, index=index), program.layout)
    again = program.kernel(1, 777, reproducible=True)
    for shift in range(0, 24, 8):
        out = np.zeros(program.layout.size + 64)[shift : shift + program.layout.size]
        again.delta(a.copy(), again.read(Batch(table.rows(index), 0, 777)), out, 0)
        assert out.tobytes() == first.tobytes()


def test_data_that_cannot_be_learned_from():
    columns = {"x": ("float32", (3,)), "y": ("int32", ())}
    with pytest.raises(DataError, match="one class, 1; logistic needs two"):
        Logistic().for_data(DataSpec(5, 3, False, ("1",), columns))
    with pytest.raises(DataError, match=r"3 classes.*softmax"):
        Logistic().for_data(DataSpec(5, 3, False, ("1", "2", "3"), columns))
    with pytest.raises(DataError, match="no labels"):
        Logistic().for_data(DataSpec(5, 3, False, (), {"x": columns["x"]}))
    with pytest.raises(DataError, match="numbers, not classes"):
        Logistic().for_data(DataSpec(5, 3, False, (), columns))
    with pytest.raises(DataError, match="no rows"):
        Logistic().for_data(DataSpec(0, 3, False, CLASSES, columns))
    with pytest.raises(DataError, match="no features"):
        Logistic().for_data(DataSpec(5, 0, False, CLASSES, {"y": columns["y"]}))
    with pytest.raises(DataError, match="int16"):
        Logistic().for_data(DataSpec(5, 3, False, CLASSES, {**columns, "x": ("int16", (3,))}))
    with pytest.raises(PlanError, match="float16"):
        Logistic(dtype="float16")


def test_rows_without_labels_can_only_be_predicted():
    table = make()
    _, kernel, a = fitted(table)
    ready = kernel.read(Batch(Table({"x": table.columns["x"]}), 0, 5))
    assert kernel.predict(a, ready).shape == (5, 2)
    with pytest.raises(DataError, match="no labels"):
        kernel.evaluate(a, ready)


def test_rows_of_the_other_kind_are_refused():
    csr, dense = sparse(make())
    _, kernel, _ = fitted(dense)
    with pytest.raises(DataError, match="rows are sparse"):
        kernel.read(Batch(csr, 0, 5))


def test_without_an_intercept_there_is_none():
    table = make()
    program = Logistic(intercept=False).for_data(table.spec)
    assert [one.name for one in program.layout.slices] == ["w"]
    a, out = program.init(0), program.layout.empty()
    a[:7] = np.linspace(-1, 1, 7)
    kernel = program.kernel(1, len(table), reproducible=False)
    stats = kernel.delta(a, kernel.read(Batch(table, 0, len(table))), out, 0)
    z = table.columns["x"].astype(float) @ a[:7]
    assert stats[2] == pytest.approx(np.logaddexp(0, np.where(table.columns["y"], -z, z)).sum(), rel=1e-10)
    assert out[:7] == pytest.approx(table.columns["x"].T.astype(float) @ (expit(z) - table.columns["y"]), rel=1e-9)


@pytest.mark.parametrize("l1", [0.0, 0.01])
@pytest.mark.parametrize("intercept", [False, True])
def test_optimum_is_scikit_learns(l1, intercept):
    table = make(400, 6, "float64")
    found = trained(table, Logistic(intercept), l1=l1, l2=0.0 if l1 else 1 / 400)
    options = {"C": 1 / (0.01 * 400), "l1_ratio": 1.0, "solver": "saga"} if l1 else {"C": 1.0}
    reference = LogisticRegression(fit_intercept=intercept, tol=1e-10, max_iter=100_000, **options)
    reference.fit(table.columns["x"], table.columns["y"])
    assert found["w"] == pytest.approx(reference.coef_[0], abs=1e-5)
    if intercept:
        assert found["b"][0] == pytest.approx(reference.intercept_[0], abs=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("name, objective", [("a9a", 10_528.5724), ("agaricus.txt.train", 98.4797)])
def test_objectives_of_known_data(name, objective):
    """Σ log loss + ½‖w‖² (C = 1, intercept free) at the optimum."""
    table = read_libsvm(SHARED / "libsvm" / name)
    layout = Logistic().for_data(table.spec).layout
    rows = len(table)
    found = trained(table, Logistic(), l2=1 / rows, tol=1e-9, ftol=0.0)
    kernel = Logistic().for_data(table.spec).kernel(1, rows, reproducible=True)
    loss = kernel.evaluate(layout.pack(found), kernel.read(Batch(table, 0, rows)))[2]
    assert loss + 0.5 * float(found["w"] @ found["w"]) == pytest.approx(objective, rel=1e-6)


def trained(table, program, l1=0.0, l2=0.0, tol=1e-9, **options):
    made = program.for_data(table.spec)
    kernel, out = made.kernel(1, len(table), reproducible=False), made.layout.empty()
    ready = kernel.read(Batch(table, 0, len(table)))

    def function(a):
        _, weight, loss = kernel.delta(a, ready, out, 0)
        return weight, loss, out.copy()

    f = optimizer("owlqn" if l1 else "lbfgs", tol=tol, precondition=table.spec.sparse, **options)
    result = minimize(function, made.init(0), f, l1, l2, made.layout, max_clocks=5000)
    return made.layout.views(result.a)
