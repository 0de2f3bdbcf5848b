"""How good predictions are: NumPy alone, float64, with row weights; scikit-learn's definitions and defaults.

A metric is called with ``(y, prediction, weight)``: class indices or numbers, what ``predict`` gave, and weights or
None. Predictions of classes are probabilities (rows, classes), or scores (rows,) that are above 0 for the second class.

Two classes: f1, precision and recall are those of the second one, auc too. More: each class against the rest, then the
plain mean over the classes that occur. A ratio without anything below the line is 0, an auc without both sides NaN.

``additive`` metrics are means over rows: pieces may be scored one by one, and averaged by their weights. The others
need all predictions at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError, PlanError, UsageError, unknown
from trivium.program.program import Output

__all__ = ["METRICS", "Metric", "default_metrics", "metric", "usable"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Needs = Literal["classes", "probabilities", "numbers"]


@dataclass(frozen=True)
class Metric:
    """One metric. ``needs``: predictions of classes, probabilities of them, or numbers (regression).

    >>> METRICS["accuracy"](np.array([0, 1, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]))
    0.75
    """

    name: str
    needs: Needs
    function: Callable[[Array, Array, Floats], float]
    additive: bool = False
    greater_is_better: bool = True

    def __call__(self, y: Array, prediction: Array, weight: Array | None = None) -> float:
        """The metric of ``prediction`` for rows with labels ``y``; DataError where their shapes do not fit."""
        y, prediction = np.asarray(y), np.asarray(prediction)
        share = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
        if not len(y):
            raise DataError(f"{self.name}: there are no rows")
        if not len(y) == len(prediction) == len(share):
            raise DataError(f"{self.name}: {len(y)} labels, {len(prediction)} predictions, {len(share)} weights")
        if self.needs == "probabilities" and prediction.ndim != 2:
            raise DataError(f"{self.name} needs probabilities (rows, classes), got shape {prediction.shape}")
        if self.needs == "numbers" and prediction.shape != y.shape:
            raise DataError(f"{self.name}: labels of shape {y.shape}, predictions of shape {prediction.shape}")
        return self.function(y, prediction, share)

    def fits(self, output: Output) -> bool:
        """Whether it can judge what a program with this ``output`` predicts."""
        allowed = {"probability": ("classes", "probabilities"), "score": ("classes",), "value": ("numbers",)}
        return self.needs in allowed[output]


def _mean(values: Floats, share: Floats) -> float:
    """The weighted mean over rows; over columns the plain one."""
    whole = share.sum()
    return float(np.mean(share @ values) / whole) if whole > 0 else math.nan


def _chosen(prediction: Array) -> NDArray[np.int64]:
    """The class of each row: the most probable one, the first among equals."""
    if prediction.ndim == 1:
        return (prediction > 0).astype(np.int64)
    return np.asarray(prediction.argmax(axis=1), np.int64)


def _confusion(y: Array, prediction: Array, share: Floats) -> Floats:
    """Weights by (class, class predicted)."""
    labels = np.asarray(y, np.int64)
    classes = max(2 if prediction.ndim == 1 else prediction.shape[1], int(labels.max()) + 1)
    flat = np.bincount(labels * classes + _chosen(prediction), share, classes * classes)
    return np.asarray(flat, np.float64).reshape(classes, classes)


def _ratio(above: Any, below: Any) -> Any:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _averaged(table: Floats, scores: Floats) -> float:
    """The second class's score of two; else the mean over classes that occur, in labels or predictions."""
    if len(table) == 2:
        return float(scores[1])
    seen = (table.sum(axis=0) > 0) | (table.sum(axis=1) > 0)
    return float(scores[seen].mean()) if seen.any() else math.nan


def accuracy(y: Array, prediction: Array, share: Floats) -> float:
    """Weight of the rows that are answered rightly, of all."""
    return _mean((_chosen(prediction) == y).astype(np.float64), share)


def balanced_accuracy(y: Array, prediction: Array, share: Floats) -> float:
    """The mean of the recalls of the classes that occur among the labels."""
    table = _confusion(y, prediction, share)
    seen = table.sum(axis=1) > 0
    return float(np.mean(np.diag(table)[seen] / table.sum(axis=1)[seen])) if seen.any() else math.nan


def precision(y: Array, prediction: Array, share: Floats) -> float:
    """Of what was said to be the class, how much is."""
    table = _confusion(y, prediction, share)
    return _averaged(table, _ratio(np.diag(table), table.sum(axis=0)))


def recall(y: Array, prediction: Array, share: Floats) -> float:
    """Of what is the class, how much was said to be."""
    table = _confusion(y, prediction, share)
    return _averaged(table, _ratio(np.diag(table), table.sum(axis=1)))


def f1(y: Array, prediction: Array, share: Floats) -> float:
    """The harmonic mean of precision and recall."""
    table = _confusion(y, prediction, share)
    return _averaged(table, _ratio(2.0 * np.diag(table), table.sum(axis=0) + table.sum(axis=1)))


def log_loss(y: Array, prediction: Array, share: Floats) -> float:
    """Mean −log of the probability given to the label, held at the resolution of the probabilities' type."""
    if not np.issubdtype(prediction.dtype, np.floating):
        prediction = prediction.astype(np.float64)
    least = float(np.finfo(prediction.dtype).eps)
    own = prediction[np.arange(len(y)), np.asarray(y, np.int64)].astype(np.float64)
    return _mean(-np.log(np.clip(own, least, 1.0 - least)), share)


def auc(y: Array, prediction: Array, share: Floats) -> float:
    """Area under the curve of true against false positives: how often a row of the class is ranked above another.

    Ties count half (Fawcett, *An introduction to ROC analysis*, 2006).
    """
    if prediction.ndim == 1:
        return _area(np.asarray(y) == 1, prediction, share)
    if prediction.shape[1] == 2:
        return _area(np.asarray(y) == 1, prediction[:, 1], share)
    areas = np.array([_area(np.asarray(y) == c, prediction[:, c], share) for c in range(prediction.shape[1])])
    known = np.isfinite(areas)
    return float(areas[known].mean()) if known.any() else math.nan


def _area(positive: NDArray[np.bool_], score: Array, share: Floats) -> float:
    if np.isnan(score).any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # the last row of each run of equal scores
    hits = np.cumsum(np.where(positive, share, 0.0)[order])[ends]
    misses = np.cumsum(np.where(positive, 0.0, share)[order])[ends]
    if not (hits[-1] > 0 and misses[-1] > 0):
        return math.nan
    hits, misses = np.append(0.0, hits), np.append(0.0, misses)
    area = np.sum(np.diff(misses) * (hits[1:] + hits[:-1])) / 2
    return float(area / (hits[-1] * misses[-1]))


def mse(y: Array, prediction: Array, share: Floats) -> float:
    """Mean squared error."""
    return _mean(np.square(np.asarray(prediction, np.float64) - y), share)


def rmse(y: Array, prediction: Array, share: Floats) -> float:
    """The root of the mean squared error; with several targets the mean of their roots."""
    whole = share.sum()
    squares = share @ np.square(np.asarray(prediction, np.float64) - y)
    return float(np.mean(np.sqrt(squares / whole))) if whole > 0 else math.nan


def mae(y: Array, prediction: Array, share: Floats) -> float:
    """Mean absolute error."""
    return _mean(np.abs(np.asarray(prediction, np.float64) - y), share)


def r2(y: Array, prediction: Array, share: Floats) -> float:
    """1 − squared error over that of the mean; for labels that do not vary 1 if they are met, else 0."""
    y = np.asarray(y, np.float64)
    if len(y) < 2 or not share.sum() > 0:
        return math.nan
    left = np.atleast_1d(share @ np.square(prediction - y))
    spread = np.atleast_1d(share @ np.square(y - share @ y / share.sum()))
    flat = np.where(left == 0, 1.0, 0.0)
    return float(np.mean(np.where(spread > 0, 1.0 - left / np.where(spread > 0, spread, 1.0), flat)))


METRICS: dict[str, Metric] = {
    one.name: one
    for one in (
        Metric("accuracy", "classes", accuracy, additive=True),
        Metric("balanced_accuracy", "classes", balanced_accuracy),
        Metric("log_loss", "probabilities", log_loss, additive=True, greater_is_better=False),
        Metric("auc", "classes", auc),
        Metric("f1", "classes", f1),
        Metric("precision", "classes", precision),
        Metric("recall", "classes", recall),
        Metric("mse", "numbers", mse, additive=True, greater_is_better=False),
        Metric("rmse", "numbers", rmse, greater_is_better=False),
        Metric("mae", "numbers", mae, additive=True, greater_is_better=False),
        Metric("r2", "numbers", r2),
    )
}


def usable(output: Output) -> tuple[str, ...]:
    """Names of the metrics that can judge what a program with this ``output`` predicts.

    >>> usable("value")
    ('mse', 'rmse', 'mae', 'r2')
    """
    return tuple(name for name, one in METRICS.items() if one.fits(output))


def metric(name: str, output: Output | None = None) -> Metric:
    """The metric ``name``; UsageError for an unknown one, PlanError for one that cannot judge ``output``."""
    if name not in METRICS:
        raise UsageError(unknown("metric", name, METRICS))
    found = METRICS[name]
    if output is not None and not found.fits(output):
        what = {"probability": "probabilities", "score": "scores", "value": "numbers"}[output]
        raise PlanError(
            f"metric {name} needs {found.needs}, the model predicts {what}; use {', '.join(usable(output))}"
        )
    return found


def default_metrics(output: Output) -> tuple[str, ...]:
    """What is shown where nothing is asked for."""
    return {"probability": ("accuracy", "log_loss"), "score": ("accuracy",), "value": ("rmse", "r2")}[output]
