"""Programs that compute nothing must still count right."""

import numpy as np
import pytest

from trivium.data.batches import Batch, BatchPlan, LaneReader
from trivium.data.table import Table
from trivium.errors import PlanError
from trivium.program.null import Count, Null
from trivium.program.optimizers.base import State, Step

TABLE = Table({"x": np.zeros((50, 2), np.float32)})


def test_count_ends_at_rows_times_clocks():
    program = Count(3).for_data(TABLE.spec)
    kernel, a, out, new = program.kernel(1, 50, True), program.init(0), program.layout.empty(), program.layout.empty()
    reader, handed = LaneReader(TABLE, BatchPlan(50, 4, 7, seed=1)), 0
    optimizer, nothing = program.defaults.optimizer, np.zeros((0, 8))
    for clock in range(20):
        batch = reader.batch(range(4), clock)
        stats = kernel.delta(a, kernel.read(batch), out, 0)
        handed += len(batch)
        state, fresh = (State(np.zeros(8), nothing, nothing) for _ in range(2))
        step = Step(clock, stats[1], stats[2], 0.0, 0.0, program.layout.penalised())
        optimizer.update(a, out, state, np.zeros(0), step, new, fresh)
        a, new = new, a
    assert a.tolist() == [handed] * 3 + [0] * 5


def test_null_writes_its_constant_and_clears_the_gap():
    kernel, out = Null(3).kernel(1, 5, False), np.full(16, np.nan, np.float32)
    assert kernel.delta(Null(3).init(0), kernel.read(Batch(TABLE, 0, 5)), out, 0) == (5, 5, 0)
    assert out.tolist() == [1] * 3 + [0] * 13
    with pytest.raises(PlanError, match="at least one"):
        Null(0)
