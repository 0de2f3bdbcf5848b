"""FTRL-Proximal against a plain transcription of the paper's Algorithm 1."""

import math

import numpy as np
import pytest

from trivium.program.optimizers import optimizer
from trivium.program.optimizers.minimize import minimize


def algorithm_1(grads, alpha, beta, lambda1, lambda2):
    """McMahan et al. (2013): per-coordinate, one coordinate at a time; yields w after each round."""
    size = len(grads[0])
    z, n = [0.0] * size, [0.0] * size

    def weight(i):
        if abs(z[i]) <= lambda1:
            return 0.0
        return -(z[i] - math.copysign(lambda1, z[i])) / ((beta + math.sqrt(n[i])) / alpha + lambda2)

    for g in grads:
        for i in range(size):
            w = weight(i)
            sigma = (math.sqrt(n[i] + g[i] ** 2) - math.sqrt(n[i])) / alpha
            z[i] += g[i] - sigma * w
            n[i] += g[i] ** 2
        yield np.array([weight(i) for i in range(size)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (1.5, 0.0), (1.0, 2.0)])
def test_every_round_is_the_papers(dtype, l1, l2):
    rng = np.random.default_rng(1)
    grads = rng.standard_normal((30, 20)).astype(dtype)
    path, feed = [], iter(grads)

    def function(a):
        path.append(a)
        return 2.0, 0.0, 2 * next(feed)

    end = minimize(function, np.zeros(20, dtype), optimizer("ftrl", lr=0.3, l1=l1, l2=l2), max_clocks=30)
    tol = 1e-5 if dtype == np.float32 else 1e-12
    expected = list(algorithm_1(grads.astype(float).tolist(), 0.3, 1.0, l1, l2))
    for mine, theirs in zip([*path[1:], end.a], expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tol, atol=tol)
    if l1:
        assert 0 < sum((w == 0).sum() for w in expected) == sum((w == 0).sum() for w in [*path[1:], end.a])


def test_training_goes_on_from_where_it_begins():
    start = np.array([0.5, -2.0, 0.0, 3.0])
    end = minimize(lambda a: (1.0, 0.0, np.zeros_like(a)), start, optimizer("ftrl", l1=0.1, l2=0.2), max_clocks=3)
    np.testing.assert_allclose(end.a, start, rtol=1e-12)
