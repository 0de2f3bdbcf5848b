"""What the command line accepts as a number, a share or a name; each parser says what was given and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import typer

__all__ = ["batch", "nbytes", "number", "pairs", "seed", "types", "whole", "words"]

UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}  # powers of two


def whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers of ``least`` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a whole number") from None
        if value < least:
            raise typer.BadParameter(f"{text} is too small; it must be {least} or more")
        return value

    return parse


def number(*, above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """A parser of finite numbers, ``above`` one bound or ``least`` another."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a number") from None
        if not math.isfinite(value):
            raise typer.BadParameter(f"{text} is not finite")
        if above is not None and not value > above:
            raise typer.BadParameter(f"{text} is too small; it must be above {above:g}")
        if least is not None and not value >= least:
            raise typer.BadParameter(f"{text} is too small; it must be {least:g} or more")
        return value

    return parse


def batch(text: str) -> int | str:
    """Rows a step, or ``full``."""
    return "full" if text == "full" else whole(1)(text)


def seed(text: str) -> int:
    """A seed: 0 to 2⁶³ − 1, so that every generator takes it."""
    value = whole(0)(text)
    if value >= 2**63:
        raise typer.BadParameter(f"{text} is too large; a seed is below 2**63")
    return value


def nbytes(text: str) -> int:
    """Bytes: a number with a unit of 1024, 1024² and so on.

    >>> nbytes("2G"), nbytes("500MiB"), nbytes("1.5k")
    (2147483648, 524288000, 1536)
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]?)(?:i?b)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size; write 2G, 500M or a number of bytes")
    value = int(float(found[1]) * 2 ** UNITS[found[2].lower()])
    if value < 1:
        raise typer.BadParameter(f"{text} is too small; it must be 1 byte or more")
    return value


def types(text: str) -> str:
    """``name=kind`` pairs, as they were typed; ``pairs`` takes them apart."""
    for pair in text.split(","):
        name, equals, kind = pair.rpartition("=")
        if not (equals and name.strip() and kind.strip()):
            raise typer.BadParameter(f"{pair!r} is not COLUMN=KIND; write age=float,city=category")
    return text


def pairs(text: str | None) -> dict[str, str] | None:
    """What ``types`` let pass, by column.

    >>> pairs("age=float,city=category")
    {'age': 'float', 'city': 'category'}
    """
    if text is None:
        return None
    cut = (pair.rpartition("=") for pair in text.split(","))
    return {name.strip(): kind.strip() for name, _, kind in cut}


def words(text: str | None) -> tuple[str, ...]:
    """A list with commas; empty words are passed over.

    >>> words("auc, f1")
    ('auc', 'f1')
    """
    return () if text is None else tuple(word.strip() for word in text.split(",") if word.strip())
