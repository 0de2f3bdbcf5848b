"""Chains of filters: written as text, checked, and turned into senders and receivers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.designs.ps.filters.base import STAGES, Coder, Exact, Filter
from trivium.designs.ps.filters.float16 import Float16
from trivium.designs.ps.filters.int8 import Int8
from trivium.designs.ps.filters.key_cache import KeyCache
from trivium.designs.ps.filters.kkt import Kkt
from trivium.designs.ps.filters.topk import TopK
from trivium.errors import PlanError, unknown

if TYPE_CHECKING:
    from trivium.designs.ps.filters.receiver import Receiver
    from trivium.designs.ps.filters.sender import Sender

__all__ = ["FILTERS", "Chain", "parse_filters"]

FILTERS: dict[str, type[Filter]] = {kind.name: kind for kind in (KeyCache, Kkt, TopK, Float16, Int8)}


@dataclass(frozen=True)
class Chain:
    """Filters in the order of their stages; hashable, picklable. ``str`` gives what was parsed.

    >>> chain = parse_filters("topk:0.5,float16")
    >>> sender, receiver = chain.sender(4, np.float32), chain.receiver(4, np.float32)
    >>> out = np.empty(4, np.float32)
    >>> receiver.decode(sender.encode(np.array([1, -3, 0.5, 2], np.float32)), out)
    >>> out.tolist(), sender.residual.tolist()
    ([0.0, -3.0, 0.0, 2.0], [1.0, 0.0, 0.5, 0.0])
    """

    text: str = ""
    filters: tuple[Filter, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def key_cache(self) -> bool:
        """Keys that were sent go as a signature."""
        return any(isinstance(each, KeyCache) for each in self.filters)

    @property
    def kkt(self) -> Kkt | None:
        """The kkt filter: senders need a ``Context`` with an ``Objective``."""
        return next((each for each in self.filters if isinstance(each, Kkt)), None)

    @property
    def topk(self) -> TopK | None:
        """The topk filter."""
        return next((each for each in self.filters if isinstance(each, TopK)), None)

    @property
    def coder(self) -> Coder:
        """How values are written."""
        return next((each.coder() for each in self.filters if isinstance(each, Float16 | Int8)), Exact())

    @property
    def remembers(self) -> bool:
        """A sender keeps what is not sent: its residual is state, to be handed on when it goes."""
        return any(each.remembers for each in self.filters)

    @property
    def lossless(self) -> bool:
        """What is decoded has the same bits as what was encoded."""
        return all(each.lossless for each in self.filters)

    def sender(self, size: int, dtype: Any, *, hold: bool = False) -> Sender:
        """One sender's state, for dense deltas of ``size`` elements and for rows of one table, both of ``dtype``.

        ``hold``: it can be told what goes now (``Context.chosen``), and keeps the rest.
        """
        from trivium.designs.ps.filters.sender import Sender

        return Sender(self, size, _float(dtype), hold=hold)

    def receiver(self, size: int, dtype: Any) -> Receiver:
        """What reads one sender's messages."""
        from trivium.designs.ps.filters.receiver import Receiver

        return Receiver(self, size, _float(dtype))

    def warm(self, dtype: Any) -> None:
        """Compile what senders and receivers of ``dtype`` will run, so that none does so in its first clock."""
        from trivium.designs.ps.filters.base import Context, Objective

        kind, few, keys = _float(dtype), 1024, np.arange(1024, dtype=np.uint64)  # enough for tables to grow
        sender, receiver = self.sender(few, kind), self.receiver(few, kind)
        delta, w = np.arange(few, dtype=kind), np.zeros(few, kind)
        for clock in (0, 1, 1):  # a whole clock, a first and a later one: the paths differ
            context = Context(Objective(w, 1.0, 4.0, clock))
            receiver.decode(sender.encode(delta, context), np.empty(few, kind))
            receiver.decode_rows(sender.encode_rows(keys, delta[:, None], context))

    def check(self, optimizer: str, *, l1: float, sums: bool = True) -> None:
        """Raise PlanError where a filter cannot be used with ``optimizer`` and ``l1``.

        ``sums``: F only adds up what it is given over clocks (a gradient step), so that what comes a clock later is not
        lost. Not so for line searches and for programs whose Δ is counts, centroids or normal equations.
        """
        if self.kkt is not None and l1 <= 0:
            raise PlanError(
                f"filter {str(self.kkt)!r} is for problems with an L1 penalty, l1 is {l1:g}; set --l1 or drop it"
            )
        if self.kkt is not None and optimizer not in Kkt.OPTIMIZERS:
            allowed = ", ".join(sorted(Kkt.OPTIMIZERS))
            raise PlanError(
                f"filter {str(self.kkt)!r} does not fit optimizer {optimizer!r}, which remembers gradients that would "
                f"not be sent; it is exact with {allowed}"
            )
        if self.remembers and not sums:
            lossy = ", ".join(str(each) for each in self.filters if each.remembers)
            raise PlanError(
                f"filter '{lossy}' sends a part of each delta later, and {optimizer} needs all of it at once; use a "
                f"stochastic optimizer such as sgd, or no such filter"
            )


def parse_filters(text: str) -> Chain:
    """The chain that ``text`` names: filters with commas between, '' for none; PlanError where they do not fit.

    >>> str(parse_filters("key-cache,int8")), parse_filters("").filters
    ('key-cache,int8', ())
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    filters = tuple(_filter(part, text) for part in parts)
    for before, after in pairwise(filters):
        _fit(before, after, text)
    chain = Chain(text, filters)
    if chain.kkt is not None and chain.topk is not None:
        raise PlanError(
            f"filters {text!r}: topk saves up the small gradients that kkt must see one by one, and sends them as one "
            f"that passes the L1 penalty; keep kkt or topk"
        )
    return chain


def _filter(part: str, text: str) -> Filter:
    """One filter, named by ``part`` of ``text``."""
    name, colon, number = part.partition(":")
    if not name:
        raise PlanError(
            f"filters {text!r}: a name is missing; write them with one comma between, as in 'key-cache,int8'"
        )
    if name not in FILTERS:
        raise PlanError(unknown("filter", name, (kind.usage for kind in FILTERS.values())))
    return FILTERS[name].parse(number if colon else None)


def _fit(before: Filter, after: Filter, text: str) -> None:
    """Raise PlanError unless ``after`` may follow ``before``."""
    if before.stage == after.stage:
        what = "is there twice" if before.name == after.name else f"and {after.name} both say how values are written"
        raise PlanError(f"filters {text!r}: {before.name} {what}; keep one of them")
    if before.stage > after.stage:
        order = " before ".join(STAGES)
        raise PlanError(
            f"filters {text!r}: {after.name} must stand before {before.name} (the order is {order}); "
            f"write '{after},{before}'"
        )


def _float(dtype: Any) -> np.dtype[Any]:
    """float32 or float64 in this machine's byte order."""
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise PlanError(f"filters are for float32 and float64, got {found}")
    return found
