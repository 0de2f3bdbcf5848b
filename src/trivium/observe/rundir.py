"""Reads a run's directory, whatever state it was left in.

::

    RUN/plan.json        how it was asked for           RUN/metrics.jsonl   progress and evaluations, one a line
    RUN/data.json        what it learned from           RUN/events.jsonl    notices, failures, terms, one a line
    RUN/record.json      the result: only if it ended   RUN/checkpoints/    where it can go on from
    RUN/lock             locked while its driver lives

Every file may be missing, and the last line of a ``.jsonl`` may be torn (its writer was killed): what is there is read,
what is not is said. Nothing here is written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trivium.errors import StorageError, UsageError
from trivium.record import Carried, ProcessTimes, Record

__all__ = ["RunDir", "new_run", "read_run", "record_of"]

LAST = 10_000  # numbered directories tried before giving up


@dataclass(frozen=True)
class RunDir:
    """What a run left behind. ``record`` is None where it did not end; ``driver`` is the process at work on it."""

    path: Path
    plan: Mapping[str, Any]
    data: Mapping[str, Any]
    record: Record | None
    metrics: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    checkpoints: tuple[Path, ...]
    damage: tuple[str, ...] = ()
    driver: int | None = None

    @property
    def error(self) -> str | None:
        """What it failed of, where its last event of that kind says so."""
        for event in reversed(self.events):
            if event.get("kind") in ("failed", "error", "lost"):
                return str(event.get("text") or event.get("message") or event["kind"])
        return None

    @property
    def state(self) -> str:
        """``running``, ``finished``, ``interrupted``, ``failed``, or ``broken off`` (its driver died)."""
        if self.driver is not None:
            return "running"
        if self.record is not None:
            return "interrupted" if "interrupt" in self.record.stopped_by else "finished"
        return "failed" if self.error else "broken off"

    @property
    def resumable(self) -> bool:
        """Whether ``trivium resume`` has something to go on from and something left to do."""
        return bool(self.checkpoints) and self.state not in ("finished", "running")

    @property
    def settings(self) -> dict[str, Any]:
        """plan.json with its inner objects laid flat (the outer name wins); model, design and their like by name."""
        flat: dict[str, Any] = {}
        for value in self.plan.values():
            if isinstance(value, Mapping):
                flat.update(value)
        flat.update({name: value for name, value in self.plan.items() if not isinstance(value, Mapping)})
        if "batch_size" in self.plan and flat["batch_size"] is None:
            flat["batch_size"] = "full"
        return flat

    @property
    def reached(self) -> Mapping[str, Any]:
        """The last line of metrics.jsonl, empty where there is none."""
        return self.metrics[-1] if self.metrics else {}


def record_of(raw: Mapping[str, Any]) -> Record:
    """A ``Record`` from ``Record.as_json`` after a trip through JSON; unknown keys are passed over.

    Raises StorageError that names the first field that is missing.
    """
    known = {field.name for field in fields(Record)}
    values = {name: value for name, value in raw.items() if name in known}
    for name in (
        "loss",
        "objective",
    ):  # NaN, which JSON has no word for, where the run was stopped before it was measured
        values[name] = math.nan if raw.get(name, 0.0) is None else raw.get(name)
    values["processes"] = tuple(
        ProcessTimes(**{**process, "lags": tuple(process.get("lags", ()))}) for process in raw.get("processes", ())
    )
    values["lags"] = tuple(raw.get("lags", ()))
    values["carried"] = None if raw.get("carried") is None else Carried(**raw["carried"])
    values["history"] = tuple(raw.get("history", ()))
    values["notices"] = tuple(raw.get("notices", ()))
    try:
        return Record(**values)
    except TypeError as error:
        raise StorageError(f"record.json is not one that this version wrote: {error}") from error


def _object(path: Path, damage: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        damage.append(f"{path.name} cannot be read: {error}")
        return {}
    if not isinstance(value, dict):
        damage.append(f"{path.name} holds {type(value).__name__}, not an object")
        return {}
    return value


def _rows(path: Path, damage: list[str]) -> tuple[dict[str, Any], ...]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    except OSError as error:
        damage.append(f"{path.name} cannot be read: {error}")
        return ()
    rows: list[dict[str, Any]] = []
    given = text.splitlines()
    for at, line in enumerate(given, 1):
        try:
            value = json.loads(line)
        except ValueError:
            torn = at == len(given)
            damage.append(
                f"{path.name}, line {at}: {'torn, the run broke off while writing it' if torn else 'not JSON'}"
            )
            continue
        if isinstance(value, dict):
            rows.append(value)
    return tuple(rows)


def _number(path: Path) -> tuple[int, str]:
    found = re.findall(r"\d+", path.stem)
    return (int(found[-1]) if found else -1, path.name)


def read_run(path: Path) -> RunDir:
    """Read the run in ``path``. UsageError where it is no directory of a run."""
    if not path.exists():
        raise UsageError(f"{path}: no such run; `ls runs` shows those there are")
    if not path.is_dir():
        raise UsageError(f"{path} is a file; give the directory of a run")
    damage: list[str] = []
    names = ("plan.json", "record.json", "metrics.jsonl", "events.jsonl")
    if not any((path / name).exists() for name in names):
        raise UsageError(f"{path} holds no run: none of {', '.join(names)} is in it")
    raw = _object(path / "record.json", damage)
    record = None
    if raw:
        try:
            record = record_of(raw)
        except (StorageError, TypeError) as error:
            damage.append(str(error))
    checkpoints = tuple(sorted((p for p in _listed(path / "checkpoints") if _whole(p)), key=_number))
    return RunDir(
        path,
        _object(path / "plan.json", damage),
        _object(path / "data.json", damage),
        record,
        _rows(path / "metrics.jsonl", damage),
        _rows(path / "events.jsonl", damage),
        checkpoints,
        tuple(damage),
        _holder(path / "lock"),
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _whole(path: Path) -> bool:
    """A folder counts with its manifest or with all its shards; hidden and temporary names never do."""
    if path.name.startswith(".") or path.suffix in (".tmp", ".part"):
        return False
    if not path.is_dir() or (path / "manifest.json").exists():
        return True
    shards = list(path.glob("shard-*.json"))
    try:
        return bool(shards) and len(shards) == json.loads(shards[0].read_text(encoding="utf-8"))["shards"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _holder(lock: Path) -> int | None:
    """The process that holds ``lock``."""
    from trivium.runtime.store import lock_holders

    return next(iter(lock_holders(lock)), None)


def new_run(parent: Path, stem: str) -> Path:
    """Make and return ``parent/stem-NNNN`` with the first free number; two callers never get the same one.

    Raises StorageError where it cannot be made.
    """
    taken = [
        int(p.name.rsplit("-", 1)[1]) for p in _listed(parent) if re.fullmatch(re.escape(stem) + r"-\d{4,}", p.name)
    ]
    first = max(taken, default=0) + 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + LAST):
            path = parent / f"{stem}-{number:04d}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise StorageError(
            f"{parent}/{stem}-…: cannot make the run's directory: {error.strerror}; give --out"
        ) from error
    raise StorageError(f"{parent} has no free number for {stem}; give --out")
