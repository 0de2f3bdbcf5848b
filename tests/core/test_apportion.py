"""Laws of plans, beside all plans there are."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trivium.core.apportion import best_counts, ranges

speeds = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6)
whole_speeds = st.lists(st.integers(1, 4).map(float), min_size=1, max_size=4)


def load(counts, seconds):
    return max(count * one for count, one in zip(counts, seconds, strict=True))


def moved(counts, held):
    owners = [[i for i, n in enumerate(one) for _ in range(n)] for one in (counts, held)]
    return sum(a != b for a, b in zip(*owners, strict=True))


@given(st.lists(st.integers(0, 9), min_size=1))
def test_ranges_follow_the_counts(counts):
    found = ranges(counts)
    assert [hi - lo for lo, hi in found] == counts
    assert [lane for lo, hi in found for lane in range(lo, hi)] == list(range(sum(counts)))


@given(speeds, st.integers(1, 64))
def test_counts_sum_to_the_lanes(seconds, lanes):
    counts = best_counts(seconds, lanes)
    assert len(counts) == len(seconds)
    assert sum(counts) == lanes
    assert min(counts) >= 0


@given(whole_speeds, st.integers(1, 9), st.data())
def test_the_plan_is_the_best_of_all(seconds, lanes, data):
    plans = [
        plan for plan in itertools.product(range(lanes + 1), repeat=len(seconds)) if sum(plan) == lanes
    ]  # fmt: skip
    held = data.draw(st.sampled_from(plans))
    found = best_counts(seconds, lanes, held=held)

    def worth(plan):
        busy = sum(count * one for count, one in zip(plan, seconds, strict=True))
        return load(plan, seconds), busy, moved(plan, held)

    assert worth(found) == min(worth(plan) for plan in plans)


@given(speeds, st.integers(1, 40), st.integers(-20, 20))
def test_only_the_relations_of_speeds_count(seconds, lanes, power):
    assert best_counts(seconds, lanes) == best_counts([one * 2.0**power for one in seconds], lanes)


@given(speeds, st.integers(1, 40))
def test_a_faster_worker_never_gets_fewer_lanes(seconds, lanes):
    pairs = sorted(zip(seconds, best_counts(seconds, lanes), strict=True))
    for (a, more), (b, less) in itertools.pairwise(pairs):
        assert a == b or more >= less


@given(speeds, st.integers(1, 40), st.data())
def test_a_worker_that_gets_faster_never_gets_fewer_lanes(seconds, lanes, data):
    i = data.draw(st.integers(0, len(seconds) - 1))
    faster = list(seconds)
    faster[i] /= data.draw(st.floats(1.0, 8.0))
    assume(seconds.count(seconds[i]) == 1)
    assume(faster.count(faster[i]) == 1)
    assert best_counts(faster, lanes)[i] >= best_counts(seconds, lanes)[i]


@given(speeds, st.integers(1, 20), st.data())
def test_nobody_gets_more_than_it_may(seconds, lanes, data):
    most = data.draw(st.lists(st.integers(0, lanes), min_size=len(seconds), max_size=len(seconds)))
    assume(sum(most) >= lanes)
    counts = best_counts(seconds, lanes, most=most)
    assert sum(counts) == lanes
    assert all(count <= limit for count, limit in zip(counts, most, strict=True))


def test_the_best_plan_that_is_held_stays():
    for held in [(2, 0, 3, 3), (3, 0, 2, 3), (3, 0, 3, 2)]:
        assert best_counts([1.0, 4.0, 1.0, 1.0], 8, held=held) == held


@pytest.mark.parametrize("seconds", [[], [0.0, 1.0], [-1.0], [float("nan")], [float("inf"), 1.0]])
def test_speeds_that_are_none_are_refused(seconds):
    with pytest.raises(ValueError, match="expected one number above 0"):
        best_counts(seconds, 4)


def test_no_room_is_refused():
    with pytest.raises(ValueError, match="expected room for 4"):
        best_counts([1.0, 1.0], 4, most=[1, 2])
