"""What all estimators share: rows in, tables out, weights and classes, and predictions of linear models.

Arrays become tables without being copied or hashed. Whatever a plan asks for beyond the rows that there are (lanes,
workers) is lowered, so that small data can be learned from with any plan.
"""

from __future__ import annotations

import logging
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from trivium.data.table import Csr, Table
from trivium.errors import UsageError
from trivium.learn.running import Fitted, Task, carry_out
from trivium.plan import Plan

__all__ = [
    "WITHOUT_EFFECT",
    "ClassCodes",
    "Learner",
    "LinearClassifier",
    "SparseCoefficients",
    "at_least",
    "not_converged",
    "seed_of",
    "threads_of",
    "within",
]

Array = NDArray[Any]

log = logging.getLogger(__name__)

WITHOUT_EFFECT = {
    "copy_X": "changes only how scikit-learn computes: here X is never overwritten",
    "ElasticNet.precompute": "changes only how scikit-learn computes: sums of squares are always computed once",
    "ElasticNet.random_state": "belongs to selection='random'",
    "ElasticNet.selection": "changes only how scikit-learn computes: coordinates are taken in turn",
    "LinearSVC.random_state": "nothing is random",
    "LogisticRegression.n_jobs": "has no effect in scikit-learn either, and warns so; plan has one",
    "LogisticRegression.random_state": "nothing is random",
    "Ridge.random_state": "nothing is random",
}
"""Parameters, of all estimators or of ``Class.name`` and what is derived from it, that change nothing, and why."""


def within(low: float | None, high: float | None, closed: str, *, whole: bool = False) -> Any:
    """scikit-learn's constraint on a parameter: a number from ``low`` to ``high``."""
    return Interval(Integral if whole else Real, low, high, closed=closed)


def at_least(least: float, *, whole: bool = False) -> Any:
    """scikit-learn's constraint on a parameter: ``least`` or more."""
    return within(least, None, "left", whole=whole)


def seed_of(random_state: Any) -> int:
    """A seed for a run."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def threads_of(n_jobs: int | None) -> int | None:
    """Threads of this process for ``n_jobs`` as joblib counts them; None leaves it to the size of the data."""
    from joblib import effective_n_jobs

    return None if n_jobs is None else int(effective_n_jobs(n_jobs))


def not_converged(who: object, max_iter: int, advice: str = "") -> None:
    """Warn as scikit-learn does where ``max_iter`` was reached."""
    warnings.warn(
        f"{type(who).__name__} did not converge within max_iter={max_iter} iterations: increase max_iter, raise tol or "
        f"scale the features.{advice}",
        ConvergenceWarning,
        stacklevel=3,
    )


class Learner(BaseEstimator):
    """Base: plan handling, and rows of any kind into tables.

    ``verbose`` logs a line at the end of each run through ``logging``, at level INFO. ``WITHOUT_EFFECT`` names the
    parameters that change nothing.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"plan": [Plan, None]}
    plan: Plan | None
    n_features_in_: int

    def _carry_out(self, task: Task) -> Fitted:
        fitted = carry_out(task, self.plan, self._threads())
        self.run_ = record = fitted.record
        if getattr(self, "verbose", 0):
            told = type(self).__name__, record.iterations, record.loss, record.seconds, record.stopped_by
            log.info("%s: %d steps, loss %.6g, %.3g s, stopped by %s", *told)
        return fitted

    def _threads(self) -> int | None:
        """Threads of this process, where there is no plan; None leaves their number to the size of the data."""
        return None

    def _unwrapped(self, X: Any, y: Any, weight: Any = None) -> tuple[Any, Any, Any]:
        """X, y and weights, where X may be a table or a data set that has all three."""
        if hasattr(X, "table") and hasattr(X, "fingerprint"):
            X = X.table()
        if not isinstance(X, Table):
            return X, y, weight
        if y is not None:
            raise UsageError(f"X is the table {X.name!r}, which has its own labels: leave y out")
        y, columns = X.columns.get("y"), X.columns
        if y is not None and X.classes:
            y = np.asarray(X.classes)[np.asarray(y)]
        return _features(X), y, columns.get("weight") if weight is None else weight

    def _checked(self, X: Any, **checks: Any) -> Any:
        """Features to predict from."""
        check_is_fitted(self)
        X, _, _ = self._unwrapped(X, None)
        options: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
        return validate_data(self, X, reset=False, **(options | checks))

    def _weights(self, weight: Any, X: Any, *, positive: bool = False) -> Array | None:
        """Checked weights, float64, None where there are none."""
        if weight is None:
            return None
        return np.asarray(
            _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=positive), dtype=np.float64
        )

    def _table(self, X: Any, y: Array | None, weight: Array | None = None, classes: int = 0) -> Table:
        """A table of checked arrays; nothing is copied that need not be."""
        columns: dict[str, Any] = {"x": _rows(X)}
        if y is not None:
            columns["y"] = y
        if weight is not None:
            columns["weight"] = weight
        return Table(columns, tuple(float(i) for i in range(classes)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _features(table: Table) -> Any:
    x = table.columns["x"]
    if isinstance(x, Csr):
        from scipy.sparse import csr_array

        small = x.nnz <= np.iinfo(np.int32).max  # some of scikit-learn's checks take no wider index
        indptr = x.indptr.astype(np.int32) if small else x.indptr
        return csr_array((x.values, x.indices, indptr), shape=(len(x), x.width))
    rows = x.reshape(len(x), -1)
    return rows if table.scale == 1.0 else rows * table.scale


def _rows(X: Any) -> Any:
    if not hasattr(X, "indptr"):
        return np.ascontiguousarray(X)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return Csr(X.indptr.astype(np.int64, copy=False), X.indices.astype(np.int32, copy=False), X.data, X.shape[1])


class SparseCoefficients:
    """Coefficients as a sparse matrix, and back."""

    coef_: Any

    def sparsify(self) -> Any:
        """Turn ``coef_`` into a CSR matrix; few non-zeros then take little memory. Returns self."""
        from scipy.sparse import csr_array

        check_is_fitted(self)
        self.coef_ = csr_array(self.coef_)
        return self

    def densify(self) -> Any:
        """Turn ``coef_`` back into an array. Returns self."""
        check_is_fitted(self)
        if hasattr(self.coef_, "toarray"):
            self.coef_ = self.coef_.toarray()
        return self


class ClassCodes:
    """Classes as numbers, and their weights."""

    classes_: Array

    def _encoded(self, y: Array) -> Array:
        """Class numbers of ``y``; sets ``classes_``; ValueError for numbers that are no classes, or one class."""
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only "
                f"one class: {self.classes_[0]!r}"
            )
        return codes.astype(np.int32)

    def _class_weights(self, class_weight: Any, y: Array, codes: Array, weight: Array | None) -> Array | None:
        """Weights times those of the classes."""
        if class_weight is None:
            return weight
        factors = self._class_factors(class_weight, y, weight)[codes]
        return factors if weight is None else weight * factors

    def _class_factors(self, class_weight: Any, y: Array, weight: Array | None) -> Array:
        """What each class's rows are weighed with, (classes,)."""
        return np.asarray(compute_class_weight(class_weight, classes=self.classes_, y=y, sample_weight=weight))

    def _known(self, y: Array, classes: Any, *, first: bool) -> Array:
        """Numbers of classes that the first call named."""
        if first:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._encoded(np.unique(classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} is not the same as on the first call to partial_fit: {self.classes_}"
            )
        codes = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        strange = self.classes_[codes] != y
        if strange.any():
            raise ValueError(f"y contains {np.unique(y[strange])!r}, which the first call did not name in classes")
        return codes.astype(np.int32)


class LinearClassifier(ClassifierMixin, ClassCodes, SparseCoefficients, Learner):
    """Classes from ``coef_`` (outputs, features) and ``intercept_`` (outputs,)."""

    intercept_: Array

    def decision_function(self, X: Any) -> Array:
        """Signed distances to the hyperplanes: (rows,) for two classes, else (rows, classes)."""
        X = self._checked(X)
        scores = np.asarray(safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_)
        return scores.reshape(-1) if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """The classes with the largest scores, (rows,)."""
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[codes]
