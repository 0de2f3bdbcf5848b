"""The perceptron against a NumPy network, JAX's own derivative and finite differences; memory, padding, bits."""

import subprocess
import sys

import numpy as np
import pytest

from trivium.data.batches import Batch
from trivium.data.table import DataSpec, Table
from trivium.errors import DataError, PlanError
from trivium.program.losses import cross_entropy, softmax
from trivium.program.mlp import Mlp

CLASSES = ("a", "b", "c")


def make(rows=100, features=12):
    stream = np.random.default_rng(0)
    x = stream.integers(0, 256, (rows, features)).astype(np.uint8)
    y = stream.integers(0, 3, rows).astype(np.int32)
    return Table({"x": x, "y": y}, CLASSES, scale=1 / 255)


def backward(program, a, x, y):
    """Logits, and Σ of gradients for relu, by NumPy in float64."""
    views = {name: view.astype(float) for name, view in program.layout.views(a).items()}
    h = np.maximum(x @ views["W1"] + views["b1"], 0)
    logits = h @ views["W2"] + views["b2"]
    d2 = softmax(logits) - np.eye(logits.shape[1])[y]
    d1 = (d2 @ views["W2"].T) * (h > 0)
    return logits, {"W1": x.T @ d1, "b1": d1.sum(0), "W2": h.T @ d2, "b2": d2.sum(0)}


def features(table):
    return table.columns["x"] * (1 / 255)


@pytest.fixture
def setting():
    table = make()
    program = Mlp((8,)).for_data(table.spec)
    return table, program, program.kernel(1, 32, reproducible=True), program.init(3)


def run(kernel, a, batch, out):
    return kernel.delta(a, kernel.read(batch), out, 0)


@pytest.mark.parametrize("index", [np.arange(32), np.array([5, 5, 99]), np.arange(100)])
def test_gradient_and_loss_of_full_short_and_long_batches(setting, index):
    table, program, kernel, a = setting
    out = program.layout.empty()
    stats = run(kernel, a, Batch(table, index=index), out)
    logits, wanted = backward(program, a, features(table)[index], table.columns["y"][index])
    assert stats[:2] == (len(index), len(index))
    assert stats[2] == pytest.approx(cross_entropy(logits, table.columns["y"][index]).sum(), rel=1e-5)
    for name, view in program.layout.views(out).items():
        assert view == pytest.approx(wanted[name], abs=1e-4), name


def test_range_of_rows_equals_the_same_rows_picked(setting):
    table, program, kernel, a = setting
    one, two = program.layout.empty(), program.layout.empty()
    assert run(kernel, a, Batch(table, 10, 40), one) == run(kernel, a, Batch(table, index=np.arange(10, 40)), two)
    assert one.tobytes() == two.tobytes()


def test_weights_equal_repeated_rows(setting):
    table, program, kernel, a = setting
    weight = np.zeros(100, np.float32)
    weight[[4, 7]] = (2, 3)
    one, two = program.layout.empty(), program.layout.empty()
    s1 = run(kernel, a, Batch(Table({**table.columns, "weight": weight}, CLASSES, 1 / 255), 0, 30), one)
    s2 = run(kernel, a, Batch(table, index=np.array([4, 4, 7, 7, 7])), two)
    assert s1[1:] == pytest.approx(s2[1:], rel=1e-6)
    assert one == pytest.approx(two, abs=1e-5)


def test_parameters_written_in_place_are_seen_by_the_next_call(setting):
    table, program, kernel, a = setting
    batch, out = Batch(table, 0, 32), program.layout.empty()
    kernel.refresh(a)
    before = run(kernel, a, batch, out)
    a[:] = program.init(4)
    after, evaluated = run(kernel, a, batch, out), kernel.evaluate(a, kernel.read(batch))
    logits, _ = backward(program, a, features(table)[:32], table.columns["y"][:32])
    assert before[2] != after[2]
    assert after[2] == pytest.approx(cross_entropy(logits, table.columns["y"][:32]).sum(), rel=1e-5)
    assert evaluated[2] == pytest.approx(after[2], rel=1e-5)


def test_parameters_off_the_boundary_are_read_afresh_too(setting):
    table, program, kernel, a = setting
    crooked = np.zeros(program.layout.size + 16, np.float32)
    shift = 1 + (-crooked.ctypes.data // 4) % 16
    odd, out = crooked[shift:][: program.layout.size], program.layout.empty()
    odd[:] = a
    first = run(kernel, odd, Batch(table, 0, 32), out)
    assert first == run(kernel, a, Batch(table, 0, 32), out)
    odd[:] = program.init(4)
    assert run(kernel, odd, Batch(table, 0, 32), out) != first


def test_read_only_parameters_and_one_batch_read_ahead(setting):
    table, program, kernel, a = setting
    a.flags.writeable = False
    out = [program.layout.empty() for _ in range(3)]
    first, second = kernel.read(Batch(table, 0, 32)), kernel.read(Batch(table, 50, 82))
    kernel.delta(a, first, out[0], 0)
    kernel.delta(a, second, out[1], 0)
    run(kernel, a, Batch(table, 0, 32), out[2])
    assert out[0].tobytes() == out[2].tobytes() != out[1].tobytes()


def test_evaluation_and_prediction_of_more_rows_than_one_call_takes():
    table = make(5000)
    program = Mlp((8,)).for_data(table.spec)
    kernel, a = program.kernel(1, 32, reproducible=False), program.init(0)
    ready = kernel.read(Batch(table, 0, 5000))
    logits, _ = backward(program, a, features(table), table.columns["y"])
    sums = kernel.evaluate(a, ready)
    assert sums[:2].tolist() == [5000, 5000]
    assert sums[2] == pytest.approx(cross_entropy(logits, table.columns["y"]).sum(), rel=1e-5)
    assert sums[3] == pytest.approx((logits.argmax(1) == table.columns["y"]).sum(), abs=2)
    assert kernel.predict(a, ready) == pytest.approx(softmax(logits), abs=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_gradient_of_other_activations_by_differences(activation):
    table = make()
    program = Mlp((8, 4), activation).for_data(table.spec)
    kernel, a, out = program.kernel(1, 100, reproducible=False), program.init(0), program.layout.empty()
    ready = kernel.read(Batch(table, 0, 100))
    kernel.delta(a, ready, out, 0)
    direction = out * (0.05 / np.linalg.norm(out))
    rise = kernel.evaluate(a + direction, ready)[2] - kernel.evaluate(a - direction, ready)[2]
    assert rise == pytest.approx(2 * float(direction @ out), rel=1e-2)


def test_initial_weights_have_the_spread_of_he_and_glorot():
    spec = DataSpec(10, 400, False, CLASSES, {"x": ("float32", (400,)), "y": ("int32", ())})
    program = Mlp((300,)).for_data(spec)
    views = program.layout.views(program.init(0))
    assert views["W1"].std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
    assert np.abs(views["W2"]).max() <= np.sqrt(6 / 303)
    assert views["W2"].std() == pytest.approx(np.sqrt(2 / 303), rel=0.06)
    assert not views["b1"].any()
    assert not np.array_equal(program.init(0), program.init(1))
    tanh = Mlp((300,), "tanh").for_data(spec)
    assert np.abs(tanh.layout.views(tanh.init(0))["W1"]).max() <= np.sqrt(6 / 700)


def test_bits_do_not_depend_on_the_output_or_on_the_process(setting):
    table, program, kernel, a = setting
    outs = [np.zeros(program.layout.size + 64, np.float32)[16 * i :][: program.layout.size] for i in range(4)]
    for out in outs:
        run(kernel, a, Batch(table, index=np.arange(7, 30)), out)
    assert len({out.tobytes() for out in outs}) == 1
    code = (
        "import sys, numpy as np; from trivium.data.batches import Batch; from trivium.data.table import Table\n"
        "from trivium.program.mlp import Mlp\n"
        "s = np.random.default_rng(0); x = s.integers(0, 256, (100, 12)).astype(np.uint8)\n"
        "t = Table({'x': x, 'y': s.integers(0, 3, 100).astype(np.int32)}, ('a', 'b', 'c'), scale=1 / 255)\n"
        "p = Mlp((8,)).for_data(t.spec); k = p.kernel(1, 32, True); out = p.layout.empty()\n"
        "k.delta(p.init(3), k.read(Batch(t, index=np.arange(7, 30))), out, 0); sys.stdout.write(out.tobytes().hex())\n"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert other.stdout == outs[0].tobytes().hex()


def test_bad_shapes_and_data_are_refused():
    spec = DataSpec(10, 4, True, CLASSES, {"x": ("float32", (4,)), "y": ("int32", ())})
    with pytest.raises(DataError, match=r"sparse.*blas.*softmax"):
        Mlp((3,), backend="xla").for_data(spec)
    with pytest.raises(PlanError, match="at least one unit"):
        Mlp((3, 0))
    with pytest.raises(PlanError, match="at least one hidden layer"):
        Mlp(())
    with pytest.raises(PlanError, match="did you mean 'relu'"):
        Mlp((3,), "rely")
    with pytest.raises(PlanError, match="for_data"):
        _ = Mlp((3,)).layout
    with pytest.raises(PlanError, match="did you mean 'blas'"):
        Mlp((3,), backend="bls")
    with pytest.raises(DataError, match=r"3 classes.*outputs='softmax'"):
        Mlp((3,), outputs="logistic").for_data(make().spec)
    words = {"x": ("float32", (4,)), "y": ("<U3", ())}
    with pytest.raises(DataError, match="labels are <U3"):
        Mlp((3,)).for_data(DataSpec(10, 4, False, (), words))
