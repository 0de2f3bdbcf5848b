"""What L-BFGS and OWL-QN share: the state machine of a clock.

Rules
-----
* One clock evaluates loss and gradient at one point ``a``. ``scalars`` sums dot products of what ``a`` would add to the
  history if it were accepted; ``update`` then decides. Everything decided follows from ``head`` and the totals, which
  are the same in every shard, so every shard decides the same.
* Phases: ``FIRST`` (``a`` is where training begins), ``SEARCH`` (``a`` is a trial of the line search), ``DONE``.
* An accepted trial gives a pair (s, y) if s'y is safely positive, then a new direction and a trial at t = 1. Without
  history the direction is −p and the first trial moves by 1 (t = 1/‖p‖).
* With ``precondition`` the second clock is a ``PROBE``: all penalised elements moved by the same small length, whence
  the change of the gradient is proportional to the row sums of the Hessian. For features of one sign (counts) these
  bound it, D ⪰ H, and set rare columns apart from frequent ones. Where the gradient of many columns falls instead, or
  is not finite there, there is no such bound: the run goes on without.
* A failed line search goes back to the best point, forgets the history and goes down −p once; failing again, it ends.
* What is live is never written: see ``curvature`` for the rows of the ring. When done, ``out`` is the best point.

Both are described in Nocedal and Wright, *Numerical optimization* (2006), chapter 7.2. They need the full batch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.program.optimizers import curvature
from trivium.program.optimizers.base import Flat, Optimizer, State, Step
from trivium.program.optimizers.compiled import frozen
from trivium.program.optimizers.gram import Gram, coefficients
from trivium.program.optimizers.line_search import Accept, Fail, Point, Search, Try
from trivium.program.optimizers.schedules import require

__all__ = ["REASONS", "Memo", "QuasiNewton"]

Floats = NDArray[np.float64]

FIRST, SEARCH, DONE, PROBE = 0, 1, 2, 3
PROBE_LENGTH = 1e-3
MOST_FALLING = 0.01  # share of columns whose gradient may fall over the probe
REASONS = (
    "running",
    "every element of the gradient is within tol",
    "the objective's relative decrease is within ftol",
    "the line search found no lower point, from steepest descent either",
    "the objective is not finite at the starting point",
    "the iterations allowed are used up",
)
RUNNING, FLAT, LEVEL, STUCK, NOT_FINITE, SPENT = range(6)
_SAFE = 2.2e-16  # s'y must exceed this times y'y, as in L-BFGS-B (Byrd, Lu, Nocedal, Zhu, 1995)


class Memo(NamedTuple):
    """The head's scalars. ``pairs`` counts pairs ever kept, ``first`` the oldest not forgotten; ``at`` and ``towards``
    (0 or 1) say which of the two x, g rows and which of the two d rows are live; ``f`` is the objective at x.
    """

    phase: float = FIRST
    reason: float = RUNNING
    iterations: float = 0
    pairs: float = 0
    first: float = 0
    at: float = 0
    towards: float = 0
    f: float = math.inf
    t: float = 0
    forced: float = 0
    restarted: float = 0
    slope: float = 0
    low_t: float = 0
    low_f: float = 0
    low_slope: float = 0
    high_t: float = 0
    high_f: float = 0
    high_slope: float = 0
    closed: float = 0
    tries: float = 0
    scaled: float = 0

    @classmethod
    def of(cls, head: Floats) -> Memo:
        """Read from a head."""
        return cls(*head[:MEMO].tolist())

    @property
    def search(self) -> Search:
        """The line search under way."""
        low, high = Point(self.low_t, self.low_f, self.low_slope), Point(self.high_t, self.high_f, self.high_slope)
        return Search(Point(0.0, self.f, self.slope), low, high, bool(self.closed), int(self.tries))

    def searching(self, t: float, search: Search, *, forced: bool = False) -> Memo:
        """With ``t`` to be tried next."""
        low, high = search.low, search.high
        return self._replace(
            phase=SEARCH,
            t=t,
            forced=forced,
            slope=search.origin.slope,
            low_t=low.t,
            low_f=low.f,
            low_slope=low.slope,
            high_t=high.t,
            high_f=high.f,
            high_slope=high.slope,
            closed=search.closed,
            tries=search.tries,
        )

    def done(self, reason: int) -> Memo:
        """Finished."""
        return self._replace(phase=DONE, reason=reason)


MEMO = len(Memo._fields)


class _Sums(NamedTuple):
    """Totals by name; ``old`` has five rows over the live pairs."""

    pp: float
    above: float
    ww: float
    w1: float
    gs: float
    qs: float
    ss: float
    sy: float
    yy: float
    sp: float
    yp: float
    old: Floats

    @classmethod
    def of(cls, totals: Floats, live: int) -> _Sums:
        n = len(curvature.COLUMNS)
        old = totals[n : n + curvature.PER_PAIR * live].reshape(live, curvature.PER_PAIR).T
        named: dict[str, float] = dict(zip(curvature.COLUMNS, totals[:n].tolist(), strict=True))
        return cls(**named, old=old)


@dataclass(frozen=True)
class QuasiNewton(Optimizer):
    """Base of L-BFGS and OWL-QN.

    ``precondition`` spends one evaluation on scaling the columns, for text and other counts. Measured on logistic
    regression, evaluations to 0.1 % of the optimum: 25,000 film reviews with 79,769 words at l2 = 1e-5, 19 instead of
    64 (SciPy's L-BFGS-B: 62); a9a and w8a, hardly a difference; few independent columns, up to twice as many.

    None leaves the choice to whoever knows the data: on for sparse rows, else off.

    ``max_iter`` accepted steps, and ``max_evaluations`` clocks, at most; the run then ends at the point accepted last.
    ``tol`` ends the run when no element of the (pseudo-)gradient of the *mean* objective exceeds it, as ``gtol`` of
    SciPy; ``ftol`` when (f − f')/max(|f|, |f'|, 1) does not exceed it. ``memory`` is the number m of pairs kept.
    """

    tol: float = 1e-4
    memory: int = 10
    ftol: float = 64 * 2.220446049250313e-16
    precondition: bool | None = None
    max_iter: int | None = None
    max_evaluations: int | None = None

    needs_full_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for option in ("tol", "ftol"):
            value = getattr(self, option)
            require(self.name, option, value, 0 <= value < math.inf, "0 or more and finite")
        require(self.name, "memory", self.memory, self.memory >= 1, "1 or more")
        for option in ("max_iter", "max_evaluations"):
            most = getattr(self, option)
            if most is not None:
                require(self.name, option, most, most >= 1, "1 or more")
        rows = self.memory + 1
        object.__setattr__(self, "head_size", MEMO + Gram.size(rows))
        object.__setattr__(self, "ring", 2 * rows + 7)
        object.__setattr__(self, "scalar_count", len(curvature.COLUMNS) + curvature.PER_PAIR * self.memory)

    @abstractmethod
    def l1_factor(self, step: Step) -> float:
        """The l1 that the machinery uses."""

    @abstractmethod
    def judge(self, search: Search, trial: Point, decrease: float, noise: float) -> Accept | Try | Fail:
        """What to do after ``trial``; ``decrease`` is p's slope times the way really gone, p(x)'(a − x)."""

    def finished(self, head: Floats) -> bool:
        """Whether it converged or cannot go on."""
        return bool(head[0] == DONE)

    def iterations(self, head: Floats, clock: int) -> int:  # noqa: ARG002 - a search takes several clocks
        """Accepted steps."""
        return int(head[2])

    def reason(self, head: Floats) -> str:
        """Why it finished, in words."""
        return REASONS[int(head[1])]

    def scalars(self, a: Flat, g: Flat, state: State, step: Step, out: Floats) -> None:
        """Dot products of what ``a`` would add to the history, by block."""
        memo = Memo.of(state.head)
        if memo.phase == DONE:
            out[:] = 0.0
            return
        x, grad, _ = self._rows(memo)
        if memo.phase == PROBE:
            self._probe(a, g, state.ring, memo, step, out)
            return
        rows = np.array([self.memory + 1, x if memo.phase == SEARCH else -1, grad, self._root(memo)], np.int64)
        c = np.array([_inverse(step), step.l2, self.l1_factor(step)], a.dtype)
        ring, penalised = frozen(state.ring), frozen(step.penalised)
        curvature.measure(frozen(a), frozen(g), ring, self._live(memo), rows, penalised, c, float(self.tol), out)

    def update(self, a: Flat, g: Flat, state: State, totals: Floats, step: Step, out: Flat, new: State) -> None:
        """Accept ``a`` and set out in a new direction, or try another point, or end at the best one."""
        self._advance(a, g, state, totals, step, out, new)
        memo = Memo.of(new.head)
        if self.max_evaluations is not None and memo.phase != DONE and step.clock + 1 >= self.max_evaluations:
            x, _, _ = self._rows(memo)
            out[:] = state.ring[x]
            new.head[:MEMO] = memo.done(SPENT)

    def _advance(self, a: Flat, g: Flat, state: State, totals: Floats, step: Step, out: Flat, new: State) -> None:
        new.head[:] = state.head
        memo = Memo.of(state.head)
        if memo.phase == DONE:
            out[:] = a
            return
        gram = Gram(new.head[MEMO:], self.memory + 1)
        if memo.phase == PROBE:
            memo = self._condition(memo, totals, a, g, gram, state.ring, step, out)
            new.head[:MEMO] = memo
            return
        sums = _Sums.of(totals, len(self._live(memo)))
        f = step.loss * _inverse(step) + 0.5 * step.l2 * sums.ww + self.l1_factor(step) * sums.w1
        if memo.phase == FIRST and not (math.isfinite(f) and math.isfinite(sums.pp)):
            out[:] = a
            memo = memo.done(NOT_FINITE)
        elif memo.phase == FIRST or self._accepts(verdict := self._verdict(memo, sums, f, a.dtype)):
            memo = self._accept(memo, sums, f, a, g, state.ring, gram, step, out)
        else:
            memo = self._retry(memo, verdict, gram, state.ring, step, out)
        new.head[:MEMO] = memo

    @staticmethod
    def _accepts(verdict: Accept | Try | Fail) -> bool:
        return isinstance(verdict, Accept)

    def _verdict(self, memo: Memo, sums: _Sums, f: float, dtype: np.dtype[np.floating]) -> Accept | Try | Fail:
        if memo.forced and math.isfinite(f) and f <= memo.f:
            return Accept()
        usable = math.isfinite(f) and math.isfinite(sums.pp)
        trial = Point(memo.t, f if usable else math.inf, sums.gs / memo.t)
        search = memo.search
        if math.isnan(memo.slope):  # the first direction after the probe: its slope is known only now
            search = Search.begin(memo.f, sums.qs / memo.t)
        return self.judge(search, trial, sums.qs, 4 * float(np.finfo(dtype).eps))

    def _accept(
        self, memo: Memo, sums: _Sums, f: float, a: Flat, g: Flat, ring: Flat, gram: Gram, step: Step, out: Flat
    ) -> Memo:
        """Take ``a`` in; then end there, or point ``out`` to the first trial of a new direction."""
        begun = memo.phase == SEARCH
        level = begun and (memo.f - f) <= self.ftol * max(abs(memo.f), abs(f), 1.0)
        keep = begun and sums.sy > _SAFE * sums.yy and sums.sy > 0
        self._extend(gram, memo, sums, keep=keep)
        after = memo._replace(f=f, at=1 - memo.at, iterations=memo.iterations + begun, restarted=0)
        if keep:
            first = max(memo.first, memo.pairs + 1 - self.memory)
            after = after._replace(pairs=memo.pairs + 1, first=first)
        self._remember(a, g, ring, memo, after, step, keep=keep)
        spent = self.max_iter is not None and after.iterations >= self.max_iter
        if sums.above == 0 or level or spent:
            out[:] = a
            return after.done(FLAT if sums.above == 0 else LEVEL if level else SPENT)
        if self.precondition and not begun:
            out[:] = a
            for lo, hi in step.penalised:
                out[lo:hi] += a.dtype.type(PROBE_LENGTH)
            return after._replace(phase=PROBE)
        return self._set_out(after, gram, ring, step, out)

    def _retry(self, memo: Memo, verdict: Accept | Try | Fail, gram: Gram, ring: Flat, step: Step, out: Flat) -> Memo:
        """Another trial along d; without one, back to the best point, or down −p once, or the end."""
        if isinstance(verdict, Try):
            after = memo.searching(verdict.t, verdict.search)
        elif isinstance(verdict, Fail) and verdict.best.t > 0 and not memo.forced:
            after = memo.searching(verdict.best.t, memo.search, forced=True)
        elif memo.restarted or memo.pairs == memo.first:
            x, _, _ = self._rows(memo)
            out[:] = ring[x]
            return memo.done(STUCK)
        else:
            forgetful = memo._replace(first=memo.pairs, restarted=1)
            return self._set_out(forgetful, gram, ring, step, out)
        self._walk(after, ring, step, out)
        return after

    def _probe(self, a: Flat, g: Flat, ring: Flat, memo: Memo, step: Step, out: Floats) -> None:
        rows = np.array(self._rows(memo), np.int64)
        c = np.array([_inverse(step), step.l2], a.dtype)
        curvature.probe(frozen(a), frozen(g), frozen(ring), rows, frozen(step.penalised), c, out)

    def _condition(
        self, memo: Memo, totals: Floats, a: Flat, g: Flat, gram: Gram, ring: Flat, step: Step, out: Flat
    ) -> Memo:
        """Take the probe in, and go down the preconditioned gradient with t = 1, which a bound D ⪰ H allows."""
        change, falling, count = totals[:3].tolist()
        mean = change / (PROBE_LENGTH * max(count, 1.0))
        if not (math.isfinite(mean) and mean > 0 and falling <= MOST_FALLING * count):
            return self._set_out(memo, gram, ring, step, out)
        memo = memo._replace(scaled=1)
        x, grad, _ = self._rows(memo)
        rows = np.array([x, grad, self._root(memo)], np.int64)
        c = np.array([_inverse(step), step.l2], a.dtype)
        curvature.condition(frozen(a), frozen(g), ring, rows, PROBE_LENGTH, mean, frozen(step.penalised), c)
        return self._head_for(memo, np.array([-1.0]), 1.0, math.nan, ring, step, out)

    def _set_out(self, memo: Memo, gram: Gram, ring: Flat, step: Step, out: Flat) -> Memo:
        """Write a new direction and its first trial point."""
        weights, slope = coefficients(gram, self._live(memo))
        if not slope < 0:
            memo = memo._replace(first=memo.pairs)
            weights, slope = coefficients(gram, self._live(memo))
        if not slope < 0:  # p'p has underflowed
            x, _, _ = self._rows(memo)
            out[:] = ring[x]
            return memo.done(STUCK)
        t = 1.0 if memo.pairs > memo.first else 1.0 / math.sqrt(-slope)
        return self._head_for(memo, weights, t, slope, ring, step, out)

    def _head_for(self, memo: Memo, weights: Floats, t: float, slope: float, ring: Flat, step: Step, out: Flat) -> Memo:
        """Write the direction that ``weights`` make, and in ``out`` its point at ``t``."""
        memo = memo._replace(towards=1 - memo.towards).searching(t, Search.begin(memo.f, slope))
        rows = np.array([self.memory + 1, *self._rows(memo), self._root(memo)], np.int64)
        c = np.array([self.l1_factor(step)], ring.dtype)
        curvature.direct(ring, rows, self._live(memo), weights, frozen(step.penalised), c)
        self._walk(memo, ring, step, out)
        return memo

    def _walk(self, memo: Memo, ring: Flat, step: Step, out: Flat) -> None:
        rows = np.array(self._rows(memo), np.int64)
        c = np.array([self.l1_factor(step)], ring.dtype)
        t = float(memo.t)
        curvature.walk(frozen(ring), rows, t, frozen(step.penalised), c, out)

    def _extend(self, gram: Gram, memo: Memo, sums: _Sums, *, keep: bool) -> None:
        """Write the dot products with the accepted point's p, and with its pair if kept."""
        live, row = self._live(memo), int(memo.pairs) % (self.memory + 1)
        s_oldy, y_olds, y_oldy, p_olds, p_oldy = sums.old
        gram.sp[live], gram.yp[live], gram.pp[0] = p_olds, p_oldy, sums.pp
        if keep:
            gram.sy[row, live], gram.sy[live, row] = s_oldy, y_olds
            gram.yy[row, live], gram.yy[live, row] = y_oldy, y_oldy
            gram.sy[row, row], gram.yy[row, row] = sums.sy, sums.yy
            gram.sp[row], gram.yp[row] = sums.sp, sums.yp

    def _remember(self, a: Flat, g: Flat, ring: Flat, memo: Memo, after: Memo, step: Step, *, keep: bool) -> None:
        x, grad, _ = self._rows(memo)
        new_x, new_g, _ = self._rows(after)
        spare = int(memo.pairs) % (self.memory + 1)
        pair = (spare, self.memory + 1 + spare) if keep else (-1, -1)
        c = np.array([_inverse(step), step.l2], a.dtype)
        old, new = np.array([x, grad, self._root(memo)], np.int64), np.array([*pair, new_x, new_g], np.int64)
        curvature.remember(frozen(a), frozen(g), ring, old, new, frozen(step.penalised), c)

    def _live(self, memo: Memo) -> NDArray[np.int64]:
        """Physical rows of the pairs in use, oldest first."""
        return np.arange(memo.first, memo.pairs, dtype=np.int64) % (self.memory + 1)

    def _root(self, memo: Memo) -> int:
        """Physical row of the preconditioner, −1 if there is none."""
        return 2 * (self.memory + 1) + 6 if memo.scaled else -1

    def _rows(self, memo: Memo) -> tuple[int, int, int]:
        """Physical rows of x, g and d."""
        base = 2 * (self.memory + 1)
        return base + int(memo.at), base + 2 + int(memo.at), base + 4 + int(memo.towards)


def _inverse(step: Step) -> float:
    return 1.0 / step.weight if step.weight > 0 else 0.0
