"""Records and progress with plausible figures, for tests of whatever shows or keeps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trivium.record import KINDS, ProcessTimes, Progress, Record

__all__ = ["a_moment", "a_record"]


def a_record(**changes: Any) -> Record:
    """The record of a small run of two workers; ``changes`` replace fields."""
    seconds = dict.fromkeys(KINDS, 0.0) | {"compute": 6.0, "read": 1.0, "wait": 2.0, "idle": 1.0}
    waiter = ProcessTimes("worker-1", 10.0, seconds, {"worker-0": 1.5, "server-0": 0.5}, 120 << 20, 1 << 20, 2 << 20)
    record = Record(
        run="runs/mlp-64-ps-0001",
        model="mlp:64",
        design="apart",
        engine="local",
        nodes=1,
        workers=2,
        lanes=8,
        consistency="bsp",
        rows=1438,
        epochs=12.0,
        iterations=72,
        clocks=72,
        seconds=10.0,
        startup_seconds=0.4,
        compile_seconds=0.8,
        load_seconds=0.1,
        evaluate_seconds=0.2,
        samples_per_second=1725.6,
        objective=0.12,
        loss=0.11,
        train_accuracy=0.98,
        valid_loss=0.2,
        valid_accuracy=0.95,
        test_loss=0.21,
        test_accuracy=0.94,
        stopped_by="patience",
        best_clock=54,
        breakdown=dict.fromkeys(KINDS, 0.0) | {"compute": 0.6, "read": 0.1, "wait": 0.2, "idle": 0.1},
        bytes={"pushed": 1 << 20, "pulled": 2 << 20},
        staleness={"max": 0.0, "mean": 0.0},
        peak_rss_bytes=120 << 20,
        params_sha256="0123456789abcdef" * 4,
        reproducible=False,
        threads=1,
        processes=(replace(waiter, name="worker-0", waited_for={}), waiter),
        history=({"clock": 6.0, "valid_loss": 0.5},),
        notices=("worker-1 died; its lanes moved",),
    )
    return replace(record, **changes)


def a_moment(**changes: Any) -> Progress:
    """A moment of the same run."""
    moment = Progress(
        seconds=5.0,
        clock=36,
        epoch=6.0,
        iterations=36,
        rows=8628,
        rows_per_second=1725.6,
        loss=0.3,
        valid_loss=None,
        valid_accuracy=None,
        busy=(0.7, 0.65),
        seconds_left=5.0,
    )
    return replace(moment, **changes)
