"""Multilayer perceptrons, as scikit-learn's MLPClassifier and MLPRegressor.

    Σ sᵢ·lossᵢ/Σ sᵢ + alpha/(2·Σ sᵢ)·‖W‖₂²     over a batch

The first weights are those that scikit-learn draws from the same ``random_state``, so that a fit whose batch holds all
rows takes the same steps; so does one with ``shuffle=False``, which takes rows in their order. Else rows of smaller
batches are drawn in an order of our own. The training loss of an epoch stops the run from inside (``Epochs``), in
blocks of ``KEPT`` epochs; ``early_stopping`` runs an epoch at a time and scores between. ``max_fun`` bounds the
evaluations of ``lbfgs``. Labels of several classes at once are not supported.
"""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Options, StrOptions
from sklearn.utils.extmath import safe_sparse_dot, softmax

from trivium.data.table import Table
from trivium.learn.base import Learner, at_least, not_converged, within
from trivium.learn.running import Fitted, Task, steps_of
from trivium.plan import Plan
from trivium.program.mlp import Mlp
from trivium.program.optimizers.base import Optimizer
from trivium.program.optimizers.epochs import KEPT, Epochs, Ledger, Power, Velocity

__all__ = ["CONSTRAINTS", "Perceptron", "active"]

Array = NDArray[Any]

AUTO = 200  # rows
STOCHASTIC = ("sgd", "adam")
NEVER = 1 << 30  # epochs

CONSTRAINTS: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", at_least(1, whole=True)],
    "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC})],
    "alpha": [at_least(0)],
    "batch_size": [StrOptions({"auto"}), at_least(1, whole=True)],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [within(0, None, "neither")],
    "power_t": [at_least(0)],
    "max_iter": [at_least(1, whole=True)],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [at_least(0)],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [within(0, 1, "both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [within(0, 1, "left")],
    "beta_1": [within(0, 1, "left")],
    "beta_2": [within(0, 1, "left")],
    "epsilon": [within(0, None, "neither")],
    "n_iter_no_change": [at_least(1, whole=True), Options(Real, {np.inf})],
    "max_fun": [at_least(1, whole=True)],
    "plan": [Plan, None],
}


class Perceptron(Learner):
    """Base: the network, its runs, and its predictions."""

    hidden_layer_sizes: Any
    activation: str
    solver: str
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    max_fun: int
    shuffle: bool
    random_state: Any
    tol: float
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    n_outputs_: int
    out_activation_: str
    coefs_: list[Array]
    intercepts_: list[Array]

    def _again(self) -> bool:
        """Whether a fit goes on from the last one."""
        return bool(self.warm_start and hasattr(self, "coefs_"))

    def _widths(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        widths = tuple(int(one) for one in (sizes if hasattr(sizes, "__iter__") else [sizes]))
        if any(one <= 0 for one in widths):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {list(widths)}.")
        return widths

    def _learn(self, X: Any, y: Array, weight: Array | None, *, partly: bool = False) -> None:
        """Run for checked rows; ``y`` class numbers, or values (rows, outputs)."""
        stream = check_random_state(self.random_state)
        fresh = not hasattr(self, "coefs_") or not (partly or self.warm_start)
        widths = self._widths()
        if fresh:
            self._draw(stream, (X.shape[1], *widths, self.n_outputs_), X.dtype)
        seed = int(stream.randint(np.iinfo(np.int32).max))
        outputs = {"identity": "squared", "exp": "poisson"}.get(self.out_activation_, self.out_activation_)
        program = Mlp(widths, self.activation, dtype=str(X.dtype), backend="blas", outputs=outputs)
        if self.solver == "lbfgs":
            self._by_lbfgs(program, X, y, weight, seed)
        elif self.early_stopping:
            if partly:
                raise ValueError("partial_fit does not support early_stopping=True")
            self._by_scores(program, X, y, weight, stream, seed)
        else:
            self._by_epochs(program, X, y, weight, seed, partly=partly)
        if not all(np.isfinite(one).all() for one in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )

    def _draw(self, stream: Any, units: tuple[int, ...], dtype: Any) -> None:
        """The first weights, as scikit-learn draws them, and an empty history."""
        factor = 2.0 if self.activation == "logistic" else 6.0
        self.coefs_, self.intercepts_ = [], []
        for i in range(len(units) - 1):
            bound = np.sqrt(factor / (units[i] + units[i + 1]))
            self.coefs_.append(stream.uniform(-bound, bound, units[i : i + 2]).astype(dtype, copy=False))
            self.intercepts_.append(stream.uniform(-bound, bound, units[i + 1]).astype(dtype, copy=False))
        self.n_layers_, self.t_, self.n_iter_ = len(units), 0, 0
        self._state: dict[str, Array] | None = None
        if self.solver in STOCHASTIC:
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_: float | None = -math.inf if self.early_stopping else None
            self.best_loss_: float | None = None if self.early_stopping else math.inf

    def _start(self) -> dict[str, Array]:
        named: dict[str, Array] = {}
        for i, (coef, intercept) in enumerate(zip(self.coefs_, self.intercepts_, strict=True), 1):
            named |= {f"W{i}": np.ascontiguousarray(coef), f"b{i}": intercept}
        return named

    def _keep(self, fitted: Fitted) -> None:
        layers = range(1, self.n_layers_)
        self.coefs_ = [fitted.views[f"W{i}"].copy() for i in layers]
        self.intercepts_ = [fitted.views[f"b{i}"].copy() for i in layers]

    def _rows(self, X: Any, y: Array, weight: Array | None) -> Table:
        return self._table(X, y, weight, self._class_count())

    def _class_count(self) -> int:
        return 0

    # -- three ways to run --------------------------------------------------------------------------------------------
    def _by_lbfgs(self, program: Mlp, X: Any, y: Array, weight: Array | None, seed: int) -> None:
        from trivium.program.optimizers.lbfgs import LBFGS

        table = self._rows(X, y, weight)
        l2 = self.alpha / (len(y) if weight is None else float(weight.sum()))
        method = LBFGS(tol=self.tol, max_iter=self.max_iter, precondition=False, max_evaluations=self.max_fun)
        task = Task(program.for_data(table.spec), table, method, l2=l2, seed=seed, start=self._start())
        fitted = self._carry_out(task)
        self._keep(fitted)
        self.n_iter_ = max(1, fitted.record.iterations)
        self.loss_ = self._loss(X, y, weight, l2)
        if fitted.record.stopped_by == "max_iter":
            spent = self.n_iter_ < self.max_iter and fitted.record.clocks >= self.max_fun
            not_converged(self, self.max_iter, f" max_fun={self.max_fun} evaluations were made." if spent else "")

    def _by_epochs(self, program: Mlp, X: Any, y: Array, weight: Array | None, seed: int, *, partly: bool) -> None:
        table = self._rows(X, y, weight)
        program, most = program.for_data(table.spec), 1 if partly else self.max_iter
        before: Ledger | None = None
        count, done = 0, False
        while count < most and not done:
            epochs = min(KEPT, most - count)
            tol = -math.inf if partly else self.tol
            before = self._epochs(program, table, epochs, seed + count, tol, resumed=partly or count > 0, before=before)
            count, done = count + self.n_iter_, bool(before.done)
        self.n_iter_ = count
        if not partly and self.n_iter_ >= self.max_iter:
            not_converged(self, self.max_iter)

    def _by_scores(self, program: Mlp, X: Any, y: Array, weight: Array | None, stream: Any, seed: int) -> None:
        """An epoch at a time, until the score of rows held out gets no better."""
        alike = y if self._class_count() == 2 else None
        parts = [X, y] if weight is None else [X, y, weight]
        cut = train_test_split(*parts, random_state=stream, test_size=self.validation_fraction, stratify=alike)
        (learned, held, y_learned, y_held), shares = cut[:4], cut[4:] or [None, None]
        if held.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        table = self._rows(learned, y_learned, shares[0])
        program = program.for_data(table.spec)
        best, waited, count = (self.coefs_, self.intercepts_), 0, 0
        assert self.validation_scores_ is not None
        for count in range(1, self.max_iter + 1):
            self._epochs(program, table, 1, seed + count, -math.inf, resumed=count > 1)
            score = self._score_of(held, y_held, shares[1])
            self.validation_scores_.append(score)
            top = self.best_validation_score_
            assert top is not None
            waited = waited + 1 if score < top + self.tol else 0
            if score > top:
                self.best_validation_score_, best = score, (self.coefs_, self.intercepts_)
            if waited > self.n_iter_no_change:
                break
        self.coefs_, self.intercepts_ = best
        self.n_iter_, self._state = count, None
        if count == self.max_iter:
            not_converged(self, self.max_iter)

    def _epochs(
        self,
        program: Mlp,
        table: Table,
        epochs: int,
        seed: int,
        tol: float,
        *,
        resumed: bool,
        before: Ledger | None = None,
    ) -> Ledger:
        """Run ``epochs`` epochs at most, ``KEPT`` or fewer; adds to the history and gives what was written down.

        ``resumed``: with the optimizer's state of before, and ``before`` the ledger of the same fit.
        """
        rows, weight = len(table), table.columns.get("weight")
        batch = min(rows, AUTO if self.batch_size == "auto" else self.batch_size)
        if self.batch_size != "auto" and self.batch_size > rows:
            warnings.warn(
                f"Got batch_size={self.batch_size} larger than the {rows} rows: it is going to be clipped",
                UserWarning,
                stacklevel=5,
            )
        share = 1.0 if weight is None else float(np.mean(weight))  # type: ignore[arg-type]
        steps = steps_of(rows, batch, self.plan)
        count = 1 if self._class_count() else self.n_outputs_
        waits = NEVER if math.isinf(self.n_iter_no_change) else int(self.n_iter_no_change) + 1
        optimizer = Epochs(
            self._inner(steps, rows),
            steps=steps,
            most=epochs,
            tol=tol * count,
            patience=waits,
            adaptive=self.solver == "sgd" and self.learning_rate == "adaptive",
            penalised=True,
        )
        state = getattr(self, "_state", None) if resumed else None
        saved = None if state is None else optimizer.resumed(state, before)
        task = Task(
            program,
            table,
            optimizer,
            epochs=epochs,
            batch_size=batch,
            l2=self.alpha / (batch * share),
            seed=seed,
            start=saved or self._start(),
            shuffle=self.shuffle,
        )
        fitted = self._carry_out(task)
        self._keep(fitted)
        self._state = fitted.saved
        ledger = optimizer.ledger(fitted.head)
        self.n_iter_ = int(ledger.epochs)
        self.loss_curve_ += (ledger.curve[: self.n_iter_] / count).tolist()
        self.loss_ = self.loss_curve_[-1]
        self.t_ += rows * self.n_iter_
        if self.best_loss_ is not None:
            self.best_loss_ = min(self.best_loss_, *self.loss_curve_)
        return ledger

    def _inner(self, steps: int, rows: int) -> Optimizer:
        from trivium.program.optimizers.adam import Adam
        from trivium.program.optimizers.sgd import SGD, Momentum, Nesterov

        rate: Any = float(self.learning_rate_init)
        if self.solver == "adam":
            return Adam(rate, b1=float(self.beta_1), b2=float(self.beta_2), eps=float(self.epsilon))
        if self.learning_rate == "invscaling":
            rate = Power(rate, self.power_t, steps, rows)
        if self.momentum == 0:
            return SGD(rate)
        if self.learning_rate != "constant" or self.momentum == 1:
            return Velocity(rate, momentum=float(self.momentum), nesterov=self.nesterovs_momentum)
        momentum = float(self.momentum)
        return (Nesterov if self.nesterovs_momentum else Momentum)(rate, momentum=momentum)

    # -- predictions --------------------------------------------------------------------------------------------------
    def _forward(self, X: Any) -> Array:
        """Outputs (rows, outputs) after the last activation."""
        h = X
        for i, (coef, intercept) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            h = np.asarray(safe_sparse_dot(h, coef, dense_output=True) + intercept)
            if i < len(self.coefs_) - 1:
                h = active(self.activation, h)
        return (
            np.asarray(softmax(h, copy=False)) if self.out_activation_ == "softmax" else active(self.out_activation_, h)
        )

    def _loss(self, X: Any, y: Array, weight: Array | None, l2: float) -> float:
        """The penalised mean loss."""
        out = self._forward(X)
        if self._class_count():
            out = np.concatenate([1 - out, out], axis=1) if out.shape[1] == 1 else out
            losses = -np.log(np.maximum(out[np.arange(len(y)), y], np.finfo(out.dtype).tiny))
        elif self.out_activation_ == "exp":
            from scipy.special import xlogy

            losses = (xlogy(y, np.where(y > 0, y, 1) / out) - y + out).mean(axis=1)
        else:
            losses = 0.5 * ((out - y) ** 2).mean(axis=1)
        return float(np.average(losses, weights=weight)) + 0.5 * l2 * sum(float((w * w).sum()) for w in self.coefs_)

    def _score_of(self, X: Any, y: Array, weight: Array | None) -> float:
        raise NotImplementedError

    def _has_partial_fit(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True


def active(name: str, z: Array) -> Array:
    """The activation ``name`` of z."""
    if name == "relu":
        return np.maximum(z, 0)
    if name == "tanh":
        return np.tanh(z)
    if name == "logistic":
        from scipy.special import expit

        return np.asarray(expit(z))
    return np.exp(z) if name == "exp" else z
