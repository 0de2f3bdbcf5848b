import fcntl
import json
import math
import os
import threading

import pytest

from trivium.errors import StorageError, UsageError
from trivium.observe.rundir import new_run, read_run, record_of
from trivium.testing.records import a_record


def make_run(folder, record=None, events=(), checkpoints=("clock-9.safetensors",), metrics=()):
    folder.mkdir(exist_ok=True)
    plan = {"model": "mlp:64", "plan": {"design": "ps", "workers": 2}, "stopping": {"epochs": 5}}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(metric) + "\n" for metric in metrics))
    (folder / "checkpoints").mkdir()
    for name in checkpoints:
        (folder / "checkpoints" / name).write_bytes(b"x")
    if record is not None:
        (folder / "record.json").write_text(json.dumps(record.as_json()))
    return folder


def test_a_record_survives_the_trip_through_json():
    record = a_record()
    assert record_of(json.loads(json.dumps(record.as_json()))) == record


def test_a_loss_that_was_not_measured_comes_back_as_nan():
    record = record_of({**a_record().as_json(), "loss": None, "objective": None})
    assert math.isnan(record.loss)
    assert math.isnan(record.objective)


def test_a_newer_record_with_more_keys_is_read():
    assert record_of({**a_record().as_json(), "colour": "blue"}) == a_record()


def test_a_record_that_lacks_a_field_names_it():
    raw = a_record().as_json()
    del raw["params_sha256"]
    with pytest.raises(StorageError, match="params_sha256"):
        record_of(raw)


@pytest.mark.parametrize(
    ("record", "events", "state", "resumable"),
    [
        (a_record(), (), "finished", False),
        (a_record(stopped_by="interrupted"), (), "interrupted", True),
        (None, ({"kind": "failed", "text": "no worker left"},), "failed", True),
        (None, ({"kind": "notice", "text": "worker-1 died"},), "broken off", True),
    ],
)
def test_states(tmp_path, record, events, state, resumable):
    run = read_run(make_run(tmp_path / "run", record, events))
    assert run.state == state
    assert run.resumable is resumable
    assert run.error == ("no worker left" if state == "failed" else None)


def test_no_checkpoint_no_resuming(tmp_path):
    assert not read_run(make_run(tmp_path / "run", checkpoints=())).resumable


def test_checkpoints_go_by_number_and_unfinished_ones_do_not_count(tmp_path):
    run = make_run(tmp_path / "run", checkpoints=("clock-10.st", "clock-9.st", ".clock-11.st", "clock-12.st.tmp"))
    assert [path.name for path in read_run(run).checkpoints] == ["clock-9.st", "clock-10.st"]


def test_a_checkpoint_counts_with_its_manifest_or_all_its_shards(tmp_path):
    run = make_run(tmp_path / "run", checkpoints=())
    for clock, files in (
        ("1", ("manifest.json",)),
        ("2", ("shard-0.json",)),
        ("3", ("shard-0.json", "shard-1.json")),
        ("4", ()),
    ):
        (run / "checkpoints" / clock).mkdir()
        for name in files:
            (run / "checkpoints" / clock / name).write_text('{"shards": 2}')
    assert [path.name for path in read_run(run).checkpoints] == ["1", "3"]


def test_a_run_whose_lock_is_held_is_running(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read = read_run(run)
        assert (read.state, read.driver, read.resumable) == ("running", os.getpid(), False)
    assert read_run(run).state == "broken off"


def test_settings_lie_flat(tmp_path):
    settings = read_run(make_run(tmp_path / "run")).settings
    assert (settings["model"], settings["design"], settings["workers"]) == ("mlp:64", "ps", 2)


def test_a_torn_last_line_is_passed_over_and_told(tmp_path):
    run = make_run(tmp_path / "run", metrics=({"clock": 1}, {"clock": 2}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"clock": 3, "los')
    read = read_run(run)
    assert [metric["clock"] for metric in read.metrics] == [1, 2]
    assert read.reached["clock"] == 2
    assert read.damage == ("metrics.jsonl, line 3: torn, the run broke off while writing it",)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x00"])
def test_a_damaged_record_counts_as_none_and_is_told(tmp_path, text):
    run = make_run(tmp_path / "run")
    (run / "record.json").write_text(text)
    read = read_run(run)
    assert read.record is None
    assert "record.json" in read.damage[0]


def test_what_is_no_run_is_a_clear_error(tmp_path):
    with pytest.raises(UsageError, match="no such run"):
        read_run(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no run"):
        read_run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        read_run(tmp_path / "file")


def test_new_runs_count_up_and_never_collide(tmp_path):
    made = []

    def make():
        made.extend(new_run(tmp_path / "runs", "mlp-ps") for _ in range(10))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in made) == [f"mlp-ps-{n:04d}" for n in range(1, 41)]


def test_new_runs_go_on_after_the_highest(tmp_path):
    (tmp_path / "a-0007").mkdir()
    (tmp_path / "a-b-0099").mkdir()
    assert new_run(tmp_path, "a").name == "a-0008"


def test_a_place_where_nothing_can_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="--out"):
        new_run(tmp_path / "file", "a")
