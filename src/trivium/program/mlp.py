"""Multilayer perceptron for classes: dense layers, one activation, cross entropy.

    h₀ = x,   hᵢ = act(hᵢ₋₁·Wᵢ + bᵢ),   logits = h_{k−1}·W_k + b_k

Initial weights: He's normal for relu and gelu (He et al., ICCV 2015), Glorot's uniform for tanh and for the last layer
(Glorot and Bengio, AISTATS 2010); biases 0. They are drawn by NumPy, so they do not depend on the XLA version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError, unknown
from trivium.program.checks import classes_of, features_of
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["ACTIVATIONS", "Mlp"]

MOST_WIDTH = 1 << 24
ACTIVATIONS = ("relu", "tanh", "gelu")


@dataclass(frozen=True)
class Mlp(Program):
    """Perceptron with hidden layers of ``widths`` units; slices ``W1`` (features, units), ``b1``, ``W2`` …, float32.

    >>> Mlp((500, 300)).name
    'mlp:500,300'
    """

    widths: tuple[int, ...]
    activation: str = "relu"
    spec: DataSpec | None = None

    def __post_init__(self) -> None:
        if not self.widths:
            raise PlanError("an mlp needs at least one hidden layer, as in mlp:100 (without one it is 'softmax')")
        if any(width < 1 for width in self.widths):
            raise PlanError(f"mlp widths {self.widths}: each hidden layer needs at least one unit")
        if any(width > MOST_WIDTH for width in self.widths):
            raise PlanError(f"mlp widths {self.widths}: a hidden layer has at most {MOST_WIDTH:,} units")
        if self.activation not in ACTIVATIONS:
            raise PlanError(unknown("activation", self.activation, ACTIVATIONS))

    @property
    def name(self) -> str:
        """``mlp:`` and the widths, and the activation where it is another than relu."""
        last = "" if self.activation == ACTIVATIONS[0] else f":{self.activation}"
        return f"mlp:{','.join(map(str, self.widths))}{last}"

    @property
    def xla(self) -> bool:
        """Always."""
        return True

    @property
    def defaults(self) -> Defaults:
        """Adam on batches of 256, at most 50 epochs, stopping when a tenth held out gets no better 3 times."""
        from trivium.program.optimizers.adam import Adam

        return Defaults(Adam(lr=1e-3), batch_size=256, epochs=50, iterations=None, valid=0.1, patience=3)

    def for_data(self, spec: DataSpec) -> Mlp:
        """With the features and classes of ``spec``; DataError for CSR features."""
        classes_of(spec, self.name)
        features_of(spec, self.name)
        if spec.sparse:
            raise DataError(
                f"the features are sparse ({spec.features} columns); {self.name} takes dense ones: use the model "
                "'softmax' or 'logistic', or make the features dense"
            )
        return replace(self, spec=spec)

    @property
    def _sizes(self) -> tuple[int, ...]:
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        return (self.spec.features, *self.widths, len(self.spec.classes))

    @property
    def layout(self) -> Layout:
        """``W1``, ``b1``, ``W2``, ``b2`` …; biases are free of penalty."""
        shapes: dict[str, tuple[int, ...]] = {}
        sizes = self._sizes
        for i in range(1, len(sizes)):
            shapes[f"W{i}"] = (sizes[i - 1], sizes[i])
            shapes[f"b{i}"] = (sizes[i],)
        return Layout.of(shapes, "float32", free=tuple(name for name in shapes if name[0] == "b"))

    def init(self, seed: int) -> NDArray[Any]:
        """Random weights, biases 0."""
        stream = np.random.Generator(np.random.Philox(key=seed))
        layout, last = self.layout, len(self._sizes) - 1
        flat = layout.empty()
        for name, view in layout.views(flat).items():
            if name[0] == "W":
                glorot = self.activation == "tanh" or name == f"W{last}"
                view[:] = _draw(stream, view.shape[0], view.shape[1], glorot)
        return flat

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Compiled by XLA for batches of ``rows`` rows."""
        from trivium.program.kernels.network import NetworkKernel

        threads = 1 if reproducible else threads
        return NetworkKernel(self.layout, self.forward, self._sizes[0], threads, rows)

    def forward(self, params: tuple[Any, ...], x: Any) -> Any:
        """Logits (rows, classes) of ``x`` (rows, features); ``params`` are the slices in order."""
        import jax

        act = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh, "gelu": jax.nn.gelu}[self.activation]
        for i in range(0, len(params) - 2, 2):
            x = act(x @ params[i] + params[i + 1])
        return x @ params[-2] + params[-1]


def _draw(stream: np.random.Generator, fan_in: int, fan_out: int, glorot: bool) -> NDArray[np.float64]:
    if glorot:
        limit = np.sqrt(6.0 / (fan_in + fan_out))
        return stream.uniform(-limit, limit, (fan_in, fan_out))
    return np.asarray(stream.standard_normal((fan_in, fan_out)) * np.sqrt(2.0 / fan_in))
