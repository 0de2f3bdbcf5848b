"""The optimizers by their names, ``tv.optim.adam(1e-3)``, and the schedules of their rates, ``tv.optim.Cosine(…)``.

>>> import trivium as tv
>>> tv.optim.adam(1e-3).b1, tv.optim.lbfgs(memory=5).memory
(0.9, 5)
"""

from __future__ import annotations

from typing import Any

from trivium.program import optimizers as _home

SCHEDULES = ("Constant", "Cosine", "Exponential", "InverseSqrt", "InverseTime", "StepDecay", "WarmUp")

__all__ = sorted((*_home.NAMES, *SCHEDULES, "optimizer"))  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> Any:
    if name in _home.NAMES:
        return _home.family(name)
    if name == "optimizer":
        return _home.optimizer
    if name in SCHEDULES:
        from trivium.program.optimizers import schedules

        return getattr(schedules, name)
    raise AttributeError(f"trivium.optim has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
