"""Linear models of every loss: against the formulas, finite differences, and the optima of scikit-learn and SciPy."""

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import approx_fprime
from scipy.optimize import minimize as reference_minimize
from sklearn.linear_model import LinearRegression, SGDClassifier, SGDRegressor
from sklearn.svm import LinearSVC, LinearSVR

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.errors import DataError, PlanError
from trivium.program.linear import LOSSES, SMOOTH, Linear
from trivium.program.losses import CLASSIFICATION, margin_loss
from trivium.program.optimizers import optimizer
from trivium.program.optimizers.minimize import minimize

CLASSES = ("no", "yes")
EPSILON = 0.3


def make(loss, rows=203, features=7, kind="float64", weighted=False, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(0, 1, (rows, features))
    if kind == "uint8":
        x = draw.integers(0, 256, (rows, features)).astype(np.uint8)
    if kind == "csr":
        x[np.abs(x) < 0.5] = 0
    score = (x.astype(float) * (1 / 255 if kind == "uint8" else 1)) @ np.linspace(-1, 1, features)
    noisy = score - score.mean() + draw.normal(0, 0.7, rows)
    classes = CLASSES if loss in CLASSIFICATION else ()
    columns = {"x": x.astype(kind) if kind != "csr" else x, "y": (noisy > 0).astype(np.int32) if classes else noisy}
    if kind == "csr":
        m = scipy.sparse.csr_matrix(x)
        columns["x"] = Csr(m.indptr.astype(np.int64), m.indices.astype(np.int32), m.data, features)
    if weighted:
        columns["weight"] = draw.integers(0, 4, rows).astype(np.float32)
    return Table(columns, classes, 1 / 255 if kind == "uint8" else 1.0)


def plain(table):
    x = table.columns["x"]
    if isinstance(x, Csr):
        return scipy.sparse.csr_matrix((x.values, x.indices, x.indptr), (len(x), x.width)).toarray()
    return x.astype(np.float64) * table.scale


def started(table, program):
    made = program.for_data(table.spec)
    a = made.init(0)
    views = made.layout.views(a)
    views["w"][:] = np.cos(np.arange(len(views["w"])))
    if "b" in views:
        views["b"][:] = 0.2
    return made, a, views


def objective(table, loss, epsilon, w, b, rows):
    z = plain(table)[rows] @ w + b
    weight = table.columns.get("weight", np.ones(len(table))).astype(float)[rows]
    return float(weight @ margin_loss(loss, z, table.columns["y"][rows], epsilon)), z


def slopes(loss, z, y, epsilon):
    """The loss's slope at each margin, by central differences of the formula."""
    h = 1e-6
    return (margin_loss(loss, z + h, y, epsilon) - margin_loss(loss, z - h, y, epsilon)) / (2 * h)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["float64", "float32", "uint8", "csr"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradient_and_loss(loss, kind, weighted, intercept, dtype):
    table = make(loss, kind=kind, weighted=weighted)
    program, a, views = started(table, Linear(loss, intercept, dtype, EPSILON))
    kernel = program.kernel(1, 203, reproducible=True)
    w, b = views["w"].astype(float), float(views["b"][0]) if intercept else 0.0
    weight = table.columns.get("weight", np.ones(203)).astype(float)
    tight = {"rel": 1e-5, "abs": 1e-5} if dtype == "float64" else {"rel": 1e-3, "abs": 2e-3}
    for rows in (np.arange(203), np.array([5, 5, 200, 0, 17])):
        batch = Batch(table, 0, 203) if len(rows) == 203 else Batch(table, index=rows)
        out = program.layout.empty()
        out[:] = np.nan
        stats = kernel.delta(a, kernel.read(batch), out, 0)
        total, z = objective(table, loss, EPSILON, w, b, rows)
        assert stats == pytest.approx((len(rows), weight[rows].sum(), total), rel=1e-9 if dtype == "float64" else 1e-4)
        r = weight[rows] * slopes(loss, z, table.columns["y"][rows], EPSILON)
        found = program.layout.views(out)
        assert found["w"] == pytest.approx(plain(table)[rows].T @ r, **tight)
        assert ("b" in found) == intercept
        if intercept:
            assert found["b"][0] == pytest.approx(r.sum(), **tight)
        assert not np.isnan(out).any()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_that_of_the_loss_told(loss):
    table = make(loss, 40, 3)
    program, a, _ = started(table, Linear(loss, epsilon=EPSILON))
    kernel = program.kernel(1, 40, reproducible=False)
    ready, out = kernel.read(Batch(table, 0, 40)), program.layout.empty()
    slope = approx_fprime(a, lambda at: kernel.delta(at, ready, program.layout.empty(), 0)[2], 1e-7)
    kernel.delta(a, ready, out, 0)
    assert out == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["float64", "csr"])
def test_evaluation_and_prediction(loss, kind):
    table = make(loss, kind=kind, weighted=True)
    program, a, views = started(table, Linear(loss, epsilon=EPSILON))
    kernel = program.kernel(2, 203, reproducible=False)
    ready = kernel.read(Batch(table, 0, 203))
    total, z = objective(table, loss, EPSILON, views["w"], views["b"][0], slice(None))
    assert kernel.predict(a, ready) == pytest.approx(z, rel=1e-9, abs=1e-12)
    sums, weight = kernel.evaluate(a, ready), table.columns["weight"]
    assert sums[:3] == pytest.approx((203, weight.sum(), total), rel=1e-9)
    if loss in CLASSIFICATION:
        assert program.output == "score"
        assert sums[3] == weight[(z > 0) == table.columns["y"]].sum()
    else:
        assert program.output == "value"
        assert np.isnan(sums[3])


def test_kinks_are_on_the_side_that_learns():
    for loss, at in (("perceptron", 0.0), ("hinge", 1.0)):
        table = Table({"x": np.ones((1, 1)), "y": np.ones(1, np.int32)}, CLASSES)
        program = Linear(loss, intercept=False).for_data(table.spec)
        a, out = program.init(0), program.layout.empty()
        a[0] = at
        kernel = program.kernel(1, 1, False)
        kernel.delta(a, kernel.read(Batch(table, 0, 1)), out, 0)
        assert out[0] == -1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_diverged_run_shows(loss):
    table = make(loss, 8, 2)
    program, a, views = started(table, Linear(loss))
    views["w"][:] = np.nan
    kernel, out = program.kernel(1, 8, False), program.layout.empty()
    stats = kernel.delta(a, kernel.read(Batch(table, 0, 8)), out, 0)
    assert np.isnan(stats[2])
    if loss in SMOOTH:
        assert np.isnan(program.layout.views(out)["w"]).all()


def trained(table, program, name="lbfgs", l1=0.0, l2=0.0, clocks=2000, **options):
    made = program.for_data(table.spec)
    kernel, out = made.kernel(1, len(table), False), made.layout.empty()
    ready = kernel.read(Batch(table, 0, len(table)))

    def function(a):
        _, weight, loss = kernel.delta(a, ready, out, 0)
        return weight, loss, out.copy()

    start = made.init(0)
    result = minimize(function, start, optimizer(name, **options), l1, l2, made.layout, max_clocks=clocks)
    return made.layout.views(result.a)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("intercept", [False, True])
def test_optimum_is_scipys(loss, intercept):
    table = make(loss, weighted=True)
    weight = float(table.columns["weight"].sum())

    def f(a):
        return objective(table, loss, EPSILON, a[:7], a[7] if intercept else 0.0, slice(None))[0] / weight + (
            0.05 * a[:7] @ a[:7]
        )

    best = reference_minimize(f, np.zeros(7 + intercept), options={"gtol": 1e-9}, method="BFGS").x
    views = trained(table, Linear(loss, intercept, epsilon=EPSILON), l2=0.1, tol=1e-9)
    assert views["w"] == pytest.approx(best[:7], abs=1e-5)
    if intercept:
        assert views["b"][0] == pytest.approx(best[7], abs=1e-5)


def test_optimum_is_linear_svcs():
    table = make("squared_hinge", 300)
    reference = LinearSVC(C=0.3, fit_intercept=False, tol=1e-10, max_iter=100_000)
    reference.fit(plain(table), table.columns["y"])
    views = trained(table, Linear("squared_hinge", intercept=False), l2=1 / (0.3 * 300), tol=1e-9)
    assert views["w"] == pytest.approx(reference.coef_[0], rel=1e-5)


def test_optimum_is_linear_svrs():
    table = make("squared_epsilon_insensitive", 300)
    reference = LinearSVR(
        epsilon=EPSILON, C=0.3, loss="squared_epsilon_insensitive", fit_intercept=False, tol=1e-10, max_iter=100_000
    ).fit(plain(table), table.columns["y"])
    views = trained(table, Linear("squared_epsilon_insensitive", False, epsilon=EPSILON), l2=1 / (0.3 * 300), tol=1e-9)
    assert views["w"] == pytest.approx(reference.coef_, rel=1e-5)


def test_linear_regression_and_lasso_by_iteration():
    table = make("squared", 300)
    reference = LinearRegression().fit(plain(table), table.columns["y"])
    views = trained(table, Linear(), tol=1e-10)
    assert views["w"] == pytest.approx(reference.coef_, rel=1e-6)
    assert views["b"][0] == pytest.approx(reference.intercept_, rel=1e-6)


@pytest.mark.parametrize("loss", ["hinge", "modified_huber", "huber", "epsilon_insensitive"])
def test_losses_are_those_of_scikit_learns_sgd(loss):
    """One step of its SGD from 0 by one row shows its slope."""
    table = make(loss, 12)
    names = {"squared": "squared_error"}
    make_reference = SGDClassifier if loss in CLASSIFICATION else SGDRegressor
    for i in range(12):
        options = {"loss": names.get(loss, loss), "alpha": 0, "learning_rate": "constant", "eta0": 1.0, "epsilon": 0.01}
        reference = make_reference(fit_intercept=False, **options)
        x, y = plain(table)[i : i + 1], table.columns["y"][i : i + 1]
        reference.partial_fit(x, y, *([[0, 1]] if loss in CLASSIFICATION else []))
        program = Linear(loss, intercept=False, epsilon=0.01).for_data(table.spec)
        kernel, out = program.kernel(1, 1, False), program.layout.empty()
        kernel.delta(program.init(0), kernel.read(Batch(table, i, i + 1)), out, 0)
        assert -out[:7] == pytest.approx(reference.coef_.reshape(-1), rel=1e-9, abs=1e-12)


def test_names_and_what_is_refused():
    assert [Linear(loss).name for loss in ("squared", "squared_hinge", "huber")] == ["linear", "svm", "linear:huber"]
    with pytest.raises(PlanError, match=r"unknown loss 'hing'.*did you mean 'hinge'"):
        Linear("hing")
    with pytest.raises(PlanError, match="epsilon=-1"):
        Linear("huber", epsilon=-1)
    with pytest.raises(PlanError, match="float16"):
        Linear(dtype="float16")
    with pytest.raises(DataError, match=r"labels are classes \(no, yes\); linear fits numbers.*classes=\(\)"):
        Linear().for_data(make("hinge").spec)
    with pytest.raises(DataError, match="numbers, not classes; svm is a classifier"):
        Linear("squared_hinge").for_data(make("squared").spec)
    table = make("hinge")
    with pytest.raises(DataError, match="3 classes; linear:hinge separates two"):
        Linear("hinge").for_data(Table(table.columns, ("a", "b", "c")).spec)
    with pytest.raises(DataError, match=r"shape \(2,\); linear wants y of shape \(rows,\)"):
        Linear().for_data(Table({"x": np.zeros((3, 2)), "y": np.zeros((3, 2))}).spec)


def test_defaults_suit_the_loss():
    assert Linear("huber").defaults.optimizer.name == Linear("squared_hinge").defaults.optimizer.name == "lbfgs"
    assert Linear("hinge").defaults.optimizer.name == "adagrad"
    assert (Linear().defaults.l2_per_row, Linear("squared_hinge").defaults.l2_per_row) == (0.0, 1.0)
