"""64-bit keys, compiled: their hash, their order, equal ones found and summed, and what new rows begin with.

Rules
-----
* The hash is the finalizer of splitmix64 (``data.transforms.hashing.mixed`` has the same for arrays). Shards are ranges
  of it, so its upper bits say the shard; places within a shard come from its lower bits.
* Keys are ordered as signed integers. Sums of equal keys go in the order in which they were handed in.
* A random number is a function of (seed, key, column): no stream, no state, so that whoever asks gets the same.

Sources: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014 (the hash; constants: Stafford's
variant 13); Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011 (numbers by counter); Knuth, *The art
of computer programming* 3, 5.2.5 (radix sort); Box and Muller, 1958.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NORMAL",
    "UNIFORM",
    "ZEROS",
    "begin_row",
    "begin_rows",
    "compiled",
    "extremes",
    "gather_csr",
    "group",
    "hash_of",
    "increasing",
    "owners",
    "sort_order",
    "sum_rows",
    "unique_sorted",
]

F = TypeVar("F", bound=Callable[..., Any])
Flat = NDArray[Any]
Keys = NDArray[np.int64]

ZEROS, NORMAL, UNIFORM = 0, 1, 2
FEW = 48  # keys that are sorted by insertion
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE, _TWO = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SIGN = np.uint64(1 << 63)
_UNIT = 2.0**-53
_NONE = np.int32(-1)


def compiled(function: F) -> F:
    """Compile without the interpreter's lock; kept on disk."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


@compiled
def scrambled(z: Any) -> Any:
    """A bijection of 64 bits in which each bit depends on all."""
    z = (z ^ (z >> np.uint64(30))) * _ONE
    z = (z ^ (z >> np.uint64(27))) * _TWO
    return z ^ (z >> np.uint64(31))


@compiled
def hash_of(key: int) -> Any:
    """The 64-bit hash of ``key``, uint64."""
    return scrambled(np.uint64(key) * _GOLDEN)


@compiled
def _unit(base: Any, column: int) -> float:
    """Uniform in [0, 1), of 53 bits."""
    return float(scrambled(base + np.uint64(column + 1) * _GOLDEN) >> np.uint64(11)) * _UNIT


@compiled
def begin_row(key: int, seed: int, kind: int, scale: float, lead: int, width: int, out: Flat, to: int) -> None:
    """Write what the row of ``key`` begins with to ``out[to : to + width]``: zeros in the first ``lead`` columns."""
    if kind == ZEROS:
        for j in range(width):
            out[to + j] = 0
        return
    base = scrambled(np.uint64(key) ^ scrambled(np.uint64(seed) + _GOLDEN))
    for j in range(width):
        if j < lead:
            out[to + j] = 0
        elif kind == UNIFORM:
            out[to + j] = (2.0 * _unit(base, j) - 1.0) * scale
        else:
            pair = j & ~1
            radius = scale * math.sqrt(-2.0 * math.log(_unit(base, pair) + _UNIT))
            angle = 2.0 * math.pi * _unit(base, pair + 1)
            out[to + j] = radius * (math.cos(angle) if j == pair else math.sin(angle))


@compiled
def begin_rows(keys: Flat, seed: int, kind: int, scale: float, lead: int, out: Flat) -> None:
    """``begin_row`` for each key, to ``out`` (keys, width)."""
    for i in range(len(keys)):
        begin_row(keys[i], seed, kind, scale, lead, out.shape[1], out[i], 0)


@compiled
def increasing(keys: Flat) -> bool:
    """Whether each key is above the one before it: sorted, and none twice."""
    for i in range(1, len(keys)):  # noqa: SIM110 - all() over a generator is not compiled
        if keys[i] <= keys[i - 1]:
            return False
    return True


@compiled
def extremes(keys: Flat) -> tuple[int, int]:
    """The least and the greatest of one key or more."""
    least = most = keys[0]
    for i in range(1, len(keys)):
        least, most = min(least, keys[i]), max(most, keys[i])
    return least, most


@compiled
def _insertion(keys: Flat, order: NDArray[np.int32]) -> None:
    for i in range(1, len(keys)):
        at, j = order[i], i
        while j > 0 and keys[order[j - 1]] > keys[at]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = at


@compiled
def _digits(keys: Flat) -> NDArray[np.int64]:
    """How often each byte occurs at each of the eight places; the sign is turned so that unsigned order is right."""
    counts = np.zeros((8, 256), np.int64)
    for i in range(len(keys)):
        u = np.uint64(keys[i]) ^ _SIGN
        for d in range(8):
            counts[d, (u >> np.uint64(8 * d)) & np.uint64(255)] += 1
    return counts


@compiled
def sort_order(keys: Flat) -> NDArray[np.int32]:
    """Positions of ``keys`` in ascending order, equal ones as they came: radix sort, without bytes that all share."""
    n = len(keys)
    order = np.arange(n).astype(np.int32)
    if n <= FEW:
        _insertion(keys, order)
        return order
    counts, other = _digits(keys), np.empty(n, np.int32)
    first = np.uint64(keys[0]) ^ _SIGN
    for d in range(8):
        shift, count = np.uint64(8 * d), counts[d]
        if count[(first >> shift) & np.uint64(255)] == n:
            continue
        at = 0
        for digit in range(256):
            at, count[digit] = at + count[digit], at
        for i in range(n):
            byte = ((np.uint64(keys[order[i]]) ^ _SIGN) >> shift) & np.uint64(255)
            other[count[byte]] = order[i]
            count[byte] += 1
        order, other = other, order
    return order


@compiled
def _distinct(keys: Flat, found: Keys, inverse: NDArray[np.int32]) -> int:
    """Number the distinct keys as they are met; each key's number goes to ``inverse``."""
    size = 8
    while size < 2 * len(keys):
        size *= 2
    table, mask, count = np.full(size, _NONE), np.uint64(size - 1), 0
    for i in range(len(keys)):
        key = keys[i]
        at = hash_of(key) & mask
        while table[at] >= 0 and found[table[at]] != key:
            at = (at + np.uint64(1)) & mask
        if table[at] < 0:
            table[at] = count
            found[count] = key
            count += 1
        inverse[i] = table[at]
    return count


@compiled
def unique_sorted(keys: Flat) -> tuple[Keys, NDArray[np.int32]]:
    """The distinct keys in ascending order, and where each key is among them."""
    n = len(keys)
    found, inverse = np.empty(n, np.int64), np.empty(n, np.int32)
    count = _distinct(keys, found, inverse)
    order = sort_order(found[:count])
    unique, rank = np.empty(count, np.int64), np.empty(count, np.int32)
    for i in range(count):
        unique[i], rank[order[i]] = found[order[i]], i
    for i in range(n):
        inverse[i] = rank[inverse[i]]
    return unique, inverse


@compiled
def sum_rows(inverse: NDArray[np.int32], rows: Flat, count: int) -> Flat:
    """``count`` sums of the rows that have the same number, each in the order of the rows."""
    sums, begun = np.empty((count, rows.shape[1]), rows.dtype), np.zeros(count, np.bool_)
    for i in range(len(inverse)):
        into, row = sums[inverse[i]], rows[i]
        if begun[inverse[i]]:
            for j in range(len(row)):
                into[j] += row[j]
        else:
            into[:] = row  # not 0 + row, which would lose the sign of -0
            begun[inverse[i]] = True
    return sums


@compiled
def owners(keys: Flat, starts: NDArray[np.uint64]) -> NDArray[np.int32]:
    """For each key the last of ``starts`` (ascending, the first is 0) that its hash reaches."""
    out = np.empty(len(keys), np.int32)
    for i in range(len(keys)):
        h, low, high = hash_of(keys[i]), 0, len(starts)
        while high - low > 1:
            middle = (low + high) // 2
            if starts[middle] <= h:
                low = middle
            else:
                high = middle
        out[i] = low
    return out


@compiled
def group(owner: NDArray[np.int32], groups: int) -> tuple[Keys, Keys]:
    """Positions group by group, in each as they came; and where each group begins, (groups + 1,)."""
    ends = np.zeros(groups + 1, np.int64)
    for i in range(len(owner)):
        ends[owner[i] + 1] += 1
    for k in range(groups):
        ends[k + 1] += ends[k]
    at, order = ends[:-1].copy(), np.empty(len(owner), np.int64)
    for i in range(len(owner)):
        order[at[owner[i]]] = i
        at[owner[i]] += 1
    return order, ends


@compiled
def gather_csr(
    indptr: Flat, indices: Flat, values: Flat, start: int, index: NDArray[np.int64] | None, rows: int
) -> tuple[Keys, Keys, Flat]:
    """``rows`` rows of a CSR matrix, one after the other: where each begins, their columns, their values."""
    ends = np.zeros(rows + 1, np.int64)
    for i in range(rows):
        row = start + i if index is None else index[i]
        ends[i + 1] = ends[i] + indptr[row + 1] - indptr[row]
    keys, picked = np.empty(ends[rows], np.int64), np.empty(ends[rows], values.dtype)
    for i in range(rows):
        row = start + i if index is None else index[i]
        lo, to = indptr[row], ends[i]
        for q in range(ends[i + 1] - to):
            keys[to + q], picked[to + q] = indices[lo + q], values[lo + q]
    return ends, keys, picked
