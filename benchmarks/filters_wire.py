"""What filters, a bandwidth and copies do between two nodes: bytes, loss and time over real, encrypted links.

    python -m benchmarks.filters_wire [CASE…] [--rounds N] [--json FILE]

Two nodes on this machine that share no memory, a worker each. ``filters``: equal steps, so that bytes and losses can be
compared. ``bandwidth``: equal time over links of 50 Mbit/s each way; the loss that is reached. ``kkt``: IMDB under a
strong L1 penalty, full gradients, equal steps; the objective tells whether what was left out was needed. ``copies``:
what a second copy of each shard costs. The variants of a case run in turns; figures are medians over rounds. Times are
of training alone; encryption is the CPU time of the threads that encrypt, decrypt and move bytes, at both ends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import workloads

ROUNDS = 3
SLOW = ("bandwidth:50Mbit",)


@dataclass(frozen=True)
class Variant:
    """One way to run a case: settings of the plan; ``wanted``: what is aimed at, against the case's first variant."""

    name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    wanted: str = ""


@dataclass(frozen=True)
class Case:
    """A model and its data, how it is trained, and the variants; the first is what others are set against."""

    model: str
    data: Callable[[], Any]
    settings: Mapping[str, Any]
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Run:
    """One run: training seconds, epochs, final loss and objective; bytes of bulk without filters and as they went, and
    those of deltas alone; CPU seconds of the links and of all processes.
    """

    seconds: float
    epochs: float
    loss: float
    objective: float
    plain: float
    sent: float
    deltas: float  # share of the deltas' bytes that went
    links: float
    cpu: float


@dataclass(frozen=True)
class Found:
    """One line: medians over rounds, and ratios to the case's first variant."""

    case: str
    variant: str
    run: Run
    time_ratio: float
    loss_ratio: float
    objective_change: float
    wanted: str


def digits() -> Any:
    """MNIST's test images, 10,000 rows, as shares of white."""
    import trivium as tv

    x, y = workloads.mnist("t10k")
    return tv.from_arrays(x.astype("float32") / 255, y)


def reviews() -> Any:
    """IMDB's training reviews, 25,000 rows of 79,769 columns: log counts, rows of length 1."""
    import numpy as np
    from scipy.sparse import csr_matrix

    import trivium as tv

    rows = workloads.unit_log_rows(workloads.imdb())
    shape = (len(rows.y), workloads.IMDB_COLUMNS)
    matrix = csr_matrix((rows.values.astype(np.float32), rows.indices, rows.indptr), shape)
    return tv.from_arrays(matrix, (rows.y > 0).astype(np.int32))


NETWORK = {"optimizer": "sgd", "lr": 0.1, "batch_size": 256}
CASES = {
    "filters": Case("mlp:500", digits, NETWORK | {"epochs": 6}, (
        Variant("none"),
        Variant("float16", {"filters": "float16"}),
        Variant("int8", {"filters": "int8"}, "bytes ≤ 0.30, loss ± 2 %"),
        Variant("topk:0.01", {"filters": "topk:0.01"}),
        Variant("topk:0.01,float16", {"filters": "topk:0.01,float16"}),
    )),
    "bandwidth": Case("mlp:128", digits, NETWORK | {"epochs": 10_000, "max_time": 6.0}, (
        Variant("none", {"inject": SLOW}),
        Variant("25Mbit", {"inject": SLOW, "bandwidth": "25Mbit"}, "a lower loss"),
        Variant("10Mbit", {"inject": SLOW, "bandwidth": "10Mbit"}),
        Variant("int8", {"inject": SLOW, "filters": "int8"}),
        Variant("int8, 10Mbit", {"inject": SLOW, "filters": "int8", "bandwidth": "10Mbit"}),
    )),
    "kkt": Case("logistic", reviews, {
        "optimizer": "sgd", "lr": 4.0, "batch_size": "full", "epochs": 200, "l1": 5e-4, "l2": 0.0
    }, (
        Variant("none"),
        Variant("kkt", {"filters": "kkt"}, "bytes ≤ 0.10, objective ± 1e-4"),
        Variant("kkt:0.3", {"filters": "kkt:0.3"}),
    )),
    "copies": Case("mlp:500", digits, NETWORK | {"epochs": 6}, (
        Variant("1 copy", {"copies": 1}),
        Variant("2 copies", {"copies": 2}, "time ≤ 1.3"),
    )),
}  # fmt: skip

Train = Callable[[Case, Variant], Run]


class Runs:
    """Trains in ``folder``; each case's data is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self._data: dict[Callable[[], Any], Any] = {}

    def __call__(self, case: Case, variant: Variant) -> Run:
        """One run."""
        import trivium as tv

        if case.data not in self._data:
            self._data[case.data] = case.data()
        self.number += 1
        record = tv.train(
            case.model,
            self._data[case.data],
            valid=0,
            plan=tv.Plan("ps", workers=2, nodes=2, **variant.plan),
            out=self.folder / f"run-{self.number}",
            progress=False,
            **case.settings,
        ).record
        carried = record.carried
        assert carried is not None
        return Run(
            record.seconds,
            record.epochs,
            record.loss,
            record.objective,
            float(sum(carried.plain.values())),
            float(sum(carried.sent.values())),
            carried.sent["Delta"] / carried.plain["Delta"],
            carried.link_seconds,
            carried.cpu_seconds,
        )


def table(cases: Mapping[str, Case], rounds: int, train: Train) -> Iterator[Found]:
    """Lines, a case at a time; its first variant's first."""
    for name, case in cases.items():
        runs: dict[str, list[Run]] = {variant.name: [] for variant in case.variants}
        for _ in range(rounds):
            for variant in case.variants:
                runs[variant.name].append(train(case, variant))
        middles = {called: _middle(some) for called, some in runs.items()}
        first = middles[case.variants[0].name]
        for variant in case.variants:
            run = middles[variant.name]
            yield Found(
                name,
                variant.name,
                run,
                run.seconds / first.seconds,
                run.loss / first.loss,
                run.objective - first.objective,
                variant.wanted or "–",
            )


def _middle(runs: Sequence[Run]) -> Run:
    return Run(**{name: statistics.median(getattr(one, name) for one in runs) for name in asdict(runs[0])})


HEAD = (
    f"{'case':<11}{'variant':<19}{'time':>9}{'ratio':>7}{'epochs':>8}{'loss':>10}{'ratio':>8}{'objective':>12}"
    f"{'plain':>10}{'sent':>10}{'share':>7}{'deltas':>8}{'links CPU':>11}  wanted"
)


def row(found: Found) -> str:
    """One line as text."""
    run = found.run
    return (
        f"{found.case:<11}{found.variant:<19}{run.seconds:7.2f} s{found.time_ratio:7.2f}{run.epochs:8.1f}"
        f"{run.loss:10.5f}{found.loss_ratio:8.4f}{found.objective_change:+12.1e}"
        f"{run.plain / 1e6:7.0f} MB{run.sent / 1e6:7.0f} MB{run.sent / run.plain:7.3f}{run.deltas:8.3f}"
        f"{run.links:6.1f}/{run.cpu:4.0f}  {found.wanted}"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all", metavar="CASE")
    asked.add_argument("--rounds", type=int, default=ROUNDS)
    asked.add_argument("--json", type=Path)
    given = asked.parse_args()
    cases = {name: case for name, case in CASES.items() if not given.cases or name in given.cases}
    lines = []
    cores = len(os.sched_getaffinity(0))
    print(f"two nodes with a worker each on {cores} cores, medians of {given.rounds}\n{HEAD}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for found in table(cases, given.rounds, Runs(Path(folder))):
            lines.append(found)
            print(row(found), flush=True)
    if given.json:
        about = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        told = {**about, "cores": cores, "rounds": given.rounds, "found": [asdict(one) for one in lines]}
        given.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
