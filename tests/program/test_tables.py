"""What row tables are: specs, hashes and shards, sums of pushes, first values, rows at rest. Against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trivium.data.transforms.hashing import mixed
from trivium.errors import DataError, PlanError
from trivium.program.kernels.keys import hash_of, sort_order
from trivium.program.row_updates import RowAdaGrad, RowFTRL
from trivium.program.tables import Initial, RowBlock, TableSpec, combine, even_starts, keys_of, shard_of, split, unique

KEYS = hnp.arrays(np.int64, st.integers(0, 300), elements=st.integers(-(2**63), 2**63 - 1))
FEW = hnp.arrays(np.int64, st.integers(0, 300), elements=st.integers(-9, 9))


@given(KEYS | FEW)
def test_unique_is_numpys(keys):
    found = unique(keys)
    wanted, inverse = np.unique(keys, return_inverse=True)
    assert np.array_equal(found.keys, wanted)
    assert np.array_equal(found.inverse, inverse)
    assert np.array_equal(sort_order(keys), np.argsort(keys, kind="stable"))


@given(FEW, st.integers(1, 5), st.integers(0, 99))
def test_combine_sums_in_the_order_that_keys_came_in(keys, width, seed):
    deltas = np.random.default_rng(seed).normal(size=(len(keys), width)).astype(np.float32)
    found, sums = combine(keys, deltas)
    assert found.tolist() == sorted(set(keys.tolist()))
    for key, total in zip(found, sums, strict=True):
        rows = deltas[keys == key]
        wanted = rows[0].copy()
        for row in rows[1:]:
            wanted += row
        assert total.tobytes() == wanted.tobytes()
    again = combine(found, sums)
    assert again[1] is sums


def test_combined_parts_combine_to_the_sum_of_their_sums():
    stream = np.random.default_rng(0)
    parts = [combine(stream.integers(0, 50, 200), stream.normal(size=(200, 3))) for _ in range(2)]
    keys, sums = combine(*(np.concatenate(both) for both in zip(*parts, strict=True)))
    for key, row in zip(keys, sums, strict=True):
        found = [part[1][part[0] == key][0] for part in parts if key in part[0]]
        assert np.array_equal(row, sum(found[1:], found[0]))


def test_minus_zero_is_kept():
    _, sums = combine([4, 1], np.array([[-0.0], [1.0]]))
    assert np.signbit(sums[1, 0])


@given(KEYS)
def test_the_hash_is_the_documented_one(keys):
    assert [int(hash_of(key)) for key in keys] == mixed(keys).tolist()


@given(KEYS, st.integers(1, 9))
def test_shards_are_equal_ranges_of_the_hash(keys, shards):
    wanted = [int(h) * shards >> 64 for h in mixed(keys)]
    assert shard_of(keys, shards).tolist() == wanted
    parts = split(keys, shards)
    assert [part.tolist() for part in parts] == [[i for i, s in enumerate(wanted) if s == k] for k in range(shards)]


@given(KEYS, st.lists(st.integers(1, 2**64 - 1), max_size=5, unique=True))
def test_shards_are_the_ranges_that_were_cut(keys, cuts):
    starts = [0, *sorted(cuts)]
    assert shard_of(keys, starts).tolist() == [sum(s <= int(h) for s in starts) - 1 for h in mixed(keys)]


def test_shards_share_keys_evenly():
    counts = np.bincount(shard_of(np.arange(100_000), 8))
    assert abs(counts / 12_500 - 1).max() < 0.05


@pytest.mark.parametrize("starts", [[], [1, 5], [0, 5, 5], [0, 9, 4]])
def test_starts_that_are_no_cut_are_refused(starts):
    with pytest.raises(PlanError, match="ascend from 0"):
        shard_of([1], starts)


def test_no_shards_are_refused():
    with pytest.raises(PlanError, match="1 shard or more"):
        even_starts(0)


# first values


@pytest.mark.parametrize("text", ["normal:0.5", "uniform:0.5", "zeros:2+normal:0.5"])
def test_first_values_follow_from_seed_and_key_alone(text):
    first, keys = Initial.of(text), np.arange(-50, 50)
    rows = first.rows(keys, 7, seed=3)
    back = first.rows(keys[::-1].copy(), 7, seed=3)
    assert np.array_equal(rows, back[::-1])
    assert np.array_equal(rows[10:11], first.rows(keys[10:11], 7, seed=3))
    others = first.rows(keys, 7, seed=4)[:, first.lead :]
    assert (rows[:, first.lead :] != others).all()
    assert not rows[:, : first.lead].any()
    assert np.array_equal(rows[:, :3], first.rows(keys, 3, seed=3))


def test_first_values_have_their_distribution():
    from scipy import stats

    keys = np.arange(20_000)
    normal = Initial.of("normal:0.01").rows(keys, 4, 0, "float64") / 0.01
    uniform = Initial.of("uniform:0.05").rows(keys, 4, 0, "float64") / 0.05
    for column in range(4):
        assert stats.kstest(normal[:, column], "norm").pvalue > 1e-3
        assert stats.kstest(uniform[:, column], "uniform", args=(-1, 2)).pvalue > 1e-3
    for rows in (normal, uniform):
        assert np.abs(np.corrcoef(rows.T) - np.eye(4)).max() < 0.03
        assert abs(np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nromal:0.1", "did you mean 'normal'"),
        ("normal", "above 0 after the colon"),
        ("normal:-1", "above 0"),
        ("uniform:inf", "above 0"),
        ("zeros:3", "takes no number"),
        ("ones:3+normal:1", "before the + comes zeros:COLUMNS"),
        ("zeros:x+normal:1", "before the + comes zeros:COLUMNS"),
    ],
)
def test_bad_initialisers(text, says):
    with pytest.raises(PlanError, match=says.replace("+", r"\+")):
        Initial.of(text)


# specs


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "a b"}, "a name is letters"),
        ({"width": 0}, "width=0: a whole number from 1"),
        ({"width": 2.0}, "width=2.0: a whole number"),
        ({"rows": 0}, "rows=0: a whole number from 1"),
        ({"rows": True}, "rows=True"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"update": "adagard"}, "did you mean 'adagrad'"),
        ({"update": "add", "lr": 0.1}, "update 'add' has no lr"),
        ({"update": RowFTRL(), "l1": 0.1}, "given beside the update"),
        ({"update": 7}, "expected a function"),
        ({"update": "sgd", "lr": 0}, "sgd: lr=0"),
        ({"update": "sgd", "l1": -1}, "sgd: l1=-1"),
        ({"update": "sgd", "lr": "fast"}, "sgd: lr='fast'"),
        ({"state": 3}, "only a function has state"),
        ({"seed": 1 << 63}, "64 bits"),
        ({"dtype": "int64"}, "int64 begin at zeros"),
        ({"dtype": "int64", "update": "add", "init": "normal:1"}, "int64 begin at zeros"),
    ],
)
def test_bad_specs_are_refused(options, says):
    with pytest.raises(PlanError, match=says):
        TableSpec(**{"name": "w", **options})


def test_options_go_to_the_update():
    assert TableSpec("w", update="ftrl", lr=0.3, l1=2.0, l2=1.0).rule == RowFTRL(0.3, 2.0, 1.0)
    assert TableSpec("w", update=RowAdaGrad(initial=0.0)).rule.begin(2, "float32").tolist() == [0, 0]


def test_rows_do_not_straddle_cache_lines():
    for width in range(1, 9):
        spec = TableSpec("w", width=width, update="adagrad")
        assert spec.size == 2 * width <= spec.stride < 4 * width
        assert 16 % spec.stride == 0
    assert TableSpec("w", width=17).stride == 36


def test_keys_are_checked():
    spec = TableSpec("w", rows=10)
    assert spec.checked([0, 9]).tolist() == [0, 9]
    for key in (-1, 10):
        with pytest.raises(DataError, match=f"key {key}: expected 0 to 9"):
            spec.checked([3, key])
    for keys in ([0.5], [[1]], ["a"]):
        with pytest.raises(DataError, match="expected integers"):
            keys_of(keys)
    assert keys_of(np.array([2**64 - 1], np.uint64)).tolist() == [-1]
    assert len(keys_of([])) == 0
    with pytest.raises(DataError, match=r"2 keys with deltas of shape \(1, 1\)"):
        combine([1, 2], np.zeros((1, 1)))


# rows at rest


def block_of(keys, seed=0):
    stream, keys = np.random.default_rng(seed), np.unique(np.asarray(keys, np.int64))
    return RowBlock(keys, stream.normal(size=(len(keys), 3)), stream.integers(0, 9, len(keys)))


@given(KEYS, st.lists(st.integers(1, 2**64 - 1), max_size=4, unique=True))
def test_cut_anew_and_merged_is_what_it_was(keys, cuts):
    block = block_of(keys)
    parts = block.split([0, *sorted(cuts)])
    assert sum(map(len, parts)) == len(block)
    assert RowBlock.merge(parts[::-1]).digest == block.digest
    below, above = block.split_at(1 << 63)
    assert all(h < 1 << 63 for h in mixed(below.keys).tolist())
    assert all(h >= 1 << 63 for h in mixed(above.keys).tolist())
    assert RowBlock.merge([above, below]).digest == block.digest


def test_a_digest_sees_every_bit():
    block = block_of(range(20))
    seen = {block.digest}
    for array in ("keys", "rows", "counts"):
        changed = {name: getattr(block, name).copy() for name in ("keys", "rows", "counts")}
        changed[array].view(np.uint8).reshape(-1)[-1] ^= 1
        seen.add(RowBlock(**changed).digest)
    assert len(seen) == 4


def test_blocks_that_do_not_go_together_are_refused():
    with pytest.raises(DataError, match="key 3 is in two blocks"):
        RowBlock.merge([block_of([1, 3]), block_of([3, 4])])
    with pytest.raises(DataError, match="no blocks"):
        RowBlock.merge([])
    for start in (0, 1 << 64):
        with pytest.raises(PlanError, match="expected a hash from 1"):
            block_of([1]).split_at(start)
