"""What roles say to each other, and the work they ask of their planes.

Driver and members talk in requests and replies, numbered by tickets: a request is sent again until it is answered, a
member answers the same ticket with the same words. Members talk in pushes and commits, which carry term and clock and
may be doubled, late or out of order.
"""

from __future__ import annotations

from typing import TypeAlias

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
    "Manifest",
    "Partials",
    "Proceed",
    "Push",
    "Reached",
    "Reply",
    "Request",
    "Save",
    "SaveShard",
    "Standing",
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


# --- member → driver -------------------------------------------------------------------------------------------------
class Done(Message, frozen=True, gc=False):
    """Carried out."""


class Standing(Message, frozen=True, gc=False):
    """The committed clock of each shard that the sender holds."""

    shards: tuple[tuple[int, int], ...]


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


Asked: TypeAlias = Fence | Assign | Proceed | Evaluate | Keep | Save | Leave
Answer: TypeAlias = Done | Standing | Reached | Sums | Failed


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


class Manifest(Work, frozen=True, gc=False):
    """All shards of ``clock`` are saved: from now on this is the newest checkpoint."""

    term: int
    clock: int
    best: int
    pace: bytes


MESSAGES = (Request, Reply, Push, Committed, Partials)
WORKS = (Gradient, Ahead, Adopt, Fold, Apply, EvaluateRows, KeepShard)
