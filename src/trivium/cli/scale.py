"""``trivium scale`` and ``trivium switch``: change a run that goes on, by asking it (``trivium.running.control``)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from trivium.cli.screen import Screen

__all__ = ["scale", "switch"]

WITHIN = 120.0  # seconds for a change: a joiner imports, compiles and may have to learn all of a large model
LOOK_EVERY = 0.05


def scale(run: Path, workers: int, nodes: int | None, as_json: bool) -> int:
    """Carry out ``trivium scale``; returns the exit code."""
    on = f" on {_many(nodes, 'node')}" if nodes is not None else ""
    return _ask(run, {"do": "scale", "workers": workers, "nodes": nodes}, f"{_many(workers, 'worker')}{on}", as_json)


def switch(run: Path, consistency: str, as_json: bool) -> int:
    """Carry out ``trivium switch``; returns the exit code."""
    return _ask(run, {"do": "switch", "consistency": consistency}, consistency, as_json)


def _ask(run: Path, request: dict[str, Any], wanted: str, as_json: bool) -> int:
    """Ask ``run``, wait for what comes of it, and say so; 1 where it was not done."""
    from trivium.running.control import ask

    answer, screen, code = ask(run, request), Screen(), 0
    if "asked" in answer:
        answer = _came_of(run, str(answer["asked"]))
        code = 0 if answer["done"] else 1
    told = str(answer.get("told") or wanted)
    screen.result([(request["do"], told if not code else f"not done: {told}"), ("run", str(run))])
    if as_json:
        screen.json({"run": str(run), **request, **answer})
    return code


def _came_of(run: Path, number: str) -> dict[str, Any]:
    """What came of the request ``number``, once the run says so."""
    from trivium.errors import RunError, UsageError
    from trivium.running.control import ask

    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        try:
            came = ask(run, {"do": "status"}).get("came", {})
        except (RunError, UsageError):
            return {"done": False, "told": "the run ended before"}
        if number in came:
            done, told = came[number]
            return {"done": done, "told": told}
        time.sleep(LOOK_EVERY)
    return {
        "done": False,
        "told": f"still under way after {WITHIN:g} s; `trivium report {run}` will say what came of it",
    }


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
