"""The completion as a shell asks for it, and what ``--install-completion`` prints."""

import os
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-c", "import sys; from trivium.cli import main; sys.exit(main())"]


def offered(line):
    words = line.split(" ")
    about = {"_TRIVIUM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(COMMAND, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, **about})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("trivium in", ["inspect"]),
        ("trivium train log", ["logistic"]),
        ("trivium train --design ", ["allreduce", "auto", "ps", "sequential"]),
        ("trivium train --optimizer ad", ["adagrad", "adam", "adamw"]),
        ("trivium train --metric accuracy,f", ["accuracy,f1"]),
        ("trivium train --prep log1p,stan", ["log1p,standardize"]),
        ("trivium train --format pa", ["parquet"]),
        ("trivium export --to o", ["onnx"]),
    ],
)
def test_names_are_completed(line, some):
    assert set(some) <= set(offered(line))


def test_what_only_tests_use_is_not_offered():
    assert not {"null", "count"} & set(offered("trivium train "))


def test_the_completion_of_a_shell_can_be_had():
    done = subprocess.run(
        [*COMMAND, "--show-completion", "bash"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "_TRIVIUM_COMPLETE=complete_bash" in done.stdout
