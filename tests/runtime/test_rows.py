"""A shard of a row table: against a dict of rows, through growth, snapshots and cuts; and read by other processes."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trivium.data.transforms.hashing import mixed
from trivium.errors import DataError, PlanError, ProtocolError, StorageError, UsageError
from trivium.program.tables import RowBlock, TableSpec
from trivium.runtime.memory import Arena, ArenaPlan
from trivium.runtime.rows import RowShard, RowView, capacity_within, private_arrays, shard_arrays, shard_nbytes, warm
from trivium.runtime.zygote import Zygote

HERE = str(Path(__file__).parent)
SPECS = {
    "add": TableSpec("t", width=3, dtype="float64", update="add", init="normal:1", seed=5),
    "adagrad": TableSpec("t", width=2, update="adagrad", init="uniform:0.5"),
    "adam": TableSpec("t", width=1, dtype="float64", update="adam"),
    "ftrl": TableSpec("t", width=5, update="ftrl", l1=0.1, init="zeros:1+normal:0.1"),
    "whole": TableSpec("t", width=1, dtype="int64", update="add"),
}
KEY = st.integers(-40, 40) | st.sampled_from([-(2**63), 2**63 - 1, 2**62])


def made(spec, capacity=8, **options):
    return RowShard(spec, private_arrays(spec, capacity), **options)


def push_growing(shard, keys, deltas):
    need = shard.wanted(keys)
    if need > shard.capacity:
        shard = shard.grown(private_arrays(shard.spec, need))
    shard.push(keys, deltas)
    return shard


class Machine(RuleBasedStateMachine):
    """The model: a dict of key → (row with state, count), updated one row at a time."""

    @initialize(name=st.sampled_from(sorted(SPECS)))
    def begin(self, name):
        self.spec = SPECS[name]
        self.shard, self.model, self.stream = made(self.spec, 4), {}, np.random.default_rng(0)

    def first(self, key):
        values = self.spec.initial.rows(np.array([key]), self.spec.width, self.spec.seed, self.spec.dtype)[0]
        return np.concatenate([values, self.spec.rule.begin(self.spec.width, self.spec.dtype)])

    @rule(keys=st.lists(KEY, max_size=30))
    def push(self, keys):
        deltas = self.stream.integers(-3, 4, (len(keys), self.spec.width)).astype(self.spec.dtype)
        before = self.shard
        self.shard = push_growing(self.shard, keys, deltas)
        assert before.view.moved == (before is not self.shard)
        for key in set(keys):
            row, count = self.model.get(key, (self.first(key), 0))
            total = sum(delta for one, delta in zip(keys, deltas, strict=True) if one == key)
            row = row.copy()
            self.spec.rule.apply(row, np.array([0]), np.array([count]), total[None], self.spec.width)
            self.model[key] = row, count + 1

    @rule(keys=st.lists(KEY, max_size=80))
    def pull(self, keys):
        found, counts, rows = self.shard.pull(keys), self.shard.counts(keys), len(self.shard)
        for i, key in enumerate(keys):
            row, count = self.model.get(key, (self.first(key), -1))
            assert found[i].tobytes() == row[: self.spec.width].tobytes()
            assert counts[i] == count
        assert len(self.shard) == rows, "a reader made a row"

    @rule(extra=st.integers(0, 9))
    def grow(self, extra):
        self.shard = self.shard.grown(private_arrays(self.spec, max(4, len(self.shard)) + extra))

    @rule()
    def snapshot_and_restore(self):
        block = self.shard.snapshot()
        assert block.keys.tolist() == sorted(self.model)
        for key, row, count in zip(block.keys.tolist(), block.rows, block.counts, strict=True):
            assert row.tobytes() == self.model[key][0].tobytes()
            assert count == self.model[key][1]
        self.shard = made(self.spec, max(4, len(block)))
        self.shard.restore(block)
        assert self.shard.snapshot().digest == block.digest

    @rule(cuts=st.lists(st.integers(1, 2**64 - 1), max_size=3, unique=True), data=st.data())
    def cut_anew(self, cuts, data):
        block, starts = self.shard.snapshot(), [0, *sorted(cuts)]
        ends = [*(start - 1 for start in starts[1:]), 2**64 - 1]
        parts = [self.shard.snapshot(*ends_) for ends_ in zip(starts, ends, strict=True)]
        assert [part.digest for part in parts] == [part.digest for part in block.split(starts)]
        self.shard = made(self.spec, max(4, len(block)))
        for part in data.draw(st.permutations(parts)):
            assert self.shard.put(part) == len(part)
        assert self.shard.snapshot().digest == block.digest

    @rule()
    def succeed(self):
        """Another writer takes over the same arrays."""
        arrays = {"index": self.shard.view.index, "rows": self.shard.view.rows, "counters": self.shard.view.counters}
        self.shard = RowShard(self.spec, arrays)

    @rule(keys=st.lists(KEY, max_size=20, unique=True), data=st.data())
    def copy_catches_up(self, keys, data):
        """A copy that has older rows of some keys ends the same, and the old rows change nothing."""
        if len(self.model) < 2:
            return
        old = self.shard.snapshot()
        known = [key for key in keys if key in self.model]
        self.push(known)
        new, copy = self.shard.snapshot(), made(self.spec, max(4, len(old)))
        assert copy.put(old) == len(old)
        assert copy.put(new) == len(known)
        assert copy.put(old) == copy.put(new) == 0
        assert copy.snapshot().digest == new.digest

    @invariant()
    def whole(self):
        if hasattr(self, "shard"):
            assert len(self.shard) == len(self.model) <= self.shard.capacity
            assert self.shard.full == (len(self.model) == self.shard.capacity)
            spare = self.shard._spare
            assert len(set(spare.tolist())) == len(spare)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_bits_depend_neither_on_order_nor_on_size(name):
    spec, stream = SPECS[name], np.random.default_rng(2)
    keys = stream.choice(5000, 1500, replace=False)
    deltas = stream.integers(-3, 4, (1500, spec.width)).astype(spec.dtype)
    small = made(spec, 4)
    for lo in range(0, 1500, 100):
        small = push_growing(small, keys[lo : lo + 100], deltas[lo : lo + 100])
    large, back = made(spec, 9000), slice(None, None, -1)
    large.push(keys[back], deltas[back])
    assert small.snapshot().digest == large.snapshot().digest
    assert np.array_equal(small.pull(np.arange(5000)), large.pull(np.arange(5000)))


def test_ten_thousand_keys_pushed_fifty_times_give_fifty_times_the_value():
    spec = TableSpec("w", update="add")
    shard, keys = made(spec, 10_000), np.arange(10_000) * (2**64 // 10_000 // 4)
    value = np.random.default_rng(0).random((10_000, 1)).astype(np.float32)
    for _ in range(50):
        shard.push(keys, value)
    assert np.abs(shard.pull(keys) - 50 * value).max() / 50 < 1e-5
    counts = made(TableSpec("n", update="add", dtype="int64"), 10_000)
    for i in range(50):
        counts.push(keys, np.arange(10_000) + i)
    assert np.array_equal(counts.pull(keys)[:, 0], 50 * np.arange(10_000) + 50 * 49 // 2)


def test_a_shard_fills_to_the_last_row_and_refuses_the_next_untouched():
    spec = TableSpec("w", update="add")
    shard = made(spec, 5)
    shard.push([1, 2, 3, 4], np.ones(4))
    assert not shard.full
    before = shard.snapshot().digest
    with pytest.raises(StorageError, match="room for 5 rows needs 1 more"):
        shard.push([4, 9, 8], np.ones(3))
    assert shard.snapshot().digest == before
    shard.push([4, 9], np.ones(2))
    assert shard.full
    shard.push([1, 2, 3, 4, 9], np.ones(5))
    assert (shard.wanted([1, 9]), shard.wanted([5]), shard.wanted([5, 5]), shard.wanted(range(20))) == (5, 10, 10, 20)


def test_a_limit_in_bytes_says_what_it_is():
    spec = TableSpec("w", width=4, update="adagrad")
    start = shard_nbytes(spec, 1000)
    shard = made(spec, 1000, limit=2 * start + start // 2)
    shard.push(np.arange(1000), np.ones((1000, 4)))
    need = shard.wanted(np.arange(1400))
    assert need == capacity_within(spec, start + start // 2) >= 1400
    larger = shard.grown(private_arrays(spec, need))
    assert larger.nbytes + shard.nbytes <= shard.limit
    with pytest.raises(StorageError, match=rf"2,000 rows .* its limit is {shard.limit:,} bytes"):
        larger.wanted(np.arange(2000))
    for nbytes in (0, 700, 5000, 123_456):
        most = capacity_within(spec, nbytes)
        assert not most or shard_nbytes(spec, most) <= nbytes
        assert shard_nbytes(spec, max(4, most + 1)) > nbytes


def test_what_has_moved_is_not_pushed_to():
    spec = TableSpec("w", update="add")
    old = made(spec)
    old.push([1], [2.0])
    view = RowView(spec, {"index": old.view.index, "rows": old.view.rows, "counters": old.view.counters})
    new = old.grown(private_arrays(spec, 16))
    new.push([1], [3.0])
    assert view.moved
    assert (view.pull([1])[0, 0], new.pull([1])[0, 0]) == (2.0, 5.0)
    with pytest.raises(ProtocolError, match="larger ones have taken over"):
        old.push([1], [1.0])
    for arrays in (
        private_arrays(spec, 4),
        {"index": new.view.index, "rows": new.view.rows, "counters": new.view.counters},
    ):
        full = made(spec, 8)
        full.push(range(8), np.ones(8))
        with pytest.raises(UsageError, match="move to new arrays"):
            full.grown(arrays)


def test_a_function_that_raises_leaves_its_rows():
    def picky(row, delta, state, step):
        row[0] += delta[0]
        if delta[0] > 10:
            raise ValueError("too large")

    shard = made(TableSpec("w", update=picky))
    shard.push([1, 2], [1.0, 2.0])
    with pytest.raises(ValueError, match="too large"):
        shard.push([1, 2], [1.0, 20.0])
    assert shard.pull([1, 2]).ravel().tolist() == [1.0, 2.0]
    shard.push([1, 2], [1.0, 2.0])
    assert shard.pull([1, 2]).ravel().tolist() == [2.0, 4.0]


def test_counts_that_turn_never_look_new_again():
    from trivium.runtime.row_steps import TURNED

    spec = TableSpec("w", update="add")
    shard = made(spec)
    shard.put(RowBlock(np.array([7]), np.zeros((1, 1), np.float32), np.array([2 * TURNED - 1])))
    shard.push([7], [1.0])
    assert shard.counts([7]).tolist() == [TURNED]
    assert shard.pull([7]).tolist() == [[1.0]]


def test_keys_whose_searches_meet():
    spec = TableSpec("w", update="add")
    candidates = np.arange(200_000)
    near = candidates[(mixed(candidates) & np.uint64(0xFFFFFFFF)) > np.uint64(0xFFFFFFFF - (1 << 20))]
    assert len(near) > 20, "all begin in the last bucket"
    shard = made(spec, len(near))
    for lo in range(0, len(near), 7):
        shard.push(near[lo : lo + 7], np.arange(lo, min(lo + 7, len(near))))
    assert shard.full
    assert shard.pull(near)[:, 0].tolist() == list(range(len(near)))


def test_bad_arguments_are_refused():
    spec = TableSpec("w", width=2, rows=100)
    shard = made(spec)
    with pytest.raises(DataError, match=r"deltas of shape \(2,\): expected \(keys, 2\)"):
        shard.push([1, 2], [1.0, 2.0])
    with pytest.raises(DataError, match="2 keys with deltas"):
        shard.push([1, 2], np.ones((3, 2)))
    with pytest.raises(DataError, match="key 100: expected 0 to 99"):
        shard.pull([100])
    with pytest.raises(DataError, match="deltas of complex128 for rows of float32"):
        shard.push([1], np.ones((1, 2), complex))
    with pytest.raises(DataError, match="deltas of float64 for rows of int64"):
        made(SPECS["whole"]).push([1], [0.5])
    with pytest.raises(DataError, match="rows of float64"):
        shard.put(RowBlock(np.array([1]), np.zeros((1, 4)), np.array([1])))
    with pytest.raises(DataError, match="ascend, none twice"):
        shard.put(RowBlock(np.array([1, 1]), np.zeros((2, 4), np.float32), np.array([1, 1])))
    with pytest.raises(UsageError, match="are not those of a shard"):
        RowView(TableSpec("w", width=3), private_arrays(spec, 8))
    with pytest.raises(UsageError, match="capacity=3"):
        shard_arrays(spec, 3)
    shard.push([1], np.ones((1, 2)))
    with pytest.raises(UsageError, match="a shard of 1 rows is not restored"):
        shard.restore(shard.snapshot())
    with pytest.raises(PlanError, match="numba cannot compile it"):
        made(TableSpec("w", update=lambda row, delta, state, step: row.nothing()))


@pytest.mark.parametrize("capacity", [4, 5, 8, 100, 127, 128, 129, 4095, 4096, 4097, 100_000])
def test_the_capacity_is_known_from_the_arrays(capacity):
    spec = TableSpec("w", width=3)
    assert RowView(spec, private_arrays(spec, capacity)).capacity == capacity


def test_warm_leaves_nothing_to_compile():
    from trivium.runtime import row_steps

    spec = TableSpec("w", rows=1, width=3, update="ftrl", dtype="float64")
    warm(spec)
    kernels = [one for one in vars(row_steps).values() if hasattr(one, "signatures")]
    before = [len(one.signatures) for one in kernels]
    shard = made(spec)
    shard.push([0], np.ones((1, 3)))
    shard.put(shard.snapshot())
    shard.grown(private_arrays(spec, 9)).pull([0])
    assert [len(one.signatures) for one in kernels] == before
    assert sum(before) > 10


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 100])
def test_readers_in_other_processes_never_see_a_torn_or_older_row(monkeypatch, width):
    monkeypatch.syspath_prepend(HERE)
    capacity, last = 64, 3000
    spec, plan = TableSpec("w", width=width, dtype="float64", update="add"), ArenaPlan()
    for name, (dtype, shape) in shard_arrays(spec, capacity).items():
        plan.add(name, dtype, shape)
    zygote = Zygote.start(["row_entries:warm"])
    arena = Arena.create(plan)
    shard = RowShard(spec, {name: arena[name] for name in plan.entries})
    order = msgspec.msgpack.encode((width, capacity, last))
    children = [zygote.fork("row_entries:look", order, [arena.fd]) for _ in range(2)]
    keys = np.arange(capacity)
    for step in range(last + 1):  # key k has a row from step k on; each element of a row is its count of updates
        shard.push(keys[: step + 1], np.ones((min(step + 1, capacity), width)))
    codes = []
    for child in children:
        assert child.wait(60.0)
        child.close()
    while len(codes) < 2:
        codes += [event.code for event in zygote.events()]
    assert codes == [0, 0]
    zygote.close()
