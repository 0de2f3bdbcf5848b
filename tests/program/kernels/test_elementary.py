"""Polynomials against the C library, over their whole ranges."""

import math

import numpy as np
from numba import njit

from trivium.program.kernels.elementary import EXACT, exp_negative, log1p_unit


@njit(fastmath=EXACT, error_model="numpy")
def both(x, e, l):  # noqa: E741
    for i in range(len(x)):
        e[i] = exp_negative(x[i])
        l[i] = log1p_unit(e[i])


def apply(x):
    e, l = np.empty(len(x)), np.empty(len(x))  # noqa: E741
    both(x, e, l)
    return e, l


def test_relative_error_is_a_few_units_in_the_last_place():
    x = -np.concatenate([np.linspace(0, 40, 20_001), np.geomspace(1e-300, 700, 2_001)])
    e, l = apply(x)  # noqa: E741
    assert np.max(np.abs(e / np.exp(x) - 1)) < 1e-15
    assert np.max(np.abs(l / np.log1p(e) - 1)) < 1e-15


def test_ends_of_the_range():
    e, l = apply(np.array([0.0, -1e300, -math.inf, math.nan]))  # noqa: E741
    assert e[0] == 1.0
    assert abs(l[0] - math.log(2)) < 1e-15
    assert 0 <= e[1] < 1e-300
    assert 0 <= e[2] < 1e-300
    assert math.isnan(e[3])
    assert math.isnan(l[3])
