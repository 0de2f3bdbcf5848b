"""Wires in handed-in time: a bandwidth is never exceeded, a delay never undercut, order is kept."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from trivium.errors import UsageError
from trivium.runtime.shaping import AHEAD, LEAST, Shape, Wire

SIZES = st.lists(st.tuples(st.integers(1, 100_000), st.floats(0.0, 0.5)), min_size=1, max_size=30)


@given(SIZES, st.floats(1e3, 1e8), st.floats(0.0, 1.0))
def test_laws_of_a_wire(pieces, bandwidth, delay):
    wire, now, out = Wire(Shape(delay, bandwidth)), 0.0, []
    for nbytes, pause in pieces:
        now += pause
        out.append((now, nbytes, wire.put(nbytes, now)))
    dues = [due for *_, due in out]
    assert dues == sorted(dues)
    assert all(due >= put + delay + nbytes / bandwidth - 1e-9 for put, nbytes, due in out)
    for start in range(len(out)):  # in no stretch more than the bandwidth lets through
        sent = sum(nbytes for _, nbytes, _ in out[start:])
        assert sent / bandwidth <= dues[-1] - (dues[start] - out[start][1] / bandwidth) + 1e-6


def test_without_a_bound_only_the_delay_counts():
    wire = Wire(Shape(delay=0.5))
    assert [wire.put(10**9, 1.0), wire.put(1, 1.25)] == [1.5, 1.75]
    assert wire.free(0.0)


def test_a_wire_is_free_when_the_last_piece_is_through():
    wire = Wire(Shape(bandwidth=100.0))
    wire.put(100, 5.0)
    assert not wire.free(6.0 - 2 * AHEAD)
    assert wire.free(6.0 - AHEAD / 2)


@pytest.mark.parametrize("bandwidth", [1.0, 1e5, 12.5e6, 1e9, None])
def test_pieces_are_short_on_a_slow_wire(bandwidth):
    piece = Wire(Shape(bandwidth=bandwidth)).piece(1 << 18)
    assert LEAST <= piece <= 1 << 18
    assert piece % 8 == 0


@pytest.mark.parametrize("wrong", [{"delay": -0.1}, {"delay": float("nan")}, {"bandwidth": 0.0}, {"bandwidth": -1.0}])
def test_shapes_that_cannot_be(wrong):
    with pytest.raises(UsageError, match="expected"):
        Shape(**wrong)
