"""Pictures of benchmarks as SVG: no script, nothing fetched, as ``trivium.observe.html`` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "bars", "document", "lines"]

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 200, 34, 40
INKS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#999999")  # Okabe and Ito, 2008
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.axis{stroke:#888;fill:none}.grid{stroke:#8883}.head{font-size:14px}"
)
ROW, BAR, LABEL = 18, 13, 130


@dataclass(frozen=True)
class Line:
    """One series; ``theirs``: drawn dashed, with its points marked, since it was published elsewhere."""

    name: str
    points: Sequence[tuple[float, float]]
    theirs: bool = False


def document(pictures: Sequence[tuple[str, int]]) -> str:
    """One SVG file of ``pictures`` (markup, height), one under another."""
    parts, top = [], 0
    for markup, height in pictures:
        parts.append(f'<g transform="translate(0,{top})">{markup}</g>')
        top += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{top}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def lines(title: str, across: str, down: str, series: Sequence[Line]) -> tuple[str, int]:
    """Lines on logarithmic axes."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    box = (min(xs), max(xs), 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys))))
    parts = [f'<text class="head" x="{LEFT}" y="18">{escape(title)}</text>', _grid(box, across, down)]
    for k, one in enumerate(series):
        parts.append(_line(one, INKS[k % len(INKS)], box, k))
    return "".join(parts), HEIGHT


def _at(x: float, y: float, box: tuple[float, float, float, float]) -> tuple[float, float]:
    first, last, low, high = box
    share = math.log(x / first) / (math.log(last / first) or 1.0)
    up = math.log(y / low) / math.log(high / low)
    return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _grid(box: tuple[float, float, float, float], across: str, down: str) -> str:
    first, last, low, high = box
    floor = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{LEFT},{TOP}V{floor}H{WIDTH - RIGHT}"/>']
    for x in (1, 10, 100, 1000):
        if first <= x <= last:
            at, _ = _at(x, low, box)
            parts.append(f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{x:,}</text>')
    y = low
    while y <= high * 1.001:
        _, at = _at(first, y, box)
        parts.append(f'<path class="grid" d="M{LEFT},{at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:,g}</text>')
        y *= 10
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{floor + 32}" text-anchor="end">{escape(across)}</text>')
    parts.append(f'<text x="{LEFT - 50}" y="{TOP - 4}">{escape(down)}</text>')
    return "".join(parts)


def _line(one: Line, ink: str, box: tuple[float, float, float, float], k: int) -> str:
    places = [_at(x, y, box) for x, y in one.points]
    dash = ' stroke-dasharray="5 4"' if one.theirs else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 if one.theirs else 2}" fill="{ink}"/>' for x, y in places)
    y = TOP + 8 + k * 18
    key = f'<path d="M{WIDTH - RIGHT + 14},{y}h18" stroke="{ink}" stroke-width="2"{dash}/>'
    name = f'<text x="{WIDTH - RIGHT + 38}" y="{y + 4}">{escape(one.name)}</text>'
    return f'<polyline fill="none" stroke="{ink}" stroke-width="2"{dash} points="{path}"/>{marks}{key}{name}'


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> tuple[str, int]:
    """Shares of 1 as bars, those of a group under its name."""
    parts, y = [f'<text class="head" x="{LEFT}" y="18">{escape(title)}</text>'], TOP + 8
    for group, shares in groups.items():
        parts.append(f'<text x="{LEFT}" y="{y + BAR - 2}" font-weight="bold">{escape(group)}</text>')
        y += ROW
        for k, (name, share) in enumerate(shares.items()):
            wide = share * (WIDTH - LEFT - LABEL - 60)
            parts.append(f'<text x="{LEFT + LABEL - 8}" y="{y + BAR - 2}" text-anchor="end">{escape(name)}</text>')
            parts.append(
                f'<rect x="{LEFT + LABEL}" y="{y}" width="{wide:.1f}" height="{BAR}" fill="{INKS[k % len(INKS)]}"/>'
            )
            parts.append(f'<text x="{LEFT + LABEL + wide + 5:.1f}" y="{y + BAR - 2}">{100 * share:.1f} %</text>')
            y += ROW
        y += 6
    return "".join(parts), y + 10
