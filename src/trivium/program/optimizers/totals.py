"""From partial sums of blocks to totals, in an order that no cut into shards can change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["total"]


def total(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the rows of all blocks, pairwise; shape (blocks, k) to (k,).

    ``rows`` holds the blocks of *all* shards in the order of the parameters. Neighbours are added, then neighbours of
    those sums, an odd last one is carried: the tree follows from the number of blocks alone. The error grows with
    log(blocks), not with blocks (Higham, *The accuracy of floating point summation*, 1993).

    >>> total(np.array([[1.0], [2.0], [4.0]]))
    array([7.])
    """
    if len(rows) == 0:
        return np.zeros(rows.shape[1])
    level = np.array(rows, np.float64)
    while len(level) > 1:
        even = len(level) & ~1
        paired = level[0:even:2] + level[1:even:2]
        level = np.concatenate((paired, level[even:])) if even < len(level) else paired
    summed: NDArray[np.float64] = level[0]
    return summed
