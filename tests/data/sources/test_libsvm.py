import gzip
import lzma
import subprocess
import sys
from decimal import Decimal, localcontext
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from trivium.data.sources import lines
from trivium.data.sources.libsvm import read_libsvm
from trivium.data.table import Csr, Table
from trivium.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def write(tmp_path: Path):
    def to_file(content: bytes | str, name: str = "train.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def as_scipy(table: Table) -> csr_array:
    x = table.columns["x"]
    assert isinstance(x, Csr)
    return csr_array((x.values, x.indices, x.indptr), shape=(len(x), x.width))


def assert_like_sklearn(path: Path, table: Table, **options: object) -> None:
    x, y = load_svmlight_file(str(path), dtype=np.float64, zero_based=False, **options)
    ours = as_scipy(table)
    assert ours.shape == x.shape
    np.testing.assert_array_equal(ours.indptr, x.indptr)
    np.testing.assert_array_equal(ours.indices, x.indices)
    np.testing.assert_array_equal(ours.data, x.data.astype(np.float32))
    labels = np.asarray(table.classes)[table.columns["y"]] if table.classes else table.columns["y"]
    np.testing.assert_array_equal(labels, y if table.classes else y.astype(np.float32))


def test_reads_what_a_person_would_write(write):
    path = write("# made by hand\n-1 1:0.5 3:2 # a comment 9:9\n\n+1\t2:1e-3   4:-.5 \r\n-1\n1 4:5.")
    table = read_libsvm(path)
    x = table.columns["x"]
    assert isinstance(x, Csr)
    assert (x.indptr.dtype, x.indices.dtype, x.values.dtype) == (np.int64, np.int32, np.float32)
    np.testing.assert_array_equal(x.indptr, [0, 2, 4, 4, 5])
    np.testing.assert_array_equal(x.indices, [0, 2, 1, 3, 3])
    np.testing.assert_array_equal(x.values, np.float32([0.5, 2, 1e-3, -0.5, 5]))
    assert (x.width, table.classes, table.name) == (4, (-1.0, 1.0), "train.txt")
    np.testing.assert_array_equal(table.columns["y"], np.int32([0, 1, 0, 1]))
    assert table.columns["y"].dtype == np.int32


NUMBERS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(min_value=-3e38, max_value=3e38).map(repr),
    st.floats(min_value=-3e38, max_value=3e38).map(lambda v: f"{v:.25e}"),
    st.floats(min_value=-1e6, max_value=1e6).map(lambda v: f"{v:.30f}"),
    st.integers(-(10**30), 10**30).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000).map(str),
    # ties and near ties of float32: 2^24 + an odd number, and the middle between two neighbours
    st.integers(2**24, 2**26).map(lambda v: f"{v}.5"),
    st.integers(2**24, 2**25).map(lambda v: f"{v}.{'0' * 25}1"),
    st.sampled_from(
        ["0.50000000000000000000000001", "16777217", "16777219", "1e-400", "0e999", "1e-46", "7.0064923e-46"]
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=st.lists(NUMBERS, min_size=1, max_size=12))
def test_numbers_are_rounded_as_python_does(tmp_path, tokens):
    path = tmp_path / "numbers"
    path.write_text("".join(f"{token} 1:{token}\n" for token in tokens))
    table = read_libsvm(path, classes=(), threads=1)
    expected = np.array([float(token) for token in tokens]).astype(np.float32)
    np.testing.assert_array_equal(as_scipy(table).toarray()[:, 0], expected)
    np.testing.assert_array_equal(table.columns["y"], expected)


def test_numbers_halfway_between_two_float32_are_rounded_as_python_does(write):
    rng = np.random.default_rng(0)
    halves = (2 * rng.integers(2**23, 2**24, 2000) + 1).tolist()
    powers = rng.integers(20, 90, 2000).tolist()
    with localcontext(prec=200):
        tokens = [f"{Decimal(half) / 2**power:f}" for half, power in zip(halves, powers, strict=True)]
    table = read_libsvm(write("".join(f"1 1:{token}\n" for token in tokens)))
    expected = np.array([float(token) for token in tokens]).astype(np.float32)
    np.testing.assert_array_equal(as_scipy(table).toarray()[:, 0], expected)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 60),
    integer=st.booleans(),
    pack=st.sampled_from([bytes, gzip.compress, lzma.compress]),
    block=st.sampled_from([1, 64, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_agrees_with_sklearn(tmp_path, monkeypatch_block, seed, rows, integer, pack, block, threads):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 9)) * (rng.random((rows, 9)) < 0.5)
    x[0, 8] = 1.0
    y = rng.integers(-2, 3, rows).astype(float) if integer else rng.normal(size=rows)
    buffer = BytesIO()
    dump_svmlight_file(x, y, buffer, zero_based=False, comment="a test")
    plain, path = tmp_path / "plain", tmp_path / "any.name"
    plain.write_bytes(buffer.getvalue())
    path.write_bytes(pack(buffer.getvalue()))
    monkeypatch_block(block)
    table = read_libsvm(path, threads=threads)
    assert_like_sklearn(plain, table)
    assert bool(table.classes) == integer


@pytest.fixture
def monkeypatch_block(monkeypatch):
    return lambda size: monkeypatch.setattr(lines, "BLOCK", size)


def test_a_test_set_is_read_with_what_the_training_set_had(write):
    train = read_libsvm(write("2 1:1 7:1\n5 2:1\n9 3:1\n"))
    test = read_libsvm(write("5 2:4\n9\n", "test"), features=train.spec.features, classes=train.classes)
    assert test.spec.features == 7
    assert test.classes == train.classes
    np.testing.assert_array_equal(test.columns["y"], np.int32([1, 2]))


def test_classes_keep_their_given_order(write):
    table = read_libsvm(write("1 1:1\n-1 1:1\n"), classes=(1, -1))
    np.testing.assert_array_equal(table.columns["y"], [0, 1])
    assert table.classes == (1.0, -1.0)


def test_no_classes_asked_for_means_regression(write):
    table = read_libsvm(write("3 1:1\n4 1:1\n"), classes=())
    assert table.classes == ()
    np.testing.assert_array_equal(table.columns["y"], np.float32([3, 4]))


def test_many_integer_labels_are_classes_with_a_note(write):
    path = write("".join(f"{i} 1:1\n" for i in range(101)))
    assert len(read_libsvm(path).classes) == 101
    assert "classes=()" in read_libsvm(path).notes[0]
    assert read_libsvm(path, classes=()).notes == ()


def test_qid_is_passed_over_with_a_note(write):
    table = read_libsvm(write("1 qid:3 2:1\n0 qid:4\n"))
    assert as_scipy(table).toarray().tolist() == [[0, 1], [0, 0]]
    assert "qid" in table.notes[0]


def test_one_row_longer_than_a_block(write, monkeypatch_block):
    monkeypatch_block(100)
    text = "1 " + " ".join(f"{i}:{i}" for i in range(1, 1000))
    x = as_scipy(read_libsvm(write(f"0 1:1\n{text}\n0 5:1"), threads=2)).toarray()
    np.testing.assert_array_equal(x[1], np.arange(1, 1000))
    assert x[0].sum() == x[2].sum() == 1


def test_more_late_numbers_than_the_first_list_holds(write):
    token = "16777217.00000000000000000000000000"
    path = write("".join(f"1 1:{token} 2:{token}\n" for _ in range(100)))
    np.testing.assert_array_equal(as_scipy(read_libsvm(path)).toarray(), np.full((100, 2), 16777216))


def test_packed_in_several_parts_reads_as_one(write):
    one, two = gzip.compress(b"1 1:1\n-1 "), gzip.compress(b"2:1\n")
    table = read_libsvm(write(one + two + b"\0" * 40))
    assert as_scipy(table).toarray().tolist() == [[1, 0], [0, 1]]


def test_the_fingerprint_is_of_the_bytes(write):
    same = read_libsvm(write("1 1:1\n", "a")).fingerprint
    assert len(same) == 64
    assert read_libsvm(write("1 1:1\n", "b")).fingerprint == same
    assert read_libsvm(write("1 1:2\n", "c")).fingerprint != same


FAULTS = {
    "1 1:1\nspam 1:1\n": ["line 2", "label 'spam'", "expected 'label"],
    "1:1 2:1\n": ["line 1", "'1:1' where the label should be"],
    "1,2 1:1\n": ["line 1", "'1,2' is several"],
    "nan 1:1\n": ["line 1", "'nan'"],
    "1e39 1:1\n": ["line 1", "'1e39'"],
    "1e400 1:1\n": ["line 1", "'1e400'"],
    "# c\n\n1 2:1\n1 0:1\n": ["line 4", "'0:1'", "indices from 1"],
    "1 3:1 2:1\n": ["line 1", "'2:1'", "increasing"],
    "1 3:1 3:1\n": ["line 1", "'3:1'", "increasing"],
    "1 -3:1\n": ["line 1", "'-3:1'", "whole number"],
    "1 x:1\n": ["line 1", "'x:1'", "whole number"],
    "1 4\n": ["line 1", "'4'", "index:value"],
    "1 :4\n": ["line 1", "':4'", "index:value"],
    "1 4:\n": ["line 1", "'4:'", "a number behind the colon"],
    "1 4: 5\n": ["line 1", "'4:'", "a number behind the colon"],
    "1 4:1.2.3\n": ["line 1", "'4:1.2.3'", "a number"],
    "1 4:0x10\n": ["line 1", "'4:0x10'", "a number"],
    "1 4:1e\n": ["line 1", "'4:1e'", "a number"],
    "1 4:nan\n": ["line 1", "'4:nan'", "finite"],
    "1 4:-inf\n": ["line 1", "'4:-inf'", "finite"],
    "1 4:1e39\n": ["line 1", "'4:1e39'", "float32"],
    "1 4:1e999\n": ["line 1", "float32"],
    "1 2147483647:1\n": ["line 1", "2147483647", "at most 134217728", "features="],
    "1 99999999999999999999999999:1\n": ["line 1", "at most 134217728"],
    "1 2000000000:1\n": ["line 1", "found index 2000000000"],
    "1 2:1 qid:3\n": ["line 1", "'qid:3'"],
    "\n# nothing\n": ["no row in 2 lines"],
    "1\n2\n": ["no row has an index:value"],
}


@pytest.mark.parametrize("text", FAULTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_faults_name_file_line_and_what_was_expected(write, text, threads):
    path = write(text)
    with pytest.raises(DataError) as caught:
        read_libsvm(path, threads=threads)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in FAULTS[text]:
        assert part in message


def test_the_line_counts_over_all_blocks_and_the_first_fault_wins(write, monkeypatch_block):
    monkeypatch_block(50)
    lines = ["1 1:1 # fine"] * 500
    lines[321], lines[400] = "1 2:x", "bad"
    with pytest.raises(DataError, match=r"line 322: found '2:x'"):
        read_libsvm(write("\n".join(lines)), threads=3)


def test_a_long_token_is_shortened(write):
    with pytest.raises(DataError) as caught:
        read_libsvm(write("1 " + "y" * 5000 + "\n"))
    assert len(str(caught.value)) < 400


def test_a_label_outside_the_classes(write):
    path = write("1 1:1\n\n7 1:1\n")
    with pytest.raises(DataError, match=r"line 3: label '7' is none of classes=\(-1, 1\)"):
        read_libsvm(path, classes=(-1, 1))


def test_an_index_above_features(write):
    with pytest.raises(DataError, match=r"line 2: found index 9, expected at most features=8; raise features"):
        read_libsvm(write("1 8:1\n1 9:1\n"), features=8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": 0}, "features=0: expected 1 to"),
        ({"threads": 0}, "threads=0"),
        ({"classes": (1, 1)}, "twice"),
        ({"classes": ("a", "b")}, "are numbers"),
        ({"classes": "ab"}, "sequence"),
    ],
)
def test_options_that_make_no_sense(write, options, words):
    with pytest.raises(DataError, match=words):
        read_libsvm(write("1 1:1\n"), **options)


def test_files_that_are_none(tmp_path, write):
    write("1 1:1\n", "train.libsvm")
    with pytest.raises(DataError, match=r"no such file; did you mean .*train\.libsvm"):
        read_libsvm(tmp_path / "train.libsvn")
    with pytest.raises(DataError, match=r"its folder .* does not exist"):
        read_libsvm(tmp_path / "no" / "file")
    with pytest.raises(DataError, match="is a folder"):
        read_libsvm(tmp_path)
    with pytest.raises(DataError, match="is empty"):
        read_libsvm(write("", "empty"))
    with pytest.raises(DataError, match="device or a pipe"):
        read_libsvm("/dev/null")
    with pytest.raises(DataError, match="cannot be opened"):
        read_libsvm("a\0b")
    with pytest.raises(DataError, match="is not text"):
        read_libsvm(write(bytes(range(256)) * 20, "binary"))
    with pytest.raises(DataError, match=r"label '.*\\\\xff"):
        read_libsvm(write(b"\xff\xfe\x80garbage\n", "latin"))


@pytest.mark.parametrize(("pack", "kind"), [(gzip.compress, "gzip"), (lzma.compress, "xz")])
def test_packed_files_that_are_damaged(write, pack, kind):
    text = "".join(f"1 {i}:{i * 7919 % 1000}\n" for i in range(1, 3000)).encode()
    packed = pack(text)
    for keep in (8, len(packed) // 2, len(packed) - 1):
        with pytest.raises(DataError, match=f"ends in the middle of its {kind} data"):
            read_libsvm(write(packed[:keep]))
    broken = bytearray(packed)
    broken[len(packed) // 2] ^= 0xFF
    with pytest.raises(DataError):
        read_libsvm(write(bytes(broken)))
    with pytest.raises(DataError, match=f"follows the end of its {kind} data"):
        read_libsvm(write(packed + b"more"))


def test_importing_needs_no_numba():
    code = "import sys; import trivium.data.sources.libsvm; sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data folder {SHARED} is missing")


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", ["a9a", "agaricus.txt.train"])
def test_real_files_agree_with_sklearn(name):
    path = SHARED / "libsvm" / name
    assert_like_sklearn(path, read_libsvm(path, threads=2))


@pytest.mark.data
@needs_data
def test_reviews_have_the_known_size():
    spec = read_libsvm(SHARED / "imdb" / "imdb_train.libsvm.gz").spec
    assert (spec.rows, spec.features, spec.nnz, spec.classes) == (25_000, 79_769, 3_500_156, (-1.0, 1.0))
