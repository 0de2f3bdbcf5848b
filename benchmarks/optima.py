"""The optimum of each convex benchmark, found once by a method that none of the competitors uses, and kept.

The objective everywhere is mean log loss + (l2/2)·‖w‖₂², the intercept free, in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import workloads

__all__ = ["DENSE_L2", "IMDB_L2", "dense_best", "dense_objective", "imdb_best", "objective"]

DENSE_L2 = 1.0 / workloads.DENSE_ROWS
IMDB_L2 = 1e-5


def objective(scores: NDArray[Any], signs: NDArray[Any], w: NDArray[Any], l2: float) -> float:
    """The objective at raw ``scores`` (rows,), labels -1 and 1, weights ``w`` without the intercept."""
    return workloads.log_loss(scores, signs) + 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())


def dense_objective(w: NDArray[Any], intercept: float) -> float:
    """The objective of the dense benchmark at ``w`` (54,)."""
    x, y = workloads.dense()
    return objective(x @ w.astype(np.float64).ravel() + intercept, 2.0 * y - 1.0, w, DENSE_L2)


def dense_best() -> float:
    """The least objective of the dense benchmark: Newton's method on all 55 parameters, in float64."""
    return _kept("dense-best", _dense_newton)


def imdb_best() -> float:
    """The objective that a tight liblinear reaches on the reviews (log counts, rows of length 1)."""
    return _kept("imdb-best", _imdb_liblinear)


def _dense_newton() -> float:
    x, y = workloads.dense()
    wide = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
    penalty = np.append(np.full(x.shape[1], DENSE_L2), 0.0)
    w = np.zeros(wide.shape[1])
    for _ in range(30):
        chance = 1.0 / (1.0 + np.exp(-(wide @ w)))
        slope = wide.T @ (chance - y) / len(y) + penalty * w
        if np.abs(slope).max() < 1e-12:
            break
        curve = (wide * (chance * (1.0 - chance))[:, None]).T @ wide / len(y) + np.diag(penalty)
        w -= np.linalg.solve(curve, slope)
    return dense_objective(w[:-1], float(w[-1]))


def _imdb_liblinear() -> float:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    rows = workloads.unit_log_rows(workloads.imdb())
    x = csr_matrix((rows.values, rows.indices, rows.indptr), shape=(len(rows.y), workloads.IMDB_COLUMNS))
    fit = LogisticRegression(C=1.0 / (IMDB_L2 * len(rows.y)), solver="liblinear", tol=1e-8, max_iter=2000)
    fit.fit(x, rows.y)
    return objective(fit.decision_function(x), rows.y, fit.coef_, IMDB_L2)


def _kept(name: str, find: Callable[[], float]) -> float:
    path = workloads.scratch() / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(find()))
    return float(json.loads(path.read_text()))
