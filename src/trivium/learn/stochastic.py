"""Linear models by stochastic gradients, as scikit-learn has them; see ``gradients`` for how they are run."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from trivium.data.table import Table
from trivium.learn.base import LinearClassifier, threads_of
from trivium.learn.gradients import CONSTRAINTS, Stochastic
from trivium.plan import Plan

__all__ = ["SGDClassifier", "SGDRegressor"]

Array = NDArray[Any]


class SGDClassifier(LinearClassifier, Stochastic):
    """Linear classifier by stochastic gradients, one against the rest; scikit-learn's ``SGDClassifier``.

    ``batch_size`` rows a step, and ``plan``, are additions. ``n_jobs`` threads where there is no ``plan``, which pay
    for large data only. ``verbose`` logs a line at the end (``logging``, INFO).

    >>> SGDClassifier(random_state=0).fit([[-2.0], [-1.0], [1.0], [2.0]], [0, 0, 1, 1]).predict([[3.0]])
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "loss": [
            StrOptions(
                {
                    "hinge",
                    "log_loss",
                    "modified_huber",
                    "squared_hinge",
                    "perceptron",
                    "squared_error",
                    "huber",
                    "epsilon_insensitive",
                    "squared_epsilon_insensitive",
                }
            )
        ],
        "n_jobs": [None, Integral],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        loss: str = "hinge",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        n_jobs: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        average: Any = False,
        batch_size: Any = "auto",
        plan: Plan | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any = None, coef_init: Any = None, intercept_init: Any = None, sample_weight: Any = None
    ) -> SGDClassifier:
        """Fit to rows X with classes y, from zero, or from ``coef_init`` and ``intercept_init``. Returns self."""
        self._refuse()
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C")
        codes = self._encoded(y)
        table = self._rows(X, y, codes, sample_weight)
        outputs: Any = table.columns["y"].shape[1]  # type: ignore[union-attr]
        start = self._begin(outputs, X.shape[1], coef_init, intercept_init)
        table, valid = self._split(table, codes)
        self._learn(table, start, self.max_iter, valid)
        self._keep(X)
        self._spent(self.max_iter)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> SGDClassifier:
        """One pass over some rows from where the last one ended. ``classes`` are needed in the first call."""
        first = not hasattr(self, "classes_")
        self._refuse(partly=True)
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all rows: give sample_weight, or a dict of class weights")
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=first)
        codes = self._known(y, classes, first=first)
        start = None if first else getattr(self, "_iterate", None)
        if first:
            self.t_, self._mean = 1.0, None
        self._learn(self._rows(X, y, codes, sample_weight), start, 1)
        self._keep(X)
        return self

    def _rows(self, X: Any, y: Array, codes: Array, sample_weight: Any) -> Table:
        count, weight = len(self.classes_), self._weights(sample_weight, X)
        signs = np.where(codes[:, None] == np.arange(count), 1.0, -1.0)[:, 1 if count == 2 else 0 :]
        table = self._table(X, np.ascontiguousarray(signs), weight)
        if self.class_weight is None:
            return table
        factors = self._class_factors(self.class_weight, y, None)[codes][:, None]
        balance = np.where(signs > 0, factors, factors if count == 2 else 1.0)
        return Table({**table.columns, "balance": balance})

    def _threads(self) -> int | None:
        return threads_of(self.n_jobs)

    def _keep(self, X: Any) -> None:
        coef, intercept = self._weights_found
        del self._weights_found
        self.coef_, self.intercept_ = np.array(coef, X.dtype, order="C"), np.array(intercept, X.dtype)

    def _has_probabilities(self) -> bool:
        if self.loss not in ("log_loss", "modified_huber"):
            raise AttributeError(f"probability estimates are not available for loss={self.loss!r}")
        return True

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (rows, classes); with ``log_loss`` or ``modified_huber`` only."""
        scores = self.decision_function(X)
        if self.loss == "log_loss":
            from scipy.special import expit

            found = expit(scores)
        else:
            found = (np.clip(scores, -1, 1) + 1) / 2
        if found.ndim == 1:
            return np.stack([1 - found, found], axis=1)
        total = found.sum(axis=1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[1])

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (rows, classes)."""
        return np.log(self.predict_proba(X))


class SGDRegressor(RegressorMixin, Stochastic):
    """Linear regression by stochastic gradients; scikit-learn's ``SGDRegressor``.

    ``batch_size`` rows a step, and ``plan``, are additions. ``verbose`` logs a line at the end (``logging``, INFO).

    >>> model = SGDRegressor(random_state=0, eta0=0.1, tol=1e-4).fit([[-1.0], [0.0], [1.0]], [-2.0, 0.0, 2.0])
    >>> model.predict([[0.5]]).round(1)
    array([1.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: Any = False,
        batch_size: Any = "auto",
        plan: Plan | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any = None, coef_init: Any = None, intercept_init: Any = None, sample_weight: Any = None
    ) -> SGDRegressor:
        """Fit to rows X with values y, from zero, or from ``coef_init`` and ``intercept_init``. Returns self."""
        self._refuse()
        X, table = self._rows(X, y, sample_weight, first=True)
        start = self._begin(1, X.shape[1], coef_init, intercept_init)
        table, valid = self._split(table, None)
        self._learn(table, start, self.max_iter, valid)
        self._keep(X)
        self._spent(self.max_iter)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> SGDRegressor:
        """One pass over some rows from where the last one ended. Returns self."""
        first = not hasattr(self, "coef_")
        self._refuse(partly=True)
        X, table = self._rows(X, y, sample_weight, first=first)
        if first:
            self.t_, self._mean = 1.0, None
        self._learn(table, None if first else getattr(self, "_iterate", None), 1)
        self._keep(X)
        return self

    def _rows(self, X: Any, y: Any, sample_weight: Any, *, first: bool) -> tuple[Any, Table]:
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        kinds = [np.float64, np.float32]
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=kinds, order="C", reset=first, y_numeric=True)
        values = np.asarray(y, np.float64).reshape(-1, 1)
        return X, self._table(X, values, self._weights(sample_weight, X))

    def _keep(self, X: Any) -> None:
        coef, intercept = self._weights_found
        del self._weights_found
        self.coef_, self.intercept_ = np.array(coef[0], X.dtype), np.array(intercept, X.dtype)

    def predict(self, X: Any) -> Array:
        """Values (rows,)."""
        X = self._checked(X)
        coef = self.coef_ if hasattr(self.coef_, "toarray") else self.coef_.reshape(1, -1)
        return np.asarray(safe_sparse_dot(X, coef.T, dense_output=True) + self.intercept_).reshape(-1)
