"""Train one network by every design from Python, and see what two processes cost or bring.

Run: ``python examples/compare_designs.py``. Needs no data of its own; takes about half a minute at first.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import trivium as tv


def main() -> None:
    """One table: design, rows a second, validation accuracy, share of time in waiting."""
    data = tv.read("sklearn:digits")
    plans = [tv.Plan("sequential"), tv.Plan("allreduce", workers=2), tv.Plan("ps", workers=2)]
    with tempfile.TemporaryDirectory() as folder, tv.Session() as session:
        for plan in plans:
            out = Path(folder) / plan.design
            run = session.train("mlp:64", data, valid=0.2, epochs=20, plan=plan, out=out, progress=False)
            record = run.record
            accuracy, wait = record.valid_accuracy, record.breakdown["wait"]
            print(f"{plan.design:12}{record.samples_per_second:10,.0f} rows/s{accuracy:8.1%} right{wait:8.1%} waiting")


if __name__ == "__main__":
    main()
