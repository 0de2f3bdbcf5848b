"""``trivium report``: what a run did, from what it left on disk; several runs side by side."""

from __future__ import annotations

from pathlib import Path

from trivium.cli.screen import Screen
from trivium.observe.page import compare, run_lines
from trivium.observe.rundir import RunDir, read_run

__all__ = ["report"]


def report(paths: list[Path], as_json: bool) -> int:
    """Carry out ``trivium report``; returns the exit code."""
    screen = Screen()
    runs = [read_run(path) for path in paths]
    if len(runs) == 1:
        screen.result(run_lines(runs[0]))
    else:
        screen.text(compare(runs))
    if as_json:
        objects = [_object(run) for run in runs]
        screen.json(objects[0] if len(objects) == 1 else {"runs": objects})
    return 0


def _object(run: RunDir) -> dict[str, object]:
    if run.record is not None:
        return {**run.record.as_json(), "state": run.state}
    return {"run": str(run.path), "state": run.state, "error": run.error, "resumable": run.resumable}
