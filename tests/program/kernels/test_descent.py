"""Coordinate descent on a Gram matrix against the optimality conditions, for problems drawn at random."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trivium.program.kernels.descent import descend, gap_of


@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.05, 0.5]),
    st.booleans(),
)
@example(27, 2, 0.0, 0.05, False)  # all are 0 after the first sweep, and must not stay so
def test_the_minimum_is_one(seed, n, l2, l1, positive):
    """Where w is 0 the slope is within l1, elsewhere it is l1 exactly (Karush, Kuhn, Tucker)."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(30, n)), draw.normal(size=30)
    gram, q, yy = x.T @ x / 30, x.T @ y / 30, float(y @ y) / 30
    w = draw.normal(size=n) if not positive else np.zeros(n)
    sweeps, gap = descend(gram, q, yy, l1, l2, positive, 1e-12, 10_000, w)
    slope = q - gram @ w - l2 * w
    assert 0 <= sweeps <= 10_000
    assert -1e-12 <= gap <= 1e-12 * yy or not w.any()
    on = w != 0
    assert slope[on] == pytest.approx(l1 * np.sign(w[on]), abs=1e-6)
    assert (slope[~on] <= l1 + 1e-6).all()
    assert (w >= 0).all() if positive else (slope[~on] >= -l1 - 1e-6).all()


@given(st.integers(0, 10_000))
def test_the_gap_bounds_what_is_left(seed):
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(20, 4)), draw.normal(size=20)
    gram, q, yy = x.T @ x, x.T @ y, float(y @ y)

    def f(w):
        return 0.5 * (w @ gram @ w) - q @ w + 2.0 * np.abs(w).sum() + 0.5 * w @ w

    best = np.zeros(4)
    descend(gram, q, yy, 2.0, 1.0, False, 1e-14, 10_000, best)
    w = best + draw.normal(size=4)
    assert f(w) - f(best) <= gap_of(w, gram @ w, q, yy, 2.0, 1.0, False) + 1e-9


def test_columns_of_nothing_stay_at_zero():
    w = np.zeros(2)
    descend(np.diag([1.0, 0.0]), np.array([1.0, 0.0]), 1.0, 0.1, 0.0, False, 1e-8, 100, w)
    assert w == pytest.approx([0.9, 0.0])
