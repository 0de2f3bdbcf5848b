import json
import os
import signal
from dataclasses import replace

import pytest

from trivium.cli import main
from trivium.errors import LostError, PlanError, ProgramError, RunError

KEYS = {
    "run", "design", "engine", "nodes", "workers", "lanes", "consistency", "rows", "epochs", "iterations", "seconds",
    "startup_seconds", "compile_seconds", "load_seconds", "evaluate_seconds", "samples_per_second", "objective", "loss",
    "valid_loss", "test_loss", "test_accuracy", "breakdown", "bytes", "staleness", "peak_rss_bytes", "params_sha256",
}  # fmt: skip


def test_progress_goes_to_stderr_and_results_to_stdout(session, capsys):
    assert main(["train", "mlp:64", "d", "--design", "ps", "-w", "2"]) == 0
    told = capsys.readouterr()
    for part in ("data     d: 100 rows × 3 features, 2 classes (90 train, 10 validation)", "mlp:64 by ps, 2 workers"):
        assert part in told.err
    assert "after 50 epochs, or 3 evaluations without a lower validation loss" in told.err
    assert "run      runs/mlp-64-ps-0001" in told.err
    assert "validation 0.5" in told.err
    assert "notice: worker-1 died" in told.err
    labels = [line.split()[0] for line in told.out.splitlines() if not line.startswith(" ")]
    assert labels == ["start", "notice", "result", "time", "verdict", "next"]
    assert "trivium report runs/mlp-64-ps-0001" in told.out


def test_the_last_line_of_json_is_one_object_with_every_key(session, capsys):
    assert main(["train", "mlp:64", "d", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(record) >= KEYS
    assert set(record["breakdown"]) == {"load", "read", "compute", "encode", "send", "wait", "apply", "idle"}
    assert set(record["bytes"]) == {"pushed", "pulled"}
    assert set(record["staleness"]) == {"max", "mean"}


def test_json_has_no_word_for_nan(session, capsys):
    session.record = replace(session.record, loss=float("nan"), objective=float("inf"))
    assert main(["train", "mlp:64", "d", "--json", "--quiet"]) == 0

    def refuse(word):
        raise AssertionError(word)

    record = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=refuse)
    assert record["loss"] is None
    assert record["objective"] is None


def test_quiet_says_one_line(session, capsys):
    assert main(["train", "mlp:64", "d", "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[0].startswith("loss 0.11, validation 0.2")
    assert len(told.out.splitlines()) == 1
    assert session.yardsticks == []


def test_quiet_json_says_only_the_object(session, capsys):
    assert main(["train", "mlp:64", "d", "--quiet", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_verdict_is_measured_on_as_many_threads(session, capsys, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    session.record = replace(session.record, samples_per_second=50_000.0, compile_seconds=0.8)
    assert main(["train", "mlp:64", "d", "--design", "ps", "-w", "2"]) == 0
    assert session.yardsticks == [(2, 0.5)]
    assert "verdict  it pays: 50.0k rows/s against 1.00k rows/s of one process with 2 threads (50.00×)" in (
        capsys.readouterr().out
    )


def test_a_dry_run_starts_nothing(session, capsys, tmp_path):
    assert main(["train", "mlp:64", "d", "--design", "ps", "-w", "2", "--dry-run"]) == 0
    told = capsys.readouterr().out
    for part in ("data ", "plan ", "stop ", "memory   about", "nothing was started"):
        assert part in told
    assert session.jobs == []
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_as_json(session, capsys):
    assert main(["train", "logistic", "d", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["plan"]["optimizer"] == "lbfgs"
    assert said["plan"]["l2"] == pytest.approx(0.01)
    assert said["memory"]["total"] == sum(value for name, value in said["memory"].items() if name != "total")


def test_runs_are_numbered_and_never_overwritten(session, tmp_path):
    for _ in range(3):
        assert main(["train", "logistic", "d", "-q"]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [f"logistic-sequential-000{n}" for n in (1, 2, 3)]


def test_out_must_be_new_or_empty(session, capsys, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    assert main(["train", "logistic", "d", "-q", "-o", str(full)]) == 0
    (full / "plan.json").write_text("{}")
    assert main(["train", "logistic", "d", "-o", str(full)]) == 2
    assert "is not empty and nothing is overwritten" in capsys.readouterr().err
    assert main(["train", "logistic", "d", "--run", str(full / "plan.json")]) == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunError("the loss is not finite"), 1),
        (ProgramError("loss() raised", "Traceback: remote"), 1),
        (LostError("server-0 died and nobody held its shard"), 3),
    ],
)
def test_a_run_that_fails_says_why_in_one_line(session, capsys, error, code):
    session.error = error
    assert main(["train", "mlp:64", "d"]) == code
    told = capsys.readouterr()
    assert f"trivium: {error}" in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_debug_shows_the_traceback_and_the_remote_one(session, capsys):
    session.error = ProgramError("loss() raised", "remote line 7")
    assert main(["train", "mlp:64", "d", "--debug"]) == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "remote line 7" in told


def test_a_run_that_fails_with_a_checkpoint_says_how_to_go_on(session, capsys, tmp_path):
    def write(live):
        (tmp_path / "here" / "checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / "checkpoints" / "clock-5").write_text("x")
        (tmp_path / "here" / "plan.json").write_text("{}")

    session.during, session.error = write, LostError("both copies are gone")
    assert main(["train", "mlp:64", "d", "-o", "here"]) == 3
    assert "next     trivium resume here" in capsys.readouterr().err


def test_a_run_that_was_refused_leaves_no_folder(session, capsys, tmp_path):
    session.error = PlanError("this program cannot be trained so")
    assert main(["train", "mlp:64", "d"]) == 2
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_order_with_its_exit_code(session, capsys, signum, code):
    sent = []

    def send(live):
        if not sent:
            sent.append(os.kill(os.getpid(), signum))

    session.during = send
    assert main(["train", "mlp:64", "d"]) == code
    told = capsys.readouterr()
    assert session.lives[0].reasons == ["interrupted"]
    assert "stopping: checkpoint first" in told.err
    assert "rows/s); interrupted" in told.out
    assert "trivium resume runs/mlp-64-sequential-0001" in told.out
    assert "verdict" not in told.out


def test_a_second_signal_kills(session, capsys):
    session.during, session.deaf = (lambda _: os.kill(os.getpid(), signal.SIGINT)), True
    assert main(["train", "mlp:64", "d"]) == 130
    assert session.lives[0].killed
    assert "trivium: ended by SIGINT" in capsys.readouterr().err
