"""Members that start and leave while a run goes on, on one node of real processes."""

import os
import signal
import time
from dataclasses import replace
from functools import partial

import pytest

from tests.runtime.node_entries import DRIVER, LANES, Driver, Worker, prepared
from tests.runtime.test_nodes import run
from trivium.core.lanes import Part
from trivium.core.membership import Members
from trivium.core.messages import Leave, Proceed
from trivium.core.role import Address, Launch, MessageReceived, PeerJoined, PeerLost, Stop
from trivium.errors import UsageError
from trivium.runtime import board as boards
from trivium.runtime.early import pool_for
from trivium.runtime.local import DriverHost, LocalNode, Member

pytestmark = pytest.mark.slow
ONE, TWO, THREE = (Address(0, slot) for slot in (1, 2, 3))


def member(address):
    return Member(address, f"worker {address.slot - 1}", partial(Worker, address), Part(0, LANES))


class Play:
    """One node of toy workers, with room for ``room`` processes."""

    def __init__(self, folder, then, room=4):
        got, self.store = prepared(folder)
        self.pool = pool_for(xla=False)
        self.pool.start()
        facts = replace(got.facts, processes=room)
        self.nodes = LocalNode(self.pool, [member(ONE), member(TWO)], facts, folder, got.tables, None, 0.0)
        self.nodes.life = self.store.life
        self.nodes.open()
        self.nodes.launch()
        names = {one: f"worker {one.slot - 1}" for one in (ONE, TWO, THREE)}
        self.driver = Driver(Members((ONE, TWO), ()), names, 1, then)
        self.host = DriverHost(
            self.driver,
            self.nodes,
            self.store,
            patience=5.0,
            start_timeout=60.0,
            show=lambda _host: None,
            member_of=member,
        )

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        self.host.close()
        self.nodes.close(clean=failed[0] is None)
        self.pool.close()
        self.store.unlock()


def joined(driver):
    return [one.peer for one in driver.events if isinstance(one, PeerJoined)]


def test_a_member_joins_is_warm_and_talks(tmp_path):
    def then(driver, event):
        if driver.exchanged and not began:
            began.append(time.perf_counter())
            return [Launch((THREE,))]
        if isinstance(event, PeerJoined) and event.peer == THREE:
            began.append(time.perf_counter())
            assert play.nodes.board.words[3, boards.STATE] == boards.READY
            driver.members = Members((ONE, TWO, THREE), ())
            return driver.leave()
        return [Stop("over")] if driver.answered(9) else []

    began = []
    with Play(tmp_path / "run", then) as play:
        assert run(play) == Stop("over")
        assert joined(play.driver)[-1] == THREE
        assert len(play.nodes.seats) == 3 and [one.name for one in play.nodes.members] == [
            f"worker {i}" for i in range(3)
        ]


@pytest.mark.parametrize("how", ["left", "killed"])
def test_a_place_is_taken_again(tmp_path, how):
    def then(driver, event):
        if driver.exchanged and not stages:
            stages.append(play.nodes.seats[1].pid)
            if how == "left":
                return driver.ask(5, (TWO,), Leave("scaled down"))
            os.kill(stages[0], signal.SIGKILL)
        gone = isinstance(event, PeerLost) or (isinstance(event, MessageReceived) and event.message.ticket == 5)
        if gone and len(stages) == 1:
            stages.append("gone")
        if len(stages) == 2 and (how == "killed" or play.nodes.board.words[2, boards.STATE] == boards.LEFT):
            stages.append("launched")
            driver.done = [one for one in driver.done if one[0] != TWO]
            return [Launch((TWO,))]
        if len(stages) == 2:
            return driver.ask(6, (ONE,), Proceed(1))  # look again a little later
        if isinstance(event, PeerJoined) and stages[-1:] == ["launched"]:
            stages.append("again")
            return driver.leave()
        return [Stop("over")] if driver.answered(9) else []

    stages = []
    with Play(tmp_path / "run", then) as play:
        assert run(play) == Stop("over")
        assert stages[1:] == ["gone", "launched", "again"] and joined(play.driver)[-1] == TWO
        assert [one.how for one in play.driver.events if isinstance(one, PeerLost)] == ["SIGKILL"] * (how == "killed")


def test_where_there_is_no_room_nobody_is_started(tmp_path):
    with Play(tmp_path / "run", lambda driver, event: [Stop("over")], room=3) as play:
        with pytest.raises(UsageError, match=r"worker 2 has the address \(0, 3\), and .* more room"):
            play.nodes.enlist([member(THREE)])
        with pytest.raises(UsageError, match=r"worker 0 is still there"):
            play.nodes.enlist([member(ONE)])
        assert play.nodes.addresses == (DRIVER, ONE, TWO)
        run(play)
