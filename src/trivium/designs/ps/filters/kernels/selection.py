"""Which elements are sent: the k of largest magnitude, and those that an L1 penalty may move."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.designs.ps.filters.kernels.floats import as_bits, format_of
from trivium.program.optimizers.compiled import elementwise, frozen

__all__ = ["add_into", "largest", "movable"]

Flat = NDArray[Any]
Positions = NDArray[np.int64]

BLOCK = 1024
BIN_BITS = 12  # of a histogram of magnitudes: the exponent and the first bits after it


@elementwise
def _add(left: Flat, x: Flat) -> None:
    for i in range(left.size):
        left[i] += x[i]


@elementwise
def _histogram(bits: Flat, magnitude: int, shift: int, counts: Positions) -> None:
    for i in range(bits.size):
        counts[(bits[i] & magnitude) >> shift] += 1


@lru_cache(maxsize=4)
def _above(dtype: np.dtype[Any]) -> Callable[[Flat, int, Positions], int]:
    """The loop for one float type, its layout literal in it: else the comparisons do not become vectors."""
    form = format_of(dtype)
    magnitude, whole = form.magnitude, form.bits

    @elementwise
    def above(bits: Flat, edge: int, found: Positions) -> int:
        """Positions whose magnitude is ``edge`` or more, in order; how many, or −1 where ``found`` may lack room."""
        least, count = whole(edge), 0
        flags = np.zeros(BLOCK, np.uint8)
        eights = flags.view(np.uint64)
        for lo in range(0, bits.size, BLOCK):
            block = bits[lo : lo + BLOCK]
            if count + block.size > found.size:
                return -1
            flags[block.size :] = 0
            flag = flags[: block.size]
            for i in range(flag.size):
                flag[i] = np.uint8(whole(block[i] & magnitude) >= least)
            for j in range(eights.size):
                if eights[j]:
                    for i in range(8 * j, 8 * j + 8):
                        if flags[i]:
                            found[count] = lo + i
                            count += 1
        return count

    return above


@elementwise
def _settle(found: Positions, size: Flat, least: int, ties: int) -> int:
    """Keep, in place, those of a size above ``least`` and the first ``ties`` that are equal to it."""
    count = 0
    for i in range(found.size):
        equal = size[i] == least
        if size[i] > least or (equal and ties > 0):
            found[count] = found[i]
            count += 1
            ties -= equal
    return count


@elementwise
def _movable(x: Flat, w: Flat, moved: NDArray[np.uint8], limit: Flat, keep: NDArray[np.uint8]) -> None:
    most = limit[0]
    for i in range(keep.size):
        moved[i] |= np.uint8(w[i] != 0)
    for i in range(keep.size):
        keep[i] = moved[i] | np.uint8(not abs(x[i]) <= most)


def add_into(left: Flat, x: Flat) -> None:
    """``left += x``, both flat and of one type."""
    _add(left, frozen(x))


def _candidates(bits: Flat, k: int, dtype: np.dtype[Any]) -> Positions:
    """The positions of at least ``k`` of the largest magnitudes (fewer only where there are fewer that are not 0)."""
    form = format_of(dtype)
    shift = bits.itemsize * 8 - 1 - BIN_BITS
    counts = np.zeros(1 << BIN_BITS, np.int64)
    _histogram(bits, form.magnitude, shift, counts)
    reach = counts[::-1].cumsum()[::-1]  # how many lie in each bin or above
    edge = int(np.flatnonzero(reach >= min(k, bits.size))[-1])
    found = np.empty(int(reach[edge]) + BLOCK, np.int64)
    return found[: _above(dtype)(bits, max(edge << shift, 1), found)]


def largest(x: Flat, k: int, guess: int = 0) -> tuple[Positions, int]:
    """The ascending positions of the ``k`` largest magnitudes of flat ``x`` (of equal ones, the first), zeros left out.

    ``guess``: a magnitude's bits below which none is expected among them, from the last time (0: none); the answer does
    not depend on it. Also returned: the guess for the next time. NaN counts as larger than any number.
    """
    bits = frozen(as_bits(x))
    form = format_of(x.dtype)
    found = np.empty(max(8 * k, x.size // 32) + BLOCK, np.int64)
    count = _above(x.dtype)(bits, guess, found) if guess > 0 else -1
    found = found[:count] if count >= k else _candidates(bits, k, x.dtype)
    if found.size <= k:
        return found, 0
    size = bits[found] & form.magnitude
    # The next guess lets twice as many through: a few too many cost little, one too few a second pass.
    ranks = found.size - k, max(0, found.size - 2 * k)
    ordered = np.partition(size, ranks)
    least = int(ordered[ranks[0]])
    ties = k - int(np.count_nonzero(ordered[ranks[0] :] > least))
    step = 0 if found.size > 2 * k else 1 << (form.mantissa - 5)
    return found[: _settle(found, size, least, ties)], max(int(ordered[ranks[1]]) - step, 1)


def movable(x: Flat, w: Flat, moved: NDArray[np.uint8], ranges: NDArray[np.int64], limit: float) -> NDArray[np.uint8]:
    """1 for each element that must be sent: outside ``ranges``, not small, or one that ``w`` was not 0 at, ever.

    Small: ``|x| ≤ limit``. ``moved`` (n,), uint8, remembers where ``w`` was not 0.
    """
    keep = np.ones(x.size, np.uint8)
    most = np.array([limit], x.dtype)
    for lo, hi in ranges.tolist():
        _movable(frozen(x[lo:hi]), frozen(w[lo:hi]), moved[lo:hi], frozen(most), keep[lo:hi])
    return keep
