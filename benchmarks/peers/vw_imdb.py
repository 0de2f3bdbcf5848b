"""Vowpal Wabbit: one pass of online logistic regression over the reviews, from plain text, parse included.

``vw -d train --loss_function logistic -b 18`` with its defaults (adaptive, normalised, invariant updates) on its own
text format, written beforehand. The process's start and the import are not counted. Run:
``.venv-vw/bin/python -m benchmarks.peers.vw_imdb``
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import vowpalwabbit
from vowpalwabbit import Workspace

from benchmarks import measure, workloads

OPTIONS = "--quiet --loss_function logistic -b 18"


def text(part: str) -> Path:
    """The reviews in Vowpal Wabbit's format."""
    path = workloads.scratch() / f"imdb_{part}.vw"
    if not path.exists():
        with workloads.imdb_text(part).open() as lines, path.open("w") as out:
            for line in lines:
                label, features = line.split(" ", 1)
                out.write(f"{int(label)} | {features}")
    return path


def train() -> Workspace:
    """One pass."""
    return Workspace(f"{OPTIONS} -d {text('train')}")


def main() -> None:
    """Median seconds of three passes, and the accuracy on the test reviews."""
    text("train")
    spent = [measure.seconds(lambda: train().finish()) for _ in range(3)]
    model = train()
    lines = text("test").read_text().splitlines()
    scores = np.array([model.predict(line) for line in lines])
    truth = np.array([int(line.split(" ", 1)[0]) for line in lines])
    accuracy = float(np.mean((scores > 0) == (truth > 0)))
    cases: measure.Cases = {"imdb-pass": {"value": statistics.median(spent), "unit": "s", "test_accuracy": accuracy}}
    measure.emit("vowpalwabbit", vowpalwabbit.__version__, cases)


if __name__ == "__main__":
    main()
