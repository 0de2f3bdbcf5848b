"""Estimators with scikit-learn's names, defaults, meaning and fitted attributes, trained by Trivium's programs.

Each takes ``plan=None`` besides: None trains in this process, ``Plan("ps", workers=2)`` on processes. ``run_`` is the
record of the last run. X may also be a ``Table`` or a ``Dataset``, which bring their labels along.

>>> from trivium.learn import LogisticRegression
>>> LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).predict([[2.5]])
array([1])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivium.learn.factorization import FactorizationMachineClassifier
    from trivium.learn.linear import ElasticNet, Lasso, LinearRegression, Ridge
    from trivium.learn.logistic import LogisticRegression
    from trivium.learn.perceptron import MLPClassifier, MLPRegressor
    from trivium.learn.stochastic import SGDClassifier, SGDRegressor
    from trivium.learn.vectors import LinearSVC

_HOMES = {
    "ElasticNet": "linear",
    "FactorizationMachineClassifier": "factorization",
    "Lasso": "linear",
    "LinearRegression": "linear",
    "LinearSVC": "vectors",
    "LogisticRegression": "logistic",
    "MLPClassifier": "perceptron",
    "MLPRegressor": "perceptron",
    "Ridge": "linear",
    "SGDClassifier": "stochastic",
    "SGDRegressor": "stochastic",
}

__all__ = [
    "ElasticNet",
    "FactorizationMachineClassifier",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "Ridge",
    "SGDClassifier",
    "SGDRegressor",
]


def __getattr__(name: str) -> Any:
    """An estimator, when it is first asked for: scikit-learn takes its time to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
