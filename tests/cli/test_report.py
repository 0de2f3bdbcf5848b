import json

import pytest

from trivium.cli import main
from trivium.testing.records import a_record


@pytest.fixture
def runs(tmp_path):
    folders = []
    for name, record in (("a", a_record(run="a")), ("b", None)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "plan.json").write_text(json.dumps({"model": "mlp:64", "design": "ps"}))
        (folder / "events.jsonl").write_text(json.dumps({"kind": "failed", "text": "no worker left"}) + "\n")
        if record:
            (folder / "record.json").write_text(json.dumps(record.as_json()))
        folders.append(str(folder))
    return folders


def test_one_run_is_told_on_stdout(runs, capsys):
    assert main(["report", runs[0]]) == 0
    told = capsys.readouterr()
    assert "a: finished" in told.out
    assert "time     workers: compute 60 %" in told.out
    assert told.err == ""


def test_a_failed_run_says_what_happened(runs, capsys):
    assert main(["report", runs[1]]) == 0
    assert "no worker left" in capsys.readouterr().out


def test_several_runs_make_a_table(runs, capsys):
    assert main(["report", *runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run")
    assert [line.split()[0] for line in lines[2:]] == ["a", "b"]


def test_json_of_one_and_of_several(runs, capsys):
    main(["report", runs[0], "--json"])
    one = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (one["state"], one["loss"]) == ("finished", 0.11)
    main(["report", *runs, "--json"])
    both = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert [run["state"] for run in both] == ["finished", "failed"]
    assert both[1]["error"] == "no worker left"
