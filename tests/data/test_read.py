import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trivium.data.read import FORMATS, from_arrays, part_of_test, read, split
from trivium.errors import DataError


def idx_pair(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(
        b"\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x02" + b"\x01\x02\x03\x04"
    )
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02\x05\x06"))


def test_the_format_follows_from_the_content(tmp_path):
    idx_pair(tmp_path)
    assert read(tmp_path).spec.features == 2
    assert read(str(tmp_path / "train-images-idx3-ubyte")).table().scale == 1 / 255
    (tmp_path / "misnamed.png").write_bytes(gzip.compress(b"1 1:2\n-1 3:4\n"))
    assert read(tmp_path / "misnamed.png", threads=1).spec.nnz == 2
    assert read("synthetic:30x4").spec.rows == 30
    assert read("sklearn:digits", part="test").spec.rows == 359


def test_options_reach_the_reader(tmp_path):
    path = tmp_path / "t"
    path.write_text("1 1:2\n")
    table = read(path, features=9, classes=(0, 1), format="libsvm").table()
    assert (table.spec.features, table.classes, table.columns["y"].tolist()) == (9, (0.0, 1.0), [1])
    assert read("sklearn:digits", classes=()).table().columns["y"].dtype == np.float32
    turned = read("sklearn:breast_cancer", features=30, classes=(1, 0)).table()
    np.testing.assert_array_equal(turned.columns["y"], 1 - read("sklearn:breast_cancer").table().columns["y"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x93NUMPY\x01", "NumPy file"),
        (b"PK\x03\x04", "zip"),
        (b"\x80\x04\x95", "pickle"),
        (b'{"a": 1}', "JSON"),
        (b"\x7fELF\0\0\0", "no known format"),
    ],
)
def test_foreign_files_are_answered_with_what_can_be_read(tmp_path, content, words):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"this is (a |an )?{words}.*can be read: arrow, csv, idx"):
        read(path)


def test_a_damaged_file_of_a_known_format_is_told_when_it_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"PAR1....")
    with pytest.raises(DataError, match=r"file: .*Parquet"):
        read(tmp_path / "file").table()


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("synthetic:30x4", {"format": "cvs"}, r"unknown format 'cvs' \(did you mean 'csv'\?\)"),
        ("synthetic:30x4", {"format": "csv"}, "synthetic:30x4 is made, not read"),
        ("synthetic:30x4", {"part": "tset"}, r"unknown part 'tset' \(did you mean 'test'\?\)"),
        ("synthetic:30x4", {"features": 5}, "features=5: its rows have 4 features"),
        ("synthetic:30x4", {"classes": (0, 1)}, r"found -1.0, expected one of the classes \(0, 1\)"),
        ("http:x", {}, "http:x: no such file"),
        ("http://a/b.csv", {}, "download the file"),
        ("nowhere", {}, "no such file"),
        ("x" * 5000, {}, "cannot be opened"),
        ("/dev/null", {}, "device"),
    ],
)
def test_sources_and_options_that_are_none(source, options, words):
    with pytest.raises(DataError, match=words):
        read(source, **options).table()


def test_a_libsvm_file_has_no_parts(tmp_path):
    (tmp_path / "t").write_text("1 1:2\n")
    with pytest.raises(DataError, match="part='test' is nothing that libsvm has a use for"):
        read(tmp_path / "t", part="test")


def test_formats_are_all_known():
    for name in FORMATS:
        with pytest.raises(DataError, match=r"^(?!unknown format)"):
            read("nowhere", format=name)


def test_test_rows_are_the_test_part_where_there_is_one(tmp_path):
    assert part_of_test(str(tmp_path)) == "train"
    idx_pair(tmp_path)
    assert part_of_test(str(tmp_path)) == "test"
    assert [part_of_test(source) for source in ("sklearn:digits", "synthetic:9x9")] == ["test", "test"]
    assert part_of_test("a9a.t") == "train"


def test_split_keeps_every_row_once_and_in_order():
    x = np.arange(100.0).reshape(100, 1)
    table = from_arrays(x, weight=np.ones(100))
    train, valid = split(table, 0.25, seed=3)
    both = np.concatenate([train.columns["x"], valid.columns["x"]])[:, 0]
    assert (len(train), len(valid)) == (75, 25)
    np.testing.assert_array_equal(np.sort(both), np.arange(100))
    for side in (train, valid):
        assert np.all(np.diff(side.columns["x"][:, 0]) > 0)
    assert len({table.fingerprint, train.fingerprint, valid.fingerprint}) == 3
    again = split(table, 0.25, seed=3)[1]
    np.testing.assert_array_equal(again.columns["x"], valid.columns["x"])
    assert not np.array_equal(split(table, 0.25, seed=4)[1].columns["x"], valid.columns["x"])


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan"), 0.01, 0.99])
def test_split_refuses_an_empty_side(fraction):
    with pytest.raises(DataError, match="validation part"):
        split(from_arrays(np.ones((10, 1))), fraction)


def test_importing_needs_no_heavy_module():
    heavy = "('numba', 'scipy', 'sklearn', 'jax', 'psutil')"
    code = f"import sys; import trivium.data.read; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
