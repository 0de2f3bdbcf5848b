"""A loop of one's own, a unit at a time, with no processes: whoever asks for a unit gets what it pushed."""

import pickle

import cloudpickle
import numpy as np
import pytest

from trivium.core.lanes import Part
from trivium.data.batches import BatchPlan, LaneReader
from trivium.data.table import Csr, Table
from trivium.errors import DataError, ProgramError, UsageError
from trivium.program.tables import TableSpec
from trivium.runtime.own_loop import Loop, LoopProgram, known_files

SPEC = TableSpec("w", rows=100, width=2, update="add")


def table(rows=32):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 50, 3 * rows).astype(np.int32)
    x = Csr(3 * np.arange(rows + 1), indices, np.arange(3.0 * rows), 50)
    return Table({"x": x, "y": np.arange(rows, dtype=np.float32)})


def loop_of(function, *, pull=None, told=None, lanes=4, batch=8):
    data = table()
    program = LoopProgram(function, (SPEC,), (False,), 1, 1, known=known_files(function))
    batches = BatchPlan(len(data), lanes, batch, seed=3)
    pull = pull or (lambda _table, keys: np.zeros((len(keys), 2), np.float32))
    return Loop(program, batches, LaneReader(data, batches), 5, pull, (told if told is not None else []).append)


def test_each_unit_has_the_rows_of_its_lanes_and_gives_what_was_pushed():
    seen = []

    def function(ctx):
        w = ctx.table("w")
        for batch in ctx.batches(None, 8):
            seen.append((batch.lanes, batch.clock, batch.epoch, sorted(batch.y.tolist())))
            w.push([7, 3, 7], np.ones((3, 2)))
            w.push([3], [[5.0, 5.0]])
            ctx.report(loss=0.5)
            ctx.clock()

    loop = loop_of(function)
    pushed = loop.run(Part(0, 2), 0)
    keys, rows = pushed.of(0)
    assert keys.tolist() == [3, 7] and rows.tolist() == [[6.0, 6.0], [2.0, 2.0]]
    assert (pushed.rows, pushed.weight, pushed.loss) == (4.0, 4.0, 2.0)
    loop.run(Part(2, 3), 0)
    loop.run(Part(0, 4), 4)  # lanes came, and a new epoch
    loop.run(Part(2, 3), 0)  # again, as after a death
    loop.end()
    assert seen[0][:3] == (range(2), 0, 0) and seen[2][:3] == (range(4), 4, 1)
    assert seen[1] == seen[3] and len(seen[2][3]) == 8


def test_a_batch_shows_its_rows_sparse_and_by_column():
    found = {}

    def function(ctx):
        for batch in ctx.batches():
            found.update(keys=batch.keys, inverse=batch.inverse, indptr=batch.indptr, values=batch.values, y=batch.y)
            found["weight"] = batch.weight
            with pytest.raises(DataError, match=r"no dense column 'x'; it has y"):
                batch.x.sum()
            ctx.clock()

    loop = loop_of(function, batch=32)
    loop.run(Part(0, 4), 0)
    loop.end()
    x = table().columns["x"]
    np.testing.assert_array_equal(found["keys"], np.unique(x.indices))
    np.testing.assert_array_equal(found["keys"][found["inverse"]], x.indices)
    np.testing.assert_array_equal(found["values"], x.values)
    assert found["indptr"][-1] == x.nnz and found["weight"] == 32.0


def test_random_numbers_follow_from_the_unit():
    drawn = []

    def function(ctx):
        for _ in ctx.batches():
            drawn.append(ctx.rng.random())
            ctx.clock()

    for _ in range(2):
        loop = loop_of(function)
        loop.run(Part(0, 2), 0)
        loop.run(Part(2, 4), 0)
        loop.run(Part(0, 2), 1)
        loop.end()
    assert drawn[:3] == drawn[3:] and len(set(drawn)) == 3


def test_a_loop_may_leave_the_clock_to_its_batches_and_end_early():
    def function(ctx):
        w = ctx.table("w")
        for batch in ctx.batches():
            w.push([batch.clock], [[1.0, 1.0]])
            if batch.clock == 1:
                break

    loop = loop_of(function)
    assert [loop.run(Part(0, 4), clock).tables for clock in range(2)][1][0][0][0].tolist() == [1]
    assert loop.run(Part(0, 4), 2).tables == {}, "it has returned"
    loop.end()


def test_what_comes_after_the_loop_is_run_and_cannot_push(caplog):
    after = []

    def function(ctx):
        w = ctx.table("w")
        for _ in ctx.clocks(3):
            ctx.clock()
        after.append(w.pull([1]).shape)
        w.push([1], [[1.0, 1.0]])

    loop = loop_of(function)
    loop.run(Part(0, 4), 0)
    loop.end()
    assert after == [(1, 2)]
    assert "a push after the run's last clock reaches nobody" in caplog.text


def test_reports_say_where_they_are_from():
    told = []

    def function(ctx):
        for _ in ctx.clocks(3):
            ctx.report(accuracy=np.float32(0.5))
            ctx.clock()

    loop = loop_of(function, told=told)
    loop.run(Part(1, 3), 4)
    loop.end()
    assert told == [{"worker": 5, "clock": 4, "lanes": [1, 3], "epoch": 1, "accuracy": 0.5}]


def test_an_error_is_told_once_and_again():
    def function(ctx):
        for _ in ctx.clocks(3):
            ctx.clock()
            raise LookupError("mine")

    loop = loop_of(function)
    loop.run(Part(0, 2), 0)
    for _ in range(2):
        with pytest.raises(ProgramError, match=r"the loop at clock 1, lanes 2 to 3, raised LookupError at .*own_loop"):
            loop.run(Part(2, 4), 1)
    loop.end()


def test_a_function_is_sent_without_the_rows_of_its_run():
    data = table(4000)

    def function(_ctx):
        return data

    program = LoopProgram(function, (SPEC,), (False,), 1, 1, shipped=(data,))
    content = cloudpickle.dumps(program)
    assert len(content) < 20_000 < len(cloudpickle.dumps(LoopProgram(function, (SPEC,), (False,), 1, 1)))
    stand_in = pickle.loads(content).function(None)
    assert len(stand_in) == 4000 and stand_in.spec == data.spec
    with pytest.raises(UsageError, match=r"by ctx.batches alone"):
        stand_in.columns  # noqa: B018
