"""All of scikit-learn's own checks of estimators, none excused: in this process, and on processes."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from trivium import Plan
from trivium.learn import (
    ElasticNet,
    FactorizationMachineClassifier,
    Lasso,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]


@parametrize_with_checks(
    [
        ElasticNet(),
        FactorizationMachineClassifier(),
        FactorizationMachineClassifier(solver="lbfgs"),
        Lasso(),
        LinearRegression(),
        LinearRegression(positive=True),
        LinearSVC(),
        LinearSVC(loss="hinge"),
        LogisticRegression(),
        LogisticRegression(l1_ratio=0.5),
        MLPClassifier(),
        MLPRegressor(),
        Ridge(),
        SGDClassifier(),
        SGDClassifier(loss="log_loss", average=True),
        SGDRegressor(),
    ]
)
def test_estimator(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([LogisticRegression(plan=Plan("ps", workers=2)), MLPClassifier(plan=Plan("ps", workers=2))])
def test_estimator_on_processes(estimator, check):
    check(estimator)
