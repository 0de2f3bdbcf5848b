"""What a plan fills in, and what it refuses before anything is read."""

from dataclasses import asdict, replace

import msgspec
import pytest

from trivium.core.consistency import KINDS, Rule
from trivium.errors import PlanError
from trivium.plan import CONSISTENCIES, Plan, parse_bandwidth

CORES = {"cores": (0, 1)}


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("100Mbit", 12_500_000),
        ("1Gbit", 125_000_000),
        ("50MB", 50_000_000),
        ("50MB/s", 50_000_000),
        ("8kbit", 1000),
        ("8Kbit/s", 1000),
        ("1Kibit", 128),
        ("1.5GiB", 3 << 29),
        ("0.5 MB", 500_000),
        ("9B", 9),
        (" 8bit ", 1),
        ("2Tbit", 250_000_000_000),
    ],
)
def test_a_bandwidth_is_bytes_a_second(text, nbytes):
    assert parse_bandwidth(text) == nbytes
    assert Plan("ps", workers=2, nodes=2, bandwidth=text).bytes_per_second == nbytes


@pytest.mark.parametrize(
    "text", ["", "fast", "100", "100Mb", "100 mbit", "-1MB", "1e3MB", "10MB/h", "MB", "nanMB", "1PB"]
)
def test_what_is_no_bandwidth_is_refused(text):
    with pytest.raises(PlanError, match="bits or bytes"):
        parse_bandwidth(text)


@pytest.mark.parametrize("text", ["0MB", "0.5B", "7bit"])
def test_a_bandwidth_is_at_least_a_byte(text):
    with pytest.raises(PlanError, match="1 byte a second or more"):
        parse_bandwidth(text)


@pytest.mark.parametrize("text", ["bsp", "ssp:0", "ssp:3", "essp:12", "asp", "backup:1", "backup:7"])
def test_what_a_plan_takes_is_a_rule(text):
    assert Plan("ps", workers=2, consistency=text).consistency == text
    assert str(Rule.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "bps", "ssp", "ssp:", "ssp:-1", "ssp:x", "essp:1.5", "asp:1", "backup", "backup:0", "backup:00", "SSP:3"],
)
def test_what_is_no_rule_is_no_plan(text):
    with pytest.raises(PlanError, match=r"unknown consistency .*allowed: asp, backup:K, bsp, essp:S, ssp:S"):
        Plan("ps", workers=2, consistency=text)
    with pytest.raises(PlanError):
        Rule.parse(text)


def test_the_names_are_those_of_the_rules():
    assert sorted(CONSISTENCIES) == sorted(KINDS)


def test_defaults_follow_from_the_nodes():
    one, two = Plan("ps", workers=4), Plan("ps", workers=4, nodes=2)
    assert (one.copy_count, one.orphan_timeout, one.balances) == (1, 3.0, False)
    assert (two.copy_count, two.orphan_timeout, two.balances) == (2, 60.0, False)
    assert Plan("ps", workers=4, nodes=4, copies=3).copy_count == 3
    assert Plan("ps", workers=4, nodes=4, copies=1).copy_count == 1
    assert Plan("ps", workers=2, nodes=2, orphan_timeout=5.0).orphan_timeout == 5.0
    assert one.bytes_per_second is None


def test_lanes_move_unless_all_keep_step_or_it_was_said():
    assert Plan("ps", workers=2, consistency="ssp:3").balances
    assert not Plan("ps", workers=2, consistency="ssp:3", balance=False).balances
    assert Plan("ps", workers=2, balance=True).balances


def test_nodes_have_a_worker_each_where_nothing_was_said():
    assert Plan("ps", nodes=4, **CORES).worker_count == 4
    assert Plan("ps", nodes=2, **CORES).worker_count == 2
    assert Plan("auto", nodes=2, **CORES).worker_count == 2
    assert Plan("auto", consistency="asp", cores=(0, 1, 2)).worker_count == 3
    assert Plan("auto", **CORES).worker_count == 1


REFUSED = [
    ({"nodes": 3, "workers": 2}, "nodes=3 is more than workers=2; each node needs a worker: raise workers or lower"),
    ({"nodes": 9, "workers": 8}, "nodes=9 is more than workers=8"),
    ({"nodes": 9, "cores": (0, 1)}, "nodes=9 is more than workers=8"),
    ({"nodes": 0}, "nodes must be 1 or more, got 0"),
    ({"copies": 0, "workers": 2, "nodes": 2}, "copies must be 1 or more, got 0"),
    ({"copies": 2}, "copies=2: on one node nothing is sent from node to node; raise nodes"),
    (
        {"copies": 3, "workers": 2, "nodes": 2},
        "copies=3 is more than nodes=2; a node holds one copy of a shard: raise nodes or",
    ),
    ({"filters": "int8"}, "filters=int8: on one node nothing is sent"),
    ({"filters": "int8,,topk:0.1", "workers": 2, "nodes": 2}, "found '', expected a name"),
    (
        {"filters": "int 8", "workers": 2, "nodes": 2},
        "found 'int 8', expected a name, and a number where it has one; write key-cache,int8",
    ),
    ({"bandwidth": "1Gbit"}, "bandwidth=1Gbit: on one node nothing is sent"),
    ({"bandwidth": "much", "workers": 2, "nodes": 2}, "bandwidth='much': expected a number with a unit"),
    (
        {"consistency": "backup:8", "workers": 2},
        "consistency=backup:8 would do without all of lanes=8; lower the number",
    ),
    ({"consistency": "backup:2", "lanes": 2, "workers": 2}, "would do without all of lanes=2"),
    ({"consistency": "ssp:1", "reproducible": True}, "consistency=ssp:1: what is summed depends on who is early"),
    ({"consistency": "essp:1", "reproducible": True}, "consistency=essp:1: what is summed depends on who is early"),
    ({"consistency": "asp", "reproducible": True}, "consistency=asp: what is summed depends on who is early"),
    ({"consistency": "backup:1", "reproducible": True}, "consistency=backup:1: what is summed depends on who is early"),
    ({"consistency": "asp", "combine": "model"}, "combine='model' with consistency=asp"),
    (
        {"design": "allreduce", "consistency": "ssp:3"},
        "consistency=ssp:3: only parameter servers have that; use design",
    ),
    ({"design": "sequential", "consistency": "backup:1"}, "consistency=backup:1: only parameter servers"),
    ({"design": "allreduce", "workers": 2, "nodes": 2}, "nodes=2: only parameter servers have that"),
    ({"design": "allreduce", "balance": True}, "balance=True: only parameter servers have that"),
    ({"design": "allreduce", "inject": ("kill:worker1",), "nodes": 2}, "nodes=2: only parameter servers"),
    (
        {"design": "sequential", "inject": ("slow:each:x4",)},
        "inject=slow:each:x4: the sequential design is one process",
    ),
    ({"design": "auto", "threads": 2, "nodes": 2}, "threads=2 and nodes=2: one process has threads"),
    ({"design": "auto", "threads": 2, "inject": ("slow:each:x4",)}, "threads=2 and inject=slow:each:x4"),
    ({"inject": "slow:each:x4"}, "inject='slow:each:x4' is one text; give a tuple"),
    ({"inject": ("slow",)}, "inject='slow' is no fault; write slow:worker1:x4"),
    ({"inject": ("",)}, "inject='' is no fault"),
    ({"orphan_timeout": 0.0}, "orphan_timeout must be above 0"),
]


@pytest.mark.parametrize(("asked", "says"), REFUSED)
def test_what_does_not_go_together_is_refused(asked, says):
    with pytest.raises(PlanError) as told:
        Plan(**{"design": "ps", **asked})
    assert says in str(told.value)


def test_no_slack_is_bsp_and_may_be_reproducible():
    for text in ("ssp:0", "essp:0"):
        assert Plan("ps", workers=2, consistency=text, reproducible=True).reproducible
        assert Plan("ps", workers=2, consistency=text, combine="model").combine == "model"


def test_other_designs_take_what_says_nothing():
    plan = Plan("allreduce", workers=2, copies=1, balance=False, nodes=1, inject=("slow:worker1:x4",))
    assert not plan.asks_servers


def test_a_plan_comes_back_from_json():
    plan = Plan("ps", workers=2, nodes=2, consistency="ssp:3", inject=("slow:each:x4@0.1", "kill:node1@clock50"))
    told = msgspec.json.decode(msgspec.json.encode(asdict(plan)))
    again = Plan(**told | {"cores": tuple(told["cores"])})
    assert again == plan
    assert hash(again) == hash(plan)


def test_a_change_is_checked_too():
    with pytest.raises(PlanError, match="consistency=asp: what is summed depends on who is early"):
        replace(Plan("ps", workers=2, reproducible=True), consistency="asp")
