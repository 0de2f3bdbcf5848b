import datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from trivium.cli.columns import MOST, Tally
from trivium.data.frame import Field
from trivium.data.table import Csr


def tally(*columns, kind="number", dtype="float64"):
    made = Tally(Field("c", kind, dtype))
    for column in columns:
        made.add(column)
    return made


def test_numbers_of_arrow():
    made = tally(pa.array([1.5, None, 2.5]), pa.array([float("nan"), 1.5]))
    assert (made.rows, made.missing, made.distinct, made.least, made.largest) == (5, 2, 2, 1.5, 2.5)
    assert made.counts == {1.5: 2, 2.5: 1}


def test_words_and_dates():
    words = tally(pa.array(["b", "a", None, "b"]), pa.chunked_array([["a"], ["c"]]), kind="category", dtype="string")
    assert words.counts == {"a": 2, "b": 2, "c": 1}
    assert (words.missing, words.least) == (1, None)
    day = datetime.date(2020, 1, 2)
    assert tally(pa.array([day, None]), kind="time").as_json()["largest"] == "2020-01-02"


def test_dictionaries_are_counted_by_value():
    made = tally(pa.array(["x", "y", "x"]).dictionary_encode(), kind="category")
    assert made.counts == {"x": 2, "y": 1}


@pytest.mark.parametrize("make", [pa.array, np.asarray], ids=["arrow", "numpy"])
def test_beyond_a_bound_distinct_values_are_not_counted(make):
    values = list(range(MOST))
    assert tally(make(values)).distinct == MOST
    assert tally(make(values), make([5000])).distinct is None
    assert tally(make([*values, 5000])).distinct is None
    assert tally(make([*values, 5000]), make([1])).rows == MOST + 2


def test_labels_of_numpy():
    made = tally(np.array([1.0, -1.0, np.nan, 1.0]))
    assert (made.missing, made.counts) == (1, {1.0: 2, -1.0: 1})
    assert made.as_json()["least"] == -1.0


def test_matrices_have_a_density():
    x = np.array([[0, 3], [0, 0], [255, 1]], np.uint8)
    about = tally(x, kind="pixels").as_json()
    assert (about["nonzero"], about["density"], about["largest"], about["distinct"]) == (3, 0.5, 255, None)


def test_sparse_rows_against_scipy():
    made = sparse.random_array((50, 20), density=0.1, rng=np.random.default_rng(0), format="csr")
    rows = Csr(made.indptr.astype(np.int64), made.indices.astype(np.int32), made.data, 20)
    about = tally(rows, rows, kind="sparse").as_json()
    assert about["nonzero"] == 2 * made.nnz
    assert about["density"] == pytest.approx(made.nnz / 1000)
    assert about["largest"] == made.data.max()
