"""How long the first hour's steps take, each beside its peer in the same run.

    python -m benchmarks.first_hour [NAME…] [--json FILE]

Reading beside pyarrow, the cache, starting the command, rows that do not fit memory beside rows that do, estimators and
searches beside scikit-learn, known objectives. Medians of several turns, taken in turns. Needs scikit-learn only; the
shared data folder where there is one. ``--json FILE`` writes what was found.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TURNS = 7


@dataclass(frozen=True)
class Found:
    """One line: what was measured, ours, the peer's, and how ours relates to it (times, or share)."""

    name: str
    ours: float
    peer: float | None
    unit: str
    relation: float | None
    wanted: str
    note: str = ""


def in_turns(ours: Callable[[], Any], peer: Callable[[], Any], turns: int = TURNS) -> tuple[float, float]:
    """Median seconds of both, measured in turns after one call each."""
    ours(), peer()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for side, work in zip(seconds, (ours, peer), strict=True):
            start = time.perf_counter()
            work()
            side.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def against(name: str, ours: Callable[[], Any], peer: Callable[[], Any], wanted: str, note: str = "") -> Found:
    """Seconds of both, and how many times the peer's time ours is."""
    a, b = in_turns(ours, peer)
    return Found(name, a, b, "s", a / b, wanted, note)


def reading(folder: Path) -> Iterator[Found]:
    """A table of numbers, 100 MB as CSV: read, and learned from in one pass, beside pyarrow's reading and that pass."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    import trivium as tv
    from trivium.data.cache import Cache
    from trivium.running.inline import run_inline
    from trivium.running.job import Job

    x = np.random.default_rng(0).normal(size=(400_000, 30)).round(5)
    columns = {f"f{i}": x[:, i] for i in range(30)} | {"label": (x[:, 0] > 0).astype(int)}
    csv.write_csv(pa.table(columns), folder / "t.csv")
    parquet.write_table(pa.table(columns), folder / "t.parquet", row_group_size=50_000)

    def one_pass(rows: Any) -> None:
        job = Job(
            tv.models.logistic(),
            rows,
            tv.Plan("sequential"),
            stopping=tv.Stopping(epochs=1),
            optimizer=tv.optim.adam(0.01),
            batch_size=4096,
        )
        run_inline(job, looks=False)

    def fresh(path: Path) -> Any:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return tv.read(path, cache=Cache(folder / "cache")).table()

    def theirs(read: Callable[[Path], Any], path: Path, table: Any) -> None:
        read(path)
        one_pass(table)

    def ours(path: Path) -> None:
        one_pass(fresh(path))

    for name, read in {"t.csv": csv.read_csv, "t.parquet": parquet.read_table}.items():
        path = folder / name
        table = fresh(path)
        size = f"{path.stat().st_size / 1e6:.0f} MB"
        yield against(f"{name}: to the cache", partial(fresh, path), partial(read, path), "–", size)
        note = "peer: pyarrow's reading, then our pass"
        peer = partial(theirs, read, path, table)
        yield against(f"{name}: learned from in one pass", partial(ours, path), peer, "≤ 1.3", note)


def cached(folder: Path) -> Iterator[Found]:
    """Film reviews for the second time."""
    if not DATA.is_dir():
        return
    import trivium as tv
    from trivium.data.cache import Cache

    path, cache = DATA / "imdb" / "imdb_train.libsvm.gz", Cache(folder / "imdb")

    def again() -> None:
        tv.read(path, cache=cache).table()

    first, second = in_turns(lambda: tv.read(path, cache=False).table(), again)
    yield Found("IMDB from the cache", second, first, "s", second / first, "< 0.3 s", "peer: parsed anew")


def starting(folder: Path) -> Iterator[Found]:
    """Wall time of a process."""
    python = sys.executable
    for name, command, wanted in (
        ("import trivium", [python, "-c", "import trivium"], "< 0.3 s"),
        ("trivium --help", [str(Path(python).with_name("trivium")), "--help"], "< 0.5 s"),
    ):
        a, b = in_turns(
            partial(subprocess.run, command, check=True, capture_output=True, timeout=60),
            partial(subprocess.run, [python, "-c", "pass"], check=True, timeout=60),
        )
        yield Found(name, a, b, "s", None, wanted, "peer: an empty interpreter")


def out_of_core(folder: Path) -> Iterator[Found]:
    """Rows a second under a bound of memory, beside rows in memory; and whole passes beside reading the file."""
    gigabytes = float(os.environ.get("GIGABYTES", "2"))
    rows = int(gigabytes * 2**30 / 240)
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "xdg")}

    def train(number: int, *more: str) -> dict[str, Any]:
        out = folder / f"run{number}"
        shutil.rmtree(out, ignore_errors=True)
        command = [
            str(Path(sys.executable).with_name("trivium")), "train", *more,
            "--valid", "0", "--json", "-q", "-o", str(out), "--design", "ps", "-w", "2", "--pin",
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=1800)
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]

    large, small = f"synthetic:{rows}x60", "synthetic:3000000x60"
    net = ("mlp:128", large, "--epochs", "1", "--batch-size", "1024", "--max-time", "20")
    tight, easy = ("--memory-per-worker", "1G"), ("mlp:128", small, *net[2:])
    train(0, "logistic", large, "--max-iter", "1")
    speeds = {"tight": list[float](), "easy": list[float]()}
    for turn in range(3):
        speeds["tight"].append(train(2 * turn, *net, *tight)["samples_per_second"])
        speeds["easy"].append(train(2 * turn + 1, *easy)["samples_per_second"])
    a, b = (statistics.median(side) for side in speeds.values())
    yield Found(
        f"mlp:128, {gigabytes:g} GB of rows, 1 GiB a worker", a, b, "rows/s", a / b, "≥ 0.8", "peer: 0.7 GB in memory"
    )
    full = ("logistic", large, "--max-iter", "4", "--tol", "0", *tight)
    record = train(9, *full)
    ours = rows * 244 * record["clocks"] / record["seconds"]
    (files,) = [path for path in (folder / "xdg" / "trivium" / "rows").glob("*/x.bin") if path.stat().st_size > 1e9]
    start = time.perf_counter()
    with files.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        while file.readinto(buffer):
            pass
    peer = files.stat().st_size / (time.perf_counter() - start)
    yield Found(
        "full-batch passes over them", ours / 1e9, peer / 1e9, "GB/s", ours / peer, "≥ 0.8", "peer: read(2), one thread"
    )


def estimators(folder: Path) -> Iterator[Found]:
    """Fits of small sets beside scikit-learn's, and whether both answer alike."""
    from sklearn import datasets, linear_model, neural_network
    from sklearn.preprocessing import scale

    from trivium import learn

    warnings.simplefilter("ignore")
    cancer, digits = datasets.load_breast_cancer(return_X_y=True), datasets.load_digits(return_X_y=True)
    diabetes = datasets.load_diabetes(return_X_y=True)
    exact = {"max_iter": 20_000, "tol": 1e-8}
    logistic, scaled = "LogisticRegression", (scale(cancer[0]), cancer[1])
    cases: list[tuple[str, str, Any, Any, dict[str, Any], dict[str, Any] | None]] = [
        ("breast cancer", logistic, linear_model, cancer, {}, exact),
        ("breast cancer scaled", logistic, linear_model, scaled, {}, exact),
        ("digits", logistic, linear_model, digits, {}, exact),
        ("diabetes", "Ridge", linear_model, diabetes, {}, None),
        ("diabetes", "Lasso", linear_model, diabetes, {"alpha": 0.1}, None),
        ("digits", "MLPClassifier", neural_network, digits, {"random_state": 0, "max_iter": 30}, {}),
        ("digits", "SGDClassifier", linear_model, digits, {"random_state": 0}, {}),
        ("breast cancer scaled", "LinearSVC", __import__("sklearn.svm").svm, scaled, {}, {}),
    ]
    for name, kind, home, (x, y), options, longer in cases:
        mine, theirs = getattr(learn, kind)(**options), getattr(home, kind)(**options)
        found = against(f"{kind}, {name}", partial(mine.fit, x, y), partial(theirs.fit, x, y), "≤ 1.5")
        note = ""
        if longer is not None:
            answers = getattr(home, kind)(**{**options, **longer}).fit(x, y).predict(x)
            note = f"{np.mean(mine.predict(x) == answers):.2%} of the answers alike"
        yield Found(**{**asdict(found), "note": note})


def search(folder: Path) -> Iterator[Found]:
    """A grid of 20 fits."""
    from sklearn import linear_model
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import scale

    from trivium import learn

    warnings.simplefilter("ignore")
    x, y = load_breast_cancer(return_X_y=True)
    x = scale(x)
    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    for jobs in (1, 2):
        mine = GridSearchCV(learn.LogisticRegression(), grid, n_jobs=jobs)
        theirs = GridSearchCV(linear_model.LogisticRegression(), grid, n_jobs=jobs)
        name = f"GridSearchCV(n_jobs={jobs}), 20 fits"
        yield against(name, partial(mine.fit, x, y), partial(theirs.fit, x, y), "≤ 1.5")


def objectives(folder: Path) -> Iterator[Found]:
    """C·Σ loss + ½‖w‖² at C = 1, from the estimator, beside the known minimum."""
    if not DATA.is_dir():
        return
    from sklearn.datasets import load_svmlight_file

    from trivium import learn

    for name, goal in (("a9a", 10_528.5724), ("agaricus.txt.train", 98.4797)):
        x, y = load_svmlight_file(str(DATA / "libsvm" / name))
        model = learn.LogisticRegression(max_iter=2000, tol=1e-8).fit(x, y)
        margins = np.where(y > 0, 1, -1) * model.decision_function(x)
        got = float(np.sum(np.logaddexp(0, -margins)) + 0.5 * np.sum(model.coef_**2))
        yield Found(f"objective of {name}", got, goal, "", got / goal - 1, "within 1e-5")


MEASURES = {one.__name__: one for one in (reading, cached, starting, estimators, search, objectives, out_of_core)}


def main() -> None:
    names = [word for word in sys.argv[1:] if word in MEASURES] or list(MEASURES)
    lines = []
    print(f"{'what':<52}{'ours':>12}{'peer':>12}  {'ratio':>8}  wanted")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for name in names:
            for found in MEASURES[name](Path(folder)):
                lines.append(found)
                peer = f"{found.peer:12.4g}" if found.peer is not None else f"{'–':>12}"
                ratio = f"{found.relation:8.3g}" if found.relation is not None else f"{'–':>8}"
                print(
                    f"{found.name:<52}{found.ours:12.4g}{peer}  {ratio}  {found.wanted:<12} {found.unit} {found.note}",
                    flush=True,
                )
    if "--json" in sys.argv:
        about = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(
            json.dumps(
                {**about, "cores": len(os.sched_getaffinity(0)), "found": [asdict(one) for one in lines]}, indent=1
            )
        )


if __name__ == "__main__":
    main()
