"""``trivium runs``: the runs of a folder, newest first, whatever state each was left in."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivium.cli.screen import Screen
from trivium.errors import TriviumError, UsageError
from trivium.observe.figures import count, duration, loss
from trivium.observe.page import grid
from trivium.observe.rundir import RunDir, read_run

__all__ = ["Listed", "listed", "runs"]

FOLDER = Path("runs")
HEAD = ("run", "when", "model", "design", "workers", "state", "epochs", "loss", "valid", "test", "time")
MARKS = ("plan.json", "record.json", "metrics.jsonl", "events.jsonl")  # any of them makes a folder a run's


@dataclass(frozen=True)
class Listed:
    """One line: a run's directory, what was read of it (None: why not), and since when it is there."""

    path: Path
    run: RunDir | None
    when: float
    why: str = ""

    @property
    def state(self) -> str:
        """``running``, ``finished``, ``failed``, ``interrupted``, ``broken off`` (its driver died) or ``broken``."""
        return "broken" if self.run is None else self.run.state

    def as_json(self) -> dict[str, Any]:
        """The line as an object; figures are null where the run has none."""
        told: dict[str, Any] = {
            "run": str(self.path),
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.when)),
            "state": self.state,
        }
        if self.run is None:
            return told | {"resumable": False, "why": self.why}
        record, settings, reached = self.run.record, self.run.settings, self.run.reached
        told |= {name: settings.get(name) for name in ("model", "design", "workers", "threads")}
        told |= {"resumable": self.run.resumable, "why": self.why or self.run.error}
        names = ("epochs", "seconds", "loss", "valid_loss", "valid_accuracy", "test_loss", "test_accuracy")
        if record is None:
            aliases = {"epochs": "epoch"}
            return told | {name: reached.get(aliases.get(name, name)) for name in names}
        return told | {name: getattr(record, name) for name in (*names, "model", "design", "workers", "threads")}


def runs(folder: Path | None, as_json: bool) -> int:
    """Carry out ``trivium runs``; returns the exit code."""
    screen, found = Screen(), listed(FOLDER if folder is None else folder, given=folder is not None)
    if found:
        screen.text(grid([HEAD, *(_cells(one.as_json()) for one in found)]))
        screen.result(_notes(found))
    else:
        where = FOLDER if folder is None else folder
        screen.result([("", f"no runs in {where}/ ; `trivium train MODEL DATA` makes the first")])
    if as_json:
        screen.json({"runs": [one.as_json() for one in found]})
    return 0


def listed(folder: Path, given: bool = True) -> list[Listed]:
    """What lies in ``folder``, newest first. UsageError where a ``given`` one is not there or no folder.

    A folder that is a run itself is listed alone.
    """
    if not folder.is_dir():
        if given:
            what = "is a file" if folder.exists() else "is not there"
            raise UsageError(f"{folder} {what}; give a folder that holds runs (default: {FOLDER})")
        return []
    if any((folder / mark).exists() for mark in MARKS):
        return [_look(folder)]
    try:
        inside = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}; give another folder") from None
    return sorted(map(_look, inside), key=lambda one: (-one.when, one.path.name))


def _look(path: Path) -> Listed:
    when = 0.0
    try:
        stamp = path / "plan.json"
        when = (stamp if stamp.exists() else path).stat().st_mtime
        run = read_run(path)
    except (TriviumError, OSError) as error:
        return Listed(path, None, when, str(error))
    return Listed(path, run, when, "; ".join(run.damage))


def _cells(told: dict[str, Any]) -> list[str]:
    workers = told.get("workers")
    if told.get("design") == "sequential" and told.get("threads"):
        workers = f"1 × {told['threads']}"
    state = told["state"] + (", resumable" if told["resumable"] else "")
    seconds = told.get("seconds")
    return [
        Path(told["run"]).name,
        told["when"][:16].replace("T", " "),
        *(str(value) if value else "–" for value in (told.get("model"), told.get("design"), workers)),
        state,
        _figure(told.get("epochs"), lambda value: count(round(value, 1))),
        _figure(told.get("loss"), loss),
        _score(told.get("valid_accuracy"), told.get("valid_loss")),
        _score(told.get("test_accuracy"), told.get("test_loss")),
        _figure(seconds, duration),
    ]


def _figure(value: Any, text: Any) -> str:
    known = isinstance(value, int | float) and math.isfinite(value)
    return str(text(value)) if known else "–"


def _score(accuracy: Any, lost: Any) -> str:
    if isinstance(accuracy, int | float):
        return f"{accuracy:.2%}".replace("%", " %")
    return _figure(lost, loss)


def _notes(found: list[Listed]) -> list[tuple[str, str]]:
    """Why what is broken is broken, and the next step with what can go on."""
    told = [("", f"{one.path.name}: {one.why}") for one in found if one.why]
    resumable = next((one for one in found if one.run is not None and one.run.resumable), None)
    if resumable is not None:
        told.append(("next", f"trivium resume {resumable.path}"))
    return told
