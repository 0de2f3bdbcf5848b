from hypothesis import given
from hypothesis import strategies as st

from benchmarks import measure


@given(st.integers(1, 4000))
def test_the_fewest_iterations_are_found_within_a_sixteenth(needed):
    asked = []

    def fit(iterations):
        asked.append(iterations)
        return 0.0 if iterations >= needed else 1.0

    found = measure.least(fit, goal=0.5)
    assert 0 <= found - needed <= max(1, found // 16)
    assert len(asked) < 25


def test_a_goal_out_of_reach_is_none():
    assert measure.least(lambda _: 1.0, goal=0.5, most=64) is None


def test_a_rate_counts_the_rows_of_the_timed_steps_only():
    calls = []
    found = measure.rate(lambda: calls.append(1), 10, warm=5, window=0.001, windows=3)
    assert len(calls) > 5
    assert 0 < found <= (len(calls) - 5) * 10 / 0.001
