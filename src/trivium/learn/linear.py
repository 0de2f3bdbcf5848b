"""Least squares: LinearRegression, Ridge, Lasso and ElasticNet, as scikit-learn has them.

    Σ sᵢ·(yᵢ − xᵢ·w − b)²/(2·Σ sᵢ) + l1·‖w‖₁ + l2/2·‖w‖₂²,   w ≥ 0 where ``positive``

Up to ``FEW`` columns one pass over the rows sums the normal equations, and a second one refines their solution: by
eigenvalues without a penalty (the solution of least norm), by Cholesky's factors for Ridge, by coordinate descent for
L1 and for ``positive``. Wider rows go by L-BFGS, or OWL-QN with L1.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import validate_data

from trivium.learn.base import Learner, at_least, not_converged, threads_of, within
from trivium.learn.running import Fitted, Task
from trivium.plan import Plan
from trivium.program.margins import Margins
from trivium.program.optimizers.base import Optimizer
from trivium.program.optimizers.newton import HEAD, Newton

__all__ = ["ElasticNet", "Lasso", "LinearRegression", "Ridge"]

Array = NDArray[Any]

FEW = 2000  # columns
FEW_IN_LANES = 700  # columns where each lane has a matrix of its own
EXACT = 1e-4  # of tol, where scikit-learn solves exactly
MOST_SWEEPS, MOST_STEPS = 15_000, 10_000  # where max_iter is None
LEAST = 1e-15  # relative size of a gradient, below which it is no smaller
LARGE = 1 << 30  # bytes of features that are not centred in a copy


@dataclass(frozen=True)
class Until:
    """When a fit has come close enough, or has gone on for long enough.

    ``sweeps`` of coordinate descent at most, which stops by ``gap`` or ``flat``, else by itself (see ``Newton``); where
    columns are many, ``steps`` at most, until the largest element of the gradient is ``tol`` of that at zero.
    """

    sweeps: int = 100_000
    gap: tuple[float, float] | None = None
    flat: float | None = None
    steps: int = 10_000
    tol: float = 1e-8


class _LeastSquares(MultiOutputMixin, RegressorMixin, Learner):
    """Base: validation, centring, and the run."""

    fit_intercept: bool
    positive: bool
    coef_: Array
    intercept_: Any

    def _taken(self, X: Any, y: Any, weight: Any, **checks: Any) -> tuple[Any, Array, Array | None]:
        X, y, weight = self._unwrapped(X, y, weight)
        kinds = [np.float64, np.float32]
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=kinds, order="C", multi_output=True, y_numeric=True, **checks
        )
        return X, np.asarray(y, np.float64), self._weights(weight, X, positive=True)

    def _least_squares(
        self,
        X: Any,
        y: Array,
        weight: Array | None,
        penalties: tuple[float, float] = (0.0, 0.0),
        *,
        cut: float | None = None,
        until: Until | None = None,
        start: Array | None = None,
    ) -> Fitted:
        """Run for targets y (rows, targets); sets ``coef_`` and ``intercept_``."""
        y = y.reshape(len(y), -1)
        rows, means, offset = self._centred(X, y, weight)
        few = X.shape[1] <= (FEW if self.plan is None or self.plan.design == "sequential" else FEW_IN_LANES)
        program = Margins("squared_error", y.shape[1], constant=1.0 if self.fit_intercept else 0.0, curved=few)
        table = self._table(rows, y - offset, weight)
        program = program.for_data(table.spec)
        l1, l2 = penalties
        begin = None
        if start is not None:
            begin = {"W": np.ascontiguousarray(start.reshape(y.shape[1], -1).T, dtype=np.float64)}
            begin |= {"b": np.zeros(y.shape[1])} if self.fit_intercept else {}
        steepest = 0.0 if few else self._steepest(rows, y - offset, weight)
        optimizer = self._optimizer(program, l1, cut, until or Until(), steepest)
        fitted = self._carry_out(Task(program, table, optimizer, l1=l1, l2=l2, start=begin))
        w = fitted.views["W"]
        b = fitted.views["b"] + offset - means @ w if self.fit_intercept else np.zeros(len(offset))
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError("the fit ended with coefficients that are not finite: scale the features")
        self._w, self._b = w.T.astype(X.dtype), b.astype(X.dtype)
        return fitted

    def _centred(self, X: Any, y: Array, weight: Array | None) -> tuple[Any, Array, Array]:
        """Features without their means where they are dense, the means, and those of the targets."""
        if not self.fit_intercept:
            return X, np.zeros(X.shape[1]), np.zeros(y.shape[1])
        offset = np.average(y, axis=0, weights=weight)
        if hasattr(X, "indptr") or X.nbytes > LARGE:
            return X, np.zeros(X.shape[1]), offset
        wide = X.astype(np.float64, copy=False)
        means = np.average(wide, axis=0, weights=weight)
        return wide - means, means, offset

    def _steepest(self, rows: Any, y: Array, weight: Array | None) -> float:
        """Largest element of the gradient of the mean loss at zero."""
        share = np.full(len(y), 1.0 / len(y)) if weight is None else weight / weight.sum()
        return float(np.abs(rows.T @ (share[:, None] * y)).max(initial=0.0))

    def _optimizer(self, program: Margins, l1: float, cut: float | None, until: Until, steepest: float) -> Optimizer:
        from trivium.program.optimizers.lbfgs import LBFGS
        from trivium.program.optimizers.owlqn import OWLQN

        if program.curved:
            way: dict[str, Any] = {"sweeps": until.sweeps, "gap": until.gap, "flat": until.flat}
            return Newton(program.place, tol=0.0, cut=cut, quadratic=True, positive=self.positive, **way)
        if self.positive:
            raise ValueError(f"positive=True takes at most {FEW_IN_LANES} columns with this plan, {FEW} without one")
        return (OWLQN if l1 > 0 else LBFGS)(tol=until.tol * steepest, max_iter=until.steps)

    def _spent(self, fitted: Fitted) -> bool:
        """Whether the run ended before it had come close enough."""
        head = fitted.head
        if len(head) == len(HEAD):
            return bool(head[HEAD.index("unfinished")])
        return fitted.record.stopped_by == "max_iter"

    def _count(self, fitted: Fitted) -> int:
        """Sweeps of coordinate descent, or steps."""
        sweeps = fitted.head[HEAD.index("sweeps")] if len(fitted.head) == len(HEAD) else 0.0
        return int(sweeps) or fitted.record.iterations

    def _set(self, single: bool) -> None:
        """Attributes in the shapes that scikit-learn gives them."""
        self.coef_ = self._w[0] if single else self._w
        intercept: Any = self._b[0] if single else self._b
        self.intercept_ = intercept if self.fit_intercept else 0.0
        del self._w, self._b

    def predict(self, X: Any) -> Array:
        """Values, (rows,) or (rows, targets)."""
        X = self._checked(X)
        return np.asarray(safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_)


class LinearRegression(_LeastSquares):
    """Ordinary least squares; scikit-learn's ``LinearRegression``.

    Singular values of the centred rows below ``tol`` times the largest count as 0; of sparse rows with many columns
    ``tol`` is the size of the last gradient beside the first. ``n_jobs`` threads where there is no ``plan``, which pay
    for large data only. ``copy_X`` changes only how scikit-learn computes, not what: X is never overwritten.

    >>> LinearRegression().fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0]).predict([[4.0]]).round(6)
    array([9.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "fit_intercept": ["boolean"],
        "copy_X": ["boolean"],
        "n_jobs": [None, Integral],
        "positive": ["boolean"],
        "tol": [at_least(0)],
        "plan": [Plan, None],
    }

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        tol: float = 1e-6,
        n_jobs: int | None = None,
        positive: bool = False,
        plan: Plan | None = None,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.tol = tol
        self.n_jobs = n_jobs
        self.positive = positive
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LinearRegression:
        """Fit to rows X with values y, (rows,) or (rows, targets). Returns self."""
        X, y, weight = self._taken(X, y, sample_weight)
        cut = max(self.tol**2, 1e-14)  # the matrix of squares has relative errors of this size
        until = Until(tol=self.tol) if hasattr(X, "indptr") else Until()
        fitted = self._least_squares(X, y, weight, cut=None if self.positive else cut, until=until)
        if len(fitted.head) > len(HEAD) and not hasattr(X, "indptr"):
            total = len(y) if weight is None else weight.sum()
            self.rank_ = int(fitted.head[HEAD.index("rank")])
            self.singular_ = np.sqrt(np.maximum(fitted.head[len(HEAD) :], 0.0) * total)[: min(X.shape)]
        self._set(y.ndim == 1)
        return self

    def _threads(self) -> int | None:
        return threads_of(self.n_jobs)


class Ridge(_LeastSquares):
    """Least squares with L2; scikit-learn's ``Ridge``: ‖y − Xw‖² + alpha·‖w‖². ``alpha`` may be one a target.

    Few columns are solved for directly, as by scikit-learn's ``cholesky``, whatever ``solver``, ``tol`` and
    ``max_iter`` are. With ``positive``, ``tol`` bounds the derivatives of the summed objective and ``max_iter`` the
    sweeps. Many columns take ``max_iter`` steps at most, until the gradient is ``tol`` of that at zero, as in
    ``sparse_cg``, or a ten-thousandth of ``tol`` where ``solver`` says svd, cholesky or, for dense rows, auto.
    ``copy_X`` changes only how scikit-learn computes, not what; nothing is random, so ``random_state`` has no effect.

    >>> Ridge(alpha=1e-9).fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0]).coef_.round(6)
    array([2.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [at_least(0), "array-like"],
        "fit_intercept": ["boolean"],
        "copy_X": ["boolean"],
        "max_iter": [at_least(1, whole=True), None],
        "tol": [at_least(0)],
        "solver": [StrOptions({"auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga", "lbfgs"})],
        "positive": ["boolean"],
        "random_state": ["random_state"],
        "plan": [Plan, None],
    }

    def __init__(
        self,
        alpha: Any = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-4,
        solver: str = "auto",
        positive: bool = False,
        random_state: Any = None,
        plan: Plan | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.solver = solver
        self.positive = positive
        self.random_state = random_state
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Ridge:
        """Fit to rows X with values y, (rows,) or (rows, targets). Returns self."""
        if self.solver == "lbfgs" and not self.positive:
            raise ValueError("solver='lbfgs' is for positive=True only: choose another one")
        if self.positive and self.solver not in ("auto", "lbfgs"):
            raise ValueError(f"solver={self.solver!r} does not support positive=True: use 'auto' or 'lbfgs'")
        X, y, weight = self._taken(X, y, sample_weight)
        targets = 1 if y.ndim == 1 else y.shape[1]
        alphas = np.asarray(self.alpha, np.float64).reshape(-1)
        if len(alphas) not in (1, targets):
            raise ValueError(f"Number of targets and number of penalties do not correspond: {len(alphas)} != {targets}")
        total = float(len(y) if weight is None else weight.sum())
        if len(set(alphas.tolist())) == 1:
            runs = [self._least_squares(X, y, weight, (0.0, float(alphas[0]) / total), until=self._until(X, total))]
        else:
            parts, runs = [], []
            for k, alpha in enumerate(alphas.tolist()):
                until = self._until(X, total)
                runs.append(self._least_squares(X, y[:, k], weight, (0.0, alpha / total), until=until))
                parts.append((self._w, self._b))
            self._w, self._b = (np.concatenate(each) for each in zip(*parts, strict=True))
        direct = len(runs[0].head) == len(HEAD) and not self.positive
        counts = [max(1, self._count(one)) for one in runs]
        self.n_iter_ = np.array(counts if len(counts) == targets else counts * targets)
        self.solver_ = "cholesky" if direct else "lbfgs"
        if any(self._spent(one) for one in runs):
            not_converged(self, self.max_iter or (MOST_SWEEPS if self.positive else MOST_STEPS))
        self._set(y.ndim == 1)
        return self

    def _until(self, X: Any, total: float) -> Until:
        exact = self.solver in ("svd", "cholesky") or (self.solver == "auto" and not hasattr(X, "indptr"))
        tol = self.tol * (EXACT if exact else 1.0)
        flat = self.tol / total if self.positive else None
        return Until(self.max_iter or MOST_SWEEPS, None, flat, steps=self.max_iter or MOST_STEPS, tol=tol)


class ElasticNet(_LeastSquares):
    """Least squares with L1 and L2; scikit-learn's ``ElasticNet``.

    A fit ends as scikit-learn's: after a sweep whose largest move is at most ``tol`` of the largest coefficient, where
    the duality gap is at most ``tol`` times the mean square of y; or after ``max_iter`` sweeps. Many columns take steps
    of OWL-QN until the gap is as small. ``selection``, ``precompute`` and ``copy_X`` are accepted because they change
    only how scikit-learn computes, not what: coordinates are taken in turn, on sums of squares, and X is never
    overwritten; ``random_state`` then has no effect.

    >>> ElasticNet(alpha=0.1).fit([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]], [3.0, 5.0, 7.0]).coef_.round(3)
    array([1.791, 0.   ])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [at_least(0)],
        "l1_ratio": [within(0, 1, "both")],
        "fit_intercept": ["boolean"],
        "precompute": ["boolean", "array-like"],
        "max_iter": [at_least(1, whole=True), None],
        "copy_X": ["boolean"],
        "tol": [at_least(0)],
        "warm_start": ["boolean"],
        "positive": ["boolean"],
        "random_state": ["random_state"],
        "selection": [StrOptions({"cyclic", "random"})],
        "plan": [Plan, None],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        precompute: Any = False,
        max_iter: int | None = 1000,
        copy_X: bool = True,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
        random_state: Any = None,
        selection: str = "cyclic",
        plan: Plan | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.copy_X = copy_X
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.plan = plan

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ElasticNet:
        """Fit to rows X with values y, (rows,) or (rows, targets). Returns self."""
        if self.alpha == 0:
            warnings.warn("With alpha=0 there is no penalty: use LinearRegression", UserWarning, stacklevel=2)
        X, y, weight = self._taken(X, y, sample_weight)
        most = self.max_iter or 1000
        strengths = self.alpha * self.l1_ratio, self.alpha * (1.0 - self.l1_ratio)
        old = getattr(self, "coef_", None) if self.warm_start else None
        sweeps, gaps, parts = [], [], []
        columns = y.reshape(len(y), -1)
        for k in range(columns.shape[1]):
            start = None if old is None else np.atleast_2d(old)[k]
            count, gap = self._one(X, columns[:, k], weight, strengths, most, start)
            parts.append((self._w, self._b))
            sweeps.append(max(1, count))
            gaps.append(gap)
        self._w, self._b = (np.concatenate(each) for each in zip(*parts, strict=True))
        single = columns.shape[1] == 1
        self.n_iter_ = sweeps[0] if single else sweeps
        self.dual_gap_ = gaps[0] if single else np.array(gaps)
        self._set(single)
        return self

    def _one(
        self,
        X: Any,
        y: Array,
        weight: Array | None,
        strengths: tuple[float, float],
        most: int,
        start: Array | None,
    ) -> tuple[int, float]:
        """One target: sweeps, or steps, that were taken, and the gap; warns where ``most`` did not suffice."""
        centre = np.average(y, weights=weight) if self.fit_intercept else 0.0
        bound = self.tol * float(np.average((y - centre) ** 2, weights=weight))
        rule = (self.tol, bound) if strengths[0] > 0 else None  # without L1 the gap says nothing
        count, tol = 0, self.tol
        while True:
            until = Until(most, rule, steps=most - count, tol=tol)
            fitted = self._least_squares(X, y, weight, strengths, until=until, start=start)
            count += self._count(fitted)
            gap = self._gap(X, y, weight, strengths)
            by_sweeps = len(fitted.head) == len(HEAD)
            ended = fitted.record.stopped_by not in ("converged", "max_iter")  # the last step was a rounding error's
            if self._spent(fitted) or (count >= most and not by_sweeps and gap > bound):
                not_converged(self, most)
                return count, gap
            if by_sweeps or rule is None or gap <= bound or ended or tol < LEAST:
                return count, gap
            start, tol = self._w[0].astype(np.float64), tol * 0.1

    def _gap(self, X: Any, y: Array, weight: Array | None, strengths: tuple[float, float]) -> float:
        """Duality gap of the mean objective at ``_w`` (Kim et al., *An interior-point method for l1*, 2007)."""
        w, total = self._w[0].astype(np.float64), float(len(y) if weight is None else weight.sum())
        share = np.full(len(y), 1.0 / total) if weight is None else weight / total
        l1, l2 = strengths
        centre = share @ y if self.fit_intercept else 0.0
        residual = y - X @ w - self._b[0]
        pull = X.T @ (share * residual) - l2 * w
        top = float(pull.max(initial=0.0) if self.positive else np.abs(pull).max(initial=0.0))
        factor = l1 / top if top > l1 else 1.0
        square = float(share @ residual**2)
        gap = 0.5 * square * (1.0 + factor**2) - factor * float(share @ (residual * (y - centre)))
        return gap + l1 * float(np.abs(w).sum()) + 0.5 * l2 * (1.0 + factor**2) * float(w @ w)

    @property
    def sparse_coef_(self) -> Any:
        """``coef_`` as a CSR matrix."""
        from scipy.sparse import csr_array

        return csr_array(np.atleast_2d(self.coef_))


class Lasso(ElasticNet):
    """Least squares with L1; scikit-learn's ``Lasso``. See ``ElasticNet`` for what its parameters do.

    >>> Lasso(alpha=0.1).fit([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]], [3.0, 5.0, 7.0]).coef_.round(3)
    array([1.85, 0.  ])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        name: rule
        for name, rule in ElasticNet._parameter_constraints.items()  # noqa: SLF001  scikit-learn's own habit
        if name != "l1_ratio"
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        precompute: Any = False,
        copy_X: bool = True,
        max_iter: int | None = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
        random_state: Any = None,
        selection: str = "cyclic",
        plan: Plan | None = None,
    ) -> None:
        super().__init__(
            alpha=alpha,
            l1_ratio=1.0,
            fit_intercept=fit_intercept,
            precompute=precompute,
            max_iter=max_iter,
            copy_X=copy_X,
            tol=tol,
            warm_start=warm_start,
            positive=positive,
            random_state=random_state,
            selection=selection,
            plan=plan,
        )
