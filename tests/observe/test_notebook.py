from trivium.observe.notebook import NotebookDisplay
from trivium.record import Progress

AT = Progress(1.0, 10, 2.0, 10, 100, 100.0, 0.5, None, None, (), None)


class Page:
    """What a notebook would show."""

    def __init__(self):
        self.shown = []

    def __call__(self, text):
        self.shown.append([text])
        return self.shown[-1].append


def test_one_block_is_redrawn_in_place_and_only_when_something_changed():
    page = Page()
    display = NotebookDisplay({"epochs": 10}, page)
    display.stage("start")
    for _ in range(3):
        display.draw()
    display.stage("start", 0.1)
    display.progress(AT)
    display.draw()
    display.draw()
    display.done("<run>")
    display.close()
    assert len(page.shown) == 1
    first, second, last = page.shown[0]
    assert "starting processes" in first
    assert "width:20.0%" in second and "loss 0.5" in second
    assert "&lt;run&gt;" in last and "width" not in last


def test_notices_stay_and_are_escaped():
    page = Page()
    display = NotebookDisplay({}, page)
    display.notice("a < b")
    display.progress(AT)
    display.draw()
    display.done("over")
    assert [text.count("notice: a &lt; b") for text in page.shown[0]] == [1, 1]
    assert "width" not in page.shown[0][0]  # no bound, no bar


def test_a_run_that_was_over_at_once_shows_its_end():
    page = Page()
    NotebookDisplay({}, page).done("over")
    assert "over" in page.shown[0][0]
