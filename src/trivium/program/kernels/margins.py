"""Loss and its slope for a tile of margins, chosen by number: ``losses`` has the same formulas in NumPy.

Each loop is one loss, free of calls, so that the compiler turns it into vectors. Margins that are NaN give NaN, so that
a diverged run shows. Slopes at a kink are those of the active side: a perceptron at margin 0 learns.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numpy.typing import NDArray

from trivium.program.kernels.elementary import EXACT, exp_negative, log1p_unit
from trivium.program.losses import CODES

__all__ = ["residuals"]

Flat = NDArray[Any]

LOG, HINGE, SQUARED_HINGE = CODES["log"], CODES["hinge"], CODES["squared_hinge"]
MODIFIED_HUBER, PERCEPTRON = CODES["modified_huber"], CODES["perceptron"]
SQUARED, HUBER = CODES["squared"], CODES["huber"]
INSENSITIVE, SQUARED_INSENSITIVE = CODES["epsilon_insensitive"], CODES["squared_epsilon_insensitive"]


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def log(margin: Flat, target: Flat, share: Flat, k: int) -> None:
    """The logarithm of 1 + e^−sz."""
    for i in range(k):
        z = margin[i]
        e = exp_negative(-abs(z))
        q = 1.0 / (1.0 + e)
        p = q if z >= 0.0 else e * q
        s = z if target[i] > 0.5 else -z
        loss = log1p_unit(e) + (0.0 if s >= 0.0 else -s)
        margin[i] = share[i] * (p - target[i])
        target[i] = share[i] * loss


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def hinge(margin: Flat, target: Flat, share: Flat, k: int, threshold: float) -> None:
    """max(0, threshold − sz); threshold 1 for the hinge, 0 for the perceptron."""
    for i in range(k):
        sign = 1.0 if target[i] > 0.5 else -1.0
        short = threshold - sign * margin[i]
        idle = short < 0.0
        margin[i] = 0.0 if idle else -share[i] * sign
        target[i] = 0.0 if idle else share[i] * short


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def squared_hinge(margin: Flat, target: Flat, share: Flat, k: int) -> None:
    """max(0, 1 − sz)²."""
    for i in range(k):
        sign = 1.0 if target[i] > 0.5 else -1.0
        short = 1.0 - sign * margin[i]
        short = 0.0 if short < 0.0 else short
        margin[i] = -2.0 * share[i] * sign * short
        target[i] = share[i] * short * short


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def modified_huber(margin: Flat, target: Flat, share: Flat, k: int) -> None:
    """max(0, 1 − sz)², and −4sz where sz < −1."""
    for i in range(k):
        sign = 1.0 if target[i] > 0.5 else -1.0
        short = 1.0 - sign * margin[i]
        short = 0.0 if short < 0.0 else short
        steep = short > 2.0
        margin[i] = -share[i] * sign * (4.0 if steep else 2.0 * short)
        target[i] = share[i] * (4.0 * (short - 1.0) if steep else short * short)


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def squared(margin: Flat, target: Flat, share: Flat, k: int) -> None:
    """½r²."""
    for i in range(k):
        r = margin[i] - target[i]
        margin[i] = share[i] * r
        target[i] = share[i] * 0.5 * r * r


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def huber(margin: Flat, target: Flat, share: Flat, k: int, epsilon: float) -> None:
    """½r², and ε|r| − ½ε² beyond ε."""
    for i in range(k):
        r = margin[i] - target[i]
        far = abs(r) > epsilon
        slope = epsilon if r > 0.0 else -epsilon
        margin[i] = share[i] * (slope if far else r)
        target[i] = share[i] * (epsilon * (abs(r) - 0.5 * epsilon) if far else 0.5 * r * r)


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def insensitive(margin: Flat, target: Flat, share: Flat, k: int, epsilon: float) -> None:
    """max(0, |r| − ε)."""
    for i in range(k):
        r = margin[i] - target[i]
        beyond = abs(r) - epsilon
        idle = beyond <= 0.0
        slope = 1.0 if r > 0.0 else -1.0
        margin[i] = 0.0 if idle else share[i] * slope
        target[i] = 0.0 if idle else share[i] * beyond


@njit(nogil=True, cache=True, fastmath=EXACT, error_model="numpy")
def squared_insensitive(margin: Flat, target: Flat, share: Flat, k: int, epsilon: float) -> None:
    """max(0, |r| − ε)²."""
    for i in range(k):
        r = margin[i] - target[i]
        beyond = abs(r) - epsilon
        beyond = 0.0 if beyond < 0.0 else beyond
        slope = 2.0 if r > 0.0 else -2.0
        margin[i] = share[i] * slope * beyond
        target[i] = share[i] * beyond * beyond


@njit(nogil=True, cache=True, error_model="numpy")
def residuals(margin: Flat, target: Flat, share: Flat, k: int, code: int, epsilon: float) -> None:
    """Replace k margins by weighted slopes of the loss ``code``, and targets by weighted losses."""
    if code == LOG:
        log(margin, target, share, k)
    elif code == SQUARED_HINGE:
        squared_hinge(margin, target, share, k)
    elif code == SQUARED:
        squared(margin, target, share, k)
    elif code == HINGE:
        hinge(margin, target, share, k, 1.0)
    elif code == PERCEPTRON:
        hinge(margin, target, share, k, 0.0)
    elif code == MODIFIED_HUBER:
        modified_huber(margin, target, share, k)
    elif code == HUBER:
        huber(margin, target, share, k, epsilon)
    elif code == INSENSITIVE:
        insensitive(margin, target, share, k, epsilon)
    elif code == SQUARED_INSENSITIVE:
        squared_insensitive(margin, target, share, k, epsilon)
