"""Least squares by the plane against scikit-learn and SciPy: ridge, least norm, lasso, elastic net, and large means."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge

from trivium.core.lanes import Part
from trivium.core.messages import Apply, EvaluateRows, Fold, Gradient
from trivium.data.batches import Batch, BatchPlan
from trivium.data.table import Csr, Table
from trivium.errors import DataError
from trivium.program.least_squares import LeastSquares
from trivium.runtime.plane import ArrayPlane, Facts
from trivium.testing.simulating import private_arrays

LANES = 4


def make(rows=120, features=6, targets=None, seed=0, shift=0.0, weighted=False, kind="float64"):
    draw = np.random.default_rng(seed)
    x = draw.normal(shift, 1, (rows, features))
    if kind == "uint8":
        x = draw.integers(0, 256, (rows, features)).astype(np.uint8)
    if kind == "csr":
        x[np.abs(x) < 0.7] = 0
    w = draw.normal(0, 1, (features, targets or 1))
    y = x.astype(float) @ w + 3.0 + draw.normal(0, 0.5, (rows, targets or 1))
    columns = {"x": x.astype(kind) if kind != "csr" else csr_of(x), "y": y if targets else y[:, 0]}
    if weighted:
        columns["weight"] = draw.integers(0, 4, rows).astype(np.float32)
    return Table(columns, scale=1 / 255 if kind == "uint8" else 1.0)


def csr_of(x):
    m = scipy.sparse.csr_matrix(x)
    return Csr(m.indptr.astype(np.int64), m.indices.astype(np.int32), m.data, m.shape[1])


def plain(table):
    x = table.columns["x"]
    if isinstance(x, Csr):
        return scipy.sparse.csr_matrix((x.values, x.indices, x.indptr), (len(x), x.width)).toarray()
    return x.astype(np.float64) * table.scale


def plane_of(table, program, l1=0.0, l2=0.0, reproducible=False, threads=1):
    made = program.for_data(table.spec)
    optimizer = made.defaults.optimizer
    batches = BatchPlan(len(table), LANES, None, 0)
    facts = Facts(made, optimizer, batches, LANES, 1, 1, reproducible, threads, l1, l2, 0)
    plane = ArrayPlane(facts, private_arrays(facts), 0, {"train": table})
    plane.first_version(made.init(0))
    return plane


def fit(table, program=None, **settings):
    """What a run does, clock by clock; the two halves of the rows are summed as two workers' would be."""
    plane = plane_of(table, program or LeastSquares(), **settings)
    plane.warm(Part(0, LANES))
    plane.warm_optimizer()
    parts = (Part(0, 2), Part(2, 4))
    for clock in range(4):
        plane.read(clock)
        plane.carry_out(Gradient(clock, parts))
        plane.carry_out(Fold(0, clock, parts))
        finished, *_ = plane.carry_out(Apply(0, clock, parts, True, -1))
        if finished:
            break
    plane.read(clock + 1)
    assert clock == (1 if plane.facts.program.intercept else 0)
    views = plane.facts.layout.views(plane.view().copy())
    return views["w"], views["b"], plane


@pytest.mark.parametrize("kind", ["float64", "float32", "uint8", "csr"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_ridge_is_scikit_learns(kind, weighted, intercept, l2):
    table = make(kind=kind, weighted=weighted)
    weight = table.columns.get("weight", np.ones(len(table))).astype(float)
    reference = Ridge(alpha=l2 * weight.sum(), fit_intercept=intercept, solver="svd", tol=0)
    reference.fit(plain(table), table.columns["y"], weight)
    w, b, plane = fit(table, LeastSquares(intercept), l2=l2)
    assert w[:, 0] == pytest.approx(reference.coef_, rel=1e-9, abs=1e-9)
    assert b[0] == pytest.approx(reference.intercept_, rel=1e-9, abs=1e-9)
    (sums,) = plane.carry_out(EvaluateRows(plane._clock, ("train",), Part(0, LANES)))
    residual = reference.predict(plain(table)) - table.columns["y"]
    assert sum(row[2] for row in sums) == pytest.approx(0.5 * (weight * residual**2).sum(), rel=1e-9)
    assert np.isnan(sum(row[3] for row in sums))


@pytest.mark.parametrize("kind", ["float64", "csr"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 0.4])
@pytest.mark.parametrize("positive", [False, True])
def test_elastic_net_is_scikit_learns(kind, weighted, ratio, positive):
    table = make(features=12, kind=kind, weighted=weighted, seed=3)
    weight = table.columns.get("weight", np.ones(len(table))).astype(float)
    options = {"alpha": 0.2, "positive": positive, "tol": 1e-10, "max_iter": 10000}
    reference = Lasso(**options) if ratio == 1.0 else ElasticNet(l1_ratio=ratio, **options)
    reference.fit(plain(table), table.columns["y"], weight)
    w, b, _ = fit(
        table, LeastSquares(tol=1e-10, max_iter=10000, positive=positive), l1=0.2 * ratio, l2=0.2 * (1 - ratio)
    )
    assert w[:, 0] == pytest.approx(reference.coef_, rel=1e-6, abs=1e-7)
    assert np.array_equal(w[:, 0] == 0, reference.coef_ == 0)
    assert b[0] == pytest.approx(reference.intercept_, rel=1e-6)


def test_descent_sweeps_as_often_as_scikit_learn():
    table = make(features=12, seed=5)
    reference = Lasso(alpha=0.05, precompute=True).fit(plain(table), table.columns["y"])
    w, _, plane = fit(table, l1=0.05)
    assert w[:, 0] == pytest.approx(reference.coef_, abs=1e-9)
    head = plane.held[0].states[plane.held[0].versions.current()[1]].head
    assert plane.facts.optimizer.iterations(head, 2) == reference.n_iter_


@pytest.mark.parametrize("seed", range(3))
def test_large_means_cost_no_digits(seed):
    table = make(rows=400, features=5, shift=1e6, seed=seed)
    x, y = table.columns["x"], table.columns["y"]
    centred = x - x.mean(axis=0)
    w, b, _ = fit(table)
    reference = scipy.linalg.lstsq(centred, y - y.mean())[0]
    assert w[:, 0] == pytest.approx(reference, rel=1e-9)
    assert (x @ w[:, 0] + b[0] - y).std() == pytest.approx((centred @ reference - y + y.mean()).std(), rel=1e-6)


def test_of_many_solutions_the_one_of_least_norm():
    table = make(rows=50, features=4)
    x = np.hstack([table.columns["x"], table.columns["x"][:, :2], np.full((50, 1), 0.1)])
    table = Table({"x": x, "y": table.columns["y"]})
    reference = LinearRegression().fit(x, table.columns["y"])
    w, b, plane = fit(table)
    assert w[:, 0] == pytest.approx(reference.coef_, abs=1e-8)
    assert w[6, 0] == 0
    assert b[0] == pytest.approx(reference.intercept_, rel=1e-9)
    assert plane.held[0].states[plane.held[0].versions.current()[1]].head[3] == 4


def test_more_columns_than_rows():
    table = make(rows=20, features=40)
    x, y = table.columns["x"], table.columns["y"]
    w, b, _ = fit(table)
    reference = scipy.linalg.lstsq(x - x.mean(axis=0), y - y.mean())[0]
    assert w[:, 0] == pytest.approx(reference, abs=1e-7)
    assert x @ w[:, 0] + b[0] == pytest.approx(y, abs=1e-6)


def test_columns_of_unlike_scale():
    table = make(rows=200, features=6)
    scale = 10.0 ** np.array([-6, -3, 0, 0, 4, 8])
    w, b, _ = fit(Table({**table.columns, "x": table.columns["x"] * scale}))
    even, level, _ = fit(table)
    assert w[:, 0] * scale == pytest.approx(even[:, 0], rel=1e-9)
    assert b[0] == pytest.approx(level[0], rel=1e-9)


@pytest.mark.parametrize("kind", ["float64", "csr"])
@pytest.mark.parametrize("l1", [0.0, 0.1])
def test_several_targets(kind, l1):
    table = make(targets=3, kind=kind)
    program = LeastSquares(tol=1e-10).for_data(table.spec)
    w, b, plane = fit(table, program, l1=l1, l2=0.1)
    for t in range(3):
        one, level, _ = fit(Table({**table.columns, "y": table.columns["y"][:, t].copy()}), program, l1=l1, l2=0.1)
        assert w[:, t] == pytest.approx(one[:, 0], rel=1e-6)
        assert b[t] == pytest.approx(level[0], rel=1e-6)
    kernel = program.kernel(1, 120, False)
    values = kernel.predict(plane.view(), kernel.read(Batch(table, index=np.array([3, 3, 119]))))
    assert values == pytest.approx((plain(table) @ w + b)[[3, 3, 119]], rel=1e-12)


def test_the_loss_told_is_that_of_the_parameters_read():
    table = make(weighted=True)
    program = LeastSquares().for_data(table.spec)
    a, out = program.init(0), program.delta_layout.empty()
    views = program.layout.views(a)
    views["w"][:, 0], views["b"][0], views["mean"][:] = np.arange(6), 2.0, 0.5
    kernel = program.kernel(1, 120, False)
    weight, residual = table.columns["weight"], table.columns["x"] @ np.arange(6) + 2.0 - table.columns["y"]
    for stage in (0.0, 1.0):
        views["stage"][0] = stage
        stats = kernel.delta(a, kernel.read(Batch(table, 0, 120)), out, 0)
        assert stats == pytest.approx((120, weight.sum(), 0.5 * (weight * residual**2).sum()), rel=1e-9)
        assert program.delta_layout.views(out)["moments"].any() == bool(stage)


def test_lanes_alone_give_what_fused_ones_do_and_starting_from_a_solution_solves_again():
    table = make(rows=301, weighted=True)
    w, b, plane = fit(table, reproducible=True)
    fused, level, _ = fit(table, threads=2)
    assert fused == pytest.approx(w, rel=1e-10)
    assert level == pytest.approx(b, rel=1e-10)
    other = make(rows=301, seed=9, shift=2.0)

    start = plane.view().copy()
    again = plane_of(other, LeastSquares())
    again.arrays.a[:] = start
    for clock in range(2):
        again.read(clock)
        again.carry_out(Gradient(clock, (Part(0, 4),)))
        again.carry_out(Fold(0, clock, (Part(0, 4),)))
        again.carry_out(Apply(0, clock, (Part(0, 4),), True, -1))
    again.read(2)
    fresh, _, _ = fit(other)
    assert again.facts.layout.views(again.view())["w"] == pytest.approx(fresh, rel=1e-9)


def test_descent_that_stops_early_says_so(caplog):
    for program, told in ((LeastSquares(tol=1e-14, max_iter=1), "the sweeps allowed are used up"), (None, "solved")):
        _, _, plane = fit(make(features=12), program, l1=0.01)
        head = plane.held[0].states[plane.held[0].versions.current()[1]].head
        assert plane.facts.optimizer.reason(head) == told
    assert caplog.text.count("coordinate descent stopped after 1 sweeps") == 1


def test_data_that_it_cannot_take():
    table = make()
    with pytest.raises(DataError, match=r"labels are classes \(a, b\).*classes=\(\)"):
        LeastSquares().for_data(Table(table.columns, ("a", "b")).spec)
    with pytest.raises(DataError, match="labels are int32"):
        LeastSquares().for_data(Table({**table.columns, "y": np.zeros(120, np.int32)}).spec)
    with pytest.raises(DataError, match=r"4001 features.*'linear'"):
        LeastSquares().for_data(Table({"x": np.zeros((1, 4001)), "y": np.zeros(1)}).spec)
    with pytest.raises(DataError, match="no labels"):
        LeastSquares().for_data(Table({"x": np.zeros((1, 4))}).spec)


def test_rows_that_are_not_finite_show():
    table = make()
    table.columns["x"][3, 2] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        w, b, _ = fit(table)
    assert np.isnan(w).all()
    assert np.isnan(b).all()
