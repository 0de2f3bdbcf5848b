"""What roles say to each other, and the work they ask of their planes.

Driver and members talk in requests and replies, numbered by tickets: a request is sent again until it is answered, a
member answers the same ticket with the same words. Members talk in pushes and commits, which carry term and clock and
may be doubled, late or out of order.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from trivium.core.consistency import Rule
from trivium.core.lanes import Part
from trivium.core.role import Address, Message, Work

__all__ = [
    "BEST",
    "MESSAGES",
    "WORKS",
    "Adopt",
    "Ahead",
    "Apply",
    "Assign",
    "Committed",
    "Copied",
    "Decided",
    "Done",
    "Evaluate",
    "EvaluateRows",
    "Failed",
    "Fence",
    "Fold",
    "Gradient",
    "Keep",
    "KeepShard",
    "Leave",
    "Left",
    "Manifest",
    "Partials",
    "Place",
    "Proceed",
    "Push",
    "Reached",
    "Reply",
    "Request",
    "Save",
    "SaveShard",
    "Served",
    "Stand",
    "Standing",
    "Stands",
    "Sums",
    "TermRecord",
]

Sums4: TypeAlias = tuple[float, ...]


# --- driver → member -------------------------------------------------------------------------------------------------
class Fence(Message, frozen=True, gc=False):
    """A new term: refuse the old one, drop what is not committed; ``owners[shard]`` holds each shard from now."""

    owners: tuple[Address, ...]


class Assign(Message, frozen=True, gc=False):
    """Who runs which lanes in this term, and the clock at which all start."""

    workers: tuple[Address, ...]
    ranges: tuple[Part, ...]
    owners: tuple[Address, ...]
    clock: int


class Proceed(Message, frozen=True, gc=False):
    """A lease: run until ``until`` clocks are committed, then wait."""

    until: int


class Evaluate(Message, frozen=True, gc=False):
    """Sum losses over ``sets`` of rows with the parameters of ``clock`` (``BEST``: the kept ones)."""

    clock: int
    sets: tuple[str, ...]


class Keep(Message, frozen=True, gc=False):
    """Remember the parameters of ``clock`` as the best so far."""

    clock: int


class Save(Message, frozen=True, gc=False):
    """Write each shard as of ``clock`` to disk, with the best ones if ``best`` is a clock (−1: none)."""

    clock: int
    best: int


class Leave(Message, frozen=True, gc=False):
    """The run is over."""

    reason: str


class Stand(Message, frozen=True, gc=False):
    """A new term among nodes: apply nothing more, forget what is not settled, say where your copies stand."""


class Place(Message, frozen=True, gc=False):
    """Who holds what and runs what in this term, and how far each lane is.

    ``holders[shard]``: its primary, then the copies that count for acknowledgement. ``servers``: every node's.
    ``applied[shard][lane]``: the clocks of the lane that the shard has applied. ``behind``: shards of which some copy
    is a step behind its primary. ``tempo``: whether workers shall say how fast they are.
    """

    rule: Rule
    workers: tuple[Address, ...]
    ranges: tuple[Part, ...]
    holders: tuple[tuple[Address, ...], ...]
    servers: tuple[Address, ...]
    applied: tuple[tuple[int, ...], ...]
    behind: tuple[int, ...]
    tempo: bool


# --- member → driver -------------------------------------------------------------------------------------------------
class Done(Message, frozen=True, gc=False):
    """Carried out."""


class Standing(Message, frozen=True, gc=False):
    """The committed clock of each shard that the sender holds."""

    shards: tuple[tuple[int, int], ...]


class Copied(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How a copy of ``shard`` stands: ``applied`` clocks of each lane now and ``before`` its last step."""

    shard: int
    applied: tuple[int, ...]
    before: tuple[int, ...]
    finished: bool


class Stands(Message, frozen=True, gc=False):
    """How the sender's copies stand, the counting ones and those that have caught up."""

    copies: tuple[Copied, ...]


class Left(Message, frozen=True, gc=False):
    """What a worker has seen: ``lags[k]`` reads at a staleness of k clocks (the last: that many or more), and the
    seconds that it waited for the lanes of each ``(worker, seconds)``.
    """

    lags: tuple[int, ...]
    waited: tuple[tuple[Address, float], ...]


class Served(Message, frozen=True, gc=False):
    """What a server has seen: ``dropped`` deltas of lanes that were left out of a clock."""

    dropped: int


class Reached(Message, frozen=True, gc=False):
    """The lease is used up (or F has finished): sums over the clocks since the last one."""

    clock: int
    finished: bool
    iterations: int
    rows: float
    weight: float
    loss: float


class Sums(Message, frozen=True, gc=False):
    """``sums[set][lane − lo]`` of an evaluation."""

    lo: int
    sums: tuple[tuple[Sums4, ...], ...]


class Failed(Message, frozen=True, gc=False):
    """The user's program raised, or storage failed, in a member."""

    error: str
    traceback: str
    storage: bool = False


Asked: TypeAlias = Fence | Assign | Proceed | Evaluate | Keep | Save | Leave | Stand | Place
Answer: TypeAlias = Done | Standing | Reached | Sums | Failed | Stands | Left | Served


class Request(Message, frozen=True, gc=False):
    """``body`` under ``term``, sent again until ``ticket`` is answered."""

    term: int
    ticket: int
    body: Asked


class Reply(Message, frozen=True, gc=False):
    """The answer to ``ticket``."""

    term: int
    ticket: int
    body: Answer


# --- member → member -------------------------------------------------------------------------------------------------
class Push(Message, frozen=True, gc=False):
    """The sender's deltas of ``clock`` lie in the blocks of ``parts``."""

    term: int
    clock: int
    parts: tuple[Part, ...]


class Committed(Message, frozen=True, gc=False):
    """``shard`` has applied the deltas of all lanes up to ``clock`` − 1, and can be read at ``clock``."""

    term: int
    shard: int
    clock: int
    finished: bool


class Partials(Message, frozen=True, gc=False):
    """``shard``'s partial sums of ``clock`` can be read; ``settled``: it has applied them, and its totals bind all."""

    term: int
    shard: int
    clock: int
    settled: bool


# --- work ------------------------------------------------------------------------------------------------------------
BEST = -1


class Gradient(Work, frozen=True, gc=False):
    """Δ of ``clock`` for each part, into its block. Result: none."""

    clock: int
    parts: tuple[Part, ...]


class Ahead(Work, frozen=True, gc=False):
    """Gather the rows of ``clock`` while others are waited for. Result: none."""

    clock: int
    parts: tuple[Part, ...]


class Adopt(Work, frozen=True, gc=False):
    """Take ``shard`` over from memory. Result: (committed clock, whether F has finished)."""

    shard: int


class Fold(Work, frozen=True, gc=False):
    """Sum the parts of ``shard`` and write F's partial scalars. Result: none."""

    shard: int
    clock: int
    parts: tuple[Part, ...]


class Apply(Work, frozen=True, gc=False):
    """Sum the parts unless folded, apply F, commit ``clock`` + 1.

    ``authority``: the shard whose recorded totals bind this one (−1: add them up). Result: (finished, iterations, rows,
    weight, loss).
    """

    shard: int
    clock: int
    parts: tuple[Part, ...]
    folded: bool
    authority: int


class EvaluateRows(Work, frozen=True, gc=False):
    """Sums over each set's rows of ``lanes``, a row for each lane. Result: ``Sums.sums``."""

    clock: int
    sets: tuple[str, ...]
    lanes: Part


class KeepShard(Work, frozen=True, gc=False):
    """Copy ``shard`` as of ``clock`` to the kept ones. Result: none."""

    shard: int
    clock: int


class SaveShard(Work, frozen=True, gc=False):
    """Write ``shard`` as of ``clock``, optimizer state and kept parameters included, to a file."""

    shard: int
    clock: int
    best: int


class TermRecord(Work, frozen=True, gc=False):
    """A new term, written before it is announced."""

    term: int
    workers: tuple[Address, ...]
    owners: tuple[Address, ...]
    why: str


class Decided(Work, frozen=True, gc=False):
    """What the agenda has come to at ``clock``, written before the lease that follows from it is granted: whoever takes
    a run over while it lives goes on from here.
    """

    term: int
    clock: int
    pace: bytes


class Manifest(Work, frozen=True, gc=False):
    """All shards of ``clock`` are saved: from now on this is the newest checkpoint."""

    term: int
    clock: int
    best: int
    pace: bytes


MESSAGES = (Request, Reply, Push, Committed, Partials)
WORKS = (Gradient, Ahead, Adopt, Fold, Apply, EvaluateRows, KeepShard)
