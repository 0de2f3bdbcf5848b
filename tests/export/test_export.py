"""Exported models against NumPy's own arithmetic, onnxruntime and scikit-learn."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from scipy.special import expit, softmax
from sklearn.neural_network import MLPClassifier

from trivium.data.batches import Batch
from trivium.data.read import from_arrays
from trivium.data.transforms import parse_prep
from trivium.errors import UsageError
from trivium.export.onnx import to_onnx
from trivium.export.sklearn import to_sklearn
from trivium.export.stack import stack_of
from trivium.program.mlp import Mlp
from trivium.program.models import model

X = np.random.default_rng(1).standard_normal((40, 5)).astype(np.float32)
ACTS = {
    "relu": lambda h: np.maximum(h, 0),
    "tanh": np.tanh,
    "gelu": lambda h: 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))),
}


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def one_margin(name, classes, **about):
    program = SimpleNamespace(name=name, **about)
    return stack_of(program, {"w": draw(5), "b": draw(1)}, classes)


def network(activation="relu", classes=(1.0, 2.0, 3.0), outputs=3, meaning=None):
    params = {"W1": draw(5, 8), "b1": draw(8), "W2": draw(8, 4), "b2": draw(4), "W3": draw(4, outputs)}
    params["b3"] = draw(outputs)
    return stack_of(SimpleNamespace(name="mlp:8,4", activation=activation, outputs=meaning), params, classes)


def answers(stack, x=X):
    """Straight NumPy in float64: probabilities (n, classes), margins (n,) or values (n,)."""
    h = x.astype(np.float64)
    for weights, bias in stack.layers[:-1]:
        h = ACTS[stack.activation](h @ weights + bias)
    z = h @ stack.layers[-1][0] + stack.layers[-1][1]
    if stack.head == "softmax":
        return softmax(z, axis=1)
    if stack.head == "sigmoid":
        return np.hstack([1 - expit(z), expit(z)])
    z = np.exp(z) if stack.head == "exp" else z
    return z[:, 0] if z.shape[1] == 1 else z


def by_onnx(stack, x=X):
    session = onnxruntime.InferenceSession(to_onnx(stack).SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {"x": x}), strict=True))


STACKS = {
    "logistic": one_margin("logistic", (0.0, 1.0)),
    "words": one_margin("logistic", ("no", "yes")),
    "halves": one_margin("logistic", (-0.5, 0.5)),
    "svm": one_margin("svm", (-1.0, 1.0), output="score"),
    "linear": one_margin("linear", (), output="value"),
    "softmax": stack_of(SimpleNamespace(name="softmax"), {"W": draw(5, 3), "b": draw(3)}, ("a", "b", "c")),
    "softmax without an intercept": stack_of(SimpleNamespace(name="softmax"), {"W": draw(5, 3)}, ("a", "b", "c")),
    "softmax of two": stack_of(SimpleNamespace(name="softmax"), {"W": draw(5, 2), "b": draw(2)}, (3.0, 7.0)),
    **{f"mlp {name}": network(name) for name in ACTS},
    "mlp of two": network(classes=(0.0, 1.0), outputs=2),
    "mlp of one output": network(classes=("n", "y"), outputs=1),
    "mlp of numbers": network(classes=(), outputs=1),
    "mlp of counts": network(classes=(), outputs=1, meaning="poisson"),
    "mlp of several counts": network("tanh", classes=(), outputs=2, meaning="poisson"),
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_onnx_gives_the_same_answers(stack):
    expected, found = answers(stack), by_onnx(stack)
    if stack.head in ("value", "exp"):
        np.testing.assert_allclose(found["value"], expected, rtol=2e-4, atol=2e-5)
        return
    key = "score" if stack.head == "margin" else "probabilities"
    np.testing.assert_allclose(found[key], expected, rtol=2e-4, atol=2e-5)
    which = (expected > 0).astype(int) if stack.head == "margin" else expected.argmax(axis=1)
    assert list(found["label"]) == [stack.classes[i] for i in which]


@pytest.mark.parametrize("name", [name for name in STACKS if "gelu" not in name])
def test_scikit_learn_gives_the_same_answers(name):
    stack = STACKS[name]
    expected, made = answers(stack), to_sklearn(stack)
    x = X.astype(np.float64)
    if stack.head in ("value", "exp"):
        np.testing.assert_allclose(made.predict(x), expected, rtol=1e-9)
        return
    found = made.decision_function(x) if stack.head == "margin" else made.predict_proba(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    which = (expected > 0).astype(int) if stack.head == "margin" else expected.argmax(axis=1)
    assert list(made.predict(x)) == [stack.classes[i] for i in which]


def test_counts_come_out_of_a_trained_network_as_they_come_out_of_its_export():
    """The exponential is the program's last step, and must be the graph's."""
    rows, counts = X.astype(np.float64), np.arange(40) % 4 + 0.5
    program = Mlp((4,), outputs="poisson", backend="blas").for_data(from_arrays(rows, counts).spec)
    flat = program.init(3)
    stack = stack_of(program, program.layout.views(flat), ())
    kernel = program.kernel(1, 40, True)
    expected = kernel.predict(flat, kernel.read(Batch(from_arrays(rows, counts), 0, 40)))
    assert stack.head == "exp"
    np.testing.assert_allclose(by_onnx(stack)["value"], expected, rtol=2e-4)
    np.testing.assert_allclose(to_sklearn(stack).predict(rows), expected, rtol=2e-4)


def test_an_exported_network_has_every_attribute_that_prediction_of_a_fitted_one_reads():
    made = to_sklearn(STACKS["mlp relu"])
    fitted = MLPClassifier((8, 4), max_iter=300, early_stopping=False, tol=10).fit(X, np.arange(40) % 3 + 1)
    read = {"coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_", "classes_", "_label_binarizer"}
    assert read <= set(vars(fitted))
    assert read <= set(vars(made))


def test_what_scikit_learn_has_no_word_for_is_an_error_that_says_what_has():
    with pytest.raises(UsageError, match=r"no activation 'gelu'.*--to onnx has it"):
        to_sklearn(STACKS["mlp gelu"])


def test_a_model_that_is_no_stack_is_an_error_that_says_what_can_be_written():
    with pytest.raises(UsageError, match=r"'null:7' cannot be exported so.*--to npz"):
        stack_of(model("null:7"), {}, ())


RAW = np.abs(X) * 3


def fitted(prep, x):
    """Steps as training fits them, and the rows that a model then sees."""
    done = []
    for step in parse_prep(prep):
        done.append(step.fit([x]) if step.needs_fit else step)
        x = done[-1].apply(x)
    return tuple(done), x


@pytest.mark.parametrize("prep", ["log1p", "normalize", "standardize", "log1p,normalize,standardize"])
def test_steps_are_folded_in(prep):
    steps, seen = fitted(prep, RAW.astype(np.float64))
    stack = dataclasses.replace(STACKS["logistic"], steps=steps)
    expected = answers(stack, seen)
    np.testing.assert_allclose(by_onnx(stack, RAW)["probabilities"], expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(to_sklearn(stack).predict_proba(RAW.astype(np.float64)), expected, rtol=1e-7)


@pytest.mark.parametrize("prep", ["impute", "impute:zero", "impute:constant:2.5"])
def test_missing_numbers_are_filled_in_as_in_training(prep):
    holed = RAW.astype(np.float64)
    holed[::3, 1] = np.nan
    steps, seen = fitted(prep, holed)
    stack = dataclasses.replace(STACKS["logistic"], steps=steps)
    expected = answers(stack, seen)
    np.testing.assert_allclose(
        by_onnx(stack, holed.astype(np.float32))["probabilities"], expected, rtol=2e-4, atol=2e-5
    )
    np.testing.assert_allclose(to_sklearn(stack).predict_proba(holed), expected, rtol=1e-9)


def test_a_row_of_zeros_has_no_length_to_be_divided_by():
    stack = dataclasses.replace(STACKS["logistic"], steps=parse_prep("normalize"))
    assert np.isfinite(by_onnx(stack, np.zeros((2, 5), np.float32))["probabilities"]).all()


def test_sparse_rows_were_scaled_but_not_centred():
    steps, _ = fitted("standardize", RAW)
    stack = dataclasses.replace(STACKS["logistic"], steps=steps, sparse=True)
    expected = answers(stack, RAW / steps[0].deviation)
    np.testing.assert_allclose(by_onnx(stack, RAW)["probabilities"], expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(to_sklearn(stack).predict_proba(RAW.astype(np.float64)), expected, rtol=1e-6)


def test_pixels_are_scaled_first():
    stack = dataclasses.replace(STACKS["logistic"], scale=1 / 255)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 5)).astype(np.float32)
    expected = answers(stack, pixels / 255)
    np.testing.assert_allclose(by_onnx(stack, pixels)["probabilities"], expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(to_sklearn(stack).predict_proba(pixels.astype(np.float64)), expected, rtol=1e-6)


@pytest.mark.parametrize("write", [to_onnx, to_sklearn])
def test_a_step_that_cannot_be_written_is_named_with_those_that_can(write):
    stack = dataclasses.replace(STACKS["logistic"], steps=parse_prep("hash:16"))
    with pytest.raises(UsageError, match=r"step hash:16 cannot be exported.*impute, log1p, normalize, standardize"):
        write(stack)
