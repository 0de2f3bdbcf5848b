"""What a node has on its desk for one shard: what came for it, what is to go, the sums of its steps, and for how long.

Rules
-----
* Bulk is unpacked before its role can refuse it, so that late, doubled and foreign things come here too. Under one key
  the higher term wins, and the first of equals; the node's own sum is replaced by nothing that came.
* A Delta stays until a step has applied all of its lanes' clocks, or until its term is over: whoever sends it again
  afterwards sends what is stale. Of Copies only those from the current tag on are of use.
* The sum of the last step stays until the next one is committed, to be sent again; a term that ends drops what was not
  committed, and nothing else.
* What was handed to a link is never written again (it may still be on its way): such memory is let go, any other is
  used for the next sum.
* Two threads come here: the role's, with what came and what is to be packed, and the one that computes. Each call that
  changes or looks through what is here has the desk to itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Entry
from trivium.errors import RunError
from trivium.runtime.arithmetic.arrays import HeldShard, Stats
from trivium.runtime.arithmetic.sums import Piece

__all__ = ["OWN", "Bound", "Came", "Desk", "Outgoing", "Sum"]

OWN = 1 << 60  # the term of what was made here
MOST_AHEAD = 8  # Copies, and fresh values, that wait: a role takes one up, or ignores it, long before
SPARE = 2  # arrays kept for the next sums


@dataclass
class Sum:
    """What takes a shard from one tag to the next. ``stats`` and ``totals`` are those that F is told of."""

    array: NDArray[Any]
    stats: Stats
    term: int
    totals: NDArray[np.float64] | None = None
    whole: bool = True  # a clock's
    buffers: list[Any] | None = None  # as filters wrote it
    residual: NDArray[Any] | None = None  # what the filters' sender had kept before
    lent: bool = False  # a link has it


@dataclass
class Outgoing:
    """What a Delta carries: plain arrays, or the buffers that filters made of each."""

    stats: tuple[Stats, ...]
    arrays: list[NDArray[Any]]
    counts: tuple[int, ...] = ()
    buffers: list[Any] = field(default_factory=list)
    residuals: list[NDArray[Any] | None] = field(default_factory=list)  # what the filters' senders had kept before


@dataclass
class Came:
    """A Delta that came: what it is made of, and a piece for each of its parts (or one, for all)."""

    term: int
    entries: tuple[Entry, ...]
    pieces: tuple[Piece, ...]
    listed: bool  # one piece for all, whatever parts are asked for

    def of(self, entry: Entry) -> list[Piece]:
        """The pieces of ``entry``."""
        if self.listed:
            return list(self.pieces)
        have = {piece.part: piece for piece in self.pieces}
        missing = [part for part in entry.parts if part not in have]
        if missing:
            raise RunError(f"Delta {entry.number} of node {entry.node} has {sorted(have)}, and not {missing}")
        return [have[part] for part in entry.parts]

    def is_stale(self, applied: tuple[int, ...]) -> bool:
        """Whether every lane's clock in it was applied, or left out."""
        return all(
            entry.clock < applied[lane] for entry in self.entries for lo, hi in entry.parts for lane in range(lo, hi)
        )


@dataclass(frozen=True)
class Bound:
    """The totals and stats that a shard was advanced with from ``tag``: no other shard may take others.

    ``came``: another node says so. Should the nodes that hold that step die, it may never have been.
    """

    tag: int
    totals: NDArray[np.float64]
    stats: Stats
    came: bool = False


P = ParamSpec("P")
R = TypeVar("R")


def _alone(method: Callable[Concatenate[Desk, P], R]) -> Callable[Concatenate[Desk, P], R]:
    """``method`` with the desk to itself."""

    @wraps(method)
    def held(self: Desk, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return held


class Desk:
    """One shard's desk."""

    def __init__(self, held: HeldShard) -> None:
        self._lock = threading.RLock()
        self.held = held
        self.outgoing: dict[int, Outgoing] = {}
        self.full = True  # whether the newest version has F's state: not where only values came
        self.bound: Bound | None = None
        self.rows: tuple[int, int] = (-1, -1)  # whose partial rows lie in the arrays: term and clock
        self._deltas: dict[tuple[int, int], Came] = {}
        self._sums: dict[int, Sum] = {}
        self._fresh: dict[int, tuple[int, Any]] = {}
        self._whole: dict[int, tuple[int, Any]] = {}
        self._applied: tuple[int, ...] | None = None
        self._spare: list[NDArray[Any]] = []

    @property
    def tag(self) -> int:
        """The shard's newest version."""
        return self.held.versions.current()[0]

    # -- memory -------------------------------------------------------------------------------------------------------
    @_alone
    def empty(self) -> NDArray[Any]:
        """An array for a sum."""
        return self._spare.pop() if self._spare else np.empty_like(self.held.blocks[0])

    @_alone
    def give(self, array: NDArray[Any]) -> None:
        """``array`` from ``empty`` is not needed any more."""
        if len(self._spare) < SPARE:
            self._spare.append(array)

    def _retire(self, tag: int) -> None:
        old = self._sums.pop(tag, None)
        if old is not None and old.term == OWN and not old.lent:
            self.give(old.array)

    # -- deltas -------------------------------------------------------------------------------------------------------
    @_alone
    def take_delta(self, key: tuple[int, int], came: Came) -> None:
        """Keep what came as Delta from (node, number), unless it is of no use."""
        held = self._deltas.get(key)
        if (held is not None and held.term >= came.term) or (self._applied and came.is_stale(self._applied)):
            return
        self._deltas[key] = came

    def delta(self, entry: Entry) -> Came:
        """What came as the Delta that ``entry`` names."""
        came = self._deltas.get((entry.node, entry.number))
        if came is None:
            raise RunError(
                f"shard {self.held.shard.index}: Delta {entry.number} of node {entry.node} is to be summed, and is not "
                "here"
            )
        return came

    # -- sums ---------------------------------------------------------------------------------------------------------
    @_alone
    def keep_sum(self, tag: int, made: Sum) -> None:
        """Keep ``made`` as the sum of ``tag``, unless a better one is there or it is of no use."""
        there = self._sums.get(tag)
        if made.term != OWN and ((there is not None and there.term >= made.term) or tag < self.tag):
            return
        self._retire(tag)
        self._sums[tag] = made
        if len(self._sums) > MOST_AHEAD + 1:
            self._retire(min(one for one in self._sums if one != self.tag))  # that one's step may be about to be made

    @_alone
    def sum_of(self, tag: int) -> Sum:
        """The sum of ``tag``; RunError where there is none."""
        found = self._sums.get(tag)
        if found is None:
            raise RunError(
                f"shard {self.held.shard.index} at tag {self.tag} has no sum of tag {tag}, but of {sorted(self._sums)}"
            )
        return found

    @_alone
    def uncommitted(self) -> list[Sum]:
        """Sums made here of steps that were not committed."""
        return [made for tag, made in self._sums.items() if tag >= self.tag and made.term == OWN]

    @_alone
    def advanced(self, tag: int, applied: tuple[int, ...]) -> None:
        """The step from ``tag`` to ``applied`` was committed: earlier sums and the deltas in it are not needed."""
        self._applied = applied
        if not self._sums and not self._deltas:
            return
        for old in [one for one in self._sums if one < tag]:
            self._retire(old)
        for key, came in list(self._deltas.items()):
            if came.is_stale(applied):
                del self._deltas[key]

    # -- values that came ---------------------------------------------------------------------------------------------
    @_alone
    def take_fresh(self, tag: int, term: int, content: Any) -> None:
        """Keep what came as Fresh: of a lower tag too, for what is here may be of a step that was never settled."""
        _keep_newest_term(self._fresh, tag, term, content)
        if len(self._fresh) > MOST_AHEAD:  # the first may be asked for already, and the last may be next
            del self._fresh[sorted(self._fresh)[MOST_AHEAD // 2]]

    @_alone
    def fresh(self, tag: int) -> Any:
        """What came as Fresh of ``tag``, once; whatever else came meanwhile, its role has ignored."""
        found = self._fresh.get(tag)
        if found is None:
            raise RunError(f"shard {self.held.shard.index}: no values of tag {tag} came, but of {sorted(self._fresh)}")
        self._fresh.clear()
        return found[1]

    @_alone
    def take_whole(self, tag: int, term: int, content: Any) -> None:
        """Keep what came as Whole: what is being taken up, and one that may have come instead."""
        _keep_newest_term(self._whole, tag, term, content)
        if len(self._whole) > 2:
            del self._whole[min(self._whole)]

    @_alone
    def whole(self, tag: int) -> Any:
        """What came as Whole of ``tag``, once."""
        found = self._whole.get(tag)
        if found is None:
            raise RunError(f"shard {self.held.shard.index}: nothing whole of tag {tag} came")
        self._whole.clear()
        return found[1]

    # -- forgetting ---------------------------------------------------------------------------------------------------
    @_alone
    def forget(self, number: int) -> None:
        """Let go of Delta ``number``; −1: of all that is not settled."""
        if number >= 0:
            self.outgoing.pop(number, None)
            return
        self.outgoing.clear()
        self._deltas.clear()
        self._fresh.clear()
        self._whole.clear()
        for tag in [one for one in self._sums if one >= self.tag]:
            self._retire(tag)
        for last in self._sums.values():
            last.buffers = None  # of filters of a term that is over: it goes as it is
        self.rows = (-1, -1)
        if self.bound is not None and self.bound.came:
            self.bound = None


def _keep_newest_term(there: dict[int, tuple[int, Any]], tag: int, term: int, content: Any) -> None:
    if tag not in there or there[tag][0] < term:
        there[tag] = (term, content)
