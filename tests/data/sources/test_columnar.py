"""Parquet and Arrow files: what pyarrow reads, partition by partition; one error for what is no such file."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from trivium.data.sources import columnar
from trivium.data.sources.columnar import ColumnarSource
from trivium.data.sources.places import resolve
from trivium.errors import DataError


def table(rows: int) -> pa.Table:
    draw = np.random.default_rng(1)
    return pa.table(
        {
            "n": draw.normal(size=rows),
            "k": pa.array(draw.integers(0, 9, rows), pa.int16()),
            "city": pa.array(draw.choice(["Rome", "Oslo"], rows)).dictionary_encode(),
            "on": draw.integers(0, 2, rows).astype(bool),
            "when": pa.array(np.arange(rows), pa.timestamp("ms")),
            "note": [f"this is the {at}th of many remarks" for at in range(rows)],
            "label": draw.integers(0, 2, rows),
        }
    )


def write(path, content: pa.Table, kind: str) -> None:
    if kind == "parquet":
        parquet.write_table(content, path, row_group_size=100)
    elif kind == "feather":
        feather.write_feather(content, path, chunksize=100)
    elif kind == "file":
        with ipc.new_file(path, content.schema) as writer:
            writer.write_table(content, 100)
    else:
        with ipc.new_stream(path, content.schema) as writer:
            writer.write_table(content, 100)


@pytest.mark.parametrize("kind", ["parquet", "feather", "file", "stream"])
def test_columns_are_those_that_were_written(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(columnar, "PARTS", 4)
    content = table(1000)
    write(tmp_path / "a", content, kind)
    made = ColumnarSource(resolve(tmp_path / "a"))
    assert {one.name: one.kind for one in made.fields()} == {
        "n": "number", "k": "number", "city": "category", "on": "number", "when": "time", "note": "text",
        "label": "number",
    }  # fmt: skip
    parts = made.partitions()
    assert [part.rows for part in parts] == ([1000] if kind == "stream" else [200] * 5)
    frames = list(made.frames(threads=2))
    assert [frame.first for frame in frames] == ([1] if kind == "stream" else [1, 201, 401, 601, 801])
    for name in content.column_names:
        joined = pa.chunked_array([chunk for frame in frames for chunk in frame.columns[name].chunks])
        assert joined.cast(content[name].type).to_pylist() == content[name].to_pylist()


def test_only_the_columns_that_are_asked_for_are_read(tmp_path):
    write(tmp_path / "a.parquet", table(10), "parquet")
    made = ColumnarSource(resolve(tmp_path / "a.parquet"), types={"note": "skip", "k": "category"})
    assert "note" not in [one.name for one in made.fields()]
    assert next(one.kind for one in made.fields() if one.name == "k") == "category"
    frame = made.read(made.partitions()[0], ["k", "zz"])
    assert list(frame.columns) == ["k"] and frame.rows == 10
    with pytest.raises(DataError, match="did you mean 'note'"):
        ColumnarSource(resolve(tmp_path / "a.parquet"), types={"notes": "skip"}).check_types()


def test_the_index_of_pandas_is_no_column(tmp_path):
    pd.DataFrame({"n": [1, 2], "label": [0, 1]}, index=[5, 9]).to_parquet(tmp_path / "a.parquet")
    made = ColumnarSource(resolve(tmp_path / "a.parquet"))
    assert [one.name for one in made.fields()] == ["n", "label"]


def test_several_files_go_after_one_another_and_may_differ_in_width(tmp_path):
    parquet.write_table(pa.table({"n": pa.array([1, 2], pa.int32())}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"n": [0.5]}), tmp_path / "b.parquet")
    made = ColumnarSource(resolve(tmp_path / "*.parquet"))
    assert [frame.columns["n"].to_pylist() for frame in made.frames()] == [[1, 2], [0.5]]
    assert pickle.loads(pickle.dumps(made)).stamp() == made.stamp()


@pytest.mark.parametrize("kind", ["parquet", "feather", "file", "stream"])
def test_damage_anywhere_is_one_error_that_names_the_file(tmp_path, kind):
    path = tmp_path / "a"
    write(path, table(300), kind)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=rf"^{path}: is damaged or was cut short .* fetch or write it again$"):
            list(ColumnarSource(resolve(path)).frames())


def test_other_files_are_told_apart_by_their_beginning(tmp_path):
    (tmp_path / "a").write_bytes(b"FEA1" + b"\0" * 50)
    with pytest.raises(DataError, match="Feather of version 1"):
        ColumnarSource(resolve(tmp_path / "a")).fields()
    (tmp_path / "a").write_bytes(b"hello, world")
    with pytest.raises(DataError, match="expected b'PAR1'"):
        ColumnarSource(resolve(tmp_path / "a")).fields()
