"""A line search as a state machine: told one trial point after another, it says accept, or where to try next.

Each evaluation of the objective is a clock of the run, so the search cannot call the function: it is a value
(``Search``) that fits in a few numbers of the optimizer's head, and ``judge`` is a pure function of it and the trial.

Strong Wolfe conditions, with φ(t) = f(x + t·d)::

    φ(t) ≤ φ(0) + c1·t·φ'(0)       enough decrease
    |φ'(t)| ≤ c2·|φ'(0)|           flat enough, so that s'y > 0

Bracketing and zooming as in Nocedal and Wright, *Numerical optimization* (2006), algorithms 3.5 and 3.6, with cubic
interpolation kept off the ends of the bracket. Where φ cannot be told from φ(0) any more because of rounding, decrease
is judged by slopes (the approximate Wolfe conditions of Hager and Zhang, SIAM J. Optim. 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["ARMIJO", "CURVATURE", "Accept", "Fail", "Point", "Search", "Try", "judge"]

ARMIJO = 1e-4
CURVATURE = 0.9
MOST_TRIES = 20
_NARROW = 1e-14  # a bracket this narrow, relative to its ends, has no float64 between them worth trying


@dataclass(frozen=True)
class Point:
    """One value of φ: step ``t``, value ``f``, slope φ'(t). An overflow has ``f`` infinite."""

    t: float
    f: float
    slope: float


@dataclass(frozen=True)
class Search:
    """What is known: ``origin`` (t = 0), ``low`` (the best with enough decrease), ``high`` (the bracket's other end).

    ``closed`` says whether ``high`` means anything yet; ``tries`` counts trial points judged.
    """

    origin: Point
    low: Point
    high: Point
    closed: bool = False
    tries: int = 0

    @classmethod
    def begin(cls, f: float, slope: float) -> Search:
        """Nothing known but the origin."""
        origin = Point(0.0, f, slope)
        return cls(origin, origin, origin)


@dataclass(frozen=True)
class Accept:
    """The trial satisfies the conditions."""


@dataclass(frozen=True)
class Try:
    """Evaluate at ``t`` next."""

    t: float
    search: Search


@dataclass(frozen=True)
class Fail:
    """No step found; ``best`` is the lowest point with enough decrease, ``best.t`` 0 if there is none."""

    best: Point


def judge(search: Search, trial: Point, noise: float) -> Accept | Try | Fail:
    """Take in one trial; ``noise`` is the relative rounding error of f."""
    origin, low = search.origin, search.low
    known = replace(search, tries=search.tries + 1)
    if not math.isfinite(trial.f) or not math.isfinite(trial.slope):
        known = replace(known, high=Point(trial.t, math.inf, math.nan), closed=True)
        return _next(known)
    blurred = abs(trial.f - origin.f) <= noise * abs(origin.f)
    enough = trial.f <= origin.f + ARMIJO * trial.t * origin.slope
    if blurred and (2 * ARMIJO - 1) * origin.slope >= trial.slope >= CURVATURE * origin.slope:
        return Accept()
    if not enough or (low.t > 0 and trial.f >= low.f):
        known = replace(known, high=trial, closed=True)
    elif abs(trial.slope) <= -CURVATURE * origin.slope:
        return Accept()
    elif trial.slope * ((search.high.t if search.closed else math.inf) - low.t) >= 0:
        known = replace(known, low=trial, high=low, closed=True)
    else:
        known = replace(known, low=trial)
        if not search.closed:
            known = replace(known, high=low)  # remembered for extrapolation only
    return _next(known)


def _next(search: Search) -> Try | Fail:
    low, high = search.low, search.high
    if search.tries >= MOST_TRIES:
        return Fail(low)
    if not search.closed:
        return Try(_beyond(high, low), search)
    width = high.t - low.t
    if abs(width) <= _NARROW * max(abs(low.t), abs(high.t)):
        return Fail(low)
    if not math.isfinite(high.f):
        return Try(low.t + 0.1 * width, search)
    t = _cubic(low, high)
    # The third, and each later, trial inside the bracket must shrink it well, or interpolation may creep.
    margin = 0.1 if search.tries <= 3 else 0.25
    near, far = sorted((low.t + margin * width, high.t - margin * width))
    return Try(min(max(t, near), far) if math.isfinite(t) else low.t + 0.5 * width, search)


def _beyond(before: Point, now: Point) -> float:
    """A longer step: the cubic's minimum, between 1.1 and 4 times as far as the last stretch."""
    stretch = now.t - before.t
    t = _cubic(before, now)
    shortest, longest = now.t + 1.1 * stretch, now.t + 4.0 * stretch
    return min(max(t, shortest), longest) if math.isfinite(t) and t > now.t else longest


def _cubic(p: Point, q: Point) -> float:
    """Minimum of the cubic through both values and slopes; NaN where it has none."""
    if not math.isfinite(q.f) or not math.isfinite(p.f) or p.t == q.t:
        return math.nan
    theta = 3 * (p.f - q.f) / (q.t - p.t) + p.slope + q.slope
    scale = max(abs(theta), abs(p.slope), abs(q.slope))
    if scale == 0:
        return math.nan
    inside = (theta / scale) ** 2 - (p.slope / scale) * (q.slope / scale)
    if inside < 0:
        return math.nan
    root = math.copysign(scale * math.sqrt(inside), q.t - p.t)
    below = q.slope - p.slope + 2 * root
    return q.t - (q.t - p.t) * (q.slope + root - theta) / below if below else math.nan
