"""``tv.run``: loops over row tables count exactly, whoever dies, under each consistency, on one node and on several."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import trivium as tv
from trivium.errors import DataError, PlanError, ProgramError, StorageError, UsageError

ROWS, WIDE, KEYS = 1000, 5, 300
WITHIN = 120  # seconds of a run that is not to hang


def given(seed=0):
    """(keys of each row, the rows as data): each row pushes 1 to each of its keys."""
    keys = np.random.default_rng(seed).integers(0, KEYS, (ROWS, WIDE))
    return keys, tv.from_arrays(keys.astype(np.float64), np.zeros(ROWS))


def counting(data, *, epochs=2, batch=64, strike=None):
    """A worker that counts; ``strike(ctx, batch)`` is called first in each unit."""

    def worker(ctx):
        w = ctx.table("w", rows=KEYS, width=2, update="add", dtype="int64")
        for batch_ in ctx.batches(data, batch, epochs=epochs):
            if strike is not None:
                strike(ctx, batch_)
            keys = batch_.x.astype(np.int64).ravel()
            w.pull(keys)
            w.push(keys, np.tile([1, 2], (len(keys), 1)))
            ctx.clock()

    return worker


def check_counts(run, keys, epochs=2):
    wanted = np.bincount(keys.ravel(), minlength=KEYS) * epochs
    found = run.tables["w"].pull(np.arange(KEYS))
    np.testing.assert_array_equal(found, np.stack([wanted, 2 * wanted], axis=1))
    assert run.tables["w"].keys().tolist() == np.flatnonzero(wanted).tolist()


def kill_once(folder, at, whom, *, node=False, delay=0.0):
    """The worker ``whom`` ends itself, or its node, at clock ``at`` or soon after: once."""
    flag = Path(folder) / "struck"

    def kill():
        if node:
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def strike(ctx, batch):
        if ctx.worker == whom and batch.clock >= at and not flag.exists():
            flag.touch()
            threading.Timer(delay, kill).start() if delay else kill()

    return strike


def plan(workers, consistency="bsp", **more):
    more = {"balance": False, **more}  # lanes stay, so that whoever is to die has some
    return tv.Plan("ps", workers=workers, consistency=consistency, **more)


# -- what is declared --------------------------------------------------------------------------------------------------
def refused(worker, **asked):
    with pytest.raises((PlanError, UsageError, ProgramError, DataError)) as found:
        tv.run(worker, progress=False, **asked)
    return str(found.value)


def test_a_loop_says_what_it_needs_before_anything_starts(tmp_path):
    _keys, data = given()

    def no_table(ctx):
        for _ in ctx.batches(data, 10):
            ctx.clock()

    def no_loop(ctx):
        ctx.table("w")

    def no_rows(ctx):
        ctx.table("w")
        for _ in ctx.batches():
            ctx.clock()

    def early(ctx):
        ctx.table("w").pull([1])

    def twice(ctx):
        ctx.table("w")
        ctx.table("w")

    def wrong(ctx):
        ctx.table("w", update="adagrat")

    def raises(ctx):
        ctx.table("w")
        {}["missing"]

    assert "ask for one by ctx.table" in refused(no_table)
    assert "without a loop over ctx.batches" in refused(no_loop)
    assert "hand them in as its first argument, or as data= of tv.run" in refused(no_rows)
    assert "inside of the loop" in refused(early)
    assert "asked for twice" in refused(twice)
    assert "did you mean 'adagrad'?" in refused(wrong)
    told = refused(raises)
    assert "what comes before the loop raised KeyError" in told and "test_loops.py" in told
    assert "row tables live on parameter servers" in refused(counting(data), plan=tv.Plan("sequential"))
    assert "leave it out" in refused(counting(data), plan=plan(2, nodes=2, filters="int8"))
    assert "give a function worker(ctx)" in refused(7)
    assert "Give its directory as out" in refused(counting(data), resume=True)
    assert "clocks=0" in refused(lambda ctx: (ctx.table("w"), ctx.clocks(0)))
    assert not list(tmp_path.iterdir())


# -- one node ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
@pytest.mark.parametrize("consistency", ["bsp", "ssp:3", "essp:1", "asp"])
def test_counts_are_exact_on_one_node(tmp_path, consistency):
    keys, data = given()
    run = tv.run(counting(data), plan=plan(3, consistency), out=tmp_path / "run", progress=False)
    check_counts(run, keys)
    assert run.record.clocks == 2 * -(-ROWS // 8 // 8) and run.record.epochs == 2
    assert len(run.tables["w"]) == len(np.unique(keys)) and "w" in repr(run)


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
def test_ten_thousand_keys_and_fifty_pushes_as_ps_lite_promises(tmp_path):
    rng = np.random.default_rng(1)
    v = rng.standard_normal(10_000).astype(np.float32)
    keys = np.unique(rng.integers(0, 1 << 62, 10_100))[:10_000]

    def worker(ctx):
        w = ctx.table("kv", update="add")
        for step in ctx.clocks(50):
            w.push(keys, v * (len(step) / 8))  # a unit stands for some of the 8 lanes
            ctx.clock()

    run = tv.run(worker, plan=plan(2), out=tmp_path / "run", progress=False)
    np.testing.assert_allclose(run.tables["kv"].pull(keys).ravel(), 50 * v, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
def test_a_worker_reads_its_own_pushes_at_the_next_clock(tmp_path):
    def worker(ctx):
        w = ctx.table("w", rows=10, update="add", dtype="int64")
        for step in ctx.clocks(20):
            if w.pull([3])[0, 0] != step.clock * 8:  # one worker, all of 8 lanes
                raise ValueError(f"{w.pull([3])} at {step.clock}")
            w.push([3, 3], [[3], [5]])
            ctx.clock()
        if w.pull([3])[0, 0] != 160:
            raise ValueError("the end")
        Path(tmp_path / "after").touch()

    tv.run(worker, plan=plan(1), out=tmp_path / "run", progress=False)
    assert (tmp_path / "after").exists(), "what comes after the loop was not run, or saw too little"


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
@pytest.mark.parametrize(("consistency", "slack"), [("bsp", 0), ("ssp:2", 2)])
def test_a_pull_has_all_clocks_that_the_rule_promises(tmp_path, consistency, slack):
    def worker(ctx):
        w = ctx.table("w", rows=8, update="add", dtype="int64")
        for step in ctx.clocks(60):
            seen = w.pull(np.arange(8)).ravel()
            low, high = step.clock - slack, step.clock if not slack else 60
            if seen.min() < low or seen.max() > high or any(seen[lane] < step.clock for lane in step.lanes):
                raise ValueError(f"{seen} at clock {step.clock} by {step.lanes}")
            w.push(np.array(step.lanes), np.ones((len(step.lanes), 1), np.int64))
            ctx.clock()

    run = tv.run(worker, plan=plan(3, consistency), out=tmp_path / "run", progress=False)
    assert run.tables["w"].pull(range(8)).ravel().tolist() == [60] * 8


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
def test_reproducible_loops_end_in_the_same_bits_for_any_number_of_workers(tmp_path):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((400, 6)).astype(np.float32), rng.integers(0, 2, 400)

    def worker(ctx):
        w = ctx.table("w", rows=6, update="adagrad", init="normal:0.1")
        for batch in ctx.batches(epochs=3, batch_size=40):
            weights = w.pull(np.arange(6))[:, 0]
            slope = 1 / (1 + np.exp(-batch.x @ weights)) - batch.y
            w.push(np.arange(6), batch.x.T @ slope)
            ctx.clock()

    digests = set()
    for workers in (1, 2, 3):
        out = tmp_path / str(workers)
        run = tv.run(worker, data=(x, y), plan=plan(workers, reproducible=True), out=out, progress=False)
        digests.add(run.tables["w"].block().digest)
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
def test_what_is_reported_is_kept(tmp_path):
    _keys, data = given()

    def worker(ctx):
        w = ctx.table("w", rows=KEYS, update="add")
        for batch in ctx.batches(data, 50, epochs=1):
            w.push([1], [[1.0]])
            ctx.report(loss=0.25, rows=len(batch), drawn=ctx.rng.random())
            ctx.clock()

    run = tv.run(worker, plan=plan(2), out=tmp_path / "run", progress=False)
    told = list(run.reports())
    assert sum(one["rows"] for one in told) == ROWS
    assert len({one["drawn"] for one in told}) == len(told) and {one["worker"] for one in told} == {0, 1}


# -- errors ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
def test_a_mistake_is_told_with_its_line_worker_and_clock(tmp_path):
    _keys, data = given()

    def strike(ctx, batch):
        if batch.clock == 3 and ctx.worker == 1:
            raise ZeroDivisionError("mine")

    told = r"worker 1: the loop at clock 3, .*ZeroDivisionError at .*test_loops.py:\d+"
    with pytest.raises(ProgramError, match=told) as found:
        tv.run(counting(data, strike=strike), plan=plan(2), out=tmp_path / "run", progress=False)
    assert "mine" in str(found.value)


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda ctx, w: (ctx.clock(), ctx.clock()), "with no batch before it"),
        (lambda ctx, w: w.push([5000], [[1.0]]), "key 5000: expected 0 to 299"),
        (lambda ctx, w: w.push([1, 2], [[1.0]]), r"expected \(2, 1\)"),
        (lambda ctx, w: ctx.table("other"), "was not asked for before the loop"),
        (lambda ctx, w: next(ctx.batches()), "one loop over batches makes a run"),
    ],
)
def test_what_a_loop_may_not_do_is_said(tmp_path, wrong, told):
    def worker(ctx):
        w = ctx.table("w", rows=KEYS, update="add")
        for _ in ctx.clocks(5):
            wrong(ctx, w)
            ctx.clock()

    with pytest.raises(ProgramError, match=told):
        tv.run(worker, plan=plan(1), out=tmp_path / "run", progress=False)


@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
def test_a_node_holds_no_more_rows_than_it_may(tmp_path):
    def worker(ctx):
        w = ctx.table("w", width=64, update="add")
        for step in ctx.clocks(40):
            keys = np.arange(step.clock * 1000, step.clock * 1000 + 1000)
            w.push(keys, np.ones((1000, 64), np.float32))
            ctx.clock()

    with pytest.raises(StorageError, match="table 'w'"):
        tv.run(worker, plan=plan(1), node_memory=4 << 20, out=tmp_path / "run", progress=False)


# -- deaths ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(WITHIN)
@pytest.mark.parametrize(("consistency", "delay"), [("bsp", 0.0), ("ssp:3", 0.0), ("ssp:3", 0.02), ("asp", 0.01)])
def test_counts_are_exact_though_a_worker_dies(tmp_path, consistency, delay):
    keys, data = given()
    strike = kill_once(tmp_path, 12, 2, delay=delay)
    worker = counting(data, strike=strike, epochs=4)
    run = tv.run(worker, plan=plan(3, consistency), out=tmp_path / "run", progress=False)
    check_counts(run, keys, epochs=4)
    assert any("worker 2 died (SIGKILL)" in one for one in run.record.notices)


@pytest.mark.slow
@pytest.mark.timeout(2 * WITHIN)
@pytest.mark.parametrize(
    ("consistency", "copies"), [("bsp", 1), ("bsp", 2), ("ssp:2", 1), ("ssp:3", 2), ("essp:1", 1), ("asp", 1)]
)
def test_counts_are_exact_on_several_nodes(tmp_path, consistency, copies):
    keys, data = given()
    asked = plan(3, consistency, nodes=3, copies=copies)
    run = tv.run(counting(data), plan=asked, out=tmp_path / "run", progress=False)
    check_counts(run, keys)


@pytest.mark.slow
@pytest.mark.timeout(2 * WITHIN)
@pytest.mark.parametrize(("consistency", "delay"), [("bsp", 0.0), ("ssp:3", 0.03), ("asp", 0.02)])
def test_counts_are_exact_though_a_node_dies(tmp_path, consistency, delay):
    keys, data = given()
    strike = kill_once(tmp_path, 12, 2, node=True, delay=delay)
    worker, asked = counting(data, strike=strike, epochs=4), plan(3, consistency, nodes=3)
    run = tv.run(worker, plan=asked, out=tmp_path / "run", progress=False)
    check_counts(run, keys, epochs=4)
    assert any("server 2 died" in one for one in run.record.notices)


@pytest.mark.slow
@pytest.mark.timeout(2 * WITHIN)
@pytest.mark.parametrize("nodes", [(1, 1), (2, 3)])
def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, nodes):
    keys, data = given()
    flag, out, epochs = tmp_path / "flag", tmp_path / "run", 30

    def strike(_ctx, batch):
        if batch.clock >= 20 and not flag.exists() and any(out.glob("checkpoints/*/manifest.json")):
            raise InterruptedError("once")

    before, after = nodes
    asked = plan(max(nodes), nodes=before, copies=1, checkpoint_every=0.01)
    with pytest.raises(ProgramError, match="once"):
        tv.run(counting(data, strike=strike, epochs=epochs), plan=asked, out=out, progress=False)
    flag.touch()
    asked = plan(max(nodes), nodes=after, copies=1)
    worker = counting(data, strike=strike, epochs=epochs)
    run = tv.run(worker, plan=asked, out=out, resume=True, progress=False)
    check_counts(run, keys, epochs=epochs)


@pytest.mark.slow
@pytest.mark.timeout(2 * WITHIN)
def test_a_table_is_larger_than_what_a_node_may_hold(tmp_path):
    """24 MB of rows over 3 nodes that may hold 12 MB each; ``benchmarks/tables.py`` has it at 2 GB over 3 × 1 GB."""
    count, width = 93_750, 64
    limit = 12 << 20

    def worker(ctx):
        w = ctx.table("w", rows=count, width=width, update="add")
        keys = np.arange(count).reshape(-1, 1875)
        for step in ctx.clocks(len(keys)):
            for lane in step.lanes:
                some = keys[step.clock][lane::8]
                w.push(some, np.repeat(some[:, None], width, axis=1).astype(np.float32))
            ctx.clock()

    asked = plan(3, nodes=3, copies=1, shards=24)
    run = tv.run(worker, plan=asked, node_memory=limit, out=tmp_path / "run", progress=False)
    some = np.random.default_rng(0).choice(count, 1000)
    np.testing.assert_array_equal(run.tables["w"].pull(some), np.repeat(some[:, None], width, axis=1))
    assert len(run.tables["w"]) == count and count * width * 4 > limit
