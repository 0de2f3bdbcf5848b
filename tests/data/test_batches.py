"""Strides: each row once an epoch, in an order that follows from data and plan alone, few rows wanted at a time."""

import numpy as np
import pytest

from trivium.data.batches import Batch, BatchPlan, LaneReader, Strides, lane_rows, strides
from trivium.data.table import Table


class Pages:
    """Which rows somebody holds now."""

    def __init__(self):
        self.held, self.most, self.asked = set(), 0, set()

    def soon(self, ranges):
        self.asked.update(row for lo, hi in ranges for row in range(lo, hi))

    def over(self, ranges):
        self.held.difference_update(row for lo, hi in ranges for row in range(lo, hi))

    def read(self, index):
        self.held.update(index.tolist())
        self.most = max(self.most, len(self.held))


def table(rows):
    return Table({"x": np.zeros((rows, 2)), "y": np.zeros(rows, np.int32)})


@pytest.mark.parametrize("rows", [97, 1003, 4000])
@pytest.mark.parametrize("lanes", [1, 3, 8])
@pytest.mark.parametrize("cut", [Strides(10, 40, 50), Strides(7, 7, 7), Strides(1000, 4000, 9)])
def test_an_epoch_reads_each_row_once(rows, lanes, cut):
    plan = BatchPlan(rows, lanes, 32, seed=5, strides=cut)
    reader = LaneReader(table(rows), plan)
    for epoch in range(2):
        clocks = range(epoch * plan.steps, (epoch + 1) * plan.steps)
        for lane in range(lanes):
            read = np.concatenate([reader.batch(range(lane, lane + 1), clock).index for clock in clocks])
            assert sorted(read) == list(range(*lane_rows(rows, lanes, lane)))


def test_the_order_differs_between_epochs_lanes_and_seeds_but_not_between_readers():
    def first(seed, lane, epoch, reader=None):
        plan = BatchPlan(3000, 3, 30, seed, strides=Strides(20, 100, 50))
        reader = reader or LaneReader(table(3000), plan)
        return (reader.batch(range(lane, lane + 1), epoch * plan.steps).index - lane * 1000).tolist()

    assert first(1, 0, 0) == first(1, 0, 0)
    assert len({tuple(first(*one)) for one in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]}) == 4


def test_a_clock_may_be_asked_for_out_of_turn():
    plan = BatchPlan(2000, 2, 40, 0, strides=Strides(10, 50, 50))
    reader = LaneReader(table(2000), plan)
    clocks = [0, 7, 3, 60, 49, 50, 12]
    again = [LaneReader(table(2000), plan).batch(range(2), clock).index for clock in clocks]
    for clock, expected in zip(clocks, again, strict=True):
        np.testing.assert_array_equal(reader.batch(range(2), clock).index, expected)


def test_few_rows_are_held_at_a_time_and_all_were_asked_for_before():
    pages = Pages()
    plan = BatchPlan(10_000, 4, 64, 0, strides=Strides(25, 100, 50))
    reader = LaneReader(table(10_000), plan, pages)
    for clock in range(plan.steps):
        pages.read(reader.batch(range(4), clock).index)
    assert pages.most <= 4 * (100 + 25 + 16)
    assert len(pages.asked) >= 10_000 - 4 * (100 + 25)  # but for the first windows


def test_strides_follow_from_size_and_memory_alone():
    assert strides(1000, 1 << 20, 8) is None
    assert strides(1 << 20, 2 << 30, 8) is not None
    cut = strides(1 << 20, 1 << 28, 8, memory=1 << 28)
    assert cut is not None
    assert cut.window * 256 * 8 <= (1 << 28) / 4
    assert cut.strip * 256 <= (1 << 28) / 4


def test_strips_cover_a_range():
    strips = Batch(table(100), 10, 45).strips(20)
    assert [(one.start, one.stop) for one in strips] == [(10, 30), (30, 45)]
