import contextlib
import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from trivium.cli.screen import Screen
from trivium.cli.sinks import sink
from trivium.errors import StorageError, UsageError

PIECES = ({"prediction": np.array(["a", "b"]), "p": np.array([0.1, 1 / 3])}, {"prediction": ["c"], "p": [2.0]})


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_text_has_one_head_and_all_digits(tmp_path, suffix, delimiter):
    out = tmp_path / f"out{suffix}"
    with sink(out, Screen()) as put:
        assert all(put.write(piece) for piece in PIECES)
        assert not out.exists()
    rows = list(csv.reader(out.read_text().splitlines(), delimiter=delimiter))
    assert rows[0] == ["prediction", "p"]
    assert [row[0] for row in rows[1:]] == ["a", "b", "c"]
    assert [float(row[1]) for row in rows[1:]] == [0.1, 1 / 3, 2.0]


def test_parquet_has_a_row_group_a_piece(tmp_path):
    with sink(tmp_path / "out.parquet", Screen()) as put:
        for piece in PIECES:
            put.write(piece)
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups == 2
    assert file.read().to_pydict() == {"prediction": ["a", "b", "c"], "p": [0.1, 1 / 3, 2.0]}


def test_without_a_file_it_goes_to_the_screen(capsys):
    with sink(None, Screen()) as put:
        assert put.write({"prediction": np.array([1, 2])})
    assert capsys.readouterr().out == "prediction\n1\n2\n"


def test_a_label_with_a_comma_is_quoted(capsys):
    with sink(None, Screen()) as put:
        put.write({"prediction": ["x,y", 'say "no"', "z"]})
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert rows == [["prediction"], ["x,y"], ['say "no"'], ["z"]]


def test_an_unknown_suffix_names_those_there_are(tmp_path):
    wanted = r"unknown suffix '.xlsx'.*allowed: .csv, .parquet, .tsv"
    with pytest.raises(UsageError, match=wanted), sink(tmp_path / "out.xlsx", Screen()):
        pass


def test_what_fails_leaves_what_was_there(tmp_path):
    out = tmp_path / "out.csv"
    with pytest.raises(RuntimeError), sink(out, Screen()) as put:
        put.write(PIECES[0])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    out.write_text("old")
    with pytest.raises(UsageError, match="is there already and nothing is overwritten"), sink(out, Screen()):
        pass
    assert out.read_text() == "old"
    wanted = "cannot be written: No such file or directory; give another file"
    with pytest.raises(StorageError, match=wanted), sink(tmp_path / "missing" / "out.csv", Screen()):
        pass


def test_answers_that_do_not_fit_the_disk_are_told(monkeypatch):
    full = open("/dev/full", "w")  # noqa: PTH123, SIM115  a device, whose close complains once more
    monkeypatch.setattr("sys.stdout", full)
    with pytest.raises(StorageError, match="No space left"), sink(None, Screen()) as put:
        put.write(PIECES[0])
    with contextlib.suppress(OSError):
        full.close()
