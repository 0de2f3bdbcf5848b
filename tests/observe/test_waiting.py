import xml.etree.ElementTree as ElementTree

import pytest

from trivium.core.messages import Left
from trivium.core.role import Address
from trivium.observe import waiting as module
from trivium.observe.waiting import Waiting, fragment, gather, histogram, matrix, of_record, waiting_lines
from trivium.record import KINDS, ProcessTimes
from trivium.testing.records import a_record


def name(address):
    return f"worker {address.slot - 2}"


def worker(number):
    return Address(0, number + 2)


TOLD = {
    worker(1): Left((100, 0, 0, 0), ()),
    worker(0): Left((81, 15, 3, 1), ((worker(1), 0.2), (worker(2), 2.9))),
    worker(2): Left((0, 0, 0, 0), ((worker(0), 0.0), (worker(1), 1.0))),
}
WAITED = gather(TOLD, name)


def svg(drawn):
    return ElementTree.fromstring(drawn)


def test_reports_are_ordered_by_worker():
    assert WAITED.names == ("worker 0", "worker 1", "worker 2")
    assert WAITED.whom == ("worker 1", "worker 2")  # nobody waited for worker 0
    assert WAITED.seconds == ((0.2, 2.9), (0.0, 0.0), (1.0, 0.0))
    assert WAITED.reads == (181, 15, 3, 1)
    assert list(WAITED.held_up.items()) == [("worker 2", 2.9), ("worker 1", pytest.approx(1.2))]


def test_staleness_is_that_of_all_reads():
    assert WAITED.staleness() == {"max": 3.0, "mean": pytest.approx((15 + 6 + 3) / 200)}
    assert Waiting((), (), (), ()).staleness() == {"max": 0.0, "mean": 0.0}


def test_nothing_told_says_nothing_and_draws_nothing():
    for empty in (gather({}, name), gather({worker(0): Left((0, 0), ())}, name)):
        assert waiting_lines(empty) == []
        assert fragment(empty) == ""


def of(name, lags=(), **waited):
    return ProcessTimes(
        name, 1.0, dict.fromkeys(KINDS, 0.0), {w.replace("_", " "): s for w, s in waited.items()}, lags=lags
    )


def test_a_record_has_it_too():
    times = (
        of("server 0", worker_1=9.0),
        of("worker 0", (81, 15), worker_1=2.0, server_0=0.5),
        of("worker 1", (96,), server_0=0.25, worker_9=0.1),
        of("worker 2"),  # died before it could tell
    )
    found = of_record(a_record(processes=times))
    assert found.names == ("worker 0", "worker 1")
    assert found.whom == ("server 0", "worker 1", "worker 9")
    assert found.lags == ((81, 15), (96,))
    assert found.seconds == ((0.5, 2.0, 0.0), (0.25, 0.0, 0.1))
    assert of_record(a_record()) == Waiting((), (), (), ())


def test_fresh_reads_need_no_picture():
    fresh = Waiting(("worker 0",), ("worker 1",), ((9, 0),), ((1.0,),))
    assert "Who waited for whom" in fragment(fresh) and "How stale" not in fragment(fresh)
    assert fragment(Waiting(("worker 0",), (), ((9, 0),), ((),))) == ""


# -- in words ----------------------------------------------------------------------------------------------------------
def test_lines_say_who_waited_for_whom_and_how_stale_reads_were():
    assert waiting_lines(WAITED) == [
        ("waiting", "4.1 s of all workers' time; for worker 2 2.9 s of it, more than for any other"),
        (
            "",
            "worker 0 waited 3.1 s, 2.9 s of it for worker 2; "
            "reads were 0 clocks stale in 81 %, 1 in 15 %, 2 in 3 %, 3 or more in 1 %",
        ),
        ("", "worker 1 did not wait; reads were 0 clocks stale in 100 %"),
        ("", "worker 2 waited 1.0 s, all of it for worker 1"),
    ]


def test_a_rare_staleness_is_left_out():
    rare = Waiting(("worker 0",), (), ((0, 999, 1, 0),), ((),))
    assert waiting_lines(rare) == [
        ("waiting", "nobody waited for another"),
        ("", "worker 0 did not wait; reads were 1 clock stale in 100 %"),
    ]
    spread = Waiting(("worker 0",), (), (tuple([1] * 1000),), ((),))
    assert waiting_lines(spread)[1][1] == "worker 0 did not wait; reads were 0 clocks stale in <1 %"


def test_of_many_workers_those_that_waited_longest_are_named():
    names = tuple(f"worker {i}" for i in range(20))
    many = Waiting(names, ("worker 0",), ((1,),) * 20, tuple((float(i),) for i in range(20)))
    texts = [text for _, text in waiting_lines(many)]
    assert [text.split(" waited")[0] for text in texts[1:-1]] == [f"worker {i}" for i in range(12, 20)]
    assert texts[-1] == "12 more waited less"


# -- drawn -------------------------------------------------------------------------------------------------------------
def test_cells_are_as_dark_as_the_wait_was_long():
    cells = svg(matrix(WAITED)).findall("rect")
    assert len(cells) == 6
    dark = [float(cell.get("fill-opacity")) for cell in cells]
    assert dark == pytest.approx([0.2 / 2.9, 1.0, 0.0, 0.0, 1.0 / 2.9, 0.0], abs=1e-3)
    assert cells[1].find("title").text == "worker 0 waited 2.9 s for worker 2"
    assert len({cell.get("x") for cell in cells}) == 2
    assert len({cell.get("y") for cell in cells}) == 3


def test_a_matrix_of_many_workers_fits_and_has_short_names():
    names = tuple(f"worker {i}" for i in range(40))
    many = Waiting(names, names, ((1,),) * 40, tuple(tuple(float(i + j) for j in range(40)) for i in range(40)))
    drawn = svg(matrix(many))
    assert max(float(cell.get("x")) + float(cell.get("width")) for cell in drawn.findall("rect")) <= module.WIDTH
    assert [text.text for text in drawn.findall("text")][:3] == ["0", "1", "2"]


def test_bars_are_as_high_as_their_share_of_reads():
    drawn = svg(histogram(WAITED))
    high = [float(bar.get("height")) for bar in drawn.findall("rect")]
    assert high == pytest.approx([module.BAR * share for share in (181 / 200, 15 / 200, 3 / 200, 1 / 200)], abs=0.06)
    titles = [bar.find("title").text for bar in drawn.findall("rect")]
    assert titles[0] == "0 clocks stale: 181 of 200 reads"
    assert titles[1] == "1 clock stale: 15 of 200 reads"
    assert titles[3] == "3 or more clocks stale: 1 of 200 reads"


def test_stale_reads_that_never_were_have_no_bar():
    assert len(svg(histogram(Waiting(("a",), (), ((5, 0, 2, 0, 0),), ((),)))).findall("rect")) == 3


def test_names_from_outside_are_escaped():
    odd = Waiting(("<b>&",), ('"x"<',), ((1, 1),), ((2.0,),))
    drawn = fragment(odd)
    assert "<b>" not in drawn
    assert [text.text for text in svg(matrix(odd)).findall("text")][:2] == ['"x"<', "<b>&"]
    assert drawn.count("<h2>") == 2


def test_one_picture_is_left_out_where_it_would_be_empty():
    assert "How stale" not in fragment(Waiting(("a",), ("b",), ((0,),), ((1.0,),)))
    assert "Who waited" not in fragment(Waiting(("a",), (), ((1,),), ((),)))
