"""Logistic regression, as scikit-learn has it.

    C · Σ sᵢ·lossᵢ(w, b) + l1_ratio·‖w‖₁ + (1 − l1_ratio)/2·‖w‖₂²

Which method does it follows from the data and the penalty, not from ``solver``, all of whose names are accepted, with
any penalty:

* few coefficients (``FEW``, ``FEW_JOINT``): Newton's method, by coordinate descent where there is L1;
* more: L-BFGS, or OWL-QN where there is L1.

``solver="liblinear"`` keeps its meaning: the intercept is penalised, as the coefficient of a column of
``intercept_scaling``, and there are two classes.
"""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Hidden, StrOptions
from sklearn.utils.extmath import softmax
from sklearn.utils.validation import check_is_fitted, validate_data

from trivium.learn.base import LinearClassifier, at_least, not_converged, within
from trivium.learn.running import Fitted, Task
from trivium.plan import Plan
from trivium.program.margins import Margins
from trivium.program.optimizers.base import Optimizer
from trivium.program.optimizers.newton import Newton
from trivium.program.program import Program

__all__ = ["LogisticRegression"]

Array = NDArray[Any]

FEW = 300  # coefficients of two classes: up to here the matrix of second derivatives is cheap
FEW_JOINT = 130  # coefficients of several classes together
SOLVERS = ("lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga")
BATCH = 256  # rows of a step of partial_fit
RATE = 0.1  # of AdaGrad, in partial_fit


class LogisticRegression(LinearClassifier):
    """Logistic regression of two classes, or multinomial; scikit-learn's ``LogisticRegression``.

    ``tol`` bounds the largest element of the gradient of the mean objective. ``plan`` None trains in this process.
    ``partial_fit`` is an addition. ``n_jobs`` has no effect, as in scikit-learn, nor has ``random_state``: nothing is
    random. ``verbose`` logs a line at the end of each run (``logging``, INFO).

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> LogisticRegression().fit(X, y).predict(X[:2])
    array([0, 0])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "penalty": [StrOptions({"l1", "l2", "elasticnet"}), None, Hidden(StrOptions({"deprecated"}))],
        "C": [within(0, None, "right")],
        "l1_ratio": [within(0, 1, "both"), None],
        "dual": ["boolean"],
        "tol": [at_least(0)],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [within(0, None, "neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions(set(SOLVERS))],
        "max_iter": [at_least(0, whole=True)],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "n_jobs": [None, Integral],
        "plan": [Plan, None],
    }

    def __init__(
        self,
        penalty: Any = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float | None = 0.0,
        dual: bool = False,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LogisticRegression:
        """Fit to rows X (dense, sparse, a table or a data set) with classes y. Returns self."""
        strengths = self._penalties()
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C")
        before = getattr(self, "classes_", None)
        codes = self._encoded(y)
        if self.solver == "liblinear" and len(self.classes_) > 2:
            raise ValueError(
                "The 'liblinear' solver does not support multiclass classification (n_classes >= 3): choose another "
                "solver, or wrap the estimator in a OneVsRestClassifier"
            )
        weight = self._class_weights(self.class_weight, y, codes, self._weights(sample_weight, X))
        total = float(len(y) if weight is None else weight.sum())
        table, program = self._problem(X, codes, weight)
        same = before is not None and np.array_equal(before, self.classes_)
        start = self._start(X, program) if self.warm_start and same and hasattr(self, "coef_") else None
        if self.max_iter == 0:
            self._no_steps(X, start)
            return self
        l1, l2 = (strength / total for strength in strengths)
        fitted = self._carry_out(Task(program, table, self._optimizer(program, l1), l1=l1, l2=l2, start=start))
        self._keep(fitted, X)
        return self

    def _penalties(self) -> tuple[float, float]:
        """Factors of ‖w‖₁ and ‖w‖₂²/2 beside the summed losses, with scikit-learn's warnings and errors."""
        penalty, ratio = self.penalty, self.l1_ratio
        if self.n_jobs is not None:
            warnings.warn("n_jobs has no effect, as in scikit-learn; use plan", FutureWarning, stacklevel=3)
        if penalty == "deprecated":
            if ratio is None:
                warnings.warn("l1_ratio=None is deprecated: give a number from 0 to 1", FutureWarning, stacklevel=3)
            ratio = ratio or 0.0
        else:
            warnings.warn(
                "penalty is deprecated in scikit-learn: use l1_ratio=0 for 'l2', l1_ratio=1 for 'l1', a number between "
                "for 'elasticnet', and C=np.inf for None",
                FutureWarning,
                stacklevel=3,
            )
            if penalty == "elasticnet" and ratio is None:
                raise ValueError("l1_ratio must be specified when penalty is elasticnet.")
            ratio = {"l1": 1.0, "l2": 0.0}.get(str(penalty), ratio or 0.0)
        if self.dual and (self.solver != "liblinear" or ratio != 0):
            raise ValueError(f"Solver {self.solver} supports only dual=False with this penalty, got dual=True")
        if penalty is None or math.isinf(self.C):
            return 0.0, 0.0
        return ratio / self.C, (1.0 - ratio) / self.C

    def _problem(self, X: Any, codes: Array, weight: Array | None) -> tuple[Any, Program]:
        """The table and the program that suit the number of coefficients."""
        from trivium.program.logistic import Logistic
        from trivium.program.softmax import Softmax

        count, linear = len(self.classes_), self.solver == "liblinear"
        constant = (float(self.intercept_scaling) if linear else 1.0) if self.fit_intercept else 0.0
        width = X.shape[1] + (constant != 0)
        program: Program
        if count == 2 and (linear or width <= FEW):
            y = np.where(codes == 1, 1.0, -1.0)
            program = Margins("log_loss", constant=constant, free=not linear, curved=width <= FEW)
            table = self._table(X, y, weight)
        else:
            table = self._table(X, codes, weight, count)
            if count == 2:
                program = Logistic(intercept=self.fit_intercept)
            elif width * count <= FEW_JOINT:
                program = Margins("softmax", count, constant=constant, curved=True)
            else:
                program = Softmax(intercept=self.fit_intercept)
        return table, program.for_data(table.spec)

    def _optimizer(self, program: Program, l1: float) -> Optimizer:
        from trivium.program.optimizers.lbfgs import LBFGS
        from trivium.program.optimizers.owlqn import OWLQN

        if isinstance(program, Margins) and program.curved:
            return Newton(program.place, tol=self.tol, max_iter=self.max_iter)
        method = OWLQN if l1 > 0 else LBFGS
        return method(tol=self.tol, max_iter=self.max_iter)

    def _start(self, X: Any, program: Program) -> dict[str, Array]:
        """Where a warm start begins, by the program's names."""
        coef, intercept = np.asarray(self.coef_, np.float64), np.asarray(self.intercept_, np.float64)
        if coef.shape[1] != X.shape[1]:
            raise ValueError(
                f"warm_start: coef_ has {coef.shape[1]} features, X has {X.shape[1]}: fit anew with warm_start=False"
            )
        if isinstance(program, Margins):
            start = {"W": coef.T, "b": intercept / (program.constant or 1.0)}
        else:
            start = {"w": coef[0]} if len(coef) == 1 else {"W": coef.T}
            start["b"] = intercept
        names = {one.name for one in program.layout.slices}
        return {name: np.ascontiguousarray(array) for name, array in start.items() if name in names}

    def _no_steps(self, X: Any, start: Any) -> None:
        if start is None:
            outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
            self.coef_, self.intercept_ = np.zeros((outputs, X.shape[1]), X.dtype), np.zeros(outputs, X.dtype)
        self.n_iter_ = np.zeros(1, np.int32)
        not_converged(self, 0)

    def _keep(self, fitted: Fitted, X: Any) -> None:
        views, record = fitted.views, fitted.record
        weights = views["W"].T if "W" in views else views["w"][None, :]
        scale = float(self.intercept_scaling) if self.solver == "liblinear" else 1.0
        intercept = scale * views["b"] if "b" in views else np.zeros(len(weights))
        if not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
            raise ValueError("the fit ended with coefficients that are not finite: scale the features")
        self.coef_, self.intercept_ = np.array(weights, X.dtype), np.array(intercept, X.dtype)
        self.n_iter_ = np.array([min(max(record.iterations, 1), self.max_iter)], np.int32)
        self._seen = 0.0
        self._state: dict[str, Array] | None = None
        if record.stopped_by == "max_iter":
            not_converged(self, self.max_iter)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> LogisticRegression:
        """One pass over some rows from where the last one ended: AdaGrad on batches of ``BATCH``. Returns self.

        ``classes`` are needed in the first call. The penalty counts once over all rows seen so far.
        """
        from trivium.program.optimizers.adagrad import AdaGrad

        first = not hasattr(self, "coef_")
        l1, l2 = self._penalties()
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=first)
        codes = self._known(y, classes, first=first)
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all rows: give sample_weight, or a dict of class weights")
        weight = self._class_weights(self.class_weight, y, codes, self._weights(sample_weight, X))
        self._seen = getattr(self, "_seen", 0.0) + float(len(y) if weight is None else weight.sum())
        table = self._table(X, codes, weight, len(self.classes_))
        program = self._streamed(table)
        start = getattr(self, "_state", None) or (None if first else self._start(X, program))
        task = Task(
            program,
            table,
            AdaGrad(RATE),
            epochs=1,
            batch_size=min(BATCH, len(y)),
            l1=l1 / self._seen,
            l2=l2 / self._seen,
            start=start,
        )
        fitted, seen = self._carry_out(task), self._seen
        self._keep(fitted, X)
        self._seen, self._state = seen, fitted.saved
        return self

    def _streamed(self, table: Any) -> Program:
        from trivium.program.logistic import Logistic
        from trivium.program.softmax import Softmax

        kind = Logistic if len(self.classes_) == 2 else Softmax
        return kind(intercept=self.fit_intercept).for_data(table.spec)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (rows, classes)."""
        check_is_fitted(self)
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return np.asarray(softmax(scores, copy=False))
        from scipy.special import expit

        second = expit(scores)
        return np.stack([1 - second, second], axis=1)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (rows, classes)."""
        return np.log(self.predict_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.solver == "liblinear":
            tags.classifier_tags.multi_class = False
        return tags
