"""Models on rows of a table: against scikit-learn, finite differences, and the dense models on the same data."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.errors import DataError, PlanError
from trivium.program.fm import FM
from trivium.program.hashed import HashedFM, HashedLogistic
from trivium.program.row_updates import RowAdaGrad
from trivium.program.tables import TableSpec
from trivium.runtime.rows import RowShard, private_arrays

ROWS, FEATURES, FACTORS = 200, 40, 3


def table_of(dtype="float64", weighted=True, seed=2):
    stream = np.random.default_rng(seed)
    x = stream.normal(size=(ROWS, FEATURES)) * (stream.random((ROWS, FEATURES)) < 0.15)
    truth = stream.normal(size=FEATURES)
    y = (stream.random(ROWS) < 1 / (1 + np.exp(-x @ truth - 0.3))).astype(np.int32)
    csr = scipy.sparse.csr_matrix(x)
    columns = {"x": Csr(csr.indptr.astype(np.int64), csr.indices, csr.data.astype(dtype), FEATURES), "y": y}
    if weighted:
        columns["weight"] = stream.integers(0, 3, ROWS).astype(np.float32)
    return Table(columns, ("a", "b")), x


PICKS = [
    Batch(table_of()[0], 0, ROWS),
    Batch(table_of()[0], 20, 90),
    Batch(table_of()[0], index=np.array([5, 5, 199, 0])),
]


def positions(batch):
    return np.arange(batch.start, batch.stop) if batch.index is None else batch.index


@pytest.mark.parametrize("batch", PICKS, ids=["all", "range", "picked"])
def test_a_batch_reads_the_rows_of_its_columns_and_no_others(batch):
    _, x = table_of()
    model = HashedLogistic(TableSpec("w", rows=FEATURES))
    ready = model.read(batch)
    rows = x[positions(batch)]
    assert ready.keys.tolist() == np.flatnonzero((rows != 0).any(0)).tolist()
    assert model.reads(batch)["w"].tolist() == ready.keys.tolist()
    dense = scipy.sparse.csr_matrix((ready.values, ready.inverse, ready.indptr), (len(ready), len(ready.keys)))
    assert np.array_equal(dense.toarray(), rows[:, ready.keys])
    assert np.array_equal(ready.y, batch.table.columns["y"][positions(batch)])
    assert np.array_equal(ready.weight, batch.table.columns["weight"][positions(batch)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", PICKS, ids=["all", "range", "picked"])
def test_logistic_against_scikit_learn(batch, dtype):
    _, x = table_of()
    model = HashedLogistic(TableSpec("w", rows=FEATURES, dtype=dtype))
    ready, at = model.read(batch), positions(batch)
    w = np.random.default_rng(0).normal(size=FEATURES).astype(dtype)
    rows, rel = w[ready.keys][:, None], 1e-12 if dtype == "float64" else 1e-5
    rows_x, y, weight = x[at], batch.table.columns["y"][at], batch.table.columns["weight"][at].astype(float)
    p = 1 / (1 + np.exp(-(rows_x @ w.astype(float) + 0.4)))
    delta = model.delta(rows, ready, bias=0.4)
    gradient = rows_x.T @ (weight * (p - y))
    assert delta.deltas.dtype == dtype
    assert delta.deltas[:, 0] == pytest.approx(gradient[ready.keys], rel=rel, abs=rel * 10)
    assert delta.bias == pytest.approx((weight * (p - y)).sum(), rel=rel, abs=rel * 10)
    assert (delta.rows, delta.weight) == (len(at), weight.sum())
    loss = weight.sum() * log_loss(y, p, sample_weight=weight, labels=[0, 1])
    assert delta.loss == pytest.approx(loss, rel=rel)
    assert model.predict(rows, ready, 0.4) == pytest.approx(np.stack([1 - p, p], 1), rel=rel, abs=rel)
    right = weight[(p > 0.5) == (y > 0)].sum()
    assert model.evaluate(rows, ready, 0.4) == pytest.approx([len(at), weight.sum(), loss, right], rel=rel)


def test_logistic_trained_on_a_table_reaches_scikit_learns_optimum():
    table, x = table_of(weighted=False)
    C = 2.0
    spec = TableSpec("w", rows=FEATURES, dtype="float64", update=RowAdaGrad(lr=1.0, l2=1 / (C * ROWS), initial=1e-8))
    model, shard = HashedLogistic(spec), RowShard(spec, private_arrays(spec, FEATURES))
    ready, bias, squares = model.read(Batch(table, 0, ROWS)), 0.0, 1e-8
    for _ in range(1500):
        delta = model.delta(shard.pull(ready.keys), ready, bias)
        shard.push(ready.keys, delta.deltas, scale=1 / delta.weight)
        squares += (delta.bias / ROWS) ** 2
        bias -= delta.bias / ROWS / np.sqrt(squares)
    peer = LogisticRegression(C=C, tol=1e-12, max_iter=10_000).fit(x, table.columns["y"])
    assert shard.pull(np.arange(FEATURES))[:, 0] == pytest.approx(peer.coef_[0], abs=1e-4)
    assert bias == pytest.approx(peer.intercept_[0], abs=1e-4)
    assert model.predict(shard.pull(ready.keys), ready, bias) == pytest.approx(peer.predict_proba(x), abs=1e-4)


@pytest.mark.parametrize("batch", PICKS, ids=["all", "range", "picked"])
def test_fm_gives_the_numbers_of_the_dense_model(batch):
    spec = TableSpec("wv", rows=FEATURES, width=1 + FACTORS, dtype="float64", init="zeros:1+normal:0.3", seed=4)
    model = HashedFM(spec)
    dense = FM(FACTORS).for_data(batch.table.spec)
    a = dense.layout.empty()
    views = dense.layout.views(a)
    every = spec.initial.rows(np.arange(FEATURES), spec.width, spec.seed, spec.dtype)
    assert not every[:, 0].any()
    every[:, 0] = np.random.default_rng(1).normal(size=FEATURES)
    views["b"][:], views["w"][:], views["V"][:] = 0.2, every[:, 0], every[:, 1:]
    kernel, ready = dense.kernel(1, ROWS, True), model.read(batch)
    out, rows = np.empty_like(a), every[ready.keys]
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    found, slopes = model.delta(rows, ready, 0.2), dense.layout.views(out)
    assert (found.rows, found.weight, found.loss) == stats
    assert np.array_equal(found.deltas[:, 0], slopes["w"][ready.keys])
    assert np.array_equal(found.deltas[:, 1:], slopes["V"][ready.keys])
    assert found.bias == slopes["b"][0]
    rest = np.setdiff1d(np.arange(FEATURES), ready.keys)
    assert not slopes["w"][rest].any()
    assert np.array_equal(model.predict(rows, ready, 0.2), kernel.predict(a, kernel.read(batch)))
    assert np.array_equal(model.evaluate(rows, ready, 0.2), kernel.evaluate(a, kernel.read(batch)))


def test_fm_learns_a_pair_that_no_weight_can():
    stream = np.random.default_rng(0)
    pick = np.stack([stream.integers(0, 2, ROWS), 2 + stream.integers(0, 2, ROWS)], 1)
    y = (pick[:, 0] == pick[:, 1] - 2).astype(np.int32)
    keys = np.sort(pick, 1).astype(np.int32).ravel()
    x = Csr(np.arange(0, 2 * ROWS + 1, 2), keys, np.ones(2 * ROWS), 4)
    spec = TableSpec("wv", width=5, update="adagrad", lr=0.2, init="zeros:1+normal:0.1", seed=1)
    model, shard = HashedFM(spec), RowShard(spec, private_arrays(spec, 4))
    ready = model.read(Batch(Table({"x": x, "y": y}, ("a", "b")), 0, ROWS))
    for _ in range(200):
        shard.push(ready.keys, model.delta(shard.pull(ready.keys), ready).deltas, scale=1 / ROWS)
    _, weight, loss, right = model.evaluate(shard.pull(ready.keys), ready)
    assert right == weight
    assert loss / weight < 0.1


def test_a_batch_without_a_non_zero():
    table = Table(
        {"x": Csr(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0), 9), "y": np.array([0, 1, 1])}, (0, 1)
    )
    for model in (HashedLogistic(TableSpec("w")), HashedFM(TableSpec("w", width=3, init="normal:1"))):
        ready = model.read(Batch(table, 0, 3))
        rows = np.zeros((0, model.table.width), np.float32)
        assert model.delta(rows, ready).loss == pytest.approx(3 * np.log(2))
        assert model.predict(rows, ready) == pytest.approx(np.full((3, 2), 0.5))


def test_bad_arguments_are_refused():
    table, _ = table_of()
    batch = Batch(table, 0, ROWS)
    model = HashedLogistic(TableSpec("w", rows=FEATURES))
    with pytest.raises(DataError, match=r"rows of shape \(1, 1\) for"):
        model.delta(np.zeros((1, 1)), model.read(batch))
    with pytest.raises(DataError, match="key 39: expected 0 to 29"):
        HashedLogistic(TableSpec("w", rows=30)).read(batch)
    with pytest.raises(DataError, match="the rows are dense"):
        model.read(Batch(Table({"x": np.zeros((2, 3)), "y": np.zeros(2, np.int32)}), 0, 2))
    bare = model.read(Batch(Table({"x": table.columns["x"]}), 0, ROWS))
    with pytest.raises(DataError, match="no labels"):
        model.delta(np.zeros((len(bare.keys), 1)), bare)
    with pytest.raises(PlanError, match="rows of width 1"):
        HashedLogistic(TableSpec("w", width=2))
    with pytest.raises(PlanError, match=r"rows of width 1 \+ K"):
        HashedFM(TableSpec("w", init="normal:1"))
    with pytest.raises(PlanError, match="begin at 0 never move"):
        HashedFM(TableSpec("w", width=3))
