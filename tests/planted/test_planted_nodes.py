"""Every bug that is planted in the parameter server over nodes is found by the simulated host, within 1,000 seeds."""

import tomllib
from pathlib import Path

import pytest

from trivium.testing.planting import Bug, found_at, planted

SEEDS = 1000
TABLE = tomllib.loads(Path(__file__).with_name("bugs_nodes.toml").read_text(encoding="utf-8"))["bug"]
BUGS = [
    (Bug(one["name"], one["module"], one["old"], one["new"], "scenarios_nodes"), one.get("first", 0)) for one in TABLE
]


@pytest.mark.parametrize(("bug", "first"), BUGS, ids=[bug.name for bug, _first in BUGS])
def test_is_found(bug, first):
    assert found_at(bug, range(first, first + SEEDS)) is not None


def test_there_are_enough_and_no_name_is_twice():
    names = {bug.name for bug, _first in BUGS}
    assert len(names) == len(BUGS) >= 25


def test_nothing_is_left_of_a_planted_bug():
    import trivium.testing.scenarios_nodes as before
    from trivium.designs.ps.server import Server

    bug = Bug("harmless", "trivium.designs.ps.server", '"""Servers: one', '"""Planted: one', "scenarios_nodes")
    with planted(bug) as scenarios:
        assert scenarios is not before
        assert scenarios.Server is not Server
    import trivium.testing.scenarios_nodes as after

    assert after is before
