"""The command with real processes: designs agree to the bit, signals end in order, a run goes on where it stopped."""

import json
import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "import sys; from trivium.cli import main; sys.exit(main())"]
SGD = "logistic synthetic:4000x10:3 --optimizer sgd --lr 0.1 --batch-size 64 --lanes 4 --seed 5 --reproducible"


def run(words, cwd):
    return subprocess.run([*COMMAND, *words.split()], check=False, cwd=cwd, capture_output=True, text=True, timeout=100)


def record_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_designs_agree_to_the_bit_and_the_report_compares_them(tmp_path):
    designs = ("sequential", "ps --workers 2")
    records = [record_of(run(f"train {SGD} --epochs 2 --json --quiet --design {one}", tmp_path)) for one in designs]
    assert records[0]["params_sha256"] == records[1]["params_sha256"]
    assert [record["workers"] for record in records] == [1, 2]
    assert all(abs(sum(record["breakdown"].values()) - 1) < 0.01 for record in records)
    table = run("report runs/logistic-sequential-0001 runs/logistic-ps-0001", tmp_path).stdout
    assert table.count(records[0]["params_sha256"][:8]) == 2


def test_ctrl_c_saves_and_the_run_goes_on_to_the_same_bits(tmp_path):
    line = f"train {SGD} --epochs 150 --valid 0.1 --design allreduce --workers 2 --out "
    whole = record_of(run(line + "whole --json --quiet", tmp_path))
    words = [*COMMAND, *(line + "cut --json").split()]
    cut = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = next(told for told in cut.stderr if re.search(r"epoch \d", told))  # a line of progress: training goes on
    assert "validation" in told
    cut.send_signal(signal.SIGINT)
    out, err = cut.communicate(timeout=30)
    assert cut.returncode == 130, err
    assert "Traceback" not in err
    assert "trivium resume cut" in out + err
    assert "cut: interrupted" in run("report cut", tmp_path).stdout
    resumed = record_of(run("resume cut --json --quiet", tmp_path))
    assert resumed["params_sha256"] == whole["params_sha256"]


ROWS = "age,city,clicked\n" + "".join(
    f"{20 + i % 50},{'ab'[i % 2]},{'yes' if i % 50 > 20 else 'no'}\n" for i in range(300)
)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "odd.csv").write_text(ROWS + "old,a,yes\n33,b\n")
    return tmp_path


def test_a_csv_is_trained_on_with_metrics_of_the_test_rows(rows):
    line = "train logistic rows.csv --label clicked --test rows.csv --prep standardize --metric auc,f1 --json --quiet"
    record = record_of(run(line, rows))
    assert set(record["metrics"]) == {"test_auc", "test_f1"}
    assert record["metrics"]["test_auc"] > 0.99
    assert record["design"] == "sequential"


def test_bad_rows_are_passed_over_and_written_down(rows):
    line = "train logistic odd.csv --label clicked --types age=number --max-bad-rows"
    assert run(f"{line} 1", rows).returncode == 2
    done = run(f"{line} 2 -o here", rows)
    assert done.returncode == 0, done.stderr
    assert "the first: odd.csv, line 302" in done.stderr
    told = (rows / "here" / "bad-rows.tsv").read_text().splitlines()
    assert told[0].split("\t") == ["file", "line", "why", "text"]
    assert [one.split("\t")[1] for one in told[1:]] == ["302", "303"]


def test_several_workers_keep_to_their_memory(rows):
    line = "train logistic rows.csv --label clicked -w 2 --memory-per-worker 1G --json --quiet"
    record = record_of(run(line, rows))
    assert (record["design"], record["workers"]) == ("ps", 2)


def test_a_run_on_a_csv_goes_on(rows):
    line = "train logistic rows.csv --label clicked --optimizer sgd --lr 0.01 --epochs 20000 --valid 0.1 --patience 0"
    words = [*COMMAND, *f"{line} --format csv --reproducible --out cut".split()]
    interrupt(words, rows)
    assert (rows / "cut" / "reading.json").exists()
    interrupt([*COMMAND, "resume", "cut"], rows)


def interrupt(words, cwd):
    """Start a command, interrupt it once it trains."""
    live = subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert next(told for told in live.stderr if re.search(r"epoch \d", told))
    live.send_signal(signal.SIGINT)
    _, err = live.communicate(timeout=30)
    assert live.returncode == 130, err
