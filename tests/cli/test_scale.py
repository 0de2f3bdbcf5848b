"""``trivium scale`` and ``switch`` against the run's side of the conversation."""

import json

import pytest

from trivium.cli import main
from trivium.errors import PlanError
from trivium.running.control import Control


@pytest.fixture
def live(tmp_path):
    """A run that hears requests, writes them down, and tells what it is told to."""
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    heard, answers = [], []

    def handle(request):
        heard.append(request)
        answer = answers.pop() if answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Control(run, handle):
        yield run, heard, answers


def test_scale_asks_and_says_what_was_wanted(live, capsys):
    run, heard, _ = live
    assert main(["scale", str(run), "-w", "8", "--nodes", "2"]) == 0
    assert heard == [{"do": "scale", "workers": 8, "nodes": 2}]
    assert capsys.readouterr().out == f"scale    8 workers on 2 nodes\nrun      {run}\n"


def test_scale_says_what_the_run_told(live, capsys):
    run, heard, answers = live
    answers.append({"told": "4 workers on 1 node from clock 120; the others paused for 12 ms", "clock": 120})
    assert main(["scale", str(run), "--workers", "4", "--json"]) == 0
    assert heard == [{"do": "scale", "workers": 4, "nodes": None}]
    told = capsys.readouterr().out
    assert told.startswith("scale    4 workers on 1 node from clock 120; the others paused for 12 ms\n")
    assert json.loads(told.splitlines()[-1]) == {
        "run": str(run), "do": "scale", "workers": 4, "nodes": None, "clock": 120,
        "told": "4 workers on 1 node from clock 120; the others paused for 12 ms",
    }  # fmt: skip


def test_switch_asks(live, capsys):
    run, heard, _ = live
    assert main(["switch", str(run), "--consistency", "ssp:3"]) == 0
    assert heard == [{"do": "switch", "consistency": "ssp:3"}]
    assert capsys.readouterr().out.startswith("switch   ssp:3\n")


def test_what_the_run_refuses_is_said_in_options(live, capsys):
    run, _, answers = live
    answers.append(PlanError("workers=16 is more than lanes=8; lower workers"))
    assert main(["scale", str(run), "-w", "16"]) == 2
    assert capsys.readouterr().err == "trivium: --workers 16 is more than --lanes 8; lower --workers\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("scale {run} -w 0", "0 is too small; it must be 1 or more"),
        ("scale {run}", "Missing option '--workers'"),
        ("scale {run} -w 2 --nodes none", "'none' is not a whole number"),
        ("switch {run}", "Missing option '--consistency'"),
        ("switch {run} --consistency ssp", "ssp wants a whole number of 0 or more"),
        ("switch {run} --consistency apt", "unknown consistency 'apt' (did you mean 'asp'?)"),
        ("scale {run}x -w 2", "no such run; `trivium runs` lists those there are"),
    ],
)
def test_what_is_no_request_never_reaches_the_run(live, capsys, line, says):
    run, heard, _ = live
    assert main(line.format(run=run).split()) == 2
    assert says in capsys.readouterr().err
    assert heard == []


def test_a_run_that_is_over_says_how_to_see(tmp_path, capsys):
    assert main(["switch", str(tmp_path), "--consistency", "bsp"]) == 2
    assert capsys.readouterr().err == (
        f"trivium: no run is live in {tmp_path}; `trivium runs` says which are running\n"
    )
