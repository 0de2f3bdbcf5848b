import io
import sys

import pytest
from rich.console import Console

from benchmarks import registry, run
from benchmarks.registry import Benchmark, Side

US, THEM = Side("us", ".venv", "m", "a"), Side("them", ".venv-x", "m", "b", 2.0)


def script(tmp_path, monkeypatch, body):
    (tmp_path / "probe.py").write_text(body)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    side = Side("probe", ".venv", "probe", "case")
    monkeypatch.setattr(Side, "python", property(lambda _: run.Path(sys.executable)))
    return run.run_side(side, limit=20)


@pytest.mark.parametrize(("faster", "us", "them", "ratio"), [("more", 30, 10, 3.0), ("less", 2, 8, 4.0)])
def test_a_ratio_above_one_means_that_we_are_faster(faster, us, them, ratio):
    assert Benchmark("n", "t", faster, [US], [THEM]).ratio(us, them) == ratio


@pytest.mark.parametrize(("faster", "best"), [("more", 5.0), ("less", 1.0)])
def test_our_best_side_stands_for_us(faster, best):
    other = Side("us too", ".venv", "m", "c")
    benchmark = Benchmark("n", "t", faster, [US, other], [THEM])
    seen = {"us": run.Seen([1.0, 1.0, 9.0]), "us too": run.Seen([5.0]), "them": run.Seen([2.0])}
    assert run.best_of(benchmark, seen) == best


def test_the_file_has_ratio_target_and_reason_of_what_was_skipped():
    benchmark = Benchmark("n", "t", "less", [US], [THEM, Side("gone", ".venv-y", "m", "c")])
    seen = {"us": run.Seen([1.0], "s"), "them": run.Seen([3.0, 5.0, 4.0], "s"), "gone": run.Seen(skipped="not here")}
    sides = run.record(benchmark, seen)["sides"]
    assert sides["them"]["figure"] == 4.0
    assert (sides["them"]["ratio"], sides["them"]["target"]) == (4.0, 2.0)
    assert sides["gone"]["skipped"] == "not here"
    console = Console(width=120, file=io.StringIO())
    console.print(run.table(benchmark, seen))
    shown = console.file.getvalue()
    assert "4.00×" in shown
    assert "met" in shown
    assert "not here" in shown


def test_one_json_line_is_read(tmp_path, monkeypatch):
    line = '{"peer": "p", "version": "1", "cases": {"case": {"value": 3.5, "unit": "s"}}}'
    found = script(tmp_path, monkeypatch, f"print('noise')\nprint('''{line}''')")
    assert found == {"value": 3.5, "unit": "s", "version": "1"}


def test_a_side_that_fails_is_skipped_with_its_last_word(tmp_path, monkeypatch):
    found = script(tmp_path, monkeypatch, "raise SystemExit('no such wheel')")
    assert found == {"skipped": "exit 1: no such wheel"}


def test_an_environment_that_is_not_there_is_skipped():
    found = run.run_side(Side("x", ".venv-nowhere", "m", "c"), limit=1)
    assert "make peers" in found["skipped"]


def test_names_are_one_each_and_an_unknown_one_lists_them():
    names = [one.name for one in registry.BENCHMARKS]
    assert len(set(names)) == len(names)
    assert registry.pick([]) == list(registry.BENCHMARKS)
    with pytest.raises(KeyError, match="mlp-two"):
        registry.pick(["mpl"])


def test_each_side_of_the_registry_is_a_case_of_its_script():
    from benchmarks import ours

    for benchmark in registry.BENCHMARKS:
        assert {side.case for side in benchmark.ours} <= set(ours.CASES)
        for side in benchmark.peers:
            assert (run.ROOT / side.module.replace(".", "/")).with_suffix(".py").exists(), side
