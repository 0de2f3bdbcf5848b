import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.data.sources import lines
from trivium.data.sources.places import resolve
from trivium.data.sources.ratings import RatingSource

SHARED = Path(__file__).parents[4] / "shared" / "data"


def read(path, **options) -> dict:
    frames = list(RatingSource(resolve(path), **options).frames(threads=2))
    columns = {name: [frame.columns[name] for frame in frames] for name in ("user", "item", "rating")}
    return {name: [x for part in parts for x in part.tolist()] for name, parts in columns.items()}


@pytest.mark.parametrize("mark", ["\t", ",", ";", "::", " ", "   "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("time", [True, False])
def test_separators_headers_and_times(tmp_path, mark, header, time):
    rows = [["7", "12", "4.5"], ["8", "12", "1"], ["7", "3", "-2"]]
    head = [["user", "item", "rating"]] if header else []
    more = [["time"]] * header + [["99"]] * 3
    lines_ = [mark.join(row + more[at] * time) for at, row in enumerate(head + rows)]
    path = tmp_path / "t"
    path.write_text("\r\n".join(lines_) + "\n\n")
    assert read(path) == {"user": [7, 8, 7], "item": [12, 12, 3], "rating": [4.5, 1, -2]}
    kinds = [(one.name, one.kind, one.dtype) for one in RatingSource(resolve(path)).fields()]
    assert kinds == [("user", "category", "int64"), ("item", "category", "int64"), ("rating", "number", "float64")]


def test_names_of_users_and_items(tmp_path):
    (tmp_path / "t").write_text('user,item,rating\n"ann",7,5\nbob,8,3\n')
    assert read(tmp_path / "t") == {"user": ["ann", "bob"], "item": [7, 8], "rating": [5, 3]}
    (tmp_path / "u").write_text("1 2 3\n")
    assert read(tmp_path / "u", text_ids=True)["user"] == ["1"]


def test_bad_ratings_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "t").write_text("user item rating\n1 1 1\n\n2 2 x\n3 3\n4 4 4\n5 y 5\n6 6 inf\n7 7 7\n")
    for block in (8, 1 << 20):
        monkeypatch.setattr(lines, "BLOCK", block)
        frames = list(RatingSource(resolve(tmp_path / "t"), max_bad_rows=4).frames())
        assert [x for one in frames for x in one.columns["rating"]] == [1, 4, 7]
        assert [one.line(row) for one in frames for row in range(one.rows)] == [2, 6, 9]
        assert [bad.line for one in frames for bad in one.skipped] == [4, 5, 7, 8]


WORDS = st.sampled_from(
    ["1", "2", "77", "-3", "+4", "007", "0x10", "1e3", "ann", '"7"', '""', "", " 5", "nan", "4.5", "a b"]
)


@settings(max_examples=300)
@given(
    rows=st.lists(st.lists(WORDS, min_size=2, max_size=4), min_size=1, max_size=5),
    mark=st.sampled_from(["\t", ",", " ", "::"]),
    start=st.booleans(),
)
def test_what_is_read_quickly_is_what_is_read_line_by_line(tmp_path_factory, rows, mark, start):
    folder = tmp_path_factory.mktemp("ratings")
    first = ["1", "2", "3"]
    (folder / "t").write_text("\n".join(mark.join(row) for row in [first, first, first]) + "\n")
    source = RatingSource(resolve(folder / "t"), max_bad_rows=9)
    block = ("\n".join(mark.join(row) for row in rows) + "\n").encode()
    header = 1 if start and source._header(block[: block.index(b"\n")]) else 0
    quick, slow = source.parse(block, None, start), source._slow(block, header, None)
    assert quick.bad == slow.bad and (quick.rows, quick.lines) == (slow.rows, slow.lines)
    for name in ("user", "item", "rating"):
        assert quick.columns[name].tolist() == slow.columns[name].tolist()


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data folder {SHARED} is missing")
def test_real_ratings_are_pandas_own():
    path = SHARED / "ratings" / "anime_ratings.tsv.gz"
    with gzip.open(path) as file:
        peer = pd.read_csv(file, sep="\t")
    frames = list(RatingSource(resolve(path)).frames(threads=2))
    for name, theirs in zip(("user", "item", "rating"), peer.columns, strict=True):
        np.testing.assert_array_equal(np.concatenate([one.columns[name] for one in frames]), peer[theirs])
