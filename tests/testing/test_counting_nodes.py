"""The counting planes of several nodes find what they are there to find."""

import pytest

from trivium.core.consistency import Rule
from trivium.core.exchange import (
    HERE,
    NEWEST,
    Advance,
    Combine,
    Copy,
    Delta,
    Entry,
    Forget,
    Fresh,
    Gather,
    Scale,
    Show,
    TakeUp,
    Whole,
)
from trivium.core.lanes import Part
from trivium.core.messages import Adopt, Gradient
from trivium.core.role import Address
from trivium.testing.counting import Wrong, expected, mix
from trivium.testing.counting_nodes import Cluster, NodePlane, summed

ONE, TWO = Address(1, 0), Address(2, 0)
LANES = 4
ALL = Part(0, LANES)
LOW, HIGH = Part(0, 2), Part(2, 4)


def planes(rule="bsp", *, shards=1, **settings):
    """Two nodes' servers, and a worker on each."""
    cluster = Cluster(shards, LANES, Rule.parse(rule), **settings)
    cluster.holders = ((ONE, TWO),) * shards
    for name in (1, 2):
        cluster.add(name, cluster.first())
    return cluster, *[NodePlane(cluster.nodes[name], server=server) for server in (True, False) for name in (1, 2)]


def do(plane, work):
    plane.begin(work)
    return plane.carry_out(work)


def compute(plane, clock, *parts, read=NEWEST):
    plane.read(read)
    do(plane, Gradient(clock, parts))


def deliver(sender, message, *receivers):
    payload = sender.pack(message)
    for one in receivers:
        one.unpack(Address(sender.node.name, 0), message, payload)


def entry(clock, *parts, node=HERE, number=0):
    return Entry(clock, parts, node, number)


def whole_clock(clock, rule="bsp"):
    """Both nodes compute a clock of a shard; node 1 combines it."""
    cluster, one, two, low, high = planes(rule)
    compute(low, clock, LOW)
    compute(high, clock, HIGH)
    do(two, Gather(0, 1, (entry(clock, HIGH),), (HIGH,)))
    deliver(two, Delta(1, 0, 1, (entry(clock, HIGH),), (HIGH,)), one)
    do(one, Combine(0, 0, (entry(clock, LOW), entry(clock, HIGH, node=2, number=1)), True))
    return cluster, one, two


STEP = Advance(0, 0, (1,) * LANES, (), True, -1)
COPY = Copy(1, 0, (0,) * LANES, (1,) * LANES, True)


def test_a_clock_over_two_nodes_and_two_copies():
    cluster, one, two = whole_clock(0)
    deliver(one, COPY, two)
    assert do(one, STEP) == do(two, STEP) == (False, 1, 4.0, 4.0, 0.0)
    first, second = (node.shards[0].newest for node in cluster.nodes.values())
    assert first == second
    assert first.value == expected(1, LANES, 1)[0]
    assert do(one, Adopt(0)) == (LANES, False)


def test_a_delta_that_does_not_depend_on_what_was_read():
    cluster, one, _two, low, _high = planes("ssp:2")
    compute(low, 0, LOW)
    do(one, Advance(0, 0, (1, 1, 0, 0), (entry(0, LOW),), False, -1))
    compute(low, 1, LOW)
    do(one, Advance(0, 2, (2, 2, 0, 0), (entry(1, LOW),), False, -1))
    value = cluster.nodes[1].shards[0].newest.value
    assert value == sum(mix((), lane, clock) for lane in range(2) for clock in range(2))
    assert summed(2, 2) == value


def test_two_in_one_block():
    _cluster, one, _two, low, other = planes()
    other = NodePlane(low.node, server=False)
    low.read(0)
    low.begin(Gradient(0, (LOW,)))
    other.read(0)
    with pytest.raises(Wrong, match="being written or summed"):
        other.begin(Gradient(0, (LOW,)))
    with pytest.raises(Wrong, match="while it is written"):
        do(one, Gather(0, 1, (entry(0, LOW),), ()))


def test_a_block_that_is_summed_is_not_written():
    _cluster, one, _two, low, _high = planes("asp")
    compute(low, 0, LOW)
    one.begin(Gather(0, 1, (entry(0, LOW),), ()))
    with pytest.raises(Wrong, match="being written or summed"):
        low.begin(Gradient(1, (LOW,)))
    one.died()
    compute(low, 0, LOW)
    assert not low.node.alive


def test_a_block_that_was_written_over_before_it_was_summed():
    _cluster, one, _two, low, _high = planes("asp")
    compute(low, 0, LOW)
    compute(low, 1, LOW)
    with pytest.raises(Wrong, match="block 0 holds lanes to 2 of clock 1, wanted 2 of 0"):
        do(one, Combine(0, 0, (entry(0, LOW),), False))


@pytest.mark.parametrize(
    ("rule", "clock", "applied", "message"),
    [
        ("bsp", 1, (1, 1, 1, 0), "computes clock 1 with shard 0 of"),
        ("ssp:1", 2, (2, 2, 0, 2), "is read with shard 0 at"),
        ("ssp:2", 2, (1, 2, 1, 1), "does not see its own pushes"),
        ("backup:1", 1, (1, 1, 1, 0), "is read with shard 0 at"),
    ],
)
def test_staleness(rule, clock, applied, message):
    cluster, _one, _two, low, _high = planes(rule)
    first = cluster.nodes[1].shards[0].newest
    cluster.nodes[1].shards[0].commit(first._replace(applied=applied))
    low.read(NEWEST)
    with pytest.raises(Wrong, match=message):
        low.begin(Gradient(clock, (LOW,)))


def test_what_the_rules_allow_is_read():
    for rule, clock, applied in [("ssp:1", 2, (2, 2, 1, 1)), ("asp", 9, (1, 0, 0, 0)), ("essp:3", 3, (3, 3, 0, 7))]:
        cluster, _one, _two, low, _high = planes(rule)
        first = cluster.nodes[1].shards[0].newest
        cluster.nodes[1].shards[0].commit(first._replace(applied=applied))
        compute(low, clock, LOW)


def test_a_doubled_a_missing_and_an_early_delta():
    _cluster, one, _two, low, _high = planes("ssp:3")
    compute(low, 0, LOW)
    with pytest.raises(Wrong, match="summed twice"):
        do(one, Combine(0, 0, (entry(0, LOW), entry(0, LOW)), False))
    with pytest.raises(Wrong, match="does without"):
        do(one, Advance(0, 0, (1, 1, 1, 0), (entry(0, LOW),), False, -1))
    do(one, Advance(0, 0, (1, 1, 0, 0), (entry(0, LOW),), False, -1))
    with pytest.raises(Wrong, match="from"):
        do(one, Advance(0, 2, (1, 1, 0, 0), (entry(0, LOW),), False, -1))


def test_backup_drops_so_many_and_no_more():
    cluster, one, two, low, high = planes("backup:1")
    compute(low, 0, Part(0, 1), Part(1, 2))
    compute(high, 0, Part(2, 3))
    do(two, Gather(0, 1, (entry(0, Part(2, 3)),), (Part(2, 3),)))
    deliver(two, Delta(1, 0, 1, (entry(0, Part(2, 3)),), (Part(2, 3),)), one)
    parts = (entry(0, Part(0, 1)), entry(0, Part(1, 2)))
    with pytest.raises(Wrong, match="does without"):
        do(one, Advance(0, 0, (1,) * LANES, parts, True, -1))
    do(one, Advance(0, 0, (1,) * LANES, (*parts, entry(0, Part(2, 3), node=2, number=1)), True, -1))
    version = cluster.nodes[1].shards[0].newest
    assert version.dropped == {3}
    assert version.value == cluster.right(0, version) == sum(mix((), lane, 0) for lane in range(3))


def test_a_delta_of_which_only_half_is_named():
    _cluster, one, two, _low, high = planes("ssp:3")
    compute(high, 0, HIGH)
    do(two, Gather(0, 1, (entry(0, HIGH),), ()))
    deliver(two, Delta(1, 0, 1, (entry(0, HIGH),), ()), one)
    with pytest.raises(Wrong, match="taken for"):
        do(one, Combine(0, 0, (entry(0, Part(2, 3), node=2, number=1),), False))


def test_late_bulk_of_an_older_term_replaces_nothing():
    _cluster, one, two = whole_clock(0)
    deliver(two, Delta(2, 0, 1, (entry(0, HIGH),), (HIGH,)), one)
    assert one.node.shards[0].incoming[2, 1][0] == 2
    one.unpack(TWO, Delta(1, 0, 1, (), ()), [])
    assert one.node.shards[0].incoming[2, 1][0] == 2
    one.unpack(TWO, COPY, None)  # its own sum stays
    do(one, STEP)


def test_copies_that_go_different_ways():
    cluster, one, two = whole_clock(0)
    do(one, STEP)
    wrong = one.pack(COPY)._replace(items=frozenset(range(1, LANES)))
    cluster.rule = Rule.parse("backup:1")
    two.unpack(ONE, COPY, wrong)
    with pytest.raises(Wrong, match="by other steps"):
        do(two, STEP)


def test_a_sum_that_did_not_come_and_one_that_was_forgotten():
    _cluster, one, two = whole_clock(0)
    with pytest.raises(Wrong, match="is not here"):
        do(two, STEP)
    do(one, Forget(0, -1))
    with pytest.raises(Wrong, match="its sum is not here"):
        one.pack(COPY)


def test_the_sum_of_the_last_step_outlives_its_term():
    _cluster, one, two = whole_clock(0)
    do(one, STEP)
    do(one, Forget(0, -1))
    deliver(one, COPY, two)
    do(two, STEP)


def test_a_step_to_the_wrong_tag_and_one_that_stands():
    _cluster, one, _two = whole_clock(0)
    with pytest.raises(Wrong, match="applies"):
        do(one, Advance(0, LANES, (2,) * LANES, (), True, -1))
    one.node.standing = True
    with pytest.raises(Wrong, match="stands"):
        do(one, STEP)


def test_values_are_no_copy_and_a_whole_one_is():
    cluster, one, two = whole_clock(0)
    do(one, STEP)
    deliver(one, Fresh(1, 0, (1,) * LANES, False), two)
    do(two, Show(0, (1,) * LANES))
    with pytest.raises(Wrong, match="applies"):
        do(two, Advance(0, LANES, (2,) * LANES, (), True, -1))
    with pytest.raises(Wrong, match="values only"):
        two.pack(Whole(1, 0, (1,) * LANES, (1,) * LANES, False))
    deliver(one, Whole(1, 0, (1,) * LANES, (1,) * LANES, False), two)
    do(two, TakeUp(0, (1,) * LANES))
    assert cluster.nodes[2].shards[0].full
    assert cluster.nodes[2].shards[0].history == cluster.nodes[1].shards[0].history


def test_two_steps_of_f_with_one_decision():
    cluster, one, _two, low, _high = planes(elementwise=False, reproducible=False, shards=2)
    compute(low, 0, ALL)
    do(one, Combine(0, 0, (entry(0, ALL),), True))
    do(one, Scale(0, 0))
    with pytest.raises(Wrong, match="partial sums of shard 1"):
        do(one, STEP)
    do(one, Combine(1, 0, (entry(0, ALL),), True))
    do(one, Scale(1, 0))
    do(one, STEP)
    one.node.shards[1].rows[0] = (0, "otherwise")
    with pytest.raises(Wrong, match="is decided by"):
        do(one, Advance(1, 0, (1,) * LANES, (), True, -1))
    do(one, Combine(1, 0, (entry(0, ALL),), True))
    do(one, Advance(1, 0, (1,) * LANES, (), True, 0))
    assert cluster.nodes[1].shards[1].newest.value == expected(2, LANES, 1)[1]
