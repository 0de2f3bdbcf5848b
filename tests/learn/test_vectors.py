"""LinearSVC against scikit-learn's own, on real data."""

import numpy as np
import pytest
import sklearn.svm as peer
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.preprocessing import StandardScaler

from trivium.learn import LinearSVC


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


TWO, THREE, IRIS = scaled(load_breast_cancer), scaled(load_wine), scaled(load_iris)
EXACT = {"tol": 1e-10, "max_iter": 1_000_000}


def same(mine, theirs, X, rtol):
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=rtol * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(mine.intercept_, theirs.intercept_, atol=rtol)
    assert mine.coef_.shape == theirs.coef_.shape
    assert mine.decision_function(X).shape == theirs.decision_function(X).shape
    assert (mine.predict(X) == theirs.predict(X)).mean() > 0.995


@pytest.mark.parametrize("data", [TWO, THREE, IRIS])
@pytest.mark.parametrize("options", [{}, {"C": 0.1, "intercept_scaling": 3.0}, {"class_weight": "balanced"}])
def test_squared_hinge(data, options):
    X, y = data
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    theirs = peer.LinearSVC(dual=False, **options, **EXACT).fit(X, y, weight)
    same(LinearSVC(**options).fit(X, y, weight), theirs, X, 1e-4)
    same(LinearSVC(**options).fit(csr_array(X), y, weight), theirs, X, 1e-4)


def test_l1():
    X, y = TWO
    theirs = peer.LinearSVC("l1", dual=False, C=0.1, **EXACT).fit(X, y)
    mine = LinearSVC("l1", dual=False, C=0.1).fit(X, y)
    same(mine, theirs, X, 1e-3)
    assert (mine.coef_ == 0).sum() == (theirs.coef_ == 0).sum() > 10


def hinge(model, X, y, C):
    signs = np.where(y[:, None] == model.classes_, 1.0, -1.0)[:, -len(model.coef_) :]
    margins = signs * (X @ model.coef_.T + model.intercept_)
    penalty = (model.coef_**2).sum() + (model.intercept_**2).sum()
    return 0.5 * penalty + C * np.maximum(1.0 - margins, 0.0).sum()


@pytest.mark.parametrize("data", [TWO, THREE])
def test_hinge_reaches_the_least_objective(data):
    X, y = data
    C = 0.1
    theirs = peer.LinearSVC(loss="hinge", C=C, random_state=0, **EXACT).fit(X, y)
    mine = LinearSVC(loss="hinge", C=C).fit(X, y)
    assert hinge(mine, X, y, C) == pytest.approx(hinge(theirs, X, y, C), rel=2e-5)
    assert (mine.predict(X) == theirs.predict(X)).mean() > 0.99


@pytest.mark.parametrize("data", [TWO, IRIS])
def test_crammer_singer(data):
    X, y = data
    theirs = peer.LinearSVC(multi_class="crammer_singer", C=0.1, random_state=0, **EXACT).fit(X, y)
    mine = LinearSVC(multi_class="crammer_singer", C=0.1).fit(X, y)
    same(mine, theirs, X, 2e-2)


def test_crammer_singer_weighs_classes():
    X, y = THREE
    options = {"multi_class": "crammer_singer", "C": 0.02, "class_weight": {0: 10.0, 1: 1.0, 2: 3.0}}
    theirs = peer.LinearSVC(**options, random_state=0, **EXACT).fit(X, y)
    mine = LinearSVC(**options).fit(X, y)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=1e-2 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(mine.intercept_, theirs.intercept_, atol=1e-2)


def test_without_an_intercept_and_wide(monkeypatch):
    X, y = THREE
    theirs = peer.LinearSVC(dual=False, fit_intercept=False, **EXACT).fit(X, y)
    monkeypatch.setattr("trivium.learn.vectors.FEW", 3)
    same(LinearSVC(fit_intercept=False).fit(X, y), theirs, X, 1e-3)


def test_what_scikit_learn_refuses():
    with pytest.raises(ValueError, match="Unsupported set of arguments"):
        LinearSVC("l1", "hinge").fit(*TWO)
    with pytest.raises(ValueError, match="dual=False"):
        LinearSVC(loss="hinge", dual=False).fit(*TWO)
