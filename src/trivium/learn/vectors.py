"""Linear support vector machines, one against the rest, as scikit-learn's ``LinearSVC`` has them.

    ‖w‖²/2 + C · Σ sᵢ·lossᵢ(w)   (or ‖w‖₁),   w with the coefficient of a column of ``intercept_scaling``

Newton's method up to ``FEW`` columns, else L-BFGS, or OWL-QN with L1. The hinge has a corner: it is reached by a
sequence of ever narrower smooth ones (``WIDTHS``), each from the last one's solution; so is the hinge of Crammer and
Singer. The objective is then within ``WIDTHS[-1]`` of its least value, relative to C·Σ sᵢ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from trivium.learn.base import LinearClassifier, at_least, not_converged, within
from trivium.learn.running import Fitted, Task
from trivium.plan import Plan
from trivium.program.margins import JOINT, Margins
from trivium.program.optimizers.base import Optimizer
from trivium.program.optimizers.newton import Newton

__all__ = ["LinearSVC"]

Array = NDArray[Any]

FEW = 300  # columns: up to here the matrix of second derivatives is cheap
FEW_JOINT = 130  # coefficients of all classes together
WIDTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)


class LinearSVC(LinearClassifier):
    """Linear support vector classification; scikit-learn's ``LinearSVC``.

    ``dual`` is accepted and changes nothing, but where scikit-learn refuses it; nothing is random, so ``random_state``
    has no effect. ``verbose`` logs a line at the end of each run (``logging``, INFO).

    >>> LinearSVC().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).predict([[2.5]])
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "penalty": [StrOptions({"l1", "l2"})],
        "loss": [StrOptions({"hinge", "squared_hinge"})],
        "dual": ["boolean", StrOptions({"auto"})],
        "tol": [within(0, None, "neither")],
        "C": [within(0, None, "neither")],
        "multi_class": [StrOptions({"ovr", "crammer_singer"})],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [within(0, None, "neither")],
        "class_weight": [None, dict, StrOptions({"balanced"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "max_iter": [at_least(0, whole=True)],
        "plan": [Plan, None],
    }

    def __init__(
        self,
        penalty: str = "l2",
        loss: str = "squared_hinge",
        *,
        dual: Any = "auto",
        tol: float = 1e-4,
        C: float = 1.0,
        multi_class: str = "ovr",
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        max_iter: int = 1000,
        plan: Plan | None = None,
    ) -> None:
        self.penalty = penalty
        self.loss = loss
        self.dual = dual
        self.tol = tol
        self.C = C
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state
        self.max_iter = max_iter
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LinearSVC:
        """Fit to rows X (dense, sparse, a table or a data set) with classes y. Returns self."""
        self._refuse()
        X, y, sample_weight = self._unwrapped(X, y, sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, order="C", accept_large_sparse=False)
        codes = self._encoded(y)
        table, program = self._problem(X, y, codes, self._weights(sample_weight, X))
        weight: Any = table.columns.get("weight")  # those that the mean loss is over
        strength = 1.0 / (self.C * float(len(y) if weight is None else weight.sum()))
        l1, l2 = (strength, 0.0) if self.penalty == "l1" else (0.0, strength)
        if self.max_iter == 0:
            outputs = program.outputs
            self.coef_, self.intercept_, self.n_iter_ = np.zeros((outputs, X.shape[1])), np.zeros(outputs), 0
            not_converged(self, 0)
            return self
        self._keep(self._solve(Task(program, table, self._optimizer(program, l1), l1=l1, l2=l2)), program)
        return self

    def _refuse(self) -> None:
        """ValueError where scikit-learn refuses penalty, loss and dual together."""
        if self.multi_class == "crammer_singer":
            return
        dual, kinds = self.dual, (self.penalty, self.loss)
        allowed = {("l2", "squared_hinge"): (True, False), ("l2", "hinge"): (True,), ("l1", "squared_hinge"): (False,)}
        if kinds not in allowed or (dual != "auto" and bool(dual) not in allowed[kinds]):
            raise ValueError(
                f"Unsupported set of arguments: penalty={self.penalty!r}, loss={self.loss!r}, dual={dual!r}. Use 'l2' "
                "with 'squared_hinge', or with 'hinge' and dual=True, or 'l1' with 'squared_hinge' and dual=False"
            )

    def _problem(self, X: Any, y: Array, codes: Array, weight: Array | None) -> tuple[Any, Margins]:
        count = len(self.classes_)
        constant = float(self.intercept_scaling) if self.fit_intercept else 0.0
        width = X.shape[1] + (constant != 0)
        if self.multi_class == "crammer_singer":
            weight = self._class_weights(self.class_weight, y, codes, weight)
            table = self._table(X, codes, weight)
            few = width * count <= FEW_JOINT
            program = Margins("crammer_singer", count, WIDTHS[0], constant, free=False, curved=few)
            return table, program.for_data(table.spec)
        signs = np.where(codes[:, None] == np.arange(count), 1.0, -1.0)[:, 1 if count == 2 else 0 :]
        table = self._table(X, np.ascontiguousarray(signs), weight)
        if self.class_weight is not None:
            factors = self._class_factors(self.class_weight, y, weight)[codes][:, None]
            of_rest = factors if count == 2 else 1.0  # as LIBLINEAR has it: the rest is not weighed
            balance = np.where(signs > 0, factors, of_rest)
            table = replace(table, columns={**table.columns, "balance": balance})
        loss = "smooth_hinge" if self.loss == "hinge" else self.loss
        program = Margins(loss, signs.shape[1], WIDTHS[0], constant, free=False, curved=width <= FEW)
        return table, program.for_data(table.spec)

    def _optimizer(self, program: Margins, l1: float) -> Optimizer:
        from trivium.program.optimizers.lbfgs import LBFGS
        from trivium.program.optimizers.owlqn import OWLQN

        tol = self.tol / 100  # LIBLINEAR's tests are stricter ones: of the duality gap, or relative to the start
        if program.curved:
            return Newton(program.place, tol=tol, max_iter=self.max_iter)
        return (OWLQN if l1 > 0 else LBFGS)(tol=tol, max_iter=self.max_iter)

    def _solve(self, task: Task) -> Fitted:
        """One run, or the sequence of runs that ends at a corner."""
        program = task.program
        assert isinstance(program, Margins)
        smooth = program.loss == "smooth_hinge" or program.loss in JOINT
        steps, fitted = 0, None
        for width in WIDTHS if smooth else WIDTHS[:1]:
            start = None if fitted is None else {name: view.copy() for name, view in fitted.views.items()}
            fitted = self._carry_out(replace(task, program=replace(program, width=width), start=start))
            steps += fitted.record.iterations
        assert fitted is not None
        self.n_iter_ = max(1, steps)
        if fitted.record.stopped_by == "max_iter":
            not_converged(self, self.max_iter)
        return fitted

    def _keep(self, fitted: Fitted, program: Margins) -> None:
        coef = np.ascontiguousarray(fitted.views["W"].T)
        intercept = program.constant * fitted.views["b"] if self.fit_intercept else np.zeros(len(coef))
        if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
            raise ValueError("the fit ended with coefficients that are not finite: scale the features")
        if program.loss in JOINT and len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
