"""Who waited for whom, and how stale reads were: in words for the summary, and drawn for the report.

A wait is booked on the worker whose lane was the last one missing. Staleness counts clocks: a read at clock c of values
that have every lane's pushes up to clock c − 1 − k is k clocks stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from trivium.core.messages import Left
from trivium.core.role import Address
from trivium.observe.figures import count, duration, percent
from trivium.record import Record

__all__ = ["Waiting", "fragment", "gather", "histogram", "matrix", "of_record", "waiting_lines"]

LEAST = 0.005  # of a whole; below it nothing is told
MOST_LINES = 8  # workers that have a line of their own
WIDTH, ROOM, CELL = 640, 110, 52
WAIT, READ = "#d55e00", "#56b4e9"  # as in the report's other pictures
BAR, STEP = 120, 64


@dataclass(frozen=True)
class Waiting:
    """``lags[i][k]``: reads of worker ``names[i]`` that were k clocks stale (the last: that many or more).
    ``seconds[i][j]``: what it waited for ``whom[j]``.
    """

    names: tuple[str, ...]
    whom: tuple[str, ...]
    lags: tuple[tuple[int, ...], ...]
    seconds: tuple[tuple[float, ...], ...]

    @property
    def reads(self) -> tuple[int, ...]:
        """Reads at each staleness, of all workers."""
        longest = max((len(one) for one in self.lags), default=0)
        return tuple(sum(one[k] for one in self.lags if k < len(one)) for k in range(longest))

    @property
    def held_up(self) -> dict[str, float]:
        """Seconds that the others waited for each, longest first."""
        sums = {name: sum(row[j] for row in self.seconds) for j, name in enumerate(self.whom)}
        return dict(sorted(sums.items(), key=lambda pair: -pair[1]))

    def staleness(self) -> dict[str, float]:
        """Mean and greatest, in clocks; 0 where nothing was read.

        >>> Waiting(("worker 0",), (), ((3, 0, 1),), ((),)).staleness()
        {'max': 2.0, 'mean': 0.5}
        """
        reads = self.reads
        total = sum(reads)
        last = max((k for k, number in enumerate(reads) if number), default=0)
        return {"max": float(last), "mean": sum(k * number for k, number in enumerate(reads)) / total if total else 0.0}


def gather(left: Mapping[Address, Left], name: Callable[[Address], str]) -> Waiting:
    """What workers told when they left, with their names and the names of those whom they waited for.

    >>> told = {Address(0, 2): Left((9, 1), ((Address(0, 3), 1.5),)), Address(0, 3): Left((10,), ())}
    >>> gather(told, lambda address: f"worker {address.slot - 2}")
    Waiting(names=('worker 0', 'worker 1'), whom=('worker 1',), lags=((9, 1), (10,)), seconds=((1.5,), (0.0,)))
    """
    order = sorted(left)
    whom = sorted({address for one in left.values() for address, seconds in one.waited if seconds > 0})
    waited = [dict(left[one].waited) for one in order]
    return Waiting(
        tuple(name(one) for one in order),
        tuple(name(one) for one in whom),
        tuple(left[one].lags for one in order),
        tuple(tuple(of.get(one, 0.0) for one in whom) for of in waited),
    )


def of_record(record: Record) -> Waiting:
    """What the workers of a run that is over told; whom they waited for may be a server, too.

    Workers that told nothing are left out: those of other designs, and those that died.
    """
    told = [one for one in record.processes if one.lags]
    whom = [one.name for one in record.processes]
    waited = [name for name in whom if any(one.waited_for.get(name, 0.0) > 0 for one in told)]
    waited += sorted({name for one in told for name in one.waited_for} - set(whom))
    return Waiting(
        tuple(one.name for one in told),
        tuple(waited),
        tuple(one.lags for one in told),
        tuple(tuple(one.waited_for.get(name, 0.0) for name in waited) for one in told),
    )


# -- in words ----------------------------------------------------------------------------------------------------------
def waiting_lines(waiting: Waiting) -> list[tuple[str, str]]:
    """(label, text) pairs for the summary: who held the others up, then a line a worker, those that waited longest.

    >>> waiting_lines(Waiting(("worker 0",), ("worker 2", "worker 1"), ((81, 15, 4, 0),), ((2.9, 0.2),)))[1][1]
    'worker 0 waited 3.1 s, 2.9 s of it for worker 2; reads were 0 clocks stale in 81 %, 1 in 15 %, 2 in 4 %'
    """
    if not any(waiting.reads) and not any(map(sum, waiting.seconds)):
        return []
    order = sorted(range(len(waiting.names)), key=lambda i: -sum(waiting.seconds[i]))
    shown = sorted(order[:MOST_LINES])
    texts = [_whole(waiting), *(_one(waiting, i) for i in shown)]
    if len(order) > len(shown):
        texts.append(f"{count(len(order) - len(shown))} more waited less")
    return [("waiting" if at == 0 else "", text) for at, text in enumerate(texts)]


def _whole(waiting: Waiting) -> str:
    total = sum(map(sum, waiting.seconds))
    if not total:
        return "nobody waited for another"
    name, seconds = next(iter(waiting.held_up.items()))
    return f"{duration(total)} of all workers' time; for {name} {duration(seconds)} of it, more than for any other"


def _one(waiting: Waiting, i: int) -> str:
    row = waiting.seconds[i]
    total = sum(row)
    words = f"{waiting.names[i]} waited {duration(total)}" if total else f"{waiting.names[i]} did not wait"
    most = max(range(len(row)), key=lambda j: row[j], default=0)
    if total and row[most] >= LEAST * total:
        share = "all" if row[most] == total else duration(row[most])
        words += f", {share} of it for {waiting.whom[most]}"
    stale = _stale(waiting.lags[i])
    return f"{words}; {stale}" if stale else words


def _stale(lags: Sequence[int]) -> str:
    """The staleness of reads, in clocks, with shares."""
    total = sum(lags)
    kept = [(k, number / total) for k, number in enumerate(lags) if number]
    told = [(k, share) for k, share in kept if share >= LEAST] or kept[:1]
    words = [f"{_clocks(k, len(lags))} in {percent(share)}" for k, share in told]
    if not words:
        return ""
    first, rest = words[0], words[1:]
    first = first.replace(" in ", " clock stale in " if told[0][0] == 1 else " clocks stale in ", 1)
    return f"reads were {', '.join([first, *rest])}"


def _clocks(k: int, length: int) -> str:
    return f"{k} or more" if 0 < k == length - 1 else str(k)


# -- drawn -------------------------------------------------------------------------------------------------------------
def fragment(waiting: Waiting) -> str:
    """Both pictures with their headings; empty where there is nothing to see, as where all reads were fresh."""
    drawn = (
        ("Who waited for whom", matrix(waiting)),
        ("How stale reads were", histogram(waiting) if any(waiting.reads[1:]) else ""),
    )
    return "".join(f"<h2>{heading}</h2>{picture}" for heading, picture in drawn if picture)


def matrix(waiting: Waiting) -> str:
    """SVG: a row for each who waited, a column for whom; the darker, the longer. Empty where nobody waited."""
    longest = max((one for row in waiting.seconds for one in row), default=0.0)
    if not longest:
        return ""
    side = min(CELL, (WIDTH - ROOM) / len(waiting.whom))
    tall = min(side, 26)
    parts = [
        f'<text x="{ROOM + (j + 0.5) * side:.1f}" y="14" text-anchor="middle">{escape(_short(name, side))}'
        f"<title>{escape(name)}</title></text>"
        for j, name in enumerate(waiting.whom)
    ]
    for i, name in enumerate(waiting.names):
        top = 22 + i * tall
        parts.append(f'<text x="{ROOM - 8}" y="{top + tall / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        parts += [
            _cell(f"{name} waited", waiting.whom[j], seconds, (ROOM + j * side, top, side, tall), seconds / longest)
            for j, seconds in enumerate(waiting.seconds[i])
        ]
    height = 26 + len(waiting.names) * tall
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="who waited for whom">{"".join(parts)}</svg>'


def _cell(who: str, whom: str, seconds: float, place: tuple[float, float, float, float], share: float) -> str:
    x, y, wide, tall = place
    told = escape(f"{who} {duration(seconds)} for {whom}")
    rect = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide - 1:.1f}" height="{tall - 1:.1f}" fill="{WAIT}" '
        f'fill-opacity="{share:.3f}" stroke="#8884"><title>{told}</title></rect>'
    )
    if share < 0.05 or wide < 40:
        return rect
    text = escape(duration(seconds))
    return f'{rect}<text x="{x + wide / 2:.1f}" y="{y + tall / 2 + 4:.1f}" text-anchor="middle">{text}</text>'


def _short(name: str, room: float) -> str:
    """A name, or its number where there is no room for more."""
    return name if len(name) * 6.2 <= room else name.rsplit(" ", 1)[-1]


def histogram(waiting: Waiting) -> str:
    """SVG: a bar a clock of staleness, as high as the share of reads. Empty where nothing was read."""
    reads = waiting.reads
    total = sum(reads)
    if not total:
        return ""
    last = max(k for k, number in enumerate(reads) if number)
    step = min(STEP, (WIDTH - 20) / (last + 1))
    parts = []
    for k, number in enumerate(reads[: last + 1]):
        share = number / total
        x, high = 10 + k * step, share * BAR
        clocks = f"{_clocks(k, len(reads))} clock{'' if k == 1 else 's'}"
        told = escape(f"{clocks} stale: {count(number)} of {count(total)} reads")
        parts.append(
            f'<rect x="{x:.1f}" y="{16 + BAR - high:.1f}" width="{step * 0.8:.1f}" height="{high:.1f}" fill="{READ}">'
            f"<title>{told}</title></rect>"
        )
        middle = x + step * 0.4
        parts.append(f'<text x="{middle:.1f}" y="{BAR + 32}" text-anchor="middle">{k}</text>')
        if number and step >= 30:
            parts.append(
                f'<text x="{middle:.1f}" y="{12 + BAR - high:.1f}" text-anchor="middle">{escape(percent(share))}</text>'
            )
    floor = f'<path class="axis" d="M10,{16 + BAR}H{10 + (last + 1) * step:.1f}"/>'
    label = f'<text x="10" y="{BAR + 48}">clocks</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {BAR + 54}" role="img" aria-label="staleness of reads">'
        f"{''.join(parts)}{floor}{label}</svg>"
    )
