"""F by name: first-order steps, FTRL-Proximal and the quasi-Newton methods. A family loads when first asked for."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from trivium.errors import PlanError, UsageError, unknown

if TYPE_CHECKING:
    from trivium.program.optimizers.base import Optimizer

__all__ = ["NAMES", "compile_kernels", "family", "optimizer", "options_of"]

_FAMILIES = {
    "adagrad": ("adagrad", "AdaGrad"),
    "adam": ("adam", "Adam"),
    "adamw": ("adam", "AdamW"),
    "ftrl": ("ftrl", "FTRL"),
    "lbfgs": ("lbfgs", "LBFGS"),
    "momentum": ("sgd", "Momentum"),
    "nesterov": ("sgd", "Nesterov"),
    "owlqn": ("owlqn", "OWLQN"),
    "sgd": ("sgd", "SGD"),
}
NAMES = tuple(_FAMILIES)


def family(name: str) -> type[Optimizer]:
    """The class behind a name of the command line; UsageError for an unknown one."""
    if name not in _FAMILIES:
        raise UsageError(unknown("optimizer", name, NAMES))
    module, cls = _FAMILIES[name]
    found: type[Optimizer] = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
    return found


def options_of(name: str) -> tuple[str, ...]:
    """The options that ``name`` takes.

    >>> options_of("lbfgs")
    ('tol', 'memory', 'ftol', 'precondition', 'max_iter', 'max_evaluations')
    """
    return tuple(field.name for field in fields(family(name)))  # type: ignore[arg-type]  # all are dataclasses


def optimizer(name: str, **options: Any) -> Optimizer:
    """Make an optimizer by name; an option that is None counts as not given.

    Raises UsageError for an unknown name or a bad value, PlanError for an option that this optimizer cannot use.

    >>> optimizer("momentum", lr=0.01).momentum
    0.9
    """
    made, allowed = family(name), options_of(name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in allowed:
            raise PlanError(_refusal(name, key, allowed))
    return made(**given)


def _refusal(name: str, option: str, allowed: tuple[str, ...]) -> str:
    users = [other for other in NAMES if option in options_of(other)]
    if not users:
        return unknown(f"option of optimizer {name}", option, allowed)
    return f"optimizer {name} cannot use {option}; {', '.join(users)} can. {name} takes {', '.join(allowed)}"


def compile_kernels(dtype: str = "float32", names: tuple[str, ...] = NAMES) -> None:
    """Compile, or load from the cache, every kernel of ``names`` for ``dtype``, so that later processes only load them.

    Takes some ten seconds where nothing is cached, a fraction of one where all is.
    """
    import numpy as np

    from trivium.program.optimizers.minimize import minimize

    def bowl(a: Any) -> tuple[float, float, Any]:
        return 1.0, float(a @ a), 2 * a

    for name in names:
        # Kernels are compiled for the types of their arguments alone: any values will do.
        l1 = 0.0 if name == "lbfgs" else 0.1
        further: dict[str, Any] = {"clip_norm": 1.0} if "clip_norm" in options_of(name) else {"precondition": True}
        minimize(bowl, np.ones(3, dtype), optimizer(name, **further), l1=l1, max_clocks=4)
