"""The order of addition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.program.optimizers.totals import total


def tree(values):
    """Pairs of neighbours, an odd last one carried: by the book."""
    while len(values) > 1:
        pairs = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
        values = pairs + values[len(values) & ~1 :]
    return values[0]


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40))
def test_is_the_pairwise_tree(values):
    assert total(np.array(values)[:, None])[0] == tree(values)


def test_columns_are_apart_and_input_is_kept():
    rows = np.random.default_rng(0).standard_normal((1001, 3))
    before = rows.copy()
    got = total(rows)
    assert got.shape == (3,)
    np.testing.assert_allclose(got, [math.fsum(c) for c in rows.T], rtol=1e-12)
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("columns", [0, 4])
def test_no_blocks(columns):
    np.testing.assert_array_equal(total(np.empty((0, columns))), np.zeros(columns))


def test_one_row_is_a_copy():
    rows = np.ones((1, 2))
    total(rows)[0] = 5
    assert rows[0, 0] == 1
