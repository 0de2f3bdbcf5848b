"""The tables of stages and phases are what happens in a parameter server: no transition more, none less."""

import pytest

from trivium.core.membership import PHASES
from trivium.designs.ps import shards, worker
from trivium.designs.ps.driver import NodesDriver
from trivium.designs.ps.shards import Shard
from trivium.designs.ps.worker import Worker
from trivium.testing.scenarios_nodes import draw, run

SEEDS = 150


def watch(monkeypatch, kind, name):
    """The set of (from, to) that attribute ``name`` of ``kind`` takes."""
    seen, values = set(), {}

    def put(self, value):
        before = values.get(id(self), (None, None))[1]
        if before is not None and before != value:
            seen.add((before, value))
        values[id(self)] = (self, value)  # keeps self, so that its id stays its own

    monkeypatch.setattr(kind, name, property(lambda self: values[id(self)][1], put), raising=False)
    return seen


def pairs(table):
    return {(before, after) for before, follow in table.items() for after in follow}


@pytest.fixture
def happened(monkeypatch):
    """Of workers, shards and drivers: the transitions of many seeds."""
    kinds = ((Worker, "stage"), (Shard, "stage"), (NodesDriver, "phase"))
    seen = [watch(monkeypatch, kind, name) for kind, name in kinds]
    for seed in range(SEEDS):
        run(draw(seed))
    return seen


def test_the_tables_are_what_happens(happened):
    workers, stages, phases = happened
    assert workers | {("reading", "idle")} == pairs(worker.STAGES)  # reads are at once there: see test_worker
    assert stages == pairs(shards.STAGES)
    assert phases <= pairs(PHASES)
