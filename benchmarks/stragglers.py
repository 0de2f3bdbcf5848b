"""What slow workers cost under each consistency model, with lanes that move and without: time to one loss.

    python -m benchmarks.stragglers [CASE…] [--rounds N] [--json FILE]

Four workers, one of them four times slower for good, or each step four times slower with probability 0.1; slow workers
wait, so that they take nothing from the others, who share what cores there are. The loss to reach is what BSP comes to
without any fault; the models run in turns, times are medians over rounds (start, load and evaluation apart), and are
set against BSP's under the same fault.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import workloads

WORKERS, ROUNDS, LONGEST = 4, 3, 120.0  # seconds that a run may take
MORE = 6  # times BSP's epochs may be used up on the way to the loss
STRAGGLERS = {"none": (), "permanent": ("slow:worker1:x4",), "transient": ("slow:each:x4@0.1",)}
RULES = (
    ("bsp", False), ("bsp", True), ("ssp:3", False), ("ssp:3", True), ("essp:3", False), ("asp", False),
    ("backup:1", False), ("backup:1", True),
)  # fmt: skip
WANTED = {  # ratios to BSP's time that are aimed at
    ("permanent", "ssp:3+balance"): "≤ 0.6",
    ("permanent", "backup:1"): "≤ 0.6",
    ("permanent", "backup:1+balance"): "≤ 0.6",
    ("permanent", "ssp:3"): "about 1",
    ("transient", "ssp:3"): "≤ 0.77",
}


@dataclass(frozen=True)
class Case:
    """A model, its data, and how it is trained by SGD; ``epochs`` of BSP lead to the loss that all must reach."""

    model: str
    data: Callable[[], Any]
    lr: float
    batch_size: int
    epochs: int


@dataclass(frozen=True)
class Reached:
    """One run: seconds of training (infinite where the loss was not reached), and what it took."""

    seconds: float
    epochs: float
    loss: float
    wait: float  # share of the workers' time
    staleness: float  # mean, in clocks


@dataclass(frozen=True)
class Found:
    """One line of the table: medians over rounds, and the ratio of seconds to BSP's."""

    case: str
    straggler: str
    rule: str
    seconds: float
    spread: float  # slowest round over fastest
    ratio: float
    epochs: float
    wait: float
    staleness: float
    wanted: str


Train = Callable[[Case, str, bool, tuple[str, ...], float], Reached]


def digits() -> Any:
    """MNIST's test images, 10,000 rows, as shares of white."""
    import trivium as tv

    x, y = workloads.mnist("t10k")
    return tv.from_arrays(x.astype("float32") / 255, y)


def adults() -> Any:
    """a9a, 32,561 rows."""
    import trivium as tv

    return tv.read(workloads.need("libsvm/a9a"))


CASES = {
    "mlp:128, MNIST's test images": Case("mlp:128", digits, lr=0.05, batch_size=512, epochs=40),
    "logistic, a9a": Case("logistic", adults, lr=0.03, batch_size=8192, epochs=800),
}


def named(rule: str, balance: bool) -> str:
    """How the table calls it."""
    return f"{rule}+balance" if balance else rule


class Runs:
    """Trains in ``folder``, with one session for all and each case's data read once."""

    def __init__(self, session: Any, folder: Path) -> None:
        self.session, self.folder, self.number = session, folder, 0
        self._data: dict[str, Any] = {}

    def __call__(self, case: Case, rule: str, balance: bool, inject: tuple[str, ...], target: float) -> Reached:
        """One run until ``target`` is reached, or (infinite) for the case's epochs."""
        import trivium as tv

        if case.model not in self._data:
            self._data[case.model] = case.data()
        self.number += 1
        bound = math.isfinite(target)
        goal = {"target_loss": target, "max_time": LONGEST} if bound else {"target_loss": -1.0}  # the same looks
        run = self.session.train(
            case.model,
            self._data[case.model],
            valid=0,
            epochs=case.epochs * (MORE if bound else 1),
            batch_size=case.batch_size,
            optimizer="sgd",
            lr=case.lr,
            plan=tv.Plan("ps", workers=WORKERS, consistency=rule, balance=balance, inject=inject),
            out=self.folder / f"run-{self.number}",
            progress=False,
            **goal,
        )
        record = run.record
        reached = not bound or record.stopped_by == "target_loss"
        last = record.history[-1] if record.history else {}
        return Reached(
            record.seconds if reached else math.inf,
            record.epochs,
            float(last.get("sample_loss", record.loss)),
            record.breakdown.get("wait", 0.0),
            record.staleness.get("mean", 0.0),
        )


def table(
    cases: Mapping[str, Case], stragglers: Mapping[str, tuple[str, ...]], rounds: int, train: Train
) -> Iterator[Found]:
    """Lines, a case and a kind of straggler at a time; BSP's first."""
    for name, case in cases.items():
        target = train(case, "bsp", False, (), math.inf).loss
        for straggler, inject in stragglers.items():
            runs: dict[tuple[str, bool], list[Reached]] = {rule: [] for rule in RULES}
            for _ in range(rounds):
                for rule, balance in RULES:
                    runs[rule, balance].append(train(case, rule, balance, inject, target))
            yield from _lines(name, straggler, runs)


def _lines(case: str, straggler: str, runs: Mapping[tuple[str, bool], Sequence[Reached]]) -> Iterator[Found]:
    base = _middle(one.seconds for one in runs["bsp", False])
    for (rule, balance), found in runs.items():
        seconds = _middle(one.seconds for one in found)
        fastest, slowest = (pick(one.seconds for one in found) for pick in (min, max))
        called = named(rule, balance)
        yield Found(
            case,
            straggler,
            called,
            seconds,
            slowest / fastest if math.isfinite(slowest) else math.inf,
            seconds / base if math.isfinite(seconds) else math.inf,
            _middle(one.epochs for one in found),
            _middle(one.wait for one in found),
            _middle(one.staleness for one in found),
            WANTED.get((straggler, called), "–"),
        )


def _middle(values: Iterable[float]) -> float:
    return statistics.median(values)


HEAD = (
    f"{'case':<30}{'straggler':<11}{'rule':<18}{'time':>9}{'ratio':>8}  {'wanted':<8}"
    f"{'epochs':>7}{'wait':>6}{'stale':>7}"
)


def row(found: Found) -> str:
    """One line as text."""
    time = f"{found.seconds:7.2f} s" if math.isfinite(found.seconds) else "  not yet"
    ratio = f"{found.ratio:8.2f}" if math.isfinite(found.ratio) else f"{'–':>8}"
    return (
        f"{found.case:<30}{found.straggler:<11}{found.rule:<18}{time}{ratio}  {found.wanted:<8}"
        f"{found.epochs:7.1f}{found.wait:6.0%}{found.staleness:7.2f}"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("cases", nargs="*", help="words of the cases' names; default: all")
    asked.add_argument("--rounds", type=int, default=ROUNDS)
    asked.add_argument("--json", type=Path)
    given = asked.parse_args()
    cases = {name: case for name, case in CASES.items() if not given.cases or any(word in name for word in given.cases)}
    if not cases:
        asked.error(f"no case has {' or '.join(given.cases)} in its name; there are: {'; '.join(CASES)}")
    lines = []
    print(f"{WORKERS} workers on {len(os.sched_getaffinity(0))} cores, medians of {given.rounds}\n{HEAD}", flush=True)
    import trivium as tv

    with tempfile.TemporaryDirectory() as folder, tv.Session(workers=WORKERS) as session:
        for found in table(cases, STRAGGLERS, given.rounds, Runs(session, Path(folder))):
            lines.append(found)
            print(row(found), flush=True)
    if given.json:
        about = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        told = {**about, "cores": len(os.sched_getaffinity(0)), "workers": WORKERS, "rounds": given.rounds}
        given.json.write_text(json.dumps({**told, "found": [_plain(one) for one in lines]}, indent=1))


def _plain(found: Found) -> dict[str, Any]:
    """What JSON can say: infinite is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(found).items()
    }


if __name__ == "__main__":
    main()
