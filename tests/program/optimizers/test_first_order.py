"""First-order steps against Optax, step for step, and the rules they share."""

import math

import jax
import jax.numpy as jnp
import numba
import numpy as np
import optax
import pytest

from trivium.errors import UsageError
from trivium.program.optimizers import compile_kernels, optimizer
from trivium.program.optimizers.base import State, Step
from trivium.program.optimizers.first_order import shrink
from trivium.program.optimizers.minimize import minimize, new_state
from trivium.program.optimizers.schedules import Cosine
from trivium.program.params import Layout

STEPS = 12
PAIRS = {
    "sgd": ({"lr": 0.3}, lambda: optax.sgd(0.3)),
    "momentum": ({"lr": 0.1, "momentum": 0.8}, lambda: optax.sgd(0.1, momentum=0.8)),
    "nesterov": ({"lr": 0.1, "momentum": 0.8}, lambda: optax.sgd(0.1, momentum=0.8, nesterov=True)),
    "adagrad": ({"lr": 0.2}, lambda: optax.adagrad(0.2)),
    "adam": ({"lr": 0.05}, lambda: optax.adam(0.05)),
    "adamw": ({"lr": 0.05, "weight_decay": 0.1}, lambda: optax.adamw(0.05, weight_decay=0.1)),
}
NAMES = sorted([*PAIRS, "ftrl"])


def gradients(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n).astype(dtype) for _ in range(STEPS)]


def trivium_path(opt, a0, grads, l1=0.0, l2=0.0, weight=4.0):
    """Each point passed; the gradients given are means, handed over as sums."""
    path, feed = [], iter(grads)

    def function(a):
        path.append(a)
        return weight, 0.0, next(feed) * a.dtype.type(weight)

    end = minimize(function, a0, opt, l1=l1, l2=l2, max_clocks=len(grads), poison=math.nan)
    return [*path[1:], end.a]


def optax_path(transform, a0, grads, l2=0.0):
    with jax.enable_x64(a0.dtype == np.float64):
        a, path = jnp.asarray(a0), []
        state = transform.init(a)
        for g in grads:
            delta, state = transform.update(jnp.asarray(g) + a0.dtype.type(l2) * a, state, a)
            a = optax.apply_updates(a, delta)
            path.append(np.asarray(a))
        return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_every_step_is_optax_step(name, dtype):
    options, peer = PAIRS[name]
    grads, a0 = gradients(37, dtype), np.linspace(-1, 1, 37, dtype=dtype)
    ours, theirs = trivium_path(optimizer(name, **options), a0, grads, l2=0.01), None
    theirs = optax_path(peer(), a0, grads, l2=0.01)
    # Optax takes Adam's powers of b1 and b2 in float32: where b2's nears 1 that costs some bits.
    rtol = 2e-5 if dtype == np.float32 else (1e-5 if name.startswith("adam") else 1e-12)
    for mine, peers in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, peers, rtol=rtol, atol=rtol)


def test_float64_adam_keeps_float64_precision():
    grads, a = gradients(5, np.float64), np.ones(5)
    m = v = np.zeros(5)
    ours = trivium_path(optimizer("adam", lr=0.05), a, grads)
    for t, (g, mine) in enumerate(zip(grads, ours, strict=True), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        a = a - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(mine, a, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_is_optax_clipping(name, limit):
    options, peer = PAIRS[name]
    grads, a0 = gradients(5000, np.float32), np.linspace(-1, 1, 5000, dtype=np.float32)
    ours = trivium_path(optimizer(name, clip_norm=limit, **options), a0, grads, l2=0.1)
    theirs = optax_path(optax.chain(optax.clip_by_global_norm(limit), peer()), a0, grads, l2=0.1)
    for mine, peers in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, peers, rtol=3e-5, atol=3e-5)


def test_the_rate_follows_its_schedule():
    schedule = Cosine(0.5, 10)
    grads, a = gradients(3, np.float64), np.zeros(3)
    for clock, (g, mine) in enumerate(zip(grads, trivium_path(optimizer("sgd", lr=schedule), a, grads), strict=True)):
        a = a - schedule.at(clock) * g
        np.testing.assert_allclose(mine, a, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_free_slices_feel_no_penalty_and_gaps_stay_zero(name):
    layout = Layout.of({"w": (5,), "b": (3,)}, "float64", free=("b",))
    feed = iter(gradients(8, np.float64) * 2)

    def function(_):
        g = next(feed)
        return 1.0, 0.0, layout.pack({"w": g[:5], "b": g[5:]})

    def run(l1, l2):
        nonlocal feed
        feed = iter(gradients(8, np.float64))
        start = layout.pack({"w": np.ones(5), "b": np.ones(3)})
        return minimize(function, start, optimizer(name), l1=l1, l2=l2, layout=layout, max_clocks=STEPS).a

    plain, penalised = run(0.0, 0.0), run(0.02, 0.3)
    np.testing.assert_array_equal(layout.views(plain)["b"], layout.views(penalised)["b"])
    assert np.abs(layout.views(plain)["w"] - layout.views(penalised)["w"]).min() > 1e-4
    assert not penalised[5:8].any()
    assert not penalised[11:].any()


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "adam", "adamw", "ftrl"])
def test_l1_reaches_the_lasso_optimum(name):
    # minimise ½‖w − c‖² + l1‖w‖₁: the optimum is the soft threshold of c, zeros included.
    centre, l1 = np.array([2.0, -1.5, 0.3, -0.2, 0.0, 0.7]), 0.5
    best = np.sign(centre) * np.maximum(np.abs(centre) - l1, 0)
    options = {
        "ftrl": {"lr": 1.0},
        "adagrad": {"lr": 0.5},
        "adamw": {"weight_decay": 0.0, "lr": 0.01},
        "adam": {"lr": 0.01},
    }
    opt = optimizer(name, **options.get(name, {}))
    end = minimize(lambda a: (1.0, 0.0, a - centre), np.full(6, 0.1), opt, l1=l1, max_clocks=3000)
    np.testing.assert_allclose(end.a, best, atol=2e-3)
    assert (end.a[best == 0] == 0).all()


def test_soft_threshold():
    assert [shrink(w, 1.0) for w in (3.0, -3.0, 0.5, -1.0, 0.0)] == [2.0, -2.0, 0.0, 0.0, 0.0]
    assert math.isnan(shrink(math.nan, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_shards_nor_on_garbage(name):
    n = 7 * 4096 + 11
    grads, a0 = gradients(n, np.float32), np.linspace(-1, 1, n, dtype=np.float32)
    layout = Layout.of({"w": (n - 20,), "b": (20,)}, "float32", free=("b",))

    def run(shards, poison):
        feed = iter(grads[:4])
        start = layout.empty()
        start[:n] = a0

        def function(_):
            g = layout.empty()
            g[:n] = next(feed)
            return 3.0, 0.0, g

        opt = optimizer(name, clip_norm=0.5)
        return minimize(function, start, opt, 1e-3, 1e-2, layout, shards=shards, max_clocks=4, poison=poison)

    whole = run(1, None)
    assert np.isfinite(whole.a).all()
    for shards, poison in [(1, math.nan), (2, math.inf), (3, 1e30), (7, -5.0)]:
        cut = run(shards, poison)
        assert cut.a.tobytes() == whole.a.tobytes()
        slots = np.concatenate([s.slots for s in cut.states], axis=1)
        assert slots.tobytes() == whole.states[0].slots.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_clock_without_weight_has_no_gradient(name):
    opt = optimizer(name, clip_norm=1.0)
    end = minimize(lambda a: (0.0, 0.0, np.zeros_like(a)), np.ones(4), opt, max_clocks=2)
    kept = (1 - 1e-3 * 0.01) ** 2 if name == "adamw" else 1.0
    np.testing.assert_allclose(end.a, kept, rtol=1e-12)


def test_inputs_may_be_read_only_and_are_left_alone():
    for name in NAMES:
        opt = optimizer(name, clip_norm=1.0)
        a, g, state, new = np.ones(64), np.ones(64), new_state(opt, 64, "float64"), new_state(opt, 64, "float64")
        opt.init(a, state)
        arrays = (a, g, state.head, state.slots)
        before = [x.copy() for x in arrays]
        for x in arrays:
            x.flags.writeable = False
        step, rows, out = Step(0, 2.0, 1.0, 0.1, 0.1, np.array([[0, 60]])), np.empty((1, 1)), np.empty(64)
        opt.scalars(a, g, state, step, rows)
        opt.update(a, g, State(state.head, state.slots, state.ring), rows[0], step, out, new)
        for x, was in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(x, was)
        assert (out[:60] < 1).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {"lr": 0.0}),
        ("sgd", {"lr": math.nan}),
        ("momentum", {"momentum": 1.0}),
        ("adam", {"b2": -0.1}),
        ("adam", {"eps": 0.0}),
        ("adam", {"clip_norm": -1.0}),
        ("adamw", {"weight_decay": -1.0}),
        ("adagrad", {"initial": -1.0}),
        ("ftrl", {"beta": 0.0}),
        ("ftrl", {"l1": -1.0}),
        ("ftrl", {"lr": Cosine(0.1, 5)}),
    ],
)
def test_bad_values_are_refused_by_name(name, options):
    with pytest.raises(UsageError, match=rf"{name}: {next(iter(options))} must be"):
        optimizer(name, **options)


def test_compiling_ahead_leaves_nothing_to_compile():
    from trivium.program.optimizers import sgd

    compile_kernels("float32", ("sgd",))
    known = len(sgd._sgd.signatures)
    minimize(lambda a: (1.0, 0.0, a), np.ones(9, np.float32), optimizer("sgd", clip_norm=1.0), max_clocks=1)
    assert len(sgd._sgd.signatures) == known > 0


def test_the_adam_kernel_is_vectorised():
    from trivium.program.optimizers import adam

    compile_kernels("float32", ("adam",))
    fresh = numba.njit(error_model="numpy")(adam._adam.py_func)  # what comes from the cache cannot be looked into
    fresh.compile(next(one for one in adam._adam.signatures if "float32" in str(one[0])))
    code = fresh.inspect_asm(fresh.signatures[0])
    if "xmm" not in code:
        pytest.skip("reads x86-64 assembly only")
    assert "sqrtps" in code
