"""``trivium demo``: the same two models by every design to the same loss, and a worker killed for real.

The data ship with scikit-learn (digits, breast cancer), so nothing is fetched. Models this small fit one core's cache:
the table is there to show where time goes and that the answers agree, and says by how much two processes do not pay.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli.follow import Followed, follow
from trivium.cli.screen import Screen
from trivium.cli.signals import Interrupted, Signals
from trivium.errors import RunError
from trivium.observe.figures import duration, loss, percent, rate
from trivium.observe.page import grid
from trivium.observe.progress import QuietDisplay
from trivium.observe.verdict import EQUAL
from trivium.plan import Plan, Stopping
from trivium.record import Progress, Record

if TYPE_CHECKING:
    from trivium.running.job import Job

__all__ = ["RACES", "Race", "demo", "verdict_of"]

WORKERS = 2
REPEATS = 2  # the first run finds everything cold; the better one counts
HEAD = (
    "model, data",
    "design",
    "to the loss",
    "start",
    "speed",
    "loss",
    "test",
    "compute",
    "wait",
    "send+apply",
    "load+idle",
)
SPARE = ("send+apply", "start", "load+idle", "loss")  # columns that go first where the terminal is narrow


@dataclass(frozen=True)
class Race:
    """One model on one data set, until ``target`` is reached on the training rows."""

    model: str
    data: str
    target: float
    epochs: int | None
    iterations: int | None


RACES = (
    Race("mlp:64", "sklearn:digits", target=0.1, epochs=300, iterations=None),
    Race("logistic", "sklearn:breast_cancer", target=0.07, epochs=None, iterations=100),
)
STEADY = Race("mlp:64", "sklearn:digits", target=0.0, epochs=120, iterations=None)  # long enough to be killed in


class Killer(QuietDisplay):
    """Kills worker 1 once a third of the clocks are done."""

    def __init__(self, clock: int) -> None:
        self.clock, self.live, self.killed = clock, None, None  # type: int, Any, int | None

    def progress(self, progress: Progress) -> None:
        """Kill once, at the first moment past ``clock``."""
        if self.killed is None and self.live is not None and progress.clock >= self.clock:
            self.killed = victim(self.live)
            os.kill(self.killed, signal.SIGKILL)


def victim(live: Any) -> int:
    """The process id of the last worker."""
    pids: dict[str, int] = live.pids
    return pids[max(name for name in pids if "worker" in name)]


def demo(as_json: bool) -> int:
    """Carry out ``trivium demo``; returns the exit code: 0 where all designs agree and every death was survived."""
    screen, began = Screen(), time.monotonic()
    records: list[Record] = []
    with Signals() as signals, tempfile.TemporaryDirectory(prefix="trivium-demo-") as folder:
        place = Path(folder)
        for race in RACES:
            records.extend(_race(race, place, screen, signals))
        screen.text(table(records, screen.width))
        screen.text(verdict_of(records))
        deaths = [_death(design, place, screen, signals) for design in ("allreduce", "ps")]
    for _, told in deaths:
        screen.text(told)
    screen.text(f"all of it took {duration(time.monotonic() - began)}; your own data: trivium train --help")
    if as_json:
        screen.json({"runs": [record.as_json() for record in records], "deaths": [told for _, told in deaths]})
    return 0 if all(fine for fine, _ in deaths) else 1


def _race(race: Race, place: Path, screen: Screen, signals: Signals) -> Iterator[Record]:
    alone = [Plan("sequential", threads=threads) for threads in dict.fromkeys((len(Plan().cores), 1))]
    for plan in (*alone, Plan("allreduce", workers=WORKERS), Plan("ps", workers=WORKERS)):
        screen.told([("demo", f"{race.model} on {race.data} by {plan.design} …")])
        runs = [_run(_job(race, plan, place), QuietDisplay(), signals) for _ in range(REPEATS)]
        yield min(runs, key=lambda record: record.seconds)


def _job(race: Race, plan: Plan, place: Path) -> Job:
    from trivium.data.read import part_of_test, read
    from trivium.observe.rundir import new_run
    from trivium.program.models import model
    from trivium.running.job import Job
    from trivium.running.recalling import rows_of

    rows = read(race.data)
    program = model(race.model)
    stopping = Stopping(epochs=race.epochs, max_iter=race.iterations, target_loss=race.target or None)
    return Job(
        program=program,
        data=rows,
        valid=0.0,
        test=rows_of(race.data, getattr(rows, "reading", None), like=rows, part=part_of_test(race.data)),
        plan=plan,
        stopping=stopping,
        optimizer=program.defaults.optimizer,
        batch_size=program.defaults.batch_size or "full",
        l1=0.0,
        l2=None,
        seed=0,
        out=new_run(place, plan.design),
    )


def _run(job: Job, display: QuietDisplay, signals: Signals) -> Record:
    from trivium.running import session

    live: Followed = session.begin(job, display)
    if isinstance(display, Killer):
        display.live = live
    ended = follow(live, signals, display)
    if ended.signum is not None:
        raise Interrupted(ended.signum)
    return ended.record


def _death(design: str, place: Path, screen: Screen, signals: Signals) -> tuple[bool, str]:
    """Run twice with ``reproducible``, the second time killing a worker; the parameters must agree to the bit."""
    screen.told([("demo", f"killing a worker of {design} …")])
    plan = Plan(design, workers=WORKERS, reproducible=True)
    calm = _run(_job(STEADY, plan, place), QuietDisplay(), signals)
    killer = Killer(calm.clocks // 3)
    try:
        struck = _run(_job(STEADY, plan, place), killer, signals)
    except RunError as error:
        return False, f"killed a worker of {design}: the run was lost: {error}"
    if killer.killed is None:
        return False, f"killed no worker of {design}: the run of {duration(calm.seconds)} was over before"
    same = calm.params_sha256 == struck.params_sha256
    bits = f"the same bits ({calm.params_sha256[:12]}…)" if same else "OTHER bits than the undisturbed run"
    times = f"{duration(struck.seconds)} against {duration(calm.seconds)} undisturbed"
    return same, f"killed worker process {killer.killed} of {design}: the run went on and ended with {bits}, {times}"


def table(records: list[Record], width: int = 200) -> str:
    """One line a run, at most ``width`` wide; shares are of the workers' wall time, launch and looks included."""
    cells: tuple[Callable[[Record], str], ...] = (
        lambda r: f"{r.model}, {_data_of(r)}",
        lambda r: f"{r.design} {'×'.join(('1', str(r.threads))) if r.design == 'sequential' else r.workers}",
        lambda r: duration(r.seconds) if "target" in r.stopped_by else "not reached",
        lambda r: duration(r.startup_seconds + r.compile_seconds),
        lambda r: rate(r.samples_per_second),
        lambda r: loss(r.loss),
        lambda r: "–" if r.test_accuracy is None else f"{r.test_accuracy:.1%}".replace("%", " %"),
        lambda r: percent(_share(r, "compute", "read")),
        lambda r: percent(_share(r, "wait")),
        lambda r: percent(_share(r, "encode", "send", "apply")),
        lambda r: percent(_share(r, "load", "idle")),
    )
    shown = dict(zip(HEAD, cells, strict=True))
    for spare in (None, *SPARE):
        shown.pop(spare or "", None)
        text = grid([[*shown], *([cell(record) for cell in shown.values()] for record in records)])
        if len(text.splitlines()[1]) <= width:
            break
    return text


def _share(record: Record, *kinds: str) -> float:
    return sum(record.breakdown.get(kind, 0.0) for kind in kinds)


def _data_of(record: Record) -> str:
    return next((race.data.removeprefix("sklearn:") for race in RACES if race.model == record.model), "data")


def verdict_of(records: list[Record]) -> str:
    """Who was fastest, model by model, and by how much; whether two processes paid, and the losses agree."""
    told = []
    for model in dict.fromkeys(record.model for record in records):
        own = [record for record in records if record.model == model]
        alone = max(
            (record for record in own if record.design == "sequential"), key=lambda record: record.samples_per_second
        )
        others = [record for record in own if record.design != "sequential"]
        ratios = {r.design: r.samples_per_second / max(alone.samples_per_second, 1e-9) for r in others}
        text = ", ".join(f"{design} {ratio:.2f}×" for design, ratio in ratios.items())
        paid = [design for design, ratio in ratios.items() if ratio > 1 + EQUAL]
        verdict = f"{' and '.join(paid)} paid" if paid else "two processes do not pay for so little work"
        spread = max(record.loss for record in own) - min(record.loss for record in own)
        told.append(f"{model}: rows/s against one process: {text}; {verdict}. Losses agree within {spread:.2g}")
    return "\n".join(told)
