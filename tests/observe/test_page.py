import json

from trivium.observe.page import compare, run_lines
from trivium.observe.rundir import read_run
from trivium.observe.summary import lines
from trivium.testing.records import a_record


def write(folder, record=None, events=(), metrics=(), checkpoint=True):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"model": "mlp:64", "design": "ps", "stopping": {"epochs": 5}}))
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)))
    if checkpoint:
        (folder / "checkpoints" / "clock-30").write_text("x")
    if record:
        (folder / "record.json").write_text(json.dumps(record.as_json()))
    return read_run(folder)


def test_a_finished_run_is_told_whole(tmp_path):
    text = lines(run_lines(write(tmp_path / "a", a_record())))
    for part in (
        "a: finished",
        "mlp:64 by ps",
        "after 5 epochs",
        "stopped by patience",
        "workers: compute 60 %",
        "worker-1 died",
    ):
        assert part in text
    assert "resume" not in text


def test_a_run_that_broke_off_says_how_far_it_came_and_how_to_go_on(tmp_path):
    run = write(
        tmp_path / "a",
        events=[{"kind": "notice", "text": "worker-1 died"}],
        metrics=[{"clock": 31, "epoch": 2.5, "seconds": 4.0, "loss": 0.5, "valid_loss": None}],
    )
    text = lines(run_lines(run), width=200)
    for part in ("broken off", "clock 31, epoch 2.5, 4.0 s, loss 0.5, validation –", "worker-1 died", "clock-30"):
        assert part in text
    assert f"trivium resume {run.path}" in text


def test_a_failed_run_without_a_checkpoint_is_not_said_to_be_resumable(tmp_path):
    text = lines(
        run_lines(write(tmp_path / "a", events=[{"kind": "failed", "text": "out of memory"}], checkpoint=False))
    )
    assert "a: failed" in text
    assert "out of memory" in text
    assert "no checkpoint" in text
    assert "trivium resume" not in text


def test_curves_are_drawn_from_what_was_written_down(tmp_path):
    losses = [2.0, 2.0, 1.5, 0.9, 0.5, 0.5]
    run = write(
        tmp_path / "a", metrics=[{"clock": n, "epoch": 0, "loss": None, "valid_loss": v} for n, v in enumerate(losses)]
    )
    assert "validation 2 █▆▃▁ 0.5" in lines(run_lines(run), width=200)


def test_runs_side_by_side(tmp_path):
    runs = [
        write(tmp_path / "one", a_record()),
        write(tmp_path / "two", a_record(design="sequential", workers=1, threads=2, seconds=61.0)),
        write(tmp_path / "three"),
    ]
    head, rule, *rows = compare(runs).splitlines()
    assert head.split()[:4] == ["run", "model", "design", "workers"]
    assert set(rule) == {"-"}
    assert "94.00 %" in rows[0]
    assert "01234567" in rows[0]
    assert "1 × 2" in rows[1]
    assert "1 min 01 s" in rows[1]
    assert "broken off" in rows[2]
