"""Parts of a clock: S pushes of share 1/S against one whole step, and where they end."""

import math
from dataclasses import replace

import numpy as np
import pytest

from trivium.program.averaging import Average
from trivium.program.optimizers import optimizer
from trivium.program.optimizers.base import Step
from trivium.program.optimizers.epochs import Epochs, Power, Velocity
from trivium.program.optimizers.first_order import trace_factors
from trivium.program.optimizers.minimize import new_state
from trivium.program.optimizers.newton import Newton
from trivium.program.optimizers.normal_equations import NormalEquations
from trivium.program.optimizers.schedules import Cosine

FIRST_ORDER = ("sgd", "momentum", "nesterov", "adagrad", "adam", "adamw", "ftrl")
EXACT = ("sgd", "momentum", "nesterov", "velocity")  # whose parameters end where the whole step's do


def made(name, lr=None):
    if name == "velocity":
        return Velocity(Power(0.1 if lr is None else lr, 0.0))
    return optimizer(name, lr=lr)


class Pushes:
    """One shard in a process: a double buffer, and how far it has come."""

    def __init__(self, opt, a, l1=0.0, l2=0.0, penalised=None):
        self.opt, self.a, self.clock, self.done = opt, a, 0, 0.0
        self.l1, self.l2 = l1, l2
        self.penalised = np.array([[0, a.size]]) if penalised is None else penalised
        self.state, self.spare = (new_state(opt, a.size, a.dtype) for _ in range(2))
        opt.init(a, self.state)

    def push(self, gradient, share=1.0, weight=4.0):
        step = Step(self.clock, weight, 0.0, self.l1, self.l2, self.penalised, share, self.done)
        g, out = gradient * weight, np.empty_like(self.a)
        for array in (out, self.spare.slots):
            array.fill(math.nan)
        rows = np.zeros((-(-self.a.size // 4096), self.opt.scalar_count))
        if self.opt.scalar_count:
            self.opt.scalars(self.a, g, self.state, step, rows)
        self.opt.update(self.a, g, self.state, rows.sum(axis=0), step, out, self.spare)
        self.a, self.state, self.spare = out, self.spare, self.state
        self.done += share
        if self.done > 1 - 1e-9:
            self.clock, self.done = self.clock + 1, 0.0


def warm(opt, **penalties):
    """Fifty whole steps in, so that there is a memory."""
    rng = np.random.default_rng(2)
    shard = Pushes(opt, rng.standard_normal(23), **penalties)
    for _ in range(50):
        shard.push(rng.standard_normal(23) + 0.5)
    return shard, rng.standard_normal(23)


@pytest.mark.parametrize("parts", [2, 8, 32])
@pytest.mark.parametrize("name", [*FIRST_ORDER, "velocity"])
def test_parts_leave_the_memory_of_the_whole_step(name, parts):
    (whole, g), (cut, _) = warm(made(name, 1e-3)), warm(made(name, 1e-3))
    whole.push(g)
    for _ in range(parts):
        cut.push(g, 1 / parts)
    # FTRL's z takes in the parameters, which move meanwhile.
    tol = {"rtol": 1e-3, "atol": 1e-3} if name == "ftrl" else {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(cut.state.slots, whole.state.slots, **tol)
    assert cut.clock == whole.clock == 51


@pytest.mark.parametrize("parts", [2, 8, 32])
@pytest.mark.parametrize("name", EXACT)
def test_parts_end_where_the_whole_step_ends(name, parts):
    (whole, g), (cut, _) = warm(made(name, 1e-3)), warm(made(name, 1e-3))
    before = whole.a
    whole.push(g)
    for _ in range(parts):
        cut.push(g, 1 / parts)
    np.testing.assert_allclose(cut.a - before, whole.a - before, rtol=1e-9)
    assert np.abs(whole.a - before).min() > 0


@pytest.mark.parametrize("parts", [2, 8, 32])
@pytest.mark.parametrize("name", ["adagrad", "adam", "adamw", "ftrl"])
def test_parts_go_as_far_as_whole_steps_do(name, parts):
    # Coordinates' rates change within a clock, and the mean that Adam had when parts began goes half a step further.
    (whole, g), (cut, _) = warm(made(name, 1e-3)), warm(made(name, 1e-3))
    before = whole.a
    for _ in range(40):
        whole.push(g)
        for _ in range(parts):
            cut.push(g, 1 / parts)
    moved = whole.a - before
    np.testing.assert_allclose(cut.a - before, moved, rtol=0.03, atol=0.6e-3 if "adam" in name else 1e-5)
    assert np.abs(moved).max() > 5e-3


@pytest.mark.parametrize("name", ["adagrad", "ftrl"])
def test_what_parts_differ_by_falls_with_what_a_step_adds(name):
    def apart(size):
        """Relative to the step, where the sum of squares is 1/``size`` larger than it was."""
        (whole, g), (cut, _) = warm(made(name, 1e-4)), warm(made(name, 1e-4))
        for shard in (whole, cut):
            shard.state.slots[-1] += 1 / size
        before = whole.a
        whole.push(g)
        for _ in range(8):
            cut.push(g, 1 / 8)
        return np.abs(cut.a - whole.a).max() / np.abs(whole.a - before).max()

    assert apart(1e-4) < 0.2 * apart(1e-3) < 1e-2


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_whole_steps_are_those_without_a_share(name):
    opt = optimizer(name, clip_norm=0.7)
    (one, g), (two, _) = warm(opt, l1=1e-3, l2=1e-2), warm(opt, l1=1e-3, l2=1e-2)
    one.push(g)
    step = Step(50, 4.0, 0.0, 1e-3, 1e-2, two.penalised)
    assert (step.share, step.done, step.until) == (1.0, 0.0, 51.0)
    out, rows = np.empty(23), np.zeros((1, 1))
    opt.scalars(two.a, g * 4.0, two.state, step, rows)
    opt.update(two.a, g * 4.0, two.state, rows[0], step, out, two.spare)
    assert out.tobytes() == one.a.tobytes()
    assert two.spare.slots.tobytes() == one.state.slots.tobytes()


@pytest.mark.parametrize("share", [1 / 8, 0.3, 0.5, 2.0])
@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("mix", [(0.0, 1.0), (1.0, 0.9)])
def test_a_part_moves_in_all_its_share(share, b, mix):
    """What follows from a gradient that is pushed once, summed to the end."""
    keep, gain, now, then = trace_factors(b, share, *mix)
    trace, moved = gain, now + then * gain
    for _ in range(20_000):
        trace *= keep
        moved += then * trace
    assert moved == pytest.approx(share * (mix[0] + mix[1] / (1 - b)), rel=1e-9)


@pytest.mark.parametrize("mix", [(0.0, 1.0), (1.0, 0.9)])
def test_parts_of_uneven_shares_are_the_whole_clock_too(mix):
    m, w, trace, at = 0.7, 0.0, 0.7, 0.0
    m = 0.9 * m + 2.0
    w -= mix[0] * 2.0 + mix[1] * m
    for share in (0.125, 0.5, 0.075, 0.3):
        keep, gain, now, then = trace_factors(0.9, share, *mix)
        trace = keep * trace + gain * 2.0
        at -= now * 2.0 + then * trace
    assert (trace, at) == (pytest.approx(m, rel=1e-12), pytest.approx(w, rel=1e-12))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_first_pushes_of_adam_are_as_long_as_its_first_step(name):
    # Without the part of the clock in the bias, the first of 8 would be √8 too short or the last √8 too long.
    g = np.array([0.3, -2.0, 40.0])
    opt = optimizer(name, lr=0.01) if name == "adam" else optimizer(name, lr=0.01, weight_decay=0.0)
    whole, cut = Pushes(opt, np.ones(3)), Pushes(opt, np.ones(3))
    whole.push(g)
    for k in range(8):
        cut.push(g, 1 / 8)
        np.testing.assert_allclose(1 - cut.a, np.sign(g) * 0.01 * (k + 1) / 8, rtol=1e-6)
    np.testing.assert_allclose(cut.a, whole.a, rtol=1e-9)


def test_ftrl_takes_in_its_starting_point_once():
    start = np.array([0.5, -2.0, 0.0, 3.0])
    cut = Pushes(optimizer("ftrl", l1=0.1, l2=0.2), start, l1=0.0)
    for _ in range(16):
        cut.push(np.zeros(4), 1 / 8)
    np.testing.assert_allclose(cut.a, start, rtol=1e-12)


def test_ftrl_adds_the_l1_of_the_clocks_that_have_passed():
    def end(parts):
        shard = Pushes(optimizer("ftrl", lr=1.0), np.zeros(2), l1=0.5)
        for _ in range(3 * parts):
            shard.push(np.array([-0.6, -0.4]), 1 / parts)
        return shard.a

    assert (end(1)[1], end(4)[1]) == (0.0, 0.0)  # |Σ d| = 3·0.4 stays below 3·0.5
    np.testing.assert_allclose(end(4), end(1), rtol=0.15)
    assert end(4)[0] > 0


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "adam"])
def test_rates_follow_the_clock_and_not_the_pushes(name):
    flat, falling = (
        Pushes(optimizer(name, lr=0.01), np.ones(4)),
        Pushes(optimizer(name, lr=Cosine(0.01, 4)), np.ones(4)),
    )
    for k in range(8):
        flat.push(np.ones(4), 1 / 8)
        falling.push(np.ones(4), 1 / 8)
        assert flat.a.tobytes() == falling.a.tobytes(), k  # all are of clock 0
    flat.push(np.ones(4), 1 / 8)
    falling.push(np.ones(4), 1 / 8)
    assert (falling.a > flat.a).all()


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_lanes_pushed_one_by_one_reach_the_lasso_optimum(name):
    """½‖w − c‖² + l1‖w‖₁ where each of 4 lanes has its own c: the soft threshold of their mean, zeros included."""
    rng = np.random.default_rng(5)
    centre, l1 = np.array([2.0, -1.5, 0.3, -0.2, 0.0, 0.7]), 0.5
    noise = 0.1 * rng.standard_normal((4, 6))
    lanes = centre + noise - noise.mean(axis=0)
    best = np.sign(centre) * np.maximum(np.abs(centre) - l1, 0)
    options = {"ftrl": 1.0, "adagrad": 0.5, "adam": 0.01, "adamw": 0.01, "sgd": 0.02}
    opt = optimizer(name, lr=options.get(name, 0.005))
    shard = Pushes(replace(opt, weight_decay=0.0) if name == "adamw" else opt, np.full(6, 0.1), l1=l1)
    for k in range(4 * 3000):
        shard.push(shard.a - lanes[k % 4], 1 / 4)
    np.testing.assert_allclose(shard.a, best, atol=2e-2)
    assert np.abs(shard.a[best == 0]).max() < 2e-2


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_stale_pushes_reach_the_ridge_optimum(name):
    """Gradients of the parameters of 6 pushes ago, of 8 lanes: (l2 + 1)·w = c."""
    centre, l2 = np.array([2.0, -1.5, 0.3, 0.7]), 0.25
    rates = {"ftrl": 0.5, "adagrad": 0.3, "adam": 0.01, "adamw": 0.01}
    opt = optimizer(name, lr=rates.get(name, 0.02))
    shard = Pushes(replace(opt, weight_decay=0.0) if name == "adamw" else opt, np.zeros(4), l2=l2)
    seen = [shard.a] * 6
    for _ in range(8 * 1500):
        shard.push(seen.pop(0) - centre, 1 / 8)
        seen.append(shard.a)
    np.testing.assert_allclose(shard.a, centre / (1 + l2), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_float32_pushes_stay_float32(name):
    shard = Pushes(optimizer(name, clip_norm=1.0), np.ones(5, np.float32), l1=1e-3, l2=1e-2)
    shard.push(np.ones(5, np.float32), 0.125)
    assert shard.a.dtype == shard.state.slots.dtype == np.float32
    assert np.isfinite(shard.a).all() and (shard.a < 1).all()


def test_who_tolerates_stale_gradients_of_parts():
    assert all(optimizer(name).tolerates for name in FIRST_ORDER)
    assert Velocity(0.1).tolerates
    solvers = [optimizer("lbfgs"), optimizer("owlqn"), NormalEquations(2, 1), Average(), Epochs(optimizer("sgd"), 3, 2)]
    assert not any(solver.tolerates for solver in solvers)
    assert not Newton.tolerates
