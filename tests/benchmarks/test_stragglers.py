import json
import math

import pytest

from benchmarks import stragglers
from benchmarks.stragglers import RULES, STRAGGLERS, Case, Reached

CASE = {"a": Case("m", lambda: None, lr=0.1, batch_size=8, epochs=3)}


class Fake:
    """Runs whose seconds follow from the rule; asp never comes there."""

    def __init__(self):
        self.asked = []

    def __call__(self, case, rule, balance, inject, target):
        self.asked.append((rule, balance, inject, target))
        seconds = {"bsp": 4.0, "ssp:3": 3.0, "asp": math.inf}.get(rule, 2.0)
        jitter = 1 + 0.1 * (len(self.asked) % 3)
        return Reached(seconds * (0.5 if balance else 1.0) * jitter, 5.0, 0.25, 0.3, 1.5)


def test_all_are_measured_in_turns_against_one_loss():
    fake = Fake()
    found = list(stragglers.table(CASE, STRAGGLERS, 3, fake))
    first, *others = fake.asked
    assert first == ("bsp", False, (), math.inf)
    assert {target for *_, target in others} == {0.25}
    assert len(others) == 3 * len(STRAGGLERS) * len(RULES)
    for at in range(0, len(others), len(RULES)):
        assert [one[:2] for one in others[at : at + len(RULES)]] == list(RULES)
    assert len(found) == len(STRAGGLERS) * len(RULES)
    assert {one.straggler for one in found} == set(STRAGGLERS)


def test_ratios_are_to_bsp_under_the_same_fault():
    found = {(one.straggler, one.rule): one for one in stragglers.table(CASE, STRAGGLERS, 3, Fake())}
    for straggler in STRAGGLERS:
        base = found[straggler, "bsp"]
        assert base.ratio == 1.0
        quick = found[straggler, "bsp+balance"]
        assert quick.ratio == pytest.approx(quick.seconds / base.seconds)
        assert found[straggler, "asp"].ratio == math.inf
    assert found["permanent", "ssp:3+balance"].wanted == "≤ 0.6"
    assert found["none", "ssp:3"].wanted == "–"


def test_lines_say_what_did_not_come_there_and_json_can_hold_it():
    lines = list(stragglers.table(CASE, STRAGGLERS, 1, Fake()))
    texts = [stragglers.row(one) for one in lines]
    assert {len(text) for text in texts} == {len(stragglers.HEAD)}
    assert sum("not yet" in text for text in texts) == len(STRAGGLERS)
    plain = json.loads(json.dumps([stragglers._plain(one) for one in lines], allow_nan=False))
    assert sum(one["seconds"] is None for one in plain) == len(STRAGGLERS)


def test_the_plans_are_read_by_the_run():
    from trivium.runtime.injection import check, parse_injection

    names = [f"worker {i}" for i in range(stragglers.WORKERS)]
    plans = [parse_injection(text) for texts in STRAGGLERS.values() for text in texts]
    assert len(plans) == 2
    check(plans, names)
