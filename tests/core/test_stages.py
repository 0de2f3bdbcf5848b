"""The tables of phases and stages are what happens: no transition more, none less."""

from trivium.core import holder, runner
from trivium.core.holder import ShardState
from trivium.core.membership import PHASES, Driver
from trivium.core.runner import Runner
from trivium.testing.scenarios import draw, run

SEEDS = 120


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


def test_the_tables_are_what_happens(monkeypatch):
    phases = watch(monkeypatch, Driver, "phase")
    runners, shards = watch(monkeypatch, Runner, "stage"), watch(monkeypatch, ShardState, "stage")
    for seed in range(SEEDS):
        run(draw(seed))
    assert runners | {("reading", "idle")} == pairs(runner.STAGES)  # reads are at once there: see test_roles
    assert shards == pairs(holder.STAGES)
    assert phases <= pairs(PHASES)
    ends = {(phase, "stopped") for phase in PHASES}  # the many ways to fail need not all occur
    assert pairs(PHASES) - phases <= ends | {("recording", "recording"), ("acting", "acting")}
