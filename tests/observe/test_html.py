import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from trivium.observe import html
from trivium.observe.rundir import RunDir
from trivium.record import KINDS, Carried, ProcessTimes
from trivium.testing.records import a_record

VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Fails where a tag is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return " ".join(checker.text)


def run_of(record=None, metrics=(), path="runs/a", **more):
    settings = {"model": "mlp:16", "plan": {"design": "ps", "workers": 2}}
    return RunDir(Path(path), settings, {"rows": 10}, record, tuple(metrics), (), (), **more)


def points(page):
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    lines = ElementTree.fromstring(svg).findall("polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in lines]


METRICS = [{"epoch": e, "clock": 5 * e, "valid_loss": 2.0 / e, "sample_loss": 1.0 / e} for e in (1, 2, 4)]


def test_a_page_is_whole_and_closed():
    text = checked(html.page(run_of(a_record(), METRICS), {"test_auc": 0.75}))
    for word in ("mlp:16", "runs/a", "validation", "test auc", "0.75", "Where the time went", "worker-1"):
        assert word in text


def test_what_comes_from_outside_is_escaped():
    record = replace(a_record(), notices=("<script>alert(1)</script>",))
    page = html.page(run_of(record, path="runs/<b>&'"))
    assert "<script" not in page and "<b>" not in page
    assert "<script>alert(1)</script>" in checked(page)


def test_a_run_without_a_record_has_a_page_too():
    assert "broken off" in checked(html.page(run_of()))


def test_the_curve_falls_where_the_loss_falls():
    lines = points(html.curve(run_of(None, METRICS)))
    assert len(lines) == 2 and all(len(line) == 3 for line in lines)
    for line in lines:
        (x0, y0), (x1, y1), (x2, y2) = line
        assert x1 - x0 == pytest.approx((x2 - x1) / 2, abs=0.11)  # epochs 1, 2, 4
        assert y0 < y1 < y2  # down on the page


@pytest.mark.parametrize("rows", [[], METRICS[:1], [{"epoch": 1, "valid_loss": math.nan}] * 3])
def test_a_curve_needs_two_points(rows):
    assert html.curve(run_of(None, rows)) == ""


def test_bars_are_as_long_as_the_time_they_stand_for():
    seconds = dict.fromkeys(KINDS, 0.0) | {"compute": 3.0, "wait": 1.0}
    half = {kind: value / 2 for kind, value in seconds.items()}
    drawn = html.times([ProcessTimes("a", 4.0, seconds), ProcessTimes("b", 2.0, half)])
    bars = ElementTree.fromstring(drawn[: drawn.index("</svg>") + 6]).findall("rect")
    wide = [float(bar.get("width")) for bar in bars]
    assert len(wide) == 4
    assert wide[0] == pytest.approx(3 * wide[1], rel=0.01)
    assert wide[0] == pytest.approx(2 * wide[2], rel=0.01)
    assert [bar.find("title").text for bar in bars][:2] == ["compute: 3.0 s (75 %)", "wait: 1.0 s (25 %)"]


LINKS = Carried({"Delta": 1 << 20, "Fresh": 3 << 20}, {"Delta": 4 << 20, "Fresh": 3 << 20}, 5 << 20, 0.5, 10.0, "int8")


def test_bytes_between_nodes_are_as_long_as_they_would_have_been_and_full_where_they_went():
    bars = ElementTree.fromstring(html.carried(LINKS)).findall("rect")
    wide = [float(bar.get("width")) for bar in bars]
    assert wide[1] == pytest.approx(wide[0] / 4, abs=0.1)
    assert wide[2] == wide[3] == pytest.approx(wide[0] * 3 / 4, abs=0.1)
    assert [bar.find("title").text for bar in bars[1::2]] == ["Delta: 4.0 MiB as 1.0 MiB (25 %)", "Fresh: 3.0 MiB"]
    assert "What went between nodes" in checked(html.page(run_of(a_record(carried=LINKS))))
    assert "nothing but words" in html.carried(Carried({}, {}, 100, 0.1, 1.0))
    assert "What went between nodes" not in html.page(run_of(a_record()))
