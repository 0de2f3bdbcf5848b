"""What is shown of a run that somebody waits for in Python: a bar on a terminal, a block that is redrawn in a notebook.

The run's thread tells, the waiting thread draws (``draw``): what a notebook shows belongs to the cell that waits. No
notebook is looked for unless one is loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trivium.observe.progress import QuietDisplay, open_display
from trivium.record import Observer

__all__ = ["Showing", "in_notebook", "showing"]


class Showing:
    """What is told (``observer``), drawn now and then, and closed with a last word."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def draw(self) -> None:
        """Called about ten times a second by the thread that waits."""
        draw = getattr(self.observer, "draw", None)
        if draw is not None:
            draw()

    def done(self, run: Any) -> None:
        """The run ended as ``run``."""
        done = getattr(self.observer, "done", None)
        if done is not None:
            done(run)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None and hasattr(module, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def showing(progress: bool | Observer | None, stopping: Mapping[str, Any]) -> Iterator[Showing]:
    """By what was asked for: False nothing, None what suits the place, True lines at least, or an own observer."""
    if progress is not None and not isinstance(progress, bool):
        yield Showing(progress)
        return
    observer: Any = QuietDisplay()
    if progress is not False:
        if in_notebook():
            from trivium.observe.notebook import NotebookDisplay

            observer = NotebookDisplay(stopping)
        elif progress or (sys.stderr is not None and sys.stderr.isatty()):
            observer = open_display(sys.stderr, stopping)
    try:
        yield Showing(observer)
    finally:
        observer.close()
