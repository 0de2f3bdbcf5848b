"""A trained model as an ONNX graph, built node by node.

The graph takes ``x``, float32 (rows, features), as the model saw the rows before its steps of preparation, and gives
``label`` and ``probabilities`` (classes), ``label`` and ``score`` (margins), or ``value``. Steps that an ONNX graph can
carry out are folded in: log1p, normalize, standardize, impute. Labels are int64 where all are whole numbers, else
float32 or strings. The model's property ``features`` names the columns of x, as a JSON list, where they have names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import UsageError
from trivium.export.stack import Stack

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["OPSET", "to_onnx"]

OPSET = 21
IR_VERSION = 10  # of the file; the one that belongs to the operator set
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "gelu": "Gelu", "identity": "Identity"}


def to_onnx(stack: Stack) -> ModelProto:
    """The checked model; UsageError for a step that a graph cannot carry out, or without the package ``onnx``."""
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError:
        raise UsageError("--to onnx needs the package onnx: pip install onnx") from None
    graph = _Graph()
    at = _steps(graph, stack, "x")
    at = _layers(graph, stack, at)
    outputs = _head(graph, stack, at)
    proto = helper.make_graph(
        graph.nodes,
        "trivium",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", stack.features])],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        graph.constants,
    )
    model = helper.make_model(
        proto,
        producer_name="trivium",
        doc_string=f"{stack.name}, trained by Trivium",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    if stack.names:
        helper.set_model_props(model, {"features": json.dumps(stack.names)})
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants under construction; each method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: NDArray[Any], name: str) -> str:
        from onnx import numpy_helper

        unique = f"{name}_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, unique))
        return unique

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{len(self.nodes)}", **attributes))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32), "number")


def _steps(graph: _Graph, stack: Stack, at: str) -> str:
    if stack.scale != 1.0:
        at = graph.node("Mul", at, graph.number(stack.scale))
    for step in stack.steps:
        write = _STEPS.get(step.name.partition(":")[0])
        if write is None:
            raise UsageError(
                f"the step {step.name} cannot be exported to onnx; these can: {', '.join(sorted(_STEPS))}; "
                "--to npz writes everything"
            )
        at = write(graph, step, at, stack.sparse)
    return at


def _log1p(graph: _Graph, _step: Any, at: str, _sparse: bool) -> str:
    return graph.node("Log", graph.node("Add", at, graph.number(1.0)))


def _normalize(graph: _Graph, _step: Any, at: str, _sparse: bool) -> str:
    axis = graph.constant(np.array([1], np.int64), "axis")
    length = graph.node("ReduceL2", at, axis, keepdims=1)
    zero = graph.node("Equal", length, graph.number(0.0))
    return graph.node("Div", at, graph.node("Where", zero, graph.number(1.0), length))


def _standardize(graph: _Graph, step: Any, at: str, sparse: bool) -> str:
    state = step.state()
    if not sparse:
        at = graph.node("Sub", at, graph.constant(np.asarray(state["mean"], np.float32), "mean"))
    return graph.node("Div", at, graph.constant(np.asarray(state["deviation"], np.float32), "deviation"))


def _impute(graph: _Graph, step: Any, at: str, _sparse: bool) -> str:
    filling = np.asarray(step.state().get("mean", step.constant if step.strategy == "constant" else 0.0), np.float32)
    return graph.node("Where", graph.node("IsNaN", at), graph.constant(filling, "filling"), at)


_STEPS = {"log1p": _log1p, "normalize": _normalize, "standardize": _standardize, "impute": _impute}


def _layers(graph: _Graph, stack: Stack, at: str) -> str:
    for number, (weights, bias) in enumerate(stack.layers, 1):
        w, b = np.asarray(weights, np.float32), np.asarray(bias, np.float32)
        at = graph.node("Gemm", at, graph.constant(w, f"W{number}"), graph.constant(b, f"b{number}"))
        if number < len(stack.layers):
            about = {"approximate": "tanh"} if stack.activation == "gelu" else {}
            at = graph.node(ACTIVATIONS[stack.activation], at, **about)
    return at


def _head(graph: _Graph, stack: Stack, at: str) -> list[tuple[str, int, list[Any]]]:
    """Nodes of the answer; (name, type, shape) of each output."""
    from onnx import TensorProto

    if stack.head in ("value", "exp"):
        at = graph.node("Exp", at) if stack.head == "exp" else at
        if stack.outputs > 1:
            graph.node("Identity", at, out="value")
            return [("value", TensorProto.FLOAT, ["rows", stack.outputs])]
        graph.node("Squeeze", at, graph.constant(np.array([1], np.int64), "axis"), out="value")
        return [("value", TensorProto.FLOAT, ["rows"])]
    if stack.head == "margin":
        score = graph.node("Squeeze", at, graph.constant(np.array([1], np.int64), "axis"), out="score")
        which = graph.node("Cast", graph.node("Greater", score, graph.number(0.0)), to=TensorProto.INT64)
        return [_labels(graph, stack, which), ("score", TensorProto.FLOAT, ["rows"])]
    if stack.head == "sigmoid":
        p = graph.node("Sigmoid", at)
        graph.node("Concat", graph.node("Sub", graph.number(1.0), p), p, axis=1, out="probabilities")
    else:
        graph.node("Softmax", at, axis=1, out="probabilities")
    which = graph.node("ArgMax", "probabilities", axis=1, keepdims=0)
    return [_labels(graph, stack, which), ("probabilities", TensorProto.FLOAT, ["rows", len(stack.classes)])]


def _labels(graph: _Graph, stack: Stack, which: str) -> tuple[str, int, list[Any]]:
    from onnx import TensorProto

    names: NDArray[Any]
    if any(isinstance(one, str) for one in stack.classes):
        names, kind = np.array(stack.classes, object), TensorProto.STRING
    elif all(float(one).is_integer() for one in stack.classes):
        names, kind = np.array(stack.classes, np.int64), TensorProto.INT64
    else:
        names, kind = np.array(stack.classes, np.float32), TensorProto.FLOAT
    graph.node("Gather", graph.constant(names, "classes"), which, out="label")
    return "label", kind, ["rows"]
