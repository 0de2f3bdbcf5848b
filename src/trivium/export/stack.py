"""What all exportable models are: steps of preparation, dense layers, and a head that says what the last numbers mean.

    h₀ = steps(x),   hᵢ = act(hᵢ₋₁·Wᵢ + bᵢ),   z = h_{k−1}·W_k + b_k,   answer = head(z)

| head | of | z | answer |
|---|---|---|---|
| ``sigmoid`` | logistic, mlp with one output | (n, 1) | p = 1/(1 + exp(−z)) of the second class |
| ``softmax`` | softmax, mlp | (n, classes) | exp(z)/Σ exp(z) |
| ``margin`` | svm and its kin | (n, 1) | the second class where z > 0 |
| ``value`` | linear and its kin, mlp for numbers | (n, outputs) | z |
| ``exp`` | mlp for counts (``outputs="poisson"``) | (n, outputs) | exp(z) |

A model without an intercept has b = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.transforms.base import Transform
from trivium.errors import UsageError

__all__ = ["EXPORTABLE", "Stack", "stack_of"]

EXPORTABLE = ("logistic", "softmax", "linear", "svm", "mlp", "least_squares")

Layer = tuple[NDArray[Any], NDArray[Any]]  # W (in, out), b (out,)


@dataclass(frozen=True)
class Stack:
    """``layers`` with ``activation`` between them; ``scale`` is what x is multiplied by before the steps (pixels).

    ``sparse``: it was trained on sparse rows, which the step standardize does not centre. ``names``: of the columns of
    x, where they have any.
    """

    name: str
    layers: tuple[Layer, ...]
    head: str
    classes: tuple[float | str, ...]
    activation: str = "identity"
    steps: tuple[Transform, ...] = ()
    scale: float = 1.0
    sparse: bool = False
    names: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """Columns of x after the steps."""
        return int(self.layers[0][0].shape[0])

    @property
    def outputs(self) -> int:
        """Numbers that come out before the head."""
        return int(self.layers[-1][1].shape[0])


def stack_of(
    program: Any,
    params: Mapping[str, NDArray[Any]],
    classes: tuple[float | str, ...],
    steps: tuple[Transform, ...] = (),
    scale: float = 1.0,
    sparse: bool = False,
    names: tuple[str, ...] = (),
) -> Stack:
    """The stack of a trained ``program``; UsageError for one that is none.

    >>> from trivium.program.models import model
    >>> stack_of(model("logistic"), {"w": np.ones(3), "b": np.zeros(1)}, (0.0, 1.0)).head
    'sigmoid'
    """
    family = program.name.partition(":")[0]
    if family not in EXPORTABLE:
        raise UsageError(
            f"a model {program.name!r} cannot be exported so: it is none of {', '.join(EXPORTABLE)}; "
            "--to npz writes the parameters of any model"
        )
    if family == "mlp":
        layers = tuple((params[f"W{i}"], params[f"b{i}"]) for i in range(1, 1 + len(params) // 2))
    elif family == "softmax":
        layers = ((params["W"], params.get("b", np.zeros(params["W"].shape[1], params["W"].dtype))),)
    else:
        weights = np.reshape(params["w"], (len(params["w"]), -1))  # a column a target
        layers = ((weights, np.reshape(params.get("b", np.zeros(weights.shape[1])), -1)),)
    return Stack(
        program.name,
        layers,
        _head(family, program, classes, layers[-1][1].size),
        classes,
        getattr(program, "activation", "identity"),
        steps,
        scale,
        sparse,
        names,
    )


def _head(family: str, program: Any, classes: tuple[float | str, ...], outputs: int) -> str:
    if not classes:
        return "exp" if getattr(program, "outputs", None) == "poisson" else "value"
    if family in ("linear", "svm"):
        return "margin" if getattr(program, "output", "score") == "score" else "value"
    return "sigmoid" if outputs == 1 else "softmax"
