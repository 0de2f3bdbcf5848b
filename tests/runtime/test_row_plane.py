"""Shards of row tables on two nodes without processes: what one gathers the other applies, copies and shows."""

import os
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from trivium.core.exchange import (
    Advance,
    Combine,
    Copy,
    Delta,
    Entry,
    Forget,
    Found,
    Fresh,
    Gather,
    Seek,
    Serve,
    Show,
    TakeUp,
    Whole,
)
from trivium.core.lanes import Part
from trivium.core.messages import Adopt, Gradient
from trivium.core.role import Address
from trivium.data.batches import BatchPlan
from trivium.data.table import Table
from trivium.errors import RunError
from trivium.program.null import Total
from trivium.program.tables import TableSpec, shard_of
from trivium.runtime.arithmetic.arrays import Facts
from trivium.runtime.arithmetic.desk import Sum
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.own_loop import LoopProgram
from trivium.runtime.row_plane import ROWS
from trivium.runtime.row_plane_memory import Yard
from trivium.runtime.row_plane_post import Rows

LANES, CUTS, KEYS = 4, 2, 50
NODES = (Address(1, 0), Address(2, 0))
SPECS = (TableSpec("n", width=2, update="add", dtype="int64"), TableSpec("w", update="sgd", lr=0.5))


def worker(ctx):
    n, w = ctx.table("n"), ctx.table("w")
    for batch in ctx.batches():
        keys = batch.column("key")
        n.push(keys, np.tile([1, 2], (len(keys), 1)))
        w.push(keys, np.ones(len(keys), np.float32))
        ctx.clock()


def table():
    return Table({"key": np.random.default_rng(0).integers(0, KEYS, 64), "y": np.zeros(64)})


class Node:
    """One node's memory with the planes of its server and of a worker."""

    def __init__(self, facts):
        plan = ArenaPlan()
        for name, (dtype, shape) in ROWS.arrays(facts).items():
            plan.add(name, dtype, shape)
        self.arena = Arena.create(plan)
        self.arena.yard = Yard.create(facts.processes)
        self.server = ROWS.make(facts, self.arena, 0, {}, None, None, None)
        self.worker = ROWS.make(facts, self.arena, 1, {"train": table()}, None, None, None)
        self.server.first_version(facts.program.init(0))
        for shard in range(facts.shards):
            self.server.carry_out(Adopt(shard))

    def close(self):
        self.worker.close()
        self.server.close()
        self.arena.close()
        os.close(self.arena.yard)


@pytest.fixture
def facts():
    program = LoopProgram(worker, SPECS, (False, True), CUTS, 2)
    batches = BatchPlan(64, LANES, 32, seed=1, shuffle=False)
    return Facts(program, Total(), batches, LANES, 1 + program.row_shards, 3, False, 1, 0.0, 0.0, 0)


@pytest.fixture
def nodes(facts):
    made = [Node(facts), Node(facts)]
    yield made
    for one in made:
        one.close()


def send(message, sender, receiver, address):
    receiver.server.unpack(address, message, [bytes(one) for one in sender.server.pack(message)])


def expected(clock_rows, column=0):
    counts = np.bincount(table().columns["key"][clock_rows], minlength=KEYS)
    return counts * (column + 1)


def rows_of(lanes, clock, facts):
    return np.concatenate([facts.batches.order(lane, 0)[clock * 8 : clock * 8 + 8] for lane in lanes])


def pushed(node, part, clock=0):
    node.worker.read(clock)
    node.worker.carry_out(Gradient(clock, (part,)))


def clock_of_both(nodes, shard):
    """Node 1 gathers what it has for ``shard`` and sends it; node 2 has the other lanes' in its own memory."""
    entries = (Entry(0, (Part(0, 2),)),)
    nodes[0].server.carry_out(Gather(shard, 1, entries, (Part(0, 2),)))
    send(Delta(1, shard, 1, entries, (Part(0, 2),)), nodes[0], nodes[1], NODES[0])
    return (Entry(0, (Part(0, 2),), NODES[0].node, 1), Entry(0, (Part(2, 4),)))


def test_what_lanes_push_on_two_nodes_is_applied_once_and_copied(nodes, facts):
    for node, part in zip(nodes, (Part(0, 2), Part(2, 4)), strict=True):
        pushed(node, part)
    applied = (1,) * LANES
    for shard in range(1, facts.shards):
        entries = clock_of_both(nodes, shard)
        nodes[1].server.carry_out(Combine(shard, 0, entries, True))
        send(Copy(1, shard, (0,) * LANES, applied, True), nodes[1], nodes[0], NODES[1])
        results = [node.server.carry_out(Advance(shard, 0, applied, (), True, -1)) for node in nodes]
        assert results[0] == results[1] == (False, 1, 32.0, 32.0, 0.0)
        nodes[0].server.carry_out(Forget(shard, 1))
    rows, keys = rows_of(range(LANES), 0, facts), np.arange(KEYS)
    for node in nodes:
        found = node.worker.pull(0, keys)
        np.testing.assert_array_equal(found, np.stack([expected(rows), expected(rows, 1)], axis=1))
        means = -0.5 * expected(rows) / 32  # sgd on the mean of what was pushed
        np.testing.assert_allclose(node.worker.pull(1, keys).ravel(), means, rtol=1e-6)
    with pytest.raises(RunError, match="is at tag 4, a step from tag 0 was asked for"):
        nodes[1].server.carry_out(Advance(1, 0, applied, entries, True, -1))


def test_a_part_of_a_clock_weighs_by_its_rows(nodes, facts):
    node = nodes[0]
    pushed(node, Part(0, 2))
    entries = (Entry(0, (Part(0, 2),)),)
    for shard in range(1, facts.shards):
        node.server.carry_out(Advance(shard, 0, (1, 1, 0, 0), entries, False, -1))
    counts = expected(rows_of(range(2), 0, facts))
    np.testing.assert_array_equal(node.worker.pull(0, np.arange(KEYS))[:, 0], counts)
    np.testing.assert_allclose(node.worker.pull(1, np.arange(KEYS)).ravel(), -0.5 * 0.5 * counts / 16, rtol=1e-6)


def advanced(nodes, facts):
    """Node 2 alone has made a step of all shards."""
    pushed(nodes[1], Part(0, 4))
    for shard in range(1, facts.shards):
        nodes[1].server.carry_out(Advance(shard, 0, (1,) * LANES, (Entry(0, (Part(0, 4),)),), True, -1))


def test_a_view_hears_how_far_others_are_and_asks_for_rows(nodes, facts):
    advanced(nodes, facts)
    for shard in range(1, facts.shards):
        send(Fresh(1, shard, (1,) * LANES, False), nodes[1], nodes[0], NODES[1])
        nodes[0].server.carry_out(Show(shard, (1,) * LANES))
    asked = []

    def answer(question):
        asked.append(question)
        if len(asked) % 2:
            return  # lost: it is asked again
        send(Seek(1, *question_of(question)), nodes[0], nodes[1], NODES[0])
        found = Found(1, question.shard, NODES[0].node, question.process, question.number)
        send(found, nodes[1], nodes[0], NODES[1])
        send(found, nodes[1], nodes[0], NODES[1])  # doubled

    def question_of(question):
        return question.shard, question.process, question.number

    nodes[0].worker.ask = answer
    keys = np.array([3, 49, 7, 3, 1000])
    np.testing.assert_array_equal(nodes[0].worker.pull(0, keys), nodes[1].worker.pull(0, keys))
    assert {one.shard for one in asked} == {1 + cut for cut in shard_of(keys, CUTS).tolist()}
    assert len(asked) == 2 * len({one.number for one in asked})
    late = Found(1, asked[0].shard, NODES[0].node, asked[0].process, asked[0].number)
    send(late, nodes[1], nodes[0], NODES[1])  # of a question that was answered: nothing comes of it
    send(Seek(1, *question_of(asked[0])), nodes[0], nodes[1], NODES[0])


def test_a_server_answers_its_own_workers_too(nodes, facts):
    advanced(nodes, facts)
    node = nodes[1]
    node.worker.ask = lambda question: node.server.carry_out(Serve(question.shard, question.process, question.number))
    wanted = node.worker.pull(0, np.arange(KEYS))
    for cut in range(CUTS):
        keys = np.flatnonzero(shard_of(np.arange(KEYS), CUTS) == cut)
        np.testing.assert_array_equal(node.worker._asking.ask(1 + cut, SPECS[0], keys), wanted[keys])


def test_a_learner_takes_up_all_rows_with_their_state(nodes, facts):
    advanced(nodes, facts)
    for shard in range(1, facts.shards):
        whole = Whole(1, shard, (1,) * LANES, (1,) * LANES, False)
        send(whole, nodes[1], nodes[0], NODES[1])
        nodes[0].server.carry_out(TakeUp(shard, (1,) * LANES))
        theirs, ours = (node.server.snapshot(shard, 1)() for node in reversed(nodes))
        assert theirs.keys() == ours.keys() == {"keys", "rows", "counts"}
        for name in theirs:
            np.testing.assert_array_equal(theirs[name], ours[name])
    with pytest.raises(RunError, match="no rows of tag 0 to save"):
        nodes[0].server.snapshot(1, 0)


def test_what_came_damaged_is_refused(nodes, facts):
    advanced(nodes, facts)
    whole = Whole(1, 1, (1,) * LANES, (1,) * LANES, False)
    buffers = [bytes(one) for one in nodes[1].server.pack(whole)]
    with pytest.raises(RunError, match="where 3 belong"):
        nodes[0].server.unpack(NODES[1], whole, buffers[:-1])
    with pytest.raises(RunError, match="bytes where"):
        nodes[0].server.unpack(NODES[1], whole, [*buffers[:-1], buffers[-1][:-8]])
    with pytest.raises(RunError, match="was not gathered"):
        nodes[0].server.pack(Delta(1, 1, 9, (), ()))


def test_two_threads_may_come_to_a_desk_at_once(nodes):
    """What came is laid down by one thread while another clears up: neither meets the other half way."""
    desk = nodes[0].server._row_desks[0]
    made, stop, wrong = Sum(Rows(np.zeros(0, np.int64), np.zeros((0, 2), np.int64)), (0.0, 0.0, 0.0), 1), [], []

    def come():
        try:
            for tag in range(30_000):
                desk.keep_sum(tag % 500, replace(made, term=1 + tag // 500))
        except RuntimeError as error:
            wrong.append(error)
        stop.append(1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that they meet
    try:
        thread = threading.Thread(target=come)
        thread.start()
        while not stop:
            desk.advanced(400, (100,) * LANES)
            desk.uncommitted()
            desk.forget(-1)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
