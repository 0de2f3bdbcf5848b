"""Keys that do not show their secret, and what encryption costs."""

import threading

import pytest

from trivium.errors import UsageError
from trivium.runtime.curve import Keys, curve_cost


def test_a_secret_is_never_shown():
    keys = Keys.fresh()
    assert keys.public in repr(keys)
    assert keys.secret not in f"{keys} {keys!r} {keys:}"
    assert Keys.fresh() != Keys.fresh()


@pytest.mark.parametrize("wrong", ["", "x" * 39, "x" * 41, "é" * 40, '"' * 40, " " * 40])
def test_a_wrong_key_is_not_shown_either(wrong):
    with pytest.raises(UsageError, match=r"Keys\.fresh") as told:
        Keys(Keys.fresh().public, wrong)
    assert len(wrong) < 5 or wrong not in str(told.value)


def test_encryption_costs_something():
    threads = threading.active_count()
    cost = curve_cost(32)
    assert 0.1 < cost.encryption < 60.0  # seconds a GB
    assert cost.plain < cost.curve
    assert threading.active_count() == threads
