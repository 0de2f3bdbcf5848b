"""The two streams of a command: results to stdout, all else to stderr; neither can raise."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from trivium.observe.progress import SafeStream
from trivium.observe.summary import Line, lines

__all__ = ["Screen", "finite"]


class Screen:
    """Where a command writes. ``quiet`` mutes everything but results and errors."""

    def __init__(self, quiet: bool = False) -> None:
        self.out, self.err = SafeStream(sys.stdout), SafeStream(sys.stderr)
        self.quiet = quiet
        self.width = min(shutil.get_terminal_size((100, 24)).columns, 120) if self.out.isatty() else 100

    def result(self, pairs: Iterable[Line]) -> None:
        """To stdout."""
        self.text(lines(pairs, self.width))

    def text(self, text: str) -> None:
        """To stdout, as it is."""
        self.out.write(text + "\n")
        self.out.flush()

    def told(self, pairs: Iterable[Line]) -> None:
        """To stderr, unless quiet."""
        if not self.quiet:
            self.err.write(lines(pairs, self.width) + "\n")
            self.err.flush()

    def json(self, value: Mapping[str, Any]) -> None:
        """One object on one line of stdout; what JSON has no word for (NaN, infinities) is null."""
        self.text(json.dumps(finite(value), ensure_ascii=False, separators=(", ", ": "), allow_nan=False))


def finite(value: Any) -> Any:
    """``value`` with null for every number that JSON cannot say.

    >>> finite({"a": [1.0, float("nan")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return finite(value.item()) if hasattr(value, "item") else str(value)
