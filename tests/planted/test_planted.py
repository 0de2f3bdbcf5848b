"""Every planted bug is found by the simulated host, within 1,000 seeds; most within 100."""

import tomllib
from pathlib import Path

import pytest

from trivium.errors import UsageError
from trivium.testing.planting import Bug, found_at, planted

SEEDS = 1000
TABLE = tomllib.loads(Path(__file__).with_name("bugs.toml").read_text(encoding="utf-8"))["bug"]
BUGS = [(Bug(one["name"], one["module"], one["old"], one["new"]), one.get("first", 0)) for one in TABLE]


@pytest.mark.parametrize(("bug", "first"), BUGS, ids=[bug.name for bug, _first in BUGS])
def test_is_found(bug, first):
    assert found_at(bug, range(first, first + SEEDS)) is not None


def test_there_are_enough_and_no_name_is_twice():
    names = {bug.name for bug, _first in BUGS}
    assert len(names) == len(BUGS) >= 25


def test_a_bug_that_no_longer_applies_is_an_error():
    bug = Bug("gone", "trivium.core.holder", "no such line", "")
    with pytest.raises(UsageError, match="'gone' cannot be planted: its old text is 0 times"), planted(bug):
        pass


def test_nothing_is_left_of_a_planted_bug():
    import trivium.testing.scenarios as before
    from trivium.core.holder import Holder

    bug = Bug("harmless", "trivium.core.holder", '"""Owns shards', '"""Planted: owns shards')
    with planted(bug) as scenarios:
        assert scenarios is not before
        assert "Planted" in scenarios.apart.Holder.__doc__
    import trivium.testing.scenarios as after
    from trivium.core import holder

    assert after is before
    assert holder.Holder is Holder
    assert "Planted" not in Holder.__doc__
