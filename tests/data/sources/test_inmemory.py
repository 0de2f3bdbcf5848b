"""Frames of pandas, Polars and Arrow: the same columns from each, and a stamp that follows the content."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from trivium.data.sources import inmemory
from trivium.data.sources.inmemory import InMemorySource
from trivium.errors import DataError


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "n": [1.5, None, 2.5],
            "k": pd.array([1, None, 3], dtype="Int64"),
            "on": pd.array([True, None, False], dtype="boolean"),
            "city": pd.Categorical(["Rome", "Oslo", None]),
            "name": pd.array(["x", None, "y"], dtype="string"),
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
            "label": [0, 1, 0],
        },
        index=[7, 8, 9],
    )


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas, pa.Table.from_pandas])
def test_the_same_columns_come_from_each_kind_of_frame(frame, make):
    made = InMemorySource(make(frame))
    assert {one.name: one.kind for one in made.fields()} == {
        "n": "number", "k": "number", "on": "number", "city": "category", "name": "category", "when": "time",
        "label": "number",
    }  # fmt: skip
    columns = next(made.frames()).columns
    assert columns["k"].to_pylist() == [1, None, 3]
    assert columns["city"].to_pylist() == ["Rome", "Oslo", None]
    assert columns["on"].to_pylist() == [True, None, False]


def test_rows_come_in_partitions_that_are_views(monkeypatch):
    monkeypatch.setattr(inmemory, "PARTITION_ROWS", 4)
    values = np.arange(10.0)
    made = InMemorySource(pa.table({"n": values}), title="mine")
    assert [(one.start, one.stop, one.rows) for one in made.partitions()] == [(0, 4, 4), (4, 8, 4), (8, 10, 2)]
    frames = list(made.frames(threads=2))
    assert [frame.first for frame in frames] == [1, 5, 9] and {frame.file for frame in frames} == {"mine"}
    np.testing.assert_array_equal(np.concatenate([one.columns["n"].to_numpy() for one in frames]), values)
    assert np.shares_memory(frames[0].columns["n"].chunk(0).to_numpy(), values)


def test_the_stamp_follows_content_not_chunks():
    one = pa.table({"n": [1, 2, 3], "c": ["a", None, "b"]})
    other = pa.concat_tables([one.slice(0, 1), one.slice(1, 2)])
    assert InMemorySource(one).stamp() == InMemorySource(other).stamp()
    assert InMemorySource(one.slice(1, 2)).stamp() == InMemorySource(pa.table(one.slice(1, 2).to_pydict())).stamp()
    changed = pa.table({"n": [1, 2, 4], "c": ["a", None, "b"]})
    assert InMemorySource(changed).stamp() != InMemorySource(one).stamp()


def test_names_that_are_no_text_become_text():
    made = InMemorySource(pd.DataFrame(np.ones((2, 2))))
    assert [one.name for one in made.fields()] == ["0", "1"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([[1, 2]], "for arrays use from_arrays"),
        (pd.Series([1]), "expected a pandas or Polars DataFrame"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
        (pd.DataFrame({"a": []}), "has no row"),
        (pd.DataFrame({"a": [1, "x"]}), "give each column values of one type"),
        (pa.table({"a": [[1]]}), "column 'a' is list"),
    ],
)
def test_what_is_no_frame_is_told(given, words):
    with pytest.raises(DataError, match=words):
        InMemorySource(given).fields()
