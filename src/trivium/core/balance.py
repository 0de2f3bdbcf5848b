"""Balance: how many lanes each worker gets, so that slow workers do not hold the others up. Pure; time is an argument.

Rules
-----
1. Lanes move at a clock boundary only, by a new term, and a move costs everybody a pause, which is measured (from the
   advice to the new term). Which plan is best for given speeds is ``apportion``'s to say.
2. A worker's speed is the median of its last reports. Lanes leave a worker only if it was slow in nearly all of them
   (its lower quartile counts, too): a step that is slow by chance moves nothing.
3. A move must promise ``least_gain`` of the time of a clock, net of its pause, before the next move may come.
4. Once those whom it concerned have reported again, a move is judged: were half of what it promised not kept, the rest
   between moves doubles; two that kept their promise, one after the other, halve it again.
5. Who has no lanes reports nothing. It gets one lane on probation after a while; if it is as slow as before, it loses
   it again at once and waits longer for the next (bounded). A probation costs a few clocks that are as slow as the
   worker was, so the first comes when that is a small share of the time since.
6. A lane that was left out of two clocks running goes to another worker whatever the medians say (it may be the link
   that is slow), and its former worker gets no more lanes for a while, which doubles with each such loss.

Harlap et al., *Addressing the straggler problem for iterative convergent parallel ML* (SoCC 2016: FlexRR) moves work
from peer to peer within a clock, for that clock; here the driver moves lanes, until it finds cause to move them again.

Not solved: seconds a lane are taken as the same however many lanes a worker has; where a worker's cost of a clock is
mostly fixed, predictions are too good, and rule 4 slows the moves down. Bursts shorter than a few clocks are left to
the consistency model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from trivium.core.apportion import best_counts, ranges
from trivium.core.lanes import Part, share
from trivium.core.role import Address

__all__ = ["Balancer", "best_counts", "ranges"]

MOST_DOUBLINGS = 5  # of the rest between moves
PROBATION = 3  # reports that settle one
PATIENCE, MOST_PATIENT = 1.5, 5  # how much longer it takes to the next one, and how often that grows
PROBATION_SHARE = 0.05  # of the time until the first one, at most, is what it costs
CLOCKS_OF_REST, PAUSES_OF_REST = 10, 10  # between two moves, at least
RECOVERED = 0.7  # of its former seconds a lane, at most


@dataclass(frozen=True)
class _Worker:
    """What is known of one worker."""

    recent: tuple[float, ...] = ()  # seconds a lane, the last reports
    known: float | None = None  # what holds while there are too few
    since: int = 0  # reports since lanes moved last
    tries: int = 0  # probations in vain
    until: float = 0.0  # no probation before
    losses: int = 0  # of lanes that were left out
    barred: float = 0.0  # no more lanes than ``most`` before
    most: int = 0

    def seconds(self, least: int) -> float | None:
        return median(self.recent) if len(self.recent) >= least else self.known

    def cautious(self, least: int) -> float | None:
        """How fast it is in its better moments: slow is who is slow in nearly all reports."""
        return sorted(self.recent)[(len(self.recent) - 1) // 4] if len(self.recent) >= least else self.known

    def lately(self) -> float | None:
        """Since lanes moved last."""
        return median(self.recent[-self.since :]) if self.since else self.known


@dataclass(frozen=True)
class _Move:
    """Advice that was followed, and the share of a clock's time that it promised to save."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    gain: float


class Balancer:
    """Says when lanes should move, and how many each worker should have.

    ``workers`` in the order of their ranges; ``least_gain`` share of a clock's time; ``window`` reports of a worker
    that count; ``cooldown`` least seconds between two moves; ``pause`` seconds that a move costs until that is known.

    >>> workers = [Address(0, 2), Address(0, 3)]
    >>> balancer = Balancer(8, workers)
    >>> for clock in range(4):
    ...     balancer.heard(workers[0], 0.01, 0.1 * clock)
    ...     balancer.heard(workers[1], 0.03, 0.1 * clock)
    >>> balancer.advice(0.4)
    (6, 2)
    """

    def __init__(
        self,
        lanes: int,
        workers: Sequence[Address],
        *,
        least_gain: float = 0.15,
        window: int = 7,
        cooldown: float = 2.0,
        pause: float = 0.1,
    ) -> None:
        self.lanes, self.least_gain, self.window, self.cooldown = lanes, least_gain, window, cooldown
        self.pause = pause
        self.workers = tuple(workers)
        self.counts = tuple(part.hi - part.lo for part in share(lanes, len(self.workers)))
        self.doublings = 0  # of the rest between moves
        self._least = (window + 1) // 2  # reports that make a speed known
        self._few = min(PROBATION, self._least)  # that settle a question
        self._of = {worker: _Worker() for worker in self.workers}
        self._moved_at = -math.inf
        self._asked: tuple[float, _Move | None, Address | None] | None = None  # advice, not carried out yet
        self._move: _Move | None = None  # to be judged
        self._kept_promises = 0
        self._probed: Address | None = None
        self._probation_clocks = 0.0  # of the last one
        self._left_out: list[int] = []
        self._left_out_at = -math.inf

    # -- what it is told ----------------------------------------------------------------------------------------------
    def heard(self, worker: Address, seconds_per_lane: float, now: float) -> None:  # noqa: ARG002  # told like the rest
        """``worker`` took ``seconds_per_lane`` for a lane's clock, of late (a median, or one clock's)."""
        of = self._of.get(worker)
        if of is None or not 0 < seconds_per_lane < math.inf:
            return
        recent = (*of.recent, seconds_per_lane)[-self.window :]
        self._of[worker] = replace(of, recent=recent, since=min(of.since + 1, self.window))

    def dropped(self, lane: int, now: float) -> None:  # noqa: ARG002  # told like the rest
        """``lane`` was left out of two clocks running."""
        if 0 <= lane < self.lanes and lane not in self._left_out:
            self._left_out.append(lane)

    def changed(self, members: Sequence[Address], ranges: Sequence[Part], now: float) -> None:
        """A new term began, by advice or not: ``members`` run ``ranges``."""
        counts = tuple(part.hi - part.lo for part in ranges)
        same = tuple(members) == self.workers
        asked, self._asked = self._asked, None
        self._of = {one: self._of.get(one, _Worker()) for one in members}
        if not same:
            self._move = self._probed = None
        elif asked is not None and counts != self.counts:
            self.pause = (self.pause + now - asked[0]) / 2
            self._probed = asked[2]
            self._move = asked[1] or self._move
        if not same or counts != self.counts:
            idle = {one for one, count in zip(self.workers, self.counts, strict=True) if not count}
            self._left_out, self._moved_at = [], now
            self.workers, self.counts = tuple(members), counts
            for worker, count in zip(self.workers, counts, strict=True):
                if count or worker not in idle:
                    self._of[worker] = self._anew(self._of[worker], count, now)

    def _anew(self, of: _Worker, count: int, now: float) -> _Worker:
        """With ``count`` lanes from now; what was heard before it had none is no longer news."""
        if count:
            return replace(of, since=0)
        known = of.seconds(self._least)
        longer = max(0.0, (known or 0.0) - _load(self.counts, self._seconds()))  # a clock, with it
        clocks = self._probation_clocks or PROBATION
        wait = max(self._rest(), (clocks * longer + 2 * self.pause) / PROBATION_SHARE)
        until = now + wait * PATIENCE ** min(of.tries, MOST_PATIENT)
        return replace(of, since=0, recent=(), known=known, until=max(until, of.barred))

    # -- what it is asked ---------------------------------------------------------------------------------------------
    def advice(self, now: float) -> tuple[int, ...] | None:
        """How many lanes each worker should have from the next boundary on; None: leave it. Asked again, it says
        nothing until ``changed`` tells that it was followed, or enough time has gone by.
        """
        if self._asked is not None and now < self._asked[0] + self._rest():
            return None
        self._judge()
        settled = self._settle(now)
        if not settled and now < self._moved_at + self._rest():
            return None
        plan = self._without_left_out(now)
        if plan is None and self._sure():
            plan = self._better(now, 0.0 if settled else self.least_gain) or self._probation(now)
        return plan

    def fitting(self, members: Sequence[Address]) -> tuple[int, ...]:
        """Lanes for ``members``, some of them new, in a term that begins anyway: a move costs nothing then.

        Who has not reported counts as fast as the middle of those who have; if nobody has, all get alike.
        """
        told = [self._of[one].seconds(self._least) if one in self._of else None for one in members]
        if not any(told):
            return tuple(part.hi - part.lo for part in share(self.lanes, len(members)))
        held = [self.counts[self.workers.index(one)] if one in self._of else 0 for one in members]
        return best_counts(_filled(told), self.lanes, held=held)

    # -- how it decides -----------------------------------------------------------------------------------------------
    def _seconds(self) -> list[float]:
        return _filled([self._of[one].seconds(self._least) for one in self.workers])

    def _sure(self) -> bool:
        """Everybody who has lanes has reported often enough."""
        pairs = zip(self.workers, self.counts, strict=True)
        return all(self._of[one].seconds(self._least) is not None for one, count in pairs if count)

    def _rest(self) -> float:
        """Seconds between two moves."""
        step = _load(self.counts, self._seconds()) if self._sure() else 0.0
        return max(self.cooldown, CLOCKS_OF_REST * step, PAUSES_OF_REST * self.pause) * 2**self.doublings  # type: ignore[no-any-return]

    def _advise(
        self, counts: tuple[int, ...], now: float, move: _Move | None, probed: Address | None = None
    ) -> tuple[int, ...]:
        self._asked = (now, move, probed)
        return counts

    def _better(self, now: float, least: float) -> tuple[int, ...] | None:
        """The best plan, if it is better by far enough, by medians and by what the losers can do at their best."""
        seconds = self._seconds()
        best = best_counts(seconds, self.lanes, held=self.counts, most=self._limits(now))
        better = [self._of[one].cautious(self._least) for one in self.workers]
        cautious = [
            (low or mid) if new < old else mid
            for old, new, low, mid in zip(self.counts, best, better, seconds, strict=True)
        ]
        gain = min(_gain(self.counts, best, seconds), _gain(self.counts, best, cautious))
        if best == self.counts or gain - self.pause / self._rest() < least:
            return None
        return self._advise(best, now, _Move(self.counts, best, gain))

    def _limits(self, now: float) -> list[int]:
        """What each may have: who lost a lane that was left out gets no more for a while."""
        limits = []
        for one, count in zip(self.workers, self.counts, strict=True):
            of = self._of[one]
            limits.append(max(of.most, count) if now < of.barred else self.lanes)
        return limits if sum(limits) >= self.lanes else [self.lanes] * len(limits)

    def _judge(self) -> None:
        """Compare what a move promised with what those whom it concerned did since."""
        move = self._move
        if move is None:
            return
        concerned = [self._of[one] for one, a, b in zip(self.workers, move.before, move.after, strict=True) if a != b]
        if any(one.since < self._few for one in concerned):
            return
        self._move = None
        seconds = _filled([self._of[one].lately() for one in self.workers])
        if _gain(move.before, move.after, seconds) < move.gain / 2:
            self.doublings, self._kept_promises = min(self.doublings + 1, MOST_DOUBLINGS), 0
            return
        self._kept_promises += 1
        if self._kept_promises > 1:
            self.doublings = max(0, self.doublings - 1)

    def _settle(self, now: float) -> bool:
        """Whether a probation has just ended."""
        if self._probed is None or self._of[self._probed].since < self._few:
            return False
        of, worker = self._of[self._probed], self._probed
        self._probed = None
        found, before = median(of.recent), of.known or math.inf
        self._probation_clocks = (now - self._moved_at) / found
        tries = 0 if found <= RECOVERED * before else of.tries + 1
        self._of[worker] = replace(of, known=found, tries=tries)
        return True

    def _probation(self, now: float) -> tuple[int, ...] | None:
        """One lane for the worker that has waited longest without any, where its time has come."""
        waiting = [(self._of[one].until, i) for i, one in enumerate(self.workers) if not self.counts[i]]
        if not waiting or min(waiting)[0] > now:
            return None
        at = min(waiting)[1]
        most = [self.lanes] * len(self.workers)
        most[at] = 0
        rest = best_counts(self._seconds(), self.lanes - 1, held=self.counts, most=most)
        return self._advise(tuple(1 if i == at else one for i, one in enumerate(rest)), now, None, self.workers[at])

    def _without_left_out(self, now: float) -> tuple[int, ...] | None:
        """Whoever holds the lane that was left out first gives lanes away until that one is among them."""
        if not self._left_out or len(self.workers) < 2:
            return None
        lane = self._left_out[0]
        counts = _rid(lane, self.counts, self._seconds())
        owner = _owner(lane, self.counts)
        of = self._of[self.workers[owner]]
        if now < self._left_out_at + 4 * self._rest():
            self.doublings = min(self.doublings + 1, MOST_DOUBLINGS)
        bar = self._rest() * 2 ** min(of.losses, MOST_DOUBLINGS)
        losses = of.losses + 1 if now < of.barred + bar else 1
        self._of[self.workers[owner]] = replace(of, most=counts[owner], barred=now + bar, losses=losses)
        self._left_out_at = now
        return self._advise(counts, now, None)


def _filled(seconds: Sequence[float | None]) -> list[float]:
    """Who has not reported counts as the middle of those who have."""
    told = [one for one in seconds if one is not None]
    middle = median(told) if told else 1.0
    return [middle if one is None else one for one in seconds]


def _load(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Seconds of a clock: the slowest worker's."""
    return max(count * one for count, one in zip(counts, seconds, strict=True))


def _gain(before: Sequence[int], after: Sequence[int], seconds: Sequence[float]) -> float:
    """The share of a clock's time that ``after`` saves."""
    return 1.0 - _load(after, seconds) / _load(before, seconds)


def _owner(lane: int, counts: Sequence[int]) -> int:
    return next(i for i, part in enumerate(ranges(counts)) if part.lo <= lane < part.hi)


def _rid(lane: int, counts: tuple[int, ...], seconds: Sequence[float]) -> tuple[int, ...]:
    """``lane`` with another worker: the least load, then the fastest new owner, then the fewest lanes given away."""
    owner = _owner(lane, counts)
    part = ranges(counts)[owner]
    options = []
    for other in range(len(counts)):
        if other == owner:
            continue
        given = lane - part.lo + 1 if other < owner else part.hi - lane
        plan = list(counts)
        plan[owner] -= given
        plan[other] += given
        heir = _owner(lane, plan)
        options.append((_load(plan, seconds), seconds[heir], given, tuple(plan)))
    return min(options)[-1]
