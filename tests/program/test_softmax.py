"""Gradients and losses of multinomial regression against NumPy and scikit-learn, dense and sparse."""

import numpy as np
import pytest
import scipy.sparse
from scipy.special import softmax as reference_softmax
from sklearn.metrics import log_loss as reference_log_loss

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.errors import DataError
from trivium.program.softmax import Softmax

CLASSES = ("a", "b", "c")


def make(rows=151, kind="dense"):
    stream = np.random.default_rng(0)
    x = stream.normal(0, 1, (rows, 9)).astype(np.float32)
    x[np.abs(x) < 0.4] = 0
    y = stream.integers(0, 3, rows).astype(np.int32)
    weight = stream.integers(0, 3, rows).astype(np.float32)
    if kind == "dense":
        return Table({"x": x, "y": y, "weight": weight}, CLASSES), x.astype(float)
    m = scipy.sparse.csr_matrix(x)
    csr = Csr(m.indptr.astype(np.int64), m.indices.astype(np.int32), m.data, 9)
    return Table({"x": csr, "y": y, "weight": weight}, CLASSES), x.astype(float)


def fitted(table, rows, threads=1):
    program = Softmax().for_data(table.spec)
    a = program.init(0)
    a[:27] = np.sin(np.arange(27))
    views = program.layout.views(a)
    views["b"][:] = (0.1, -0.2, 0.3)
    return program, program.kernel(threads, rows, reproducible=threads == 1), a, views["W"].astype(float), views["b"]


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("picked", [False, True])
def test_gradient_and_loss(kind, picked):
    table, x = make(kind=kind)
    program, kernel, a, W, b = fitted(table, 151)
    rows = np.array([3, 3, 150, 0, 9]) if picked else np.arange(151)
    batch = Batch(table, index=rows) if picked else Batch(table, 0, 151)
    out = program.layout.empty()
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    y, weight = table.columns["y"][rows], table.columns["weight"][rows].astype(float)
    p = reference_softmax(x[rows] @ W + b, axis=1)
    r = weight[:, None] * (p - np.eye(3)[y])
    views = program.layout.views(out)
    assert views["W"] == pytest.approx(x[rows].T @ r, abs=2e-5)
    assert views["b"] == pytest.approx(r.sum(axis=0), abs=2e-5)
    expected = (len(rows), weight.sum(), -(weight * np.log(p[np.arange(len(rows)), y])).sum())
    assert stats == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_evaluation_and_prediction_agree_with_scikit_learn(kind):
    table, x = make(kind=kind)
    _, kernel, a, W, b = fitted(table, 64)
    ready = kernel.read(Batch(table, 0, 151))
    p, sums = kernel.predict(a, ready), kernel.evaluate(a, ready)
    y, weight = table.columns["y"], table.columns["weight"]
    assert p == pytest.approx(reference_softmax(x @ W + b, axis=1), abs=1e-6)
    reference = reference_log_loss(y, reference_softmax(x @ W + b, axis=1), sample_weight=weight, labels=range(3))
    assert sums[2] / sums[1] == pytest.approx(reference, rel=1e-5)
    assert sums[3] == weight[p.argmax(axis=1) == y].sum()


def test_threads_share_sparse_rows():
    table, _ = make(4001, "sparse")
    program, one, a, _, _ = fitted(table, 4001)
    two = program.kernel(2, 4001, reproducible=False)
    out1, out2, ready = program.layout.empty(), program.layout.empty(), one.read(Batch(table, 0, 4001))
    assert two.delta(a, ready, out2, 0) == pytest.approx(one.delta(a, ready, out1, 0), rel=1e-12)
    assert out2 == pytest.approx(out1, rel=1e-9, abs=1e-9)
    assert two.evaluate(a, ready) == pytest.approx(one.evaluate(a, ready), rel=1e-12)


def test_one_class_is_refused():
    table, _ = make()
    with pytest.raises(DataError, match="one class, a; softmax needs two"):
        Softmax().for_data(Table(table.columns, ("a",)).spec)
