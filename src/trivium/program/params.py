"""Where parameters lie: named dense slices in one flat buffer, cut into shards at block boundaries.

Rules
-----
* All slices of one layout have one element type (float32, or float64 on request).
* Each slice begins on a 64-byte boundary, so that XLA and vector kernels may alias it; the gaps are always zero.
* Sums of scalars (norms, dot products) go over fixed blocks of ``BLOCK`` elements. Shards are cut only at block
  boundaries, so the bits of such a sum never depend on where the shards are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIGN", "BLOCK", "Layout", "Shard", "Slice"]

ALIGN = 64
BLOCK = 4096


@dataclass(frozen=True)
class Slice:
    """One named array inside the flat buffer; ``start`` and ``size`` in elements.

    ``penalised`` says whether L1 and L2 apply to it (an intercept is free).
    """

    name: str
    shape: tuple[int, ...]
    start: int
    penalised: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """One past the last element."""
        return self.start + self.size


@dataclass(frozen=True)
class Shard:
    """Elements ``start`` to ``stop`` of a flat buffer; ``start`` is a multiple of ``BLOCK``."""

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.stop - self.start

    @property
    def blocks(self) -> range:
        """Indices of the blocks that lie in this shard."""
        return range(self.start // BLOCK, -(-self.stop // BLOCK))


@dataclass(frozen=True)
class Layout:
    """Names, shapes and places of a set of dense slices.

    >>> layout = Layout.of({"w": (3, 2), "b": (2,)}, dtype="float32", free=("b",))
    >>> [(s.name, s.start, s.size) for s in layout.slices]
    [('w', 0, 6), ('b', 16, 2)]
    >>> layout.size
    32
    """

    slices: tuple[Slice, ...]
    dtype: str
    size: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32", free: tuple[str, ...] = ()) -> Layout:
        """Lay out ``shapes`` in order; names in ``free`` are not penalised."""
        step = ALIGN // np.dtype(dtype).itemsize
        slices, at = [], 0
        for name, shape in shapes.items():
            one = Slice(name, tuple(shape), at, name not in free)
            slices.append(one)
            at += -(-one.size // step) * step
        return cls(tuple(slices), dtype, max(at, step))

    @property
    def nbytes(self) -> int:
        """Bytes of one flat buffer."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def blocks(self) -> int:
        """Number of blocks, the last one possibly short."""
        return -(-self.size // BLOCK)

    def empty(self) -> NDArray[np.floating]:
        """A zeroed flat buffer on a 64-byte boundary."""
        raw = np.zeros(self.nbytes + ALIGN, np.uint8)
        skip = -raw.ctypes.data % ALIGN
        return raw[skip : skip + self.nbytes].view(self.dtype)

    def views(self, flat: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Each slice as a view of ``flat``, in its own shape."""
        return {s.name: flat[s.start : s.stop].reshape(s.shape) for s in self.slices}

    def pack(self, arrays: Mapping[str, NDArray[np.floating]]) -> NDArray[np.floating]:
        """A new flat buffer holding ``arrays`` (all names of the layout, in any order)."""
        flat = self.empty()
        for s in self.slices:
            flat[s.start : s.stop] = np.asarray(arrays[s.name], self.dtype).reshape(-1)
        return flat

    def penalised(self, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Ranges under L1/L2 inside ``[start, stop)``, relative to ``start``; shape (k, 2)."""
        stop = self.size if stop is None else stop
        cut = [
            (max(s.start, start) - start, min(s.stop, stop) - start)
            for s in self.slices
            if s.penalised and s.start < stop and s.stop > start
        ]
        return np.array(cut, np.int64).reshape(-1, 2)

    def shards(self, count: int) -> tuple[Shard, ...]:
        """Cut into at most ``count`` shards of whole blocks, as even as blocks allow."""
        count = max(1, min(count, self.blocks))
        edges = [self.blocks * i // count * BLOCK for i in range(count)] + [self.size]
        return tuple(Shard(i, edges[i], edges[i + 1]) for i in range(count))
