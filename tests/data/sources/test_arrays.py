import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.preprocessing import LabelEncoder

from trivium.data.sources.arrays import from_arrays
from trivium.data.table import Csr
from trivium.errors import DataError

X = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        ("uint8", "uint8"),
        ("bool", "float32"),
        ("int16", "float32"),
        ("float16", "float32"),
        ("int32", "float64"),
        ("int64", "float64"),
        (">f8", "float64"),
    ],
)
def test_types_of_dense_features(given_type, kept):
    table = from_arrays(X.astype(given_type))
    assert table.columns["x"].dtype == kept
    assert table.columns["x"].dtype.isnative
    np.testing.assert_array_equal(table.columns["x"], X.astype(given_type).astype(kept))
    assert from_arrays(X.astype(given_type), dtype="float32").columns["x"].dtype == np.float32


def test_what_fits_is_not_copied_and_other_orders_are_made_to_fit():
    assert np.shares_memory(from_arrays(X).columns["x"], X)
    table = from_arrays(np.asfortranarray(X))
    assert table.columns["x"].flags.c_contiguous
    np.testing.assert_array_equal(table.columns["x"], X)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_array]),
    dtype=st.sampled_from([np.float32, np.float64, np.int64, bool]),
    seed=st.integers(0, 100),
)
def test_sparse_matrices_become_sorted_rows(kind, dtype, seed):
    rng = np.random.default_rng(seed)
    dense = ((rng.random((6, 9)) < 0.4) * rng.integers(1, 9, (6, 9))).astype(dtype)
    column = from_arrays(kind(dense)).columns["x"]
    assert isinstance(column, Csr)
    assert (column.indptr.dtype, column.indices.dtype) == (np.int64, np.int32)
    assert column.values.dtype == (np.float64 if dtype in (np.float64, np.int64) else np.float32)
    for row in range(6):
        start, stop = column.indptr[row : row + 2]
        np.testing.assert_array_equal(column.indices[start:stop], np.flatnonzero(dense[row]))
        np.testing.assert_array_equal(column.values[start:stop], dense[row][dense[row] != 0])


def test_unsorted_rows_with_doubles_are_put_right_without_touching_the_input():
    given_matrix = sparse.csr_array((np.float32([1, 2, 3]), np.int64([3, 1, 3]), np.int64([0, 3])), shape=(1, 5))
    column = from_arrays(given_matrix).columns["x"]
    np.testing.assert_array_equal(column.indices, [1, 3])
    np.testing.assert_array_equal(column.values, [2, 4])
    np.testing.assert_array_equal(given_matrix.indices, [3, 1, 3])


@pytest.mark.parametrize(
    "y",
    [
        np.array([3, -1, 3, 7]),
        np.array([True, False, True, True]),
        np.array(["b", "a", "b", "ccc"]),
        np.array(["b", "a", "b", "ccc"], object),
        np.array([2, 1, 2, 9], object),
        np.array([2.0, 1.0, 2.0, 2.0]),
        np.array([0, 255, 1, 0], np.uint8),
    ],
)
def test_labels_are_encoded_as_sklearn_does(y):
    table = from_arrays(X, y)
    encoder = LabelEncoder()
    np.testing.assert_array_equal(table.columns["y"], encoder.fit_transform(y.tolist()))
    assert table.columns["y"].dtype == np.int32
    assert table.classes == tuple(encoder.classes_.tolist())
    assert all(type(name) in (float, str) for name in table.classes)


def test_floats_that_are_not_whole_or_too_many_are_to_be_predicted():
    table = from_arrays(X, np.array([0.5, 1, 2, 3]))
    assert (table.classes, table.columns["y"].dtype) == ((), np.float32)
    assert from_arrays(X.astype(float), np.array([0.5, 1, 2, 3])).columns["y"].dtype == np.float64
    many = from_arrays(np.ones((101, 1)), np.arange(101.0))
    assert (many.classes, many.columns["y"][100]) == ((), 100.0)
    assert len(from_arrays(np.ones((100, 1)), np.arange(100.0)).classes) == 100
    noted = from_arrays(np.ones((101, 1)), np.arange(101))
    assert len(noted.classes) == 101
    assert "classes=()" in noted.notes[0]


def test_classes_that_are_given():
    table = from_arrays(X, ["no", "yes", "no", "no"], classes=("yes", "no", "perhaps"))
    np.testing.assert_array_equal(table.columns["y"], [1, 0, 1, 1])
    assert table.classes == ("yes", "no", "perhaps")
    assert from_arrays(X, [1, 2, 3, 4], classes=()).classes == ()
    with pytest.raises(DataError, match=r"y\[3\] is 9.0, none of classes=\(1, 2\)"):
        from_arrays(X, [1, 2, 1, 9], classes=(1, 2))


def test_weights_and_further_columns():
    extra = np.arange(12).reshape(4, 3)
    table = from_arrays(X, weight=[0, 1, 2, 3], tokens=extra, links=sparse.csr_array(np.eye(4)))
    assert table.columns["weight"].dtype == np.float32
    assert table.columns["tokens"].dtype == extra.dtype
    assert isinstance(table.columns["links"], Csr)
    np.testing.assert_array_equal(table.rows(np.array([2])).columns["tokens"], [[6, 7, 8]])


def test_the_fingerprint_follows_every_column():
    base = from_arrays(X, [0, 1, 0, 1])
    assert base.fingerprint == from_arrays(X.copy(), [0, 1, 0, 1]).fingerprint
    others = [
        from_arrays(X, [0, 1, 0, 0]),
        from_arrays(X + 1, [0, 1, 0, 1]),
        from_arrays(X.astype(float), [0, 1, 0, 1]),
        from_arrays(X.reshape(4, 2, 1), [0, 1, 0, 1]),
        from_arrays(X, [0, 1, 0, 1], weight=np.ones(4)),
        from_arrays(sparse.csr_array(X), [0, 1, 0, 1]),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 7


def holding(value: float, kind: type = np.float32) -> np.ndarray:
    x = X.astype(kind)
    x[2, 1] = value
    return x


FAULTS = {
    "one dimension": ((np.arange(3.0),), r"x has shape \(3,\), expected \(rows, features\); use x.reshape\(-1, 1\)"),
    "no rows": ((np.zeros((0, 3)),), "at least one row"),
    "ragged": (([[1.0], [1.0, 2.0]],), "x is no array"),
    "text": (([["a"], ["b"]],), "x holds <U1, expected numbers"),
    "objects": ((np.array([[None]]),), "x holds object"),
    "nan": ((holding(np.nan),), r"x\[2, 1\] is nan \(1 such values\): expected finite"),
    "inf": ((holding(-np.inf),), r"x\[2, 1\] is -inf"),
    "sparse nan": ((sparse.csr_array(holding(np.nan)),), r"x\[\d\] is nan"),
    "short y": ((X, [0, 1]), "y has 2 rows, but x has 4"),
    "column y": ((X, np.ones((4, 1))), r"y has shape \(4, 1\), expected \(4,\), .*y.ravel\(\)"),
    "mixed y": ((X, np.array(["a", 1, "b", "c"], object)), r"y\[1\] is 1, expected text"),
    "missing y": ((X, np.array([1, None, 2, 3], object)), r"y\[\d\] is .*expected text"),
    "nan y": ((X, [0, 1, np.nan, 0]), r"y\[2\] is nan"),
    "complex y": ((X, np.ones(4, complex)), "y holds complex128"),
    "big y": ((X, [2**60, 1, 2, 3]), r"above 2\^53"),
    "short weight": ((X, None, [1.0]), "weight has 1 rows, but x has 4"),
    "negative weight": ((X, None, [1, 1, -2, 1]), r"weight\[2\] is -2, expected 0 or more"),
    "no weight": ((X, None, np.zeros(4)), "0 in every row"),
    "text weight": ((X, None, ["a"] * 4), "weight holds <U1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_say_where_and_what_was_expected(fault):
    arguments, words = FAULTS[fault]
    with pytest.raises(DataError, match=words):
        from_arrays(*arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype='int8': expected 'float32', 'float64'"),
        ({"classes": (1, 2)}, "there is no y"),
        ({"y": ["a"] * 4, "classes": ()}, "y holds text"),
        ({"y": ["a"] * 4, "classes": (1, 2)}, "not of the kind of y"),
        ({"y": [1] * 4, "classes": ("a", 2)}, "mixes numbers and text"),
        ({"tokens": np.ones(3)}, "column 'tokens' has 3 rows"),
        ({"tokens": ["a"] * 4}, "column 'tokens' holds <U1"),
        ({"tokens": 1.0}, "a row each"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(DataError, match=words):
        from_arrays(X, **options)


def test_too_large_for_float32():
    with pytest.raises(DataError, match=r"x\[2, 1\] is 1e\+40 .*too large for float32"):
        from_arrays(holding(1e40, np.float64), dtype="float32")


def test_a_sum_beyond_the_type_is_no_fault():
    large = np.full((4, 2), 3e38, np.float32)
    np.testing.assert_array_equal(from_arrays(large).columns["x"], large)
    assert from_arrays(np.full((4, 2), 1.7e308)).spec.features == 2


def test_sparse_indices_outside_the_matrix():
    matrix = sparse.csr_array(X)
    matrix.indices = matrix.indices.copy()
    matrix.indices[0] = 5
    with pytest.raises(DataError, match="index outside its 2 columns"):
        from_arrays(matrix)
