"""Mistakes in a person's own functions, told shortly: the line, what went wrong, and what the function was given.

A traceback through JAX has a hundred frames of which one or two are the person's. Those are found here: the last frame
that lies neither in an installed package nor in Trivium. Everything else stays in ``ProgramError.traceback``.
"""

from __future__ import annotations

import linecache
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from trivium.errors import ProgramError

__all__ = ["Place", "defined", "files_of", "mistake", "place_of", "shown", "wrong"]

SENT = "<dynamic-code>"  # the file of a function that was sent by value, as cloudpickle has it
MOST_WORDS = 400  # characters of what the library said
MOST_LISTED = 12  # arrays shown of each kind
FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')
STARTS = ("The error occurred while tracing", "See https", "--------------------", "For simplicity, JAX has removed")


@dataclass(frozen=True)
class Place:
    """A line of a person's code; ``source`` is its text where the file can be read."""

    file: str
    line: int
    function: str
    source: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}, in {self.function}"
        return f"{text}:\n    {self.source}" if self.source else text


def files_of(functions: Iterable[Callable[..., Any] | None]) -> tuple[tuple[str, str], ...]:
    """The file of each of ``functions``, and of those beside them, by their names: what a sent function forgets."""
    found: dict[str, str] = {}
    for function in functions:
        plain = _plain(function)
        beside = getattr(plain, "__globals__", {}).values()
        for one in (*(_plain(other) for other in list(beside) if isinstance(other, FunctionType)), plain):
            code = getattr(one, "__code__", None)
            if code is not None and code.co_filename != SENT:
                found[code.co_name] = code.co_filename
    return tuple(sorted(found.items()))


def _plain(function: Any) -> Any:
    """What a partial or a wrapper calls."""
    function = getattr(function, "func", function)
    return getattr(function, "__wrapped__", function)


def defined(function: Callable[..., Any], known: Mapping[str, str] | None = None) -> Place | None:
    """Where ``function`` was written; None for what is not written in Python. ``known``: see ``files_of``."""
    code = getattr(_plain(function), "__code__", None)
    return None if code is None else _place(code.co_filename, code.co_firstlineno, code.co_name, known)


def place_of(error: BaseException, files: Iterable[str] = (), known: Mapping[str, str] | None = None) -> Place | None:
    """The last line of a person's code that ``error`` came through; ``files`` are theirs wherever they lie."""
    own = {*files, SENT}
    steps = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    inside = [(file, int(line), function) for file, line, function in FRAME.findall(_inner(error))]
    found = [step for step in (*steps, *inside) if _theirs(step[0], own)]
    return _place(*found[-1], known) if found else None


def mistake(
    what: str,
    error: BaseException,
    functions: Iterable[Callable[..., Any] | None] = (),
    arrays: Mapping[str, Mapping[str, Any]] | None = None,
    known: Mapping[str, str] | None = None,
) -> ProgramError:
    """What a function of the person's, called ``what``, raised: the error to raise from it.

    ``functions`` are theirs, the one that was called first; ``arrays`` what it was given, by kind and name; ``known``
    see ``files_of``.
    """
    places = [place for one in functions if one is not None and (place := defined(one, known)) is not None]
    found = place_of(error, (place.file for place in places), known) or (places[0] if places else None)
    at = f" at {found}" if found is not None else ""
    head = f"{what} raised {type(error).__name__}{at}"
    return ProgramError(_lines(head, _words(error), arrays), "".join(traceback.format_exception(error)))


def wrong(
    what: str,
    said: str,
    function: Callable[..., Any],
    arrays: Mapping[str, Mapping[str, Any]] | None = None,
    known: Mapping[str, str] | None = None,
) -> ProgramError:
    """What a function of the person's, called ``what``, returned is not what was asked for: the error to raise."""
    place = defined(function, known)
    at = f" ({place.file}:{place.line}, {place.function})" if place is not None else ""
    return ProgramError(_lines(f"{what}{at} {said}", "", arrays))


def shown(arrays: Mapping[str, Any]) -> str:
    """Names, types and shapes.

    >>> import numpy as np
    >>> shown({"x": np.zeros((2, 3), np.float32), "y": np.zeros(2, np.int32)})
    'x float32(2, 3), y int32(2,)'
    """
    listed = [
        f"{name} {array.dtype}{tuple(array.shape)}" if hasattr(array, "dtype") else f"{name} {type(array).__name__}"
        for name, array in list(arrays.items())[:MOST_LISTED]
    ]
    more = len(arrays) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")


def _lines(head: str, words: str, arrays: Mapping[str, Mapping[str, Any]] | None) -> str:
    given = [f"{kind}: {shown(one)}" for kind, one in (arrays or {}).items() if one]
    return "\n".join(line for line in (head, words, *given) if line)


def _inner(error: BaseException) -> str:
    """The traceback of a callback, which XLA hands on as text; empty where there is none."""
    _, found, text = str(error).partition("Traceback (most recent call last):")
    return text if found else ""


def _words(error: BaseException) -> str:
    """What the library said, up to where it begins to explain itself."""
    said = _inner(error).strip().splitlines()[-1:] or str(error).strip().splitlines()
    kept: list[str] = []
    for line in said:
        if not line.strip() or line.startswith(STARTS):
            break
        kept.append(line)
    text = "\n".join(kept)
    return text if len(text) <= MOST_WORDS else f"{text[:MOST_WORDS]}…"


def _place(file: str, line: int, function: str, known: Mapping[str, str] | None = None) -> Place:
    if file == SENT:
        file = (known or {}).get(function, file)
    return Place(file, line, function, linecache.getline(file, line).strip())


def _theirs(file: str, own: set[str]) -> bool:
    if file in own:
        return True
    return not file.startswith(("<frozen", *_libraries()))


def _libraries() -> tuple[str, ...]:
    """Folders of Python, of installed packages and of Trivium."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return (*(sysconfig.get_paths()[name] for name in names), str(Path(__file__).resolve().parent.parent))
