import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.data.sources.growing import Growing


@given(st.lists(st.integers(0, 40), max_size=12), st.floats(0, 1e3))
def test_what_was_appended_is_there_in_order_whatever_was_expected(sizes, expected):
    growing, whole = Growing(np.int32), np.arange(sum(sizes), dtype=np.int32)
    at = 0
    for size in sizes:
        growing.append(whole[at : at + size], expected)
        at += size
    np.testing.assert_array_equal(growing.result(), whole)


def test_a_right_guess_is_one_allocation():
    growing = Growing(np.float32)
    growing.append(np.zeros(10, np.float32), 100.0)
    first = growing.result()
    for _ in range(9):
        growing.append(np.ones(10, np.float32), 100.0)
    assert np.shares_memory(growing.result(), growing._array)
    assert len(growing._array) == 105
    assert len(first) == 10


@pytest.mark.parametrize("expected", [0.0, 1e4])
def test_a_wrong_guess_holds_little_memory(expected):
    growing = Growing(np.float32)
    for _ in range(10):
        growing.append(np.ones(10, np.float32), expected)
    whole = growing.result()
    base = whole if whole.base is None else whole.base
    assert base.size < 2 * whole.size
