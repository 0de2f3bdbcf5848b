import io

import pytest
from rich.console import Console

from trivium.observe.progress import (
    LiveDisplay,
    PlainDisplay,
    QuietDisplay,
    SafeStream,
    facts,
    fraction,
    open_display,
)
from trivium.testing.records import a_moment


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [None, Broken()])
def test_a_stream_that_is_gone_never_raises(stream):
    display = PlainDisplay(SafeStream(stream))
    display.notice("one")
    display.progress(a_moment(valid_loss=0.1))
    display.close()
    assert not SafeStream(stream).isatty()


def test_a_closed_stream_never_raises():
    closed = io.StringIO()
    closed.close()
    safe = SafeStream(closed)
    assert safe.write("abc") == 3
    safe.flush()
    assert not safe.isatty()


def test_facts_hold_what_a_person_asks_for():
    line = facts(a_moment(valid_loss=0.4, valid_accuracy=0.9, suspects=("worker-1",)))
    for part in (
        "5.0 s",
        "epoch 6.0",
        "loss 0.3",
        "validation 0.4 (90 %)",
        "1.73k rows/s",
        "busy 70 65 %",
        "5.0 s left",
    ):
        assert part in line
    assert "slow: worker-1" in line


def test_many_workers_are_told_by_their_spread():
    line = facts(a_moment(busy=tuple(n / 100 for n in range(100))))
    assert "busy 0 % to 99 %, middle 50 %" in line


def test_plain_lines_keep_their_distance():
    stream = io.StringIO()
    display = PlainDisplay(SafeStream(stream), every=5.0)
    for tenth in range(200):
        display.progress(a_moment(seconds=tenth / 10))
    assert [line.split(" · ")[0] for line in stream.getvalue().splitlines()] == ["5.0 s", "10.0 s", "15.0 s"]


def test_each_evaluation_has_its_line():
    stream = io.StringIO()
    display = PlainDisplay(SafeStream(stream))
    for at, valid in enumerate([0.5, 0.5, 0.4, 0.4, 0.3]):
        display.progress(a_moment(seconds=at / 10, valid_loss=valid))
    assert [line.split("validation ")[1].split(" ")[0] for line in stream.getvalue().splitlines()] == [
        "0.5",
        "0.4",
        "0.3",
    ]


def test_stages_that_take_long_are_told():
    stream = io.StringIO()
    display = PlainDisplay(SafeStream(stream))
    display.stage("compile")
    display.stage("compile", 0.2)
    display.stage("compile", 3.25)
    assert stream.getvalue() == "compiling, once: 3.2 s\n"


@pytest.mark.parametrize(
    ("stopping", "share"),
    [
        ({"epochs": 12}, 0.5),
        ({"max_iter": 48}, 0.75),
        ({"epochs": 12, "max_time": 6.0}, 5 / 6),
        ({"epochs": 3}, 1.0),
        ({}, 0.5),
    ],
)
def test_fraction_goes_by_the_nearest_bound(stopping, share):
    assert fraction(a_moment(), stopping) == pytest.approx(share)


def test_fraction_without_any_bound_is_unknown():
    assert fraction(a_moment(seconds_left=None), {}) is None


def test_the_live_display_draws_and_leaves_notices():
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=140)
    display = LiveDisplay(console, {"epochs": 12})
    display.stage("compile")
    console.print(display.__rich__())
    display.progress(a_moment())
    console.print(display.__rich__())
    display.notice("worker-1 [died]")
    display.close()
    display.close()
    text = stream.getvalue()
    assert "compiling, once" in text
    assert "1.73k rows/s" in text
    assert "notice: worker-1 [died]" in text


def test_the_bar_has_a_line_of_its_own():
    console = Console(file=io.StringIO(), width=60)
    display = LiveDisplay(console, {"epochs": 12})
    display._progress = a_moment()
    console.print(display)
    bar, *rest = console.file.getvalue().splitlines()
    assert set(bar.strip()) <= set("━╸╺ ")
    assert "1.73k rows/s" in " ".join(line.strip() for line in rest)


def test_the_display_fits_the_stream(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(open_display(Terminal(), {}, quiet=True), QuietDisplay)
    assert isinstance(open_display(io.StringIO(), {}), PlainDisplay)
    assert isinstance(open_display(None, {}), PlainDisplay)
    assert isinstance(open_display(Terminal(), {}), LiveDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(Terminal(), {}), PlainDisplay)
