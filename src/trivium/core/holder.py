"""Holders: own shards of A, admit deltas, apply F once every lane is in, commit. Rules in ``member``."""

from __future__ import annotations

from collections.abc import Sequence

from trivium.core.lanes import Part, lane_mask
from trivium.core.member import BSP_LEAD, Member
from trivium.core.messages import (
    Adopt,
    Apply,
    Assign,
    Committed,
    Done,
    Failed,
    Fence,
    Fold,
    Keep,
    KeepShard,
    Partials,
    Proceed,
    Push,
    Reached,
    Save,
    SaveShard,
    Standing,
)
from trivium.core.role import Address, Commands, Compute, Persist, Persisted, Send, Stop

__all__ = ["STAGES", "Holder", "ShardState"]

STAGES = {  # where a shard goes from each stage at its holder, and when
    "collect": {"apply": "every lane is in", "fold": "every lane is in, F has two steps"},
    "fold": {"exchange": "its partial sums are written", "collect": "a term began"},
    "exchange": {"apply": "all partial sums are there, or one shard has settled", "collect": "a term began"},
    "apply": {"collect": "committed"},
}


class ShardState:
    """One shard at its holder: the clock it has committed and what of the next one is there."""

    __slots__ = ("clock", "finished", "have", "partials", "parts", "settled", "stage")

    def __init__(self, clock: int, finished: bool = False) -> None:
        self.clock, self.finished = clock, finished
        self.have = 0
        self.parts: list[Part] = []
        self.stage = "collect"  # see STAGES
        self.partials = 0  # bit set of the shards whose partial sums of this clock can be read
        self.settled = -1  # a shard that has applied this clock already

    def drop(self) -> None:
        """Forget what is not committed."""
        self.have, self.stage, self.partials, self.settled = 0, "collect", 0, -1
        self.parts = []


class Holder(Member):
    """Owns shards of A: admits deltas, applies F once all lanes are in, commits, tells the workers."""

    def __init__(
        self,
        me: Address,
        driver: Address,
        lanes: int,
        *,
        reproducible: bool,
        retry: float,
        orphan_timeout: float,
        elementwise: bool,
    ) -> None:
        super().__init__(me, driver, lanes, reproducible=reproducible, retry=retry, orphan_timeout=orphan_timeout)
        self.elementwise = elementwise
        self.shards: dict[int, ShardState] = {}
        self._full = (1 << lanes) - 1
        self._adopting: set[int] = set()
        self._fencing = False
        self._awaited: set[object] = set()  # shards of a Keep or Save under way
        self._unsaved = ""  # why an orphan could not save something
        self._writing: set[object] = set()  # records on their way to the disk, whoever asked
        self._sums = [0.0, 0.0, 0.0]
        self._base: int | None = None  # the clock at which the term started: each shard has a version of it
        self._summed = 0  # sums hold the clocks before this one
        self._iterations = 0
        self._waits_for_lease = False
        self._lead = 0  # the clock committed last, and whether any shard has finished: spare a look at all of them
        self._any_finished = False
        self._masks: dict[tuple[Part, ...], int] = {}

    # -- terms --------------------------------------------------------------------------------------------------------
    def _fence(self, body: Fence, now: float) -> Commands:
        self.owners = body.owners
        self._awaited.clear()
        self._waits_for_lease = False
        self._fencing = True
        mine = {shard for shard, owner in enumerate(body.owners) if owner == self.me}
        self._adopting |= mine - self.shards.keys()
        commands: Commands = [Compute(Adopt(shard)) for shard in sorted(self._adopting)]
        return [*commands, *self._fenced(now)]

    def _fenced(self, _now: float) -> Commands:
        if not self._fencing or self._adopting or any(s.stage in {"fold", "apply"} for s in self.shards.values()):
            return []
        self._fencing = False
        for state in self.shards.values():
            state.drop()
        return self._answer(Standing(tuple((shard, state.clock) for shard, state in sorted(self.shards.items()))))

    def _adopted(self, work: Adopt, result: tuple[int, bool], now: float) -> Commands:
        if work.shard in self._adopting:
            self._adopting.discard(work.shard)
            self.shards[work.shard] = ShardState(*result)
        return self._rescue() if self.orphaned else self._fenced(now)

    def _assign(self, body: Assign, now: float) -> Commands:
        commands = super()._assign(body, now)
        self._base = body.clock
        if self.elementwise:
            return commands
        for shard, state in self.shards.items():
            if state.clock > body.clock:
                commands += self._tell_partials(shard, body.clock, settled=True, now=now)
        return commands

    # -- deltas in ----------------------------------------------------------------------------------------------------
    def _push(self, sender: Address, message: Push, now: float) -> Commands:
        if message.term != self.term or self._fencing or self.orphaned:
            return []  # a term that is over, or one not assigned yet: it will come again
        commands: Commands = []
        mask = self._masks.get(message.parts)
        if mask is None:
            mask = self._masks[message.parts] = lane_mask(message.parts)
        for shard, state in self.shards.items():
            if message.clock < state.clock or state.finished:
                if sender != self.me:
                    commands.append(Send(sender, Committed(self.term, shard, state.clock, state.finished)))
                else:
                    commands += self._committed(self.me, Committed(self.term, shard, state.clock, state.finished), now)
            elif message.clock > state.clock:
                raise self.refuse(f"{sender} pushed clock {message.clock}; shard {shard} is at {state.clock}")
            elif not mask & state.have:
                state.have |= mask
                state.parts += message.parts
                if state.have == self._full:
                    commands += self._complete(shard, state)
        return commands

    def _complete(self, shard: int, state: ShardState) -> Commands:
        parts = tuple(sorted(state.parts))
        if self.elementwise:
            state.stage = "apply"
            return [Compute(Apply(shard, state.clock, parts, False, -1))]
        state.stage = "fold"
        return [Compute(Fold(shard, state.clock, parts))]

    # -- two-step F ---------------------------------------------------------------------------------------------------
    def _folded(self, work: Fold, _result: object, now: float) -> Commands:
        state = self.shards.get(work.shard)
        if state is None or state.stage != "fold":
            return []
        if self._fencing or self.orphaned:
            state.drop()
            return self._rescue() if self.orphaned else self._fenced(now)
        state.stage = "exchange"
        return self._tell_partials(work.shard, work.clock, settled=False, now=now)

    def _tell_partials(self, shard: int, clock: int, *, settled: bool, now: float) -> Commands:
        word = Partials(self.term, shard, clock, settled)
        commands: Commands = [Send(owner, word) for owner in dict.fromkeys(self.owners) if owner != self.me]
        return [*commands, *self._partials(self.me, word, now)]

    def _partials(self, sender: Address, message: Partials, _now: float) -> Commands:
        if message.term != self.term or self.orphaned:
            return []
        commands: Commands = []
        for shard, state in self.shards.items():
            if state.clock == message.clock + 1 and sender != self.me and not message.settled:
                commands.append(Send(sender, Partials(self.term, shard, message.clock, True)))
            if state.clock != message.clock:
                continue
            state.partials |= 1 << message.shard
            if message.settled:
                state.settled = message.shard
            if state.stage == "exchange" and (state.settled >= 0 or self._all_partials(state)):
                state.stage = "apply"
                commands.append(Compute(Apply(shard, state.clock, tuple(sorted(state.parts)), True, state.settled)))
        return commands

    def _all_partials(self, state: ShardState) -> bool:
        return state.partials == (1 << len(self.owners)) - 1

    # -- commit -------------------------------------------------------------------------------------------------------
    def _applied(self, work: Apply, result: tuple[bool, int, float, float, float], now: float) -> Commands:
        state = self.shards[work.shard]
        state.drop()
        state.clock = work.clock + 1
        self._progress += 1
        finished, iterations, rows, weight, loss = result
        state.finished = state.finished or finished
        self._any_finished = self._any_finished or finished
        self._lead = state.clock
        self._iterations = iterations
        if work.clock >= self._summed:
            self._summed = state.clock
            self._sums = [self._sums[0] + rows, self._sums[1] + weight, self._sums[2] + loss]
        if self.orphaned:
            return self._rescue()
        if self._fencing:
            return self._fenced(now)
        word = Committed(self.term, work.shard, state.clock, state.finished)
        commands: Commands = [Send(worker, word) for worker in self.workers if worker != self.me]
        if self.me in self.workers:
            commands += self._committed(self.me, word, now)
        return [*commands, *self._reached()]

    def _proceed(self, body: Proceed, now: float) -> Commands:
        commands = super()._proceed(body, now)
        self._waits_for_lease = True
        self._lead = max((state.clock for state in self.shards.values()), default=0)
        self._any_finished = any(state.finished for state in self.shards.values())
        return [*commands, *(self._reached() if self.shards else self._answer(Done()))]

    def _reached(self) -> Commands:
        if not self._waits_for_lease or (self._lead < self.until and not self._any_finished):
            return []
        finished = all(state.finished for state in self.shards.values())
        clock = min(state.clock for state in self.shards.values())
        even = clock == max(state.clock for state in self.shards.values())
        if clock < self.until and not (finished and even):
            return []
        self._waits_for_lease = False
        rows, weight, loss = self._sums
        self._sums = [0.0, 0.0, 0.0]
        return self._answer(Reached(clock, finished, self._iterations, rows, weight, loss))

    # -- keep and save ------------------------------------------------------------------------------------------------
    def _keep(self, body: Keep, _now: float) -> Commands:
        self._awaited = set(self.shards)
        if not self._awaited:
            return self._answer(Done())
        return [Compute(KeepShard(shard, body.clock)) for shard in sorted(self.shards)]

    def _kept(self, work: KeepShard, _result: object, _now: float) -> Commands:
        return self._tick_off(work.shard)

    def _save(self, body: Save, _now: float) -> Commands:
        records = [SaveShard(shard, body.clock, body.best) for shard in sorted(self.shards)]
        self._awaited = set(records)
        return self._write(records) if records else self._answer(Done())

    def _write(self, records: Sequence[SaveShard]) -> Commands:
        """Write what is not being written already: a term may ask again for a save that a slow disk still works at."""
        fresh = [record for record in records if record not in self._writing]
        self._writing.update(fresh)
        return [Persist(record) for record in fresh]

    def _persisted(self, event: Persisted, _now: float) -> Commands:
        self._writing.discard(event.record)
        if self.orphaned:
            if event.record not in self._awaited:
                return []  # asked for by the driver that is gone
            self._awaited.discard(event.record)
            self._unsaved = self._unsaved or event.error
            if self._awaited:
                return []
            told = f"not all could be saved: {self._unsaved}" if self._unsaved else "what was committed is saved"
            return [Stop(f"the driver is gone; {told}")]
        if event.error:
            return self._tell_failure(Failed(event.error, "", storage=True))
        return self._tick_off(event.record)

    def _tick_off(self, one: object) -> Commands:
        if one not in self._awaited:
            return []
        self._awaited.discard(one)
        return [] if self._awaited else self._answer(Done())

    # -- an orphan ----------------------------------------------------------------------------------------------------
    def _rescue(self) -> Commands:
        if any(state.stage in {"fold", "apply"} for state in self.shards.values()):
            return []  # first let what is being summed commit
        records = [
            SaveShard(shard, clock, -1) for shard, state in self.shards.items() for clock in self._rescued(state)
        ]
        self._awaited = set(records)
        return self._write(records)

    def _rescued(self, state: ShardState) -> Sequence[int]:
        """Both readable versions, where another holder's shard may be one clock behind this one."""
        behind = self._base is not None and self._base < state.clock
        return (state.clock - 1, state.clock) if behind else (state.clock,)

    def _resend(self, now: float) -> Commands:
        commands = super()._resend(now)
        for shard, state in self.shards.items():
            if state.stage == "exchange":
                commands += self._tell_partials(shard, state.clock, settled=False, now=now)
        return commands

    def waits(self) -> bool:
        """In the middle of a lease."""
        return (self._lead < self.until and not self._any_finished and bool(self.shards)) or super().waits()

    def validate(self) -> None:
        """Shards at most one clock apart; what is collected matches the parts; no lane twice."""
        super().validate()
        for shard, state in self.shards.items():
            if sum(hi - lo for lo, hi in state.parts) != state.have.bit_count():
                raise self.refuse(f"shard {shard} counts a lane twice: {state.parts}")
            if state.stage in {"fold", "exchange", "apply"} and state.have != self._full:
                raise self.refuse(f"shard {shard} is at {state.stage} without all lanes")
        clocks = [state.clock for state in self.shards.values()]
        if clocks and max(clocks) - min(clocks) > BSP_LEAD:
            raise self.refuse(f"shards are {clocks}, more than one clock apart")
