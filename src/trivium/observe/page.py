"""A run told from its directory, and several runs side by side: what ``trivium report`` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trivium.observe.figures import count, duration, loss, percent, rate, spark
from trivium.observe.rundir import RunDir
from trivium.observe.summary import (
    Line,
    data_lines,
    next_lines,
    notice_lines,
    plan_text,
    result_lines,
    start_lines,
    stopping_text,
    time_lines,
)
from trivium.record import Record

__all__ = ["compare", "grid", "run_lines"]

SHOWN = 12  # events of a run that did not finish


def run_lines(run: RunDir) -> list[Line]:
    """Everything worth a line: data, plan, result and time where it finished, what happened where it did not."""
    driver = f" (process {run.driver})" if run.driver is not None else ""
    pairs = [("run", f"{run.path}: {run.state}{driver}"), *data_lines(run.data)]
    plan = plan_text(run.settings)
    pairs += [("plan", plan)] if plan else []
    stopping = run.plan.get("stopping")
    pairs += [("stop", stopping_text(stopping))] if isinstance(stopping, dict) else []
    if run.record is not None:
        told = run.record.notices
        pairs += [*start_lines(run.record), *notice_lines(told), *result_lines(run.record), *time_lines(run.record)]
    else:
        pairs += _unfinished(run)
    pairs += _curves(run)
    pairs += [("damage" if at == 0 else "", text) for at, text in enumerate(run.damage)]
    if run.resumable:
        pairs += next_lines(str(run.path), resumable=True)[:1]
    return pairs


def _curves(run: RunDir) -> list[Line]:
    """How the losses went, from the evaluations written down; repeated values count once."""
    pairs: list[Line] = []
    rows = run.record.history if run.record is not None and run.record.history else run.metrics
    for name, key in (("loss", "loss"), ("validation", "valid_loss")):
        seen = [float(row[key]) for row in rows if isinstance(row.get(key), (int, float))]
        kept = [value for at, value in enumerate(seen) if at == 0 or value != seen[at - 1]]
        if len(kept) > 1:
            pairs.append(("" if pairs else "curve", f"{name} {loss(kept[0])} {spark(kept)} {loss(kept[-1])}"))
    return pairs


def _unfinished(run: RunDir) -> list[Line]:
    pairs: list[Line] = []
    at = run.reached
    if at:
        where = f"clock {count(at.get('clock', 0))}, epoch {at.get('epoch', 0):.1f}, {duration(at.get('seconds', 0.0))}"
        pairs.append(("reached", f"{where}, loss {loss(at.get('loss'))}, validation {loss(at.get('valid_loss'))}"))
    else:
        pairs.append(("reached", "no step that was written down"))
    texts = [str(event.get("text") or event.get("message") or event.get("kind", event)) for event in run.events]
    pairs += [("events" if n == 0 else "", text) for n, text in enumerate(texts[-SHOWN:])]
    if run.state == "broken off":
        pairs.append(("", "it has no record: its driver died before the end"))
    if run.checkpoints:
        pairs.append(("saved", f"{len(run.checkpoints)} checkpoints, the newest {run.checkpoints[-1].name}"))
    else:
        later = "" if run.driver is not None else "; it can only be started anew"
        pairs.append(("saved", f"no checkpoint{later}"))
    return pairs


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}".replace("%", " %")


COLUMNS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("model", lambda r: r.model),
    ("design", lambda r: r.design),
    ("workers", lambda r: count(r.workers) if r.design != "sequential" else f"1 × {r.threads}"),
    ("time", lambda r: duration(r.seconds)),
    ("start", lambda r: duration(r.startup_seconds + r.compile_seconds + r.load_seconds)),
    ("speed", lambda r: rate(r.samples_per_second)),
    ("loss", lambda r: loss(r.loss)),
    ("valid", lambda r: loss(r.valid_loss)),
    ("test", lambda r: _score(r.test_accuracy)),
    ("compute", lambda r: percent(r.breakdown.get("compute", 0.0) + r.breakdown.get("read", 0.0))),
    ("wait", lambda r: percent(r.breakdown.get("wait", 0.0))),
    ("bits", lambda r: r.params_sha256[:8]),
)


def compare(runs: Sequence[RunDir]) -> str:
    """A table, a run a line; runs without a record say their state instead. Equal ``bits``: equal parameters."""
    rows = [["run", *(name for name, _ in COLUMNS)]]
    for run in runs:
        if run.record is None:
            known = [str(run.settings.get(name) or "–") for name in ("model", "design")]
            rows.append([run.path.name, *known, run.state, *["–"] * (len(COLUMNS) - 3)])
        else:
            record = run.record
            rows.append([run.path.name, *(figure(record) for _, figure in COLUMNS)])
    return grid(rows)


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first to the left, the others to the right, a rule under the head.

    >>> print(grid([["run", "loss"], ["a", "0.5"]]))
    run  loss
    ---------
    a     0.5
    """
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    out = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        out.append("  ".join(cells).rstrip())
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([out[0], rule, *out[1:]])
