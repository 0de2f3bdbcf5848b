"""What the command line accepts as a number, a share or a name; each parser says what was given and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable

import typer

__all__ = ["batch", "number", "seed", "whole"]


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
