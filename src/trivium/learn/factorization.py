"""Factorization machines for classes: a linear model and a product of factors for each pair of features.

    z = b + Σᵢ wᵢxᵢ + Σ_{i<j} ⟨vᵢ, vⱼ⟩ xᵢxⱼ,     C · Σ sᵢ·log(1 + exp(−yᵢzᵢ)) + (‖w‖² + ‖V‖²)/2

Rendle, *Factorization machines*, ICDM 2010. More than two classes are separated one against the rest. scikit-learn has
no such estimator: names and meanings are those of its LogisticRegression and MLPClassifier.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from trivium.learn.base import ClassCodes, Learner, at_least, not_converged, seed_of, within
from trivium.learn.running import Fitted, Task, steps_of
from trivium.plan import Plan
from trivium.program.fm import FM
from trivium.program.optimizers.base import Optimizer
from trivium.program.optimizers.epochs import KEPT, Epochs, Ledger

__all__ = ["FactorizationMachineClassifier"]

Array = NDArray[Any]

AUTO = 256  # rows
INITIAL = 1e-6  # of AdaGrad's sums: rare features take large steps from the first


class FactorizationMachineClassifier(ClassifierMixin, ClassCodes, Learner):
    """Factorization machine; ``coef_`` (outputs, features), ``factors_`` (outputs, features, ``n_factors``).

    ``solver``: ``adagrad`` or ``adam`` in steps of ``batch_size`` rows with ``learning_rate_init``, until the training
    loss gets better by less than ``tol`` for ``n_iter_no_change`` epochs; ``lbfgs`` on all rows, until no element of
    the gradient exceeds ``tol``. ``init_scale`` is the deviation of the first factors.

    >>> X, y = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], [1, 0, 0, 1]
    >>> model = FactorizationMachineClassifier(2, C=100.0, solver="lbfgs", init_scale=0.5, random_state=0)
    >>> model.fit(X, y).predict(X)
    array([1, 0, 0, 1])
    """

    coef_: Array
    factors_: Array
    intercept_: Array

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_factors": [at_least(1, whole=True)],
        "C": [within(0, None, "right")],
        "solver": [StrOptions({"adagrad", "adam", "lbfgs"})],
        "learning_rate_init": [within(0, None, "neither")],
        "init_scale": [within(0, None, "neither")],
        "batch_size": [StrOptions({"auto"}), at_least(1, whole=True)],
        "max_iter": [at_least(1, whole=True)],
        "tol": [at_least(0)],
        "n_iter_no_change": [at_least(1, whole=True)],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "plan": [Plan, None],
    }

    def __init__(
        self,
        n_factors: int = 8,
        *,
        C: float = 1.0,
        solver: str = "adagrad",
        learning_rate_init: float = 0.05,
        init_scale: float = 0.01,
        batch_size: Any = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        plan: Plan | None = None,
    ) -> None:
        self.n_factors = n_factors
        self.C = C
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.init_scale = init_scale
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.random_state = random_state
        self.warm_start = warm_start
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> FactorizationMachineClassifier:
        """Fit to rows X (dense, sparse, a table or a data set) with classes y. Returns self."""
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C")
        before = getattr(self, "classes_", None)
        codes = self._encoded(y)
        again = self.warm_start and before is not None and np.array_equal(before, self.classes_)
        again = again and self.factors_.shape[1:] == (X.shape[1], self.n_factors)
        weight = self._class_weights(self.class_weight, y, codes, self._weights(sample_weight, X))
        two, seed = len(self.classes_) == 2, seed_of(self.random_state)
        found: list[Fitted] = []
        self._curves: list[list[float]] = []
        for k in range(1 if two else len(self.classes_)):
            labels = codes if two else (codes == k).astype(np.int32)
            start = self._start(k) if again else None
            found.append(self._run(self._table(X, labels, weight, 2), seed + k, start))
        if self.solver != "lbfgs":
            self.loss_curve_: Any = self._curves[0] if two else self._curves
        del self._curves
        views = [one.views for one in found]
        self.coef_ = np.stack([one["w"] for one in views]).astype(X.dtype)
        self.factors_ = np.stack([one["V"] for one in views]).astype(X.dtype)
        self.intercept_ = np.concatenate([one["b"] for one in views]).astype(X.dtype)
        if not all(np.isfinite(one).all() for one in (self.coef_, self.factors_, self.intercept_)):
            raise ValueError("the fit ended with factors that are not finite: scale the features")
        return self

    def _start(self, k: int) -> dict[str, Array]:
        return {
            "b": np.array(self.intercept_[k : k + 1], np.float64),
            "w": np.array(self.coef_[k], np.float64),
            "V": np.array(self.factors_[k], np.float64),
        }

    def _run(self, table: Any, seed: int, start: dict[str, Array] | None) -> Fitted:
        from trivium.program.optimizers.lbfgs import LBFGS

        rows, weight = len(table), table.columns.get("weight")
        l2 = 0.0 if math.isinf(self.C) else 1.0 / (self.C * (rows if weight is None else float(weight.sum())))
        program = FM(self.n_factors, spread=float(self.init_scale)).for_data(table.spec)
        if self.solver == "lbfgs":
            method = LBFGS(tol=self.tol, max_iter=self.max_iter)
            fitted = self._carry_out(Task(program, table, method, l2=l2, seed=seed, start=start))
            self._count(fitted.record.iterations, spent=fitted.record.stopped_by == "max_iter")
            return fitted
        return self._by_epochs(Task(program, table, self._inner(), l2=l2, seed=seed, start=start))

    def _by_epochs(self, task: Task) -> Fitted:
        """Steps of ``task``'s optimizer until the loss stops falling, in blocks of ``KEPT`` epochs."""
        rows = len(task.table)
        batch = min(rows, AUTO if self.batch_size == "auto" else self.batch_size)
        curve: list[float] = []
        ledger: Ledger | None = None
        fitted: Fitted | None = None
        while ledger is None or not (ledger.done or len(curve) >= self.max_iter):
            epochs = min(KEPT, self.max_iter - len(curve))
            optimizer = Epochs(
                task.optimizer,
                steps=steps_of(rows, batch, self.plan),
                most=epochs,
                tol=self.tol,
                patience=self.n_iter_no_change,
                penalised=True,
            )
            start = task.start if fitted is None else optimizer.resumed(fitted.saved or {}, ledger)
            seed = task.seed + len(curve)
            block = replace(task, optimizer=optimizer, epochs=epochs, batch_size=batch, seed=seed, start=start)
            fitted = self._carry_out(block)
            ledger = optimizer.ledger(fitted.head)
            curve += ledger.curve[: int(ledger.epochs)].tolist()
        assert fitted is not None
        self._curves.append(curve)
        self._count(len(curve), spent=not ledger.done)
        return fitted

    def _inner(self) -> Optimizer:
        from trivium.program.optimizers.adagrad import AdaGrad
        from trivium.program.optimizers.adam import Adam

        rate = float(self.learning_rate_init)
        return Adam(rate) if self.solver == "adam" else AdaGrad(rate, initial=INITIAL)

    def _count(self, iterations: int, *, spent: bool) -> None:
        self.n_iter_ = max(1, iterations)
        if spent:
            not_converged(self, self.max_iter)

    def decision_function(self, X: Any) -> Array:
        """Scores z of the second class, (rows,), or of each class against the rest, (rows, classes)."""
        X = self._checked(X)
        squares = X.multiply(X) if hasattr(X, "multiply") else X * X
        scores = np.asarray(X @ self.coef_.T) + self.intercept_
        for k, factors in enumerate(self.factors_):
            scores[:, k] += 0.5 * (np.asarray(X @ factors) ** 2 - np.asarray(squares @ factors**2)).sum(axis=1)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """The classes with the largest scores, (rows,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (rows, classes); of more than two, those against the rest, brought to sum 1."""
        from scipy.special import expit

        found = expit(self.decision_function(X))
        if found.ndim == 1:
            return np.stack([1 - found, found], axis=1)
        total = found.sum(axis=1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[1])

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (rows, classes)."""
        return np.log(self.predict_proba(X))
