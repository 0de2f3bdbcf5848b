"""Linear models by stochastic gradients: scikit-learn's SGDClassifier and SGDRegressor, in steps of several rows.

    Σ sᵢ·loss(xᵢ·w + b, yᵢ)/Σ sᵢ + alpha·(l1_ratio·‖w‖₁ + (1 − l1_ratio)/2·‖w‖₂²)

Rates, penalties and losses are scikit-learn's; a step of ``batch_size`` rows is as long as that many of its steps of
one row (``RowRate``), but never longer than the curvature of the loss allows, so that features that were not scaled
slow the fit down and do not blow it up. L1 is a proximal step after each step. ``batch_size="auto"`` is ``AUTO`` rows,
or all. Rows are drawn without replacement, or with ``shuffle=False`` taken in their order.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions

from trivium.data.table import Table
from trivium.learn.base import Learner, SparseCoefficients, at_least, not_converged, seed_of, within
from trivium.learn.running import Fitted, Task, steps_of
from trivium.plan import Plan
from trivium.program.margin_losses import loss_of
from trivium.program.margins import Margins
from trivium.program.optimizers.epochs import Epochs, RowRate
from trivium.program.optimizers.schedules import Schedule
from trivium.program.optimizers.sgd import SGD

__all__ = ["CONSTRAINTS", "Stochastic"]

Array = NDArray[Any]

AUTO = 64  # rows
LEAST_STEPS = 50  # without an improvement, before a fit may end: an epoch of small data has few
SAMPLE = 1000  # rows from which the largest curvature is estimated
POWER_STEPS = 20
CURVATURES = {"log_loss": 0.25, "squared_error": 1.0, "huber": 1.0}  # largest second derivatives; of the others below
SMOOTH = {"squared_hinge": 2.0, "modified_huber": 2.0, "squared_epsilon_insensitive": 2.0} | CURVATURES
PASSIVE = ("pa1", "pa2")

CONSTRAINTS: dict[str, Any] = {
    "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
    "alpha": [at_least(0)],
    "l1_ratio": [within(0, 1, "both"), None],
    "fit_intercept": ["boolean"],
    "max_iter": [at_least(1, whole=True)],
    "tol": [at_least(0), None],
    "shuffle": ["boolean"],
    "verbose": ["verbose"],
    "epsilon": [at_least(0)],
    "random_state": ["random_state"],
    "learning_rate": [StrOptions({"constant", "optimal", "invscaling", "adaptive", *PASSIVE})],
    "eta0": [within(0, None, "neither")],
    "power_t": [within(None, None, "neither")],
    "early_stopping": ["boolean"],
    "validation_fraction": [within(0, 1, "neither")],
    "n_iter_no_change": [at_least(1, whole=True)],
    "warm_start": ["boolean"],
    "average": [within(0, None, "neither", whole=True), "boolean"],
    "batch_size": [StrOptions({"auto"}), at_least(1, whole=True)],
    "plan": [Plan, None],
}


class Stochastic(SparseCoefficients, Learner):
    """Base: the run, its schedule and its mean."""

    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float | None
    fit_intercept: bool
    max_iter: int
    tol: float | None
    shuffle: bool
    epsilon: float
    random_state: Any
    learning_rate: str
    eta0: float
    power_t: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    average: Any
    batch_size: Any
    coef_: Any
    intercept_: Array

    def _refuse(self, *, partly: bool = False) -> None:
        if partly and self.early_stopping:
            raise ValueError("early_stopping should be False with partial_fit")
        if self.learning_rate == "optimal" and self.alpha == 0:
            raise ValueError("alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the rate.")
        allowed = {"hinge", "epsilon_insensitive"}
        if self.learning_rate in PASSIVE and self.loss not in allowed:
            raise ValueError(f"learning_rate={self.learning_rate!r} is for loss 'hinge' or 'epsilon_insensitive'")
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
        if self.power_t < 0:
            warnings.warn("power_t below 0 is deprecated in scikit-learn", FutureWarning, stacklevel=3)

    def _penalties(self) -> tuple[float, float]:
        if self.learning_rate in PASSIVE:
            return 0.0, 0.0
        ratio = {"l1": 1.0, "l2": 0.0, "elasticnet": self.l1_ratio or 0.0}.get(str(self.penalty))
        return (0.0, 0.0) if ratio is None else (self.alpha * ratio, self.alpha * (1.0 - ratio))

    def _learn(self, table: Table, start: dict[str, Array] | None, epochs: int, valid: Table | None = None) -> None:
        """Run from ``start``; sets ``coef_``, ``intercept_``, ``n_iter_`` and ``t_``."""
        rows = len(table)
        weight: Any = table.columns.get("weight")
        batch = min(rows, AUTO if self.batch_size == "auto" else self.batch_size)
        share = 1.0 if weight is None else float(np.mean(weight))  # a row's weight counts as so many rows
        program = self._program(table)
        partly = epochs == 1
        tol = -math.inf if self.tol is None or partly or valid is not None else self.tol
        mean, average = getattr(self, "_mean", None), float(self.average) if self.average else None
        steps = steps_of(rows, batch, self.plan)
        optimizer = Epochs(
            SGD(self._rate(table, program, batch * share)),
            steps=steps,
            most=epochs,
            tol=tol,
            patience=max(self.n_iter_no_change, -(-LEAST_STEPS // steps)),
            adaptive=self.learning_rate == "adaptive",
            average=average,
            mean=mean,
            rows=rows,
            before=getattr(self, "t_", 1.0) - 1.0,
            kept=0,
        )
        l1, l2 = self._penalties()
        task = Task(
            program,
            table,
            optimizer,
            epochs=epochs,
            batch_size=batch,
            l1=l1,
            l2=l2,
            seed=seed_of(self.random_state),
            start=start,
            valid=valid,
            patience=None if valid is None else self.n_iter_no_change,
            shuffle=self.shuffle,
        )
        fitted = self._carry_out(task)
        self._take(fitted, optimizer, program, rows)

    def _take(self, fitted: Fitted, optimizer: Epochs, program: Margins, rows: int) -> None:
        ledger = optimizer.ledger(fitted.head)
        self._iterate = {name: view.copy() for name, view in fitted.views.items()}
        views: Any = self._iterate
        if optimizer.average is not None:
            flat = np.array(fitted.slots.reshape(optimizer.slots, -1)[-1])
            self._mean: tuple[float, Array] | None = (ledger.averaged, flat)
            if ledger.averaged:
                views = program.layout.views(flat)
        self._weights_found = views["W"].T, views["b"] if "b" in views else np.zeros(program.outputs)
        self.n_iter_ = int(ledger.epochs)
        self.t_ = getattr(self, "t_", 1.0) + self.n_iter_ * rows
        if not all(np.isfinite(one).all() for one in self._weights_found):
            raise ValueError("Floating-point under-/overflow occurred: scale the features, or lower eta0")

    def _program(self, table: Table) -> Margins:
        y: Any = table.columns["y"]
        passive = (self.learning_rate, float(self.eta0)) if self.learning_rate in PASSIVE else None
        width = 1.0 if self.loss == "hinge" else self.epsilon
        constant = 1.0 if self.fit_intercept else 0.0
        program = Margins(self.loss, y.shape[1], width, constant, passive=passive)
        return program.for_data(table.spec)

    def _rate(self, table: Table, program: Margins, batch: float) -> Schedule:
        since = getattr(self, "t_", 1.0) - 1.0
        if self.learning_rate in PASSIVE:
            return RowRate("constant", eta0=1.0)
        kind = "constant" if self.learning_rate == "adaptive" else self.learning_rate
        first = 1.0
        if kind == "optimal":
            typical = math.sqrt(1.0 / math.sqrt(self.alpha))
            _, slope, _ = loss_of(self.loss)(np.array([[-typical]]), np.array([[1.0]]), program.width, False)
            first = max(1.0, abs(float(slope[0, 0]))) / (typical * self.alpha)
        most = 1.0 / self._curvature(table, batch) if self.loss in SMOOTH else math.inf
        return RowRate(kind, float(self.eta0), self.power_t, self.alpha or 1.0, first, batch, since, most)

    def _curvature(self, table: Table, batch: float) -> float:
        """Largest curvature of a batch's mean loss: the second derivative times the largest eigenvalue of x ⊗ x."""
        rows = len(table)
        picked = table if rows <= SAMPLE else table.rows(np.linspace(0, rows - 1, SAMPLE).astype(np.int64))
        x, _, weight = self._unwrapped(picked, None)
        share = np.ones(len(picked)) if weight is None else np.asarray(weight, np.float64)
        share = share / share.sum()
        balance: Any = picked.columns.get("balance")
        if balance is not None:
            share = share * balance.max(axis=1)
        squares = x.multiply(x).sum(axis=1) if hasattr(x, "multiply") else np.einsum("ij,ij->i", x, x)
        mean = float(share @ np.asarray(squares, np.float64) + 1.0)
        v, top = np.ones(x.shape[1]), 0.0
        for _ in range(POWER_STEPS):
            v = x.T @ (share * (x @ v))
            top = float(np.linalg.norm(v))
            if not top > 0.0:
                break
            v /= top
        return SMOOTH[self.loss] * (min(top + share.sum(), mean) + mean / batch)

    def _split(self, table: Table, codes: Array | None) -> tuple[Table, Table | None]:
        """Rows to learn from, and to stop by; the classes in the same proportions in both."""
        if not self.early_stopping:
            return table, None
        from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

        kind = ShuffleSplit if codes is None else StratifiedShuffleSplit
        cut = kind(test_size=self.validation_fraction, random_state=self.random_state)
        learned, kept = next(cut.split(np.zeros((len(table), 1)), codes))
        valid = table.rows(np.sort(kept))
        weight: Any = valid.columns.get("weight")
        if weight is not None and not np.any(weight > 0):
            raise ValueError(
                "The sample weights for validation set are all zero, consider using a different random state."
            )
        return table.rows(np.sort(learned)), valid

    def _begin(self, outputs: int, features: int, coef: Any, intercept: Any) -> dict[str, Array] | None:
        """Where a fit starts, and what earlier ones left behind is forgotten."""
        if coef is None and self.warm_start and hasattr(self, "coef_"):
            coef = self.coef_.toarray() if hasattr(self.coef_, "toarray") else self.coef_
            intercept = self.intercept_ if intercept is None else intercept
        self.t_, self._mean = 1.0, None
        if coef is None and intercept is None:
            return None
        start = {"W": np.zeros((outputs, features)), "b": np.zeros(outputs)}
        for name, given in (("W", coef), ("b", intercept)):
            if given is not None:
                found = np.asarray(given, np.float64)
                if found.size != start[name].size:
                    wanted = "coef_init" if name == "W" else "intercept_init"
                    raise ValueError(
                        f"Provided {wanted} does not match dataset: {found.shape}, not {start[name].shape}"
                    )
                start[name] = found.reshape(start[name].shape)
        return self._named(start)

    def _named(self, start: dict[str, Array]) -> dict[str, Array]:
        named = {"W": np.ascontiguousarray(start["W"].T)}
        return named | ({"b": start["b"]} if self.fit_intercept else {})

    def _spent(self, epochs: int) -> None:
        if self.tol is not None and not self.early_stopping and self.n_iter_ >= epochs:
            not_converged(self, epochs)
