"""How much staleness training tolerates: loss against rows at a staleness of 0, 3, 6 and 12 clocks, as a picture.

    python -m benchmarks.staleness [--rounds N] [--out FILE]

``mlp:128`` on MNIST's test images by SGD, four workers, one of them four times slower for good (it waits), lanes that
do not move: so the others are as far ahead as the rule lets them, and what they read lacks as many clocks of a quarter
of the rows. With momentum, too, which late steps add to. Rows, not seconds, are on the axis: what staleness costs in
steps, whatever it saves in waiting. Each look at the loss ends a lease, so that lanes meet there; between two of them
lie about a hundred clocks. Each line is the median of N runs with different seeds.

Prior art: Ho et al., *More effective distributed ML via a stale synchronous parallel parameter server* (NIPS 2013).
Where staleness acts like momentum: Mitliagkas, Zhang, Hadjis and Ré, *Asynchrony begets momentum* (Allerton 2016).
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import workloads

ROUNDS, WORKERS, EPOCHS, BATCH = 3, 4, 6, 64
OPTIMIZERS = (("sgd", 0.2), ("momentum", 0.05))  # and their rates
BOUNDS = (0, 3, 6, 12)
STRAGGLER = ("slow:worker1:x4",)
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "staleness.svg"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 680, 270, 64, 160, 22, 46
HEAD = 24
COLORS = ("#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7")  # told apart by most eyes (Okabe and Ito, 2008)
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.axis{stroke:#888}.grid{stroke:#8883}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)

Point = tuple[float, float]  # rows, loss


@dataclass(frozen=True)
class Line:
    """One optimizer and staleness: loss by rows, and the mean and greatest staleness of reads that there was."""

    optimizer: str
    bound: int
    points: tuple[Point, ...]
    mean: float
    most: float
    seconds: float


def digits() -> Any:
    """MNIST's test images, 10,000 rows, as shares of white."""
    import trivium as tv

    x, y = workloads.mnist("t10k")
    return tv.from_arrays(x.astype("float32") / 255, y)


def train(session: Any, data: Any, optimizer: tuple[str, float], bound: int, seed: int, out: Path) -> Line:
    """One run."""
    import trivium as tv

    record = session.train(
        "mlp:128",
        data,
        valid=0,
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=optimizer[0],
        lr=optimizer[1],
        seed=seed,
        target_loss=-1.0,  # never reached: it is what is looked at
        plan=tv.Plan("ps", workers=WORKERS, consistency=f"ssp:{bound}", balance=False, inject=STRAGGLER),
        out=out,
        progress=False,
    ).record
    rows = record.rows * record.epochs / record.clocks
    looks = [(one["clock"], one["sample_loss"]) for one in record.history if "sample_loss" in one]
    usual = looks[0][0]
    looks = [one for one in looks if one[0] % usual == 0]  # the last one may come right after another
    points = tuple((rows * clock, loss) for clock, loss in looks)
    return Line(optimizer[0], bound, points, record.staleness["mean"], record.staleness["max"], record.seconds)


def middle(lines: Sequence[Line]) -> Line:
    """The median of several runs, point by point."""
    points = tuple(
        (some[0][0], statistics.median(loss for _rows, loss in some))
        for some in zip(*(one.points for one in lines), strict=True)
    )
    means = statistics.median(one.mean for one in lines)
    seconds = statistics.median(one.seconds for one in lines)
    return Line(lines[0].optimizer, lines[0].bound, points, means, max(one.most for one in lines), seconds)


def measured(rounds: int, one: Callable[[tuple[str, float], int, int], Line]) -> list[Line]:
    """All optimizers and bounds in turns, ``one(optimizer, bound, seed)`` each; medians."""
    runs: dict[tuple[str, int], list[Line]] = {}
    for seed in range(rounds):
        for optimizer in OPTIMIZERS:
            for bound in BOUNDS:
                runs.setdefault((optimizer[0], bound), []).append(one(optimizer, bound, seed))
    return [middle(some) for some in runs.values()]


# -- the picture -------------------------------------------------------------------------------------------------------
def picture(lines: Sequence[Line], title: str) -> str:
    """Loss against rows as SVG: a panel an optimizer, a line a bound; the loss on a logarithmic scale."""
    names = list(dict.fromkeys(one.optimizer for one in lines))
    panels = [_panel([one for one in lines if one.optimizer == name]) for name in names]
    told = dict(OPTIMIZERS)
    parts = [
        f'<g transform="translate(0 {HEAD + i * HEIGHT})"><text x="{LEFT + 8}" y="{TOP - 6}">'
        f"{escape(name)}, rate {told.get(name, 0.0):g}</text>{panel}</g>"
        for i, (name, panel) in enumerate(zip(names, panels, strict=True))
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEAD + len(names) * HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style><text x="{LEFT}" y="16">{escape(title)}</text>'
        f"{''.join(parts)}</svg>\n"
    )


def _panel(lines: Sequence[Line]) -> str:
    ys = [loss for one in lines for _rows, loss in one.points if math.isfinite(loss)]
    if not ys:
        raise ValueError("there is no point to draw")
    last = max(rows for one in lines for rows, _loss in one.points)
    low, high = min(ys) / 1.05, max(ys) * 1.05

    def at(rows: float, loss: float) -> Point:
        across = LEFT + rows / last * (WIDTH - LEFT - RIGHT)
        share = math.log(high / loss) / math.log(high / low) if math.isfinite(loss) else 0.0
        return across, TOP + share * (HEIGHT - TOP - BOTTOM)

    parts = [_axes(last, low, high, at)]
    labels = _apart([at(*one.points[-1])[1] for one in lines])
    for color, one, label in zip(COLORS, lines, labels, strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in one.points))
        told = f"ssp:{one.bound}, reads {one.mean:.1f} stale"
        parts.append(
            f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{label + 4:.1f}" style="fill:{color}">{escape(told)}</text>'
        )
    return "".join(parts)


def _axes(last: float, low: float, high: float, at: Callable[[float, float], Point]) -> str:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in _marks(low, high):
        y = at(0.0, value)[1]
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for k in range(5):
        x = at(last * k / 4, high)[0]
        anchor = "end" if k == 4 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{floor + 18}" text-anchor="{anchor}">{last * k / 4:,.0f}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{floor + 38}" text-anchor="middle">rows</text>')
    return f'{"".join(parts)}<path class="axis" fill="none" d="M{LEFT},{TOP}V{floor}H{right}"/>'


def _marks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``.

    >>> _marks(0.08, 0.6)
    [0.1, 0.2, 0.5]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return [one for one in marks if low <= one <= high]


def _apart(ys: Sequence[float], least: float = 15.0) -> list[float]:
    """``ys`` moved as little as is needed for labels that do not touch, and do not leave the panel; in their order."""
    placed: dict[int, float] = {}
    floor = -math.inf
    for i in sorted(range(len(ys)), key=lambda i: ys[i]):
        floor = placed[i] = max(ys[i], floor + least)
    beyond = max(0.0, floor - (HEIGHT - BOTTOM - 6))
    return [placed[i] - beyond for i in range(len(ys))]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=ROUNDS)
    asked.add_argument("--out", type=Path, default=PICTURE)
    given = asked.parse_args()
    import trivium as tv

    data = digits()
    with tempfile.TemporaryDirectory() as folder, tv.Session(workers=WORKERS) as session:
        lines = measured(
            given.rounds,
            lambda optimizer, bound, seed: train(
                session, data, optimizer, bound, seed, Path(folder) / f"{optimizer[0]}-{bound}-{seed}"
            ),
        )
    print(f"{'optimizer':<11}{'rule':<8}{'rows':>10}{'loss':>10}{'mean stale':>12}{'most':>6}{'time':>9}")
    for one in lines:
        rows, loss = one.points[-1]
        told = f"{one.optimizer:<11}ssp:{one.bound:<4}{rows:>10,.0f}{loss:>10.4f}{one.mean:>12.2f}"
        print(f"{told}{one.most:>6.0f}{one.seconds:>7.1f} s")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    title = f"mlp:128, MNIST's test images, batch {BATCH}, {WORKERS} workers, one ×4 slower: training loss"
    given.out.write_text(picture(lines, title), encoding="utf-8")
    print(given.out)


if __name__ == "__main__":
    main()
