"""The ledger of epochs: when it stops, what it writes down, and the mean of the iterates."""

import math

import numpy as np
import pytest

from trivium.program.optimizers.base import State, Step
from trivium.program.optimizers.epochs import Epochs, RowRate, Velocity
from trivium.program.optimizers.minimize import new_state
from trivium.program.optimizers.sgd import SGD, Momentum, Nesterov

FREE = np.array([[0, 4]], np.int64)


def drive(optimizer, losses, a=None, l2=0.0):
    """Feed losses, gradients being ``a`` itself; the iterates and the last state."""
    a = np.arange(1.0, 5.0) if a is None else a
    old, new = new_state(optimizer, 4, "float64"), new_state(optimizer, 4, "float64")
    optimizer.init(a, old)
    iterates = []
    for clock, loss in enumerate(losses):
        out = np.empty(4)
        optimizer.update(
            a,
            a.copy(),
            State(old.head, old.slots, old.ring),
            np.zeros(0),
            Step(clock, 2.0, 2 * loss, 0.0, l2, FREE),
            out,
            new,
        )
        a, old, new = out, new, old
        iterates.append(a)
        if optimizer.finished(old.head):
            break
    return iterates, old


def test_stops_after_so_many_epochs_without_an_improvement():
    optimizer = Epochs(SGD(0.1), steps=2, most=20, tol=0.1, patience=3)
    losses = [5, 3, 2, 2, 1.95, 1.95, 1.95, 1.95, 1.95, 1.95, 0, 0]
    iterates, state = drive(optimizer, losses)
    ledger = optimizer.ledger(state.head)
    assert len(iterates) == 10
    assert (ledger.epochs, ledger.done) == (5, 1)
    assert ledger.curve[:5].tolist() == pytest.approx([4, 2, 1.95, 1.95, 1.95])


def test_without_a_tolerance_it_never_stops():
    optimizer = Epochs(SGD(0.1), steps=1, most=5, patience=1)
    iterates, state = drive(optimizer, [1.0] * 8)
    assert len(iterates) == 8
    assert not optimizer.finished(state.head)


def test_adaptive_rates_fall_by_five_before_it_stops():
    optimizer = Epochs(SGD(1e-4), steps=1, most=50, tol=1.0, patience=1, adaptive=True)
    iterates, _ = drive(optimizer, [1.0] * 50)
    steps = np.diff([x[0] for x in iterates]) / np.array([x[0] for x in iterates[:-1]])
    assert len(iterates) == 5  # the first epoch improves on nothing; then 1e-4, 2e-5, 4e-6, and it is below 1e-6
    assert -steps * 2 == pytest.approx([1e-4, 2e-5, 4e-6, 8e-7])


def test_the_loss_may_have_the_penalty_in_it():
    optimizer = Epochs(SGD(0.1), steps=1, most=3, penalised=True)
    _, state = drive(optimizer, [1.0], l2=0.5)
    assert optimizer.ledger(state.head).curve[0] == pytest.approx(1.0 + 0.25 * (1 + 4 + 9 + 16))


def test_mean_of_the_iterates():
    optimizer = Epochs(SGD(0.1), steps=1, most=10, average=3.0, rows=2)
    iterates, state = drive(optimizer, [1.0] * 6)
    np.testing.assert_allclose(state.slots[-1], np.mean(iterates[1:], axis=0))
    later = Epochs(SGD(0.1), steps=1, most=10, average=0.0, mean=(5.0, state.slots[-1].copy()))
    more, after = drive(later, [1.0] * 2, iterates[-1])
    np.testing.assert_allclose(after.slots[-1], np.mean(iterates[1:] + more, axis=0))


def test_a_head_holds_the_losses_of_the_last_epochs_only():
    assert Epochs(SGD(0.1), steps=1, most=10**9).head_size < 1000
    optimizer = Epochs(SGD(0.1), steps=1, most=50, kept=4)
    _, state = drive(optimizer, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert optimizer.ledger(state.head).curve.tolist() == [5.0, 6.0, 3.0, 4.0]


@pytest.mark.parametrize(("nesterov", "peer"), [(False, Momentum), (True, Nesterov)])
def test_velocity_is_momentum_at_a_constant_rate(nesterov, peer):
    mine, _ = drive(Velocity(0.05, momentum=0.8, nesterov=nesterov), [1.0] * 6, l2=0.3)
    theirs, _ = drive(peer(0.05, momentum=0.8), [1.0] * 6, l2=0.3)
    np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_rates_of_rows():
    assert RowRate("optimal", alpha=0.1, first=10.0, batch=5.0).at(2) == pytest.approx(5 / (0.1 * 20))
    assert RowRate("invscaling", eta0=0.5, power=0.5, since=3.0).at(0) == pytest.approx(0.25)
    assert RowRate("constant", eta0=1.0, batch=8.0, most=2.0).at(0) == 2.0
    assert math.isinf(RowRate("constant").most)
