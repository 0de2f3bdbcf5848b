"""Programs by name, as the command line and Python say them.

>>> model("mlp:500,300:tanh").name
'mlp:500,300:tanh'
>>> mlp(300, 100).name
'mlp:300,100'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trivium.errors import PlanError, UsageError, unknown
from trivium.program.logistic import Logistic
from trivium.program.mlp import Mlp
from trivium.program.null import Count, Null
from trivium.program.program import Program
from trivium.program.softmax import Softmax

__all__ = ["NAMES", "logistic", "mlp", "model", "softmax"]

NAMES = ("logistic", "softmax", "mlp", "null", "count")


def logistic(dtype: str = "float64") -> Logistic:
    """Two-class logistic regression."""
    return Logistic(dtype)


def softmax() -> Softmax:
    """Multinomial logistic regression."""
    return Softmax()


def mlp(*widths: int, activation: str = "relu") -> Mlp:
    """Multilayer perceptron with hidden layers of ``widths`` units."""
    return Mlp(widths, activation)


def model(spec: str, **options: Any) -> Program:
    """The program that ``spec`` names: ``logistic``, ``softmax``, ``mlp:W1,W2,…[:activation]``.

    ``null[:n]`` and ``count[:n]`` compute nothing, for tests of what carries them.

    An option that is None counts as not given. UsageError for an unknown name or a malformed spec, PlanError for an
    option that the model cannot use.
    """
    name, colon, tail = spec.partition(":")
    if name not in NAMES:
        raise UsageError(unknown("model", name, NAMES))
    given = {key: value for key, value in options.items() if value is not None}
    allowed = {"logistic": ("dtype",), "mlp": ("activation",)}.get(name, ())
    for key in given:
        if key not in allowed:
            raise PlanError(_refusal(name, key, allowed))
    if name in ("logistic", "softmax"):
        if colon:
            raise UsageError(f"model {spec!r}: {name} takes nothing after its name; write {name!r}")
        return Logistic(**given) if name == "logistic" else Softmax()
    if name == "mlp":
        widths, second, activation = tail.partition(":")
        return Mlp(_widths(spec, widths), **({"activation": activation} if second else {}) | given)
    make: Callable[[int], Program] = Null if name == "null" else Count
    return make(_widths(spec, tail, many=False)[0] if colon else 1)


def _refusal(name: str, option: str, allowed: tuple[str, ...]) -> str:
    takes = f"it takes {', '.join(allowed)}" if allowed else "it takes no options"
    hint = "; 'mlp' can" if option == "activation" else "; 'logistic' can" if option == "dtype" else ""
    return f"model {name} cannot use {option}{hint}; {takes}"


def _widths(spec: str, tail: str, many: bool = True) -> tuple[int, ...]:
    """The whole numbers above 0 after the colon."""
    words = tail.split(",") if many else [tail]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        form = "mlp:W1,W2,… with layer widths above 0, as in mlp:500, mlp:300,100 or mlp:300,100:tanh"
        form = form if many else "a count above 0, as in null:1000"
        raise UsageError(f"model {spec!r}: wanted {form}")
    return tuple(int(word) for word in words)
