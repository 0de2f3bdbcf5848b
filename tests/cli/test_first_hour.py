"""The first hour with real processes: known objectives, the same bits from files and under a bound of memory."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trivium.cli import main

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def record(capsys, line):
    code = main([*line.split(), "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "goal"), [("a9a", 32_561, 10_528.5724), ("agaricus.txt.train", 6_513, 98.4797)]
)
def test_logistic_regression_comes_to_the_known_objectives(capsys, name, rows, goal):
    """l2 = 1/n by default, which is C = 1: C·Σ loss + ‖w‖²/2 is n times the objective."""
    found = record(capsys, f"train logistic {SHARED / 'libsvm' / name}")
    assert found["objective"] * rows == pytest.approx(goal, rel=1e-5)


@pytest.mark.data
def test_census_is_answered_as_it_is_known_to_be(capsys):
    a9a = SHARED / "libsvm" / "a9a"
    found = record(capsys, f"train logistic {a9a} --features 123 --test {a9a}.t --metric accuracy,log_loss,auc -o run")
    assert found["metrics"] == pytest.approx(
        {"test_accuracy": 0.84976, "test_log_loss": 0.32406, "test_auc": 0.90222}, abs=1e-4
    )
    assert main(["evaluate", "run", f"{a9a}.t", "--metric", "auc", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["metrics"]["auc"] == pytest.approx(0.90222, abs=1e-4)


@pytest.fixture
def people(tmp_path):
    draw = np.random.default_rng(3)
    x = draw.normal(size=(6000, 5)).round(4)
    frame = pd.DataFrame(x, columns=list("abcde")).assign(town=draw.choice(["Rome", "Oslo"], 6000))
    frame["label"] = np.where(x[:, 0] + (frame["town"] == "Rome") > 0.3, "yes", "no")
    frame.to_csv(tmp_path / "people.csv", index=False)


@pytest.mark.parametrize("bound", ["", "--memory-per-worker 900M"])
@pytest.mark.usefixtures("people")
def test_rows_from_files_give_the_same_bits_for_any_number_of_workers(capsys, bound):
    line = (
        "train logistic people.csv --prep standardize --valid 0.2 --optimizer adam --lr 0.01 --batch-size 64 --epochs 2"
    )
    ways = ("--design sequential", "--design ps -w 2", "--design ps -w 3", "--design allreduce -w 2")
    found = {record(capsys, f"{line} --reproducible {way} {bound}")["params_sha256"] for way in ways}
    assert len(found) == 1


def test_rows_in_strides_give_the_same_bits_for_any_number_of_workers(capsys):
    """A quarter of the bound is less than these 72 MB of rows: they are taken in windows."""
    line = "train logistic synthetic:300000x60 --optimizer sgd --lr 0.1 --batch-size 4096 --epochs 1 --valid 0"
    ways = ("--design ps -w 1", "--design ps -w 2", "--design allreduce -w 2")
    bound = "--reproducible --memory-per-worker 250M"
    found = [record(capsys, f"{line} {way} {bound}") for way in ways]
    assert len({one["params_sha256"] for one in found}) == 1
    assert found[0]["train_accuracy"] > 0.8
    free = record(capsys, f"{line} --design ps -w 2 --reproducible")
    assert free["params_sha256"] != found[0]["params_sha256"]  # another order of the rows


def test_who_needs_more_memory_than_it_may_have_is_ended_and_told(capsys):
    line = "train mlp:64 synthetic:20000x2000 --design ps -w 2 --epochs 50 --batch-size 1024 --valid 0"
    code = main([*line.split(), "--memory-per-worker", "130M"])
    out, err = capsys.readouterr()
    assert code == 3, out + err
    assert "memory_per_worker" in err or "memory-per-worker" in err
