"""The L-BFGS direction from dot products alone (Chen, Wang, Zhou, *Large-scale L-BFGS using MapReduce*, NIPS 2014).

The direction is a combination of 2m + 1 vectors: steps s_i, changes of the gradient y_i, and the (pseudo-)gradient p.
The two-loop recursion only needs their dot products, and of these none between two steps. So no vector moves: each
shard sums its share of the new rows of the table, the totals are the same everywhere, and so are the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers.compiled import elementwise

__all__ = ["Gram", "coefficients"]

Floats = NDArray[np.float64]


@dataclass
class Gram:
    """Dot products of the history: ``rows`` pairs of vectors, by physical row; ``size`` numbers in all.

    ``sy[i, j]`` = s_i'y_j, ``yy[i, j]`` = y_i'y_j, ``sp[i]`` = s_i'p, ``yp[i]`` = y_i'p, ``pp[0]`` = p'p. The arrays
    are views of ``flat``.
    """

    flat: Floats
    rows: int

    @staticmethod
    def size(rows: int) -> int:
        """Numbers for ``rows`` pairs."""
        return 2 * rows * rows + 2 * rows + 1

    @property
    def sy(self) -> Floats:
        """s_i'y_j, (rows, rows)."""
        return self.flat[: self.rows**2].reshape(self.rows, self.rows)

    @property
    def yy(self) -> Floats:
        """y_i'y_j, (rows, rows)."""
        return self.flat[self.rows**2 : 2 * self.rows**2].reshape(self.rows, self.rows)

    @property
    def sp(self) -> Floats:
        """s_i'p, (rows,)."""
        return self.flat[2 * self.rows**2 :][: self.rows]

    @property
    def yp(self) -> Floats:
        """y_i'p, (rows,)."""
        return self.flat[2 * self.rows**2 + self.rows :][: self.rows]

    @property
    def pp(self) -> Floats:
        """p'p, (1,)."""
        return self.flat[-1:]


def coefficients(gram: Gram, live: NDArray[np.int64]) -> tuple[Floats, float]:
    """What to multiply s, y and p with to get the direction d = −H·p, and the slope p'd.

    ``live`` are the physical rows of the history, oldest first. Returns (factors of the k s, the k y
    and p, shape (2k + 1,), s and y in the order of ``live``; slope).
    """
    weights = np.zeros(2 * len(live) + 1)
    slope = _two_loops(gram.sy, gram.yy, gram.sp, gram.yp, float(gram.pp[0]), live, weights)
    return weights, slope


@elementwise
def _two_loops(
    sy: Floats, yy: Floats, sp: Floats, yp: Floats, pp: float, live: NDArray[np.int64], weights: Floats
) -> float:
    m = len(live)
    of_s, of_y = weights[:m], weights[m : 2 * m]
    of_p = -1.0
    alpha = np.zeros(m)
    for i in range(m - 1, -1, -1):
        r = live[i]
        dot = of_p * sp[r]
        for j in range(i + 1, m):
            dot += of_y[j] * sy[r, live[j]]
        alpha[i] = dot / sy[r, r]
        of_y[i] = -alpha[i]
    if m:
        newest = live[m - 1]
        gamma = sy[newest, newest] / yy[newest, newest]
        of_p *= gamma
        for i in range(m):
            of_y[i] *= gamma
    for i in range(m):
        r = live[i]
        dot = of_p * yp[r]
        for j in range(m):
            dot += of_s[j] * sy[live[j], r] + of_y[j] * yy[live[j], r]
        of_s[i] += alpha[i] - dot / sy[r, r]
    weights[2 * m] = of_p
    slope = of_p * pp
    for i in range(m):
        slope += of_s[i] * sp[live[i]] + of_y[i] * yp[live[i]]
    return slope
