"""The models, as functions: ``tv.models.mlp(300, 100)``. See ``trivium.program.models``.

>>> import trivium as tv
>>> tv.models.mlp(300, 100, activation="tanh").name
'mlp:300,100:tanh'
"""

from __future__ import annotations

from typing import Any

from trivium.program import models as _home

__all__ = sorted(name for name in _home.__all__ if name.islower())  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> Any:
    if name in __all__ or name == "NAMES":
        return getattr(_home, name)
    raise AttributeError(f"trivium.models has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
