import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from benchmarks.staleness import BOUNDS, HEIGHT, OPTIMIZERS, WIDTH, Line, _apart, _marks, measured, middle, picture

SVG = "{http://www.w3.org/2000/svg}"


def line(bound=3, losses=(1.0, 0.5, 0.25), optimizer="sgd"):
    points = tuple((1000.0 * (k + 1), loss) for k, loss in enumerate(losses))
    return Line(optimizer, bound, points, bound / 2, float(bound), 1.0)


def test_all_are_measured_in_turns_and_the_median_is_drawn():
    asked = []

    def one(optimizer, bound, seed):
        asked.append((optimizer[0], bound, seed))
        return line(bound, (1.0 + seed, 0.5 - 0.1 * seed), optimizer[0])

    found = measured(3, one)
    assert asked[: len(BOUNDS)] == [(OPTIMIZERS[0][0], bound, 0) for bound in BOUNDS]
    assert [(one.optimizer, one.bound) for one in found] == [
        (name, bound) for name, _lr in OPTIMIZERS for bound in BOUNDS
    ]
    assert found[0].points == ((1000.0, 2.0), (2000.0, 0.4))
    with pytest.raises(ValueError):
        middle([line(), line(losses=(1.0,))])


def test_a_panel_an_optimizer_and_a_line_a_bound():
    root = ElementTree.fromstring(picture([line(0), line(12, (1.2, 0.7, 0.4)), line(0, optimizer="momentum")], "a < b"))
    panels = root.findall(f"{SVG}g")
    assert [len(panel.findall(f"{SVG}polyline")) for panel in panels] == [2, 1]
    fresh, stale = (
        [tuple(map(float, pair.split(","))) for pair in one.get("points").split()]
        for one in panels[0].findall(f"{SVG}polyline")
    )
    steps = [after[1] - before[1] for before, after in pairwise(fresh)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2) and steps[0] > 0  # halves are equal steps down
    assert all(high[1] < low[1] for high, low in zip(stale, fresh, strict=True))  # the larger loss is higher up
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in (*fresh, *stale))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"a < b", "sgd, rate 0.2", "momentum, rate 0.05", "ssp:12, reads 6.0 stale", "rows"} <= set(texts)


def test_a_run_that_diverged_is_drawn_at_the_top():
    root = ElementTree.fromstring(picture([line(0), line(12, (1.0, math.inf, math.nan))], "t"))
    path = root.find(f"{SVG}g").findall(f"{SVG}polyline")[1].get("points").split()
    assert path[1].split(",")[1] == path[2].split(",")[1]
    with pytest.raises(ValueError, match="no point"):
        picture([line(0, (math.nan,))], "t")


def test_labels_do_not_touch():
    assert _apart([10.0, 12.0, 90.0]) == [10.0, 25.0, 90.0]
    low = _apart([220.0, 221.0, 222.0])
    assert low[2] <= 220.0 and low[1] - low[0] >= 15 and low[2] - low[1] >= 15
    assert _marks(0.02, 0.6) == [0.02, 0.05, 0.1, 0.2, 0.5]
