"""Programs from a loss: against NumPy for a linear model, against the perceptron for a network."""

import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trivium.data.batches import Batch
from trivium.data.table import Table
from trivium.errors import DataError, PlanError, ProgramError, UsageError
from trivium.program.mlp import Mlp
from trivium.program.optimizers import optimizer
from trivium.program.program import Program

SGD = optimizer("sgd", lr=0.1)


@pytest.fixture
def houses():
    stream = np.random.default_rng(0)
    area, rooms = stream.normal(0, 1, (40, 2)).astype(np.float32), stream.normal(0, 1, 40).astype(np.float32)
    price = area @ [2.0, -1.0] + 3 * rooms + 5
    weight = stream.integers(0, 3, 40).astype(np.float32)
    return Table({"area": area, "rooms": rooms, "price": price.astype(np.float32), "weight": weight})


def start(key):
    return {"area": jax.random.normal(key, (2,)), "rest": [jnp.float32(1.0), jnp.float32(0.5)]}


def guess(params, batch):
    return batch["area"] @ params["area"] + params["rest"][0] * batch["rooms"] + params["rest"][1]


def mean_loss(params, batch, key):
    error = guess(params, batch) - batch["price"]
    return jnp.mean(error**2) / 2, {"absolute": jnp.mean(jnp.abs(error))}


def row_loss(params, batch, key):
    error = guess(params, batch) - batch["price"]
    return error**2 / 2, {"absolute": jnp.abs(error)}


def wanted(table, rows, weight):
    c = {name: np.asarray(column, float)[rows] for name, column in table.columns.items()}
    a = np.asarray(jax.random.normal(jax.random.key(7), (2,)), float)
    error = c["area"] @ a + c["rooms"] + 0.5 - c["price"]
    r = weight * error
    return (r * error).sum() / 2, c["area"].T @ r, r @ c["rooms"], r.sum(), (weight * np.abs(error)).sum()


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("index", [np.arange(16), np.array([3, 3, 39]), np.arange(40)])
def test_linear_model_on_named_columns(houses, per_row, index):
    made = Program.from_loss(start, row_loss if per_row else mean_loss, SGD, per_row=per_row, predict=guess)
    program = made.for_data(houses.spec)
    assert [s.name for s in program.layout.slices] == ["area", "rest/0", "rest/1"]
    kernel, a, out = program.kernel(1, 16, reproducible=True), program.init(7), program.layout.empty()
    ready = kernel.read(Batch(houses, index=index))
    stats = kernel.delta(a, ready, out, 0)
    weight = houses.columns["weight"][index].astype(float) if per_row else np.ones(len(index))
    loss, area, rooms, constant, absolute = wanted(houses, index, weight)
    views = program.layout.views(out)
    assert stats == pytest.approx((len(index), weight.sum(), loss), rel=1e-5)
    assert views["area"] == pytest.approx(area, rel=1e-4, abs=1e-4)
    assert [views["rest/0"], views["rest/1"]] == pytest.approx([rooms, constant], rel=1e-4, abs=1e-4)
    assert kernel.measure(a, ready)["absolute"] == pytest.approx(absolute, rel=1e-5)
    assert kernel.evaluate(a, ready) == pytest.approx((*stats, math.nan), rel=1e-6, nan_ok=True)
    assert kernel.predict(a, ready) == pytest.approx(
        guess({"area": a[:2], "rest": [1.0, 0.5]}, {k: np.asarray(v)[index] for k, v in houses.columns.items()}),
        rel=1e-5,
    )


def test_two_layers_equal_the_perceptron():
    stream = np.random.default_rng(0)
    x = stream.integers(0, 256, (30, 6)).astype(np.uint8)
    table = Table({"x": x, "y": stream.integers(0, 3, 30).astype(np.int32)}, ("a", "b", "c"), scale=1 / 255)
    mlp = Mlp((5,)).for_data(table.spec)

    def shapes(key):
        return {name: jnp.zeros(view.shape) for name, view in mlp.layout.views(mlp.init(0)).items()}

    def loss(params, batch, key):
        logits = jax.nn.relu(batch["x"] @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]
        right = (logits.argmax(1) == batch["y"]).mean()
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(logits)), batch["y"]]), {"correct": right}

    program = Program.from_loss(shapes, loss, SGD, name="net", free=("b1", "b2")).for_data(table.spec)
    assert {s.name for s in program.layout.slices if not s.penalised} == {"b1", "b2"}
    values = mlp.init(0)
    a = program.layout.pack(mlp.layout.views(values))
    out, other = program.layout.empty(), mlp.layout.empty()
    kernel, reference = program.kernel(1, 30, False), mlp.kernel(1, 30, False)
    batch = Batch(table, 0, 30)
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    assert stats == pytest.approx(reference.delta(values, reference.read(batch), other, 0), rel=1e-5)
    for name, view in program.layout.views(out).items():
        assert view == pytest.approx(mlp.layout.views(other)[name], abs=1e-5)
    assert kernel.evaluate(a, kernel.read(batch)) == pytest.approx(
        reference.evaluate(values, reference.read(batch)), rel=1e-5
    )


def test_the_key_decides_what_is_random(houses):
    def noisy(params, batch, key):
        return params["w"] * jax.random.normal(key), {}

    program = Program.from_loss(lambda key: {"w": jnp.ones(())}, noisy, SGD).for_data(houses.spec)
    kernel, a, out = program.kernel(1, 8, True), program.init(0), program.layout.empty()
    ready = kernel.read(Batch(houses, 0, 8))
    losses = [kernel.delta(a, ready, out, key)[2] for key in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_mistakes_are_named(houses):
    spec = houses.spec
    mistaken = Program.from_loss(start, row_loss, SGD).for_data(spec).kernel(1, 8, False)
    a, ready = Program.from_loss(start, row_loss, SGD).for_data(spec).init(0), None
    ready = mistaken.read(Batch(houses, 0, 8))
    with pytest.raises(ProgramError, match=r"returned float32\(8,\); wanted a float, the mean over the rows"):
        mistaken.delta(a, ready, np.zeros_like(a), 0)
    with pytest.raises(UsageError, match="cannot predict"):
        mistaken.predict(a, ready)
    with pytest.raises(PlanError, match="int32"):
        _ = Program.from_loss(lambda key: {"n": jnp.zeros(3, int)}, row_loss, SGD).layout
    with pytest.raises(PlanError, match="no parameter is called 'bias'"):
        _ = Program.from_loss(start, row_loss, SGD, free=("bias",)).layout
    with pytest.raises(PlanError, match="no arrays"):
        _ = Program.from_loss(lambda key: {}, row_loss, SGD).layout
    with pytest.raises(DataError, match="no rows"):
        Program.from_loss(start, row_loss, SGD).for_data(Table({"x": np.zeros((0, 2))}).spec)


def test_the_layout_is_known_before_xla_runs():
    code = (
        "import jax.numpy as jnp, jax; from trivium.program.program import Program\n"
        "from trivium.program.kernels import xla; from trivium.program.optimizers import optimizer\n"
        "p = Program.from_loss(lambda k: {'w': jax.random.normal(k, (3,))}, lambda p, b, k: 0.0, optimizer('sgd'))\n"
        "assert p.layout.slices[0].shape == (3,) and xla.threads_in_use() is None\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)


def failing(loss, houses, **options):
    """What the first Δ raises."""
    program = Program.from_loss(start, loss, SGD, name="mine", **options).for_data(houses.spec)
    kernel = program.kernel(1, 8, False)
    with pytest.raises(ProgramError) as caught:
        kernel.delta(program.init(0), kernel.read(Batch(houses, 0, 8)), program.layout.empty(), 0)
    return caught.value


def test_a_mistake_shows_the_line_and_the_shapes_and_nothing_of_jax(houses):
    def deeper(params, batch):
        return batch["area"] @ params["area"].reshape(1, 2)  # here

    def loss(params, batch, key):
        return jnp.mean(deeper(params, batch))

    error = failing(loss, houses)
    lines = str(error).splitlines()
    assert lines[0].startswith("loss of 'mine' raised TypeError at ")
    assert lines[0].endswith(", in deeper:")
    assert f"{__file__}:{deeper.__code__.co_firstlineno + 1}" in lines[0]
    assert lines[1] == '    return batch["area"] @ params["area"].reshape(1, 2)  # here'
    assert "(2,) and (1,)" in lines[2]
    assert lines[-2] == "params: area float32(2,), rest/0 float32(), rest/1 float32()"
    assert lines[-1] == "batch: area float32(8, 2), rooms float32(8,), price float32(8,), weight float32(8,)"
    assert len(lines) == 5
    assert "jax" in error.traceback
    assert "Traceback" in error.traceback


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (
            lambda params, batch, key: batch["prize"],
            r"raised KeyError at .*test_from_loss.py:\d+, in <lambda>:\n.*\n'prize'",
        ),
        (lambda params, batch: 0.0, r"loss of 'mine' raised TypeError at .*takes 2 positional arguments but 3"),
        (lambda params, batch, key: None, "returned NoneType; wanted the loss, or "),
        (lambda params, batch, key: (0.0, 1.0), "returned tuple of float, float; wanted"),
        (lambda params, batch, key: (0.0, {"a": "b"}), "returned tuple of float, dict"),
        (lambda params, batch, key: 3, r"returned int32\(\); wanted a float, the mean over the rows, of shape \(\)"),
        (
            lambda params, batch, key: (guess(params, batch).sum(), {"a": batch["rooms"]}),
            r"float32\(8,\) for 'a' of aux",
        ),
        (lambda params, batch, key: 1.0 if guess(params, batch)[0] > 0 else 0.0, "TracerBoolConversionError"),
    ],
)
def test_what_the_loss_does_wrong_is_told_shortly(houses, loss, told):
    error = failing(loss, houses)
    assert re.search(told, str(error), re.DOTALL), str(error)
    assert "batch: area float32(8, 2)" in str(error)
    assert len(str(error)) < 900


def test_one_value_a_row_is_asked_for_with_per_row(houses):
    assert "wanted one float a row, of shape (8,)" in str(failing(mean_loss, houses, per_row=True))


def test_mistakes_of_init_and_predict(houses):
    def init(key):
        return {"w": jnp.zeros(3) + jnp.zeros(4)}

    with pytest.raises(ProgramError, match=r"init of 'custom' raised TypeError at .*in init:\n.*jnp.zeros\(3\)"):
        _ = Program.from_loss(init, mean_loss, SGD).layout
    for answer, told in (
        (lambda params, batch: batch["area"] @ jnp.ones(3), r"predict of 'custom' raised TypeError.*jnp.ones\(3\)"),
        (lambda params, batch: jnp.ones(3), r"returned float32\(3,\); wanted one entry a row, \(8, …\)"),
    ):
        program = Program.from_loss(start, mean_loss, SGD, predict=answer).for_data(houses.spec)
        kernel = program.kernel(1, 8, False)
        with pytest.raises(ProgramError, match=re.compile(told, re.DOTALL)):
            kernel.predict(program.init(0), kernel.read(Batch(houses, 0, 8)))


def test_a_loss_that_is_not_finite_is_no_mistake(houses):
    program = Program.from_loss(start, lambda params, batch, key: params["rest"][0] * jnp.nan, SGD).for_data(
        houses.spec
    )
    kernel = program.kernel(1, 8, False)
    _, _, loss = kernel.delta(program.init(0), kernel.read(Batch(houses, 0, 8)), program.layout.empty(), 0)
    assert np.isnan(loss)
