"""Real runs grow and shrink while they go on, on one node and on several; nothing restarts, the bits stay the same."""

import json
import os
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.watching import BOUND, Watcher, alive, ended, network_job, nodes_job, until
from trivium.cli import main
from trivium.errors import PlanError, UsageError
from trivium.plan import Stopping
from trivium.running.session import Session
from trivium.testing.troubled import Paced, Troubled

pytestmark = pytest.mark.slow
FOR_EVER = Stopping(epochs=100_000)


def held_up(job):
    """``job`` that comes to its end only once its file ``pace`` is gone, and that file."""
    pace = job.out.with_name("pace")
    pace.touch()
    return replace(job, program=Troubled(job.program, Paced(pace))), pace


def endless(job):
    """``job`` until it is stopped."""
    return replace(job, stopping=FOR_EVER, valid=None)


@contextmanager
def going(job, within=BOUND):
    """``job`` once it is in its middle, and who watches; whatever happens, nothing of it is left."""
    watcher, pids = Watcher(), {}
    with Session() as session:
        live = session.begin(job, watcher)
        try:
            assert watcher.middle.wait(within)
            pids |= live.pids
            yield live, watcher
            pids |= live.pids
        finally:
            if live.wait(0.0) is None:
                pids |= live.pids
                live.kill()
    assert until(lambda: not any(map(alive, pids.values()))), "processes are left"


def came(live, wish):
    """What came of ``wish``, within the bound."""
    assert until(lambda: live.came_of(wish) is not None, BOUND)
    return live.came_of(wish)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The digest of a run that nobody scales."""
    with Session() as session:
        return ended(session.begin(nodes_job(tmp_path_factory.mktemp("whole") / "run", workers=1, nodes=1)))


def scaled(job, sizes, whole):
    """Scale ``job`` to each of ``sizes`` in turn; it must end as if it had never been."""
    job, pace = held_up(job)
    with going(job) as (live, watcher):
        before = set(live.pids.values())
        for workers, nodes in sizes:
            told = came(live, live.scale(workers, nodes))
            assert told.done and told.text.startswith(f"{workers} worker"), told
            assert ("on" in told.text.split(" from clock")[0]) == (nodes > 1)
        first = live.pids["server 0"]
        assert first in before, "nobody was started anew"
        pace.unlink()
        record = ended(live)
    assert record.params_sha256 == whole.params_sha256
    assert (record.clocks, record.history) == (whole.clocks, whole.history)
    assert len([text for text in record.notices if ", before " in text]) == len(sizes)
    assert not [text for text in watcher.notices if "died" in text]
    why = [json.loads(line)["workers"] for line in (job.out / "terms.jsonl").read_text().splitlines()]
    assert len(why[-1]) == sizes[-1][0]


def test_workers_come_and_go_on_one_node(tmp_path, whole):
    scaled(nodes_job(tmp_path / "run", workers=1, nodes=1, epochs=30), [(3, 1), (2, 1), (4, 1), (1, 1)], whole)


def test_workers_and_nodes_come_and_go(tmp_path, whole):
    scaled(nodes_job(tmp_path / "run"), [(3, 2), (3, 3), (2, 2), (1, 1)], whole)


def test_another_change_waits_for_nobody(tmp_path):
    with going(endless(nodes_job(tmp_path / "run", workers=1, nodes=1))) as (live, watcher):
        first, second = live.scale(2), live.scale(3)
        assert came(live, second).text == "another change is under way; ask again"
        assert came(live, first).done and not came(live, second).done
        assert came(live, live.scale(2)).text == "there are 2 workers already"
        assert came(live, live.scale(3)).done
        live.stop()
        record = ended(live)
    assert len([text for text in watcher.notices if "another change" in text]) == 1
    assert record.stopped_by == "stopped"


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_joiner_that_dies_before_it_counts_is_done_without(nodes, tmp_path, whole):
    job, pace = held_up(nodes_job(tmp_path / "run", workers=2, nodes=nodes))
    with going(job) as (live, watcher):
        there = set(live.pids)
        wish = live.scale(3)
        assert until(lambda: any(pid for name, pid in live.pids.items() if name not in there))
        os.kill(next(pid for name, pid in live.pids.items() if name not in there), signal.SIGKILL)
        told = came(live, wish)
        assert not told.done and "is called off" in told.text, told
        assert came(live, live.scale(3)).done, "it can be asked for again"
        pace.unlink()
        record = ended(live)
    assert record.params_sha256 == whole.params_sha256
    assert any("died (SIGKILL) before it joined" in text for text in watcher.notices)


def test_a_node_that_dies_before_it_counts_is_done_without(tmp_path, whole):
    job, pace = held_up(nodes_job(tmp_path / "run"))
    with going(job) as (live, watcher):
        wish = live.scale(3, 3)
        assert until(lambda: "server 2" in live.pids)
        os.kill(live.pids["server 2"], signal.SIGKILL)
        told = came(live, wish)
        assert not told.done and "is called off" in told.text, told
        pace.unlink()
        record = ended(live)
    assert record.params_sha256 == whole.params_sha256
    assert not any("server 0 died" in text or "server 1 died" in text for text in watcher.notices)


@pytest.mark.parametrize(("nodes", "then"), [(1, 1), (2, 3)])
def test_stopped_in_the_middle_of_a_change(nodes, then, tmp_path):
    with going(endless(nodes_job(tmp_path / "run", workers=2, nodes=nodes))) as (live, _watcher):
        wish = live.scale(3, then)
        live.stop("interrupted")
        record = ended(live)
        assert live.came_of(wish) is not None
    assert record.stopped_by == "interrupted"


def test_asked_right_before_the_end(tmp_path, whole):
    job, pace = held_up(nodes_job(tmp_path / "run", workers=1, nodes=1))
    with going(job) as (live, _watcher):
        wish = live.scale(2)
        pace.unlink()  # the rest takes about as long as a joiner needs
        record = ended(live)
        assert live.came_of(wish) is not None
        with pytest.raises(UsageError, match="is over; nothing can be asked of it"):
            live.scale(2)
    assert record.params_sha256 == whole.params_sha256


def test_what_cannot_be_is_refused(tmp_path):
    with going(endless(nodes_job(tmp_path / "run", workers=1, nodes=1))) as (live, _watcher):
        with pytest.raises(UsageError, match="workers=9: from 1 to lanes=8"):
            live.scale(9)
        with pytest.raises(UsageError, match="workers=0"):
            live.scale(0)
        with pytest.raises(UsageError, match="nodes=2: a run that began on one node stays on it"):
            live.scale(2, 2)
        with pytest.raises(PlanError):
            live.switch("ssp:3")  # reproducible
        assert live._wishes == []
        live.stop()
        ended(live)


def test_no_other_design_changes_its_size(tmp_path):
    with going(endless(network_job(tmp_path / "run", "allreduce", 1))) as (live, _watcher):
        with pytest.raises(UsageError, match="only a parameter server changes its size"):
            live.scale(2)
        live.stop()
        ended(live)


def loose(out, **plan):
    """A run that need not come out in the same bits."""
    job = nodes_job(out, **plan)
    return endless(replace(job, plan=replace(job.plan, reproducible=False)))


@pytest.mark.parametrize("nodes", [1, 2])
def test_from_the_command_line(nodes, tmp_path, capsys):
    run = tmp_path / "run"
    with going(loose(run, workers=2, nodes=nodes)) as (live, _watcher):
        assert main(["scale", str(run), "-w", "3"]) == 0
        on = "" if nodes == 1 else " on 2 nodes"
        told = capsys.readouterr().out
        assert told.startswith(f"scale    3 workers{on} from clock ") and "the others paused for" in told
        assert main(["switch", str(run), "--consistency", "ssp:3", "--json"]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["done"] and told["told"].startswith("ssp:3 from clock ")
        assert live._status()["consistency"] == "ssp:3" and live._status()["workers"] == 3
        live.scale(2)
        assert main(["scale", str(run), "-w", "4"]) in (0, 1)  # as the other one is done already, or not
        assert main(["scale", str(run), "-w", "9"]) == 2
        assert "--lanes 8" in capsys.readouterr().err
        live.stop()
        ended(live)


def test_a_run_that_ends_meanwhile_says_so(tmp_path, capsys):
    run = tmp_path / "run"
    with going(loose(run, workers=1, nodes=1)) as (live, _watcher):
        live.came_of = lambda _wish: None
        asked = live.scale

        def scale(workers, nodes=None):
            live.stop()
            return asked(workers, nodes)

        live.scale = scale
        assert main(["scale", str(run), "-w", "2"]) == 1
        assert "not done: the run ended before" in capsys.readouterr().out
        ended(live)
