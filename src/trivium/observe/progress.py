"""What a person sees on stderr while a run goes on: a live bar on a terminal, plain lines on a pipe.

Rules
-----
* A display never breaks a run: writes to a closed or broken stream are dropped (``SafeStream``).
* On a pipe one line at most every 5 seconds, and one at each evaluation.
* Nothing here reads the clock: times come with the ``Progress``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Protocol

from trivium.observe.figures import count, duration, loss, percent, rate
from trivium.record import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["Display", "LiveDisplay", "PlainDisplay", "QuietDisplay", "SafeStream", "facts", "fraction", "open_display"]

EVERY = 5.0  # seconds between two plain lines
STAGES = {"load": "loading", "start": "starting processes", "compile": "compiling, once", "evaluate": "evaluating"}


class SafeStream(io.TextIOBase):
    """A text stream whose writes never raise: once it is gone (None, closed, broken pipe) they are dropped.

    ``lost`` says why, where nobody wanted that: a full disk, and not a reader who has seen enough.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream
        self.lost = ""

    def _drop(self, error: Exception) -> None:
        self._stream = None
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.lost = error.strerror or str(error)

    def write(self, text: str) -> int:
        """Write, or drop."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._drop(error)

    @property
    def open(self) -> bool:
        """Whether anybody takes what is written."""
        return self._stream is not None

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream below."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """That of the stream below (the width of the terminal is asked of it)."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()


class Display(Protocol):
    """An ``Observer`` that can be closed."""

    def stage(self, name: str, seconds: float | None = None) -> None:
        """See ``Observer``."""

    def progress(self, progress: Progress) -> None:
        """See ``Observer``."""

    def notice(self, text: str) -> None:
        """See ``Observer``."""

    def close(self) -> None:
        """Leave the screen as a person wants to find it; may be called twice, and what is shown next opens it again."""


def fraction(progress: Progress, stopping: Mapping[str, Any]) -> float | None:
    """How much of the run is done, 0 to 1: by the bound that is nearest; None where there is no bound.

    >>> p = Progress(1.0, 10, 5.0, 10, 100, 100.0, None, None, None, (), None)
    >>> fraction(p, {"epochs": 10, "max_time": 4.0})
    0.5
    """
    pairs = (
        (progress.epoch, stopping.get("epochs")),
        (progress.iterations, stopping.get("max_iter")),
        (progress.seconds, stopping.get("max_time")),
    )
    done = [at / bound for at, bound in pairs if bound]
    if not done and progress.seconds_left is not None:
        done = [progress.seconds / max(progress.seconds + progress.seconds_left, 1e-9)]
    return min(1.0, max(done)) if done else None


def facts(progress: Progress) -> str:
    """One line: time, epoch, losses, speed, how busy each worker is, time left, suspects."""
    words = [duration(progress.seconds), f"epoch {progress.epoch:.1f}", f"iteration {count(progress.iterations)}"]
    if progress.loss is not None:
        words.append(f"loss {loss(progress.loss)}")
    if progress.valid_loss is not None:
        right = f" ({percent(progress.valid_accuracy)})" if progress.valid_accuracy is not None else ""
        words.append(f"validation {loss(progress.valid_loss)}{right}")
    moving = progress.rows_per_second > 0
    if moving:
        words.append(rate(progress.rows_per_second))
    if progress.busy:
        words.append(f"busy {_busy(progress.busy)}")
    if moving and progress.seconds_left is not None:
        words.append(f"{duration(progress.seconds_left)} left")
    if progress.suspects:
        words.append(f"slow: {', '.join(progress.suspects)}")
    return " · ".join(words)


def _busy(busy: tuple[float, ...]) -> str:
    """Each worker while they are few; least, middle and most when they are many."""
    if len(busy) <= 8:
        return " ".join(f"{share:.0%}".rstrip("%") for share in busy) + " %"
    ranked = sorted(busy)
    return f"{ranked[0]:.0%} to {ranked[-1]:.0%}, middle {ranked[len(ranked) // 2]:.0%}".replace("%", " %")


class QuietDisplay:
    """Shows notices only where told to; nothing else."""

    def stage(self, name: str, seconds: float | None = None) -> None:
        """Ignore."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def notice(self, text: str) -> None:
        """Ignore: the record keeps it."""

    def close(self) -> None:
        """Nothing to leave."""


class PlainDisplay:
    """Lines, for pipes and logs."""

    def __init__(self, stream: SafeStream, every: float = EVERY) -> None:
        self._stream, self._every = stream, every
        self._last: Progress | None = None

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def stage(self, name: str, seconds: float | None = None) -> None:
        """One line as a stage ends, where it took long enough to be noticed."""
        if seconds is not None and seconds >= 1.0 and name in STAGES:
            self._line(f"{STAGES[name]}: {duration(seconds)}")

    def progress(self, progress: Progress) -> None:
        """A line, where one is due."""
        last = self._last
        evaluated = progress.valid_loss is not None and (last is None or progress.valid_loss != last.valid_loss)
        if evaluated or progress.seconds - (last.seconds if last else 0.0) >= self._every:
            self._last = progress
            self._line(facts(progress))

    def notice(self, text: str) -> None:
        """A line, at once."""
        self._line(f"notice: {text}")

    def close(self) -> None:
        """Nothing to leave: lines stay."""


class LiveDisplay:
    """One bar and one line of facts, redrawn in place; gone when closed. Notices stay above it."""

    def __init__(self, console: Console, stopping: Mapping[str, Any]) -> None:
        self._console, self._stopping = console, stopping
        self._stage, self._progress = "", None  # type: tuple[str, Progress | None]
        self._live: Live | None = None

    def _show(self) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(self, console=self._console, transient=True, refresh_per_second=8)
            self._live.start()

    def __rich__(self) -> RenderableType:
        """What is drawn now."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._progress is None or self._stage == "evaluate":
            return Text(f"{STAGES.get(self._stage, self._stage)} …", style="dim")
        done = fraction(self._progress, self._stopping)
        width = min(60, self._console.width)
        bar = ProgressBar(total=1.0, completed=done or 0.0, width=width, pulse=done is None)
        grid = Table.grid()  # a bar alone ends without a line break
        grid.add_row(bar)
        grid.add_row(Text(facts(self._progress)))
        return grid

    def stage(self, name: str, seconds: float | None = None) -> None:
        """Say what is going on."""
        self._stage = name if seconds is None else ""
        self._show()

    def progress(self, progress: Progress) -> None:
        """Redrawn at the display's own pace."""
        self._progress = progress
        self._show()

    def notice(self, text: str) -> None:
        """Printed above the bar."""
        self._console.print(f"notice: {text}", style="yellow", markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def open_display(stream: IO[str] | None, stopping: Mapping[str, Any], quiet: bool = False) -> Display:
    """The display that fits ``stream``: none when quiet, live on a terminal, else plain.

    ``stopping`` may be filled in later: it is looked at whenever the bar is drawn.
    """
    if quiet:
        return QuietDisplay()
    safe = SafeStream(stream)
    if not safe.isatty():
        return PlainDisplay(safe)
    from rich.console import Console

    console = Console(file=safe)  # type: ignore[arg-type]
    return (
        LiveDisplay(console, stopping) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(safe)
    )
