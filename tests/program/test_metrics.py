"""Every metric against scikit-learn's, on cases drawn at random, and what cannot be scored."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as reference

from trivium.errors import DataError, PlanError, UsageError
from trivium.program.metrics import METRICS, default_metrics, metric, usable

LABELS = {
    "accuracy": lambda y, p, w, avg: reference.accuracy_score(y, p, sample_weight=w),
    "balanced_accuracy": lambda y, p, w, avg: reference.balanced_accuracy_score(y, p, sample_weight=w),
    "f1": lambda y, p, w, avg: reference.f1_score(y, p, average=avg, sample_weight=w, zero_division=0),
    "precision": lambda y, p, w, avg: reference.precision_score(y, p, average=avg, sample_weight=w, zero_division=0),
    "recall": lambda y, p, w, avg: reference.recall_score(y, p, average=avg, sample_weight=w, zero_division=0),
}
NUMBERS = {
    "mse": reference.mean_squared_error,
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
}


def drawn(seed, rows, classes, levels=None):
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    p = draw.dirichlet(np.ones(classes), rows)
    if levels:
        p = np.round(p * levels) + 0.5
        p /= p.sum(axis=1, keepdims=True)
    return y, p, draw.integers(1, 4, rows).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([2, 3, 5]), st.booleans())
@pytest.mark.parametrize("name", sorted(LABELS))
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_of_classes(name, seed, rows, classes, weighted):
    y, p, weight = drawn(seed, rows, classes)
    weight = weight if weighted else None
    chosen = p.argmax(axis=1)
    if classes == 2:
        expected = LABELS[name](y, chosen, weight, "binary")
        assert METRICS[name](y, p[:, 1] - p[:, 0], weight) == pytest.approx(expected, rel=1e-6)
    else:
        expected = LABELS[name](y, chosen, weight, "macro")
    assert METRICS[name](y, p, weight) == pytest.approx(expected, rel=1e-6)


@given(
    st.integers(0, 10_000), st.integers(4, 60), st.sampled_from([2, 3, 4]), st.booleans(), st.sampled_from([None, 3])
)
def test_auc_with_and_without_ties(seed, rows, classes, weighted, levels):
    y, p, weight = drawn(seed, rows, classes, levels)
    assume(len(np.unique(y)) == classes)
    weight = weight if weighted else None
    if classes == 2:
        expected = reference.roc_auc_score(y, p[:, 1], sample_weight=weight)
        assert METRICS["auc"](y, p[:, 1] * 9 - 3, weight) == pytest.approx(expected, rel=1e-6)
    else:
        expected = reference.roc_auc_score(y, p, sample_weight=weight, multi_class="ovr")
    assert METRICS["auc"](y, p, weight) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_loss_is_held_where_scikit_learn_holds_it(dtype):
    y, p, weight = drawn(1, 50, 3)
    p[:5] = np.eye(3)[(y[:5] + 1) % 3]
    p = p.astype(dtype)
    for share in (None, weight):
        expected = reference.log_loss(y, p, sample_weight=share)
        assert METRICS["log_loss"](y, p, share) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 10_000), st.integers(2, 40), st.booleans(), st.sampled_from([(), (3,)]))
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_of_numbers(name, seed, rows, weighted, shape):
    draw = np.random.default_rng(seed)
    y, p = draw.normal(5, 2, (rows, *shape)), draw.normal(5, 2, (rows, *shape))
    weight = draw.uniform(0.5, 2, rows) if weighted else None
    assert METRICS[name](y, p, weight) == pytest.approx(NUMBERS[name](y, p, sample_weight=weight), rel=1e-9)


def test_labels_that_do_not_vary():
    y = np.full(4, 3.0)
    assert METRICS["r2"](y, y) == reference.r2_score(y, y) == 1.0
    assert METRICS["r2"](y, y + 1) == reference.r2_score(y, y + 1) == 0.0
    assert np.isnan(METRICS["auc"](np.ones(3, int), np.arange(3.0)))
    assert np.isnan(METRICS["auc"](np.array([0, 1]), np.array([np.nan, 1.0])))


def test_pieces_of_additive_metrics_average_to_the_whole():
    y, p, weight = drawn(2, 41, 2)
    numbers = np.random.default_rng(3).normal(size=41)
    for name, one in METRICS.items():
        if not one.additive:
            continue
        given = numbers if one.needs == "numbers" else p
        target = y.astype(float) if one.needs == "numbers" else y
        pieces = [slice(0, 10), slice(10, 41)]
        parts = [one(target[cut], given[cut], weight[cut]) for cut in pieces]
        shares = [float(weight[cut].sum()) for cut in pieces]
        assert np.average(parts, weights=shares) == pytest.approx(one(target, given, weight), rel=1e-12), name


def test_what_cannot_be_scored():
    with pytest.raises(UsageError, match=r"unknown metric 'acuracy'.*did you mean 'accuracy'"):
        metric("acuracy")
    with pytest.raises(PlanError, match=r"r2 needs numbers, the model predicts probabilities; use accuracy"):
        metric("r2", "probability")
    with pytest.raises(PlanError, match=r"log_loss needs probabilities, the model predicts scores"):
        metric("log_loss", "score")
    with pytest.raises(DataError, match="no rows"):
        metric("mse")(np.zeros(0), np.zeros(0))
    with pytest.raises(DataError, match="3 labels, 2 predictions"):
        metric("mse")(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match=r"shape \(3, 1\)"):
        metric("mse")(np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(DataError, match="needs probabilities"):
        metric("log_loss")(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("output", ["probability", "score", "value"])
def test_what_is_shown_unasked_can_be_scored(output):
    assert set(default_metrics(output)) <= set(usable(output))
