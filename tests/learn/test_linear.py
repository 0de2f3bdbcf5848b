"""Least squares against scikit-learn's own, on real data."""

import numpy as np
import pytest
import sklearn.linear_model as peer
from scipy.sparse import csr_array
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.exceptions import ConvergenceWarning

import trivium.learn as ours

X, Y = load_diabetes(return_X_y=True)
TWO_X, TWO_Y = load_linnerud(return_X_y=True)
WEIGHT = np.random.default_rng(0).uniform(0.1, 3.0, len(Y))


def same(mine, theirs, rtol=1e-8):
    np.testing.assert_allclose(mine.coef_, theirs.coef_, rtol=rtol, atol=rtol * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(mine.intercept_, theirs.intercept_, rtol=rtol, atol=1e-9)
    assert np.shape(mine.coef_) == np.shape(theirs.coef_)
    assert np.shape(mine.intercept_) == np.shape(theirs.intercept_)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_linear_regression(intercept, positive, weight):
    options = {"fit_intercept": intercept, "positive": positive}
    mine = ours.LinearRegression(**options).fit(X, Y, weight)
    same(mine, peer.LinearRegression(**options).fit(X, Y, weight), 1e-7)


def test_linear_regression_of_several_targets_says_the_rank():
    mine, theirs = ours.LinearRegression().fit(TWO_X, TWO_Y), peer.LinearRegression().fit(TWO_X, TWO_Y)
    same(mine, theirs)
    assert mine.rank_ == theirs.rank_ == 3
    np.testing.assert_allclose(mine.singular_, theirs.singular_, rtol=1e-8)
    np.testing.assert_allclose(mine.predict(TWO_X), theirs.predict(TWO_X))


def test_linear_regression_of_least_norm_where_columns_are_dependent():
    doubled = np.hstack([X, X[:, :3]])
    mine, theirs = ours.LinearRegression().fit(doubled, Y), peer.LinearRegression().fit(doubled, Y)
    same(mine, theirs, 1e-6)
    assert mine.rank_ == theirs.rank_ == 10


def test_linear_regression_far_from_the_origin():
    same(ours.LinearRegression().fit(X + 1e5, Y), peer.LinearRegression().fit(X + 1e5, Y), 1e-5)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_ridge(alpha, weight):
    theirs = peer.Ridge(alpha).fit(X, Y, weight)
    same(ours.Ridge(alpha).fit(X, Y, weight), theirs)
    same(ours.Ridge(alpha).fit(csr_array(X), Y, weight), theirs)


def test_ridge_with_a_penalty_for_each_target():
    alphas = np.array([0.5, 1.0, 2.0])
    same(ours.Ridge(alphas).fit(TWO_X, TWO_Y), peer.Ridge(alphas).fit(TWO_X, TWO_Y))


def test_ridge_positive():
    same(ours.Ridge(positive=True).fit(X, Y), peer.Ridge(positive=True, tol=1e-10).fit(X, Y), 1e-5)


@pytest.mark.parametrize("alpha", [0.01, 0.3])
@pytest.mark.parametrize("ratio", [0.2, 1.0])
@pytest.mark.parametrize("positive", [True, False])
def test_elastic_net(alpha, ratio, positive):
    options = {"alpha": alpha, "l1_ratio": ratio, "positive": positive, "max_iter": 10_000, "tol": 1e-12}
    mine = ours.ElasticNet(**options).fit(X, Y, WEIGHT)
    theirs = peer.ElasticNet(**options).fit(X, Y, WEIGHT)
    same(mine, theirs, 1e-6)
    assert abs(mine.dual_gap_) < 1e-6 * np.var(Y)


def test_lasso_and_its_gap():
    mine, theirs = (kind(0.5, tol=1e-12).fit(X, Y) for kind in (ours.Lasso, peer.Lasso))
    same(mine, theirs, 1e-6)
    assert (mine.coef_ == 0).tolist() == (theirs.coef_ == 0).tolist()
    assert mine.sparse_coef_.nnz == theirs.sparse_coef_.nnz
    few = ours.Lasso(0.5, max_iter=1)
    with pytest.warns(UserWarning, match="max_iter=1"):
        few.fit(X, Y)
    assert few.dual_gap_ > mine.dual_gap_


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("options", [{"alpha": 0.01}, {"alpha": 0.5}, {"alpha": 0.05, "l1_ratio": 0.7}])
def test_a_fit_ends_after_as_many_sweeps_as_scikit_learns(options, sparse):
    rows = csr_array(X) if sparse else X
    counts = []
    for tol in (1e-1, 1e-3, 1e-6, 1e-10):
        mine, theirs = (kind(**options, tol=tol, max_iter=10_000) for kind in (ours.ElasticNet, peer.ElasticNet))
        same(mine.fit(rows, Y), theirs.fit(X, Y), 1e-8)
        assert mine.n_iter_ == theirs.n_iter_
        assert mine.dual_gap_ <= tol * np.var(Y) * (1 + 1e-6)
        counts.append(mine.n_iter_)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_says_when_sweeps_did_not_suffice():
    for kind in (ours.Lasso(0.01, max_iter=3, tol=1e-10), ours.ElasticNet(0.01, l1_ratio=0.8, max_iter=3, tol=1e-10)):
        with pytest.warns(ConvergenceWarning, match="max_iter=3"):
            assert kind.fit(X, Y).n_iter_ == 3
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        assert ours.Ridge(1e-3, positive=True, max_iter=2, tol=1e-10).fit(X, Y).n_iter_ == 2


def test_tolerance_of_positive_ridge():
    loose, tight = (ours.Ridge(1e-3, positive=True, tol=tol).fit(X, Y) for tol in (1e-1, 1e-8))
    assert loose.n_iter_ < tight.n_iter_
    for model, tol in ((loose, 1e-1), (tight, 1e-8)):
        slope = X.T @ (model.predict(X) - Y) + 1e-3 * model.coef_
        assert np.abs(slope[model.coef_ > 0]).max() < 100 * tol


def test_more_columns_than_newton_takes_go_by_owlqn(monkeypatch):
    monkeypatch.setattr("trivium.learn.linear.FEW", 5)
    same(ours.Ridge().fit(X, Y), peer.Ridge().fit(X, Y), 1e-5)
    exact = peer.Lasso(0.5, tol=1e-12).fit(X, Y)
    same(ours.Lasso(0.5, tol=1e-9).fit(X, Y), exact, 1e-4)
    bound = 1e-3 * np.var(Y)
    rough, fine = ours.Lasso(0.5, tol=1e-3).fit(X, Y), ours.Lasso(0.5, tol=1e-9).fit(X, Y)
    assert rough.n_iter_ < fine.n_iter_
    assert 0 <= rough.dual_gap_ <= bound
    assert fine.dual_gap_ <= 1e-9 * np.var(Y)
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        assert ours.Lasso(0.5, tol=1e-9, max_iter=2).fit(X, Y).n_iter_ == 2
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        assert ours.Ridge(1e-3, max_iter=2).fit(X, Y).n_iter_ == 2
    rough = ours.Ridge(1e-3, solver="sparse_cg", tol=0.1).fit(X, Y)
    assert rough.n_iter_ < ours.Ridge(1e-3, solver="sparse_cg", tol=1e-8).fit(X, Y).n_iter_


def test_float32_stays():
    mine = ours.Ridge().fit(X.astype(np.float32), Y)
    assert mine.coef_.dtype == np.float32
    np.testing.assert_allclose(mine.coef_, peer.Ridge().fit(X, Y).coef_, rtol=1e-3)
