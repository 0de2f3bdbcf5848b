"""How figures are written on the screen: few digits, units, thin enough for one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["count", "duration", "loss", "percent", "rate", "size", "spark"]

_BARS = "▁▂▃▄▅▆▇█"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def count(value: float) -> str:
    """A number of things; a fraction only where there is one.

    >>> count(60000), count(2.5)
    ('60,000', '2.5')
    """
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as a person would say them.

    >>> duration(0.0123), duration(1.25), duration(75), duration(7260)
    ('12 ms', '1.2 s', '1 min 15 s', '2 h 01 min')
    """
    if not math.isfinite(seconds):
        return "?"
    if seconds < 0.1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rate(rows_per_second: float) -> str:
    """Rows a second, three digits.

    >>> rate(41234), rate(3.2e6), rate(12)
    ('41.2k rows/s', '3.20M rows/s', '12.0 rows/s')
    """
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rows_per_second >= limit:
            return f"{_three(rows_per_second / limit)}{letter} rows/s"
    return f"{_three(rows_per_second)} rows/s"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def size(nbytes: float) -> str:
    """Bytes in binary units.

    >>> size(512), size(3 * 2**20)
    ('512 B', '3.0 MiB')
    """
    unit = 0
    while nbytes >= 1024 and unit < len(_SIZES) - 1:
        nbytes /= 1024
        unit += 1
    return f"{nbytes:.0f} B" if unit == 0 else f"{nbytes:.1f} {_SIZES[unit]}"


def percent(share: float) -> str:
    """A share of 1, whole per cents; what is there but small says so.

    >>> percent(0.954), percent(0.002), percent(0)
    ('95 %', '<1 %', '0 %')
    """
    if 0 < share < 0.005:
        return "<1 %"
    return f"{share:.0%}".replace("%", " %")


def spark(values: Sequence[float], width: int = 40) -> str:
    """A line of bars, lowest to highest; at most ``width``, evenly picked, the last always shown.

    >>> spark([4.0, 2.0, 1.0, 1.0])
    '█▃▁▁'
    """
    known = [value for value in values if math.isfinite(value)]
    if len(known) > width:
        known = [known[round(at * (len(known) - 1) / (width - 1))] for at in range(width)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in known)


def loss(value: float | None) -> str:
    """A loss with four digits; a dash where it was not measured (None, NaN).

    >>> loss(0.123456), loss(None)
    ('0.1235', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"
