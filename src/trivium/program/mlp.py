"""Multilayer perceptron: dense layers, one activation; cross entropy for classes, half the squared error or half the
Poisson deviance for values.

    h₀ = x,   hᵢ = act(hᵢ₋₁·Wᵢ + bᵢ),   outputs = h_{k−1}·W_k + b_k

Initial weights, by ``start``:

* ``he``: He's normal for relu and gelu (He et al., ICCV 2015), Glorot's uniform for other activations and for the last
  layer (Glorot and Bengio, AISTATS 2010); biases 0.
* ``glorot``: as scikit-learn has it: weights and biases of a layer uniform within ±√(c / (units in + units out)), c = 2
  for the logistic activation, else 6.

They are drawn by NumPy, so they do not depend on the XLA version. Two kernels compute the same: ``xla``, compiled for
one shape, the faster one for large layers; ``blas``, which compiles nothing, takes batches of any size and CSR rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError, unknown
from trivium.program.checks import classes_of, features_of, float_type, targets_of
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Output, Program

__all__ = ["ACTIVATIONS", "BACKENDS", "STARTS", "Mlp"]

MOST_WIDTH = 1 << 24
ACTIVATIONS = ("relu", "tanh", "gelu", "logistic", "identity")
BACKENDS = ("xla", "blas")
STARTS = ("he", "glorot")
OUTPUTS = {"classification": ("softmax", "logistic"), "regression": ("squared", "poisson")}


@dataclass(frozen=True)
class Mlp(Program):
    """Perceptron with hidden layers of ``widths`` units; slices ``W1`` (features, units), ``b1`` … in ``dtype``.

    The task follows from the data: classes, or values where the labels are numbers, ``y`` (rows,) or (rows, outputs).
    ``outputs``: ``softmax`` (the default for classes), ``logistic`` (one output for two classes), ``squared`` (the
    default for values), ``poisson`` (the mean of counts is e^output). ``backend`` None is ``xla``, or ``blas`` for CSR.

    >>> Mlp((500, 300)).name
    'mlp:500,300'
    """

    widths: tuple[int, ...]
    activation: str = "relu"
    spec: DataSpec | None = None
    dtype: str = "float32"
    backend: str | None = None
    outputs: str | None = None
    start: str = "he"

    def __post_init__(self) -> None:
        if not self.widths:
            raise PlanError("an mlp needs at least one hidden layer, as in mlp:100 (without one it is 'softmax')")
        if any(width < 1 for width in self.widths):
            raise PlanError(f"mlp widths {self.widths}: each hidden layer needs at least one unit")
        if any(width > MOST_WIDTH for width in self.widths):
            raise PlanError(f"mlp widths {self.widths}: a hidden layer has at most {MOST_WIDTH:,} units")
        for kind, given, allowed in (
            ("activation", self.activation, ACTIVATIONS),
            ("backend", self.backend or BACKENDS[0], BACKENDS),
            ("outputs", self.outputs or "softmax", sum(OUTPUTS.values(), ())),
            ("start", self.start, STARTS),
        ):
            if given not in allowed:
                raise PlanError(unknown(kind, given, allowed))
        float_type(self.dtype)

    @property
    def name(self) -> str:
        """``mlp:`` and the widths, and the activation where it is another than relu."""
        last = "" if self.activation == ACTIVATIONS[0] else f":{self.activation}"
        return f"mlp:{','.join(map(str, self.widths))}{last}"

    @property
    def xla(self) -> bool:
        """Unless ``backend`` is ``blas``."""
        return self.backend != "blas"

    @property
    def task(self) -> str:
        """``classification`` or ``regression``; only after ``for_data``."""
        return "classification" if self._spec.classes else "regression"

    @property
    def output(self) -> Output:
        """Probabilities of classes, or values."""
        return "value" if self.spec is not None and not self.spec.classes else "probability"

    @property
    def defaults(self) -> Defaults:
        """Adam on batches of 256, at most 50 epochs, stopping when a tenth held out gets no better 3 times."""
        from trivium.program.optimizers.adam import Adam

        return Defaults(Adam(lr=1e-3), batch_size=256, epochs=50, iterations=None, valid=0.1, patience=3)

    def for_data(self, spec: DataSpec) -> Mlp:
        """With the features and classes of ``spec``; DataError where they do not fit the options."""
        values = bool(spec.rows and not spec.classes and "y" in spec.columns)
        count = targets_of(spec, self.name, many=True) if values else classes_of(spec, self.name)
        features_of(spec, self.name)
        allowed = OUTPUTS["regression" if values else "classification"]
        outputs = self.outputs or allowed[0]
        if outputs not in allowed or (outputs == "logistic" and count != 2):
            found = "the labels are numbers" if values else f"the labels have {count} classes"
            raise DataError(f"{found}; outputs={outputs!r} is not for them: use outputs={allowed[0]!r}")
        if spec.sparse and self.backend == "xla":
            raise DataError(
                f"the features are sparse ({spec.features} columns); {self.name} by XLA takes dense ones: use "
                "backend='blas', the model 'softmax' or 'logistic', or make the features dense"
            )
        return replace(self, spec=spec, outputs=outputs, backend=self.backend or ("blas" if spec.sparse else "xla"))

    @property
    def _spec(self) -> DataSpec:
        if self.spec is None:
            raise PlanError("the shapes follow from the data: call for_data first")
        return self.spec

    @property
    def _sizes(self) -> tuple[int, ...]:
        spec = self._spec
        last = len(spec.classes) or targets_of(spec, self.name, many=True)
        return (spec.features, *self.widths, 1 if self.outputs == "logistic" else last)

    @property
    def layout(self) -> Layout:
        """``W1``, ``b1``, ``W2``, ``b2`` …; biases are free of penalty."""
        shapes: dict[str, tuple[int, ...]] = {}
        sizes = self._sizes
        for i in range(1, len(sizes)):
            shapes[f"W{i}"] = (sizes[i - 1], sizes[i])
            shapes[f"b{i}"] = (sizes[i],)
        return Layout.of(shapes, self.dtype, free=tuple(name for name in shapes if name[0] == "b"))

    def init(self, seed: int) -> NDArray[Any]:
        """Random weights, biases 0 or, with ``glorot``, random too."""
        stream = np.random.Generator(np.random.Philox(key=seed))
        layout, sizes = self.layout, self._sizes
        factor = 2.0 if self.activation == "logistic" else 6.0
        flat = layout.empty()
        for name, view in layout.views(flat).items():
            layer = int(name[1:])
            fan_in, fan_out = sizes[layer - 1], sizes[layer]
            if self.start == "glorot":
                view[:] = _uniform(stream, factor, fan_in, fan_out, view.shape)
            elif name[0] == "W" and layer < len(sizes) - 1 and self.activation in ("relu", "gelu"):
                view[:] = stream.standard_normal(view.shape) * np.sqrt(2.0 / fan_in)
            elif name[0] == "W":
                view[:] = _uniform(stream, 6.0, fan_in, fan_out, view.shape)
        return flat

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """Compiled by XLA for batches of ``rows`` rows, or by the BLAS for at most so many at a time."""
        threads, sizes, outputs = 1 if reproducible else threads, self._sizes, self.outputs
        assert outputs is not None  # for_data has settled it
        if self.backend == "blas":
            from trivium.program.kernels.blas_network import BlasKernel, Net

            net = Net(sizes, self.activation, outputs)
            return BlasKernel(self.layout, net, threads, rows, padded=reproducible, sparse=self._spec.sparse)
        from trivium.program.kernels.network import NetworkKernel

        targets = sizes[-1] if self.task == "regression" else None
        return NetworkKernel(self.layout, self.forward, sizes[0], threads, rows, outputs, targets)

    def forward(self, params: tuple[Any, ...], x: Any) -> Any:
        """Outputs (rows, units) of ``x`` (rows, features), before any softmax; ``params`` are the slices in order."""
        import jax

        act = {
            "relu": jax.nn.relu,
            "tanh": jax.numpy.tanh,
            "gelu": jax.nn.gelu,
            "logistic": jax.nn.sigmoid,
            "identity": lambda z: z,
        }[self.activation]
        for i in range(0, len(params) - 2, 2):
            x = act(x @ params[i] + params[i + 1])
        return x @ params[-2] + params[-1]


def _uniform(
    stream: np.random.Generator, factor: float, fan_in: int, fan_out: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    limit = np.sqrt(factor / (fan_in + fan_out))
    return stream.uniform(-limit, limit, shape)
