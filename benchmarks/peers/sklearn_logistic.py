"""scikit-learn's logistic regression: seconds to reach a given objective, by each of its solvers.

``dense-lbfgs``: 500,000 × 54 float32 to within 1e-5 (relative) of the optimum, C = 1.
``imdb-…``: 25,000 reviews, log counts in rows of length 1, l2 = 1e-5, to within 0.1 % of a tight liblinear.
Each solver gets the fewest iterations that reach the goal, found beforehand; that one fit is timed, the best of two.
Run: ``.venv/bin/python -m benchmarks.peers.sklearn_logistic [dense-lbfgs imdb-liblinear …]``
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks import measure, optima, workloads

IMDB_SOLVERS = ("newton-cg", "lbfgs", "liblinear", "saga")
Fit = tuple[Any, float]


def reach(solver: str, c: float, x: Any, y: Any, cost: Callable[[Any], float], goal: float) -> dict[str, float | str]:
    """Seconds and iterations until ``cost(model) <= goal``."""
    seen: dict[int, float] = {}

    def fit(iterations: int) -> float:
        model = LogisticRegression(C=c, solver=solver, tol=1e-12, max_iter=iterations, random_state=0)
        seen[iterations] = min(seen.get(iterations, np.inf), measure.seconds(lambda: model.fit(x, y)))
        return cost(model)

    needed = kept_least(f"{solver}-{x.shape[0]}", fit, goal)
    if needed is None:
        return {"unit": "s", "skipped": "never reached the goal"}
    reached = fit(needed)
    fit(needed)
    return {"value": seen[needed], "unit": "s", "iterations": needed, "over": reached / goal}


def kept_least(name: str, fit: Callable[[int], float], goal: float) -> int | None:
    """``measure.least``, found once for this version and goal."""
    path = workloads.scratch() / f"sklearn-{sklearn.__version__}-{name}-{goal:.9g}.json"
    if not path.exists():
        path.write_text(json.dumps(measure.least(fit, goal)))
    found = json.loads(path.read_text())
    return None if found is None else int(found)


def dense() -> dict[str, float | str]:
    """L-BFGS on the dense rows."""
    x, y = workloads.dense()

    def cost(model: Any) -> float:
        return optima.objective(model.decision_function(x).astype(float), 2.0 * y - 1.0, model.coef_, optima.DENSE_L2)

    return reach("lbfgs", 1.0, x, y, cost, optima.dense_best() * (1 + 1e-5))


def imdb(solver: str) -> dict[str, float | str]:
    """``solver`` on the reviews."""
    from scipy.sparse import csr_matrix

    rows = workloads.unit_log_rows(workloads.imdb())
    x = csr_matrix((rows.values, rows.indices, rows.indptr), shape=(len(rows.y), workloads.IMDB_COLUMNS))

    def cost(model: Any) -> float:
        return optima.objective(model.decision_function(x), rows.y, model.coef_, optima.IMDB_L2)

    return reach(solver, 1.0 / (optima.IMDB_L2 * len(rows.y)), x, rows.y, cost, optima.imdb_best() * 1.001)


def main() -> None:
    """Time each solver after the other."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    cases: measure.Cases = {}
    if measure.wanted("dense-lbfgs"):
        cases["dense-lbfgs"] = dense()
    for solver in IMDB_SOLVERS:
        if measure.wanted(f"imdb-{solver}"):
            cases[f"imdb-{solver}"] = imdb(solver)
    if measure.wanted("imdb-newton-cholesky"):
        gib = workloads.IMDB_COLUMNS**2 * 8 / 2**30
        cases["imdb-newton-cholesky"] = {"unit": "s", "skipped": f"its Hessian would take {gib:.0f} GiB"}
    measure.emit("scikit-learn", sklearn.__version__, cases)


if __name__ == "__main__":
    main()
