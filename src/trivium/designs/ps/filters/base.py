"""The contract of filters: what goes between nodes, written in fewer bytes.

What is sent is a **delta**: a flat dense array (a shard's slice of Σ Δ), or rows of a table (sorted keys and an array
of (keys, width)). A chain of filters passes it through four stages, each at most once and in this order:

===========  =============  ==========================================================================================
stage        filters        what it does
===========  =============  ==========================================================================================
keys         key-cache      sorted keys that were sent before go as a signature; dense deltas have none: nothing is done
condition    kkt            leaves out what an L1 penalty holds at zero; nothing is kept of it
selection    topk:F         leaves out what is small; it is kept, and sent when it has grown (error feedback)
values       float16, int8  writes values in two bytes or one; what int8 misses is kept (error feedback)
===========  =============  ==========================================================================================

Rules
-----
* What is left out reads as zero. Decoding is a function of the bytes alone: each receiver gets the same bits, and so
  does the sender from ``applied``.
* **Encode once, send as often as needed.** Encoding moves the residual on; a message sent again is the same buffers.
* Buffers are the sender's no more once returned and never change; the delta is not kept.
* With error feedback, Σ decoded + residual = Σ deltas, up to float rounding, but for what kkt left out and for blocks
  that are not finite. Those read as not finite, so that a diverged run shows, and leave no residual.

Error feedback is Seide, Fu, Droppo, Li and Yu, *1-bit stochastic gradient descent and its application to data-parallel
distributed training of speech DNNs* (Interspeech 2014); that it keeps SGD's rate, and that biased coders without it may
not converge at all: Stich, Cordonnier and Jaggi, *Sparsified SGD with memory* (NeurIPS 2018), Karimireddy, Rebjock,
Stich and Jaggi, *Error feedback fixes SignSGD and other gradient compression schemes* (ICML 2019). Not solved here:
entropy coding of codes; stochastic rounding, whose bits would need a random stream at each sender.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.errors import PlanError, ProtocolError

__all__ = [
    "CONDITION",
    "KEYS",
    "SELECTION",
    "STAGES",
    "VALUES",
    "Buffer",
    "Coder",
    "Context",
    "Exact",
    "Figures",
    "Filter",
    "Objective",
    "UnknownKeys",
    "bytes_of",
    "no_number",
]

Flat = NDArray[Any]
Buffer = bytes | bytearray | memoryview | Flat

KEYS, CONDITION, SELECTION, VALUES = range(4)  # stages
STAGES = ("keys", "condition", "selection", "values")


class UnknownKeys(ProtocolError):  # noqa: N818 - what the receiver says, not that something broke
    """Keys came as a signature that this receiver has not seen, or has let go.

    The sender's answer: ``forget(signature)``, and the same message again as ``spelled_out(buffers)``.
    """

    def __init__(self, signature: int) -> None:
        super().__init__(f"keys came as signature {signature:016x}, which is not known here; ask for them in full")
        self.signature = signature

    def __reduce__(self) -> tuple[type[UnknownKeys], tuple[int]]:
        return type(self), (self.signature,)


@dataclass(frozen=True)
class Objective:
    """What kkt must know of a delta: the point that it was computed at, and the objective there.

    ``w``          the parameters that the delta was computed at: (n,), or (keys, width) with rows;
    ``weight``     Σ of row weights in the delta, so that delta / weight is its own mean gradient of the loss;
    ``l1``         the factor of ‖w‖₁ in the objective;
    ``clock``      the same at all senders for deltas that are summed: each ``Kkt.EVERY``-th goes whole;
    ``penalised``  (k, 2) ranges of elements under the penalty, as ``Layout.penalised``; None: all are.
    """

    w: Flat
    weight: float
    l1: float
    clock: int
    penalised: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Context:
    """What a sender is told beside a delta.

    ``objective``: for kkt. ``chosen``: (k, 2) ascending ranges of elements that go now, the others are kept for later
    (see ``budget``); None: all go. Only for a dense sender that holds.
    """

    objective: Objective | None = None
    chosen: NDArray[np.int64] | None = None


def bytes_of(buffer: Buffer) -> int:
    """Its length in bytes."""
    return buffer.nbytes if isinstance(buffer, np.ndarray | memoryview) else len(buffer)


@dataclass
class Figures:
    """What a sender has sent so far. ``bytes_in``: deltas and keys as they came; ``bytes_out``: all buffers;
    ``elements_in``, ``elements_out``: values that came, and those of them that were written.
    """

    messages: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    elements_in: int = 0
    elements_out: int = 0

    def add(self, given: Sequence[Flat], buffers: Sequence[Buffer], elements_out: int) -> None:
        """Count one message: ``given`` ends with the values."""
        self.messages += 1
        self.bytes_in += sum(array.nbytes for array in given)
        self.bytes_out += sum(bytes_of(buffer) for buffer in buffers)
        self.elements_in += given[-1].size
        self.elements_out += elements_out


class Filter(abc.ABC):
    """One filter's settings. Subclasses are frozen dataclasses of hyper-parameters and are final."""

    name: ClassVar[str]
    stage: ClassVar[int]
    usage: ClassVar[str]  # how it is written
    remembers: ClassVar[bool] = False  # what it loses is kept for the next time
    lossless: ClassVar[bool] = False  # it gives the same bits back

    @classmethod
    @abc.abstractmethod
    def parse(cls, number: str | None) -> Filter:
        """From what follows the colon (None: there is none); PlanError where it is not what it should be."""

    def __str__(self) -> str:
        return self.name


def no_number(name: str, number: str | None) -> None:
    """Raise PlanError where a filter that takes no number got one."""
    if number is not None:
        raise PlanError(f"filter '{name}:{number}': {name} takes no number; write {name!r}")


class Coder(abc.ABC):
    """How flat values are written: ``scales``, one for each block, and ``codes``, one for each value. No state."""

    code: ClassVar[int]  # its number in the header
    remembers: ClassVar[bool]

    @abc.abstractmethod
    def layout(self, size: int, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int, np.dtype[Any]]:
        """Type and number of scales, and type of codes, for ``size`` values of ``dtype``."""

    @abc.abstractmethod
    def encode(self, values: Flat, left: Flat | None) -> tuple[Flat, Flat]:
        """Scales and codes of ``values``, or of ``values + left``, which is left with what they miss of it."""

    @abc.abstractmethod
    def decode(self, scales: Flat, codes: Flat, out: Flat) -> None:
        """Write the values into ``out``; ValueError where ``scales`` are not of this coder."""


class Exact(Coder):
    """Values as they are."""

    code = 0
    remembers = False

    def layout(self, size: int, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int, np.dtype[Any]]:  # noqa: ARG002
        """No scales."""
        return dtype, 0, dtype

    def encode(self, values: Flat, left: Flat | None) -> tuple[Flat, Flat]:
        """A copy; nothing is missed."""
        codes = values.copy()
        if left is not None:
            codes += left
            left[:] = 0
        return np.empty(0, values.dtype), codes

    def decode(self, scales: Flat, codes: Flat, out: Flat) -> None:  # noqa: ARG002
        """Copy."""
        out[:] = codes
