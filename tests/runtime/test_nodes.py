"""Nodes that share nothing, on real processes: they start, talk, die, are told of, and leave nothing behind."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.node_entries import DRIVER, Play, no_start, over
from tests.runtime.sharing import held_by, refuse_sharing
from trivium.core.messages import Failed, Leave, Proceed
from trivium.core.role import Address, Launch, MessageReceived, PeerJoined, PeerLost, Retire, Stop, StopRequested
from trivium.data.table import Mapped, Table
from trivium.runtime import board as boards
from trivium.runtime.links import Keys, Links
from trivium.runtime.seats import group_of
from trivium.runtime.wire import Bye, packed_order

pytestmark = pytest.mark.slow
WITHIN = 60.0
SERVER, WORKER = Address(1, 0), Address(1, 1)


def run(play, within=WITHIN):
    """Run the driver's host to its end, or fail in time."""
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(play.host.run)
        try:
            return running.result(within)
        except TimeoutError:
            play.host.stopped = Stop("too late")
            raise AssertionError(f"the host does not end: {play.driver.story()[-20:]}") from None


def nothing_left(groups, within=5.0):
    """Whether all processes of ``groups`` end in time."""
    deadline = time.monotonic() + within
    while (left := [pid for group in groups for pid in group_of(group)]) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
                os.close(pidfd)
    return not any(map(group_of, groups))


def of(play, kind):
    """The events of ``kind`` that the driver's role heard."""
    return [event for event in play.driver.events if isinstance(event, kind)]


def once(condition, commands):
    """What a driver does the first time that ``condition(driver, event)`` holds; else as ``over``."""
    did = []

    def then(driver, event):
        if not did and condition(driver, event):
            did.append(True)
            return commands(driver)
        return over(driver, event) if did and driver.answered(9) else []

    return then


def test_two_nodes_exchange_bulk_share_nothing_and_leave_nothing(tmp_path):
    held = {}

    def look(driver, event):
        if driver.exchanged and not held:
            nodes = {str(group): group_of(group) for group in play.groups}
            held.update(refuse_sharing({**nodes, "driver": [os.getpid()]}))
        return over(driver, event)

    play = Play(tmp_path / "run", look, workers=2)
    with play:
        stop = run(play)
        board, seats = play.host.board, play.nodes.seats
        groups = play.groups
        assert stop == Stop("over")
        assert len({seat.pid for seat in seats}) == 6 and all(seat.pid > 0 for seat in seats)
        assert [one.slot for one in play.nodes.addresses[1:]] == [0, 1, 2, 0, 1, 2], "servers come before their workers"
        sent = [board.figures[play.nodes.addresses.index(one), boards.PUSHED] for one in play.cast.servers]
        assert sent == [10 * 200_000.0] * 2, "twenty copies went to and fro"
        assert (board.words[1:7, boards.STATE] == boards.LEFT).all()
        assert play.nodes.shared_bytes > 0
        assert of(play, PeerLost) == []
    assert all(held[str(group)] for group in groups), "each node has memory of its own"
    assert not any(map(group_of, groups))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_agent_takes_its_node_with_it_and_is_told_at_once(tmp_path, how):
    began = []

    def kill(driver):
        began.append(time.monotonic())
        os.kill(play.seat(SERVER).pid, how)
        return []

    def then(driver, event):
        if isinstance(event, PeerLost) and len([one for one in driver.events if isinstance(one, PeerLost)]) == 3:
            began.append(time.monotonic())
            return [Stop("seen")]
        return killing(driver, event)

    killing = once(lambda driver, event: driver.exchanged, kill)
    play = Play(tmp_path / "run", then, workers=2)
    with play:
        assert run(play).reason == "seen"
        lost = of(play, PeerLost)
        assert [one.peer for one in lost] == [SERVER, WORKER, Address(1, 2)], "the server is told first"
        assert [one.how for one in lost] == [how.name, "its node is gone", "its node is gone"]
        assert began[1] - began[0] < 1.0
        assert nothing_left(play.groups[:1])
        assert group_of(play.groups[1]), "the other node lives"


def test_a_dead_worker_is_told_and_its_place_can_be_taken(tmp_path):
    def then(driver, event):
        if driver.exchanged and not told:
            told.append(play.seat(WORKER).pid)
            os.kill(told[0], signal.SIGKILL)
        elif isinstance(event, PeerLost):
            driver.done = [one for one in driver.done if one[0] != WORKER]
            return [Launch((WORKER, Address(1, 2)))]
        elif isinstance(event, PeerJoined) and told and len(of(play, PeerJoined)) == 6:
            fresh.append(play.seat(WORKER).pid)
            return driver.leave()
        return [Stop("over")] if driver.answered(9) else []

    told, fresh = [], []
    play = Play(tmp_path / "run", then)
    play.driver.names[Address(1, 2)] = "worker 1.2"
    with play:
        assert run(play).reason == "over"
        (lost,) = of(play, PeerLost)
        assert (lost.peer, lost.how) == (WORKER, "SIGKILL")
        assert sorted(one.peer for one in of(play, PeerJoined)[-2:]) == [WORKER, Address(1, 2)]
        assert fresh[0] not in (0, *told)


def test_a_node_joins_and_another_takes_the_place_of_a_dead_one(tmp_path):
    def then(driver, event):
        if driver.exchanged and not stages:
            stages.append("killed")
            os.kill(play.seat(SERVER).pid, signal.SIGKILL)
        elif isinstance(event, PeerLost) and event.peer == WORKER:
            stages.append("launched")
            driver.joined -= {SERVER, WORKER}
            driver.done = []
            return [Launch((SERVER, WORKER))]
        elif isinstance(event, PeerJoined) and {SERVER, WORKER} <= driver.joined and stages[-1:] == ["launched"]:
            stages.append("again")
            driver.exchanged = False
            return driver.ask(1, driver.members.all, Proceed(20))
        elif driver.exchanged and stages[-1:] == ["again"] and driver.answered(1):
            stages.append("over")
            return driver.leave()
        return [Stop("over")] if driver.answered(9) else []

    stages = []
    play = Play(tmp_path / "run", then)
    with play:
        first = play.groups[0]
        assert run(play).reason == "over"
        assert stages == ["killed", "launched", "again", "over"]
        assert nothing_left([first])


@pytest.mark.parametrize("who", [SERVER, WORKER])
def test_who_is_stopped_by_a_signal_is_silent_and_retired(tmp_path, who):
    def halt(driver):
        os.kill(play.seat(who).pid, signal.SIGSTOP)
        return []

    def then(driver, event):
        if isinstance(event, PeerLost) and event.peer == who:
            return [Stop("seen")]
        return halting(driver, event)

    halting = once(lambda driver, event: driver.exchanged, halt)
    play = Play(tmp_path / "run", then, patience=1.0)
    with play:
        assert run(play).reason == "seen"
        lost = of(play, PeerLost)
        assert lost[0].peer == who and lost[0].how.startswith("killed: silent for")
        assert {one.peer.node for one in lost} == {1}, "nobody else is blamed"
        if who == SERVER:
            assert nothing_left(play.groups[:1])


def test_a_driver_that_is_killed_leaves_nothing_running(tmp_path):
    entries = Path(__file__).with_name("node_entries.py")
    driver = subprocess.Popen([sys.executable, str(entries), str(tmp_path / "run")], stdout=subprocess.PIPE)
    try:
        assert select.select([driver.stdout], [], [], WITHIN)[0]
        told = json.loads(driver.stdout.readline())
        assert held_by(told["pids"])
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
    assert nothing_left(told["groups"], within=8.0)
    saved = [(tmp_path / "run" / f"saved-{node}").read_text() for node in (1, 2)]
    assert saved == [f"{DRIVER} is gone: its process is gone"] * 2
    assert not held_by(told["pids"])


def test_a_driver_that_is_interrupted_stops_in_order(tmp_path):
    def then(driver, event):
        if driver.exchanged and not asked:
            asked.append(True)
            play.host.wishes.append("interrupted")
        return driver.leave() if isinstance(event, StopRequested) else over(driver, event)

    asked = []
    play = Play(tmp_path / "run", then)
    with play:
        assert run(play) == Stop("over")
    assert not any(map(group_of, play.groups))


def test_rows_that_are_not_here_come_over_the_link(tmp_path):
    draw = np.random.default_rng(1)
    x, y = draw.standard_normal((60_000, 30)), draw.integers(0, 2, 60_000).astype(np.int32)
    x.tofile(tmp_path / "x.bin")
    mapped = Mapped(str(tmp_path / "x.bin"), "float64", x.shape)
    table = Table({"x": mapped.open(), "y": y}, (0.0, 1.0), mapped={"x": mapped})

    def then(driver, event):
        if driver.exchanged and not seen:
            seen.append("x.bin" in Path(f"/proc/{play.seat(WORKER).pid}/maps").read_text())
        return over(driver, event)

    for gone in (False, True):
        seen = []
        play = Play(tmp_path / f"run-{gone}", then, table=table)
        with play:
            if gone:
                play.nodes.depot.piece("file 0", 0, 1)  # the driver has it open
                Path(mapped.path).unlink()
            assert run(play) == Stop("over")
            assert seen == [not gone]
            assert (play.nodes.shared_bytes > 2 * x.nbytes) is gone


def test_what_a_node_cannot_begin_with_is_told_with_its_traceback(tmp_path):
    def then(driver, event):
        if isinstance(event, MessageReceived) and isinstance(event.message.body, Failed):
            return [Stop("failed", event.message.body.error, 1, event.message.body.traceback)]
        return []

    with Play(tmp_path / "run", then, begin=no_start) as play:
        stop = run(play)
        assert stop.error == "ValueError: nothing to begin with" and "no_start" in stop.traceback


def test_who_has_no_key_is_heard_by_nobody(tmp_path):
    def then(driver, event):
        if driver.exchanged and not links:
            station = play.nodes.stations[1]
            stranger = Links(2, Keys.fresh(), ring=rung.set)
            links.append(stranger)
            stranger.connect(1, station.endpoint, station.public)
            stranger.connect(0, play.nodes.links.endpoint, play.nodes.keys.public)
            for peer in (0, 1):
                stranger.send(peer, packed_order(Bye()))
            while not sum(stranger.refused.values()) and not stranger.joined:
                rung.wait(0.05)  # a refusal does not ring
        return over(driver, event)

    links, rung = [], threading.Event()
    play = Play(tmp_path / "run", then)
    with play:
        assert run(play) == Stop("over")
        assert not links[0].joined and not links[0].received
        links[0].close()
        assert of(play, PeerLost) == []


def test_a_worker_is_retired_by_its_agent(tmp_path):
    retiring = once(lambda driver, event: driver.exchanged, lambda driver: [Retire(WORKER, "not wanted")])

    def then(driver, event):
        return [Stop("seen")] if isinstance(event, PeerLost) else retiring(driver, event)

    with Play(tmp_path / "run", then) as play:
        assert run(play).reason == "seen"
        assert of(play, PeerLost) == [PeerLost(WORKER, "killed: not wanted")]


def test_who_left_is_no_loss_and_a_node_that_left_is_let_go(tmp_path):
    def then(driver, event):
        if driver.exchanged and not asked:
            asked.append("node 1")
            return driver.ask(8, (SERVER, WORKER), Leave("scaled down"))
        if isinstance(event, StopRequested) and len(asked) == 1 and not group_of(play.groups[0]):
            asked.append("node 2")
            return driver.ask(9, (Address(2, 0), Address(2, 1)), Leave("over"))
        return [Stop("over")] if {sender.node for sender, ticket in driver.done if ticket == 9} else []

    asked = []
    play = Play(tmp_path / "run", then)
    play.host.show = lambda host: host.wishes.append("look")  # a few times a second
    with play:
        assert run(play).reason == "over"
        assert asked == ["node 1", "node 2"] and of(play, PeerLost) == []
