import fcntl
import json

import pytest

from trivium.cli import main
from trivium.testing.records import a_record


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "clock-30").write_text("x")
    (folder / "plan.json").write_text(json.dumps({"model": "mlp:64", "design": "ps", "stopping": {"epochs": 5}}))
    return folder


def test_a_run_goes_on_from_its_last_checkpoint(session, capsys, run):
    assert main(["resume", str(run), "--json"]) == 0
    told = capsys.readouterr()
    assert f"run      {run}\n" in told.err
    assert "after 5 epochs" in told.err
    assert json.loads(told.out.splitlines()[-1])["run"] == str(run)
    assert len(session.lives) == 1


def test_a_finished_run_has_nothing_left_to_do(session, capsys, run):
    (run / "record.json").write_text(json.dumps(a_record().as_json()))
    assert main(["resume", str(run)]) == 2
    assert f"is finished; `trivium report {run}`" in capsys.readouterr().err
    assert session.lives == []


def test_a_run_that_is_alive_is_left_alone(session, capsys, run):
    with (run / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["resume", str(run)]) == 2
    assert "is still running" in capsys.readouterr().err
    assert session.lives == []


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(session, capsys, run):
    (run / "checkpoints" / "clock-30").unlink()
    assert main(["resume", str(run)]) == 2
    assert "has no checkpoint" in capsys.readouterr().err


def test_what_is_no_run_is_an_error(session, capsys, tmp_path):
    assert main(["resume", str(tmp_path / "missing")]) == 2
    assert "no such run" in capsys.readouterr().err


def test_code_that_the_directory_names_is_run_only_where_it_is_trusted(session, run):
    assert main(["resume", str(run)]) == main(["resume", str(run), "--trust"]) == 0
    assert session.trusts == [False, True]
