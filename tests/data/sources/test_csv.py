"""Delimited text: the same columns as pandas and pyarrow read, whatever the cuts; exact lines in errors."""

import gzip
import io
import lzma
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from trivium.data.sources import csv_block, csv_form
from trivium.data.sources.csv import CsvSource
from trivium.data.sources.places import resolve
from trivium.errors import DataError


@pytest.fixture
def source(tmp_path):
    def made(content: str | bytes, name: str = "a.csv", **options) -> CsvSource:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return CsvSource(resolve(path), **options)

    return made


def whole(source: CsvSource, columns=None, threads=1) -> dict[str, list]:
    found: dict[str, list] = {}
    for frame in source.frames(columns, threads):
        for name, column in frame.columns.items():
            found.setdefault(name, []).extend([] if column is None else column.to_pylist())
    return found


def kinds(source: CsvSource) -> dict[str, str]:
    return {one.name: one.kind for one in source.fields()}


def lines(source: CsvSource) -> list[int]:
    return [frame.line(row) for frame in source.frames(threads=1) for row in range(frame.rows)]


def people(rows: int) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "age": draw.integers(0, 99, rows),
            "height": draw.normal(170, 9, rows),
            "city": draw.choice(["Rome", "Oslo", 'the "Hague"', "Bern, CH"], rows),
            "since": pd.date_range("2020-01-01", periods=rows, freq="h").astype(str),
            "label": draw.choice(["no", "yes"], rows),
        }
    )


def test_numbers_are_those_that_pyarrow_reads(source):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(500, 6)) * 10.0 ** draw.integers(-30, 30, (500, 6)), columns=list("abcdef"))
    text = frame.to_csv(index=False)
    expected = arrow_csv.read_csv(io.BytesIO(text.encode()))
    for size in (64, 1000, 1 << 24):
        cut = source(text, part_bytes=size)
        assert len(cut.partitions()) >= len(text) // max(size, 1000)
        columns = [frame.columns for frame in cut.frames(threads=2)]
        for name in frame.columns:
            joined = np.concatenate([one[name].to_numpy() for one in columns])
            np.testing.assert_array_equal(joined, expected[name].to_numpy())


@pytest.mark.parametrize("size", [50, 777, 1 << 24])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_are_those_that_pandas_reads(source, size, end):
    frame = people(300)
    made = source(frame.to_csv(index=False, lineterminator=end), part_bytes=size)
    assert kinds(made) == {
        "age": "number", "height": "number", "city": "category", "since": "time", "label": "category",
    }  # fmt: skip
    found = whole(made, threads=2)
    assert found["city"] == frame["city"].tolist() and found["label"] == frame["label"].tolist()
    np.testing.assert_array_equal(found["age"], frame["age"])
    np.testing.assert_array_equal(np.array(found["since"], "datetime64[us]"), frame["since"].astype("datetime64[us]"))
    assert lines(made) == list(range(2, 302))


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (lzma.compress, ".xz")])
def test_packed_files_come_in_blocks_and_keep_their_lines(source, monkeypatch, pack, suffix):
    from trivium.data.sources import csv_file

    monkeypatch.setattr(csv_file, "_PACKED_BLOCK", 1 << 18)
    frame = people(25_000)
    made = source(
        b"\xef\xbb\xbf" + frame.to_csv(index=False).encode() if suffix == ".gz" else frame.to_csv(index=False), "p.csv"
    )
    packed = source(pack(made.places.stream(made.places.files[0]).head(1 << 30)), "a.csv" + suffix)
    assert packed.streams and not made.streams
    frames = list(packed.frames(threads=2))
    assert len(frames) > 1
    assert sum(one.rows for one in frames) == len(frame)
    assert frames[0].line(0) == 2 and frames[-1].line(frames[-1].rows - 1) == 25_001
    joined = packed.read(packed.partitions()[0], ["age"])
    np.testing.assert_array_equal(joined.columns["age"].to_numpy(), frame["age"])
    assert joined.line(24_999) == 25_001


@pytest.mark.parametrize(
    ("text", "delimiter", "names"),
    [
        ("a,b\n1,2\n", ",", ("a", "b")),
        ("a\tb c,d\n1\t2\n", "\t", ("a", "b c,d")),
        ("a;b\n1,5;2,5\n2,5;3,5\n", ";", ("a", "b")),
        ("a|b|c\n1|2|3\n", "|", ("a", "b", "c")),
        ('"a,x";b\n1;2\n', ";", ("a,x", "b")),
        ("a\n1\n", ",", ("a",)),
        ("1,2,x\n3,4,y\n", ",", ("column_1", "column_2", "column_3")),
        ("x,y\nx,z\n", ",", ("column_1", "column_2")),
        ("x,y\np,z\n", ",", ("x", "y")),
        (",b\n0,2\n2,3\n", ",", ("column_1", "b")),
        (",b\nx,2\ny,3\n", ",", ("column_1", "b")),
        (" a , b \n1,2\n", ",", ("a", "b")),
    ],
)
def test_delimiter_and_header_are_found_out(source, text, delimiter, names):
    made = source(text)
    assert made._form.delimiter == delimiter
    assert tuple(one.name for one in made.fields()) == names


def test_delimiter_and_header_can_be_given(source):
    assert whole(source("1;2\n3;4\n", delimiter=",", header=False)) == {"column_1": ["1;2", "3;4"]}
    assert whole(source("1,2\n3,4\n", header=True)) == {"1": [3.0], "2": [4.0]}
    with pytest.raises(DataError, match="expected one character"):
        source("a,b\n1,2\n", delimiter="::").fields()


def test_types_are_found_out_and_can_be_declared(source):
    text = "id,on,zip,when,late,note\n" + "".join(
        f"{i},{'true' if i % 2 else 'false'},0{i % 3}1,2024-01-0{1 + i % 9},2024-01-01T10:00:00Z,"
        f"the {i}th of very many long remarks\n"
        for i in range(30)
    )
    made = source(text)
    assert [(one.kind, one.dtype) for one in made.fields()] == [
        ("number", "int64"), ("number", "bool"), ("number", "int64"), ("time", "timestamp[us]"),
        ("time", "timestamp[us, tz=UTC]"), ("text", "string"),
    ]  # fmt: skip
    assert whole(made, ["on"])["on"][:2] == [False, True]
    declared = source(text, types={"zip": "category", "when": "category", "late": "skip", "note": "category"})
    assert kinds(declared) == {
        "id": "number", "on": "number", "zip": "category", "when": "category", "note": "category",
    }  # fmt: skip
    assert whole(declared, ["zip"])["zip"][:2] == ["001", "011"]


def test_missing_values(source):
    text = "n,c,b\n1,x,true\n,NA,\nNaN,,?\n?,null,false\n"
    found = whole(source(text))
    np.testing.assert_array_equal(found["n"], [1, np.nan, np.nan, np.nan])
    assert found["c"] == ["x", None, None, None]
    np.testing.assert_array_equal(found["b"], [1, np.nan, np.nan, 0])
    found = whole(source("n,c\n1,NA\n-,x\n", missing=("-",)))
    np.testing.assert_array_equal(found["n"], [1, np.nan])
    assert found["c"] == ["NA", "x"]


def test_integers_are_widened_where_later_rows_are_not(source):
    text = "n,label\n" + "".join(f"{i},0\n" for i in range(300_000)) + "0.5,1\n+2,1\n 7 ,1\n1e3,1\n"
    assert whole(source(text))["n"][-4:] == [0.5, 2.0, 7.0, 1000.0]


def test_text_beyond_the_sample_is_an_error_with_its_line(source):
    rows = [f"{i},{i % 2}\n" for i in range(400_000)]
    rows[250_000] = "abc,1\n"
    made = source("n,label\n" + "".join(rows), part_bytes=1 << 20)
    assert len(made.partitions()) > 3
    with pytest.raises(DataError, match=r"a.csv: line 250002: column 'n': found 'abc', expected a number"):
        whole(made, threads=2)
    made = source("n,label\n" + "".join(rows), part_bytes=1 << 20, max_bad_rows=1)
    frames = list(made.frames(threads=2))
    assert sum(one.rows for one in frames) == 399_999
    assert [(bad.line, bad.text) for one in frames for bad in one.skipped] == [(250_002, "abc, 1")]


def test_the_first_fault_in_the_order_of_the_rows_is_raised(source):
    text = "n,m\n1,1\nx,1\n2\n3,y\n"
    with pytest.raises(DataError, match=r"line 3: column 'n': found 'x'.*the first of 3 bad rows"):
        whole(source(text, types={"n": "number", "m": "number"}), ["m"])
    passed = source(text, types={"n": "number", "m": "number"}, max_bad_rows=3)
    frame = next(passed.frames(threads=1))
    assert [(bad.line, bad.why) for bad in frame.skipped] == [
        (3, "column 'n': found 'x', expected a number"),
        (4, "found 1 field, expected 2"),
        (5, "column 'm': found 'y', expected a number"),
    ]
    assert frame.line(0) == 2


def test_ragged_rows_keep_their_lines_far_into_a_partition(source):
    rows = [f"{i},{i % 2}\n" for i in range(600_000)]
    rows[400_000], rows[500_000] = "\n", "1,2,3\n"
    frame = next(source("n,label\n" + "".join(rows), max_bad_rows=1).frames(threads=1))
    assert [bad.line for bad in frame.skipped] == [500_002]
    assert [frame.line(row) for row in (0, 399_999, 400_000, 499_998, 499_999)] == [
        2,
        400_001,
        400_003,
        500_001,
        500_003,
    ]


def test_a_row_longer_than_what_is_parsed_at_a_time(source):
    assert whole(source("c,label\n" + "x" * 3_000_000 + ",1\ny,0\n"))["label"] == [1.0, 0.0]


def test_bad_rows_are_counted_over_all_partitions(source):
    rows = [f"{i},{i % 2}\n" for i in range(1000)]
    rows[100] = rows[900] = "1\n"
    with pytest.raises(DataError, match=r"line 102: .*the first of 2 bad rows found so far, max_bad_rows=1"):
        whole(source("n,label\n" + "".join(rows), part_bytes=500, max_bad_rows=1), threads=2)


@pytest.mark.parametrize("size", [30, 200, 1 << 24])
def test_quoted_line_ends_never_lie_on_a_cut(source, size):
    frame = pd.DataFrame({"n": range(50), "c": [f'{i}\n"{i % 3}"\r\nz' for i in range(50)], "d": ["x"] * 50})
    made = source(frame.to_csv(index=False), part_bytes=size)
    found = whole(made, threads=2)
    np.testing.assert_array_equal(found["n"], frame["n"])
    assert found["c"] == frame["c"].tolist()
    assert lines(made) == [2 + 3 * i for i in range(50)]
    assert len(made.partitions()) > 5 or size > 100


def test_quoted_line_ends_that_the_sample_does_not_show(source, monkeypatch):
    from trivium.data.sources import csv as room
    from trivium.data.sources import csv_file

    monkeypatch.setattr(room, "_LEAST_HEAD", 100)
    monkeypatch.setattr(room, "_HEAD", 100)
    monkeypatch.setattr(csv_file, "PIECE", 30)
    rows = [f"{i},b\n" for i in range(100)]
    rows[30] = '30,"' + "\n" * 50 + '"\n'
    text = "a,c\n" + "".join(rows)
    with pytest.raises(DataError, match=r"line 32: a quoted field begins and does not end, .*newlines=True"):
        whole(source(text, part_bytes=60))
    assert len(whole(source(text, part_bytes=60, newlines=True))["a"]) == 100


def test_stray_quotes_inside_fields_are_text(source):
    assert whole(source('n,c\n1,5" pipe\n2,x\n3,say "hi"\n', part_bytes=12))["c"] == ['5" pipe', "x", 'say "hi"']


def test_files_may_have_their_columns_in_another_order(tmp_path):
    (tmp_path / "a.csv").write_text("n,c\n1,x\n")
    (tmp_path / "b.csv").write_text("c,n\ny,2\n")
    made = CsvSource(resolve(tmp_path))
    assert whole(made) == {"n": [1.0, 2.0], "c": ["x", "y"]}
    assert whole(made, ["c"]) == {"c": ["x", "y"]}
    assert {frame.file for frame in made.frames()} == {str(tmp_path / "a.csv"), str(tmp_path / "b.csv")}


def test_a_source_is_pickled_and_its_stamp_follows_content_and_options(source):
    made = source("n,c\n1,x\n")
    made.fields()
    again = pickle.loads(pickle.dumps(made))
    assert whole(again) == {"n": [1.0], "c": ["x"]} and again.stamp() == made.stamp()
    assert source("n,c\n1,x\n", types={"n": "category"}).stamp() != made.stamp()
    assert source("n,c\n1,xx\n").stamp() != made.stamp()


def test_a_header_alone_has_no_rows(source):
    made = source("a,b\n")
    assert [frame.rows for frame in made.frames()] == []
    assert [one.name for one in made.fields()] == ["a", "b"]


def test_columns_that_are_not_there_are_left_out(source):
    assert whole(source("a,b\n1,2\n"), ["b", "zz"]) == {"b": [2.0]}


_FIELD = st.text(st.sampled_from('ab1,"\n\r .;'), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(_FIELD, _FIELD), min_size=1, max_size=12), st.integers(5, 60))
def test_any_table_is_read_as_it_was_written_wherever_it_is_cut(tmp_path, rows, size):
    import csv

    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("first", "second"), *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(text.getvalue().encode())
    options = {"delimiter": ",", "header": True, "types": {"first": "category", "second": "category"}}
    found = whole(CsvSource(resolve(path), missing=("MISSING",), part_bytes=size, **options))
    assert list(zip(found["first"], found["second"], strict=True)) == rows


def test_lines_of_records_are_those_of_a_plain_count():
    data = b'a,1\n\n"x\ny",2\r\n\r\nb,3\n,\n\nlast'
    assert csv_block.record_lines(data, ",").tolist() == [0, 2, 5, 6, 8]
    for text in (b"a\n\nb\n", b"a\r\n\r\nb\r\n", b"\na,b\r\n\n\r\nc", b"", b"a"):
        quick, slow = csv_block.record_lines(text, ","), csv_block._walk(text, ",")[0]
        assert quick.tolist() == [line for line, _ in slow]
    assert csv_block.record_lines(b"a\n\nb\n", ",").tolist() == [0, 2]
    assert csv_block.record_lines(b"a\rb\r\rc", ",").tolist() == [0, 1, 3]
    assert csv_block.ends_open(b'a,"b\n', ",") == 0
    assert csv_block.ends_open(b'a\nb,"c""\n', ",") == 1
    assert csv_block.ends_open(b'a,5"\n', ",") is None


def test_numbers_are_told_as_pyarrow_reads_them():
    import re

    number = re.compile(csv_form.NUMBER)
    for text in (
        "1",
        "-1.5",
        "+2",
        ".5",
        "5.",
        "1e5",
        "1E-5",
        " 7 ",
        "inf",
        "-Infinity",
        "nan",
        "x",
        "1x",
        "0x1",
        "1_0",
        "--1",
        "e5",
        "",
    ):
        try:
            column = arrow_csv.read_csv(
                io.BytesIO(f"{text},1\n".encode()),
                read_options=arrow_csv.ReadOptions(column_names=["a", "b"]),
                convert_options=arrow_csv.ConvertOptions(column_types={"a": pa.float64()}, null_values=["#"]),
            )
            reads = column.num_rows == 1
        except pa.ArrowInvalid:
            reads = False
        assert bool(number.match(text)) == reads, text


def test_a_line_with_names_that_are_known_is_a_header(source):
    text = "2019,2020\n1,2\n"
    assert whole(source(text)) == {"column_1": [2019.0, 1.0], "column_2": [2020.0, 2.0]}
    assert whole(source(text, types={"2019": "number"})) == {"2019": [1.0], "2020": [2.0]}


def test_the_index_that_pandas_writes_is_left_out(source, caplog):
    made = source(pd.DataFrame({"n": [1.5, 2.5, 3.5]}, index=range(5, 8)).to_csv())
    assert whole(made) == {"n": [1.5, 2.5, 3.5]}
    assert "left out the first column" in caplog.text
    kept = source(pd.DataFrame({"n": [1.5, 2.5]}).to_csv(), types={"column_1": "number"})
    assert whole(kept) == {"column_1": [0.0, 1.0], "n": [1.5, 2.5]}
