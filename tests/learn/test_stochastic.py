"""SGD: as good as scikit-learn's on held-out rows, for its losses, penalties and rates."""

import tracemalloc

import numpy as np
import pytest
import sklearn.linear_model as peer
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.preprocessing import StandardScaler

from trivium import Plan
from trivium.learn import LinearRegression, SGDClassifier, SGDRegressor, running

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


TWO, THREE, VALUES = scaled(load_breast_cancer), scaled(load_wine), scaled(load_diabetes)
OPTIONS = [
    *({"loss": name} for name in ("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "huber")),
    {"penalty": "l1"},
    {"penalty": "elasticnet", "average": True},
    {"average": 200},
    {"early_stopping": True},
    {"learning_rate": "adaptive"},
    {"learning_rate": "invscaling", "eta0": 0.1},
    {"learning_rate": "pa1", "eta0": 1.0, "penalty": None},
    {"learning_rate": "pa2", "eta0": 1.0, "penalty": None},
    {"class_weight": "balanced"},
    {"batch_size": 8},
]


@pytest.mark.parametrize("data", [TWO, THREE])
@pytest.mark.parametrize("options", OPTIONS)
def test_classifier(data, options):
    X, y = data
    plain = {name: value for name, value in options.items() if name != "batch_size"}
    most = {"max_iter": 200}
    theirs = np.mean(
        [peer.SGDClassifier(random_state=i, **plain, **most).fit(X[::2], y[::2]).score(X, y) for i in range(3)]
    )
    model = SGDClassifier(random_state=0, **options, **most).fit(X[::2], y[::2])
    assert model.score(X, y) > theirs - 0.035
    assert 0 < model.n_iter_ <= 200


@pytest.mark.parametrize("options", [{}, {"average": True}, {"penalty": "elasticnet"}, {"early_stopping": True}])
def test_regressor(options):
    X, y = VALUES
    theirs = peer.SGDRegressor(random_state=0, **options).fit(X, y)
    mine = SGDRegressor(random_state=0, **options).fit(X, y)
    assert mine.score(X, y) > theirs.score(X, y) - 0.01
    assert mine.coef_.shape == theirs.coef_.shape
    assert mine.intercept_.shape == theirs.intercept_.shape


def test_the_objective_comes_close_to_its_least():
    X, y = TWO
    settings = {"loss": "log_loss", "alpha": 1e-2, "tol": 1e-7, "n_iter_no_change": 30, "learning_rate": "adaptive"}
    mine = SGDClassifier(random_state=0, eta0=0.05, **settings).fit(X, y)
    exact = peer.LogisticRegression(C=1 / (1e-2 * len(y)), tol=1e-10, max_iter=1000).fit(X, y)

    def objective(model):
        signs = np.where(y == 1, 1, -1)
        return np.log1p(np.exp(-signs * model.decision_function(X))).mean() + 0.5 * 1e-2 * (model.coef_**2).sum()

    assert objective(mine) == pytest.approx(objective(exact), rel=1e-3)


def test_unscaled_features_do_not_blow_up():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    assert np.isfinite(SGDRegressor(random_state=0, max_iter=20).fit(X, y).coef_).all()


def test_sparse_rows_give_the_same_and_coefficients_may_be_sparse():
    X, y = THREE
    mine = SGDClassifier(random_state=0, max_iter=30).fit(X, y)
    other = SGDClassifier(random_state=0, max_iter=30).fit(csr_array(X), y)
    np.testing.assert_allclose(mine.coef_, other.coef_, rtol=1e-8)
    assert (other.sparsify().predict(X) == mine.predict(X)).all()
    assert (other.densify().coef_ == other.coef_).all()


@pytest.mark.parametrize("average", [False, True])
def test_partial_fit_goes_on(average):
    X, y = TWO
    model = SGDClassifier("log_loss", random_state=0, average=average)
    for _ in range(10):
        model.partial_fit(X, y, classes=[0, 1])
    assert model.t_ == 1 + 10 * len(y)
    assert model.score(X, y) > 0.96
    values = SGDRegressor(random_state=0)
    for _ in range(20):
        values.partial_fit(*VALUES)
    assert values.score(*VALUES) > 0.45


@pytest.mark.parametrize("average", [1, 500, 900])
def test_the_mean_begins_after_so_many_rows_of_all_calls(average):
    X, y = (one[:100] for one in TWO)
    options = {"random_state": 0, "batch_size": 100, "learning_rate": "constant", "eta0": 1e-3}
    model, plain = SGDClassifier("log_loss", average=average, **options), SGDClassifier("log_loss", **options)
    iterates = []
    for _ in range(8):
        model.partial_fit(X, y, classes=[0, 1])
        iterates.append(plain.partial_fit(X, y, classes=[0, 1]).coef_.copy())
    counted = [coef for i, coef in enumerate(iterates) if (i + 1) * 100 >= average] or iterates[-1:]
    np.testing.assert_allclose(model.coef_, np.mean(counted, axis=0), rtol=1e-9)


def test_rows_in_their_order_are_not_shuffled():
    X, y = VALUES
    options = {"shuffle": False, "batch_size": 1, "max_iter": 2, "tol": None, "alpha": 0.0, "eta0": 1e-3}
    mine = SGDRegressor(**options, random_state=0).fit(X, y)
    del options["batch_size"]
    theirs = peer.SGDRegressor(**options, random_state=5).fit(X, y)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, rtol=1e-6)
    shuffled = SGDRegressor(**options | {"shuffle": True}, batch_size=1, random_state=0).fit(X, y)
    assert not np.allclose(shuffled.coef_, mine.coef_, rtol=1e-4)


def test_many_epochs_allowed_cost_nothing():
    tracemalloc.start()
    SGDClassifier(random_state=0, max_iter=10_000_000).fit(*TWO)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


@pytest.mark.parametrize(("jobs", "threads"), [(None, 1), (1, 1), (2, 2)])
def test_threads_of_this_process(jobs, threads, monkeypatch):
    asked = []
    inline = running._inline
    monkeypatch.setattr(running, "_inline", lambda job: asked.append(job.plan.threads) or inline(job))
    SGDClassifier(n_jobs=jobs, max_iter=3).fit(*TWO)
    LinearRegression(n_jobs=jobs).fit(*VALUES)
    assert asked == [threads, threads]


def test_verbose_writes_a_line_to_the_log(caplog):
    caplog.set_level("INFO")
    SGDRegressor(max_iter=3).fit(*VALUES)
    assert "SGDRegressor" not in caplog.text
    SGDRegressor(max_iter=3, verbose=1).fit(*VALUES)
    assert "SGDRegressor: " in caplog.text


def test_probabilities():
    for X, y in (TWO, THREE):
        for loss in ("log_loss", "modified_huber"):
            found = SGDClassifier(loss, random_state=0).fit(X, y).predict_proba(X)
            np.testing.assert_allclose(found.sum(axis=1), 1.0)
            assert (found.argmax(axis=1) == y).mean() > 0.95
    assert not hasattr(SGDClassifier("hinge"), "predict_proba")


def test_where_it_starts_and_what_it_refuses():
    X, y = TWO
    model = SGDClassifier(max_iter=1, tol=None, random_state=0, alpha=1.0).fit(X, y, np.ones((1, 30)), [0.5])
    assert not np.allclose(model.coef_, SGDClassifier(max_iter=1, tol=None, random_state=0, alpha=1.0).fit(X, y).coef_)
    with pytest.raises(ValueError, match="coef_init does not match"):
        SGDClassifier().fit(X, y, np.ones((1, 3)))
    with pytest.raises(ValueError, match="early_stopping should be False"):
        SGDClassifier(early_stopping=True).partial_fit(X, y, [0, 1])
    with pytest.raises(ValueError, match="pa1"):
        SGDClassifier("log_loss", learning_rate="pa1").fit(X, y)


@pytest.mark.slow
def test_on_processes():
    X, y = THREE
    model = SGDClassifier(random_state=0, max_iter=50, average=True, plan=Plan("ps", workers=2)).fit(X, y)
    assert model.score(X, y) > 0.97
    assert model.run_.workers == 2
