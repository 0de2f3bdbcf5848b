"""Rows on their way to a node that shares nothing: files that are the same here are mapped, everything else comes."""

import numpy as np
import pytest

from trivium.data.table import Csr, Mapped, Table
from trivium.errors import StorageError
from trivium.runtime.shipping import Depot, Rows


def tables(folder, rows=1000):
    """One table with an array in memory, one in a file, and a sparse column."""
    draw = np.random.default_rng(5)
    x = draw.standard_normal((rows, 3))
    x.tofile(folder / "x.bin")
    mapped = Mapped(str(folder / "x.bin"), "float64", x.shape)
    sparse = Csr(np.arange(rows + 1), draw.integers(0, 9, rows).astype(np.int32), draw.standard_normal(rows), 9)
    columns = {"x": mapped.open(), "y": draw.integers(0, 2, rows).astype(np.int32), "z": sparse}
    return {"train": Table(columns, (0.0, 1.0), mapped={"x": mapped}), "none": Table({"y": np.zeros(0, np.int32)})}


def fetching(depot, asked):
    def fetch(source, out):
        asked.append(source)
        for start in range(0, len(out), 1000):
            stop = min(start + 1000, len(out))
            out[start:stop] = np.frombuffer(depot.piece(source, start, stop), np.uint8)

    return fetch


def same(one, other):
    for key, column in one.columns.items():
        if isinstance(column, Csr):
            for part in Csr.PARTS:
                assert np.array_equal(getattr(column, part), getattr(other.columns[key], part))
        else:
            assert np.array_equal(column, other.columns[key])
    return one.classes == other.classes and len(one) == len(other)


@pytest.mark.parametrize("change", ["none", "gone", "other content", "shorter"])
def test_rows_arrive_whatever_is_found_at_their_path(tmp_path, change):
    given, asked = tables(tmp_path), []
    depot = Depot(given)
    parcel = depot.parcel()
    file = tmp_path / "x.bin"
    depot.piece("file 0", 0, 1)  # opened: the driver has them whatever becomes of the file
    content = bytearray(file.read_bytes())
    if change != "none":
        file.unlink()
    if change == "other content":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    if change == "shorter":
        file.write_bytes(content[:-8])
    rows = parcel.unpack(fetching(depot, asked))
    try:
        assert ("file 0" in asked) is (change != "none")
        assert len(rows.files) == (change == "none")
        for name, shipped in rows.shipped:
            assert same(given[name], shipped.open(rows.arena, rows.files))
    finally:
        rows.close()


def test_what_is_not_there_is_nothing(tmp_path):
    depot = Depot(tables(tmp_path))
    assert depot.piece("file 1", 0, 1) is None and depot.piece("train.y", 0, 10**9) is None
    assert depot.piece("train.y", 4, 4) is None and depot.piece("train.y", -4, 4) is None
    assert len(depot.piece("train.y", 4, 12)) == 8


@pytest.mark.parametrize("make", [Rows.of, lambda given: Depot(given).parcel()])
def test_a_cache_that_is_gone_is_told_with_the_next_step(tmp_path, make):
    given = tables(tmp_path)
    (tmp_path / "x.bin").unlink()
    with pytest.raises(StorageError, match=r"cache of parsed rows is gone: .*x\.bin.*start again"):
        make(given)


def test_what_cannot_be_fetched_leaves_nothing_open(tmp_path):
    given = tables(tmp_path)

    def fail(source, out):
        raise OSError(f"no {source} of {len(out)} bytes")

    with pytest.raises(OSError, match="no train"):
        Depot(given).parcel().unpack(fail)
