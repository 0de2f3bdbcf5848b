"""Inside scikit-learn: pipelines, searches, copies, metadata; and tables and data sets as X."""

import pickle

import numpy as np
import pytest
import sklearn
import sklearn.linear_model as peer
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.feature_selection import SelectFromModel
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import trivium.learn as learn
from trivium.data.read import from_arrays
from trivium.errors import UsageError
from trivium.plan import Plan

X, Y = load_breast_cancer(return_X_y=True)
IRIS = load_iris(return_X_y=True)
ALL = [getattr(learn, name) for name in learn.__all__]


@pytest.mark.parametrize("jobs", [None, 2])
def test_search(jobs):
    grid = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}
    mine, theirs = (
        GridSearchCV(make_pipeline(StandardScaler(), kind(max_iter=1000)), grid, n_jobs=jobs).fit(X, Y)
        for kind in (learn.LogisticRegression, peer.LogisticRegression)
    )
    np.testing.assert_allclose(mine.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=2e-3)
    assert mine.best_params_ == theirs.best_params_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ALL)
def test_copies(kind):
    rows, y = IRIS[0][:100], IRIS[1][:100]
    model = kind(plan=None)
    model.fit(rows, y)
    assert clone(model).get_params() == model.get_params()
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict(rows), model.predict(rows))
    assert other.run_.params_sha256 == model.run_.params_sha256
    assert model.run_.rows == 100
    assert np.isfinite(model.run_.loss)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("sparse", [False, True])
def test_tables(kind, sparse):
    rows, y = IRIS[0][:100], IRIS[1][:100] + 5
    if kind in (
        learn.ElasticNet,
        learn.Lasso,
        learn.LinearRegression,
        learn.Ridge,
        learn.SGDRegressor,
        learn.MLPRegressor,
    ):
        y = y * 1.0
    table = from_arrays(csr_array(rows) if sparse else rows, y)
    settings = {"random_state": 0} if "random_state" in kind().get_params() else {}
    model, other = kind(**settings).fit(table), kind(**settings).fit(rows, y)
    np.testing.assert_allclose(model.predict(table), other.predict(rows), rtol=1e-6)
    with pytest.raises(UsageError, match="leave y out"):
        kind().fit(table, y)


def test_weights_are_routed():
    weight = np.random.default_rng(0).uniform(0, 2, len(Y))
    with sklearn.config_context(enable_metadata_routing=True):
        model = learn.LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        scores = cross_validate(pipeline, X, Y, params={"sample_weight": weight})["test_score"]
    assert scores.mean() > 0.95


def test_names_of_columns():
    frame = pytest.importorskip("pandas").DataFrame(X[:, :5], columns=list("abcde"))
    pipeline = make_pipeline(StandardScaler(), SelectFromModel(learn.LogisticRegression(l1_ratio=1.0, C=0.01)))
    pipeline.set_output(transform="pandas")
    picked = pipeline.fit(frame, Y).transform(frame)
    assert set(picked.columns) < set("abcde")
    model = learn.LogisticRegression().fit(frame, Y)
    assert model.feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))


def test_exported_names():
    assert learn.__all__ == sorted(learn.__all__)
    assert set(learn.__all__) <= set(dir(learn))
    with pytest.raises(AttributeError, match="Forest"):
        learn.Forest  # noqa: B018


@pytest.mark.slow
def test_a_plan_is_a_parameter_like_others():
    model = learn.LogisticRegression(plan=Plan("ps", workers=4)).fit(X[:3], Y[18:21])  # fewer rows than workers
    assert model.run_.workers <= 3
    assert "plan=Plan" in repr(model)
