"""Programs by name, as the command line and Python say them.

>>> model("mlp:500,300:tanh").name
'mlp:500,300:tanh'
>>> mlp(300, 100).name
'mlp:300,100'
>>> model("linear:huber", epsilon=1.35).loss
'huber'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trivium.errors import PlanError, UsageError, unknown
from trivium.program.least_squares import LeastSquares
from trivium.program.linear import Linear
from trivium.program.logistic import Logistic
from trivium.program.mlp import Mlp
from trivium.program.null import Count, Null
from trivium.program.program import Program
from trivium.program.softmax import Softmax

__all__ = ["NAMES", "fm", "least_squares", "linear", "logistic", "mlp", "model", "softmax", "svm"]

NAMES = ("logistic", "softmax", "linear", "svm", "least_squares", "mlp", "fm", "null", "count")


def logistic(dtype: str = "float64", *, intercept: bool = True) -> Logistic:
    """Two-class logistic regression."""
    return Logistic(intercept, dtype)


def softmax(dtype: str = "float64", *, intercept: bool = True) -> Softmax:
    """Multinomial logistic regression."""
    return Softmax(intercept, dtype)


def linear(
    loss: str = "squared", dtype: str = "float64", *, intercept: bool = True, epsilon: float | None = None
) -> Linear:
    """A linear model with ``loss``: linear regression, or one that few outliers move (huber), or a classifier."""
    return Linear(loss, intercept, dtype, *(() if epsilon is None else (epsilon,)))


def svm(dtype: str = "float64", *, intercept: bool = True) -> Linear:
    """A linear support vector machine of two classes, with the squared hinge loss."""
    return Linear("squared_hinge", intercept, dtype)


def least_squares(
    *, intercept: bool = True, tol: float = 1e-4, max_iter: int = 1000, positive: bool = False
) -> Program:
    """Least squares solved exactly: ridge regression; with l1 lasso and elastic net."""
    return LeastSquares(intercept, tol, max_iter, positive)


def mlp(*widths: int, activation: str = "relu", dtype: str = "float32", backend: str | None = None) -> Mlp:
    """Multilayer perceptron with hidden layers of ``widths`` units; ``backend`` is "xla" or "blas"."""
    return Mlp(widths, activation, dtype=dtype, backend=backend)


def fm(factors: int = 8, dtype: str = "float64", *, spread: float = 0.01) -> Program:
    """A factorization machine with ``factors`` factors a feature, drawn with deviation ``spread`` at first."""
    from trivium.program.fm import FM

    return FM(factors, dtype, spread)


def model(spec: str, **options: Any) -> Program:
    """The program that ``spec`` names.

    ``logistic``, ``softmax``, ``linear[:LOSS]``, ``svm``, ``least_squares``, ``mlp:W1,W2,…[:activation]``, ``fm:K``, or
    a program of a person's own: ``PATH.py:NAME``, ``PACKAGE.MODULE:NAME``. ``null[:n]`` and ``count[:n]`` compute
    nothing, for tests of what carries them.

    An option that is None counts as not given. UsageError for an unknown name or a malformed spec, PlanError for an
    option that the model cannot use.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if set("./") & set(spec.rpartition(":")[0] or spec):
        from trivium.program.own import load_program

        _check(spec, given, ())
        return load_program(spec)
    name, colon, tail = spec.partition(":")
    if name not in NAMES:
        raise UsageError(f"{unknown('model', name, NAMES)}, or PATH.py:NAME")
    _check(name, given, OPTIONS.get(name, ()))
    if colon and name in BARE:
        raise UsageError(f"model {spec!r}: {name} takes nothing after its name; write {name!r}")
    return MAKERS[name](spec, tail if colon else None, given)


def _linear(spec: str, tail: str | None, given: dict[str, Any]) -> Program:
    if tail is None:
        return Linear(**given)
    if "loss" in given and given["loss"] != tail:
        raise UsageError(f"model {spec!r}: and loss={given['loss']!r}; say it once")
    return Linear(**given | {"loss": tail})


def _mlp(spec: str, tail: str | None, given: dict[str, Any]) -> Program:
    widths, second, activation = (tail or "").partition(":")
    return Mlp(_widths(spec, widths), **({"activation": activation} if second else {}) | given)


def _fm(spec: str, tail: str | None, given: dict[str, Any]) -> Program:
    return fm(**given | ({} if tail is None else {"factors": _widths(spec, tail, FM_FORM)[0]}))


MLP_FORM = "mlp:W1,W2,… with layer widths above 0, as in mlp:500, mlp:300,100 or mlp:300,100:tanh"
FM_FORM = "fm:K with a number of factors above 0, as in fm:8"
COUNT_FORM = "a count above 0, as in null:1000"

Maker = Callable[[str, "str | None", dict[str, Any]], Program]
BARE = ("logistic", "softmax", "svm", "least_squares")
OPTIONS = {
    "logistic": ("dtype", "intercept"),
    "softmax": ("dtype", "intercept"),
    "linear": ("dtype", "intercept", "loss", "epsilon"),
    "svm": ("dtype", "intercept"),
    "least_squares": ("intercept", "positive"),
    "mlp": ("activation", "dtype", "backend"),
    "fm": ("dtype", "spread"),
}
MAKERS: dict[str, Maker] = {
    "logistic": lambda _, __, given: Logistic(**given),
    "softmax": lambda _, __, given: Softmax(**given),
    "linear": _linear,
    "svm": lambda _, __, given: Linear("squared_hinge", **given),
    "least_squares": lambda _, __, given: LeastSquares(**given),
    "mlp": _mlp,
    "fm": _fm,
    "null": lambda spec, tail, _: Null(*(() if tail is None else _widths(spec, tail, COUNT_FORM))),
    "count": lambda spec, tail, _: Count(*(() if tail is None else _widths(spec, tail, COUNT_FORM))),
}


def _check(name: str, given: dict[str, Any], allowed: tuple[str, ...]) -> None:
    for option in given:
        if option not in allowed:
            users = [other for other in NAMES if option in OPTIONS.get(other, ())]
            hint = f"; {', '.join(map(repr, users))} can" if users else ""
            takes = f"it takes {', '.join(allowed)}" if allowed else "it takes no options"
            raise PlanError(f"model {name} cannot use {option}{hint}; {takes}")


def _widths(spec: str, tail: str, form: str = "") -> tuple[int, ...]:
    """The whole numbers above 0 after the colon: one, except for ``mlp``, whose form is the default."""
    words = [tail] if form else tail.split(",")
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise UsageError(f"model {spec!r}: wanted {form or MLP_FORM}")
    return tuple(int(word) for word in words)
