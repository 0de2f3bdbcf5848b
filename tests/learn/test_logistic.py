"""LogisticRegression against scikit-learn's own, on real data."""

import numpy as np
import pytest
import sklearn.linear_model as peer
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from trivium import Plan
from trivium.learn import LogisticRegression


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


TWO, THREE, IRIS, DIGITS = (scaled(load) for load in (load_breast_cancer, load_wine, load_iris, load_digits))
EXACT = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 10_000}


def same(mine, theirs, X, within=1e-4):
    size = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=within * size)
    np.testing.assert_allclose(
        mine.intercept_, theirs.intercept_, atol=within * max(1.0, np.abs(theirs.intercept_).max())
    )
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), atol=within)
    assert (mine.predict(X) == theirs.predict(X)).all()


@pytest.mark.parametrize("data", [TWO, THREE, IRIS])
@pytest.mark.parametrize(
    "options", [{}, {"C": 0.01}, {"C": 100.0}, {"class_weight": "balanced"}, {"fit_intercept": False}]
)
def test_l2(data, options):
    X, y = data
    weight = np.random.default_rng(0).uniform(0.2, 2.0, len(y))
    theirs = peer.LogisticRegression(**options, **EXACT).fit(X, y, weight)
    mine = LogisticRegression(**options, tol=1e-9).fit(X, y, weight)
    same(mine, theirs, X)
    same(LogisticRegression(**options, tol=1e-9).fit(csr_array(X), y, weight), theirs, X)
    assert mine.n_iter_.shape == theirs.n_iter_.shape
    assert mine.n_iter_.dtype == theirs.n_iter_.dtype


@pytest.mark.parametrize("load", [load_breast_cancer, load_digits])
@pytest.mark.parametrize("scale", [True, False])
def test_same_predictions_where_scikit_learn_has_converged(load, scale):
    X, y = scaled(load) if scale else load(return_X_y=True)
    theirs = peer.LogisticRegression(max_iter=10_000).fit(X, y)
    mine = LogisticRegression(max_iter=10_000).fit(X, y)
    assert (mine.predict(X) == theirs.predict(X)).all()


@pytest.mark.parametrize("data", [TWO, THREE])
@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_l1_and_elastic_net(data, ratio):
    X, y = data
    options = {"l1_ratio": ratio, "C": 0.2}
    theirs = peer.LogisticRegression(solver="saga", tol=1e-8, max_iter=100_000, **options).fit(X, y)
    mine = LogisticRegression(**options, tol=1e-8).fit(X, y)
    same(mine, theirs, X, 1e-3)
    assert (mine.coef_ == 0).tolist() == (theirs.coef_ == 0).tolist()


def test_many_coefficients_go_by_quasi_newton(monkeypatch):
    monkeypatch.setattr("trivium.learn.logistic.FEW", 3)
    monkeypatch.setattr("trivium.learn.logistic.FEW_JOINT", 3)
    for X, y in (TWO, THREE):
        same(LogisticRegression(tol=1e-7).fit(X, y), peer.LogisticRegression(**EXACT).fit(X, y), X, 1e-3)
        options = {"l1_ratio": 0.5, "C": 0.2, "max_iter": 5000}
        theirs = peer.LogisticRegression(solver="saga", tol=1e-8, **options).fit(X, y)
        same(LogisticRegression(tol=1e-6, **options).fit(X, y), theirs, X, 1e-3)


def test_liblinear_penalises_the_intercept():
    X, y = TWO
    options = {"solver": "liblinear", "intercept_scaling": 2.0, "tol": 1e-8}
    same(LogisticRegression(**options).fit(X, y), peer.LogisticRegression(**options).fit(X, y), X, 1e-3)
    with pytest.raises(ValueError, match="does not support multiclass"):
        LogisticRegression(solver="liblinear").fit(*THREE)


def test_no_penalty():
    X, y = TWO[0][:, :4], TWO[1]
    same(LogisticRegression(C=np.inf, tol=1e-9).fit(X, y), peer.LogisticRegression(C=np.inf, **EXACT).fit(X, y), X)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_old_word_for_the_penalty():
    X, y = TWO
    same(LogisticRegression("l1", C=0.1).fit(X, y), LogisticRegression(l1_ratio=1.0, C=0.1).fit(X, y), X)
    with pytest.warns(FutureWarning, match="penalty"):
        LogisticRegression("l2").fit(X, y)


def test_float32_gives_float32():
    X, y = THREE
    mine = LogisticRegression().fit(X.astype(np.float32), y)
    assert mine.coef_.dtype == mine.predict_proba(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(mine.coef_, LogisticRegression().fit(X, y).coef_, atol=1e-5)


def test_warm_start_needs_fewer_steps_and_max_iter_warns():
    X, y = TWO
    model = LogisticRegression(warm_start=True).fit(X, y)
    first = model.n_iter_[0]
    assert model.fit(X, y).n_iter_[0] < first
    for most in (0, 2):
        with pytest.warns(ConvergenceWarning, match=f"max_iter={most}"):
            few = LogisticRegression(max_iter=most).fit(X, y)
        assert few.n_iter_[0] == most


@pytest.mark.parametrize("data", [TWO, THREE])
def test_partial_fit_learns_from_pieces(data):
    X, y = data
    model = LogisticRegression()
    order = np.random.default_rng(0).permutation(len(y))
    for _ in range(20):
        for piece in np.array_split(order, 3):
            model.partial_fit(X[piece], y[piece], classes=np.unique(y))
    assert model.score(X, y) > 0.96
    with pytest.raises(ValueError, match="did not name"):
        model.partial_fit(X[:2], [7, 8])


def test_strings_and_one_class():
    X, y = IRIS
    names = np.array(["a", "b", "c"])[y]
    assert (LogisticRegression().fit(X, names).predict(X) == names[:]).mean() > 0.95
    with pytest.raises(ValueError, match="only one class"):
        LogisticRegression().fit(X, np.zeros(len(y)))


@pytest.mark.slow
@pytest.mark.parametrize("data", [TWO, DIGITS])
def test_on_processes_as_in_this_one(data):
    X, y = data
    mine = LogisticRegression(plan=Plan("ps", workers=2)).fit(X, y)
    same(mine, LogisticRegression().fit(X, y), X, 1e-6)
    assert mine.run_.workers == 2
    assert mine.run_.design == "ps"
