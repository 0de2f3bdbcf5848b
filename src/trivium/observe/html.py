"""A run as one page of HTML: no script, nothing fetched, drawn as SVG, readable by day and by night.

``page`` is the whole document, ``fragment`` the part that a notebook shows. Everything that comes from outside (names,
notices, labels) is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from trivium.observe.figures import count, duration, loss, percent, rate, size
from trivium.observe.page import run_lines
from trivium.observe.rundir import RunDir
from trivium.observe.waiting import fragment as waits
from trivium.observe.waiting import of_record
from trivium.record import KINDS, Carried, ProcessTimes, Record

__all__ = ["carried", "curve", "fragment", "page", "times"]

WIDTH, HEIGHT = 640, 220
LEFT, BOTTOM, TOP = 56, 28, 12
COLORS = {  # a hue a kind, told apart by most eyes (Okabe and Ito, 2008)
    "load": "#999999",
    "read": "#56b4e9",
    "compute": "#009e73",
    "encode": "#f0e442",
    "send": "#e69f00",
    "wait": "#d55e00",
    "apply": "#0072b2",
    "idle": "#bbbbbb55",
}
LINES = {"loss": "#0072b2", "valid_loss": "#d55e00"}
NAMES = {"loss": "training sample", "valid_loss": "validation"}
STYLE = """
.trivium{font:14px/1.5 system-ui,sans-serif;max-width:46rem;color:inherit}
.trivium h1{font-size:1.35em;margin:.2em 0}.trivium h2{font-size:1.05em;margin:1.4em 0 .4em}
.trivium table{border-collapse:collapse}.trivium td,.trivium th{padding:.15em .9em .15em 0;text-align:left;
vertical-align:top;border-bottom:1px solid #8884;color:inherit;background:none}.trivium td.n{text-align:right;
font-variant-numeric:tabular-nums}.trivium svg{max-width:100%;height:auto}.trivium .axis{stroke:#888}
.trivium text{fill:currentColor;opacity:.8;font:11px system-ui,sans-serif}.trivium .muted{opacity:.65}
.trivium .key span{display:inline-block;margin-right:1em;white-space:nowrap}.trivium .key i{display:inline-block;
width:.8em;height:.8em;border-radius:2px;margin-right:.35em;vertical-align:-.05em}
.trivium .notice{border-left:3px solid #d55e00;padding-left:.6em;margin:.3em 0}
"""  # colours follow the page that it is on: a notebook's theme is not the system's
BODY = (
    ":root{color-scheme:light dark}"
    "body{margin:2rem auto;padding:0 1rem;max-width:46rem;background:Canvas;color:CanvasText}"
)


def page(run: RunDir, further: Mapping[str, float] | None = None) -> str:
    """The whole document."""
    title = escape(f"{run.settings.get('model', 'run')}: {run.path.name}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{BODY}</style></head>\n<body>{fragment(run, further)}</body></html>\n"
    )


def fragment(run: RunDir, further: Mapping[str, float] | None = None) -> str:
    """What there is to see, with its own style."""
    model = escape(str(run.settings.get("model", "run")))
    parts = [f"<h1>{model} <span class='muted'>{escape(str(run.path))}: {escape(run.state)}</span></h1>"]
    record = run.record
    notices = record.notices if record is not None else tuple(str(one.get("text", "")) for one in run.events)
    parts += [f"<div class='notice'>{escape(text)}</div>" for text in notices]
    if record is not None:
        parts.append(_scores(record, further or {}))
    drawn = curve(run)
    parts += [f"<h2>Loss</h2>{drawn}"] if drawn else []
    if record is not None and record.processes:
        parts.append(f"<h2>Where the time went</h2>{times(record.processes)}{waits(of_record(record))}")
        parts += [f"<h2>What went between nodes</h2>{carried(record.carried)}"] if record.carried is not None else []
    parts.append(f"<h2>All of it</h2>{_lines(run)}")
    return f"<div class='trivium'><style>{STYLE}</style>{''.join(parts)}</div>"


def _table(rows: Sequence[tuple[str, str]], numbers: bool = True) -> str:
    kind = " class='n'" if numbers else ""
    cells = "".join(f"<tr><th>{escape(name)}</th><td{kind}>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>"


def _scores(record: Record, further: Mapping[str, float]) -> str:
    rows = [("loss", loss(record.loss))]
    rows += [("objective", f"{record.objective:.6g}")] if math.isfinite(record.objective) else []
    for name, lost, right in (
        ("training", None, record.train_accuracy),
        ("validation", record.valid_loss, record.valid_accuracy),
        ("test", record.test_loss, record.test_accuracy),
    ):
        rows += [(f"{name} loss", loss(lost))] if lost is not None else []
        rows += [(f"{name} accuracy", f"{right:.4f}")] if right is not None else []
    rows += [(name.replace("_", " "), f"{value:.4g}") for name, value in further.items()]
    rows += [("epochs", count(round(record.epochs, 2))), ("iterations", count(record.iterations))]
    rows += [("time", duration(record.seconds)), ("speed", rate(record.samples_per_second))]
    rows += [("peak memory", size(record.peak_rss_bytes)), ("ended by", record.stopped_by)]
    return _table(rows)


def _lines(run: RunDir) -> str:
    """The text report as a table, a label once."""
    return _table([(name, text) for name, text in run_lines(run) if name != "curve"], numbers=False)


# -- the curve ---------------------------------------------------------------------------------------------------------
def curve(run: RunDir) -> str:
    """Losses over epochs as SVG; empty where there are not two points."""
    rows = run.metrics or (run.record.history if run.record is not None else ())
    clocks = run.record.clocks / run.record.epochs if run.record is not None and run.record.epochs else 1.0
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, key in (("loss", "sample_loss"), ("loss", "loss"), ("valid_loss", "valid_loss")):
            value = row.get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                at = row["epoch"] if "epoch" in row else row.get("clock", 0) / clocks
                series.setdefault(name, []).append((float(at), float(value)))
    series = {name: points for name, points in series.items() if len(points) > 1}
    return _chart(series) if series else ""


def _chart(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low, high = min(ys), max(ys)
    span = (high - low) or abs(high) or 1.0
    low, high = low - 0.04 * span, high + 0.04 * span
    first, last = min(0.0, *xs), max(xs)

    def at(x: float, y: float) -> str:
        across = LEFT + (x - first) / ((last - first) or 1.0) * (WIDTH - LEFT - 12)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = [_axes(first, last, low, high)]
    for name, points in series.items():
        path = " ".join(at(x, y) for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{LINES[name]}" stroke-width="2" points="{path}"/>')
    key = "".join(f'<span><i style="background:{LINES[name]}"></i>{NAMES[name]}</span>' for name in series)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="loss over epochs">{"".join(parts)}</svg>' + (
        f'<div class="key">{key}</div>'
    )


def _axes(first: float, last: float, low: float, high: float) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<path class="axis" fill="none" d="M{LEFT},{TOP}V{floor}H{WIDTH - 12}"/>']
    for k in range(4):
        value = low + (high - low) * k / 3
        y = floor - (floor - TOP) * k / 3
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for k in range(5):
        x = LEFT + (WIDTH - LEFT - 12) * k / 4
        value = first + (last - first) * k / 4
        anchor, unit = ("end", " epochs") if k == 4 else ("middle", "")
        parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="{anchor}">{value:.3g}{unit}</text>')
    return "".join(parts)


# -- where the time went -----------------------------------------------------------------------------------------------
def times(processes: Sequence[ProcessTimes]) -> str:
    """A bar a process, cut by what it did; bars are as long as its wall time."""
    longest = max((one.wall for one in processes), default=0.0) or 1.0
    step, room = 24, 110
    parts = []
    for at, process in enumerate(processes):
        top, x = at * step + 4, float(room)
        parts.append(f'<text x="{room - 8}" y="{top + 13}" text-anchor="end">{escape(process.name)}</text>')
        for kind in KINDS:
            share = process.seconds.get(kind, 0.0) / longest
            wide = share * (WIDTH - room - 70)
            if wide >= 0.3:
                told = escape(
                    f"{kind}: {duration(process.seconds[kind])} ({percent(share * longest / (process.wall or 1))})"
                )
                parts.append(
                    f'<rect x="{x:.1f}" y="{top}" width="{wide:.1f}" height="17" fill="{COLORS[kind]}">'
                    f"<title>{told}</title></rect>"
                )
            x += wide
        parts.append(f'<text x="{x + 6:.1f}" y="{top + 13}">{escape(duration(process.wall))}</text>')
    height = len(processes) * step + 6
    used = [kind for kind in KINDS if any(one.seconds.get(kind, 0.0) > 0 for one in processes)]
    key = "".join(f'<span><i style="background:{COLORS[kind]}"></i>{kind}</span>' for kind in used)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="time by process">{"".join(parts)}</svg>'
        f'<div class="key">{key}</div>'
    )


# -- what went between nodes -------------------------------------------------------------------------------------------
def carried(links: Carried) -> str:
    """A bar a kind of message, as long as it would have been without filters; the full part is what went."""
    longest = max(links.plain.values(), default=0) or 1
    step, room = 24, 110
    kinds = sorted(links.plain, key=lambda name: -links.plain[name])
    parts = []
    for at, name in enumerate(kinds):
        top, sent, plain = at * step + 4, links.sent[name], links.plain[name]
        told = size(plain) if sent == plain else f"{size(plain)} as {size(sent)} ({percent(sent / plain)})"
        scale = (WIDTH - room - 190) / longest
        parts.append(
            f'<text x="{room - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{room}" y="{top}" width="{plain * scale:.1f}" height="17" fill="{COLORS["send"]}" '
            f'fill-opacity="0.3"/><rect x="{room}" y="{top}" width="{sent * scale:.1f}" height="17" '
            f'fill="{COLORS["send"]}"><title>{escape(f"{name}: {told}")}</title></rect>'
            f'<text x="{room + max(sent, plain) * scale + 6:.1f}" y="{top + 13}">{escape(told)}</text>'
        )
    height = len(kinds) * step + 6
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="bytes between nodes">{"".join(parts)}</svg>'
        if kinds
        else "<p class='muted'>nothing but words</p>"
    )
