import gzip
import struct

import numpy as np
import pytest

from trivium.data.sources import idx, synthetic
from trivium.data.sources.idx import read_idx
from trivium.data.sources.matrices import IdxSource, SklearnSource, SyntheticSource
from trivium.data.sources.places import resolve
from trivium.data.sources.synthetic import make_two_class, read_sklearn
from trivium.errors import DataError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for prefix, rows in (("train", 50), ("t10k", 7)):
        images = b"\0\0\x08\x03" + struct.pack(">3I", rows, 4, 3) + rng.bytes(rows * 12)
        labels = b"\0\0\x08\x01" + struct.pack(">I", rows) + bytes(rng.integers(0, 10, rows).tolist())
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return tmp_path


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("piece", [1, 100, 1 << 22])
def test_idx_frames_are_the_whole_table(folder, monkeypatch, part, piece):
    monkeypatch.setattr(idx, "_LEAST_PIECE", piece)
    table = read_idx(folder, part=part)
    for given in (folder, folder / "*"):
        source = IdxSource(resolve(given), part=part)
        frames = list(source.frames())
        np.testing.assert_array_equal(np.concatenate([one.columns["x"] for one in frames]), table.columns["x"])
        labels = np.concatenate([one.columns["label"] for one in frames])
        np.testing.assert_array_equal(labels, np.asarray(table.classes)[table.columns["y"]])
        assert [one.shape for one in source.fields()] == [(12,), ()]
        (partition,) = source.partitions()
        assert partition.rows == len(table)
        np.testing.assert_array_equal(source.read(partition).columns["x"], table.columns["x"])


def test_labels_are_missed_only_where_they_are_read(folder):
    source = IdxSource(resolve(folder / "train-images-idx3-ubyte.gz"))
    before = source.stamp()
    (folder / "train-labels-idx1-ubyte").unlink()
    assert sum(frame.rows for frame in source.frames(("x",))) == 50
    assert source.stamp() != before
    with pytest.raises(DataError, match=r"its labels are missing, expected train-labels-idx1-ubyte\.gz or"):
        list(source.frames(("x", "label")))
    with pytest.raises(DataError, match="unknown part 'valid'"):
        IdxSource(resolve(folder), part="valid")


def rows_of(source) -> tuple[np.ndarray, np.ndarray]:
    frames = list(source.frames(threads=2))
    return tuple(np.concatenate([one.columns[name] for one in frames]) for name in ("x", "label"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_generated_rows_do_not_depend_on_how_they_are_read(monkeypatch, part):
    monkeypatch.setattr(synthetic, "_PARTITION", 400)
    source = SyntheticSource(resolve("synthetic:1050x4:3"), part=part)
    partitions = source.partitions()
    assert [(one.start, one.stop) for one in partitions][-1] == (1000, 1050)
    x, label = rows_of(source)
    table = make_two_class(1050, 4, 3, part=part)
    np.testing.assert_array_equal(x, table.columns["x"])
    np.testing.assert_array_equal(label, np.asarray(table.classes)[table.columns["y"]])
    np.testing.assert_array_equal(source.read(partitions[5]).columns["x"], x[500:600])
    assert len(np.unique(x[:, 0])) == len(x)
    assert source.cacheable
    assert (source.read(partitions[1]).first, source.read(partitions[1]).rows) == (101, 100)


def test_one_partition_has_the_bits_it_always_had():
    x, label = rows_of(SyntheticSource(resolve("synthetic:50x4:3")))
    stream = np.random.default_rng([3, 1])
    np.testing.assert_array_equal(x, stream.standard_normal((50, 4), np.float32))
    plane = np.random.default_rng([3, 0]).standard_normal(4)
    chance = 1 / (1 + np.exp(-4 * x.astype(float) @ plane / np.linalg.norm(plane)))
    np.testing.assert_array_equal(label > 0, stream.random(50) < chance)
    assert not SyntheticSource(resolve("synthetic:50x4:3")).cacheable
    assert set(label.tolist()) == {-1.0, 1.0}


def test_rows_that_no_memory_holds_are_only_counted():
    source = SyntheticSource(resolve("synthetic:40000000x50"))
    partitions = source.partitions()
    assert sum(one.rows or 0 for one in partitions) == 40_000_000
    assert sum(one.nbytes for one in partitions) == 8_000_000_000
    assert max(one.nbytes for one in partitions) <= 4 << 23
    last = source.read(partitions[-1])
    assert last.first + last.rows - 1 == 40_000_000


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", ["sklearn:digits", "sklearn:breast_cancer"])
def test_bundled_sets(name, part):
    source, table = SklearnSource(resolve(name), part=part), read_sklearn(name, part)
    (partition,) = source.partitions()
    frame = source.read(partition)
    np.testing.assert_array_equal(frame.columns["x"], table.columns["x"])
    np.testing.assert_array_equal(frame.columns["label"], np.asarray(table.classes)[table.columns["y"]])
    assert (source.scale, frame.rows) == (table.scale, len(table))
    assert source.fields()[0].dtype == str(table.columns["x"].dtype)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (SyntheticSource, "synthetic:5", "expected synthetic:ROWSxCOLUMNS"),
        (SyntheticSource, "synthetic:1x1", "at least 2 rows"),
        (SklearnSource, "sklearn:digit", "unknown scikit-learn set 'digit'"),
    ],
)
def test_names_that_are_none(kind, name, words):
    with pytest.raises(DataError, match=words):
        kind(resolve(name))


def test_parts_that_are_none():
    with pytest.raises(DataError, match="unknown part 'tset'"):
        SyntheticSource(resolve("synthetic:5x5"), part="tset")
