"""The command as a process: streams that are closed or broken, exit codes, and what is imported."""

import json
import os
import subprocess
import sys

import pytest

from trivium.cli import main
from trivium.testing.records import a_record

COMMAND = [sys.executable, "-c", "import sys; from trivium.cli import main; sys.exit(main())"]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(a_record().as_json()))
    return folder


def shell(line, cwd):
    command = " ".join(f"'{part}'" for part in COMMAND)
    words = ["bash", "-c", line.replace("trivium", command)]
    return subprocess.run(words, cwd=cwd, check=False, capture_output=True, text=True, timeout=60)


def test_help_names_every_command_and_option(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    for command in ["train", "inspect", "predict", "evaluate", "export", "report", "resume", "runs", "doctor", "demo"]:
        assert f" {command} " in told
    assert main(["train", "--help"]) == 0
    told = capsys.readouterr().out
    options = """
        test valid design workers threads pin consistency batch-size batch batch-per-worker epochs max-iter max-time tol
        patience optimizer lr l1 l2 target-loss seed lanes shards combine every reproducible out run dry-run json quiet
        label weight format features types missing prep dtype max-bad-rows no-cache regression metric config
        memory-per-worker
    """
    for option in options.split():
        assert f"--{option}" in told
    assert "trivium train logistic train.libsvm --test test.libsvm" in told


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trivium 0.")


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    told = capsys.readouterr()
    assert "Commands" in told.out + told.err
    assert "Try `" not in told.err


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["tain"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_a_pipe_that_nobody_reads_is_no_error(run):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        words = [*COMMAND, "report", str(run)]
        done = subprocess.run(words, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_are_no_error(run):
    assert shell(f"trivium report {run} 2>&-", run).stdout.startswith("run ")
    silent = shell(f"trivium report {run} >&-", run)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    lost = shell("trivium report missing 2>&-", run)
    assert (lost.returncode, lost.stdout, lost.stderr) == (2, "", "")


CSV = "age,city,clicked\n" + "".join(f"{20 + i},{'ab'[i % 2]},{i % 3 // 2}\n" for i in range(40))


def imported(words, cwd):
    """The modules that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], *words],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize("words", [["rows.csv", "--label", "clicked"], ["rows.libsvm"]], ids=["csv", "libsvm"])
def test_no_command_on_data_imports_scikit_learn(tmp_path, words):
    (tmp_path / "rows.csv").write_text(CSV)
    (tmp_path / "rows.libsvm").write_text("".join(f"{i % 2} 1:{i} 3:0.5\n" for i in range(40)))
    assert "sklearn" not in imported(["train", "logistic", *words, "--dry-run"], tmp_path)
    assert "sklearn" not in imported(["inspect", *words], tmp_path)


@pytest.mark.slow
def test_neither_training_nor_predicting_imports_scikit_learn(tmp_path):
    (tmp_path / "rows.csv").write_text(CSV)
    words = ["train", "logistic", "rows.csv", "--label", "clicked", "-o", "run", "--metric", "auc"]
    assert "sklearn" not in imported(words, tmp_path)
    assert "sklearn" not in imported(["predict", "run", "rows.csv", "--proba"], tmp_path)
    assert "sklearn" not in imported(["evaluate", "run", "rows.csv"], tmp_path)


def test_help_and_errors_import_nothing_heavy():
    script = """
import sys
from trivium.cli import main
main(["train", "--help"])
main(["train", "logistic", "d", "--design", "sequential", "-w", "2"])
sys.exit(str({"numpy", "jax", "numba", "sklearn", "scipy", "pyarrow", "pandas"} & set(sys.modules)))
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "set()"
