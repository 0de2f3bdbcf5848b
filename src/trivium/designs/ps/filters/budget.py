"""A budget of bytes a second: what goes first, what waits and is added to the next, and for how long at most. Pure.

Managed communication, as in Wei et al., *Managed communication and consistency for fast data-parallel iterative
analytics* (SoCC 2015: Bösen): bandwidth that is there is used, what matters most goes first, and how much a piece
matters is its relative change |Δ| / |w|. A slice is cut into blocks; each round (a delta comes) says which of them go.

Rules
-----
* ``Budget.rate`` fills an account up to ``burst`` seconds' worth. While it is above zero the block of largest change
  goes and is charged; the account may end below zero by one block, so that blocks of any size go. (A token bucket that
  may owe: over any time span, at most rate · span + burst + one block goes, but for the next rule.)
* A block that was held back ``rounds`` times goes at the next round, whatever the account says, before all others:
  staleness is bounded, the rate is what gives way. It is charged as far as ``burst`` below zero, so that the others
  wait longer for it, but not for ever.
* What waits is not listed twice: the caller adds it to what comes (a holding ``Sender`` does: its residual), and says
  bytes and change of the whole. So nothing is lost, and what cancels out is never sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.errors import PlanError

__all__ = ["Account", "Budget", "Piece", "Turn", "spans", "step"]


@dataclass(frozen=True)
class Budget:
    """``rate``: bytes a second; ``rounds``: how often a block may be held back; ``burst``: seconds of rate saved up."""

    rate: float
    rounds: int = 8
    burst: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.rate < math.inf and 0 < self.burst < math.inf):
            raise PlanError(f"budget: rate and burst must be above 0 and finite, got {self.rate!r} and {self.burst!r}")
        if self.rounds < 0:
            raise PlanError(f"budget: rounds must be 0 or more, got {self.rounds!r}")


class Piece(NamedTuple):
    """One ``block`` as it would go now: ``bytes``, and its relative ``change``."""

    block: int
    bytes: int
    change: float


@dataclass(frozen=True)
class Account:
    """``credit``: bytes that may go at time ``at`` (None: as much as can be saved up); ``waits``: (block, times that it
    was held back) of all blocks that wait.
    """

    credit: float | None = None
    at: float = 0.0
    waits: tuple[tuple[int, int], ...] = field(default=())


class Turn(NamedTuple):
    """What ``step`` decided: the blocks that go, the first first, and the account afterwards."""

    go: tuple[int, ...]
    account: Account


def step(budget: Budget, account: Account, now: float, pieces: Iterable[Piece]) -> Turn:
    """One round at time ``now``. ``pieces``: every block that has something to send, what waits included.

    A block that waited and is not among ``pieces`` has cancelled out, and waits no more.

    >>> first = step(Budget(1000.0, burst=0.1), Account(), 0.0, [Piece(0, 100, 0.1), Piece(1, 100, 0.9)])
    >>> first.go, first.account.waits
    ((1,), ((0, 1),))
    """
    waits = dict(account.waits)
    most = budget.rate * budget.burst
    credit = most if account.credit is None else min(most, account.credit + budget.rate * max(0.0, now - account.at))
    go: list[int] = []
    left: list[tuple[int, int]] = []
    for piece in sorted(pieces, key=lambda piece: _order(piece, waits, budget)):
        waited = waits.get(piece.block, 0)
        if credit > 0:
            credit -= piece.bytes
        elif waited >= budget.rounds:
            credit = max(credit - piece.bytes, min(credit, -most))
        else:
            left.append((piece.block, waited + 1))
            continue
        go.append(piece.block)
    return Turn(tuple(go), replace(account, credit=credit, at=max(now, account.at), waits=tuple(sorted(left))))


def _order(piece: Piece, waits: dict[int, int], budget: Budget) -> tuple[bool, float, int]:
    """Those that must go, then those of large change; of equal ones the first. What is not a number is large."""
    overdue = waits.get(piece.block, 0) >= budget.rounds
    return not overdue, -math.inf if math.isnan(piece.change) else -piece.change, piece.block


def spans(go: Iterable[int], block: int, size: int) -> NDArray[np.int64]:
    """The ascending (k, 2) ranges of elements of the blocks ``go``, for ``Context.chosen``.

    >>> spans([2, 0], 4, 10).tolist()
    [[0, 4], [8, 10]]
    """
    first = np.array(sorted(go), np.int64) * block
    return np.stack([first, np.minimum(first + block, size)], axis=1)
