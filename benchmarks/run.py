"""Time us and the peers beside us in the same hour, on the same cores: ``python -m benchmarks.run [NAME …]``.

Rules
-----
* Each side is a process of its own that takes its own time and prints one JSON line; nothing else runs beside it.
* Sides take turns, round after round, so that a machine that grows hot or busy does so for all. The figure of a side
  is the median over rounds; the least and the most are kept in the file.
* All are kept on the same cores. A busy machine is said so: the load before each round is part of the result.
* A side that is missing, fails or runs too long is shown as skipped, with the reason, and never stops the rest.

What it found goes to ``benchmarks/results/<date>.json``. This is not a test: no figure makes it fail.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import measure
from benchmarks.registry import BENCHMARKS, Benchmark, Side, pick

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Seen:
    """What the rounds found of one side."""

    values: list[float] = field(default_factory=list)
    unit: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""

    @property
    def figure(self) -> float | None:
        """The median; None for a side that was skipped."""
        return statistics.median(self.values) if self.values else None


def run_side(side: Side, limit: float) -> dict[str, Any]:
    """One run of one side: ``{value, unit, …}``, or ``{skipped: reason}``."""
    if not side.python.exists():
        return {"skipped": f"{side.venv} is missing; make peers installs it"}
    command = [str(side.python), "-W", "ignore", "-m", side.module, side.case]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"skipped": f"ran longer than {limit:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip() or "no word of why").splitlines()[-1]
        return {"skipped": f"exit {done.returncode}: {last}"}
    found = json.loads(lines[-1])
    case: dict[str, Any] = found["cases"].get(side.case, {"skipped": f"has no case {side.case!r} on this machine"})
    return {**case, "version": found["version"]}


def rounds(benchmark: Benchmark, count: int, limit: float, console: Console) -> dict[str, Seen]:
    """All sides of one benchmark in turn, ``count`` times; what is skipped once is not tried again."""
    seen = {side.label: Seen() for side in (*benchmark.ours, *benchmark.peers)}
    for number in range(count):
        for side in (*benchmark.ours, *benchmark.peers):
            one = seen[side.label]
            if one.skipped:
                continue
            if console.is_terminal:
                console.print(f"[dim]{benchmark.name}: {side.label}, {number + 1} of {count}[/dim]", end="\033[K\r")
            found = run_side(side, limit)
            one.skipped = str(found.pop("skipped", ""))
            one.unit = str(found.pop("unit", one.unit))
            if "value" in found:
                one.values.append(float(found.pop("value")))
            one.notes.update(found)
    return seen


def table(benchmark: Benchmark, seen: dict[str, Seen]) -> Table:
    """Ours, then the peers: figure, how many times faster our best is, and what it is to be."""
    shown = Table("side", title=benchmark.title, title_justify="left", min_width=min(100, len(benchmark.title) + 2))
    for head in ("figure", "spread", "we are", "target", ""):
        shown.add_column(head, no_wrap=True)
    best = best_of(benchmark, seen)
    for side in (*benchmark.ours, *benchmark.peers):
        one = seen[side.label]
        if one.figure is None:
            shown.add_row(f"{side.label}\n  [dim]skipped: {escape(one.skipped)}[/dim]")
            continue
        spread = (max(one.values) - min(one.values)) / one.figure
        row = [side.label, f"{one.figure:,.4g} {one.unit}", f"{spread:.0%}"]
        if side in benchmark.peers and best is not None:
            ratio = benchmark.ratio(best, one.figure)
            row += [f"{ratio:.2f}×", "" if side.target is None else f"{side.target:g}×", verdict(ratio, side.target)]
        shown.add_row(*row)
    return shown


def best_of(benchmark: Benchmark, seen: dict[str, Seen]) -> float | None:
    """The best figure among our sides."""
    figures = [figure for side in benchmark.ours if (figure := seen[side.label].figure) is not None]
    if not figures:
        return None
    return max(figures) if benchmark.faster == "more" else min(figures)


def verdict(ratio: float, target: float | None) -> str:
    """Met, missed, or nothing where there is no target."""
    if target is None:
        return ""
    return "[green]met[/green]" if ratio >= target else "[red]missed[/red]"


def record(benchmark: Benchmark, seen: dict[str, Seen]) -> dict[str, Any]:
    """One benchmark for the file."""
    best = best_of(benchmark, seen)
    sides = {}
    for side in (*benchmark.ours, *benchmark.peers):
        one = seen[side.label]
        entry: dict[str, Any] = {"figure": one.figure, "unit": one.unit, "values": one.values, **one.notes}
        if one.skipped:
            entry["skipped"] = one.skipped
        if side in benchmark.peers and best is not None and one.figure is not None:
            entry |= {"ratio": benchmark.ratio(best, one.figure), "target": side.target}
        sides[side.label] = entry
    return {"title": benchmark.title, "better": benchmark.faster, "sides": sides}


def machine(cores: Sequence[int]) -> dict[str, Any]:
    """What the figures were taken on."""
    models = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": list(cores),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(one.name for one in BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--cores", type=int, default=2, help="cores that all sides are kept on (2)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that one run may take (300)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run, print the tables, write the file; 2 for an unknown name."""
    asked, console = options(arguments), Console()
    try:
        chosen = pick(asked.names)
    except KeyError as problem:
        console.print(problem.args[0])
        return 2
    measure.pin(asked.cores)
    now = datetime.datetime.now(datetime.UTC)
    whole: dict[str, Any] = {"date": now.isoformat(timespec="seconds"), "rounds": asked.rounds}
    whole["machine"] = machine(sorted(os.sched_getaffinity(0)))
    whole["benchmarks"] = {}
    if whole["machine"]["load"] > 0.5:
        console.print(
            f"[yellow]this machine is busy (load {whole['machine']['load']:.1f}): figures will be poor[/yellow]"
        )
    place = ROOT / "benchmarks" / "results" / f"{now:%Y-%m-%d-%H%M%S}.json"
    place.parent.mkdir(exist_ok=True)
    for benchmark in chosen:
        load = os.getloadavg()[0]
        seen = rounds(benchmark, asked.rounds, asked.limit, console)
        console.print(table(benchmark, seen))
        whole["benchmarks"][benchmark.name] = {"load_before": load, **record(benchmark, seen)}
        place.write_text(json.dumps(whole, indent=1) + "\n")
    console.print(f"written: {place.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
