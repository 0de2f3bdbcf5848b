"""Workers: run lanes against their node's view, push deltas to their node's server. Rules in ``server``.

A worker always takes the lanes that are furthest behind. Lanes that stand alike, with the same clock and applied by the
same shards, are one group: their delta is computed and pushed at once, and no shard ever has half of it. At first, and
again soon after each term, all lanes of a worker are one group: then one number says where they are (``_level``), and
no lane is looked at by itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from statistics import median
from typing import final

from trivium.core.consistency import BSP, Rule
from trivium.core.exchange import NEWEST, Tempo, View
from trivium.core.lanes import Part, subtrees
from trivium.core.member import Member
from trivium.core.messages import (
    Ahead,
    Done,
    Evaluate,
    EvaluateRows,
    Gradient,
    Leave,
    Left,
    Place,
    Proceed,
    Push,
    Sums,
)
from trivium.core.role import Address, Commands, Compute, Read, ReadReady, Send, Stop

__all__ = ["STAGES", "Worker"]

STAGES = {  # where a worker goes from each stage, and when
    "idle": {"reading": "leased, its own pushes were taken, and the rule lets it start"},
    "reading": {"computing": "A can be read", "idle": "a term began"},
    "computing": {"idle": "Δ is done and pushed, or its term is over"},
}
MOST_LAG = 16  # a staleness of so many clocks or more is counted as one
TEMPO_EVERY = 0.2  # seconds between two words of a worker on how fast it is
TEMPI = 9  # of which the median is said


@final
class Worker(Member):
    """Runs the lanes of its range, one group at a time; ``server`` is its node's."""

    def __init__(
        self,
        me: Address,
        driver: Address,
        server: Address,
        lanes: int,
        *,
        reproducible: bool,
        retry: float,
        orphan_timeout: float,
    ) -> None:
        super().__init__(me, driver, lanes, reproducible=reproducible, retry=retry, orphan_timeout=orphan_timeout)
        self.server = server
        self.rule: Rule = BSP
        self.range = Part(0, 0)
        self.stage = "idle"  # see STAGES
        self.at: list[int] = []  # of each own lane: the clock that it computes next
        self.took: list[int] = []  # of each own lane: the clocks that its server took
        self._level = -1  # the clock of all own lanes, where they stand alike: ``at`` is out of date then
        self._least = 0  # of ``took``, likewise
        self.floor = -1  # of the node's view; −1: not heard of in this term
        self.finished = False
        self.read_ahead = False  # whether to gather the next rows while the server is waited for
        self.lags = [0] * MOST_LAG
        self.waited: dict[Address, float] = {}
        self._ahead_of: list[tuple[int, ...]] = []  # of each own lane: what each shard has applied of it
        self._last = 0  # the lane that the view waits for
        self._ends: list[int] = []  # where the lanes of each worker end
        self._placed = -1  # the term of the last placement
        self._work: Gradient | None = None
        self._group = Part(0, 0)
        self._stale = False
        self._owed = -1  # the ticket of a placement that is answered once the old term's gradient is done
        self._pushes: list[Push] = []  # not taken yet
        self._evaluation: tuple[int, EvaluateRows] | None = None
        self._evaluating: EvaluateRows | None = None  # under way, maybe for an older term
        self._blocked = -1.0  # since when it waits for other lanes
        self._began = 0.0
        self._tempo = False
        self._tempi: deque[float] = deque(maxlen=TEMPI)
        self._tempo_due = 0.0
        self._on_message[View] = self._view
        self._on_request[Place] = self._place

    # -- terms --------------------------------------------------------------------------------------------------------
    def _place(self, body: Place, _now: float) -> Commands:
        self.workers, self.rule, self._tempo = body.workers, body.rule, body.tempo
        self._ends = [hi for _lo, hi in body.ranges]
        self._placed = self.term
        own = body.ranges[body.workers.index(self.me)] if self.me in body.workers else Part(0, 0)
        self.range = own
        self._ahead_of = [tuple(shard[lane] for shard in body.applied) for lane in range(*own)]
        self.at = [min(shards) for shards in self._ahead_of]
        self.took = list(self.at)
        self._level = -1
        self._settle_level()
        self.until = min(self.at, default=0)  # nobody starts before all old gradients are done: they write blocks
        self.floor, self.finished, self._pushes, self._blocked = -1, False, [], -1.0
        self._tempi.clear()
        self._evaluation = None
        if self.stage == "computing":
            self._stale, self._owed = True, self._ticket  # its result belongs to the old term
            return []
        self.stage = "idle"
        return [*self._answer(Done()), self._greet()]

    def _greet(self) -> Send:
        """Ask the server for a word on its view: it may have said it before this worker knew of the term."""
        return Send(self.server, Push(self.term, -1, ()))

    def _proceed(self, body: Proceed, now: float) -> Commands:
        commands = super()._proceed(body, now)
        return [*self._answer(Done()), *commands, *self._advance(now)]

    def _leave(self, body: Leave, _now: float) -> Commands:
        left = Left(tuple(self.lags), tuple(sorted(self.waited.items())))
        return [*self._answer(left), Stop(body.reason)]

    # -- lanes --------------------------------------------------------------------------------------------------------
    def _settle_level(self) -> None:
        """See whether all own lanes stand alike by now."""
        if not self.at or self.rule.lanewise:
            return
        clock = self.at[0]
        if self.at.count(clock) == len(self.at) and all(max(one) <= clock for one in self._ahead_of):
            self._level, self._least = clock, min(self.took)

    def _next(self) -> tuple[int, Part] | None:
        """The clock and the lanes that are furthest behind and stand alike; None where the lease is used up."""
        clock = min(self.at, default=self.until)
        if clock >= self.until:
            return None
        first = self.at.index(clock)
        stop = first + 1
        if not self.rule.lanewise:
            alike = self._alike(first, clock)
            while stop < len(self.at) and self.at[stop] == clock and self._alike(stop, clock) == alike:
                stop += 1
        return clock, Part(self.range.lo + first, self.range.lo + stop)

    def _alike(self, i: int, clock: int) -> tuple[bool, ...]:
        """Which shards have the delta of ``clock`` of own lane ``i`` already, from an earlier term."""
        applied = self._ahead_of[i]
        return tuple([one > clock for one in applied]) if max(applied) > clock else ()

    def _advance(self, now: float) -> Commands:
        if self.stage != "idle" or self.finished or self.term != self._placed or self.floor < 0 or self.orphaned:
            return []
        clock, group = self._level, self.range
        if clock >= 0:
            if clock >= self.until or self._least < clock:
                return []
        else:
            following = self._next()
            if following is None:
                return []
            clock, group = following
            lo = self.range.lo
            if min(self.took[group.lo - lo : group.hi - lo]) < clock:
                return []  # the blocks are in use still
        if not self.rule.may_start(clock, self.floor):
            if self._blocked < 0:
                self._blocked = now
            return []
        if self._blocked >= 0:
            self._unblock(now)
        lag = clock - self.floor
        self.lags[lag if 0 <= lag < MOST_LAG else 0 if lag < 0 else MOST_LAG - 1] += group.hi - group.lo
        self.stage = "reading"
        self._group = group
        parts = tuple(subtrees(self.lanes, group)) if self.reproducible else (group,)
        self._work = Gradient(clock, parts)
        return [Read(clock if self.rule.exact else NEWEST)]

    def _unblock(self, now: float) -> None:
        """It waited for the worker of the lane that came last; where that was its own, for nobody."""
        worker = self.workers[bisect_right(self._ends, self._last)]
        if worker != self.me:
            self.waited[worker] = self.waited.get(worker, 0.0) + now - self._blocked
        self._blocked = -1.0

    def _read_ready(self, _event: ReadReady, now: float) -> Commands:
        if self.stage != "reading":
            return []
        assert self._work is not None
        self.stage = "computing"
        self._began = now
        return [Compute(self._work)]

    def _gradient_done(self, work: Gradient, _result: object, now: float) -> Commands:
        self.stage = "idle"
        if self._stale or self.term != self._placed or work != self._work:
            self._stale = False
            owed = [*self._answer(Done()), self._greet()] if self._owed == self._ticket else []
            self._owed = -1
            return [*owed, *self._advance(now)]
        group, clock = self._group, work.clock
        self._progress += 1
        told = self._measure(now, group.hi - group.lo) if self._tempo else []
        if not self._move_on(group, clock):
            return [*told, *self._advance(now)]  # the clock went on without it
        push = Push(self.term, clock, work.parts)
        self._pushes.append(push)
        if self.rule.whole:
            self._blocked = now  # until the view has the clock
        commands: Commands = [Send(self.server, push), *told]
        if self.read_ahead and group == self.range and self.rule.whole and clock + 1 < self.until:
            commands.append(Compute(Ahead(clock + 1, work.parts)))
        return commands if self._level >= 0 else [*commands, *self._advance(now)]

    def _move_on(self, group: Part, clock: int) -> bool:
        """``group`` is done with ``clock``; False if it was left out of it meanwhile."""
        if self._level >= 0:
            self._level = clock + 1
            return True
        lo = self.range.lo
        if self.at[group.lo - lo] > clock:
            return False
        for i in range(group.lo - lo, group.hi - lo):
            self.at[i] = clock + 1
        self._settle_level()
        return True

    def _measure(self, now: float, lanes: int) -> Commands:
        self._tempi.append((now - self._began) / lanes)
        if now < self._tempo_due or len(self._tempi) < 3:
            return []
        self._tempo_due = now + TEMPO_EVERY
        return [Send(self.driver, Tempo(self.term, median(self._tempi)))]

    def _view(self, _sender: Address, message: View, now: float) -> Commands:
        if message.term != self.term or self.term != self._placed or len(message.lanes) != len(self.at):
            return []
        self.floor = max(self.floor, message.floor)
        if self.rule.whole:
            self._last = message.last
            if self._blocked >= 0 and self._work is not None and self.floor > self._work.clock:
                self._unblock(now)
        self.finished = self.finished or message.finished
        if self._level >= 0:
            self._least = max(self._least, min(message.lanes))
            if self._pushes and self._least > self._pushes[-1].clock:
                self._pushes = []
        else:
            self._take(message.lanes)
        evaluation = self._begin_evaluation() if self._evaluation is not None else []
        commands = [*evaluation, *self._advance(now)]
        self._last = message.last  # where lanes run apart, it was waited for the lane that the view before lacked
        return commands

    def _take(self, lanes: tuple[int, ...]) -> None:
        for i, took in enumerate(lanes):
            if took > self.took[i]:
                self.took[i] = took
                self.at[i] = max(self.at[i], took)  # it was left out of clocks
        lo = self.range.lo
        self._pushes = [one for one in self._pushes if self.took[one.parts[0].lo - lo] <= one.clock]
        self._settle_level()

    # -- looking ------------------------------------------------------------------------------------------------------
    def _evaluate(self, body: Evaluate, _now: float) -> Commands:
        if self.range.lo == self.range.hi:
            return self._answer(Sums(0, ()))
        self._evaluation = (self._ticket, EvaluateRows(body.clock, body.sets, self.range))
        return self._begin_evaluation()

    def _begin_evaluation(self) -> Commands:
        """Once the view has the clock: servers may have said that it is reached before this node has heard of it.

        One at a time, and never twice the same: the second would read after all others have gone on.
        """
        if self._evaluation is None or self._evaluating is not None or self.floor < self._evaluation[1].clock:
            return []
        self._evaluating = self._evaluation[1]
        return [Compute(self._evaluating)]

    def _evaluated(self, work: EvaluateRows, result: object, _now: float) -> Commands:
        self._evaluating = None
        if self._evaluation != (self._ticket, work):
            return self._begin_evaluation()
        self._evaluation = None
        return self._answer(Sums(work.lanes.lo, result))  # type: ignore[arg-type]

    # -- again --------------------------------------------------------------------------------------------------------
    def _resend(self, now: float) -> Commands:
        commands = super()._resend(now)
        if self.term != self._placed or self.stage == "computing":
            return commands
        return [*commands, *(Send(self.server, one) for one in self._pushes), self._greet()]

    def waits(self) -> bool:
        """Pushed, or leased, and not allowed to go on yet."""
        clock = self._level if self._level >= 0 else min(self.at, default=self.until)
        return self.stage == "idle" and not self.finished and clock < self.until

    def validate(self) -> None:
        """Within the lease; no lane is further than its own push, nor ahead of the slowest by more than the rule."""
        super().validate()
        if self.stage == "idle" or self._stale or self.term != self._placed:
            return
        assert self._work is not None
        clock = self._work.clock
        if clock >= self.until:
            raise self.refuse(f"works at clock {clock} beyond its lease {self.until}")
        if not self.rule.may_start(clock, self.floor):
            raise self.refuse(f"works at clock {clock} under {self.rule} with the view at {self.floor}")
