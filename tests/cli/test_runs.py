import fcntl
import json
import os

import pytest

from trivium.cli import main
from trivium.testing.records import a_record


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def make(folder, name, age, **files):
    run = folder / name
    run.mkdir()
    for path, value in files.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (run / path.replace("_", ".", 1)).write_text(text)
    if (run / "plan.json").exists():
        os.utime(run / "plan.json", (1e9 - age, 1e9 - age))
    return run


PLAN = {"model": "mlp:64", "plan": {"design": "ps", "workers": 2}}


def listed(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]


def test_runs_come_newest_first_with_their_state(folder, capsys):
    make(folder, "old", 30, plan_json=PLAN, record_json=a_record().as_json())
    cut = make(folder, "cut", 20, plan_json=PLAN, events_jsonl='{"kind": "failed", "text": "no worker left"}\n')
    (cut / "checkpoints").mkdir()
    (cut / "checkpoints" / "clock-5").write_text("x")
    make(folder, "new", 10, plan_json=PLAN, metrics_jsonl='{"epoch": 2.5, "loss": 0.3, "seconds": 4}\n')
    with (folder / "new" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["runs"]) == 0
        lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["new", "cut", "old"]
    for line, words in zip(lines[2:5], ("running", "failed, resumable", "finished"), strict=True):
        assert words in line
    assert "mlp:64" in lines[2]
    assert "2.5" in lines[2]
    assert "94.00 %" in lines[4]
    assert "cut: no worker left" not in lines[4]
    assert lines[-1].split()[-3:] == ["trivium", "resume", "runs/cut"]


def test_what_is_broken_is_listed_with_why(folder, capsys):
    make(folder, "empty", 1)
    make(folder, "torn", 2, plan_json="{", record_json=a_record().as_json())
    (folder / "a file").write_text("no folder")
    assert main(["runs", "--json"]) == 0
    found = {run["run"]: run for run in listed(capsys)}
    assert set(found) == {"runs/empty", "runs/torn"}
    assert found["runs/empty"]["state"] == "broken"
    assert "holds no run" in found["runs/empty"]["why"]
    assert "plan.json cannot be read" in found["runs/torn"]["why"]
    assert found["runs/torn"]["loss"] == 0.11


def test_json_has_a_figure_or_null(folder, capsys):
    make(folder, "done", 1, plan_json=PLAN, record_json=a_record(valid_loss=None).as_json())
    main(["runs", "runs", "--json"])
    (run,) = listed(capsys)
    assert (run["model"], run["workers"], run["epochs"], run["test_accuracy"]) == ("mlp:64", 2, 12.0, 0.94)
    assert run["valid_loss"] is None
    assert run["when"].startswith("2001-09-09T")


def test_one_run_is_listed_alone(folder, capsys):
    make(folder, "done", 1, record_json=a_record().as_json())
    main(["runs", "runs/done", "--json"])
    assert [run["run"] for run in listed(capsys)] == ["runs/done"]


def test_no_runs_say_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "--json"]) == 0
    told = capsys.readouterr().out
    assert "`trivium train MODEL DATA` makes the first" in told
    assert json.loads(told.splitlines()[-1]) == {"runs": []}


@pytest.mark.parametrize(("name", "why"), [("missing", "is not there"), ("file", "is a file")])
def test_a_folder_that_is_none_is_an_error(folder, capsys, name, why):
    (folder / "file").write_text("")
    assert main(["runs", f"runs/{name}"]) == 2
    assert f"runs/{name} {why}; give a folder that holds runs" in capsys.readouterr().err
