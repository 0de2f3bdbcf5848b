"""Runners: read A at a clock, compute Δ, push it to the owners, wait until all have committed. Rules in ``member``."""

from __future__ import annotations

from trivium.core.lanes import Part, subtrees
from trivium.core.member import BSP_LEAD, Member
from trivium.core.messages import Ahead, Assign, Committed, Done, Evaluate, EvaluateRows, Gradient, Proceed, Push, Sums
from trivium.core.role import Address, Commands, Compute, Read, ReadReady, Send

__all__ = ["STAGES", "Runner"]

STAGES = {  # where a runner goes from each stage, and when
    "idle": {"reading": "leased, and every shard has committed the clock"},
    "reading": {"computing": "A can be read", "idle": "a term began"},
    "computing": {"pushed": "Δ is done", "idle": "Δ is done, but its term is over"},
    "pushed": {"idle": "every shard has committed, or a term began"},
}


class Runner(Member):
    """Runs lanes: reads A at a clock, computes Δ, pushes it to the owners, waits until all have committed."""

    def __init__(
        self, me: Address, driver: Address, lanes: int, *, reproducible: bool, retry: float, orphan_timeout: float
    ) -> None:
        super().__init__(me, driver, lanes, reproducible=reproducible, retry=retry, orphan_timeout=orphan_timeout)
        self.clock = 0
        self.range = Part(0, 0)
        self.parts: tuple[Part, ...] = ()
        self.stage = "idle"  # see STAGES
        self.finished = False
        self._seen: list[int] = []  # the highest clock that each shard is known to have committed
        self._behind = 0  # shards not known to have committed clock + 1
        self._work: Gradient | None = None
        self._stale = False
        self.read_ahead = False  # whether to gather the next rows while the shards are waited for
        self._pushes_to: tuple[Address, ...] = ()
        self._owed = -1  # the ticket of an assignment that is answered once the old term's gradient is done
        self._assigned = -1  # the term of the last assignment; a peer may be fenced and not assigned yet
        self._evaluation: tuple[int, EvaluateRows] | None = None

    def _assign(self, body: Assign, now: float) -> Commands:
        if self.me not in body.workers:
            return super()._assign(body, now)
        self.range = body.ranges[body.workers.index(self.me)]
        self.parts = tuple(subtrees(self.lanes, self.range)) if self.reproducible else (self.range,)
        self.clock, self._assigned = body.clock, self.term
        self._seen = [body.clock] * len(body.owners)
        self._pushes_to = tuple(dict.fromkeys(body.owners))
        self._behind = len(body.owners)
        self.finished = False
        if self.stage != "computing":
            self.stage = "idle"
            return super()._assign(body, now)
        self._stale = True  # its result belongs to the old term
        self._owed = self._ticket
        self._take_up(body)
        return []

    def _proceed(self, body: Proceed, now: float) -> Commands:
        commands = super()._proceed(body, now)
        return [*commands, *self._advance()]

    def _advance(self) -> Commands:
        if self.stage == "pushed" and self._behind == 0:
            self.stage = "idle"
            self.clock += 1
            self._progress += 1
            self._behind = len(self._seen)  # no shard is ahead of a clock that this runner has not pushed
        if (
            self.term != self._assigned
            or self.stage != "idle"
            or self.clock >= self.until
            or self.finished
            or self.range.lo == self.range.hi
        ):
            return []
        self.stage = "reading"
        return [Read(self.clock)]

    def _read_ready(self, event: ReadReady, _now: float) -> Commands:
        if self.stage != "reading" or event.clock != self.clock:
            return []
        self.stage = "computing"
        self._work = Gradient(self.clock, self.parts)
        return [Compute(self._work)]

    def _gradient_done(self, work: Gradient, _result: object, now: float) -> Commands:
        if self._stale or self.term != self._assigned or work != self._work:
            self._stale = False
            self.stage = "idle"
            owed = self._answer(Done()) if self._owed == self._ticket else []
            self._owed = -1
            return [*owed, *self._advance()]
        self.stage = "pushed"
        pushes = self._send_pushes(now)
        if self.read_ahead and self.stage == "pushed" and self.clock + 1 < self.until:
            pushes.append(Compute(Ahead(self.clock + 1, self.parts)))
        return pushes

    def _send_pushes(self, now: float) -> Commands:
        push = Push(self.term, self.clock, self.parts)
        commands: Commands = []
        for owner in self._pushes_to:
            if owner == self.me:
                commands += self._push(self.me, push, now)
            else:
                commands.append(Send(owner, push))
        return commands

    def _committed(self, _sender: Address, message: Committed, _now: float) -> Commands:
        if message.term != self.term or not self._seen:
            return []
        shard, clock = message.shard, message.clock
        self.finished = self.finished or message.finished
        if self._seen[shard] >= clock:
            return []
        if self._seen[shard] <= self.clock < clock:
            self._behind -= 1
        self._seen[shard] = clock
        return self._advance() if self._behind == 0 else []

    def _evaluate(self, body: Evaluate, _now: float) -> Commands:
        if self.range.lo == self.range.hi:
            return self._answer(Sums(0, ()))
        self._evaluation = (self._ticket, EvaluateRows(body.clock, body.sets, self.range))
        return [Compute(self._evaluation[1])]

    def _evaluated(self, work: EvaluateRows, result: object, _now: float) -> Commands:
        if self._evaluation != (self._ticket, work) or self._reply is not None:
            return []  # asked for before a fence
        return self._answer(Sums(work.lanes.lo, result))  # type: ignore[arg-type]

    def _resend(self, now: float) -> Commands:
        commands = super()._resend(now)
        if self.stage != "pushed" or self.term != self._assigned:
            return commands
        return [*commands, *self._send_pushes(now)]

    def waits(self) -> bool:
        """Pushed, and not all shards have committed."""
        return self.stage == "pushed" or super().waits()

    def validate(self) -> None:
        """Clock within the lease; what is known of the shards at most one clock ahead of this runner's."""
        super().validate()
        current = self.workers and self.term == self._assigned and not self._stale
        if current and self.stage != "idle" and self.clock >= self.until:
            raise self.refuse(f"works at clock {self.clock} beyond its lease {self.until}")
        if any(seen > self.clock + BSP_LEAD for seen in self._seen):
            raise self.refuse(f"clock {self.clock}, but shards are at {self._seen}")
        if self._behind != sum(seen <= self.clock for seen in self._seen):
            raise self.refuse(f"counts {self._behind} shards behind clock {self.clock} of {self._seen}")
