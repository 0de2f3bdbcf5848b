"""The plane against direct computing: every kind of work, any cut into shards, and what a checkpoint keeps."""

from pathlib import Path

import numpy as np
import pytest

from trivium.core.lanes import Part, share, subtrees
from trivium.core.messages import BEST, Adopt, Apply, EvaluateRows, Fold, Gradient, KeepShard
from trivium.data.batches import BatchPlan, Strides
from trivium.data.spool import DiskSpool
from trivium.data.table import Table
from trivium.errors import RunError
from trivium.plan import Plan, Stopping
from trivium.program.models import model
from trivium.program.optimizers import optimizer
from trivium.running.ending import params_digest
from trivium.running.job import Job, prepare
from trivium.runtime.paging import OVER
from trivium.runtime.plane import ArrayPlane, Facts
from trivium.testing.simulating import private_arrays

ROWS, WIDTH, LANES = 64, 9000, 4


@pytest.fixture(scope="module")
def table():
    draw = np.random.default_rng(3)
    x = draw.standard_normal((ROWS, WIDTH))
    weight = draw.uniform(0.5, 2.0, ROWS).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    return Table({"x": x, "y": y, "weight": weight}, (0.0, 1.0))


def planes(table, name="sgd", shards=1, count=2, batch=None, reproducible=True, l2=0.01, lr=0.25, strides=None):
    """``count`` planes over the same arrays, the first version committed."""
    options = {"lr": lr} if name == "sgd" else {"tol": 0.0}
    program = model("logistic").for_data(table.spec)
    facts = Facts(
        program,
        optimizer(name, **options),
        BatchPlan(ROWS, LANES, batch, seed=1, strides=strides),
        LANES,
        shards,
        count,
        reproducible,
        1,
        0.0,
        l2,
        0,
    )
    arrays = private_arrays(facts)
    made = [ArrayPlane(facts, arrays, me, {"train": table, "valid": table.rows(np.arange(10))}) for me in range(count)]
    made[0].first_version(program.init(0))
    return made


def clock(made, at, ranges):
    """One clock: each range's gradient on its plane, then every shard, in two steps where F has them."""
    parts = []
    for index, range_ in enumerate(ranges):
        plane = made[index % len(made)]
        whole = tuple(subtrees(LANES, range_)) if plane.facts.reproducible else (range_,)
        plane.read(at)
        plane.carry_out(Gradient(at, whole))
        parts += whole
    parts = tuple(sorted(parts))
    shards = range(len(made[0].shards))
    folded = made[0].facts.optimizer.scalar_count > 0
    for shard in shards if folded else ():
        made[shard % len(made)].carry_out(Fold(shard, at, parts))
    return [made[shard % len(made)].carry_out(Apply(shard, at, parts, folded, -1)) for shard in shards]


def params(plane, at):
    plane.read(at)
    return plane.view().copy()


def direct(table, w, b, rows=slice(None)):
    """Σ weight × gradient, loss, weight of logistic regression, as any textbook has it."""
    x, y, c = table.columns["x"][rows], table.columns["y"][rows], table.columns["weight"][rows].astype(np.float64)
    margin = x @ w + b
    p = 1.0 / (1.0 + np.exp(-margin))
    loss = float(np.sum(c * (np.logaddexp(0.0, margin) - y * margin)))
    return x.T @ (c * (p - y)), float(np.sum(c * (p - y))), loss, float(c.sum()), p


def test_gradient_and_apply_are_a_step_of_the_textbook(table):
    made = planes(table)
    layout = made[0].facts.layout
    w, b = np.zeros(WIDTH), 0.0
    for at in range(3):
        gw, gb, loss, weight, _p = direct(table, w, b)
        ((finished, iterations, rows, summed_weight, summed_loss),) = clock(made, at, share(LANES, 2))
        assert (finished, iterations, rows) == (False, at + 1, ROWS)
        assert summed_weight == pytest.approx(weight) and summed_loss == pytest.approx(loss)
        w, b = w - 0.25 * (gw / weight + 0.01 * w), b - 0.25 * gb / weight
        views = layout.views(params(made[1], at + 1))
        flat = np.concatenate([views[s.name].reshape(-1) for s in layout.slices if s.size == WIDTH])
        free = next(views[s.name] for s in layout.slices if not s.penalised)
        np.testing.assert_allclose(flat, w, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(free.reshape(-1), [b], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "lbfgs"])
def test_bits_do_not_depend_on_shards_or_ranges(name, table):
    digests = set()
    for shards, ranges in ((1, share(LANES, 1)), (2, share(LANES, 2)), (3, share(LANES, 3)), (3, share(LANES, 4))):
        made = planes(table, name, shards, count=3)
        for at in range(8):
            clock(made, at, ranges)
        digests.add(params_digest(made[0].facts.layout, params(made[0], 8)))
    assert len(digests) == 1


def test_minibatches_read_the_rows_of_their_plan(table):
    made = planes(table, batch=16)
    batches = made[0].facts.batches
    index = np.concatenate([batches.order(lane, 0)[: batches.quota(lane)] for lane in range(LANES)])
    gw, _gb, loss, weight, _p = direct(table, np.zeros(WIDTH), 0.0, np.sort(index))
    ((_f, _i, rows, summed_weight, summed_loss),) = clock(made, 0, share(LANES, 2))
    assert rows == len(index) == 16
    assert (summed_weight, summed_loss) == (pytest.approx(weight), pytest.approx(loss))
    layout = made[0].facts.layout
    wide = next(s for s in layout.slices if s.size == WIDTH)
    np.testing.assert_allclose(layout.views(params(made[0], 1))[wide.name].reshape(-1), -0.25 * gw / weight, atol=1e-12)


def test_fused_lanes_sum_to_the_same_within_rounding(table):
    made, fused = planes(table), planes(table, reproducible=False)
    clock(made, 0, share(LANES, 2))
    clock(fused, 0, share(LANES, 2))
    np.testing.assert_allclose(params(made[0], 1), params(fused[0], 1), rtol=1e-9, atol=1e-13)


def test_evaluation_by_lanes_of_any_clock_and_of_the_kept(table):
    made = planes(table)
    clock(made, 0, share(LANES, 2))
    views = made[0].facts.layout.views(params(made[0], 1))
    w = next(v for v in views.values() if v.size == WIDTH).reshape(-1)
    b = float(next(v for v in views.values() if v.size == 1).reshape(-1)[0])
    for plane in made:
        (train, valid) = plane.carry_out(EvaluateRows(1, ("train", "valid"), Part(0, LANES)))
        assert len(train) == len(valid) == LANES
        for sums, rows in ((train, slice(None)), (valid, slice(0, 10))):
            _gw, _gb, loss, weight, p = direct(table, w, b, rows)
            c = table.columns["weight"][rows].astype(np.float64)
            right = float(np.sum(c[(p > 0.5) == (table.columns["y"][rows] == 1)]))
            np.testing.assert_allclose(np.sum(sums, axis=0), [len(c), weight, loss, right], rtol=1e-9)
    before = made[0].carry_out(EvaluateRows(0, ("train",), Part(0, LANES)))
    made[0].carry_out(KeepShard(0, 0))
    assert made[1].carry_out(EvaluateRows(BEST, ("train",), Part(0, LANES))) == before


def test_adopt_tells_where_a_shard_stands(table):
    made = planes(table, shards=3)
    clock(made, 0, share(LANES, 1))
    assert [made[1].carry_out(Adopt(shard)) for shard in range(3)] == [(1, False)] * 3


def test_a_shard_that_is_ahead_binds_the_others(table):
    """The totals that one shard recorded give the same bits as the totals added up."""
    digests = []
    for authority in (-1, 0):
        made = planes(table, "lbfgs", 3, count=3)
        for at in range(6):
            parts = (Part(0, LANES),)
            made[0].read(at)
            made[0].carry_out(Gradient(at, parts))
            for shard in range(3):
                made[shard].carry_out(Fold(shard, at, parts))
            made[0].carry_out(Apply(0, at, parts, True, -1))
            if authority == 0:
                made[0].arrays.partials[:] = np.nan  # whoever added them again would see it
            for shard in (1, 2):
                made[shard].carry_out(Apply(shard, at, parts, True, authority))
        digests.append(params_digest(made[0].facts.layout, params(made[0], 6)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("name", "cut"), [("lbfgs", 1), ("lbfgs", 3), ("sgd", 2)])
def test_what_a_snapshot_takes_goes_on_with_the_same_bits(name, cut, table):
    made = planes(table, name, 2)
    for at in range(5):
        clock(made, at, share(LANES, 2))
    made[0].carry_out(KeepShard(0, 4))
    made[0].carry_out(KeepShard(1, 4))
    parts = [made[shard].snapshot(shard, 5) for shard in range(2)]
    saved = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in ("a", "slots", "ring", "kept")}
    saved |= {key: np.stack([part[key] for part in parts]) for key in ("head", "step", "totals")}
    other = planes(table, name, cut)
    other[0].restore(saved, 5, 4)
    np.testing.assert_array_equal(other[0].arrays.kept, params(made[0], 4))
    for at in range(5, 10):
        clock(made, at, share(LANES, 2))
        clock(other, at, share(LANES, 1))
    layout = made[0].facts.layout
    assert params_digest(layout, params(made[0], 10)) == params_digest(layout, params(other[0], 10))


def test_who_keeps_or_saves_still_holds_what_it_computes_with(table):
    made = planes(table)
    clock(made, 0, share(LANES, 1))
    made[0].read(1)
    made[0].carry_out(KeepShard(0, 1))
    made[0].snapshot(0, 1)
    slot = made[0].held[0].versions.current()[1]
    held = made[0].view().copy()
    for at in range(1, 6):
        clock([made[1]], at, share(LANES, 1))
        assert made[1].held[0].versions.begin() != slot
    np.testing.assert_array_equal(made[0].view(), held)


def test_nothing_is_pinned_for_a_reaped_process(table):
    made = planes(table)
    versions = made[0].held[0].versions
    for reader in range(versions.readers):
        versions.pin(reader, 0)
    made[0].drop(1)
    pins = [int(versions._memory[at]) for at in versions._pins]
    assert pins == [1, 0] * (len(pins) // 2) and len(pins) > 2


def test_work_at_the_wrong_clock_is_refused(table):
    made = planes(table)
    clock(made, 0, share(LANES, 1))
    made[0].read(1)
    with pytest.raises(RunError, match="clock 0 computed with parameters of 1"):
        made[0].carry_out(Gradient(0, (Part(0, LANES),)))
    with pytest.raises(RunError, match="clock 0 applied to shard 0 at 1"):
        made[0].carry_out(Apply(0, 0, (Part(0, LANES),), False, -1))
    with pytest.raises(RunError, match="found no version of clock 7"):
        made[0].read(7)
    with pytest.raises(RunError, match="has no version of clock 7"):
        made[0].snapshot(0, 7)


def test_f_is_warmed_without_a_trace(table):
    """The small bowl that loads F's functions must not touch the run's arrays."""
    made = planes(table, "lbfgs", 3)
    before = {name: getattr(made[0].arrays, name).copy() for name in ("a", "slots", "ring", "head", "versions")}
    made[1].warm_optimizer()
    made[1].warm(Part(0, 2))
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(made[0].arrays, name), array)


def test_a_plane_that_is_closed_holds_no_thread(table):
    job = Job(
        model("logistic"),
        table,
        Plan("sequential", threads=2, reproducible=True, lanes=LANES),
        Path("never"),
        stopping=Stopping(max_iter=2),
    )
    facts = prepare(job).facts
    plane = ArrayPlane(facts, private_arrays(facts), 0, {"train": table})
    plane.first_version(facts.program.init(0))
    plane.warm(Part(0, LANES))
    plane.read(0)
    plane.carry_out(Gradient(0, (Part(0, LANES),)))
    threads = list(plane.bench.pool._threads)
    assert threads
    plane.close()
    for thread in threads:
        thread.join(5.0)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("reproducible", [True, False])
def test_strips_sum_to_the_same_and_do_not_depend_on_who_computes(table, reproducible):
    whole, cut, digests = planes(table, reproducible=reproducible), [], set()
    clock(whole, 0, share(LANES, 2))
    for count in (1, 2, 4) if reproducible else (2,):
        made = planes(table, reproducible=reproducible, strides=Strides(2, 4, 5))
        clock(made, 0, share(LANES, count))
        cut.append(params(made[0], 1))
        digests.add(params_digest(made[0].facts.layout, cut[-1]))
    np.testing.assert_allclose(cut[0], params(whole[0], 1), rtol=1e-9, atol=1e-12)
    assert len(digests) == 1
    work = EvaluateRows(1, ("train", "valid"), Part(0, LANES))
    for one, other in zip(whole[0].carry_out(work), made[0].carry_out(work), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_rows_that_were_passed_are_let_go_of(table, tmp_path):
    spool = DiskSpool(tmp_path)
    spool.add(table.columns)
    columns, mapped = spool.finish()
    on_disk = Table(columns, table.classes, mapped=mapped)
    made = planes(on_disk, strides=Strides(2, 4, 5))
    let_go = []
    made[0]._deltas.pagers["train"]._advise = lambda start, size, advice: (
        let_go.append((start, size)) if advice == OVER else 0
    )
    clock(made, 0, [Part(0, LANES)])
    x = columns["x"]
    assert sum(size for start, size in let_go if 0 <= start - x.ctypes.data < x.nbytes) > 0.8 * x.nbytes
