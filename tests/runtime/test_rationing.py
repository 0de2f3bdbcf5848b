"""A node's bandwidth, with a clock that is moved by hand."""

import numpy as np
import pytest

from trivium.designs.ps.filters import Context, parse_filters
from trivium.designs.ps.filters.budget import Budget
from trivium.runtime.arithmetic.rationing import BLOCK, MOST_BLOCKS, Ration

ROUNDS, BURST = Budget(1.0).rounds, Budget(1.0).burst


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Stream:
    """One shard's Deltas: what came, what went, how many bytes of values that was."""

    def __init__(self, ration, chain, size, key=("delta", 0, 0)):
        self.ration, self.key = ration, key
        self.sender = chain.sender(size, np.float32, hold=True)
        self.w, self.came, self.went, self.sent = np.ones(size, np.float32), 0.0, 0.0, 0

    def round(self, delta):
        chosen = self.ration.choose(self.key, self.sender, delta, self.w)
        self.sender.encode(delta, Context(chosen=chosen))
        self.came = self.came + delta.astype(float)
        self.went = self.went + self.sender.applied.astype(float)
        elements = int((chosen[:, 1] - chosen[:, 0]).sum())
        self.sent += elements * 4
        return elements


def ration_of(rate, text=""):
    time, chain = Time(), parse_filters(text)
    return time, chain, Ration(chain, rate, time)


def test_the_largest_relative_change_goes_first():
    _time, chain, ration = ration_of(1.0)
    stream = Stream(ration, chain, 4 * BLOCK)
    delta = np.repeat(np.float32([1, 3, 2, 5]), BLOCK)
    stream.w[3 * BLOCK :] = 10.0  # where the parameters are large, 5 is little
    assert stream.round(delta) == BLOCK
    assert stream.went[BLOCK] == 3 and stream.went[0] == stream.went[-1] == 0


def test_no_more_goes_than_the_rate_but_for_what_had_to():
    rate = 20_000.0
    time, chain, ration = ration_of(rate)
    stream, draw = Stream(ration, chain, 64 * BLOCK), np.random.default_rng(1)
    for _ in range(40):
        stream.round(draw.standard_normal(64 * BLOCK).astype(np.float32) * np.float32(1e-3))
        time.now += 0.01
    full = 40 * 64 * BLOCK * 4
    forced = full / (ROUNDS + 1)  # each block at the latest after so many rounds
    assert stream.sent <= rate * (40 * 0.01 + BURST) + forced + 64 * BLOCK * 4
    assert stream.sent < 0.2 * full


def test_all_goes_where_there_is_room_for_it():
    time, chain, ration = ration_of(1e9)
    stream = Stream(ration, chain, 8 * BLOCK)
    for _ in range(5):
        assert stream.round(np.ones(8 * BLOCK, np.float32)) == 8 * BLOCK
        time.now += 0.01


def test_nothing_is_lost_and_nothing_waits_for_ever():
    time, chain, ration = ration_of(1000.0, "int8")
    stream, draw = Stream(ration, chain, 6 * BLOCK + 10), np.random.default_rng(2)
    for _ in range(20):
        stream.round(draw.standard_normal(6 * BLOCK + 10).astype(np.float32))
        time.now += 0.001
        np.testing.assert_allclose(stream.went + stream.sender.residual, stream.came, atol=1e-4)
    before = stream.came.copy()
    zero = np.zeros(6 * BLOCK + 10, np.float32)
    for _ in range(ROUNDS + 1):
        stream.round(zero)
    np.testing.assert_allclose(stream.went, before, atol=0.1)  # but for what int8 itself still keeps


def test_streams_share_the_rate_by_their_size():
    time, chain, ration = ration_of(500_000.0)
    large = Stream(ration, chain, 96 * BLOCK, ("delta", 0, 0))
    small = Stream(ration, chain, 32 * BLOCK, ("copy", 1, 0))
    for _ in range(60):
        for one in (large, small):
            one.round(np.ones(one.w.size, np.float32))
        time.now += 0.02
    assert large.sent / small.sent == pytest.approx(3, rel=0.15)


def test_what_goes_besides_is_charged():
    charged, free = [], []
    for sent, besides in ((charged, 30_000), (free, 0)):
        time, chain, ration = ration_of(400_000.0)
        stream = Stream(ration, chain, 32 * BLOCK)
        for _ in range(30):
            sent.append(stream.round(np.ones(32 * BLOCK, np.float32)))
            ration.charge(besides)
            time.now += 0.1
    assert sum(free) * 4 == pytest.approx(400_000 * 3, rel=0.2)
    assert sum(charged) < 0.8 * sum(free)
    assert sum(charged) * 4 >= 30 * 32 * BLOCK * 4 / (ROUNDS + 1) * 0.8  # the bound of rounds holds all the same


def test_a_large_shard_has_few_blocks():
    _time, chain, ration = ration_of(1e12)
    stream = Stream(ration, chain, 3 * BLOCK * MOST_BLOCKS)
    stream.round(np.ones(3 * BLOCK * MOST_BLOCKS, np.float32))
    assert ration._streams[stream.key].block == 3 * BLOCK
