"""Every kind of plan is read and says itself again; what is no plan is refused with the place and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import PlanError
from trivium.runtime.injection_words import (
    EXAMPLES,
    GRAMMAR,
    Bandwidth,
    Delay,
    Kill,
    Partition,
    Slow,
    SlowDisk,
    Stop,
    When,
    check,
    parse_injection,
)

READ = [
    ("slow:worker1:x4", lambda t: Slow(t, "worker 1", 4.0, 1.0)),
    ("slow:each:x4@0.1", lambda t: Slow(t, "each", 4.0, 0.1)),
    ("slow:worker12:x1.5@1", lambda t: Slow(t, "worker 12", 1.5, 1.0)),
    ("kill:node1@clock50", lambda t: Kill(t, "node 1", When(clock=50))),
    ("kill:worker0@3s", lambda t: Kill(t, "worker 0", When(seconds=3.0))),
    ("kill:worker0@0s", lambda t: Kill(t, "worker 0", When(seconds=0.0))),
    ("kill:server0@clock10", lambda t: Kill(t, "server 0", When(clock=10))),
    ("kill:driver@2s", lambda t: Kill(t, "driver", When(seconds=2.0))),
    ("stop:worker1@clock5+2s", lambda t: Stop(t, "worker 1", When(clock=5), 2.0)),
    ("stop:node0@250ms+1.5s", lambda t: Stop(t, "node 0", When(seconds=0.25), 1.5)),
    ("delay:5ms", lambda t: Delay(t, "", 0.005)),
    ("delay:node1:250us", lambda t: Delay(t, "node 1", 250e-6)),
    ("bandwidth:100Mbit", lambda t: Bandwidth(t, "", 12.5e6)),
    ("bandwidth:node0:1Gbit", lambda t: Bandwidth(t, "node 0", 125e6)),
    ("bandwidth:64Kbit", lambda t: Bandwidth(t, "", 8e3)),
    ("partition:node1@clock20+3s", lambda t: Partition(t, "node 1", When(clock=20), 3.0)),
    ("slowdisk:server0:0.5s", lambda t: SlowDisk(t, "server 0", 0.5)),
    ("slowdisk:driver:1min", lambda t: SlowDisk(t, "driver", 60.0)),
]


@pytest.mark.parametrize(("text", "plan"), READ)
def test_a_plan_is_read_and_says_itself_again(text, plan):
    found = parse_injection(text)
    assert found == plan(text)
    assert str(found) == text
    assert hash(found) == hash(parse_injection(text))


def test_each_kind_has_an_example_that_is_one():
    assert EXAMPLES.keys() == GRAMMAR.keys()
    for kind, text in EXAMPLES.items():
        assert text.startswith(kind)
        assert str(parse_injection(text)) == text


@given(
    who=st.sampled_from(["node", "worker", "server"]),
    number=st.integers(0, 10**6),
    clock=st.integers(0, 10**9),
    seconds=st.integers(1, 10**6),
)
def test_numbers_are_taken_as_they_are(who, number, clock, seconds):
    found = parse_injection(f"stop:{who}{number}@clock{clock}+{seconds}ms")
    assert found == Stop(str(found), f"{who} {number}", When(clock=clock), seconds / 1000)


BAD = [  # what is given, where it is wrong, what is allowed
    ("", "unknown fault ''", "allowed: bandwidth, delay, kill, partition, slow, slowdisk, stop"),
    ("slwo:worker1:x4", "unknown fault 'slwo' (did you mean 'slow'?)", "slow:worker1:x4"),
    (" slow:worker1:x4", "unknown fault ' slow'", "allowed:"),
    ("Slow:worker1:x4", "unknown fault 'Slow'", "allowed:"),
    ("slow", "nothing there", "whom and how much with ':' between them"),
    ("slow:worker1", "found 'worker1'", "whom and how much"),
    ("slow:worker:x4", "found 'worker'", "whom it strikes (worker0, each …)"),
    ("slow:worker-1:x4", "found 'worker-1'", "whom it strikes"),
    ("slow:node1:x4", "found 'node1'", "worker0, each"),
    ("slow:worker1:4", "found '4'", "as in x4"),
    ("slow:worker1:x1", "found 'x1'", "above 1"),
    ("slow:worker1:x0.5", "found 'x0.5'", "above 1"),
    ("slow:worker1:x", "found 'x'", "above 1"),
    ("slow:worker1:xnan", "found 'xnan'", "above 1"),
    ("slow:worker1:xinf", "found 'xinf'", "above 1"),
    ("slow:worker1:x1e3", "found 'x1e3'", "above 1"),
    ("slow:worker1:x٤", "found 'x٤'", "above 1"),
    ("slow:worker1:x" + "9" * 400, "found 'x99", "above 1"),
    ("slow:each:x4@", "nothing there", "a probability above 0, at most 1"),
    ("slow:each:x4@0", "found '0'", "a probability"),
    ("slow:each:x4@1.1", "found '1.1'", "a probability"),
    ("slow:each:x4@10%", "found '10%'", "a probability"),
    ("kill:node1", "found 'node1'", "whom and when with '@' between them"),
    ("kill:each@3s", "found 'each'", "node0, worker0, server0, driver"),
    ("kill:driver0@3s", "found 'driver0'", "driver"),
    ("kill:@3s", "nothing there", "whom it strikes"),
    ("kill:node1@", "nothing there", "clock50, or a time as in 3s"),
    ("kill:node1@50", "found '50'", "clock50, or a time as in 3s"),
    ("kill:node1@clock", "found 'clock'", "clock50"),
    ("kill:node1@clock-5", "found 'clock-5'", "clock50"),
    ("kill:node1@clock5.5", "found 'clock5.5'", "clock50"),
    ("kill:node1@-3s", "found '-3s'", "a time as in 3s"),
    ("kill:node1@3 s", "found '3 s'", "a time as in 3s"),
    ("kill:node1@clock5+2s", "found 'clock5+2s'", "clock50"),
    ("stop:worker1@clock5", "found 'clock5'", "when and for how long with '+' between them"),
    ("stop:worker1@clock5+", "nothing there", "a time above 0 in us, ms, s, min"),
    ("stop:worker1@clock5+0s", "found '0s'", "a time above 0"),
    ("stop:worker1@clock5+2h", "found '2h'", "a time above 0 in us, ms, s, min"),
    ("partition:worker1@clock5+2s", "found 'worker1'", "node0"),
    ("partition:node1@3s", "found '3s'", "when and for how long"),
    ("delay:", "nothing there", "a time above 0"),
    ("delay:5", "found '5'", "in us, ms, s, min"),
    ("delay:0ms", "found '0ms'", "above 0"),
    ("delay:server1:5ms", "found 'server1'", "node0"),
    ("delay:node1:", "nothing there", "a time above 0"),
    ("bandwidth:100", "found '100'", "a rate above 0 in Kbit, Mbit, Gbit"),
    ("bandwidth:100MB", "found '100MB'", "Kbit, Mbit, Gbit"),
    ("bandwidth:0Mbit", "found '0Mbit'", "above 0"),
    ("bandwidth:worker1:1Gbit", "found 'worker1'", "node0"),
    ("slowdisk:0.5s", "found '0.5s'", "whom and how long"),
    ("slowdisk:node1:0.5s", "found 'node1'", "server0, worker0, driver"),
    ("slowdisk:server0:fast", "found 'fast'", "a time above 0"),
    ("kill:node1@3s\n", "found '3s\\n'", "a time as in 3s"),
]


@pytest.mark.parametrize(("text", "found", "allowed"), BAD)
def test_what_is_no_plan_is_refused_with_the_place(text, found, allowed):
    with pytest.raises(PlanError) as caught:
        parse_injection(text)
    told = str(caught.value)
    assert told.startswith(f"inject {text!r}: ")
    assert found in told
    assert allowed in told
    assert "as in " in told


@given(st.text(max_size=30) | st.text(":@+x0123456789.skndworeclmitbag", max_size=30))
def test_whatever_is_given_is_a_plan_or_an_error(text):
    for given_text in (text, f"slow:{text}", f"kill:node1@{text}", f"delay:{text}"):
        try:
            assert str(parse_injection(given_text)) == given_text
        except PlanError as error:
            assert repr(given_text) in str(error)


# -- whether it fits a run ---------------------------------------------------------------------------------------------
NAMES = ["driver", "node 0", "node 1", "server 0", "server 1", "worker 0", "worker 1", "worker 2", "worker 3"]
ONE_NODE = ["driver", "server 0", "worker 0", "worker 1"]


@pytest.mark.parametrize("text", [text for text, _ in READ if "worker12" not in text])
def test_plans_of_who_is_there_pass(text):
    assert check([parse_injection(text)], NAMES) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slow:worker4:x4", "unknown process 'worker4'"),
        ("kill:worker9@3s", "worker0, worker1, worker2, worker3"),
        ("kill:node2@3s", "unknown node 'node2' (did you mean 'node1'?); allowed: node0, node1"),
        ("stop:server2@3s+1s", "unknown process 'server2'"),
        ("delay:node7:5ms", "unknown node 'node7'"),
        ("slowdisk:server5:1s", "unknown process 'server5'"),
    ],
)
def test_who_is_not_there_is_told(text, told):
    with pytest.raises(PlanError) as caught:
        check([parse_injection("delay:5ms"), parse_injection(text)], NAMES)
    assert repr(text) in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["delay:5ms", "bandwidth:node0:1Gbit", "partition:node1@clock20+3s"])
def test_links_are_asked_of_several_nodes_only(text):
    with pytest.raises(PlanError, match="no link between nodes in a run on one node"):
        check([parse_injection(text)], ONE_NODE)
    check([parse_injection("slow:worker1:x4")], ONE_NODE)
