"""Optimizers by name."""

import cloudpickle
import pytest

from trivium.errors import PlanError, UsageError
from trivium.program.optimizers import NAMES, family, optimizer, options_of


def test_every_name_makes_what_bears_it():
    assert {optimizer(name).name for name in NAMES} == set(NAMES)
    assert set(NAMES) == {"sgd", "momentum", "nesterov", "adagrad", "adam", "adamw", "ftrl", "lbfgs", "owlqn"}


def test_options_reach_the_optimizer_and_none_means_not_given():
    assert optimizer("adam", lr=0.5, clip_norm=None) == family("adam")(lr=0.5)


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(UsageError, match=r"unknown optimizer 'adams' \(did you mean 'adam'\?\)"):
        optimizer("adams")


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"lbfgs", "owlqn"}))
def test_tol_is_for_the_quasi_newton_ones(name):
    assert "tol" not in options_of(name)
    with pytest.raises(PlanError, match=rf"optimizer {name} cannot use tol; lbfgs, owlqn can"):
        optimizer(name, tol=1e-3)


def test_a_rate_is_not_for_the_quasi_newton_ones():
    with pytest.raises(PlanError, match=r"optimizer lbfgs cannot use lr; .*sgd can. lbfgs takes tol"):
        optimizer("lbfgs", lr=0.1)


def test_an_option_of_nobody():
    with pytest.raises(PlanError, match=r"unknown option of optimizer sgd 'l_r'.*did you mean 'lr'"):
        optimizer("sgd", l_r=0.1)


def test_they_travel():
    for name in NAMES:
        there = cloudpickle.loads(cloudpickle.dumps(optimizer(name)))
        assert there == optimizer(name)
        assert (there.head_size, there.ring, there.scalar_count) == (
            optimizer(name).head_size,
            optimizer(name).ring,
            optimizer(name).scalar_count,
        )
