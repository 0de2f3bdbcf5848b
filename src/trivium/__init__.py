"""Trivium: one machine-learning program, trained over three roads. The public names, loaded when they are used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivium import errors as errors
    from trivium import models as models
    from trivium import optim as optim
    from trivium import transforms as transforms
    from trivium.data.dataset import Dataset as Dataset
    from trivium.data.read import from_arrays as from_arrays
    from trivium.data.read import from_arrow as from_arrow
    from trivium.data.read import from_generator as from_generator
    from trivium.data.read import from_pandas as from_pandas
    from trivium.data.read import from_polars as from_polars
    from trivium.data.read import read as read
    from trivium.data.table import Table as Table
    from trivium.face.loops import run as run
    from trivium.face.trained import Run as Run
    from trivium.face.training import Session as Session
    from trivium.face.training import Started as Started
    from trivium.face.training import load as load
    from trivium.face.training import resume as resume
    from trivium.face.training import start as start
    from trivium.face.training import train as train
    from trivium.plan import Plan as Plan
    from trivium.plan import Stopping as Stopping
    from trivium.program.program import Program as Program
    from trivium.record import Record as Record
    from trivium.running.job import Job as Job
    from trivium.running.session import load_params as load_params

_HOME = {
    "Dataset": "trivium.data.dataset",
    "Job": "trivium.running.job",
    "Plan": "trivium.plan",
    "Program": "trivium.program.program",
    "Record": "trivium.record",
    "Run": "trivium.face.trained",
    "Session": "trivium.face.training",
    "Started": "trivium.face.training",
    "Stopping": "trivium.plan",
    "Table": "trivium.data.table",
    "from_arrays": "trivium.data.read",
    "from_arrow": "trivium.data.read",
    "from_generator": "trivium.data.read",
    "from_pandas": "trivium.data.read",
    "from_polars": "trivium.data.read",
    "load": "trivium.face.training",
    "load_params": "trivium.running.session",
    "read": "trivium.data.read",
    "resume": "trivium.face.training",
    "run": "trivium.face.loops",
    "start": "trivium.face.training",
    "train": "trivium.face.training",
}
_MODULES = ("errors", "learn", "models", "optim", "transforms")

__all__ = sorted((*_HOME, *_MODULES))  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"trivium.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trivium' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
