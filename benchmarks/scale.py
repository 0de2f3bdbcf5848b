"""How a parameter server of many workers would do: the real roles under the simulated host, beside published figures.

    python -m benchmarks.scale [--quick] [--out FOLDER]

Three tables, a JSON file and a picture:

* Null steps of one value and of 100 MB for 1 to 1,000 workers and 16 shards, beside Fig. 7 of Abadi et al.,
  *TensorFlow: a system for large-scale machine learning* (OSDI 2016: 16 servers, synchronous, medians).
* What the same would be with a second copy of every shard, and with links that encrypt.
* The share of the workers' time that goes into waiting where computing takes now longer, now shorter, under each
  consistency, beside what Li et al. found in *Scaling distributed machine learning with the parameter server* (OSDI
  2014, Fig. 10: 53 % and 32 % in two other systems, under 2 % in theirs).

Measured on this machine, in this run: what handling each kind of event takes the real roles (in Python; the
slowest tenth left out), what a message takes its sender and its receiver within a node (encoding, mailbox) and between
nodes (link with CURVE, over loopback), summing and copying arrays, encryption a byte. Assumed: the network, see
``NETWORK``. The paper names none for this figure; 16 Gbit/s is what its own 613 ms for 2 × 6.25 MB × 100 workers a
server come to, so that is what is taken here. What differs from their set-up is printed under the table.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.hops import Bytes, measured_bytes, measured_hops
from benchmarks.simulated import DRIVER, Desks, Hops, Seen, Shape, apart, build, spread
from benchmarks.svg import Line, bars, document, lines
from trivium.core.balance import Balancer
from trivium.core.membership import Members
from trivium.core.messages import Gradient
from trivium.core.role import Address, Work
from trivium.runtime.costs import Costs, Links

NETWORK = {"bandwidth": 2e9, "latency": 50e-6}  # bytes a second each way of a node, seconds; assumed
NODES = 16  # with shards, as many as TensorFlow's servers
WORKERS = (1, 10, 25, 50, 100, 200, 500, 1000)
MOST_APART = 200  # workers with a node each
STEPS = 6
MODELS = {"one value": 4.0 * NODES, "100 MB": 1e8}  # bytes; theirs fetched one value from each server
LI = {"System A": 0.53, "System B": 0.32, "theirs": 0.017}  # as the paper has it; less than 2 %
CLOCK = 0.1  # usual seconds of a worker's clock
IDLE_WORKERS, IDLE_NODES, LANES_EACH, IDLE_MODEL = 32, 8, 8, 4_000_000
IDLE_RULES = (
    ("bsp", False), ("bsp", True), ("ssp:1", False), ("ssp:3", False), ("ssp:3", True), ("asp", False),
    ("backup:8", False),
)  # fmt: skip
WAITING = f"""\
Waiting: {IDLE_WORKERS} workers on {IDLE_NODES} nodes, {LANES_EACH} lanes each, a clock takes {CLOCK:.1f} s of computing
times the variation, {IDLE_MODEL / 1e6:.0f} MB. Published (Li et al.): 53 % and 32 % in two others, 1.7 % in theirs,
at sparse logistic regression on 1,000 machines; how long computing took there was not said, so these are not the same
experiment. backup:8 may leave out as many lanes as one worker has; what it drops counts as worked, not as deltas."""
THEIRS = {  # milliseconds of a null step at 1 and at 100 workers, as the paper says in words
    "one value": {1: 1.8, 100: 8.8},
    "100 MB": {1: 147.0, 100: 613.0},
}
DIFFERENCES = """\
What differs from their set-up
  * Here a node has a server and workers ("spread"): it sums its workers' deltas before they leave it and its workers
    read one copy in place, so that a node's link carries the model once each way, however many workers there are.
    "apart" is their placement: 16 nodes with shards, each worker on a node of its own with its own link (and with the
    server process that every node has here). Between nodes all links go through one switch without contention.
  * Theirs is a null step of fetch, no computing, and update; so is this one. Their values are fetched on demand, here a
    server sends fresh ones to every node. Theirs ran on a shared cluster of real machines in C++; this is a simulation
    with the costs of Python roles measured on one machine.
  * Theirs neither encrypts nor keeps a second copy; both are in tables of their own.
  * Sparse lookups (theirs: 5 to 20 ms for 32 rows of 1 GB and 16 GB tables) are not simulated: see benchmarks of row
    tables, which measure them."""


# -- null steps -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Found:
    """Milliseconds of a null step, and the share of it for which the first server's role thread is busy."""

    model: str
    placement: str
    workers: int
    copies: int
    encrypted: bool
    ms: float
    busy: float
    theirs: float | None


@dataclass(frozen=True)
class Machine:
    """What was measured here."""

    hops: Hops
    memory: Bytes

    def bandwidth(self, encrypted: bool) -> float:
        """Bytes a second of a node's link each way: the network's, or what one thread encrypts, where that is less.

        ``memory.curve`` is for both ends; a node is one end each way, so that each way gets as much as one of both.
        """
        return min(NETWORK["bandwidth"], 1.0 / self.memory.curve) if encrypted else NETWORK["bandwidth"]


class Steps:
    """Simulates null steps; roles are timed once for each cluster, whatever the bytes."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._handling: dict[Shape, Any] = {}

    def __call__(self, model: str, placement: str, workers: int, copies: int = 1, encrypted: bool = False) -> Found:
        place = spread if placement == "spread" else apart
        shape = Shape(place(workers, NODES), lanes=workers, shards=NODES, steps=STEPS, copies=copies)
        if shape not in self._handling:
            self._handling[shape] = self._run(shape, model, encrypted, None)[0].means()
        host, seen = self._run(shape, model, encrypted, self._handling[shape])
        gaps = [b - a for a, b in itertools.pairwise(seen.steps)]
        ms = 1e3 * statistics.median(gaps)
        busy = host.load(seen.steps[0], seen.steps[-1])
        return Found(model, placement, workers, copies, encrypted, ms, busy, THEIRS[model].get(workers))

    def _run(self, shape: Shape, model: str, encrypted: bool, handling: Any) -> tuple[Desks, Seen]:
        shard, memory = MODELS[model] / NODES, self.machine.memory
        costs = Costs(
            gradient=0.0,
            apply=shard * memory.apply,
            add=shard * memory.add,
            show=shard * memory.copy,
            shard_bytes=int(shard),
        )
        links = Links(costs, self.machine.bandwidth(encrypted), NETWORK["latency"])
        host, seen = build(shape, cost=costs.seconds, arrival=links.arrival, handling=handling, hops=self.machine.hops)
        ended(host)
        return host, seen


def ended(host: Desks) -> None:
    """Run ``host`` to its end."""
    stop = host.run(max_events=20_000_000).stops.get(DRIVER)
    if stop is None or stop.error:
        raise SystemExit(f"a simulated run did not end well: {stop}")


def null_steps(steps: Steps, workers: Sequence[int]) -> Iterator[Found]:
    """One value and 100 MB, both placements, no second copy, no encryption."""
    for model in MODELS:
        for count in workers:
            for placement in ("spread", "apart"):
                if placement == "spread" or count <= MOST_APART:
                    yield steps(model, placement, count)


def dearer_steps(steps: Steps, workers: Sequence[int]) -> Iterator[Found]:
    """What a second copy costs, and encryption, where a node has a server and workers."""
    for model in MODELS:
        for count in workers:
            for copies, encrypted in ((1, True), (2, False), (2, True)):
                yield steps(model, "spread", count, copies, encrypted)


# -- waiting ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Idle:
    """One rule under one variation: the share of workers' time spent waiting, deltas a second beside bsp's."""

    variation: str
    rule: str
    wait: float
    speed: float
    moves: int


def variations(workers: Sequence[Address]) -> dict[str, Callable[[Address, random.Random], float]]:
    """By how much longer a worker's clock takes than the usual."""
    draw = random.Random(1)
    speeds = {one: draw.lognormvariate(0.0, 0.3) for one in workers}
    slow = workers[len(workers) // 2]
    return {
        "little: 1 + 0.1·Exp(1)": lambda _one, draw: 1 + 0.1 * draw.expovariate(1.0),
        "some: 1 + 0.5·Exp(1)": lambda _one, draw: 1 + 0.5 * draw.expovariate(1.0),
        "transient: ×4 in a tenth of all clocks": lambda _one, draw: 4.0 if draw.random() < 0.1 else 1.0,
        "machines differ: lognormal, σ 0.3, for good": lambda one, _draw: speeds[one],
        "one of 32 ×4 slower for good": lambda one, _draw: 4.0 if one == slow else 1.0,
    }


def idle(machine: Machine, clocks: int) -> Iterator[Idle]:
    """Every rule under every variation."""
    members = spread(IDLE_WORKERS, IDLE_NODES)
    for variation, factor in variations(members.workers).items():
        base = 0.0
        for rule, balanced in IDLE_RULES:
            wait, speed, moves = _idle(machine, members, rule, balanced, factor, clocks)
            base = base or speed
            yield Idle(variation, f"{rule} + balance" if balanced else rule, wait, speed / base, moves)


def _idle(
    machine: Machine, members: Members, rule: str, balanced: bool, factor: Callable[..., float], clocks: int
) -> tuple[float, float, int]:
    """Share of time waited, deltas a second, moves; counted from the first worker's third of clocks to its last."""
    lanes = IDLE_WORKERS * LANES_EACH
    costs = Costs(gradient=0.0, apply=1e-3, add=1e-4, show=1e-4, shard_bytes=IDLE_MODEL // IDLE_NODES)

    def cost(address: Address, work: Work, draw: random.Random) -> float:
        if type(work) is not Gradient:
            return costs.seconds(address, work, draw)
        return factor(address, draw) * CLOCK / LANES_EACH * sum(hi - lo for lo, hi in work.parts)

    links = Links(costs, NETWORK["bandwidth"], NETWORK["latency"])
    balancer = Balancer(lanes, members.workers, cooldown=1.0) if balanced else None
    shape = Shape(members, lanes, IDLE_NODES, clocks, rule)
    host, seen = build(shape, cost=cost, arrival=links.arrival, hops=machine.hops, balance=balancer)
    ended(host)
    start = min(ends[len(ends) // 3] for ends in seen.ends.values())
    end = min(ends[-1] for ends in seen.ends.values())  # then the first one has nothing more to do
    worked = sum(
        max(0.0, min(at, end) - max(at - spent, start))
        for one, ends in seen.ends.items()
        for at, spent in zip(ends, seen.spent[one], strict=False)
    )
    done = sum(n for ends in seen.done.values() for at, n in ends if start < at <= end)
    return 1 - worked / (end - start) / IDLE_WORKERS, done / (end - start), host.terms() - 1


# -- told -------------------------------------------------------------------------------------------------------------
def table(found: Sequence[Found]) -> str:
    """Lines by model and workers, a column a placement."""
    text = [f"{'model':<11}{'workers':>8}{'spread':>12}{'busy':>6}{'apart':>12}{'busy':>6}{'TensorFlow':>12}"]
    of = {(one.model, one.workers, one.placement): one for one in found}
    for model, workers, _ in (key for key in of if key[2] == "spread"):
        one, other = of[model, workers, "spread"], of.get((model, workers, "apart"))
        cells = f"{other.ms:9.2f} ms{other.busy:6.0%}" if other else f"{'–':>12}{'–':>6}"
        theirs = f"{one.theirs:9.1f} ms" if one.theirs else f"{'–':>12}"
        text.append(f"{model:<11}{workers:>8,}{one.ms:9.2f} ms{one.busy:6.0%}{cells}{theirs}")
    return "\n".join(text)


def dearer_table(found: Sequence[Found], plain: Sequence[Found]) -> str:
    """Milliseconds of steps with a second copy, with encryption, with both."""
    text = [f"{'model':<11}{'workers':>8}{'plain':>12}{'CURVE':>12}{'2 copies':>12}{'both':>12}"]
    base = {(one.model, one.workers): one.ms for one in plain if one.placement == "spread"}
    of = {(one.model, one.workers, one.copies, one.encrypted): one.ms for one in found}
    for model, workers in dict.fromkeys((one.model, one.workers) for one in found):
        kinds = [base[model, workers], *(of[model, workers, *kind] for kind in ((1, True), (2, False), (2, True)))]
        text.append(f"{model:<11}{workers:>8,}" + "".join(f"{ms:9.2f} ms" for ms in kinds))
    return "\n".join(text)


def idle_table(found: Sequence[Idle]) -> str:
    """Lines by variation and rule."""
    text = [f"{'variation of a clock':<46}{'rule':<18}{'waiting':>9}{'deltas/s':>10}{'moves':>7}"]
    text += [f"{one.variation:<46}{one.rule:<18}{one.wait:>9.1%}{one.speed:>9.2f}×{one.moves:>7}" for one in found]
    return "\n".join(text)


def picture(found: Sequence[Found], waits: Sequence[Idle]) -> str:
    """All of it as one SVG file."""
    drawn = []
    for model in MODELS:
        series = [
            Line(
                placement, [(one.workers, one.ms) for one in found if (one.model, one.placement) == (model, placement)]
            )
            for placement in ("spread", "apart")
        ]
        theirs = Line("TensorFlow, OSDI 2016", list(THEIRS[model].items()), theirs=True)
        drawn.append(lines(f"Null step, {model}", "workers", "ms", [*series, theirs]))
    groups: dict[str, dict[str, float]] = {"published (Li et al., OSDI 2014)": LI}
    for one in waits:
        groups.setdefault(one.variation, {})[one.rule] = one.wait
    drawn.append(bars("Share of the workers' time that is waited", groups))
    return document(drawn)


def main() -> None:
    """Measure, simulate, print, write."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--quick", action="store_true", help="up to 50 workers, fewer clocks")
    asked.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = asked.parse_args()
    gc.set_threshold(100_000, 50, 50)  # hundreds of thousands of events lie in the heap and hold no cycles
    workers = [count for count in WORKERS if count <= (50 if given.quick else WORKERS[-1])]
    began = time.perf_counter()
    machine = Machine(measured_hops(), measured_bytes())
    print(about(machine), flush=True)
    steps = Steps(machine)
    found = list(null_steps(steps, workers))
    print(f"\nA null step, {NODES} servers\n{table(found)}\n\n{DIFFERENCES}", flush=True)
    dearer = list(dearer_steps(steps, [count for count in workers if count in (10, 100, 1000)]))
    print(f"\nA null step, spread\n{dearer_table(dearer, found)}", flush=True)
    waits = list(idle(machine, 20 if given.quick else 45))
    print(f"\n{WAITING}\n{idle_table(waits)}", flush=True)
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s")
    told = {
        "machine": platform.processor() or platform.machine(), "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)), "seconds": seconds, "network": NETWORK,
        "hops": asdict(machine.hops), "bytes": asdict(machine.memory),
        "steps": [asdict(one) for one in (*found, *dearer)], "waiting": [asdict(one) for one in waits], "li": LI,
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "scale.json").write_text(json.dumps(told, indent=1) + "\n")
    (given.out / "scale.svg").write_text(picture(found, waits))


def about(machine: Machine) -> str:
    """What was measured and what is assumed."""
    hops, memory = machine.hops, machine.memory
    return (
        f"measured here: a message within a node {1e6 * (hops.near_send + hops.near_take):.1f} µs of both, and "
        f"{1e6 * hops.near_way:.0f} µs on its way; between nodes {1e6 * (hops.far_send + hops.far_take):.0f} µs and "
        f"{1e6 * hops.far_way:.0f} µs (software); a MB summed in {1e12 * memory.add:.0f} µs, stepped in "
        f"{1e12 * memory.apply:.0f} µs; a GB encrypted and decrypted in {1e9 * memory.curve:.2f} CPU seconds\n"
        f"assumed: {NETWORK['bandwidth'] * 8 / 1e9:.0f} Gbit/s each way, {1e6 * NETWORK['latency']:.0f} µs latency"
    )


if __name__ == "__main__":
    main()
