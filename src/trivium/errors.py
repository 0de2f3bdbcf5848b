"""Every error Trivium raises, split by whose fault it is.

::

    TriviumError
    ├── UsageError            the caller's: a bad argument, option or combination   exit 2
    │   ├── PlanError         an option that the chosen design or model cannot use
    │   └── DataError         a file or array that is not what it says              exit 2
    ├── RunError              the run's: it started and could not finish            exit 1
    │   ├── ProgramError      the user's own function raised in a worker
    │   ├── StorageError      the run directory could not be written
    │   ├── StoppedError      a person stopped it before there was anything to save
    │   └── LostError         a process died and the run could not go on            exit 3
    └── ProtocolError         ours: a role was fed an event its state does not allow

Each message says what was given, what is allowed and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "DataError",
    "LostError",
    "PlanError",
    "ProgramError",
    "ProtocolError",
    "RunError",
    "StoppedError",
    "StorageError",
    "TriviumError",
    "UsageError",
    "unknown",
]


MOST_NAMED = 40  # names in a message


class TriviumError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class UsageError(TriviumError, ValueError):
    """The caller asked for something that is not there or not allowed."""

    exit_code = 2


class PlanError(UsageError):
    """Options that do not fit together, or that the design or model cannot use."""


class DataError(UsageError):
    """Input that is malformed: says file, line, what was found and what was expected."""


class RunError(TriviumError):
    """A run that started and could not finish."""

    exit_code = 1


class ProgramError(RunError):
    """User code raised in a worker; carries the remote traceback as text."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class StorageError(RunError):
    """The run directory or the memory of the node could not be had."""


class StoppedError(RunError):
    """A person ended the run before it had begun to train."""


class LostError(RunError):
    """A process died whose work nobody else could take over."""

    exit_code = 3


class ProtocolError(TriviumError):
    """An invariant of a role does not hold; ``story`` lists what led there."""

    exit_code = 1

    def __init__(self, message: str, story: Sequence[object] = ()) -> None:
        lines = [message, *(f"  {entry}" for entry in story)]
        super().__init__("\n".join(lines))
        self.story = tuple(story)


def unknown(kind: str, given: str, allowed: Iterable[str]) -> str:
    """Message for an unknown name: the valid ones, and the nearest.

    >>> unknown("design", "pss", ["ps", "allreduce"])
    "unknown design 'pss' (did you mean 'ps'?); allowed: allreduce, ps"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = [*names[:MOST_NAMED], f"… ({len(names)} in all)"] if len(names) > MOST_NAMED else names
    return f"unknown {kind} {given!r}{hint}; allowed: {', '.join(shown)}"
