import io
import sys

import pytest

from trivium.observe.notebook import NotebookDisplay
from trivium.observe.progress import PlainDisplay, QuietDisplay
from trivium.observe.showing import in_notebook, showing
from trivium.record import SilentObserver


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Shell:
    kernel = object()


class Loaded:
    def __init__(self, shell):
        self.get_ipython = lambda: shell


def shown(progress):
    with showing(progress, {}) as one:
        return one.observer


def test_nothing_is_shown_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(shown(None), QuietDisplay)
    assert isinstance(shown(True), PlainDisplay)
    assert isinstance(shown(False), QuietDisplay)


def test_a_terminal_gets_a_display(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(shown(None), PlainDisplay)
    assert isinstance(shown(False), QuietDisplay)


@pytest.mark.parametrize(("shell", "found"), [(Shell(), True), (object(), False), (None, False)])
def test_a_notebook_is_one_that_has_a_kernel(shell, found, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", Loaded(shell))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert in_notebook() is found
    assert isinstance(shown(None), NotebookDisplay) is found
    assert isinstance(shown(False), QuietDisplay)


def test_no_notebook_is_looked_for_unless_one_is_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert "IPython" not in sys.modules


def test_an_observer_of_ones_own_is_taken_as_it_is():
    own = SilentObserver()
    with showing(own, {}) as one:
        assert one.observer is own
        one.draw()
        one.done(None)
