"""Solving normal equations against SciPy; what the optimizer says of itself."""

import cloudpickle
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import UsageError
from trivium.program.optimizers.normal_equations import NormalEquations, delta_layout, layout, solve, unpack


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 8), st.integers(1, 3))
def test_least_norm_of_any_rank(seed, n, rank, targets):
    draw = np.random.default_rng(seed)
    rank = min(rank, n)
    x = draw.normal(size=(40, rank)) @ np.linalg.qr(draw.normal(size=(n, n)))[0][:rank]
    y = draw.normal(size=(40, targets))
    w, found = solve(x.T @ x, x.T @ y, 0.0)
    assert found == rank
    assert w == pytest.approx(scipy.linalg.lstsq(x, y, cond=1e-10)[0], rel=1e-6, abs=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([1e-3, 1.0]))
def test_ridge_of_any_scale(seed, n, l2):
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(20, n)) * 10.0 ** draw.integers(-3, 4, n), draw.normal(size=(20, 1))
    stacked = np.vstack([x, np.sqrt(l2) * np.eye(n)]), np.vstack([y, np.zeros((n, 1))])
    w, rank = solve(x.T @ x, x.T @ y, l2)
    assert rank == n
    expected = scipy.linalg.lstsq(*stacked)[0]
    assert x @ w == pytest.approx(x @ expected, rel=1e-6, abs=1e-6)


def test_nothing_to_solve():
    assert solve(np.zeros((0, 0)), np.zeros((0, 2)), 0.0)[1] == 0


def test_the_packed_triangle_unpacks():
    draw = np.random.default_rng(0)
    full = draw.normal(size=(5, 5))
    full += full.T
    packed = np.concatenate([full[i, : i + 1] for i in range(5)])
    assert np.array_equal(unpack(packed, 5), full)
    assert delta_layout(4, 1).slices[1].size == len(packed)


def test_it_travels_and_says_what_it_needs():
    one = NormalEquations(features=3, targets=2, positive=True)
    assert cloudpickle.loads(cloudpickle.dumps(one)) == one
    assert one.needs_full_batch
    assert one.scalar_count
    assert [piece.penalised for piece in layout(3, 2).slices] == [True, False, False, False]


@pytest.mark.parametrize("option", [{"tol": -1.0}, {"max_iter": 0}])
def test_options_out_of_range(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        NormalEquations(**option)
