"""Ctrl-C, SIGTERM and SIGHUP: the first asks for an orderly end, the second kills.

Handlers only count: whoever follows the run looks at the count. Before there is a run to end in order (data are being
read, say) the first signal raises ``Interrupted`` at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupted", "Signals"]

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal ended the command; the shell's exit code is 128 + ``signum``."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


class Signals:
    """A context in which signals are counted. ``first`` is the first one's number, ``count`` how many came."""

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self.deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for signum in CAUGHT:
                # nohup stays nohup; but a script's background job, whose SIGINT the shell ignores, can still be told
                if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
                    self._before[signum] = signal.signal(signum, self._caught)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def defer(self) -> None:
        """From now on there is a run to end in order: count only."""
        self.deferred = True

    def undefer(self) -> None:
        """The run is over: a signal ends what is left of the command at once."""
        self.deferred = False

    def _caught(self, signum: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = signum
        if not self.deferred:
            raise Interrupted(signum)
