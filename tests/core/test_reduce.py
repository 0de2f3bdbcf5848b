import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trivium.core.lanes import Part, middle, share, subtrees
from trivium.core.reduce import additions, sum_in_order, tree_additions


def tree_sum(values, node):
    """The definition: float32 sums up the tree."""
    if node.hi - node.lo == 1:
        return values[node.lo]
    mid = middle(node)
    return np.float32(tree_sum(values, Part(node.lo, mid)) + tree_sum(values, Part(mid, node.hi)))


def drawn(seed, lanes):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=lanes) * 10.0 ** rng.integers(-6, 6, lanes)).astype(np.float32)


cuts = st.integers(1, 33).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(0, 2**32 - 1)))


@given(cuts)
def test_any_partition_into_subtrees_gives_the_bits_of_the_tree(cut):
    lanes, workers, seed = cut
    blocks = drawn(seed, lanes)
    whole = tree_sum(blocks, Part(0, lanes))
    parts = [part for range_ in share(lanes, workers) for part in subtrees(lanes, range_)]
    for part in parts:
        for into, other in tree_additions(part):
            blocks[into] += blocks[other]
    random.Random(seed).shuffle(parts)
    for into, other in additions(lanes, parts):
        blocks[into] += blocks[other]
    assert blocks[0].tobytes() == whole.tobytes()


@given(cuts)
def test_fused_ranges_are_added_once_each(cut):
    lanes, workers, _seed = cut
    held = [0] * lanes
    for part in share(lanes, workers):
        held[part.lo] = sum(1 << lane for lane in range(*part))
    for into, other in additions(lanes, share(lanes, workers)):
        assert not held[into] & held[other]
        held[into] |= held[other]
    assert held[0] == (1 << lanes) - 1


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(0, 9)), min_size=1, max_size=40))
def test_rows_are_summed_by_column(rows):
    summed = sum_in_order([(float(a), float(b)) for a, b in rows])
    assert summed == (float(sum(a for a, _b in rows)), float(sum(b for _a, b in rows)))


def test_rows_are_summed_up_the_tree():
    big, small = 2.0**53, 1.0
    assert sum_in_order([(small,), (small,), (big,), (-big,)]) == (2.0,)
    assert sum_in_order([(small,), (big,), (small,), (-big,)]) != (2.0,)
