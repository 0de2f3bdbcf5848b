"""Multilayer perceptrons for classes and for values, as scikit-learn has them; see ``network`` for how they are run."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from trivium.learn.base import ClassCodes
from trivium.learn.network import CONSTRAINTS, Perceptron
from trivium.plan import Plan

__all__ = ["MLPClassifier", "MLPRegressor"]

Array = NDArray[Any]


class MLPClassifier(ClassifierMixin, ClassCodes, Perceptron):
    """Multilayer perceptron for classes; scikit-learn's ``MLPClassifier``.

    ``verbose`` logs a line at the end of each run (``logging``, INFO).

    >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
    >>> MLPClassifier((8,), solver="lbfgs", random_state=1).fit(X, y).predict(X)
    array([0, 1, 1, 0])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        plan: Plan | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MLPClassifier:
        """Fit to rows X (dense, sparse, a table or a data set) with classes y. Returns self."""
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        again = self._again()
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=not again
        )
        before = self.classes_ if again else None
        codes = self._encoded(y)
        if before is not None and not np.array_equal(before, self.classes_):
            self.classes_, found = before, self.classes_
            raise ValueError(
                f"warm_start can only be used where y has the same classes as in the previous call to fit: it had "
                f"{before}, y has {found}"
            )
        self._outputs()
        self._learn(X, codes, self._weights(sample_weight, X))
        return self

    @available_if(Perceptron._has_partial_fit)  # noqa: SLF001  same module
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One pass over some rows from where the last one ended. ``classes`` are needed in the first call."""
        first = not hasattr(self, "coefs_")
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=first)
        codes = self._known(y, classes, first=first)
        self._outputs()
        self._learn(X, codes, self._weights(sample_weight, X), partly=True)
        return self

    def _outputs(self) -> None:
        two = len(self.classes_) == 2
        self.n_outputs_, self.out_activation_ = (1, "logistic") if two else (len(self.classes_), "softmax")

    def _class_count(self) -> int:
        return len(self.classes_)

    def _score_of(self, X: Any, y: Array, weight: Array | None) -> float:
        return float(accuracy_score(y, self._codes(self._forward(X)), sample_weight=weight))

    def _codes(self, out: Array) -> Array:
        return np.asarray((out[:, 0] > 0.5).astype(np.intp) if out.shape[1] == 1 else out.argmax(axis=1))

    def predict(self, X: Any) -> Array:
        """The most probable classes, (rows,)."""
        X = self._checked(X)
        return self.classes_[self._codes(self._forward(X))]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (rows, classes)."""
        out = self._forward(self._checked(X))
        return np.concatenate([1 - out, out], axis=1) if out.shape[1] == 1 else out

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (rows, classes)."""
        return np.log(self.predict_proba(X))


class MLPRegressor(RegressorMixin, Perceptron):
    """Multilayer perceptron for values; scikit-learn's ``MLPRegressor``.

    ``verbose`` logs a line at the end of each run (``logging``, INFO).

    >>> X = [[0.0], [1.0], [2.0], [3.0]]
    >>> model = MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", random_state=0, max_iter=1000)
    >>> model.fit(X, [0.0, 1.0, 4.0, 9.0]).score(X, [0.0, 1.0, 4.0, 9.0]) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        plan: Plan | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MLPRegressor:
        """Fit to rows X with values y, (rows,) or (rows, outputs). Returns self."""
        X, values, weight = self._taken(X, y, sample_weight, reset=not self._again())
        self._learn(X, values, weight)
        return self

    @available_if(Perceptron._has_partial_fit)  # noqa: SLF001  same module
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MLPRegressor:
        """One pass over some rows from where the last one ended. Returns self."""
        X, values, weight = self._taken(X, y, sample_weight, reset=not hasattr(self, "coefs_"))
        self._learn(X, values, weight, partly=True)
        return self

    def _taken(self, X: Any, y: Any, weight: Any, *, reset: bool) -> tuple[Any, Array, Array | None]:
        X, y, weight = self._unwrapped(X, y, weight)
        kinds = [np.float64, np.float32]
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=kinds, order="C", reset=reset, multi_output=True, y_numeric=True
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._flat = y.ndim == 1
        values = np.ascontiguousarray(y, X.dtype).reshape(len(y), -1)
        if self.loss == "poisson" and (values < 0).any():
            raise ValueError("loss='poisson' takes values of 0 or more in y; use loss='squared_error'")
        self.n_outputs_, self.out_activation_ = values.shape[1], "exp" if self.loss == "poisson" else "identity"
        return X, values, self._weights(weight, X)

    def _score_of(self, X: Any, y: Array, weight: Array | None) -> float:
        found = self._forward(X)
        return float(r2_score(y, found, sample_weight=weight)) if np.isfinite(found).all() else math.nan

    def predict(self, X: Any) -> Array:
        """Values, (rows,) or (rows, outputs)."""
        out = self._forward(self._checked(X))
        return out[:, 0] if self._flat else out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
