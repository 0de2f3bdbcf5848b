"""What workers, servers and the driver say to each other in a parameter server of several nodes, and the work on it.

Bulk never rides in a message: those in ``BULK`` name what their host's plane packs beside them (``Plane.pack``) and the
other side's unpacks before the role hears of it (``Plane.unpack``). A **tag** is the progress of a copy: the sum of its
lanes' applied clocks. It grows with each step of F, and two copies with the same tag of a term have the same bits.
"""

from __future__ import annotations

import msgspec

from trivium.core.lanes import Part
from trivium.core.role import Address, Message, Work

__all__ = [
    "BULK",
    "EXCHANGED",
    "EXCHANGE_WORKS",
    "NEWEST",
    "Advance",
    "Combine",
    "Copy",
    "Delta",
    "Dropped",
    "Entry",
    "Fetch",
    "Forget",
    "Found",
    "Fresh",
    "Gather",
    "Held",
    "Learn",
    "Learned",
    "Partial",
    "Scale",
    "Seek",
    "Serve",
    "Settled",
    "Show",
    "TakeUp",
    "Taken",
    "Tempo",
    "View",
    "Want",
    "Whole",
]

NEWEST = -1  # the clock of a read that takes whatever is newest
HERE = -1  # the node of an entry whose deltas lie in this node's own blocks


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Deltas of ``clock`` for the lanes of ``parts``: in this node's blocks, or in what came as Delta ``number`` from
    ``node``.
    """

    clock: int
    parts: tuple[Part, ...]
    node: int = HERE
    number: int = 0


# --- server → its workers, worker → driver ---------------------------------------------------------------------------
class View(Message, frozen=True, gc=False):
    """How far the node's view is for a worker: ``lanes[i]``, the clocks of its lanes that were taken; ``floor``, the
    least clock of any lane in the view; ``last``, the lane that is at it.
    """

    term: int
    lanes: tuple[int, ...]
    floor: int
    last: int
    finished: bool


class Tempo(Message, frozen=True, gc=False):
    """A worker's median ``seconds`` of compute for one lane's clock, of late."""

    term: int
    seconds: float


class Dropped(Message, frozen=True, gc=False):
    """``lanes`` were left out of two clocks running."""

    term: int
    lanes: tuple[int, ...]


# --- server → server -------------------------------------------------------------------------------------------------
class Delta(Message, frozen=True, gc=False):
    """Bulk: what the sender's node has for ``shard`` of ``entries``; sent again until it is taken.

    ``parts``: an array and its stats for each of these; empty: one array, the sum of all that the entries name.
    """

    term: int
    shard: int
    number: int
    entries: tuple[Entry, ...]
    parts: tuple[Part, ...]


class Taken(Message, frozen=True, gc=False):
    """Delta ``number`` is applied and held by all copies that count; ``applied`` are the clocks of the lanes now."""

    term: int
    shard: int
    number: int
    applied: tuple[int, ...]


class Copy(Message, frozen=True, gc=False):
    """Bulk: the sum that takes ``shard`` from the clocks ``before`` to ``applied``, with its stats and totals."""

    term: int
    shard: int
    before: tuple[int, ...]
    applied: tuple[int, ...]
    whole: bool


class Held(Message, frozen=True, gc=False):
    """The sender's copy of ``shard`` has come to ``tag``."""

    term: int
    shard: int
    tag: int


class Settled(Message, frozen=True, gc=False):
    """All copies of ``shard`` that count have come to ``tag``."""

    term: int
    shard: int
    tag: int


class Fresh(Message, frozen=True, gc=False):
    """Bulk: the values of ``shard`` at the clocks ``applied``, for a node that holds no copy of it."""

    term: int
    shard: int
    applied: tuple[int, ...]
    finished: bool


class Want(Message, frozen=True, gc=False):
    """The sender's view of ``shard`` is at ``tag`` and its workers wait for more."""

    term: int
    shard: int
    tag: int


class Partial(Message, frozen=True, gc=False):
    """Bulk: ``shard``'s partial sums at ``clock``, or (``settled``) the totals and stats that it was advanced with."""

    term: int
    shard: int
    clock: int
    settled: bool


class Learn(Message, frozen=True, gc=False):
    """Driver → server: make copies of ``shards``; ``sources`` are their primaries. Training goes on meanwhile.

    A higher ``round``: all over again.
    """

    term: int
    shards: tuple[int, ...]
    sources: tuple[Address, ...]
    round: int = 0


class Learned(Message, frozen=True, gc=False):
    """Server → driver: copies of ``shards`` have caught up."""

    term: int
    shards: tuple[int, ...]
    round: int = 0


class Fetch(Message, frozen=True, gc=False):
    """The sender wants all of ``shard``, and from then on each Copy."""

    term: int
    shard: int


class Whole(Message, frozen=True, gc=False):
    """Bulk: ``shard`` with its optimizer's state and kept parameters at the clocks ``applied``."""

    term: int
    shard: int
    applied: tuple[int, ...]
    before: tuple[int, ...]
    finished: bool


class Seek(Message, frozen=True, gc=False):
    """Bulk: what are the rows of some keys of ``shard``, a table's? ``number`` counts the questions of ``process``, a
    worker of the sender's node. Asked of its own server, which asks the primary.
    """

    term: int
    shard: int
    process: int
    number: int


class Found(Message, frozen=True, gc=False):
    """Bulk: the rows that question ``number`` of ``process`` of ``node`` was about."""

    term: int
    shard: int
    node: int
    process: int
    number: int


# --- work ------------------------------------------------------------------------------------------------------------
class Gather(Work, frozen=True, gc=False):
    """Sum this node's blocks of ``entries`` for ``shard`` into what Delta ``number`` will carry; the blocks are free
    then. ``parts`` as in Delta: where they are whole subtrees, each is summed up the tree. Result: none.
    """

    shard: int
    number: int
    entries: tuple[Entry, ...]
    parts: tuple[Part, ...]


class Combine(Work, frozen=True, gc=False):
    """Sum ``entries`` into the shard's sum of ``tag``, where Copy and Advance find it. Result: none.

    ``whole``: their parts are a clock's (all of its lanes, or those that were not left out), an array each, summed in
    the fixed order of ``core.reduce``. Else in the order given, and a Delta's one array once, however many name it.
    """

    shard: int
    tag: int
    entries: tuple[Entry, ...]
    whole: bool


class Scale(Work, frozen=True, gc=False):
    """Write F's partial scalars for the shard's sum of ``tag``. Result: none."""

    shard: int
    tag: int


class Advance(Work, frozen=True, gc=False):
    """Apply F to the shard's sum of ``tag`` and commit it as the version whose tag is the sum of ``applied``.

    ``entries``: sum these first (no Combine went before). ``whole``: a whole clock; else F's step is weighted by the
    sum's share of a clock's rows. ``authority``: the shard whose totals bind (−1: the node's own partial sums, or what
    came with the Copy). Result: (finished, iterations, rows, weight, loss).
    """

    shard: int
    tag: int
    applied: tuple[int, ...]
    entries: tuple[Entry, ...]
    whole: bool
    authority: int


class Show(Work, frozen=True, gc=False):
    """Commit what came as Fresh as the version of its tag. Result: none."""

    shard: int
    applied: tuple[int, ...]


class TakeUp(Work, frozen=True, gc=False):
    """Commit what came as Whole: parameters, optimizer's state, kept ones. Result: none."""

    shard: int
    applied: tuple[int, ...]


class Forget(Work, frozen=True, gc=False):
    """Let go of what Delta ``number`` carried (it was taken); −1: of all that came or was to go, a term is over."""

    shard: int
    number: int


class Serve(Work, frozen=True, gc=False):
    """Answer question ``number`` of this node's ``process`` from the copy of ``shard`` that is here. Result: none."""

    shard: int
    process: int
    number: int


BULK = (Delta, Copy, Fresh, Partial, Whole, Seek, Found)
EXCHANGED = (
    View,
    Tempo,
    Dropped,
    Delta,
    Taken,
    Copy,
    Held,
    Settled,
    Fresh,
    Want,
    Partial,
    Learn,
    Learned,
    Fetch,
    Whole,
    Seek,
    Found,
)
EXCHANGE_WORKS = (Gather, Combine, Scale, Advance, Show, TakeUp, Forget, Serve)
