"""A change of size as a value: who is there afterwards, and who must be started."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.core.membership import Members
from trivium.designs.ps.change import resized, sized, topology


def test_a_new_node_takes_a_worker_from_the_fullest_one_where_there_are_no_more_in_total():
    members, names = topology(3, 2)
    change = resized(members, names, 3, 3)
    assert sorted(Counter(one.node for one in change.members.workers).values()) == [1, 1, 1]
    assert [change.names[one] for one in change.joins] == ["server 2", "worker 3"]
    assert change.why == "3 workers on 3 nodes, before 3 workers on 2 nodes"


@pytest.mark.parametrize(("workers", "nodes"), [(1, 1), (4, 1), (3, 2), (8, 3)])
def test_what_is_there_already_is_no_change(workers, nodes):
    members, names = topology(workers, nodes)
    assert resized(members, names, workers, nodes) is None


@given(data=st.data())
def test_any_change_has_the_size_that_was_asked_for_and_moves_as_few_as_can_be(data):
    begun = data.draw(st.integers(1, 4))
    workers = data.draw(st.integers(begun, 8))
    members, names = topology(workers, begun)
    ever = set(members.all)
    for _ in range(3):
        nodes = data.draw(st.integers(1, 5)) if begun > 1 else 1
        workers = data.draw(st.integers(nodes, 8))
        before, change = members, resized(members, names, workers, nodes)
        if change is None:
            assert (len(members.workers), len(members.holders)) == (workers, nodes)
            continue
        members = change.members
        assert (len(members.workers), len(members.holders)) == (workers, nodes)
        assert set(change.joins) == set(members.all) - set(before.all)
        assert not set(change.joins) & ever, "an address is never used again"
        assert change.names.keys() == set(change.joins) and not set(change.names.values()) & set(names.values())
        homes = Counter(one.node for one in members.workers)
        assert homes.keys() == {one.node for one in members.holders}, "each node has a worker and a server"
        gone = {one.node for one in before.holders} - {one.node for one in members.holders}
        left = [one for one in before.workers if one.node not in gone and one not in members.workers]
        joined = [one for one in members.workers if one in change.joins]
        fresh = {one.node for one in members.holders} - {one.node for one in before.holders}
        assert not left or len([one for one in joined if one.node not in fresh]) == 0, "nobody is replaced for nothing"
        names = {**names, **change.names}
        ever |= set(change.joins)


def test_sizes_in_words():
    assert sized(topology(1, 1)[0]) == "1 worker"
    assert sized(Members(topology(4, 2)[0].workers, topology(4, 2)[0].holders)) == "4 workers on 2 nodes"
