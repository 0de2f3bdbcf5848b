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
