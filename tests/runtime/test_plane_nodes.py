"""Planes of several nodes, driven by hand through what their servers ask of them, against one memory and NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from trivium.core.exchange import (
    NEWEST,
    Advance,
    Combine,
    Copy,
    Delta,
    Entry,
    Forget,
    Fresh,
    Gather,
    Partial,
    Scale,
    Show,
    TakeUp,
    Whole,
)
from trivium.core.lanes import Part, share, subtrees
from trivium.core.messages import BEST, Apply, EvaluateRows, Fold, Gradient, KeepShard
from trivium.core.role import Address
from trivium.data.batches import BatchPlan
from trivium.data.table import Table
from trivium.designs.ps.filters import parse_filters
from trivium.errors import RunError
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.runtime.node_plane import NodePlane
from trivium.runtime.plane import ArrayPlane, Facts
from trivium.runtime.versions import SLOTS
from trivium.testing.simulating import private_arrays

ROWS, WIDTH, LANES = 64, 9000, 4
OPTIMIZERS = {
    "sgd": {"lr": 0.25},
    "momentum": {"lr": 0.1},
    "nesterov": {"lr": 0.1},
    "adam": {"lr": 0.01},
    "adamw": {"lr": 0.01},
    "adagrad": {"lr": 0.1},
    "ftrl": {},
    "lbfgs": {"tol": 0.0},
    "owlqn": {"tol": 0.0},
}


@pytest.fixture(scope="module")
def table():
    draw = np.random.default_rng(3)
    x = draw.standard_normal((ROWS, WIDTH))
    weight = draw.uniform(0.5, 2.0, ROWS).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    return Table({"x": x, "y": y, "weight": weight}, (0.0, 1.0))


def facts_of(table, name="sgd", shards=3, batch=None, reproducible=True, filters=None, **options):
    made = optimizer(name, **{**OPTIMIZERS[name], **options})
    l1 = 1e-3 if name == "owlqn" or filters == "kkt" else 0.0
    return Facts(
        model("logistic").for_data(table.spec),
        made,
        BatchPlan(ROWS, LANES, batch, seed=1),
        LANES,
        shards,
        2,
        reproducible,
        1,
        l1,
        0.01,
        0,
        None if filters is None else parse_filters(filters),
    )


def one_memory(facts, table):
    plane = ArrayPlane(facts, private_arrays(facts), 0, {"train": table})
    plane.first_version(facts.program.init(0))
    return plane


def step_in_one_memory(plane, clock, parts):
    shards = range(plane.facts.shards)
    plane.read(clock)
    plane.carry_out(Gradient(clock, parts))
    folded = plane.facts.optimizer.scalar_count > 0
    for shard in shards if folded else ():
        plane.carry_out(Fold(shard, clock, parts))
    return [plane.carry_out(Apply(shard, clock, parts, folded, -1)) for shard in shards]


def params(plane, clock):
    plane.read(clock)
    held = plane.view().copy()
    plane.release()
    return held


class Cluster:
    """Nodes 1 to N, each a server's plane; shard s has its primary on node s % N and ``copies`` holders in all."""

    def __init__(self, facts, table, nodes, copies=1, **options):
        self.facts, self.nodes, self.copies = facts, nodes, copies
        self.planes = [
            NodePlane(facts, private_arrays(facts), 0, {"train": table}, free_within=0.05, **options)
            for _ in range(nodes)
        ]
        for plane in self.planes:
            plane.first_version(facts.program.init(0))
        self.ranges = share(LANES, nodes)
        self.number = 0
        self.posted = []  # every bulk message: sender, receiver, message, buffers

    def primary(self, shard):
        return shard % self.nodes

    def holders(self, shard):
        return [(shard + i) % self.nodes for i in range(self.copies)]

    def send(self, sender, to, message, term=1):
        buffers = self.planes[sender].pack(message)
        self.posted.append((sender, to, message, buffers))
        self.planes[to].unpack(Address(sender + 1, 0), message, buffers)

    def parts(self, node):
        own = self.ranges[node]
        return tuple(subtrees(LANES, own)) if self.facts.reproducible else (own,)

    def gradients(self, clock):
        for node, plane in enumerate(self.planes):
            plane.read(clock)
            plane.carry_out(Gradient(clock, self.parts(node)))
            plane.release()

    def deltas_in(self, shard, clock, term=1):
        """Every node's delta of ``shard`` at its primary: the entries that make up the clock there."""
        at, entries = self.primary(shard), []
        for node in range(self.nodes):
            local = Entry(clock, self.parts(node))
            if node == at:
                entries.append(local)
                continue
            self.number += 1
            self.planes[node].carry_out(Gather(shard, self.number, (local,), self.parts(node)))
            self.send(node, at, Delta(term, shard, self.number, (local,), self.parts(node)))
            entries.append(Entry(clock, self.parts(node), node + 1, self.number))
        return tuple(entries)

    def clock(self, clock):
        """One whole clock of every shard; what ``Advance`` said, by shard and holder."""
        self.gradients(clock)
        tag, before, after = LANES * clock, (clock,) * LANES, (clock + 1,) * LANES
        shards = range(self.facts.shards)
        two_step = self.facts.optimizer.scalar_count > 0
        combined = two_step or self.copies > 1
        entries = {shard: self.deltas_in(shard, clock) for shard in shards}
        for shard in shards if combined else ():
            self.planes[self.primary(shard)].carry_out(Combine(shard, tag, entries[shard], True))
        if two_step:
            self.exchange(clock)
        return {shard: self.advance(shard, tag, before, after, () if combined else entries[shard]) for shard in shards}

    def exchange(self, clock):
        for shard in range(self.facts.shards):
            self.planes[self.primary(shard)].carry_out(Scale(shard, LANES * clock))
        for shard in range(self.facts.shards):
            for to in {self.primary(one) for one in range(self.facts.shards)} - {self.primary(shard)}:
                self.send(self.primary(shard), to, Partial(1, shard, clock, False))

    def advance(self, shard, tag, before, after, entries):
        primary, *others = self.holders(shard)
        copy, work = Copy(1, shard, before, after, True), Advance(shard, tag, after, entries, True, -1)
        for to in others:
            self.send(primary, to, copy)
        told = [self.planes[primary].carry_out(work)]
        told += [self.planes[to].carry_out(work) for to in others]
        for node in set(range(self.nodes)) - set(self.holders(shard)):
            self.send(primary, node, Fresh(1, shard, after, False))
            self.planes[node].carry_out(Show(shard, after))
        return told


def same_bits(plane, other, clock):
    np.testing.assert_array_equal(params(plane, clock), params(other, clock))


# -- whole clocks -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nodes_end_in_the_bits_of_one_memory(name, table):
    """Primaries, copies and views, whatever F: what is summed and in which order does not depend on where it was."""
    facts = facts_of(table, name)
    alone, cluster = one_memory(facts, table), Cluster(facts, table, 4, copies=2)
    for clock in range(7):
        expected = step_in_one_memory(alone, clock, tuple(subtrees(LANES, Part(0, LANES))))
        for shard, told in cluster.clock(clock).items():
            assert told == [expected[shard]] * 2
    for plane in cluster.planes:
        same_bits(alone, plane, 7)


@pytest.mark.parametrize(("nodes", "copies"), [(1, 1), (2, 1), (2, 2), (3, 1), (4, 3)])
def test_fused_ranges_are_added_from_left_to_right(nodes, copies, table):
    facts = facts_of(table, "momentum", reproducible=False)
    alone, cluster = one_memory(facts, table), Cluster(facts, table, nodes, copies)
    for clock in range(4):
        step_in_one_memory(alone, clock, tuple(cluster.ranges))
        cluster.clock(clock)
    for plane in cluster.planes:
        same_bits(alone, plane, 4)


def test_a_step_is_that_of_numpy(table):
    facts = facts_of(table)
    cluster = Cluster(facts, table, 2)
    x, y, c = table.columns["x"], table.columns["y"], table.columns["weight"].astype(np.float64)
    cluster.clock(0)
    views = facts.layout.views(params(cluster.planes[0], 1))
    w = next(view for view in views.values() if view.size == WIDTH).reshape(-1)
    np.testing.assert_allclose(w, -0.25 * (x.T @ (c * (0.5 - y))) / c.sum(), rtol=1e-9, atol=1e-12)


def test_lanes_that_were_left_out_are_missing_from_sum_and_weight(table):
    facts = facts_of(table, shards=1)
    cluster = Cluster(facts, table, 2, copies=2)
    cluster.gradients(0)
    one, two = cluster.planes
    two.read(0)
    two.carry_out(Gradient(0, (Part(2, 3), Part(3, 4))))
    two.carry_out(Gather(0, 1, (Entry(0, (Part(2, 3),)),), (Part(2, 3),)))
    cluster.send(1, 0, Delta(1, 0, 1, (Entry(0, (Part(2, 3),)),), (Part(2, 3),)))
    entries = (Entry(0, (Part(0, 2),)), Entry(0, (Part(2, 3),), 2, 1))
    one.carry_out(Combine(0, 0, entries, True))
    told = one.carry_out(Advance(0, 0, (1,) * LANES, (), True, -1))
    x, y, c = (table.columns[k][: ROWS // 4 * 3] for k in ("x", "y", "weight"))
    c = c.astype(np.float64)
    assert told[2:4] == (ROWS // 4 * 3, pytest.approx(c.sum()))
    w = next(v for v in facts.layout.views(params(one, 1)).values() if v.size == WIDTH).reshape(-1)
    np.testing.assert_allclose(w, -0.25 * (x.T @ (c * (0.5 - y))) / c.sum(), rtol=1e-9, atol=1e-12)


# -- parts of clocks --------------------------------------------------------------------------------------------------
def test_a_push_is_a_step_weighted_by_its_rows(table):
    facts = facts_of(table, shards=1, reproducible=False)
    cluster = Cluster(facts, table, 2)
    one, two = cluster.planes
    for plane, part in ((one, Part(0, 2)), (two, Part(2, 4))):
        plane.read(NEWEST)
        plane.carry_out(Gradient(0, (part,)))
    local, foreign = Entry(0, (Part(0, 2),)), Entry(0, (Part(2, 4),))
    two.carry_out(Gather(0, 1, (foreign,), ()))
    cluster.send(1, 0, Delta(1, 0, 1, (foreign,), ()))
    blocks = [one.arrays.blocks[0].copy(), two.arrays.blocks[2].copy()]
    weights = [one.arrays.stats[0, 1], two.arrays.stats[2, 1]]
    before = params(one, 0)
    told = one.carry_out(Advance(0, 0, (1, 1, 0, 0), (local,), False, -1))
    assert told == (False, 0, ROWS // 2, weights[0], one.arrays.stats[0, 2])
    one.read(NEWEST)
    half = one.view().copy()
    np.testing.assert_allclose(half, before - 0.5 * 0.25 * blocks[0] / weights[0], rtol=1e-12, atol=1e-15)
    told = one.carry_out(Advance(0, 2, (1, 1, 1, 1), (Entry(0, (Part(2, 4),), 2, 1),), False, -1))
    assert told[:3] == (False, 1, ROWS // 2)
    decay = 1 - 0.5 * 0.25 * 0.01 * np.array(
        [any(lo <= i < hi for lo, hi in facts.layout.penalised()) for i in range(len(half))]
    )
    np.testing.assert_allclose(
        params(one, 1), half * decay - 0.5 * 0.25 * blocks[1] / weights[1], rtol=1e-9, atol=1e-13
    )


def test_parts_of_a_clock_have_their_place_in_it(table):
    """F is told how far in the clock a push comes, so that rates of schedules and counts of clocks go on evenly."""
    facts = facts_of(table, "adam", shards=1)
    cluster = Cluster(facts, table, 1)
    (one,) = cluster.planes
    steps = []
    update = type(facts.optimizer).update

    class Noting(type(facts.optimizer)):
        def update(self, a, g, state, totals, step, out, new):
            steps.append((step.clock, step.share, step.done))
            update(self, a, g, state, totals, step, out, new)

    object.__setattr__(facts, "optimizer", Noting(**OPTIMIZERS["adam"]))
    one.read(NEWEST)
    one.carry_out(Gradient(0, tuple(Part(lane, lane + 1) for lane in range(LANES))))
    clocks = [0] * LANES
    for lane in (2, 0, 1, 3):
        tag = sum(clocks)
        clocks[lane] += 1
        one.carry_out(Advance(0, tag, tuple(clocks), (Entry(0, (Part(lane, lane + 1),)),), False, -1))
    assert steps == [(0, 0.25, 0.0), (0, 0.25, 0.25), (0, 0.25, 0.5), (0, 0.25, 0.75)]


def test_pushes_are_added_in_the_order_given_and_a_delta_of_one_array_once(table):
    facts = facts_of(table, shards=1)
    cluster = Cluster(facts, table, 2, copies=2)
    one, two = cluster.planes
    lanes = [Part(lane, lane + 1) for lane in range(LANES)]
    for plane, parts in ((one, lanes[:2]), (two, lanes[2:])):
        plane.read(NEWEST)
        plane.carry_out(Gradient(0, tuple(parts)))
    a, b = (one.arrays.blocks[lane].copy() for lane in (0, 1))
    c, d = (two.arrays.blocks[lane].copy() for lane in (2, 3))
    foreign = (Entry(0, (lanes[3],)), Entry(0, (lanes[2],)))
    two.carry_out(Gather(0, 1, foreign, ()))
    cluster.send(1, 0, Delta(1, 0, 1, foreign, ()))
    named = tuple(Entry(entry.clock, entry.parts, 2, 1) for entry in foreign)
    entries = (Entry(0, (lanes[1],)), *named, Entry(0, (lanes[0],)))
    one.carry_out(Combine(0, 0, entries, False))
    np.testing.assert_array_equal(one._desks[0].sum_of(0).array, (b + (d + c)) + a)
    copy, work = Copy(1, 0, (0,) * 4, (1,) * 4, False), Advance(0, 0, (1,) * 4, (), False, -1)
    cluster.send(0, 1, copy)
    assert one.carry_out(work) == two.carry_out(work)
    same_bits(one, two, 1)


# -- reading ----------------------------------------------------------------------------------------------------------
def test_newest_is_a_copy_and_holds_nothing(table):
    facts = facts_of(table, shards=2)
    (plane,) = Cluster(facts, table, 1).planes
    plane.read(NEWEST)
    before = plane.view().copy()
    held = plane.view()
    plane.carry_out(Gradient(0, tuple(subtrees(LANES, Part(0, LANES)))))
    for shard in range(2):
        for clock in range(SLOTS + 2):
            plane.carry_out(
                Advance(shard, LANES * clock, (clock + 1,) * LANES, (Entry(clock, (Part(0, LANES),)),), True, -1)
            )
    np.testing.assert_array_equal(held, before)
    plane.read(NEWEST)
    assert plane.view() is held and not np.array_equal(held, before)
    same_bits(plane, plane, SLOTS + 2)


def test_a_clock_is_read_where_every_lane_is_at_it(table):
    facts = facts_of(table)
    cluster = Cluster(facts, table, 2, copies=2)
    cluster.clock(0)
    plane = cluster.planes[1]
    plane.read(1)
    with pytest.raises(RunError, match="clock 3 computed with parameters of 1"):
        plane.carry_out(Gradient(3, (Part(0, 1),)))
    with pytest.raises(RunError, match="found no version of clock 2"):
        plane.read(2)
    plane.read(NEWEST)
    plane.carry_out(Gradient(3, (Part(0, 1),)))
    for one in cluster.planes:
        for shard in range(facts.shards):
            one.carry_out(KeepShard(shard, 1))
    clock_one = EvaluateRows(1, ("train",), Part(0, LANES))
    best = EvaluateRows(BEST, ("train",), Part(0, LANES))
    assert cluster.planes[0].carry_out(clock_one) == plane.carry_out(best)


def test_who_writes_waits_for_readers_but_not_for_ever(table):
    facts = facts_of(table, shards=1)
    (plane,) = Cluster(facts, table, 1).planes
    looks, versions = [], plane.held[0].versions
    whole = tuple(subtrees(LANES, Part(0, LANES)))
    plane.read(0)
    plane.carry_out(Gradient(0, whole))
    plane.carry_out(Advance(0, 0, (1,) * LANES, (Entry(0, whole),), True, -1))  # 0 stays pinned
    for reader in (1, 3):
        versions.pin(reader, NEWEST)
        clock = versions.current()[0] // LANES
        plane.carry_out(Advance(0, LANES * clock, (clock + 1,) * LANES, (Entry(clock, whole),), True, -1))
    work = Advance(0, 3 * LANES, (4,) * LANES, (Entry(3, whole),), True, -1)
    with pytest.raises(RunError, match=r"no free version of shard 0 for 0\.05 s"):
        plane.carry_out(work)
    plane.alive = lambda: (looks.append(1), plane.drop(1))
    assert plane.carry_out(work)[1] == 4
    assert looks


# -- what is not committed does not exist -----------------------------------------------------------------------------
def test_a_step_that_breaks_off_leaves_what_was_committed(table):
    facts = facts_of(table, shards=1)
    (plane,) = Cluster(facts, table, 1).planes
    whole = tuple(subtrees(LANES, Part(0, LANES)))
    before = params(plane, 0)
    plane.read(0)
    plane.carry_out(Gradient(0, whole))
    block = plane.arrays.blocks.copy()
    real = type(facts.optimizer).update

    class Breaking(type(facts.optimizer)):
        def update(self, a, g, state, totals, step, out, new):
            out[:] = np.nan
            raise ValueError("in the middle")

    object.__setattr__(facts, "optimizer", Breaking(**OPTIMIZERS["sgd"]))
    work = Advance(0, 0, (1,) * LANES, (Entry(0, whole),), True, -1)
    with pytest.raises(ValueError, match="in the middle"):
        plane.carry_out(work)
    assert plane.held[0].versions.current()[0] == 0
    np.testing.assert_array_equal(params(plane, 0), before)
    Breaking.update = real
    plane.arrays.blocks[:] = block
    plane.carry_out(work)
    other = one_memory(facts_of(table, shards=1), table)
    step_in_one_memory(other, 0, whole)
    same_bits(plane, other, 1)


def test_a_step_from_another_tag_is_refused(table):
    facts = facts_of(table)
    cluster = Cluster(facts, table, 2)
    cluster.clock(0)
    with pytest.raises(RunError, match="shard 0 is at tag 4, a step from tag 0"):
        cluster.planes[0].carry_out(Advance(0, 0, (1,) * LANES, (), True, -1))
    with pytest.raises(RunError, match="has no sum of tag 4"):
        cluster.planes[0].carry_out(Advance(0, 4, (2,) * LANES, (), True, -1))
    with pytest.raises(RunError, match="Delta 77 of node 2 is to be summed"):
        cluster.planes[0].carry_out(Combine(0, 4, (Entry(1, (Part(0, 2),), 2, 77),), True))
    with pytest.raises(RunError, match="counted twice"):
        cluster.planes[0].carry_out(Combine(0, 4, (Entry(1, (Part(0, 2), Part(1, 2))),), True))


def test_f_does_not_go_on_from_values_alone(table):
    facts = facts_of(table, shards=1)
    cluster = Cluster(facts, table, 2)
    cluster.clock(0)
    one, two = cluster.planes
    cluster.gradients(1)
    with pytest.raises(RunError, match="no state for F to go on from"):
        two.carry_out(Advance(0, LANES, (2,) * LANES, (Entry(1, (Part(2, 4),)),), True, -1))
    whole = Whole(1, 0, (1,) * LANES, (1,) * LANES, False)
    cluster.send(0, 1, whole)
    two.carry_out(TakeUp(0, whole.applied))
    assert two.carry_out(Advance(0, LANES, (2,) * LANES, (Entry(1, (Part(2, 4),)),), True, -1))[1] == 2
    assert one.held[0].versions.current()[0] == LANES


# -- sent again, late, foreign ----------------------------------------------------------------------------------------
def test_what_is_sent_again_has_the_same_bytes_and_changes_nothing(table):
    facts = facts_of(table)
    cluster = Cluster(facts, table, 2, copies=2)
    cluster.clock(0)
    first = [(message, [bytes(one) for one in buffers]) for _s, _t, message, buffers in cluster.posted]
    for sender, _to, message, _buffers in list(cluster.posted):
        again = [bytes(one) for one in cluster.planes[sender].pack(message)]
        assert (message, again) in first
    held = [params(plane, 1) for plane in cluster.planes]
    for sender, to, message, buffers in cluster.posted:
        cluster.planes[to].unpack(Address(sender + 1, 0), message, buffers)
    for plane, before in zip(cluster.planes, held, strict=True):
        assert not any(desk._deltas for desk in plane._desks)
        np.testing.assert_array_equal(params(plane, 1), before)
    for clock in range(1, 4):
        cluster.clock(clock)
    for _sender, _to, message, buffers in cluster.posted[: len(first)]:  # what a link has is never written again
        assert (message, [bytes(one) for one in buffers]) in first


def test_a_copy_takes_over_and_sends_the_last_step_on(table):
    """Node 1 died after node 2 had its Copy; node 3 gets the step from node 2, and ends in the same bits."""
    facts = facts_of(table, "lbfgs", shards=1)
    cluster = Cluster(facts, table, 3, copies=3)
    for clock in range(3):
        cluster.clock(clock)
    cluster.gradients(3)
    one, two, three = cluster.planes
    entries = cluster.deltas_in(0, 3)
    one.carry_out(Combine(0, 12, entries, True))
    cluster.exchange(3)
    copy, work = Copy(1, 0, (3,) * 4, (4,) * 4, True), Advance(0, 12, (4,) * 4, (), True, -1)
    cluster.send(0, 1, copy)
    told = two.carry_out(work)
    for plane in (two, three):
        plane.carry_out(Forget(0, -1))
    three.unpack(Address(1, 0), copy, forged(cluster, copy))
    cluster.send(1, 2, Copy(2, 0, (3,) * 4, (4,) * 4, True))
    three.unpack(Address(1, 0), copy, forged(cluster, copy))
    assert three.carry_out(work) == told
    one.carry_out(work)
    same_bits(one, two, 4)
    same_bits(two, three, 4)


def forged(cluster, copy):
    """A Copy of a term that is over, with other values."""
    (buffers,) = (buffers for _s, _t, message, buffers in cluster.posted if message == copy)
    values = np.frombuffer(buffers[1]).copy() + 1.0
    return [buffers[0], values.tobytes()]


def test_the_lower_term_never_wins(table):
    facts = facts_of(table, shards=1)
    cluster = Cluster(facts, table, 2)
    one, two = cluster.planes
    cluster.gradients(0)
    entry = Entry(0, (Part(2, 4),))
    two.carry_out(Gather(0, 5, (entry,), (Part(2, 4),)))
    old, new = (Delta(term, 0, 5, (entry,), (Part(2, 4),)) for term in (1, 2))
    buffers = two.pack(new)
    wrong = [buffers[0], (np.frombuffer(buffers[1]) + 1).tobytes()]
    sender = Address(2, 0)
    for message, content in ((old, wrong), (new, buffers), (old, wrong)):
        one.unpack(sender, message, content)
    one.carry_out(Advance(0, 0, (1,) * 4, (Entry(0, (Part(0, 2),)), Entry(0, (Part(2, 4),), 2, 5)), True, -1))
    alone = one_memory(facts, table)
    step_in_one_memory(alone, 0, (Part(0, LANES),))
    same_bits(alone, one, 1)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_what_does_not_fit_says_so(cut, table):
    facts = facts_of(table)
    cluster = Cluster(facts, table, 2, copies=2)
    cluster.clock(0)
    for sender, to, message, buffers in cluster.posted:
        bad = [buffers[:0], [b"\xc1", *buffers[1:]], [*buffers[:-1], memoryview(buffers[-1])[:-8]]][cut]
        with pytest.raises(RunError, match=r"(Delta|Copy|Fresh).* of shard \d"):
            cluster.planes[to].unpack(Address(sender + 1, 0), message, bad)


# -- two-step F -------------------------------------------------------------------------------------------------------
def test_totals_that_settled_bind_the_others(table):
    facts = facts_of(table, "lbfgs")
    alone, cluster = one_memory(facts, table), Cluster(facts, table, 3)
    whole = tuple(subtrees(LANES, Part(0, LANES)))
    for clock in range(3):
        step_in_one_memory(alone, clock, whole)
        cluster.clock(clock)
    told = step_in_one_memory(alone, 3, whole)
    cluster.gradients(3)
    for shard in range(3):
        at = cluster.planes[cluster.primary(shard)]
        at.carry_out(Combine(shard, 12, cluster.deltas_in(shard, 3), True))
    cluster.exchange(3)
    after = (4,) * LANES
    assert cluster.planes[0].carry_out(Advance(0, 12, after, (), True, -1)) == told[0]
    for shard in (1, 2):
        plane = cluster.planes[shard]
        plane.arrays.partials[:] = np.nan  # whoever added them again would see it
        cluster.send(0, shard, Partial(1, 0, 3, True))
        assert plane.carry_out(Advance(shard, 12, after, (), True, 0)) == told[shard]
        np.testing.assert_array_equal(
            plane.arrays.a[plane.held[shard].versions.current()[1]][
                slice(plane.shards[shard].start, plane.shards[shard].stop)
            ],
            params(alone, 4)[plane.shards[shard].start : plane.shards[shard].stop],
        )


def test_rows_of_another_clock_or_term_come_too_late(table):
    facts = facts_of(table, "lbfgs")
    cluster = Cluster(facts, table, 3)
    for clock in range(2):
        cluster.clock(clock)
    late = [one for one in cluster.posted if isinstance(one[2], Partial) and one[2].clock == 0]
    assert late
    for sender, to, message, buffers in late:
        before = cluster.planes[to].arrays.partials.copy()
        cluster.planes[to].unpack(Address(sender + 1, 0), message, buffers)
        np.testing.assert_array_equal(cluster.planes[to].arrays.partials, before)


def test_totals_of_a_step_that_may_never_have_been_do_not_bind_the_next_term(table):
    facts = facts_of(table, "lbfgs")
    cluster = Cluster(facts, table, 3)
    cluster.clock(0)
    cluster.send(0, 1, Partial(1, 0, 0, True))
    desks = cluster.planes[1]._desks
    assert desks[0].bound is not None and desks[1].bound is not None
    for shard in range(3):
        cluster.planes[1].carry_out(Forget(shard, -1))
    assert desks[0].bound is None and desks[1].bound is not None


# -- wholes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sgd", "adam", "lbfgs"])
def test_who_takes_a_shard_up_goes_on_with_the_same_bits(name, table):
    facts = facts_of(table, name)
    cluster = Cluster(facts, table, 3, copies=1)
    for clock in range(4):
        cluster.clock(clock)
    for shard in range(facts.shards):
        cluster.planes[cluster.primary(shard)].carry_out(KeepShard(shard, 4))
        for node in (1, 2):
            to, applied = (shard + node) % 3, (4,) * LANES
            cluster.send(cluster.primary(shard), to, Whole(1, shard, applied, applied, False))
            cluster.planes[to].carry_out(TakeUp(shard, applied))
    cluster.copies = 3
    for clock in range(4, 8):
        cluster.clock(clock)
    alone = one_memory(facts, table)
    for clock in range(8):
        step_in_one_memory(alone, clock, tuple(subtrees(LANES, Part(0, LANES))))
        if clock == 3:
            kept = params(alone, 4)
    for plane in cluster.planes:
        same_bits(alone, plane, 8)
        np.testing.assert_array_equal(plane.arrays.kept, kept)
        assert plane.arrays.kept_clock.tolist() == [4] * 3


def test_a_whole_is_of_one_version(table):
    facts = facts_of(table, "adam", shards=1)
    cluster = Cluster(facts, table, 2)
    for clock in range(3):
        cluster.clock(clock)
    whole = cluster.planes[0].pack(Whole(1, 0, (2,) * LANES, (2,) * LANES, False))  # the version before the newest
    cluster.planes[1].unpack(Address(1, 0), Whole(1, 0, (2,) * LANES, (2,) * LANES, False), whole)
    with pytest.raises(RunError, match="has no version of it to be copied whole"):
        cluster.planes[0].pack(Whole(1, 0, (0,) * LANES, (0,) * LANES, False))
    saved = cluster.planes[0].snapshot(0, 2)
    np.testing.assert_array_equal(np.frombuffer(whole[1]), saved["a"])
    np.testing.assert_array_equal(np.frombuffer(whole[2]).reshape(saved["slots"].shape), saved["slots"])


def test_a_node_that_had_nothing_is_shown_the_first_values_too(table):
    facts = facts_of(table, shards=1)
    one = Cluster(facts, table, 1).planes[0]
    joiner = NodePlane(facts, private_arrays(facts), 0, {"train": table})
    with pytest.raises(RunError, match="no version of any clock to read"):
        joiner.read(NEWEST)
    fresh = Fresh(1, 0, (0,) * LANES, False)
    for _ in range(2):  # a server that does not know what it has asks again
        joiner.unpack(Address(1, 0), fresh, one.pack(fresh))
        joiner.carry_out(Show(0, fresh.applied))
    same_bits(one, joiner, 0)
    with pytest.raises(RunError, match="no values of tag 4 came"):
        joiner.carry_out(Show(0, (1,) * LANES))


# -- forgetting -------------------------------------------------------------------------------------------------------
def test_forgetting_frees_what_came_and_what_was_to_go(table):
    facts = facts_of(table, shards=1)
    cluster = Cluster(facts, table, 2, copies=2)
    cluster.clock(0)
    one, two = cluster.planes
    two.carry_out(Forget(0, cluster.number))
    with pytest.raises(RunError, match="was not gathered"):
        two.pack(Delta(1, 0, cluster.number, (), (Part(2, 4),)))
    cluster.gradients(1)
    entries = cluster.deltas_in(0, 1)
    one.carry_out(Combine(0, 4, entries, True))
    cluster.send(0, 1, Copy(1, 0, (1,) * 4, (2,) * 4, True))
    for plane in cluster.planes:
        plane.carry_out(Forget(0, -1))
        desk = plane._desks[0]
        assert (desk.outgoing, desk._deltas, desk._fresh, desk._whole) == ({}, {}, {}, {})
        assert list(desk._sums) == [0]  # the last step's stays, to be sent again
    again = one.pack(Copy(2, 0, (0,) * 4, (1,) * 4, True))
    assert [bytes(b) for b in again] == [bytes(b) for b in two.pack(Copy(2, 0, (0,) * 4, (1,) * 4, True))]
    with pytest.raises(RunError, match="no sum of tag 4"):
        one.pack(Copy(1, 0, (1,) * 4, (2,) * 4, True))


def test_what_no_role_ever_asks_for_does_not_pile_up(table):
    facts = facts_of(table, shards=1)
    cluster = Cluster(facts, table, 2, copies=2)
    cluster.clock(0)
    copy, fresh = (
        cluster.planes[0].pack(m) for m in (Copy(1, 0, (0,) * 4, (1,) * 4, True), Fresh(1, 0, (1,) * 4, False))
    )
    for clock in range(2, 60):
        cluster.planes[1].unpack(Address(1, 0), Copy(1, 0, (clock,) * 4, (clock + 1,) * 4, True), copy)
        cluster.planes[1].unpack(Address(1, 0), Fresh(1, 0, (clock,) * 4, False), fresh)
    desk = cluster.planes[1]._desks[0]
    assert len(desk._sums) < 12 and len(desk._fresh) < 12


def test_one_node_of_one_copy_allocates_nothing(table):
    facts = facts_of(table, shards=2)
    (plane,) = Cluster(facts, table, 1).planes
    whole = tuple(subtrees(LANES, Part(0, LANES)))
    for clock in range(3):
        plane.read(clock)
        plane.carry_out(Gradient(clock, whole))
        for shard in range(2):
            plane.carry_out(Advance(shard, LANES * clock, (clock + 1,) * LANES, (Entry(clock, whole),), True, -1))
    assert all(not desk._sums and not desk._spare for desk in plane._desks)
    assert plane._summing._spare == {}


def test_sums_that_no_link_has_use_the_same_memory_again(table):
    (plane,) = Cluster(facts_of(table, shards=1), table, 1).planes
    whole, used = tuple(subtrees(LANES, Part(0, LANES))), set()
    plane.read(NEWEST)
    plane.carry_out(Gradient(0, whole))
    for clock in range(8):
        tag = LANES * clock
        plane.carry_out(Combine(0, tag, (Entry(clock, whole),), True))
        used.add(plane._desks[0].sum_of(tag).array.ctypes.data)
        plane.carry_out(Advance(0, tag, (clock + 1,) * LANES, (), True, -1))
    assert len(used) <= 3


# -- filters ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("filters", ["float16", "int8", "topk:0.1", "topk:0.1,int8", "kkt"])
def test_copies_apply_what_filters_let_through(filters, table):
    facts = facts_of(table, filters=filters)
    cluster = Cluster(facts, table, 2, copies=2)
    for clock in range(5):
        cluster.clock(clock)
    same_bits(*cluster.planes, 5)
    alone = one_memory(facts_of(table), table)
    for clock in range(5):
        step_in_one_memory(alone, clock, (Part(0, LANES),))
    near, far = params(cluster.planes[0], 5), params(alone, 5)
    assert not np.array_equal(near, far)
    if "topk" not in filters and filters != "kkt":
        np.testing.assert_allclose(near, far, atol=0.02 * np.abs(far).max())
    traffic = cluster.planes[0].traffic
    assert 0 < traffic.packed["Delta"] < traffic.plain["Delta"]
    assert traffic.packed["Copy"] == cluster.planes[1].traffic.unpacked["Copy"]


def test_nothing_is_lost_to_a_filter_with_error_feedback(table):
    """What went over plus what is kept is what was summed, also after a term that dropped a delta."""
    facts = facts_of(table, shards=1, filters="topk:0.05")
    cluster = Cluster(facts, table, 2)
    two = cluster.planes[1]
    entry, summed, went = Entry(0, (Part(2, 4),)), 0.0, 0.0
    for number in range(1, 5):
        two.read(0)
        two.carry_out(Gradient(0, (Part(2, 4),)))
        block = two.arrays.blocks[2].copy()
        two.carry_out(Gather(0, number, (entry,), (Part(2, 4),)))
        if number == 2:
            two.carry_out(Forget(0, -1))
            continue
        cluster.send(1, 0, Delta(1, 0, number, (entry,), (Part(2, 4),)))
        two.carry_out(Forget(0, number))
        summed = summed + block
        came = cluster.planes[0]._desks[0].delta(Entry(0, (Part(2, 4),), 2, number))
        went = went + came.pieces[0].array
    (sender,) = two._filters._senders.values()
    np.testing.assert_allclose(went + sender.residual, summed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("filters", ["", "int8"])
def test_copies_apply_what_a_bandwidth_lets_through(filters, table):
    """A part of each sum waits; all copies have the same bits, and come to where they would have without."""
    facts = replace(facts_of(table, "momentum", shards=2, lr=0.02), filters=parse_filters(filters), bandwidth=3e5)
    now = [0.0]
    cluster = Cluster(facts, table, 2, copies=2, clock=lambda: now[0])
    alone = one_memory(facts_of(table, "momentum", shards=2, lr=0.02), table)
    for clock in range(40):
        cluster.clock(clock)
        step_in_one_memory(alone, clock, (Part(0, LANES),))
        now[0] += 0.1
        same_bits(*cluster.planes, clock + 1)
    near, far = params(cluster.planes[0], 40), params(alone, 40)
    assert not np.array_equal(near, far)
    assert np.linalg.norm(near - far) < 0.35 * np.linalg.norm(far)
    traffic = cluster.planes[0].traffic
    for kind in ("Delta", "Copy"):
        assert 0 < traffic.packed[kind] < 0.8 * traffic.plain[kind] * (0.5 if filters else 1.0)
    sent = sum(traffic.packed.values())
    assert sent < 3e5 * 4.5 + traffic.plain["Delta"] / 9 + traffic.plain["Copy"] / 9


def test_a_node_without_filters_says_so(table):
    cluster = Cluster(facts_of(table, filters="int8"), table, 2)
    cluster.clock(0)
    plain = Cluster(facts_of(table), table, 2).planes[0]
    _s, _t, message, buffers = next(one for one in cluster.posted if isinstance(one[2], Delta))
    with pytest.raises(RunError, match="came through filters, and this node has none"):
        plain.unpack(Address(2, 0), message, buffers)


def test_bytes_are_counted_by_kind(table):
    cluster = Cluster(facts_of(table, shards=1), table, 2)
    cluster.clock(0)
    one, two = (plane.traffic for plane in cluster.planes)
    size = cluster.facts.layout.nbytes
    assert two.packed == one.unpacked and one.packed == two.unpacked
    assert set(two.packed) == {"Delta"} and set(one.packed) == {"Fresh"}
    assert size <= two.packed["Delta"] < size + 100
    assert cluster.planes[0].moved == [float(size), float(size)]
