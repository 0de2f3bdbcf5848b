"""Factorization machines: against the sum over pairs written out, finite differences, and real data."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_svmlight_file
from sklearn.metrics import log_loss

from tests.conftest import SHARED
from trivium.data.batches import Batch
from trivium.data.table import Csr, DataSpec, Table
from trivium.errors import DataError, PlanError
from trivium.plan import Plan
from trivium.program.fm import FM
from trivium.running.inline import run_inline
from trivium.running.job import Job

ROWS, FEATURES, FACTORS = 60, 9, 3


def table_of(kind, form="dense", dtype="float64"):
    stream = np.random.default_rng(2)
    x = stream.normal(size=(ROWS, FEATURES)) * (stream.random((ROWS, FEATURES)) < 0.6)
    weight = stream.integers(0, 3, ROWS).astype(np.float32)
    y = stream.integers(0, 2, ROWS).astype(np.int32) if kind == "classes" else stream.normal(size=ROWS)
    if form == "pixels":
        x = stream.integers(0, 256, (ROWS, FEATURES)).astype(np.uint8)
        return Table({"x": x, "y": y, "weight": weight}, ("a", "b") if kind == "classes" else (), 1 / 255)
    if form == "sparse":
        csr = scipy.sparse.csr_matrix(x)
        x = Csr(csr.indptr.astype(np.int64), csr.indices, csr.data.astype(dtype), FEATURES)
    else:
        x = x.astype(dtype)
    return Table({"x": x, "y": y, "weight": weight}, ("a", "b") if kind == "classes" else ())


def plain(table):
    x = table.columns["x"]
    if isinstance(x, Csr):
        return scipy.sparse.csr_matrix((x.values, x.indices, x.indptr), shape=(ROWS, FEATURES)).toarray().astype(float)
    return x * float(table.scale)


def by_pairs(views, x):
    """The definition: every pair of features."""
    found = views["b"][0] + x @ views["w"]
    for i in range(FEATURES):
        for j in range(i + 1, FEATURES):
            found = found + x[:, i] * x[:, j] * (views["V"][i] @ views["V"][j])
    return found


def made(table, dtype="float64"):
    program = FM(FACTORS, dtype=dtype, spread=0.4).for_data(table.spec)
    a = program.init(1)
    views = program.layout.views(a)
    views["b"][:], views["w"][:] = 0.3, np.random.default_rng(0).normal(size=FEATURES)
    return program, a, {name: view.astype(float) for name, view in views.items()}


@pytest.mark.parametrize("kind", ["classes", "values"])
@pytest.mark.parametrize("form", ["dense", "sparse", "pixels"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_margins_loss_and_gradient(kind, form, dtype):
    table = table_of(kind, form, dtype)
    program, a, views = made(table, dtype)
    rel = 1e-10 if dtype == "float64" else 1e-5
    kernel, pick = program.kernel(2, 10, False), np.array([5, 5, 59, 0, 33])
    for batch, rows in ((Batch(table, 0, ROWS), np.arange(ROWS)), (Batch(table, index=pick), pick)):
        x, y, weight = plain(table)[rows], table.columns["y"][rows], table.columns["weight"][rows].astype(float)
        ready, margins = kernel.read(batch), by_pairs(views, x)
        sums, answers = kernel.evaluate(a, ready), kernel.predict(a, ready)
        if kind == "classes":
            p = 1 / (1 + np.exp(-margins))
            assert answers == pytest.approx(np.stack([1 - p, p], 1), rel=rel, abs=rel)
            loss = weight.sum() * log_loss(y, p, sample_weight=weight, labels=[0, 1])
            assert sums[3] == weight[(margins > 0) == (y > 0)].sum()
        else:
            assert answers == pytest.approx(margins, rel=rel, abs=rel)
            loss = 0.5 * (weight * (margins - y) ** 2).sum()
            assert np.isnan(sums[3])
        assert sums[:3] == pytest.approx([len(rows), weight.sum(), loss], rel=rel)
        out = program.layout.empty()
        assert kernel.delta(a, ready, out, 0) == pytest.approx(sums[:3], rel=rel)
        r = weight * ((p - y) if kind == "classes" else (margins - y))
        q = x @ views["V"]
        wanted = {"b": r.sum(), "w": x.T @ r, "V": x.T @ (r[:, None] * q) - (x.T**2 @ r)[:, None] * views["V"]}
        for name, view in program.layout.views(out).items():
            assert view == pytest.approx(wanted[name], rel=rel, abs=rel * 10), name


def test_gradient_by_differences():
    table = table_of("classes", "sparse")
    program, a, _ = made(table)
    kernel, out = program.kernel(1, ROWS, True), program.layout.empty()
    ready = kernel.read(Batch(table, 0, ROWS))
    kernel.delta(a, ready, out, 0)
    direction = 1e-5 * np.random.default_rng(4).normal(size=len(a))
    rise = kernel.evaluate(a + direction, ready)[2] - kernel.evaluate(a - direction, ready)[2]
    assert rise == pytest.approx(2 * float(direction @ out), rel=1e-6)


def test_threads_change_no_more_than_the_last_bits():
    table = table_of("classes", "sparse")
    many = table.rows(np.random.default_rng(0).integers(0, ROWS, 5000))
    program, a, _ = made(many)
    found = []
    for threads in (1, 2):
        out, kernel = program.layout.empty(), program.kernel(threads, 5000, False)
        stats = kernel.delta(a, kernel.read(Batch(many, 0, 5000)), out, 0)
        found.append((*stats, *out))
    assert found[0] == pytest.approx(found[1], rel=1e-10, abs=1e-10)


def test_a_row_that_weighs_nothing_may_hold_anything():
    table = table_of("values")
    x, weight = table.columns["x"].copy(), table.columns["weight"].copy()
    x[3], weight[3] = np.inf, 0
    program, a, _ = made(table)
    kernel, out = program.kernel(1, ROWS, False), program.layout.empty()
    ready = kernel.read(Batch(replace(table, columns={**table.columns, "x": x, "weight": weight}), 0, ROWS))
    assert np.isfinite(kernel.delta(a, ready, out, 0)).all()
    assert np.isfinite(out).all()


def test_bad_options_and_data_are_refused():
    spec = table_of("classes").spec
    with pytest.raises(PlanError, match="factors=0"):
        FM(0)
    with pytest.raises(PlanError, match="never move"):
        FM(2, spread=0.0)
    with pytest.raises(PlanError, match="for_data"):
        _ = FM(2).layout
    with pytest.raises(DataError, match="3 classes; fm:2 separates two"):
        FM(2).for_data(replace(spec, classes=("a", "b", "c")))
    with pytest.raises(DataError, match="no labels"):
        FM(2).for_data(DataSpec(5, 2, False, (), {"x": ("float32", (2,))}))


@pytest.mark.data
def test_it_beats_the_logistic_model_on_the_census(tmp_path):
    def read(name):
        x, y = load_svmlight_file(str(SHARED / "libsvm" / name), n_features=123)
        csr = Csr(x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data, 123)
        return Table({"x": csr, "y": (y > 0).astype(np.int32)}, (-1.0, 1.0))

    job = Job(FM(8), read("a9a"), Plan("sequential", threads=1), tmp_path / "run", test=read("a9a.t"))
    record = run_inline(job).record
    assert record.test_accuracy >= 0.8498  # of logistic regression
    assert record.test_loss < 0.3241
