"""``trivium evaluate``: how well a model answers for rows whose labels are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli import applying
from trivium.cli.further import Evaluated
from trivium.cli.options import words
from trivium.cli.screen import Screen
from trivium.observe.figures import count
from trivium.observe.summary import Line

if TYPE_CHECKING:
    from trivium.program.program import Program

__all__ = ["checked", "evaluate", "score_lines"]


def evaluate(asked: Evaluated) -> int:
    """Carry out ``trivium evaluate``; returns the exit code."""
    from trivium.program.metrics import default_metrics

    screen, run = Screen(), applying.load(asked.run, trust=asked.trust)
    names = checked(asked.metric, run.model) or default_metrics(run.model.output)
    rows: Any = applying.rows(run, asked)
    scores = run.evaluate(rows, metrics=names)
    seen = f"{Path(asked.data).name or asked.data}: {count(len(rows))} rows"
    screen.result([("run", f"{asked.run}: {run.model.name}"), ("data", seen), *score_lines(scores)])
    if asked.as_json:
        screen.json({"run": str(asked.run), "model": run.model.name, "rows": len(rows), "metrics": scores})
    return 0


def checked(metric: str | None, program: Program) -> tuple[str, ...]:
    """The metrics asked for; UsageError for an unknown name, PlanError for one that cannot judge ``program``."""
    from trivium.program.metrics import metric as named

    names = words(metric)
    for name in names:
        named(name, program.output)
    return names


def score_lines(scores: Mapping[str, float], label: str = "metrics") -> list[Line]:
    """One line a metric, none where there are none."""
    width = max(map(len, scores), default=0)
    texts = [f"{name:<{width}}  {value:.6g}" for name, value in scores.items()]
    return [(label if at == 0 else "", text) for at, text in enumerate(texts)]
