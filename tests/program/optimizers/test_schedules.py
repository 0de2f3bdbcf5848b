"""Schedules against Optax's."""

import math

import numpy as np
import optax
import pytest

from trivium.errors import UsageError
from trivium.program.optimizers.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    InverseTime,
    StepDecay,
    WarmUp,
    as_schedule,
)

PEERS = [
    (Constant(0.3), optax.constant_schedule(0.3)),
    (StepDecay(0.3, 7, 0.5), optax.exponential_decay(0.3, 7, 0.5, staircase=True)),
    (Exponential(0.3, 7, 0.5), optax.exponential_decay(0.3, 7, 0.5)),
    (Cosine(0.3, 20, 0.1), optax.cosine_decay_schedule(0.3, 20, 0.1)),
    (WarmUp(5, Cosine(0.3, 20)), optax.warmup_cosine_decay_schedule(0.0, 0.3, 5, 25)),
    (WarmUp(5, Constant(0.3), 0.1), optax.linear_schedule(0.1, 0.3, 5)),
    (InverseSqrt(0.3, 4), lambda t: 0.3 * (1 + t / 4) ** -0.5),
    (InverseTime(0.3, 4), lambda t: 0.3 * 4 / (4 + t)),
]


@pytest.mark.parametrize(("ours", "theirs"), PEERS, ids=lambda x: type(x).__name__)
def test_each_clock(ours, theirs):
    got = [ours.at(t) for t in range(32)]
    np.testing.assert_allclose(got, [float(theirs(t)) for t in range(32)], rtol=1e-5, atol=1e-7)


def test_numbers_are_constant_schedules():
    assert as_schedule(0.5) == Constant(0.5)
    assert as_schedule(Cosine(1.0, 3)) == Cosine(1.0, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(0),
        lambda: Constant(math.inf),
        lambda: StepDecay(0.1, 0),
        lambda: Cosine(0.1, 5, floor=2),
        lambda: WarmUp(0, Constant(0.1)),
        lambda: WarmUp(3, Constant(0.1), start=-1),
    ],
)
def test_bad_values_are_refused(make):
    with pytest.raises(UsageError, match="must be"):
        make()
