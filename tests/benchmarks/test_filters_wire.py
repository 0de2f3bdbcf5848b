import json
import sys

import pytest

from benchmarks import filters_wire
from benchmarks.filters_wire import CASES, Case, Run, Variant, row, table

CASE = {"a": Case("m", lambda: None, {"lr": 0.1}, (Variant("none"), Variant("int8", {"filters": "int8"}, "bytes")))}
PLAIN = Run(2.0, 5.0, 0.5, 0.6, 1e6, 1e6, 1.0, 0.5, 10.0)


class Fake:
    """int8: a quarter of the bytes, a loss of 2 % more, half the time; later rounds take longer."""

    def __init__(self):
        self.asked = []

    def __call__(self, case, variant):
        self.asked.append(variant.name)
        late = 1 + 0.1 * (len(self.asked) // 2)
        if variant.plan:
            return Run(1.0 * late, 5.0, 0.51, 0.61, 1e6, 0.25e6, 0.25, 0.25, 10.0)
        return Run(2.0 * late, *[getattr(PLAIN, name) for name in Run.__dataclass_fields__ if name != "seconds"])


def test_variants_run_in_turns_and_are_set_against_the_first():
    fake = Fake()
    first, second = table(CASE, 3, fake)
    assert fake.asked == ["none", "int8"] * 3
    assert (first.time_ratio, first.loss_ratio, first.objective_change) == (1.0, 1.0, 0.0)
    assert second.time_ratio == pytest.approx(1.2 / 2.2)
    assert second.loss_ratio == pytest.approx(1.02)
    assert second.objective_change == pytest.approx(0.01)
    assert (second.wanted, first.wanted) == ("bytes", "–")
    assert first.run.seconds == pytest.approx(2.2)  # the median


def test_a_line_has_all_figures():
    text = row(list(table(CASE, 1, Fake()))[1])
    for part in ("int8", "0.51000", "1.0200", "+1.0e-02", "0.250", "bytes"):
        assert part in text


def test_cases_say_what_is_aimed_at():
    assert {name: [one.name for one in case.variants if one.wanted] for name, case in CASES.items()} == {
        "filters": ["int8"],
        "bandwidth": ["25Mbit"],
        "kkt": ["kkt"],
        "copies": ["2 copies"],
    }


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch, capsys):
    import numpy as np

    import trivium as tv

    draw = np.random.default_rng(0)
    x = draw.standard_normal((512, 300)).astype(np.float32)
    data = tv.from_arrays(x, (x[:, 0] > 0).astype(int))
    case = Case(
        "logistic", lambda: data, {"epochs": 2, "batch_size": 64, "optimizer": "sgd", "lr": 0.1}, CASE["a"].variants
    )
    monkeypatch.setattr(filters_wire, "CASES", {"a": case})
    out = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["filters_wire", "--rounds", "1", "--json", str(out)])
    filters_wire.main()
    told = json.loads(out.read_text())
    assert [one["variant"] for one in told["found"]] == ["none", "int8"]
    assert told["found"][1]["run"]["sent"] < told["found"][0]["run"]["sent"]
    assert "int8" in capsys.readouterr().out
