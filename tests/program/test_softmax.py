"""Gradients and losses of multinomial regression against NumPy and scikit-learn, dense and sparse."""

import sys

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import approx_fprime
from scipy.special import softmax as reference_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_log_loss

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.errors import DataError, PlanError
from trivium.program.kernels import blas
from trivium.program.optimizers import optimizer
from trivium.program.optimizers.minimize import minimize
from trivium.program.softmax import Softmax

CLASSES = ("a", "b", "c")
KINDS = ["float64", "float32", "uint8", "csr"]


def make(rows=151, kind="float32", weighted=True):
    draw = np.random.default_rng(0)
    x = draw.normal(0, 1, (rows, 9)).astype(np.float64 if kind == "float64" else np.float32)
    x[np.abs(x) < 0.4] = 0
    if kind == "uint8":
        x = draw.integers(0, 256, (rows, 9)).astype(np.uint8)
    columns = {"x": x, "y": draw.integers(0, 3, rows).astype(np.int32)}
    if weighted:
        columns["weight"] = draw.integers(0, 3, rows).astype(np.float32)
    scale = 1 / 255 if kind == "uint8" else 1.0
    if kind == "csr":
        m = scipy.sparse.csr_matrix(x)
        columns["x"] = Csr(m.indptr.astype(np.int64), m.indices.astype(np.int32), m.data, 9)
    return Table(columns, CLASSES, scale), x.astype(float) * scale


def fitted(table, rows, threads=1, intercept=True, dtype=None, reproducible=False):
    program = Softmax(intercept, dtype).for_data(table.spec)
    a = program.init(0)
    views = program.layout.views(a)
    views["W"][:] = np.sin(np.arange(27)).reshape(9, 3)
    if intercept:
        views["b"][:] = (0.1, -0.2, 0.3)
    b = views["b"].astype(float) if intercept else np.zeros(3)
    return program, program.kernel(threads, rows, reproducible=reproducible), a, views["W"].astype(float), b


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reproducible", [False, True])
def test_gradient_and_loss(kind, picked, weighted, intercept, dtype, reproducible):
    table, x = make(kind=kind, weighted=weighted)
    program, kernel, a, W, b = fitted(table, 151, 1, intercept, dtype, reproducible)
    rows = np.array([3, 3, 150, 0, 9]) if picked else np.arange(151)
    batch = Batch(table, index=rows) if picked else Batch(table, 0, 151)
    out = program.layout.empty()
    out[:] = np.nan
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    y, weight = table.columns["y"][rows], table.columns.get("weight", np.ones(151)).astype(float)[rows]
    p = reference_softmax(x[rows] @ W + b, axis=1)
    r = weight[:, None] * (p - np.eye(3)[y])
    views, close = program.layout.views(out), 1e-9 if dtype == "float64" else 2e-4
    assert views["W"] == pytest.approx(x[rows].T @ r, abs=close)
    assert ("b" in views) == intercept
    if intercept:
        assert views["b"] == pytest.approx(r.sum(axis=0), abs=close)
    expected = (len(rows), weight.sum(), -(weight * np.log(p[np.arange(len(rows)), y])).sum())
    assert stats == pytest.approx(expected, rel=1e-9 if dtype == "float64" else 1e-5)
    assert not np.isnan(out).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reproducible", [False, True])
def test_evaluation_and_prediction_agree_with_scikit_learn(kind, reproducible):
    table, x = make(kind=kind)
    _, kernel, a, W, b = fitted(table, 64, reproducible=reproducible)
    ready = kernel.read(Batch(table, 0, 151))
    p, sums = kernel.predict(a, ready), kernel.evaluate(a, ready)
    y, weight = table.columns["y"], table.columns["weight"]
    assert p == pytest.approx(reference_softmax(x @ W + b, axis=1), abs=1e-9)
    reference = reference_log_loss(y, reference_softmax(x @ W + b, axis=1), sample_weight=weight, labels=range(3))
    assert sums[2] / sums[1] == pytest.approx(reference, rel=1e-9)
    assert sums[3] == weight[p.argmax(axis=1) == y].sum()


def test_gradient_is_that_of_the_loss():
    table, _ = make(40, "float64")
    program, kernel, a, _, _ = fitted(table, 40)
    ready, out = kernel.read(Batch(table, 0, 40)), program.layout.empty()
    slope = approx_fprime(a, lambda at: kernel.delta(at, ready, program.layout.empty(), 0)[2], 1e-7)
    kernel.delta(a, ready, out, 0)
    assert out == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("kind", ["float64", "csr"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_threads_share_the_rows(kind, dtype):
    table, _ = make(4001, kind)
    program, one, a, _, _ = fitted(table, 4001, dtype=dtype)
    two = program.kernel(2, 4001, reproducible=False)
    out1, out2, ready = program.layout.empty(), program.layout.empty(), one.read(Batch(table, 0, 4001))
    close = 1e-9 if dtype == "float64" else 2e-5
    assert two.delta(a, ready, out2, 0) == pytest.approx(one.delta(a, ready, out1, 0), rel=close)
    assert out2 == pytest.approx(out1, rel=close, abs=4001 * close)
    assert two.evaluate(a, ready) == pytest.approx(one.evaluate(a, ready), rel=close)


@pytest.mark.parametrize("rows", [1, 7, 8, 255, 256, 257, 777])
def test_reproducible_bits_follow_from_the_rows_alone(rows):
    """Whether rows lie together or are picked, and where in memory: products of one shape have one order of sums."""
    table, _ = make(1000, "float64")
    program, kernel, a, _, _ = fitted(table, 777, reproducible=True)
    index = np.random.default_rng(4).permutation(1000)[:rows]
    first, again = program.layout.empty(), program.layout.empty()
    stats = kernel.delta(a, kernel.read(Batch(table, index=index)), first, 0)
    other = program.kernel(1, 777, reproducible=True)
    copied = table.rows(np.append(np.zeros(3, np.int64), index))
    assert other.delta(a.copy(), other.read(Batch(copied, 3, 3 + rows)), again, 0) == stats
    assert first.tobytes() == again.tobytes()


def test_extreme_and_undefined_logits():
    table, _ = make(16, "float64", weighted=False)
    program, kernel, a, _, _ = fitted(table, 16)
    out, views = program.layout.empty(), program.layout.views(a)
    views["W"][:] *= 1e5
    assert np.isfinite(kernel.delta(a, kernel.read(Batch(table, 0, 16)), out, 0)).all()
    assert np.isfinite(out).all()
    views["W"][0, 0] = np.nan
    assert np.isnan(kernel.delta(a, kernel.read(Batch(table, 0, 16)), out, 0)[2])


def wide():
    draw = np.random.default_rng(1)
    x, y = draw.normal(0, 1, (90, 900)), np.arange(90, dtype=np.int32) % 20
    return Table({"x": x, "y": y}, tuple(range(20))), x, y


def test_wide_layers_hold_blas_only_while_they_compute():
    table, x, y = wide()
    program = Softmax().for_data(table.spec)
    kernel, a, out = program.kernel(1, 90, False), program.init(0), program.layout.empty()
    a[:] = np.sin(np.arange(a.size)) * 0.1
    before, seen = blas.held().now(), []
    inner = kernel._share
    kernel._share = lambda *args: (seen.append(blas.held().now()), inner(*args))[1]
    kernel.delta(a, kernel.read(Batch(table, 0, 90)), out, 0)
    assert seen == [[1] * len(before)]
    assert blas.held().now() == before
    p = kernel.predict(a, kernel.read(Batch(table, 0, 90)))
    assert program.layout.views(out)["W"] == pytest.approx(x.T @ (p - np.eye(20)[y]), abs=1e-9)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_optimum_is_scikit_learns(intercept, dtype):
    digits = load_digits()
    x, y = digits.data[:600] / 16, digits.target[:600].astype(np.int32)
    table = Table({"x": x, "y": y}, tuple(range(10)))
    program = Softmax(intercept, dtype).for_data(table.spec)
    kernel, out = program.kernel(1, 600, False), program.layout.empty()
    ready = kernel.read(Batch(table, 0, 600))

    def function(a):
        _, weight, loss = kernel.delta(a, ready, out, 0)
        return weight, loss, out.copy()

    found = minimize(function, program.init(0), optimizer("lbfgs", tol=1e-7), l2=1 / 600, layout=program.layout)
    reference = LogisticRegression(fit_intercept=intercept, tol=1e-8, max_iter=5000).fit(x, y)
    views = program.layout.views(found.a)
    close, weights = 1e-4 if dtype == "float64" else 1e-2, views["W"].T
    assert weights == pytest.approx(reference.coef_, abs=close)
    assert kernel.predict(found.a, ready) == pytest.approx(reference.predict_proba(x), abs=close)


def test_what_is_refused():
    table, _ = make()
    with pytest.raises(DataError, match="one class, a; softmax needs two"):
        Softmax().for_data(Table(table.columns, ("a",)).spec)
    with pytest.raises(PlanError, match="float16"):
        Softmax(dtype="float16")
    with pytest.raises(PlanError, match="call for_data first"):
        _ = Softmax().layout


def test_no_jax_is_needed():
    import subprocess

    code = (
        "import sys, numpy as np; from trivium.data.batches import Batch; from trivium.data.table import Table\n"
        "from trivium.program.softmax import Softmax\n"
        "t = Table({'x': np.eye(3), 'y': np.arange(3, dtype=np.int32)}, (0, 1, 2)); p = Softmax().for_data(t.spec)\n"
        "k = p.kernel(1, 3, False); k.delta(p.init(0), k.read(Batch(t, 0, 3)), p.layout.empty(), 0)\n"
        "assert 'jax' not in sys.modules and not p.xla"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
