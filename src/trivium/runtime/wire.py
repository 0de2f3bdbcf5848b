"""What travels on the links between the driver's process and the agents of nodes: words between roles, and orders.

Rules
-----
* The first byte of a header says what it is. A **word** is a role's message with the slots that it is from and to;
  which node it is from is the link's to say, for its key proves that. An **order** is one of the structs below.
* Orders are believed only from whom they may come: an agent obeys the driver alone, and takes code (``Setup``,
  ``Enlist``) from nobody else. The driver takes ``Here``, ``Manned``, ``Report``, ``Fell`` and ``Pull`` from agents,
  and unpickles nothing.
* Whatever cannot be read is dropped with a line in the log; it never ends a process.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from trivium.core.role import Address

__all__ = [
    "CHUNK",
    "DRIVER",
    "MOST_WORD",
    "AskStack",
    "Bootstrap",
    "Bye",
    "Claim",
    "Crossed",
    "End",
    "Enlist",
    "Fell",
    "Here",
    "Link",
    "Manned",
    "Meet",
    "Order",
    "Part",
    "Piece",
    "Pull",
    "Report",
    "Setup",
    "Unlink",
    "Word",
    "order_of",
    "packed_order",
    "packed_word",
    "word_of",
]

DRIVER = Address(0, 0)
CHUNK = 1 << 22  # bytes of rows that are asked for at a time
MOST_WORD = 1 << 24  # bytes of one message of a role, without what is packed beside it
WORD, ORDER = b"w", b"o"
SLOTS = struct.Struct("<cHH")


class Link(Protocol):
    """What is used of ``links.Links``. ``received`` holds (peer, header, payload); peers are nodes' numbers."""

    endpoint: str

    @property
    def received(self) -> deque[Any]:
        """Whole messages."""

    @property
    def lost(self) -> deque[int]:
        """Peers whose link broke."""

    @property
    def joined(self) -> deque[int]:
        """Peers whose link is there."""

    @property
    def seconds(self) -> float:
        """CPU seconds of the threads that encrypt, decrypt and move bytes."""

    def figures(self, peer: int) -> Any:
        """What went between this process and ``peer``: see ``links.Figures``."""

    def forget(self, peer: int) -> None:
        """Neither let ``peer`` in nor dial it any more."""

    def allow(self, peer: int, public_key: str) -> None:
        """Let ``peer`` in."""

    def connect(self, peer: int, endpoint: str, public_key: str) -> None:
        """Open the way to ``peer``."""

    def reshape(self, peer: int, shape: Any) -> None:
        """Make the link to ``peer`` worse; None: as it was."""

    def send(self, peer: int, header: bytes, payload: Sequence[Any] = (), urgency: float = 0.0) -> None:
        """Queue a message; never waits."""

    def close(self, within: float = 0.0) -> None:
        """Let go; waits ``within`` seconds for what was queued to arrive."""


class Bootstrap(msgspec.Struct, frozen=True):
    """What an agent is started with, over its standard input: who it is, whom to trust, what to import."""

    node: int
    run: bytes  # the run's key
    public: str
    secret: str
    driver: str  # its endpoint
    driver_key: str
    bind: str
    path: list[str]
    xla: bool
    orphan_timeout: float
    start_within: float


# --- agent → driver --------------------------------------------------------------------------------------------------
class Here(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The agent of the run ``run`` listens at ``endpoint``."""

    run: bytes
    endpoint: str


class Crossed(msgspec.Struct, frozen=True, array_like=True):
    """What a node has sent to others so far, and what that cost.

    ``kinds``: bulk by the name of its message: bytes as they went, and as they would have gone without filters.
    ``nbytes``: of all messages; ``link_seconds``: CPU time of the threads that encrypt, decrypt and move them;
    ``cpu_seconds``: of all of the node's processes, those threads included.
    """

    kinds: tuple[tuple[str, int, int], ...] = ()
    nbytes: int = 0
    link_seconds: float = 0.0
    cpu_seconds: float = 0.0


class Report(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """How the node's processes are, at ``now`` (ns of its clock). Beside it: the arrays of its board, as bytes.

    ``slots`` and ``pids`` are of each process of the board; ``ends`` says how those that died did, ``halted`` who is
    stopped by a signal, ``stacks`` where those are that were asked, each by index. ``memory``: bytes that all share.
    """

    now: int
    slots: tuple[int, ...]
    pids: tuple[int, ...]
    ends: tuple[tuple[int, str], ...] = ()
    halted: tuple[int, ...] = ()
    stacks: tuple[tuple[int, str], ...] = ()
    memory: int = 0
    load_seconds: float = 0.0
    serial: int = 0  # of the last Enlist that was carried out
    crossed: Crossed = Crossed()


class Fell(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The agent ends of an error of its own: its traceback."""

    words: str


class Manned(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The answer to ``Claim``: ``names`` are (slot, name, process) of all members there ever were (0: it is gone).

    ``over``: the server has come to its end. ``place``: what was placed last, in term ``placed`` (−1: nothing was).
    ``serial``: of the last Enlist that was carried out.
    """

    run: bytes
    endpoint: str
    names: tuple[tuple[int, str, int], ...]
    over: bool
    placed: int
    place: bytes
    serial: int


class Pull(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Send me bytes ``start`` to ``stop`` of the rows ``source``."""

    source: str
    start: int
    stop: int


# --- driver → agent --------------------------------------------------------------------------------------------------
class Setup(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Beside it: all that the node must know of the run, cloudpickled."""


class Claim(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """I drive the run ``run`` from now on; when my process ``pid``, here, has ended you are without a driver again."""

    run: bytes
    pid: int


class Piece(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Beside it: what a ``Pull`` of ``source`` from ``start`` asked for; nothing where there is no such thing."""

    source: str
    start: int


class Meet(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """``node`` has the public ``key``; connect where there is an ``endpoint``, else it will.

    ``delay`` and ``bandwidth`` (0: no bound) shape the link to it.
    """

    node: int
    key: str
    endpoint: str
    delay: float = 0.0
    bandwidth: float = 0.0


class Unlink(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """``node`` is gone: another one of that number is somebody else."""

    node: int


class Part(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """For ``seconds``, nothing shall come to you or go from you: a partition, injected."""

    seconds: float


class Enlist(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Beside it: members to be started, cloudpickled."""

    serial: int


class End(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Kill the process at ``slot``."""

    slot: int
    why: str


class AskStack(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Let the process at ``slot`` say where it is."""

    slot: int


class Bye(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Nobody needs the node any more: end all that is left of it, and yourself."""


Order: TypeAlias = (
    Here | Report | Fell | Pull | Manned | Setup | Claim | Piece | Meet | Unlink | Part | Enlist | End | AskStack | Bye
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Order).decode


class Word(NamedTuple):
    """A role's message, not decoded yet, and between which slots it goes."""

    sender: int
    to: int
    body: bytes


def packed_word(sender: int, to: int, body: bytes) -> bytes:
    """The header of a role's message."""
    return SLOTS.pack(WORD, sender, to) + body


def packed_order(order: Order) -> bytes:
    """The header of an order."""
    return ORDER + _encode(order)


def word_of(header: bytes) -> Word | None:
    """The word of ``header``; None where it is something else or too long."""
    if header[:1] != WORD or not SLOTS.size < len(header) <= MOST_WORD:
        return None
    _kind, sender, to = SLOTS.unpack_from(header)
    return Word(sender, to, header[SLOTS.size :])


def order_of(header: bytes) -> Order | None:
    """The order of ``header``; None where it is none, or not as it should be.

    >>> order_of(packed_order(Pull("file 0", 0, 10)))
    Pull(source='file 0', start=0, stop=10)
    >>> order_of(b"o garbage") is None
    True
    """
    if header[:1] != ORDER:
        return None
    try:
        found: Order = _decode(header[1:])
        return found
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
