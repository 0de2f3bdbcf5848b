from dataclasses import replace

import pytest

from trivium.observe.summary import (
    carried_lines,
    data_lines,
    lines,
    next_lines,
    plan_text,
    result_lines,
    short_line,
    start_lines,
    stopping_text,
    time_lines,
)
from trivium.record import Carried
from trivium.testing.records import a_record

DATA = {
    "name": "imdb",
    "rows": 25000,
    "features": 79769,
    "classes": 2,
    "sparse": True,
    "nnz": 3500156,
    "parts": {"train": 22500, "validation": 2500, "test": 0},
}


def text_of(pairs):
    return "\n".join(text for _, text in pairs)


def test_data_in_one_line():
    assert text_of(data_lines(DATA)) == (
        "imdb: 25,000 rows × 79,769 features, 2 classes, 3,500,156 non-zeros (0.18%) (22,500 train, 2,500 validation)"
    )


def test_dense_data_do_not_speak_of_zeros():
    assert "non-zeros" not in text_of(data_lines({**DATA, "sparse": False}))


def test_nothing_known_nothing_said():
    assert data_lines({}) == []
    assert plan_text({}) == ""
    nodes = {"model": "fm:2", "design": "ps", "workers": 4, "lanes": 8, "consistency": "ssp:3"}
    assert plan_text(nodes | {"nodes": 2}) == "fm:2 by ps, 4 workers, 2 nodes, 8 lanes, ssp:3"
    assert plan_text(nodes | {"nodes": 1}) == "fm:2 by ps, 4 workers, 8 lanes, ssp:3"


def test_the_plan_says_threads_or_workers():
    assert plan_text({"model": "logistic", "design": "sequential", "threads": 1, "lanes": 8}) == (
        "logistic by sequential, 1 thread, 8 lanes"
    )
    text = plan_text(
        {
            "design": "ps",
            "workers": 2,
            "optimizer": "sgd",
            "batch_size": 256,
            "l2": 1e-5,
            "combine": "model",
            "every": 4,
        }
    )
    assert text == "ps, 2 workers, models averaged every 4 steps; sgd, batch 256, l2 1e-05"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"max_iter": 100, "tol": 1e-4}, "after 100 iterations, or gradient at most 0.0001"),
        ({"max_time": 90.0, "target_loss": 0.1}, "after 1 min 30 s of training, or loss at most 0.1"),
        ({}, "never: until it is stopped"),
    ],
)
def test_stopping_rules_in_words(rule, text):
    assert stopping_text(rule) == text


def test_the_result_says_losses_accuracy_and_why_it_ended():
    text = text_of(result_lines(a_record()))
    for part in ("loss 0.11 (98.00 % right)", "validation 0.2 (95.00 % right)", "test 0.21 (94.00 % right)"):
        assert part in text
    assert "12 epochs, 72 iterations in 10.0 s (1.73k rows/s); stopped by patience" in text
    assert "lowest validation loss at clock 54" in text
    assert text_of(result_lines(a_record(stopped_by="converged", best_clock=None))).endswith("rows/s); converged")


def test_what_was_not_measured_is_left_out():
    text = text_of(result_lines(a_record(valid_loss=None, test_loss=None, train_accuracy=None, best_clock=None)))
    assert "validation" not in text
    assert "right" not in text


def test_time_names_kinds_processes_and_culprits():
    text = text_of(time_lines(a_record()))
    assert "workers: compute 60 %, wait 20 %" in text
    assert "worker-1: compute 60 %, wait 20 %, read 10 %, idle 10 % of 10.0 s;" in text
    assert "waited 1.5 s for worker-0, 0.5 s for server-0" in text
    assert "pushed 1.0 MiB, pulled 2.0 MiB; peak memory 120.0 MiB" in text


def test_start_and_next():
    assert text_of(start_lines(a_record())) == "load 0.1 s, processes 0.4 s, compile 0.8 s"
    assert next_lines("runs/a", resumable=True) == [("next", "trivium resume runs/a"), ("", "trivium report runs/a")]
    assert next_lines("runs/a", resumable=False) == [("next", "trivium report runs/a")]


def test_the_short_line_ends_in_the_run():
    assert short_line(a_record()) == (
        "loss 0.11, validation 0.2, test 0.21, test accuracy 0.9400, 10.0 s, runs/mlp-64-ps-0001"
    )


def test_long_texts_wrap_under_themselves():
    laid = lines([("plan", "word " * 60)], width=60).splitlines()
    assert len(laid) > 1
    assert all(len(line) <= 60 for line in laid)
    assert all(line.startswith(" " * 9) for line in laid[1:])


def test_links_tell_bytes_filters_and_what_encryption_cost():
    assert carried_lines(None) == []
    sent, plain = {"Fresh": 3 << 20, "Delta": 1 << 20}, {"Fresh": 3 << 20, "Delta": 4 << 20}
    assert carried_lines(Carried(sent, plain, 5 << 20, 0.5, 10.0, "int8 and a bandwidth of 1Mbit")) == [
        (
            "links",
            "7.0 MiB between nodes, 4.0 MiB after int8 and a bandwidth of 1Mbit (57 %): "
            "Delta 4.0 MiB as 1.0 MiB, Fresh 3.0 MiB",
        ),
        ("", "encrypting and moving 5.0 MiB in all took 0.5 s of 10.0 s of CPU time (5 %)"),
    ]
    plainly = carried_lines(Carried({"Delta": 1024}, {"Delta": 1024}, 2048, 0.0, 0.0))
    assert plainly[0] == ("links", "1.0 KiB between nodes: Delta 1.0 KiB")


def test_waits_of_workers_have_lines_of_their_own():
    waiter = a_record().processes[1]
    record = a_record(processes=(replace(waiter, lags=(8, 2)),), dropped=48, lanes=8, clocks=60)
    text = text_of(time_lines(record))
    assert "worker-1: compute 60 %, wait 20 %, read 10 %, idle 10 % of 10.0 s\n" in text
    assert (
        "worker-1 waited 2.0 s, 1.5 s of it for worker-0; reads were 0 clocks stale in 80 %, 1 or more in 20 %" in text
    )
    assert "48 deltas came too late and were dropped (10 % of all)" in text


def test_a_share_stays_with_its_sign():
    for line in lines([("time", "compute 60 %, " * 20)], width=53).splitlines():
        assert not line.strip().startswith("%")
