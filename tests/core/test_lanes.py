import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.core.lanes import Part, lane_mask, middle, share, subtrees

lanes_and_workers = st.integers(1, 64).flatmap(lambda lanes: st.tuples(st.just(lanes), st.integers(1, lanes)))


@given(lanes_and_workers)
def test_ranges_cover_each_lane_once_and_are_even(sizes):
    lanes, workers = sizes
    ranges = share(lanes, workers)
    assert [lane for lo, hi in ranges for lane in range(lo, hi)] == list(range(lanes))
    widths = [hi - lo for lo, hi in ranges]
    assert max(widths) - min(widths) <= 1


def nodes(node):
    """Every node of the tree, from the definition."""
    yield node
    if node.hi - node.lo > 1:
        yield from nodes(Part(node.lo, middle(node)))
        yield from nodes(Part(middle(node), node.hi))


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1), st.integers(1, n))))
def test_subtrees_are_the_largest_whole_nodes_in_the_range(drawn):
    lanes, lo, width = drawn
    range_ = Part(lo, min(lanes, lo + width))
    found = subtrees(lanes, range_)
    whole = [node for node in nodes(Part(0, lanes)) if range_.lo <= node.lo and node.hi <= range_.hi]
    inside = [n for n in whole if not any(o != n and o.lo <= n.lo and n.hi <= o.hi for o in whole)]
    assert found == sorted(inside)
    assert [lane for lo, hi in found for lane in range(lo, hi)] == list(range(*range_))


@pytest.mark.parametrize(
    ("parts", "lanes"),
    [([], set()), ([Part(0, 1)], {0}), ([Part(2, 4), Part(7, 8)], {2, 3, 7}), ([Part(60, 70)], set(range(60, 70)))],
)
def test_mask_has_a_bit_for_each_lane(parts, lanes):
    assert lane_mask(parts) == sum(1 << lane for lane in lanes)
