"""Both kernels of the perceptron: against each other, scikit-learn's own step, and finite differences."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.neural_network import MLPClassifier, MLPRegressor

from trivium.data.batches import Batch
from trivium.data.table import Csr, Table
from trivium.program.mlp import ACTIVATIONS, Mlp

ROWS, FEATURES, RATE = 90, 7, 1e-3


def table_of(kind, dtype="float64"):
    stream = np.random.default_rng(1)
    x = stream.normal(size=(ROWS, FEATURES)).astype(dtype)
    weight = stream.integers(0, 3, ROWS).astype(np.float32)
    if kind == "classes":
        return Table({"x": x, "y": stream.integers(0, 3, ROWS).astype(np.int32), "weight": weight}, ("a", "b", "c"))
    if kind == "two":
        return Table({"x": x, "y": stream.integers(0, 2, ROWS).astype(np.int32), "weight": weight}, ("a", "b"))
    if kind == "counts":
        return Table({"x": x, "y": stream.poisson(1.5, ROWS).astype(dtype), "weight": weight})
    shape = (ROWS,) if kind == "values" else (ROWS, 2)
    return Table({"x": x, "y": stream.normal(size=shape).astype(dtype), "weight": weight})


def made(kind, table, **options):
    outputs = {"two": "logistic", "counts": "poisson"}.get(kind)
    options = {"outputs": outputs} | options
    return Mlp((8, 5), **options).for_data(table.spec)


def found(program, table, rows=ROWS, batch=None, reproducible=False):
    kernel, a, out = program.kernel(1, rows, reproducible), program.init(5), program.layout.empty()
    out[:] = np.nan
    batch = batch or Batch(table, index=np.arange(ROWS))
    stats = kernel.delta(a, kernel.read(batch), out, 0)
    slices = np.concatenate([view.ravel() for view in program.layout.views(out).values()])
    return stats, slices, kernel.evaluate(a, kernel.read(batch)), kernel.predict(a, kernel.read(batch))


@pytest.mark.parametrize("kind", ["classes", "two", "values", "vectors", "counts"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("dtype", "rel"), [("float64", 1e-10), ("float32", 1e-5)])
def test_the_two_kernels_agree(kind, activation, dtype, rel):
    table = table_of(kind, dtype)
    one, two = (
        found(made(kind, table, activation=activation, dtype=dtype, backend=backend), table)
        for backend in ("blas", "xla")
    )
    assert one[0] == pytest.approx(two[0], rel=rel)
    assert one[1] == pytest.approx(two[1], rel=rel, abs=rel * float(np.abs(two[1]).max()))
    assert one[2] == pytest.approx(two[2], rel=rel, nan_ok=True)
    assert np.isnan(one[2][3]) == (kind in ("values", "vectors", "counts"))
    assert one[3] == pytest.approx(two[3], rel=rel, abs=rel)
    assert one[3].shape == two[3].shape


@pytest.mark.parametrize("kind", ["classes", "two", "values", "vectors", "counts"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_by_differences(kind, activation):
    table = table_of(kind)
    program = made(kind, table, activation=activation, dtype="float64", backend="blas")
    kernel, a, out = program.kernel(1, ROWS, False), program.init(5), program.layout.empty()
    ready = kernel.read(Batch(table, 0, ROWS))
    kernel.delta(a, ready, out, 0)
    for seed in range(3):
        direction = program.layout.empty()
        for view in program.layout.views(direction).values():
            view[:] = np.random.default_rng(seed).normal(size=view.shape)
        step = 1e-5 * direction
        rise = kernel.evaluate(a + step, ready)[2] - kernel.evaluate(a - step, ready)[2]
        assert rise == pytest.approx(2e-5 * float(direction @ out), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", ["classes", "two", "values", "counts"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_one_step_is_scikit_learns(kind, activation):
    table = table_of(kind)
    x, y = table.columns["x"], table.columns["y"]
    regression = kind in ("values", "counts")
    cls = MLPRegressor if regression else MLPClassifier
    settings = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": RATE, "alpha": 0.0, "batch_size": ROWS}
    settings |= {"loss": "poisson"} if kind == "counts" else {}
    theirs = cls(hidden_layer_sizes=(8, 5), activation=activation, random_state=0, nesterovs_momentum=False, **settings)
    first = {} if regression else {"classes": np.unique(y)}
    theirs.partial_fit(x, y, **first)
    before = [array.copy() for array in (*theirs.coefs_, *theirs.intercepts_)]
    theirs.partial_fit(x, y)
    steps = [(old - new) / RATE for old, new in zip(before, (*theirs.coefs_, *theirs.intercepts_), strict=True)]

    plain = Table({"x": x, "y": y}, table.classes)
    program = made(kind, plain, activation=activation, dtype="float64", backend="blas")
    names = [f"W{i}" for i in (1, 2, 3)] + [f"b{i}" for i in (1, 2, 3)]
    assert [program.layout.views(program.layout.empty())[n].shape for n in names] == [b.shape for b in before]
    a, out = program.layout.pack(dict(zip(names, before, strict=True))), program.layout.empty()
    kernel = program.kernel(1, ROWS, False)
    ready = kernel.read(Batch(plain, 0, ROWS))
    _, weight, loss = kernel.delta(a, ready, out, 0)
    for name, step in zip(names, steps, strict=True):
        assert program.layout.views(out)[name] / weight == pytest.approx(step, rel=1e-9, abs=1e-11), name
    assert loss / weight == pytest.approx(theirs.loss_, rel=1e-10)
    a = program.layout.pack(dict(zip(names, (*theirs.coefs_, *theirs.intercepts_), strict=True)))
    answers = theirs.predict(x) if regression else theirs.predict_proba(x)
    assert kernel.predict(a, ready) == pytest.approx(answers, abs=1e-12)


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_short_long_and_padded_batches_give_the_same_sums(kind):
    table = table_of(kind)
    program = made(kind, table, dtype="float64", backend="blas")
    whole = found(program, table)
    for rows, reproducible in ((32, False), (32, True), (200, True)):
        other = found(program, table, rows, reproducible=reproducible)
        for left, right in zip(whole, other, strict=True):
            assert right == pytest.approx(left, rel=1e-12, abs=1e-13, nan_ok=True)
    straight = found(program, table, batch=Batch(table, 0, ROWS))
    assert straight[1].tobytes() == whole[1].tobytes()


@pytest.mark.parametrize("values", ["float32", "float64"])
def test_sparse_rows_equal_dense_ones(values):
    table = table_of("classes")
    x = table.columns["x"] * (np.abs(table.columns["x"]) > 0.7)
    csr = scipy.sparse.csr_matrix(x)
    sparse = Csr(csr.indptr.astype(np.int64), csr.indices, csr.data.astype(values), FEATURES)
    dense, thin = (Table({**table.columns, "x": one}, table.classes) for one in (x, sparse))
    assert made("classes", thin).backend == "blas"
    pick = np.array([3, 80, 80, 4])
    for batch, twin in (
        (Batch(dense, 0, ROWS), Batch(thin, 0, ROWS)),
        (Batch(dense, index=pick), Batch(thin, index=pick)),
    ):
        one = found(made("classes", dense, dtype="float64", backend="blas"), dense, batch=batch)
        two = found(made("classes", thin, dtype="float64"), thin, 32, batch=twin)
        for left, right in zip(one, two, strict=True):
            assert right == pytest.approx(left, rel=1e-5 if values == "float32" else 1e-12, abs=1e-6)


def test_pixels_are_scaled():
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, FEATURES)).astype(np.uint8)
    y = table_of("classes").columns["y"]
    raw, ready = (
        Table({"x": pixels, "y": y}, ("a", "b", "c"), 1 / 255),
        Table({"x": pixels / 255, "y": y}, ("a", "b", "c")),
    )
    one, two = (found(made("classes", t, dtype="float64", backend="blas"), t) for t in (raw, ready))
    assert one[1] == pytest.approx(two[1], rel=1e-12, abs=1e-12)


def test_reproducible_bits_do_not_depend_on_the_rows_beside():
    table = table_of("classes", "float32")
    program = made("classes", table, backend="blas")
    kernel, a, out = program.kernel(2, 64, True), program.init(0), [program.layout.empty() for _ in range(2)]
    pick = np.arange(20, 37)
    kernel.delta(a, kernel.read(Batch(table, index=pick)), out[0], 0)
    kernel.delta(a, kernel.read(Batch(table, 0, 64)), out[1], 0)
    kernel.delta(a, kernel.read(Batch(table, index=pick)), out[1], 0)
    assert out[0].tobytes() == out[1].tobytes()


def test_glorot_bounds_as_scikit_learn_has_them():
    table = table_of("two")
    for activation, factor in (("relu", 6), ("logistic", 2)):
        program = made("two", table, activation=activation, start="glorot")
        views = program.layout.views(program.init(0))
        bound = np.sqrt(factor / (FEATURES + 8))
        assert 0.8 * bound < np.abs(views["W1"]).max() <= bound
        assert 0 < np.abs(views["b1"]).max() <= bound
        assert views["W3"].shape == (5, 1)


def test_threads_of_the_blas_are_put_back():
    import threadpoolctl

    table = table_of("classes")
    program = made("classes", table, backend="blas")

    def now():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    kernel, a, out = program.kernel(1, ROWS, False), program.init(0), program.layout.empty()
    before, during = now(), []
    forward = kernel._forward
    kernel._forward = lambda *given: (during.extend(now()), forward(*given))[1]
    for _ in range(2):
        kernel.delta(a, kernel.read(Batch(table, 0, ROWS)), out, 0)
        assert now() == before
        kernel.release()  # and it serves again
    assert set(during) == {1}
    assert np.isfinite(out).all()


def test_a_network_that_diverges_shows_it():
    table = table_of("classes")
    program = made("classes", table, backend="blas")
    kernel, out = program.kernel(1, ROWS, False), program.layout.empty()
    a = program.init(0)
    program.layout.views(a)["W1"][0, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert np.isnan(kernel.delta(a, kernel.read(Batch(table, 0, ROWS)), out, 0)[2])


def test_the_blas_needs_no_jax():
    code = (
        "import sys, numpy as np; from trivium.data.batches import Batch; from trivium.data.table import Table\n"
        "from trivium.program.mlp import Mlp\n"
        "t = Table({'x': np.ones((4, 2)), 'y': np.arange(4, dtype=np.int32) % 2}, ('a', 'b'))\n"
        "p = Mlp((8,), backend='blas').for_data(t.spec); k = p.kernel(1, 4, False); out = p.layout.empty()\n"
        "k.delta(p.init(3), k.read(Batch(t, 0, 4)), out, 0); assert out.any() and 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
