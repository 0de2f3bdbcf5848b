"""Losses against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import softmax as reference_softmax
from sklearn.metrics import hinge_loss
from sklearn.metrics import log_loss as reference_log_loss

from trivium.program.losses import (
    CLASSIFICATION,
    REGRESSION,
    cross_entropy,
    log_loss,
    margin_loss,
    sigmoid,
    softmax,
    squared,
)


@pytest.fixture
def stream():
    return np.random.default_rng(1)


def test_log_loss_agrees_with_scikit_learn(stream):
    margins, labels = stream.normal(0, 3, 50), stream.integers(0, 2, 50)
    assert log_loss(margins, labels).mean() == pytest.approx(reference_log_loss(labels, expit(margins)), rel=1e-12)


def test_log_loss_stays_finite_where_the_exponential_overflows():
    assert log_loss(np.array([1e4, -1e4]), np.array([0, 1])) == pytest.approx([1e4, 1e4])
    assert log_loss(np.array([1e4, -1e4]), np.array([1, 0])) == pytest.approx([0, 0])


def test_cross_entropy_agrees_with_scikit_learn(stream):
    logits, labels = stream.normal(0, 3, (40, 4)), stream.integers(0, 4, 40)
    reference = reference_log_loss(labels, reference_softmax(logits, axis=1), labels=range(4))
    assert cross_entropy(logits, labels).mean() == pytest.approx(reference, rel=1e-12)
    assert cross_entropy(logits + 1e4, labels) == pytest.approx(cross_entropy(logits, labels), rel=1e-8)


def test_sigmoid_and_softmax_agree_with_scipy(stream):
    z = stream.normal(0, 400, (20, 3))
    assert softmax(z) == pytest.approx(reference_softmax(z, axis=1), rel=1e-12)
    assert sigmoid(z) == pytest.approx(expit(z), rel=1e-12)


def test_squared_is_half_the_square():
    assert squared(np.array([3.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx([2.0, 0.0])


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_losses_of_two_classes_by_hand(name):
    z, y = np.array([3.0, 0.5, -0.5, -3.0]), np.array([1, 1, 1, 1])
    by_hand = {
        "log": np.log1p(np.exp(-z)),
        "hinge": [0, 0.5, 1.5, 4],
        "squared_hinge": [0, 0.25, 2.25, 16],
        "modified_huber": [0, 0.25, 2.25, 12],
        "perceptron": [0, 0, 0.5, 3],
    }
    assert margin_loss(name, z, y) == pytest.approx(by_hand[name])
    assert margin_loss(name, -z, 1 - y) == pytest.approx(by_hand[name])


@pytest.mark.parametrize("name", REGRESSION)
def test_losses_of_residuals_by_hand(name):
    r = np.array([0.1, -0.5, 2.0])
    by_hand = {
        "squared": [0.005, 0.125, 2.0],
        "huber": [0.005, 0.125, 0.875],
        "epsilon_insensitive": [0, 0, 1.5],
        "squared_epsilon_insensitive": [0, 0, 2.25],
    }
    assert margin_loss(name, r + 7, np.full(3, 7.0), 0.5) == pytest.approx(by_hand[name])


def test_hinge_loss_agrees_with_scikit_learn(stream):
    margins, labels = stream.normal(0, 3, 50), stream.integers(0, 2, 50)
    assert margin_loss("hinge", margins, labels).mean() == pytest.approx(hinge_loss(labels, margins), rel=1e-12)
