"""One shard as one server sees it: what it has applied, what is on its way, who holds copies. Pure bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from trivium.core.exchange import HERE, Entry
from trivium.core.lanes import Part, lane_mask
from trivium.core.role import Address

__all__ = ["STAGES", "Bundle", "Clocks", "Outbox", "Shard", "reaches"]

Clocks = tuple[int, ...]  # of each lane

STAGES = {  # where a shard goes from each stage at its primary, and when; a copy knows collect and advance
    "collect": {
        "advance": "enough is in, no copies, F has one step; or a Copy came",
        "combine": "enough is in",
        "copying": "a term began, and some copy is a step behind",
    },
    "combine": {
        "advance": "the sum is made and sent to the copies",
        "scale": "the sum is made, F has two steps",
        "collect": "a term began",
    },
    "scale": {"exchange": "its partial sums are written", "collect": "a term began"},
    "exchange": {"advance": "all partial sums are there, or one shard has settled", "collect": "a term began"},
    "advance": {"copying": "F was applied here, copies are awaited", "collect": "F was applied"},
    "copying": {"collect": "every copy holds the step, or a term began"},
}


class Bundle(NamedTuple):
    """Deltas that came together: this node's own push, or another node's Delta ``number``."""

    entries: tuple[Entry, ...]
    mask: int

    @classmethod
    def of(cls, entries: tuple[Entry, ...]) -> Bundle:
        """With the bit set of its lanes."""
        mask = 0
        for entry in entries:
            mask |= lane_mask(entry.parts)
        return cls(entries, mask)

    @property
    def origin(self) -> tuple[int, int]:
        """(node, number) of the Delta; ``HERE`` for this node's own."""
        return self.entries[0].node, self.entries[0].number


def reaches(clocks: Clocks, entries: tuple[Entry, ...]) -> bool:
    """Whether ``clocks`` have all of ``entries``.

    >>> reaches((1, 1, 0), (Entry(0, (Part(0, 2),)),)), reaches((1, 1, 0), (Entry(0, (Part(1, 3),)),))
    (True, False)
    """
    for entry in entries:
        for lo, hi in entry.parts:
            if min(clocks[lo:hi]) <= entry.clock:
                return False
    return True


@dataclass
class Outbox:
    """What this node has for a shard whose primary is elsewhere."""

    waiting: list[Entry] = field(default_factory=list)
    mask: int = 0  # of the lanes in ``waiting``
    number: int = 0
    sent: dict[int, tuple[tuple[Entry, ...], tuple[Part, ...], bool]] = field(default_factory=dict)  # not taken yet


class Shard:
    """``applied``: clocks of each lane in this copy; ``seen``: in what this node's readers may count on."""

    __slots__ = (
        "acked",
        "applied",
        "asked",
        "authority",
        "batch",
        "before",
        "dropped",
        "expect",
        "fetchers",
        "finished",
        "have",
        "heirs",
        "kind",
        "latest",
        "learners",
        "live",
        "missed",
        "outbox",
        "partials",
        "pending",
        "primary",
        "seen",
        "stage",
        "step",
        "viewers",
        "wanted",
    )

    def __init__(self, lanes: int) -> None:
        zero = (0,) * lanes
        self.kind = "copy"  # primary, copy, learner or view
        self.primary = Address(0, 0)
        self.applied: Clocks = zero
        self.before: Clocks = zero  # the clocks before the last step; as ``applied`` where that step is not at hand
        self.seen: Clocks = zero
        self.live = True  # whether what is here is a whole copy as of ``applied``
        self.finished = False
        self.stage = "collect"  # see STAGES
        self.step: tuple[Clocks, bool] = (zero, True)  # the clocks after the step under way, whether of a whole clock
        self.latest = -1  # the lane that came last in the last whole clock
        self.authority = -1
        self.partials = 0  # bit set of the shards whose partial sums of this clock can be read
        self.pending: list[Bundle] = []
        self.have = 0  # bit set of the lanes in ``pending``
        self.batch: list[Bundle] = []  # what the step under way is made of
        self.expect: list[int] = list(zero)  # of each lane: the clock that is admitted next
        self.dropped = [0] * lanes  # of each lane: how many clocks running it was left out of
        self.heirs: tuple[Address, ...] = ()  # copies that count, but for this one
        self.viewers: tuple[Address, ...] = ()  # servers without a copy that counts
        self.acked: dict[Address, int] = {}  # the tags that heirs hold
        self.wanted: dict[Address, int] = {}  # viewers that wait for more than a tag
        self.missed = False  # whether fresh values came while others were being shown
        self.asked = -1  # the tag of this view when more was asked for last
        self.learners: set[Address] = set()
        self.fetchers: list[Address] = []  # learners to be served once no step is under way
        self.outbox = Outbox()

    @property
    def tag(self) -> int:
        """The progress of this copy."""
        return sum(self.applied)

    @property
    def quiet(self) -> bool:
        """No step is under way."""
        return self.stage in ("collect", "copying")

    def drop(self) -> None:
        """A term began: forget what is not settled."""
        self.stage, self.authority, self.partials, self.have, self.asked = "collect", -1, 0, 0, -1
        self.missed = False
        self.pending, self.batch = [], []
        self.acked, self.wanted, self.learners, self.fetchers = {}, {}, set(), []
        self.outbox = Outbox()

    def admit(self, bundle: Bundle) -> bool:
        """Take ``bundle`` in if each of its lanes is at exactly the clock that comes next."""
        if not self._next_in_line(bundle):
            return False
        for entry in bundle.entries:
            for lo, hi in entry.parts:
                self.expect[lo:hi] = [entry.clock + 1] * (hi - lo)
        self.pending.append(bundle)
        self.have |= bundle.mask
        return True

    def _next_in_line(self, bundle: Bundle) -> bool:
        for entry in bundle.entries:
            for lo, hi in entry.parts:
                if self.expect[lo:hi] != [entry.clock] * (hi - lo):
                    return False
        return True

    def take(self) -> tuple[Entry, ...]:
        """Make all that is pending the step under way."""
        self.batch, self.pending, self.have = self.pending, [], 0
        return tuple([entry for bundle in self.batch for entry in bundle.entries])

    def whole_step(self) -> tuple[Clocks, int]:
        """The clocks after a whole clock, and the bit set of the lanes that are in it."""
        clock = self.applied[0] + 1
        self.expect = [clock] * len(self.applied)
        mask = 0
        for bundle in self.batch:
            mask |= bundle.mask
        return (clock,) * len(self.applied), mask

    def part_step(self) -> Clocks:
        """The clocks after what is in the step under way."""
        clocks = list(self.applied)
        for bundle in self.batch:
            for entry in bundle.entries:
                for lo, hi in entry.parts:
                    clocks[lo:hi] = [entry.clock + 1] * (hi - lo)
        return tuple(clocks)

    def count_dropped(self, mask: int) -> list[int]:
        """Note which lanes the step does without; those that are left out for the second time running."""
        again = []
        for lane in range(len(self.dropped)):
            if mask >> lane & 1:
                self.dropped[lane] = 0
            else:
                self.dropped[lane] += 1
                if self.dropped[lane] == 2:
                    again.append(lane)
        return again

    def origins(self) -> list[tuple[int, int]]:
        """(node, number) of each Delta in the step under way."""
        return [one.origin for one in self.batch if one.origin[0] != HERE]
