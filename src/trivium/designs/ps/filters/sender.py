"""The sending side of a chain: a residual, caches, and figures. One for each stream of deltas that are summed up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.base import Buffer, Context, Figures, Objective
from trivium.designs.ps.filters.message import DENSE, Header, name_positions, pack
from trivium.designs.ps.filters.picking import Picker
from trivium.designs.ps.filters.receiver import Receiver
from trivium.designs.ps.filters.rows import RowSender
from trivium.errors import ProtocolError
from trivium.program.optimizers.compiled import frozen

if TYPE_CHECKING:
    from trivium.designs.ps.filters.chain import Chain

__all__ = ["Sender"]

Flat = NDArray[Any]
Keys = NDArray[np.uint64]


class Sender:
    """Encodes dense deltas of ``size`` elements, and rows of one table; each has its own residual.

    ``figures`` counts what has been sent. Not safe for two threads at once.
    """

    def __init__(self, chain: Chain, size: int, dtype: np.dtype[Any], *, hold: bool = False) -> None:
        self.chain, self.size, self.dtype, self.hold = chain, size, dtype, hold
        self.figures = Figures()
        self._picker = Picker(chain.topk, chain.coder)
        self._left = np.zeros(size, dtype) if chain.remembers or hold else None
        self._moved = np.zeros(size, np.uint8) if chain.kkt is not None else None
        self._last: list[Buffer] | None = None
        self._applied: Flat | None = None
        self._rows = RowSender(chain, dtype, self.figures)

    # --- dense -------------------------------------------------------------------------------------------------------
    def encode(self, delta: Flat, context: Context | None = None) -> list[Buffer]:
        """The buffers for ``delta``, flat (size,), for ``Receiver.decode``. Once a delta: the residual moves on."""
        if delta.shape != (self.size,) or delta.dtype != self.dtype:
            raise ProtocolError(
                f"delta has shape {delta.shape} of {delta.dtype}, this sender is for ({self.size},) of {self.dtype}"
            )
        x = np.ascontiguousarray(delta)[:, None]
        left = None if self._left is None else self._left[:, None]
        picked = self._picker.pick(x, left, self._keep(delta, context), self._go(context))
        form, numbers, named = name_positions(picked.positions, self.size)
        coder = self._picker.coder.code
        header = Header(self.size, 1, picked.sent, form, numbers, DENSE, None, coder, self.dtype.itemsize)
        self._last, self._applied = [pack(header), named, picked.scales, picked.codes], None
        self.figures.add([delta], self._last, picked.sent)
        return list(self._last)

    @property
    def applied(self) -> Flat:
        """What receivers decode from the last ``encode``, bit for bit; read-only. Decoded when first asked for."""
        if self._last is None:
            raise ProtocolError("nothing was encoded yet, so nothing is applied")
        if self._applied is None:
            self._applied = np.empty(self.size, self.dtype)
            Receiver(self.chain, self.size, self.dtype).decode(self._last, self._applied)
            self._applied.flags.writeable = False
        return self._applied

    @property
    def residual(self) -> Flat:
        """A copy of what was kept for later (zeros for chains that keep nothing)."""
        return np.zeros(self.size, self.dtype) if self._left is None else self._left.copy()

    @property
    def held(self) -> Flat:
        """The residual itself, read-only, no copy: for ``relative_changes``. Empty for chains that keep nothing."""
        return frozen(np.empty(0, self.dtype) if self._left is None else self._left)

    def take_back(self) -> Flat:
        """The residual, which is forgotten here: for whoever goes on in this sender's place."""
        residual = self.residual
        if self._left is not None:
            self._left[:] = 0
        return residual

    def remember(self, residual: Flat) -> None:
        """Add what another sender took back, or a checkpoint held; ProtocolError for a chain that keeps nothing."""
        if self._left is None:
            raise ProtocolError(f"filters {str(self.chain)!r} keep no residual; add it to the next delta")
        self._left += residual

    def _keep(self, delta: Flat, context: Context | None) -> NDArray[np.bool_] | None:
        if self.chain.kkt is None:
            return None
        assert self._moved is not None
        keep = self.chain.kkt.keep(np.ascontiguousarray(delta), self._moved, objective_of(context))
        return None if keep is None else keep.view(np.bool_)

    def _go(self, context: Context | None) -> NDArray[np.int64] | None:
        if context is None or context.chosen is None:
            return None
        if not self.hold:
            raise ProtocolError("this sender cannot hold elements back; make it with hold=True")
        spans = [np.arange(lo, hi) for lo, hi in context.chosen.tolist()]
        return np.concatenate(spans) if spans else np.empty(0, np.int64)

    # --- rows --------------------------------------------------------------------------------------------------------
    def encode_rows(self, keys: Keys, rows: Flat, context: Context | None = None) -> list[Buffer]:
        """The buffers for ``rows``, (n, width), of ascending uint64 ``keys``, for ``Receiver.decode_rows``."""
        objective = partial(objective_of, context)
        return self._rows.encode(keys, rows, objective)

    @property
    def applied_rows(self) -> tuple[Keys, Flat]:
        """What receivers decode from the last ``encode_rows``, bit for bit."""
        return self._rows.applied

    def forget(self, signature: int) -> None:
        """A receiver lacks the keys of ``signature``: the next time they go in full."""
        self._rows.forget(signature)

    def spelled_out(self, buffers: list[Buffer]) -> list[Buffer]:
        """The same message with its keys in full, for a receiver that raised ``UnknownKeys``."""
        return self._rows.spelled_out(buffers)

    def take_back_rows(self) -> tuple[Keys, Flat]:
        """Ascending keys and rows of what was kept for later, which is forgotten here; rows of zeros are left out."""
        return self._rows.take_back()


def objective_of(context: Context | None) -> Objective:
    """What kkt needs; ProtocolError where it is missing."""
    if context is None or context.objective is None:
        raise ProtocolError("kkt needs Context(objective=Objective(w, weight, l1, clock)) with each delta")
    return context.objective
