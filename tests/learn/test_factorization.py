"""Factorization machines: pairs that a linear model cannot see, and the objective against SciPy's minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from trivium import Plan
from trivium.learn import FactorizationMachineClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pairs(rows=600):
    stream = np.random.default_rng(0)
    X = stream.standard_normal((rows, 5))
    return X, (X[:, 0] * X[:, 1] - X[:, 2] * X[:, 3] + 0.5 * X[:, 4] > 0).astype(int)


@pytest.mark.parametrize("options", [{}, {"solver": "adam"}, {"solver": "lbfgs"}])
def test_sees_pairs(options):
    X, y = pairs()
    model = FactorizationMachineClassifier(4, C=10.0, max_iter=200, init_scale=0.1, random_state=0, **options)
    model.fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) > 0.9 > LogisticRegression().fit(X, y).score(X, y) + 0.2
    assert model.factors_.shape == (1, 5, 4)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


def test_reaches_the_objective_that_scipy_finds():
    X, y = pairs(200)
    signs = np.where(y == 1, 1.0, -1.0)
    model = FactorizationMachineClassifier(2, solver="lbfgs", tol=1e-7, init_scale=0.3, max_iter=2000, random_state=1)
    model.fit(X, y)

    def objective(flat):
        w, V = flat[1:6], flat[6:].reshape(5, 2)
        z = flat[0] + X @ w + 0.5 * ((X @ V) ** 2 - X**2 @ V**2).sum(axis=1)
        return np.logaddexp(0, -signs * z).sum() + 0.5 * (flat[1:] @ flat[1:])

    found = np.concatenate([model.intercept_, model.coef_[0], model.factors_[0].ravel()])
    better = minimize(objective, found + 0.01, method="BFGS", options={"gtol": 1e-6})
    assert objective(found) == pytest.approx(better.fun, rel=1e-5)


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_several_classes_sparse_and_dense(load):
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = FactorizationMachineClassifier(random_state=0).fit(X, y)
    other = FactorizationMachineClassifier(random_state=0).fit(csr_array(X), y)
    assert model.score(X, y) > 0.92
    np.testing.assert_allclose(model.decision_function(X), other.decision_function(csr_array(X)), rtol=1e-6, atol=1e-8)
    assert len(model.loss_curve_) == 3


def test_warm_start_goes_on():
    X, y = pairs()
    model = FactorizationMachineClassifier(4, max_iter=5, warm_start=True, random_state=0)
    losses = [model.fit(X, y).loss_curve_[-1] for _ in range(4)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.slow
def test_on_processes():
    X, y = pairs()
    settings = {"solver": "lbfgs", "random_state": 0, "init_scale": 0.1}
    mine = FactorizationMachineClassifier(3, **settings, plan=Plan("ps", workers=2)).fit(X, y)
    assert mine.score(X, y) == pytest.approx(
        FactorizationMachineClassifier(3, **settings).fit(X, y).score(X, y), abs=0.01
    )


def test_a_fit_in_blocks_of_epochs_is_the_same_fit(monkeypatch):
    X, y = load_breast_cancer(return_X_y=True)
    X, options = StandardScaler().fit_transform(X), {"max_iter": 30, "batch_size": 569, "random_state": 0}
    whole = FactorizationMachineClassifier(3, **options).fit(X, y)
    monkeypatch.setattr("trivium.learn.factorization.KEPT", 4)
    blocks = FactorizationMachineClassifier(3, **options).fit(X, y)
    np.testing.assert_allclose(blocks.loss_curve_, whole.loss_curve_, rtol=1e-10)
    assert blocks.n_iter_ == whole.n_iter_ > 4
