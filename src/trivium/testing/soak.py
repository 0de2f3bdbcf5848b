"""``python -m trivium.testing.soak --seeds 100000``: many seeds of the simulated host, on several processes.

``--nodes`` runs the scenarios of the parameter server over nodes instead of those of one node.

Writes what was run and what came of it as JSON. Exit code 1 if a seed failed; ``run(draw(seed))`` shows it again.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from trivium.runtime.faults import Fault
from trivium.runtime.simulated import Outcome
from trivium.testing import scenarios, scenarios_nodes
from trivium.testing.scenarios import DRIVER

__all__ = ["main", "soak"]

CHUNK = 500


def soak(seeds: range, *, nodes: bool = False) -> Counter[str]:
    """Run ``seeds``; counts of what they were, and ``failed: SEED MESSAGE`` for each that failed."""
    counts: Counter[str] = Counter()
    run = _run_nodes if nodes else _run
    for seed in seeds:
        try:
            run(counts, seed)
        except Exception as error:  # a seed may fail of anything; all are told at the end
            counts[f"failed: {seed} {type(error).__name__}: {str(error).splitlines()[0]}"] += 1
    return counts


def _run(counts: Counter[str], seed: int) -> None:
    scenario = scenarios.draw(seed)
    _count_drawn(counts, f"design {scenario.design}", scenario.faults)
    for again, (life, outcome) in enumerate(scenarios.lives(scenario)):
        _count(counts, again, life.driver.term, outcome)


def _run_nodes(counts: Counter[str], seed: int) -> None:
    scenario = scenarios_nodes.draw(seed)
    _count_drawn(counts, f"rule {scenario.rule}", scenario.faults)
    counts[f"nodes {scenario.nodes}"] += 1
    counts["scaled"] += len(scenario.scale)
    for again, (life, outcome) in enumerate(scenarios_nodes.lives(scenario)):
        _count(counts, again, life.driver.term, outcome)


def _count_drawn(counts: Counter[str], what: str, faults: Iterable[Fault]) -> None:
    counts["runs"] += 1
    counts[what] += 1
    counts.update(f"fault {type(fault).__name__}" for fault in faults)


def _count(counts: Counter[str], again: int, terms: int, outcome: Outcome) -> None:
    counts["events"] += outcome.events
    counts["terms"] += terms
    counts["resumed"] += again > 0
    stop = outcome.stops.get(DRIVER)
    counts["ended without its driver" if stop is None else "ended failed" if stop.error else "ended well"] += 1


def _revision() -> str:
    told = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return told.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m trivium.testing.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000, help="how many (default: 100,000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--nodes", action="store_true", help="the parameter server over nodes")
    parser.add_argument("--processes", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--out", type=Path, help="file for the result, as JSON")
    asked = parser.parse_args(arguments)
    if asked.seeds < 1 or asked.processes < 1:
        parser.error("--seeds and --processes must be 1 or more")
    counts: Counter[str] = Counter()
    began, revision = time.monotonic(), _revision()
    last = asked.first + asked.seeds
    chunks = [range(at, min(at + CHUNK, last)) for at in range(asked.first, last, CHUNK)]
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        under_way = [pool.submit(soak, chunk, nodes=asked.nodes) for chunk in chunks]
        for number, done in enumerate(as_completed(under_way), 1):
            counts += done.result()
            if number % 10 == 0 or number == len(chunks):
                seconds = time.monotonic() - began
                sys.stderr.write(f"{counts['runs']:,} runs, {counts['events']:,} events, {seconds:.0f} s\n")
    failures = sorted(name.removeprefix("failed: ") for name in counts if name.startswith("failed: "))
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "scenarios": "nodes" if asked.nodes else "one node",
        "seeds": [asked.first, last],
        "seconds": round(time.monotonic() - began, 1),
        "processes": asked.processes,
        "versions": {name: version(name) for name in ("trivium", "msgspec")} | {"python": platform.python_version()},
        "revision": revision,
        "counts": {name: counts[name] for name in sorted(counts) if not name.startswith("failed: ")},
        "failures": failures[:100],
    }
    text = json.dumps(result, indent=2) + "\n"
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
