"""What the driver of a real run was told, told again to a fresh one, makes it say the same."""

import pytest

from tests.watching import ended, network_job
from trivium.core.pacing import Agenda
from trivium.core.role import Send, Stop
from trivium.record import SilentObserver
from trivium.running.job import prepare
from trivium.running.live import Live
from trivium.running.sites import make_driver
from trivium.running.staffing import DRIVER
from trivium.runtime.store import last_term

pytestmark = pytest.mark.slow


def fresh_driver(job):
    prepared = prepare(job)
    return make_driver(job, prepared, Agenda(prepared.pace), DRIVER, 0)


def test_a_recorded_run_replays_to_the_same_commands(warm, tmp_path):
    job = network_job(tmp_path / "run", "ps", 2, shards=2, checkpoint_every=0.05)
    trace = []
    record = ended(Live(warm, job, SilentObserver(), trace=trace))
    assert sum(isinstance(command, Send) for *_rest, commands in trace for command in commands) > 20
    assert trace[-1][3] == [Stop("epochs")] and record.stopped_by == "epochs"
    driver = fresh_driver(job)
    for now, address, event, commands in trace:
        assert address == DRIVER
        assert driver.handle(event, now) == commands
        driver.validate()
    assert driver.term == last_term(tmp_path / "run")
    assert driver.agenda.clock == record.clocks
