"""``trivium resume``: drive a run on whose nodes wait for a driver, else go on where its last checkpoint left off."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trivium.cli.screen import Screen
from trivium.cli.signals import Signals
from trivium.errors import UsageError
from trivium.observe.progress import open_display
from trivium.observe.rundir import RunDir, read_run
from trivium.observe.summary import data_lines, plan_text, stopping_text

if TYPE_CHECKING:
    from trivium.record import Record

__all__ = ["resume"]


def resume(path: Path, as_json: bool, quiet: bool, *, trust: bool = False) -> int:
    """Carry out ``trivium resume``; returns the exit code."""
    screen, run = Screen(quiet), read_run(path)
    _goes_on(run)
    stopping = run.plan.get("stopping") or {}
    screen.told(
        [
            *data_lines(run.data),
            ("plan", plan_text(run.settings)),
            ("stop", stopping_text(stopping)),
            ("run", str(path)),
        ]
    )
    from trivium.cli.outcome import conclude
    from trivium.running.session import resume as go_on

    def judge(_: Record) -> str:
        return "not measured for a run that was resumed"

    with Signals() as signals:
        display = open_display(sys.stderr, stopping, quiet)
        return conclude(lambda shown: go_on(path, shown, trust=trust), display, screen, signals, judge, as_json, path)


def _goes_on(run: RunDir) -> None:
    if run.state == "finished":
        raise UsageError(
            f"{run.path} is finished; `trivium report {run.path}` shows it, `trivium train` starts a new one"
        )
    if run.driver is not None:
        raise UsageError(
            f"{run.path} is still running (process {run.driver}); wait for it, or stop it with Ctrl-C there"
        )
    if not run.checkpoints and not (run.path / "nodes.json").exists():
        raise UsageError(f"{run.path} has no checkpoint to go on from; start it anew with `trivium train`")
