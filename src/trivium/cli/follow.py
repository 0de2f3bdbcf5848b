"""Follows a live run to its end, whichever way it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trivium.cli.signals import Interrupted, Signals
from trivium.errors import StoppedError
from trivium.observe.progress import Display
from trivium.record import Record

__all__ = ["Ended", "Followed", "follow"]

POLL = 0.1  # seconds; how soon a signal is seen
ORDERLY = 5.0  # seconds that a checkpoint and an orderly end may take
GRACE = 1.0  # seconds beyond them before the run is killed


class Followed(Protocol):
    """What ``trivium.running.session.begin`` returns, as far as it is needed here."""

    def wait(self, timeout: float | None = None) -> Record | None:
        """The record, or None while the run goes on; raises what the run failed of."""

    def stop(self, reason: str) -> None:
        """Ask for a checkpoint and an orderly end."""

    def kill(self) -> None:
        """End every process now."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its record, and the signal that ended it early (None: none)."""

    record: Record
    signum: int | None = None


def follow(live: Followed, signals: Signals, display: Display, now: Callable[[], float] = time.monotonic) -> Ended:
    """Wait for ``live``. On the first signal ask it to stop; on the second, or past the bound, kill it.

    Raises what the run failed of, also where that was after a signal (a full disk under its last checkpoint, say);
    ``Interrupted`` where the signal ended it before it had begun, or it had to be killed.
    """
    signals.defer()
    deadline: float | None = None
    while True:
        try:
            record = live.wait(POLL)
        except StoppedError as error:
            if signals.first is None:
                raise
            display.notice(str(error))
            raise Interrupted(signals.first) from error
        if record is not None:
            return Ended(record, signals.first)
        if signals.first is None:
            continue
        if deadline is None:
            deadline = now() + ORDERLY + GRACE
            display.notice(f"stopping: checkpoint first, {ORDERLY:.0f} s at most; once more kills")
            live.stop("interrupted")
        elif signals.count > 1 or now() > deadline:
            live.kill()
            raise Interrupted(signals.first)
