"""Updates of rows: against the formulas of the papers in NumPy, float64, and against the dense optimizers."""

import numba
import numpy as np
import pytest

from trivium.errors import PlanError
from trivium.program.optimizers.adagrad import AdaGrad
from trivium.program.optimizers.base import State, Step
from trivium.program.row_updates import UPDATES, RowAdaGrad, RowAdam, RowAdd, RowFTRL, RowFunction, RowSGD, named

WIDTH, STEPS = 5, 40


def pushed(rule, dtype, rows, deltas, scale=1.0, share=1.0, width=WIDTH):
    """The rows after all ``deltas`` (steps, rows, width), each row apart from the next by a gap that must stay."""
    size, gap = width + rule.state(width), 3
    flat = np.full(len(rows) * (size + gap), 77, dtype)
    at = np.arange(len(rows)) * (size + gap)
    for i, row in zip(at, rows, strict=True):
        flat[i : i + size] = np.concatenate([row, rule.begin(width, dtype)])
    for step, delta in enumerate(deltas):
        counts = np.full(len(rows), step)
        rule.apply(flat, at, counts, np.ascontiguousarray(delta, dtype), width, scale, share)
    table = flat.reshape(len(rows), -1)
    assert (table[:, size:] == 77).all()
    return table[:, :width], table[:, width:size]


def soft(w, threshold):
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


def sgd(rule, w, deltas, scale, share):
    for d in deltas:
        rate = rule.lr * share
        w = soft(w - rate * (scale * d + rule.l2 * w), rate * rule.l1)
    return w


def adagrad(rule, w, deltas, scale, share):
    s = np.full_like(w, rule.initial)
    for d in deltas:
        g = scale * d + rule.l2 * w
        s = s + g**2
        rate = rule.lr * share / np.sqrt(s + rule.eps)
        w = soft(w - rate * g, rate * rule.l1)
    return w


def adam(rule, w, deltas, scale, share):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, d in enumerate(deltas, 1):
        g = scale * d + rule.l2 * w
        m, v = rule.b1 * m + (1 - rule.b1) * g, rule.b2 * v + (1 - rule.b2) * g**2
        below = np.sqrt(v / (1 - rule.b2**t)) + rule.eps
        w = soft(w - rule.lr * share * m / (1 - rule.b1**t) / below, rule.lr * share * rule.l1 / below)
    return w


def ftrl(rule, w, deltas, scale, share):
    n = np.zeros_like(w)
    z = -(w * (rule.beta / rule.lr + rule.l2) + np.sign(w) * rule.l1)
    for d in deltas:
        g = scale * share * d
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / rule.lr
        z, n = z + g - sigma * w, n + g**2
        small = np.abs(z) <= rule.l1
        w = np.where(small, 0, -(z - np.sign(z) * rule.l1) / ((rule.beta + np.sqrt(n)) / rule.lr + rule.l2))
    return w


def add(rule, w, deltas, scale, share):
    return w + scale * deltas.sum(0)


PAIRS = [
    (RowAdd(), add),
    (RowSGD(0.05), sgd),
    (RowSGD(0.05, l1=0.1, l2=0.2), sgd),
    (RowAdaGrad(0.3), adagrad),
    (RowAdaGrad(0.3, l1=0.2, l2=0.1, initial=0.0), adagrad),
    (RowAdam(0.02), adam),
    (RowAdam(0.02, l1=0.05, l2=0.1, b1=0.8, b2=0.95), adam),
    (RowFTRL(0.3), ftrl),
    (RowFTRL(0.3, l1=0.4, l2=0.2, beta=0.5), ftrl),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rule", "formula"), PAIRS, ids=[str(rule) for rule, _formula in PAIRS])
def test_updates_follow_their_formula(rule, formula, dtype):
    stream = np.random.default_rng(1)
    rows = stream.normal(size=(6, WIDTH))
    deltas = stream.normal(size=(STEPS, 6, WIDTH)) + 0.5
    for scale, share in ((1.0, 1.0), (0.25, 0.5)):
        found, _ = pushed(rule, dtype, rows, deltas, scale, share)
        wanted = formula(rule, rows, deltas, scale, share)
        tol = 1e-11 if dtype == "float64" else 2e-4
        assert found == pytest.approx(wanted, rel=tol, abs=tol)


def test_strong_l1_gives_zeros():
    deltas = np.full((STEPS, 2, WIDTH), 0.1)
    for rule in (RowSGD(0.05, l1=50.0), RowAdaGrad(0.3, l1=50.0), RowAdam(0.02, l1=50.0)):
        found, _ = pushed(rule, "float32", np.ones((2, WIDTH)), deltas)
        assert not found.any(), rule.name
    for l1, zero in ((STEPS * 0.1 + 0.01, True), (STEPS * 0.1 - 0.01, False)):  # z is the sum of what was pushed
        found, _ = pushed(RowFTRL(0.3, l1=l1), "float32", np.zeros((2, WIDTH)), deltas)
        assert (found == 0).all() == zero


def test_ftrl_without_a_push_of_weight_stays_where_it_began():
    rows = np.random.default_rng(0).normal(size=(4, WIDTH))
    found, _ = pushed(RowFTRL(0.1, l1=0.3, l2=0.2), "float64", rows, np.zeros((3, 4, WIDTH)))
    assert found == pytest.approx(rows, rel=1e-12)


def test_adagrad_has_the_bits_of_the_dense_optimizer():
    stream = np.random.default_rng(3)
    w, deltas = stream.normal(size=WIDTH).astype(np.float32), stream.normal(size=(STEPS, WIDTH)).astype(np.float32)
    dense, a = AdaGrad(lr=0.1), w.copy()
    state = State(np.zeros(0), np.full((1, WIDTH), 0.1, np.float32), np.zeros((0, WIDTH), np.float32))
    for clock, delta in enumerate(deltas):
        out, new = np.empty_like(a), State(np.zeros(0), np.empty_like(state.slots), state.ring)
        step = Step(clock, 4.0, 0.0, 0.0, 0.0, np.zeros((0, 2), np.int64))
        dense.update(a, delta, state, np.zeros(0), step, out, new)
        a, state = out, new
    found, squares = pushed(RowAdaGrad(0.1), "float32", [w], deltas[:, None], scale=0.25)
    assert found.tobytes() == a.tobytes()
    assert squares.tobytes() == state.slots.tobytes()


def test_integers_are_added_exactly():
    rows = np.full((2, 3), 2**60, np.int64)
    found, _ = pushed(RowAdd(), "int64", rows, np.ones((5, 2, 3), np.int64), width=3)
    assert (found == 2**60 + 5).all()
    with pytest.raises(PlanError, match="not scaled by a fraction"):
        pushed(RowAdd(), "int64", rows, np.ones((1, 2, 3), np.int64), scale=0.5, width=3)


def momentum(row, delta, state, step):
    for j in range(len(row)):
        state[j] = 0.9 * state[j] + delta[j]
        row[j] -= 0.1 / step * state[j]


@pytest.mark.parametrize("function", [momentum, numba.njit(momentum)], ids=["plain", "compiled"])
def test_a_function_of_ones_own(function):
    stream = np.random.default_rng(1)
    rows, deltas = stream.normal(size=(6, WIDTH)), stream.normal(size=(STEPS, 6, WIDTH))
    rule = RowFunction(function, WIDTH)
    assert rule.name == "momentum"
    found, state = pushed(rule, "float64", rows, deltas, scale=0.5)
    w, m = rows.copy(), np.zeros_like(rows)
    for t, d in enumerate(deltas, 1):
        m = 0.9 * m + 0.5 * d
        w -= 0.1 / t * m
    assert found == pytest.approx(w, rel=1e-12)
    assert state == pytest.approx(m, rel=1e-12)


def test_a_function_that_cannot_be_compiled_is_refused_with_the_reason():
    rule = RowFunction(lambda row, delta, state, step: row.no_such_thing(), 0)
    with pytest.raises(PlanError, match="numba cannot compile it"):
        rule.ready(2, "float32")
    with pytest.raises(PlanError, match="a whole number of 0 or more"):
        RowFunction(momentum, -1)


def test_names_and_options():
    for name, kind in UPDATES.items():
        assert named(name) == kind()
        assert kind().name == name
    with pytest.raises(PlanError, match="unknown update 'adagard'"):
        named("adagard")
    with pytest.raises(PlanError, match="adam: b1=1"):
        RowAdam(b1=1)
