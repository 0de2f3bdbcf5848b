"""Whole runs of the parameter server over nodes, under the simulated host, counted exactly."""

import pytest

from trivium.core.exchange import Copy, Held, Taken, View
from trivium.core.messages import Place
from trivium.core.role import Address, MessageReceived, Send
from trivium.runtime.faults import CutNode, Kill, KillNode, Network, Partition, Pause, Slow, SlowDisk
from trivium.testing.counting import FAILURE, Wrong
from trivium.testing.scenarios_nodes import DRIVER, Scenario, build, draw, lives, run

CHUNK = 50
CHUNKS = 12
LONG_CHUNKS = 88  # 5,000 seeds with those above
NODE_1, NODE_2 = Address(1, 0), Address(2, 0)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_seeds(chunk):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        run(draw(seed))


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS, CHUNKS + LONG_CHUNKS))
def test_more_seeds(chunk):
    test_seeds(chunk)


def test_a_seed_decides_everything():
    assert draw(7) == draw(7)
    one, two = (build(draw(7), trace=True) for _ in range(2))
    assert one.run().trace == two.run().trace


def test_the_seeds_draw_every_fault_and_rule():
    drawn = [draw(seed) for seed in range(600)]
    faults = {type(fault) for one in drawn for fault in one.faults}
    assert faults == {Kill, KillNode, Pause, Partition, CutNode, Slow, SlowDisk}
    assert {one.kind.kind for one in drawn} == {"bsp", "ssp", "essp", "asp", "backup"}
    assert {one.nodes for one in drawn} == {1, 2, 3}
    assert {one.copies for one in drawn} == {1, 2, 3}
    assert any(not one.elementwise for one in drawn) and any(one.reproducible for one in drawn)
    assert any(one.scale for one in drawn) and any(not one.spares for one in drawn)
    assert any(one.network.lost for one in drawn) and any(not one.network.ordered for one in drawn)


def ends(scenario):
    """How each life of ``scenario`` ended: the error, empty for a good end; None where the driver died."""
    found = []
    for _life, outcome in lives(scenario):
        stop = outcome.stops.get(DRIVER)
        found.append(None if stop is None else stop.error)
    return found


RULES = ["bsp", "ssp:0", "ssp:3", "essp:2", "asp", "backup:1"]


@pytest.mark.parametrize("rule", RULES)
def test_a_node_of_two_copies_dies(rule):
    one = Scenario(nodes=2, workers=4, copies=2, clocks=10, rule=rule, faults=(KillNode(2, 0.03),))
    assert ends(one) == [""]


@pytest.mark.parametrize("rule", RULES)
def test_a_node_of_one_copy_dies_and_the_run_is_resumed(rule):
    one = Scenario(nodes=2, copies=1, clocks=10, rule=rule, checkpoint_every=0.01, faults=(KillNode(2, 0.05),))
    first, last = ends(one)
    assert "no copy is left of 1 of the 2 shards" in first
    assert last == ""


@pytest.mark.parametrize("rule", RULES)
def test_two_nodes_die_one_after_the_other_once_there_are_two_copies_again(rule):
    one = Scenario(nodes=3, workers=3, clocks=150, rule=rule, faults=(KillNode(2, 0.03), KillNode(3, 0.9)))
    life, outcome = next(lives(one))
    assert outcome.stops[DRIVER].reason == "epochs"
    assert any("copies of all shards again" in note.text for note in life.driver.notes)
    assert [note.text.split(" died")[0] for note in life.driver.notes if "died" in note.text][-1] == "server 2"


def test_a_server_alone_dies():
    one = Scenario(nodes=3, workers=6, clocks=8, faults=(Kill(NODE_2, 0.03),))
    assert ends(one) == [""]


def test_a_node_that_is_cut_off_for_good_is_retired():
    one = Scenario(clocks=6, faults=(CutNode(2, 0.02, 1000.0),))
    life, outcome = next(lives(one))
    assert "gave no sign of life for 10.0 s while cut off" in life.driver.notes[0].text
    assert outcome.seconds < 15


def test_a_short_cut_is_waited_for():
    life, _outcome = next(lives(Scenario(clocks=6, faults=(CutNode(2, 0.02, 0.6),))))
    assert life.driver.notes == []


def test_a_worker_dies():
    life, _outcome = next(lives(Scenario(clocks=8, faults=(Kill(Address(2, 1), 0.03),))))
    assert [note.text.split("; ")[0] for note in life.driver.notes] == ["worker 2 died (SIGKILL)"]


def test_the_driver_dies_and_the_run_is_resumed_from_what_its_orphans_saved():
    one = Scenario(clocks=10, faults=(Kill(DRIVER, 0.05),))
    (_first, outcome), (second, _end) = lives(one)
    assert outcome.stops.keys() >= {NODE_1, NODE_2}
    assert 0 < second.begin < 10


def test_the_program_fails():
    failed, well = ends(Scenario(clocks=6, fail_at=3, network=Network(lost=0.2)))
    assert failed == f"worker 0: {FAILURE}"
    assert well == ""


def test_the_disk_is_full():
    full, well = ends(Scenario(clocks=6, disk_full_after=1))
    assert "no space left" in full
    assert well == ""


def placements(life, outcome):
    """The placements of a run, in order."""
    found = []
    for _now, _address, _event, commands in outcome.trace:
        for command in commands:
            body = getattr(getattr(command, "message", None), "body", None)
            if isinstance(body, Place) and body not in found:
                found.append(body)
    assert found[-1] == life.promises.place
    return found


@pytest.mark.parametrize("rule", RULES)
def test_workers_and_a_node_join(rule):
    one = Scenario(nodes=2, workers=2, clocks=40, rule=rule, scale=((0.03, 5, 3),))
    life, outcome = next(lives(one, trace=True))
    first, *_, last = placements(life, outcome)
    assert (len(first.workers), len(first.servers)) == (2, 2)
    assert (len(last.workers), len(last.servers)) == (5, 3)
    assert {one.node for held in last.holders for one in held} == {1, 2, 3}


@pytest.mark.parametrize("rule", RULES)
def test_workers_and_a_node_leave(rule):
    one = Scenario(nodes=3, workers=6, clocks=40, rule=rule, scale=((0.03, 2, 2),))
    life, outcome = next(lives(one, trace=True))
    *_, last = placements(life, outcome)
    assert (len(last.workers), len(last.servers)) == (2, 2)
    assert {one.node for held in last.holders for one in held} == {1, 2}


def test_what_does_not_start_changes_nothing():
    one = Scenario(workers=2, clocks=20, scale=((0.03, 5, 3),), spares=False)
    life, outcome = next(lives(one, trace=True))
    *_, last = placements(life, outcome)
    assert (len(last.workers), len(last.servers)) == (2, 2)
    assert "is called off" in life.driver.notes[-1].text


def test_a_straggler_is_left_out_by_backup_only():
    slow = Slow(Address(2, 2), 100.0)
    seconds = {}
    for rule in ("bsp", "backup:2"):
        one = Scenario(workers=4, clocks=20, rule=rule, copies=1, faults=(slow,))
        life, outcome = next(lives(one))
        seconds[rule] = outcome.seconds
        dropped = life.cluster.nodes[1].shards[0].newest.dropped
        assert bool(dropped) == (rule == "backup:2")
        assert {one % 8 for one in dropped} <= {6, 7}
    assert seconds["backup:2"] < 0.6 * seconds["bsp"]


@pytest.mark.parametrize("rule", ["ssp:3", "essp:3"])
def test_lanes_run_ahead_of_a_straggler_by_the_rule(rule):
    one = Scenario(workers=4, clocks=20, rule=rule, copies=1, faults=(Slow(Address(2, 2), 10.0),))
    _life, outcome = next(lives(one, trace=True))
    views = [
        (event.message.floor, max(event.message.lanes))
        for _now, address, event, _commands in outcome.trace
        if address == Address(1, 1) and isinstance(event, MessageReceived) and isinstance(event.message, View)
    ]
    assert max(lane - floor for floor, lane in views) == 4  # it starts clock floor + 3, and that is taken


def test_nothing_is_taken_before_it_is_held():
    """In the words on the wire: a step's Copy, then Held, then Taken."""
    _life, outcome = next(lives(Scenario(clocks=3, shards=1), trace=True))
    order = [
        type(command.message)
        for _now, _address, _event, commands in outcome.trace
        for command in commands
        if isinstance(command, Send) and isinstance(command.message, Copy | Held | Taken)
    ]
    assert order == [Copy, Held, Taken] * 3


# -- what is checked, is found ----------------------------------------------------------------------------------------
def broken(scenario, address, message, change):
    """Run ``scenario`` with what the role at ``address`` sends of a kind changed by ``change``."""
    life = build(scenario)
    role = life.promises.roles[address]
    handle = role.handle

    def handle_and_change(event, now):
        return [
            Send(one.to, change(one.message)) if isinstance(one, Send) and isinstance(one.message, message) else one
            for one in handle(event, now)
        ]

    role.handle = handle_and_change
    return life.run()


def test_a_false_held_is_found():
    with pytest.raises(Wrong, match="says Held"):
        broken(Scenario(clocks=3), NODE_2, Held, lambda m: Held(m.term, m.shard, m.tag + 8))


def test_a_false_taken_is_found():
    with pytest.raises(Wrong, match="says Taken"):
        broken(
            Scenario(clocks=3),
            NODE_1,
            Taken,
            lambda m: Taken(m.term, m.shard, m.number, tuple(c + 1 for c in m.applied)),
        )


def test_a_false_view_is_found():
    with pytest.raises(Wrong, match="View"):
        broken(Scenario(clocks=3), NODE_1, View, lambda m: View(m.term, m.lanes, m.floor + 1, m.last, m.finished))
