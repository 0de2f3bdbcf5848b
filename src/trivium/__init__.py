"""Trivium: one machine-learning program, trained over three roads. The public names, loaded when they are used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Job": "trivium.job",
    "Live": "trivium.live",
    "Plan": "trivium.plan",
    "Program": "trivium.program.program",
    "Record": "trivium.record",
    "Session": "trivium.session",
    "Stopping": "trivium.plan",
    "errors": "trivium",
    "from_arrays": "trivium.data.read",
    "load_params": "trivium.session",
    "models": "trivium.program",
    "optim": "trivium.program",
    "read": "trivium.data.read",
    "resume": "trivium.session",
    "start": "trivium.session",
    "train": "trivium.session",
}
_MODULES = {"errors": "trivium.errors", "models": "trivium.program.models", "optim": "trivium.program.optimizers"}

__all__ = sorted(_HOME)  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trivium' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
