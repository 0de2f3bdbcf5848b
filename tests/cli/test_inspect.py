import json

import pytest

from trivium.cli import main

ROWS = "age,city,income,clicked\n31,Rome,1000.5,yes\n64,Oslo,2000,no\n22,Rome,,yes\n45,Bern,1500,no\n"


@pytest.fixture
def people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "people.csv").write_text(ROWS)
    return "people.csv"


def told(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_columns_have_types_gaps_and_spans(people, capsys):
    assert main(["inspect", people, "--json"]) == 0
    about = told(capsys)
    assert (about["rows"], about["format"], about["bytes"], about["files"]) == (
        4,
        "csv",
        len(ROWS.split("\n", 1)[1]),
        1,
    )
    columns = {one["name"]: one for one in about["columns"]}
    assert {name: one["kind"] for name, one in columns.items()} == {
        "age": "number", "city": "category", "income": "number", "clicked": "category",
    }  # fmt: skip
    assert (columns["income"]["missing"], columns["income"]["distinct"], columns["income"]["largest"]) == (1, 3, 2000.0)
    assert (columns["age"]["least"], columns["city"]["distinct"]) == (22.0, 3)


def test_the_first_rows_are_shown(people, capsys):
    assert main(["inspect", people, "--rows", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("row "))
    assert lines[at].split() == ["row", "age", "city", "income", "clicked"]
    assert lines[at + 2].split() == ["1", "31", "Rome", "1000.5", "yes"]
    assert len(lines) == at + 4
    assert any("--label COLUMN says which it is" in line for line in lines)


def test_classes_have_counts_and_a_model_sees_encoded_rows(people, capsys):
    assert main(["inspect", people, "--label", "clicked", "--prep", "impute", "--json"]) == 0
    out = capsys.readouterr().out
    about = json.loads(out.splitlines()[-1])
    assert about["classes"] == [{"class": "no", "rows": 2}, {"class": "yes", "rows": 2}]
    assert about["model_sees"]["features"] == 5
    assert "label    2 values of clicked: no: 2 (50.0 %), yes: 2 (50.0 %)" in out


def test_what_training_would_refuse_is_found(people, capsys):
    """It describes them all the same: that is what it is for."""
    assert main(["inspect", people, "--label", "clicked"]) == 0
    out = capsys.readouterr().out
    assert "cannot be trained on them as they are" in out
    assert "column 'income': found no value, expected a number" in " ".join(out.split())


def test_declared_types_and_words_for_missing_values(people, capsys, tmp_path):
    (tmp_path / "odd.csv").write_text("a,b\n1,x\n?,y\n")
    assert main(["inspect", "odd.csv", "--missing", "?", "--types", "b=category", "--json"]) == 0
    columns = {one["name"]: one for one in told(capsys)["columns"]}
    assert (columns["a"]["kind"], columns["a"]["missing"]) == ("number", 1)


def test_a_missing_file_names_the_nearest(people, capsys):
    assert main(["inspect", "peple.csv"]) == 2
    assert "people.csv" in capsys.readouterr().err


def test_an_option_that_the_format_has_no_use_for_is_an_error(people, capsys):
    assert main(["inspect", "synthetic:10x2", "--label", "y"]) == 2
    assert "--label y: rows of synthetic have no named columns" in capsys.readouterr().err
