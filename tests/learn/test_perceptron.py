"""Perceptrons: the same steps as scikit-learn's where a batch holds all rows, and as good where it does not."""

import numpy as np
import pytest
import sklearn.neural_network as peer
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from trivium import Plan
from trivium.learn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


IRIS, TWO = scaled(load_iris), tuple(one[:180] for one in scaled(load_breast_cancer))
VALUES, PAIRS = tuple(one[:150] for one in scaled(load_diabetes)), scaled(load_linnerud)
SOLVERS = [
    {},
    {"solver": "sgd", "learning_rate_init": 0.1},
    {"solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling", "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e-2, "momentum": 0.0, "learning_rate_init": 0.1},
    {"activation": "tanh", "alpha": 1.0},
    {"activation": "logistic", "hidden_layer_sizes": (7, 5)},
    {"activation": "identity"},
]


def same(mine, theirs, within=5e-4):  # Adam adds epsilon to the root of the unbiased moment
    assert mine.n_iter_ == theirs.n_iter_
    for ours, others in zip(mine.coefs_ + mine.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(ours, others, atol=within)
    np.testing.assert_allclose(mine.loss_curve_, theirs.loss_curve_, rtol=1e-5)
    assert mine.loss_ == pytest.approx(theirs.loss_, rel=1e-5)
    assert (mine.t_, mine.n_layers_, mine.out_activation_) == (theirs.t_, theirs.n_layers_, theirs.out_activation_)


@pytest.mark.parametrize("data", [IRIS, TWO])
@pytest.mark.parametrize("options", SOLVERS)
def test_classifier_takes_the_same_steps(data, options):
    X, y = data
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    settings = {"hidden_layer_sizes": 10, "random_state": 3, "max_iter": 60} | options
    mine, theirs = MLPClassifier(**settings).fit(X, y, weight), peer.MLPClassifier(**settings).fit(X, y, weight)
    same(mine, theirs, 1e-10 if options.get("solver") == "sgd" else 5e-4)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    same(MLPClassifier(**settings).fit(csr_array(X), y, weight), theirs)


@pytest.mark.parametrize("data", [VALUES, PAIRS])
def test_regressor_takes_the_same_steps(data):
    X, y = data
    y = StandardScaler().fit_transform(y.reshape(len(y), -1))
    y = y[:, 0] if y.shape[1] == 1 else y
    settings = {"hidden_layer_sizes": (8,), "random_state": 1, "max_iter": 50, "alpha": 0.0}
    mine, theirs = MLPRegressor(**settings).fit(X, y), peer.MLPRegressor(**settings).fit(X, y)
    same(mine, theirs)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), atol=1e-4)


def test_lbfgs_reaches_as_low_a_loss():
    X, y = TWO
    settings = {"hidden_layer_sizes": (5,), "solver": "lbfgs", "alpha": 1.0, "random_state": 0, "max_iter": 1000}
    mine, theirs = MLPClassifier(**settings).fit(X, y), peer.MLPClassifier(**settings).fit(X, y)
    assert mine.loss_ == pytest.approx(theirs.loss_, rel=0.02)


def test_counts_as_values():
    X, _ = IRIS
    y = np.random.default_rng(0).poisson(np.exp(0.5 * X[:, 0]))
    settings = {"loss": "poisson", "hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 30}
    mine, theirs = MLPRegressor(**settings).fit(X, y), peer.MLPRegressor(**settings).fit(X, y)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), rtol=1e-4)
    assert (mine.predict(X) > 0).all()


def test_small_batches_learn_as_well():
    X, y = scaled(load_digits)
    settings = {"random_state": 0, "max_iter": 30}
    mine, theirs = (
        MLPClassifier(**settings).fit(X[:1200], y[:1200]),
        peer.MLPClassifier(**settings).fit(X[:1200], y[:1200]),
    )
    assert mine.score(X[1200:], y[1200:]) > theirs.score(X[1200:], y[1200:]) - 0.02


def test_early_stopping_keeps_the_best():
    X, y = scaled(load_digits)
    model = MLPClassifier(early_stopping=True, random_state=0, n_iter_no_change=3).fit(X, y)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ == len(model.loss_curve_) < 200
    assert model.best_validation_score_ == max(scores) > 0.9
    assert max(scores[-4:]) < model.best_validation_score_ + model.tol


def test_warm_start_and_partial_fit_go_on():
    X, y = IRIS
    model, other = (
        kind(10, warm_start=True, max_iter=20, random_state=0) for kind in (MLPClassifier, peer.MLPClassifier)
    )
    for one in (model, other):
        one.fit(X, y).fit(X, y)
    same(model, other)
    model, other = (kind(10, random_state=0) for kind in (MLPClassifier, peer.MLPClassifier))
    for _ in range(15):
        model.partial_fit(X, y, classes=[0, 1, 2])
        other.partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_allclose(model.loss_curve_, other.loss_curve_, rtol=1e-5)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")


def test_rows_in_their_order_give_the_steps_of_scikit_learn():
    X, y = IRIS
    settings = {"solver": "sgd", "shuffle": False, "batch_size": 30, "max_iter": 20, "random_state": 1}
    same(MLPClassifier(8, **settings).fit(X, y), peer.MLPClassifier(8, **settings).fit(X, y), 1e-10)


def test_evaluations_of_lbfgs_are_bounded():
    settings = {"solver": "lbfgs", "random_state": 0, "max_iter": 1000}
    model = MLPClassifier(5, max_fun=12, **settings)
    with pytest.warns(ConvergenceWarning, match="max_fun=12"):
        model.fit(*IRIS)
    assert model.run_.clocks == 12
    assert model.loss_ > MLPClassifier(5, **settings).fit(*IRIS).loss_


def test_a_fit_in_blocks_of_epochs_is_the_same_fit(monkeypatch):
    X, y = IRIS
    settings = {"solver": "adam", "max_iter": 90, "random_state": 3, "tol": 1e-3}
    whole = MLPClassifier(8, **settings).fit(X, y)
    monkeypatch.setattr("trivium.learn.network.KEPT", 7)
    blocks = MLPClassifier(8, **settings).fit(X, y)
    same(blocks, whole, 1e-12)
    assert len(blocks.loss_curve_) == blocks.n_iter_ > 7


def test_says_when_it_did_not_converge():
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        MLPClassifier(max_iter=2).fit(*IRIS)


@pytest.mark.slow
def test_on_processes_as_in_this_one():
    X, y = IRIS
    settings = {"hidden_layer_sizes": 10, "random_state": 3, "max_iter": 40}
    mine = MLPClassifier(**settings, plan=Plan("ps", workers=2))
    other = MLPClassifier(**settings)
    same(mine.fit(X, y), other.fit(X, y))
    same(mine.partial_fit(X, y), other.partial_fit(X, y))
