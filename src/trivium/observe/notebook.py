"""The progress of a run in a notebook: one block of HTML, redrawn in place; no widgets, nothing to be installed."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from trivium.observe.progress import STAGES, facts, fraction
from trivium.record import Progress

__all__ = ["NotebookDisplay"]

BAR = (
    '<div style="width:24em;height:.5em;border:1px solid currentColor;border-radius:3px;opacity:.7">'
    '<div style="width:{percent:.1f}%;height:100%;background:currentColor"></div></div>'
)


class NotebookDisplay:
    """Told by the run's thread; drawn by the thread that waits. ``show`` puts HTML on the page and gives its handle."""

    def __init__(self, stopping: Mapping[str, Any], show: Callable[[str], Callable[[str], None]] | None = None) -> None:
        self._stopping = stopping
        self._show = show or _show
        self._update: Callable[[str], None] | None = None
        self._stage, self._progress = "", None  # type: tuple[str, Progress | None]
        self._notices: list[str] = []
        self._drawn = ""

    def stage(self, name: str, seconds: float | None = None) -> None:
        """Say what is going on."""
        self._stage = name if seconds is None else ""

    def progress(self, progress: Progress) -> None:
        """Drawn at the next chance."""
        self._progress = progress

    def notice(self, text: str) -> None:
        """Stays above the bar."""
        self._notices.append(text)

    def draw(self) -> None:
        """Show what has changed."""
        page = self._page()
        if page == self._drawn:
            return
        self._drawn = page
        if self._update is None:
            self._update = self._show(page)
        else:
            self._update(page)

    def _page(self) -> str:
        rows = [f"<div>notice: {html.escape(text)}</div>" for text in self._notices]
        progress = self._progress
        if progress is None or self._stage == "evaluate":
            rows.append(f"<div>{html.escape(STAGES.get(self._stage, self._stage or 'preparing'))} …</div>")
        else:
            done = fraction(progress, self._stopping)
            rows += [BAR.format(percent=100 * done)] if done is not None else []
            rows.append(f"<div>{html.escape(facts(progress))}</div>")
        return f'<div style="font-family:monospace">{"".join(rows)}</div>'

    def done(self, run: Any) -> None:
        """The run's line in the place of the bar."""
        rows = [f"<div>notice: {html.escape(text)}</div>" for text in self._notices]
        page = f'<div style="font-family:monospace">{"".join(rows)}<div>{html.escape(repr(run))}</div></div>'
        if self._update is None:
            self._show(page)
        else:
            self._update(page)

    def close(self) -> None:
        """Nothing to leave: the last block stays."""


def _show(page: str) -> Callable[[str], None]:
    from IPython.display import HTML, display

    handle: Any = display(HTML(page), display_id=True)
    return lambda text: handle.update(HTML(text))
