"""A trained model as a scikit-learn estimator whose fitted attributes are set, so that it answers as the model does.

Steps of preparation become a ``Pipeline``. The only module on the command's path that imports scikit-learn.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import UsageError
from trivium.export.stack import Stack

__all__ = ["to_sklearn"]

ACTIVATIONS = ("relu", "tanh", "logistic", "identity")  # of scikit-learn's networks


def to_sklearn(stack: Stack) -> Any:
    """The fitted estimator, or a pipeline that ends in it; UsageError for what scikit-learn has no word for."""
    from sklearn.pipeline import Pipeline

    estimator = _network(stack) if len(stack.layers) > 1 else _linear(stack)
    estimator.n_features_in_ = stack.features
    steps = [("scale", _scale(stack.scale))] if stack.scale != 1.0 else []
    for number, step in enumerate(stack.steps, 1):
        name = step.name.partition(":")[0]
        make = _STEPS.get(name)
        if make is None:
            raise UsageError(
                f"the step {step.name} cannot be exported to scikit-learn; these can: {', '.join(sorted(_STEPS))}; "
                "--to npz writes everything"
            )
        steps.append((f"{name}-{number}", make(step, stack)))
    return Pipeline([*steps, ("model", estimator)]) if steps else estimator


def _classes(stack: Stack) -> NDArray[Any]:
    if any(isinstance(one, str) for one in stack.classes):
        return np.array(stack.classes, dtype=np.str_)
    whole = all(float(one).is_integer() for one in stack.classes)
    return np.array(stack.classes, np.int64 if whole else np.float64)


def _two_way(weights: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """One output that says of two classes what two outputs say: softmax(z)₁ = sigmoid(z₁ − z₀)."""
    return weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]


def _linear(stack: Stack) -> Any:
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.svm import LinearSVC

    weights, bias = (np.asarray(one, np.float64) for one in stack.layers[0])
    if stack.head == "value":
        made = LinearRegression()
        many = stack.outputs > 1
        made.coef_, made.intercept_ = (weights.T, bias) if many else (weights[:, 0], float(bias[0]))
        return made
    if stack.head == "softmax" and len(stack.classes) == 2:
        weights, bias = _two_way(weights, bias)
    made = LinearSVC() if stack.head == "margin" else LogisticRegression()
    made.coef_, made.intercept_, made.classes_ = weights.T.copy(), bias.copy(), _classes(stack)
    made.n_iter_ = 0 if stack.head == "margin" else np.zeros(1, np.int32)
    return made


def _network(stack: Stack) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import LabelBinarizer

    if stack.activation not in ACTIVATIONS:
        raise UsageError(
            f"scikit-learn has no activation {stack.activation!r}, only {', '.join(ACTIVATIONS)}; --to onnx has it"
        )
    layers = [(np.asarray(w), np.asarray(b)) for w, b in stack.layers]
    if stack.head == "softmax" and len(stack.classes) == 2:
        layers[-1] = _two_way(*layers[-1])
    widths = tuple(len(bias) for _, bias in layers[:-1])
    shape: dict[str, Any] = {"hidden_layer_sizes": widths, "activation": stack.activation}
    if stack.head == "exp":
        made = MLPRegressor(loss="poisson", **shape)
    else:
        made = (MLPRegressor if stack.head == "value" else MLPClassifier)(**shape)
    made.coefs_, made.intercepts_ = [w for w, _ in layers], [b for _, b in layers]
    made.n_layers_, made.n_outputs_ = len(layers) + 1, len(layers[-1][1])
    made.n_iter_, made.t_, made.loss_ = 0, 0, float("nan")
    if stack.head in ("value", "exp"):
        made.out_activation_ = "exp" if stack.head == "exp" else "identity"
        return made
    made.out_activation_ = "logistic" if made.n_outputs_ == 1 else "softmax"
    made.classes_ = _classes(stack)
    made._label_binarizer = LabelBinarizer().fit(made.classes_)  # noqa: SLF001  what fit would have set
    return made


def _scale(factor: float) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(partial(np.multiply, factor))


def _log1p(_step: Any, _stack: Stack) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(np.log1p, accept_sparse=True)


def _normalize(_step: Any, _stack: Stack) -> Any:
    from sklearn.preprocessing import Normalizer

    return Normalizer()


def _standardize(step: Any, stack: Stack) -> Any:
    from sklearn.preprocessing import StandardScaler

    state, made = step.state(), StandardScaler(with_mean=not stack.sparse)
    made.mean_, made.scale_ = np.asarray(state["mean"]), np.asarray(state["deviation"])
    made.var_ = made.scale_**2
    made.n_features_in_, made.n_samples_seen_ = len(made.scale_), 1
    return made


def _impute(step: Any, stack: Stack) -> Any:
    from sklearn.impute import SimpleImputer

    mean = step.state().get("mean")
    if mean is None:
        filling = step.constant if step.strategy == "constant" else 0.0
        made = SimpleImputer(strategy="constant", fill_value=filling, keep_empty_features=True)
        return made.fit(np.zeros((1, stack.features)))
    return SimpleImputer(keep_empty_features=True).fit(np.vstack([mean, mean]))  # whose mean is what was fitted


_STEPS = {"log1p": _log1p, "normalize": _normalize, "standardize": _standardize, "impute": _impute}
