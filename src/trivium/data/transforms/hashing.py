"""Any number of features in a fixed number of buckets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.data.transforms.base import Matrix, Transform
from trivium.data.transforms.columns import as_floats, width_of
from trivium.errors import DataError

__all__ = ["Hash", "mixed"]

NUMERIC = frozenset({"log1p", "normalize", "standardize", "tfidf"})
MOST = 2**31 - 2
_DEFAULT = 2**20
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, eq=False)
class Hash(Transform):
    """The hashing trick: feature j is added to, or taken from, bucket h(j), as one bit of h says.

    Sums of inner products are kept on average, since the signs cancel what collides. Rows come out sparse, with
    ``buckets`` features. Weinberger, Dasgupta, Langford, Smola, Attenberg, *Feature hashing for large scale multitask
    learning*, 2009. Categories and text are hashed as they are encoded, by their values.

    >>> rows = Hash(8).apply(np.array([[1.0, 2.0, 0.0]]))
    >>> rows.width, np.sort(np.abs(rows.values))
    (8, array([1., 2.]))
    """

    never_after: ClassVar[frozenset[str]] = NUMERIC
    buckets: int = _DEFAULT

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= MOST:
            raise DataError(f"hash:{self.buckets}: expected 1 to {MOST} buckets, as hash:2^20")

    @property
    def name(self) -> str:
        """``hash:BUCKETS``."""
        return f"hash:{self.buckets}"

    def consumed(self, kinds: Collection[str]) -> bool:
        """Where there are categories or text, the encoding hashes them (and leaves numbers as they are)."""
        return "category" in kinds or "text" in kinds

    def places(self, keys: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """For each 64-bit integer of ``keys``: its bucket, and 1 or -1."""
        hashed = mixed(keys)
        low = hashed & ~_SIGN
        return (low % np.uint64(self.buckets)).astype(np.int32), np.where(hashed & _SIGN, -1, 1).astype(np.float32)

    def apply(self, x: Matrix) -> Csr:
        """CSR with ``buckets`` columns; what falls together in a row is summed."""
        from scipy import sparse

        x = as_floats(x)
        given = (x.values, x.indices, x.indptr) if isinstance(x, Csr) else x
        rows: Any = sparse.csr_array(given, (len(x), width_of(x)))
        bucket, sign = self.places(np.arange(rows.shape[1], dtype=np.uint64))
        signed = rows.data * sign[rows.indices]
        hashed = sparse.csr_array((signed, bucket[rows.indices], rows.indptr.copy()), (len(x), self.buckets))
        hashed.sum_duplicates()
        indptr, indices = np.asarray(hashed.indptr, np.int64), np.asarray(hashed.indices, np.int32)
        return Csr(indptr, indices, np.asarray(hashed.data), self.buckets)

    def width(self, features: int) -> int:  # noqa: ARG002 - that is the point of it
        """``buckets``, whatever goes in."""
        return self.buckets


def mixed(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """64-bit ``keys``, each bit of the result depending on each of theirs: the finalizer of splitmix64.

    Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014 (constants: Stafford's variant 13).

    >>> hex(int(mixed(np.array([1], np.uint64))[0]))
    '0xe220a8397b1dcdaf'
    """
    z = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)
