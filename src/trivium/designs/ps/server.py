"""Servers: one a node; primary of some shards, copy of others, keeper of the node's view.

Rules
-----
1. A push is (lanes, clock, shard). A shard admits of each lane exactly the clock that comes next (``Shard.expect``):
   what was applied is answered and changes nothing, what is early will be sent again.
2. The primary makes *steps*. Under a whole rule (bsp, backup) a step is one clock: the sum of all lanes but for those
   that may be left out. Otherwise it is whatever was admitted since the last step. One step of a shard is under way at
   a time, so that pushes gather while copies are waited for.
3. A step is sent to the copies that count before it is settled; copies run F themselves on the same sum. Only settled
   steps are told to anybody: to the node that pushed (``Taken``), to readers (``View``, ``Fresh``), to the driver. With
   two copies, the other one knows by itself that a step which it holds is settled.
4. A node sums its lanes' deltas before they leave it: under bsp all of them, else what has gathered. What left is kept
   until it is taken, and sent again meanwhile.
5. A term (``Stand``) drops all that is not settled, but not the last step of a copy: where a copy is a step behind, the
   primary sends that step again in the new term. Lanes go on from what each shard has applied: a lane's clock is
   computed again if any shard lacks it, and refused by those that have it.
6. Lanes that were computed together stay together: each shard has applied their clock for all or none of them, so that
   no push is ever half new (see ``worker``).
7. A learner fetches a whole shard between two steps and gets each Copy from then on; it counts from a later term.

Prior art: Li et al., *Scaling distributed machine learning with the parameter server* (OSDI 2014: chain replication,
vector clocks of ranges); Wei et al., *Managed communication and consistency for fast data-parallel iterative analytics*
(SoCC 2015: Bösen).
"""

from __future__ import annotations

from typing import final

from trivium.core.consistency import BSP, Rule
from trivium.core.exchange import (
    Advance,
    Combine,
    Copy,
    Delta,
    Dropped,
    Entry,
    Fetch,
    Forget,
    Found,
    Fresh,
    Gather,
    Held,
    Learn,
    Learned,
    Partial,
    Scale,
    Seek,
    Serve,
    Settled,
    Show,
    Taken,
    TakeUp,
    View,
    Want,
    Whole,
)
from trivium.core.lanes import Part, lane_mask, subtrees
from trivium.core.member import Member
from trivium.core.messages import (
    Adopt,
    Copied,
    Done,
    Failed,
    Keep,
    KeepShard,
    Leave,
    Place,
    Proceed,
    Push,
    Reached,
    Save,
    SaveShard,
    Served,
    Stand,
    Stands,
)
from trivium.core.role import Address, Commands, Compute, Persist, Persisted, Send, Started, Stop, Work
from trivium.designs.ps.shards import Bundle, Clocks, Shard, reaches

__all__ = ["Server"]

METER = 0  # the shard whose primary counts rows


@final
class Server(Member):
    """Holds shards, sums its node's deltas, tells its node's workers how far the view is."""

    def __init__(
        self,
        me: Address,
        driver: Address,
        lanes: int,
        shards: int,
        *,
        reproducible: bool,
        retry: float,
        orphan_timeout: float,
        elementwise: bool,
    ) -> None:
        super().__init__(me, driver, lanes, reproducible=reproducible, retry=retry, orphan_timeout=orphan_timeout)
        self.elementwise = elementwise
        self.shards = [Shard(lanes) for _ in range(shards)]
        self.rule: Rule = BSP
        self.dropped = 0  # deltas of lanes that were left out
        self.servers: tuple[Address, ...] = ()
        self._nodes: dict[int, Address] = {}
        self.placement: tuple[int, Place] | None = None  # the last one, for a driver that takes over
        self._placed = -1
        self._new = True  # whether it was never placed: it has what all start from
        self._standing = self._forgot = False
        self._busy = 0  # computes under way that a term must wait for
        self._local: list[tuple[Address, Part]] = []  # this node's workers with lanes
        self._node_mask = 0
        self._node_range = Part(0, 0)
        self._pushed: list[int] = [0] * lanes  # of this node's lanes: the clocks that came from workers in this term
        self._gathered: list[Clocks] = []  # of each shard: what left the blocks (asp reads no further than that)
        self._told: dict[Address, View] = {}
        self._latest = -1  # the lane that came last in the last whole clock that was made here
        self._said: tuple[Clocks, Clocks, bool] | None = None  # what they were told of: taken, seen, finished
        self._start: list[int] = []  # the tags at which the term begins; empty once the view has come to them
        self._waits_for_lease = False
        self._sums = [0.0, 0.0, 0.0]
        self._iterations = 0
        self._leased = 0  # sums are of the clocks of this lease, which ends here
        self._keep_due: Keep | None = None
        self._awaited: set[object] = set()
        self._writing: set[object] = set()
        self._unsaved = ""
        self._learning: dict[int, Address] = {}
        self._round = (0, 0)  # term and round of what it learns
        self._on_message |= {
            Delta: self._delta,
            Taken: self._taken,
            Copy: self._copy,
            Held: self._held,
            Settled: self._settled,
            Fresh: self._fresh,
            Want: self._want,
            Partial: self._partial,
            Learn: self._learn,
            Fetch: self._fetch,
            Whole: self._whole,
            Seek: self._seek,
            Found: self._found,
        }
        self._on_request |= {Stand: self._stand, Place: self._place}
        self._on_work |= {
            Adopt: self._adopted,
            Gather: self._gather_done,
            Combine: self._combined,
            Scale: self._scaled,
            Advance: self._advanced,
            Show: self._shown,
            TakeUp: self._taken_up,
            Forget: self._forgotten,
            Serve: self._forgotten,
            KeepShard: self._kept,
        }

    # -- terms --------------------------------------------------------------------------------------------------------
    def _started(self, event: Started, now: float) -> Commands:
        return [*super()._started(event, now), *(self._do(Adopt(index)) for index in range(len(self.shards)))]

    def _adopted(self, work: Adopt, result: tuple[int, bool], now: float) -> Commands:
        """What all nodes start from: the first version, or a checkpoint of a whole clock."""
        self._busy -= 1
        shard = self.shards[work.shard]
        tag, shard.finished = result
        shard.applied = shard.before = shard.seen = (tag // self.lanes,) * self.lanes
        return self._closed(now) if self._standing or self.orphaned else []

    def _do(self, work: Work) -> Compute:
        self._busy += 1
        return Compute(work)

    def _closed(self, now: float) -> Commands:
        """A compute is done and the term is not open: go on with what waited for that."""
        return self._rescue() if self.orphaned else self._stood(now)

    def _stand(self, _body: Stand, now: float) -> Commands:
        alone = len(self.servers) < 2 and not any(one.learners for one in self.shards)
        self._standing, self._forgot = True, alone  # alone, a step was never summed but to be committed
        self._waits_for_lease, self._keep_due = False, None
        self._awaited.clear()
        return self._stood(now)

    def _stood(self, _now: float) -> Commands:
        if not self._standing or self._busy:
            return []
        if not self._forgot:  # before it answers: what comes of the next term shall not be forgotten
            self._forgot = True
            return [self._do(Forget(index, -1)) for index in range(len(self.shards))]
        self._standing = False
        for shard in self.shards:
            shard.drop()
        self._told.clear()
        self._said = None
        self._placed = -1
        copies = [
            Copied(i, shard.applied, shard.before, shard.finished)
            for i, shard in enumerate(self.shards)
            if shard.live and shard.kind != "view"
        ]
        return self._answer(Stands(tuple(copies)))

    @property
    def _open(self) -> bool:
        """Whether the term is placed and nothing bids it stand."""
        return self._placed == self.term and not self._standing and not self.orphaned

    def _place(self, body: Place, now: float) -> Commands:
        self.rule, self.workers, self.servers = body.rule, body.workers, body.servers
        self.placement = (self.term, body)
        self._placed, self._new, self._standing = self.term, False, False
        self._nodes = {one.node: one for one in body.servers}
        mine = [
            (worker, lanes)
            for worker, lanes in zip(body.workers, body.ranges, strict=True)
            if worker.node == self.me.node
        ]
        self._local = mine
        lanes = [part for _worker, part in mine if part.lo < part.hi]
        self._node_mask = lane_mask(lanes)
        self._node_range = Part(min(lo for lo, _ in lanes), max(hi for _, hi in lanes)) if lanes else Part(0, 0)
        self._pushed = [min(column) for column in zip(*body.applied, strict=True)]
        self._gathered = list(body.applied)
        self._start = [sum(one) for one in body.applied]
        self.until = max(map(max, body.applied))
        self._told.clear()
        self._said = None
        commands: Commands = []
        for index, shard in enumerate(self.shards):
            commands += self._place_shard(index, shard, body)
        if not self.elementwise:
            least = min(map(min, body.applied))
            for index, shard in enumerate(self.shards):
                if shard.kind == "primary" and shard.applied[0] > least:
                    commands += self._tell_partial(index, shard, settled=True, now=now)
        return [*self._answer(Done()), *commands, *self._publish(now)]

    def _place_shard(self, index: int, shard: Shard, body: Place) -> Commands:
        holders, clocks = body.holders[index], body.applied[index]
        stage = shard.stage
        shard.drop()
        if stage == "advance":
            shard.stage = stage  # placed a second time in this term, while what came is being applied
        shard.primary, shard.expect = holders[0], list(clocks)
        shard.heirs = tuple(one for one in holders[1:] if one != self.me)
        shard.viewers = tuple(one for one in body.servers if one not in holders)
        shard.dropped = [0] * self.lanes
        behind = index in body.behind
        if self.me not in holders:
            if shard.kind in ("primary", "copy") and shard.applied == clocks:
                shard.seen = clocks
            shard.kind, shard.applied = "view", shard.seen
            self._learning.pop(index, None)
            if shard.seen == clocks:
                return []
            return [Send(shard.primary, Want(self.term, index, sum(shard.seen)))]
        shard.kind = "primary" if holders[0] == self.me else "copy"
        self._learning.pop(index, None)
        if not behind:
            shard.seen = clocks
        elif shard.kind == "primary":
            shard.stage = "copying"
            return self._send_copies(index, shard)
        elif shard.applied != clocks:
            return [Send(shard.primary, Held(self.term, index, shard.tag))]  # it may have sent the step too early
        return []

    # -- deltas of this node ------------------------------------------------------------------------------------------
    def _push(self, sender: Address, message: Push, now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        if not message.parts or self._pushed[message.parts[0].lo] > message.clock:
            return self._tell_again(sender)
        for lo, hi in message.parts:
            self._pushed[lo:hi] = [message.clock + 1] * (hi - lo)
        entry = Entry(message.clock, message.parts)
        bundle = Bundle((entry,), lane_mask(message.parts))
        commands: Commands = []
        for index, shard in enumerate(self.shards):
            if shard.kind == "primary":
                if shard.admit(bundle):
                    commands += self._try(index, shard)
            elif not self._was_applied(shard, entry):
                shard.outbox.waiting.append(entry)
                shard.outbox.mask |= bundle.mask
                commands += self._ship(index, shard)
                if not self.rule.eager and shard.asked < sum(shard.seen):
                    commands += self._ask_more(index, shard)
        return commands if commands or not self.rule.lanewise else self._publish(now)

    def _was_applied(self, shard: Shard, entry: Entry) -> bool:
        lane = entry.parts[0].lo
        return shard.expect[lane] > entry.clock or shard.seen[lane] > entry.clock  # left out: its block is in use again

    def _ship(self, index: int, shard: Shard) -> Commands:
        """Let what waits in the outbox be summed, once it is enough."""
        box = shard.outbox
        if not box.waiting or (self.rule.whole and not self.rule.lanewise and box.mask != self._node_mask):
            return []
        entries = tuple(box.waiting)
        parts: tuple[Part, ...] = ()
        box.waiting, box.mask = [], 0
        if self.rule.lanewise:
            parts = tuple(part for entry in entries for part in entry.parts)
        elif self.rule.whole:
            own = self._node_range
            parts = tuple(subtrees(self.lanes, own)) if self.reproducible else (own,)
        box.number += 1
        box.sent[box.number] = (entries, parts, False)
        return [self._do(Gather(index, box.number, entries, parts))]

    def _gather_done(self, work: Gather, _result: object, now: float) -> Commands:
        self._busy -= 1
        if not self._open:
            return self._closed(now)
        shard = self.shards[work.shard]
        if work.number not in shard.outbox.sent:
            return []
        shard.outbox.sent[work.number] = (work.entries, work.parts, True)
        clocks = list(self._gathered[work.shard])
        for entry in work.entries:
            for lo, hi in entry.parts:
                for lane in range(lo, hi):
                    clocks[lane] = max(clocks[lane], entry.clock + 1)
        self._gathered[work.shard] = tuple(clocks)
        delta = Delta(self.term, work.shard, work.number, self._outgoing(work.entries, work.parts), work.parts)
        commands: Commands = [Send(shard.primary, delta)]
        return [*commands, *(self._publish(now) if not self.rule.own or self.rule.lanewise else [])]

    def _outgoing(self, entries: tuple[Entry, ...], parts: tuple[Part, ...]) -> tuple[Entry, ...]:
        """How the primary shall know what was summed: by its parts where these are summed on, else by its lanes."""
        return (Entry(entries[0].clock, parts),) if parts else entries

    def _taken(self, _sender: Address, message: Taken, now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        if shard.outbox.sent.pop(message.number, None) is None:
            return []
        self._progress += 1
        forget: Commands = [self._do(Forget(message.shard, message.number))]
        if not self.rule.eager and shard.kind == "view" and sum(message.applied) > sum(shard.seen):
            return [*forget, Send(shard.primary, Want(self.term, message.shard, sum(shard.seen)))]
        return [*forget, *self._publish(now)]

    # -- deltas at their primary --------------------------------------------------------------------------------------
    def _delta(self, sender: Address, message: Delta, _now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        if shard.kind != "primary":
            return []
        bundle = Bundle.of(tuple([Entry(one.clock, one.parts, sender.node, message.number) for one in message.entries]))
        if shard.admit(bundle):
            return self._try(message.shard, shard)
        if reaches(shard.seen, bundle.entries):
            return [Send(sender, Taken(self.term, message.shard, message.number, shard.seen))]
        return []

    def _try(self, index: int, shard: Shard) -> Commands:
        """Begin a step if enough is in."""
        if shard.stage != "collect" or not shard.pending or shard.finished:
            return []
        whole = self.rule.whole
        if whole and not self.rule.complete(shard.have.bit_count(), self.lanes):
            return []
        tag = shard.tag
        entries = shard.take()
        told: Commands = []
        if whole:
            shard.latest = entries[-1].parts[-1].hi - 1
            entries = tuple(sorted(entries, key=_first_lane))
            clocks, mask = shard.whole_step()
            if self.rule.spare:
                told = self._count_dropped(index, shard, mask)
        else:
            clocks = shard.part_step()
        shard.step = (clocks, whole)
        if self.elementwise and not shard.heirs and not shard.learners:
            shard.stage = "advance"
            return [*told, self._do(Advance(index, tag, clocks, entries, whole, -1))]
        shard.stage = "combine"
        return [*told, self._do(Combine(index, tag, entries, whole))]

    def _count_dropped(self, index: int, shard: Shard, mask: int) -> Commands:
        again = shard.count_dropped(mask)
        if index == METER:
            self.dropped += self.lanes - mask.bit_count()
            if again:
                return [Send(self.driver, Dropped(self.term, tuple(again)))]
        return []

    def _combined(self, work: Combine, _result: object, now: float) -> Commands:
        self._busy -= 1
        if not self._open:
            return self._closed(now)
        shard = self.shards[work.shard]
        if self.elementwise:
            shard.stage = "advance"
            clocks, whole = shard.step
            return [*self._send_step(work.shard, shard), self._do(Advance(work.shard, work.tag, clocks, (), whole, -1))]
        shard.stage = "scale"
        return [self._do(Scale(work.shard, work.tag))]

    def _send_step(self, index: int, shard: Shard) -> Commands:
        copy = Copy(self.term, index, shard.applied, *shard.step)
        return [Send(one, copy) for one in (*shard.heirs, *sorted(shard.learners))]

    def _send_copies(self, index: int, shard: Shard) -> Commands:
        """The last step again, to whoever is not known to have it."""
        copy = Copy(self.term, index, shard.before, shard.applied, shard.step[1])
        return [Send(one, copy) for one in shard.heirs if shard.acked.get(one, -1) < shard.tag]

    # -- two-step F ---------------------------------------------------------------------------------------------------
    def _scaled(self, work: Scale, _result: object, now: float) -> Commands:
        self._busy -= 1
        if not self._open:
            return self._closed(now)
        self.shards[work.shard].stage = "exchange"
        return self._tell_partial(work.shard, self.shards[work.shard], settled=False, now=now)

    def _tell_partial(self, index: int, shard: Shard, *, settled: bool, now: float) -> Commands:
        word = Partial(self.term, index, shard.applied[0] - settled, settled)
        primaries = dict.fromkeys(one.primary for one in self.shards)
        return [*(Send(one, word) for one in primaries if one != self.me), *self._partial(self.me, word, now)]

    def _partial(self, sender: Address, message: Partial, _now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        commands: Commands = []
        for index, shard in enumerate(self.shards):
            if shard.kind != "primary":
                continue
            ahead = shard.applied[0] == message.clock + 1 and shard.quiet
            if ahead and sender != self.me and not message.settled:
                commands.append(Send(sender, Partial(self.term, index, message.clock, True)))
            if shard.applied[0] != message.clock:
                continue
            shard.partials |= 1 << message.shard
            if message.settled:
                shard.authority = message.shard
            commands += self._with_totals(index, shard)
        return commands

    def _with_totals(self, index: int, shard: Shard) -> Commands:
        if shard.stage != "exchange":
            return []
        if shard.authority < 0 and shard.partials != (1 << len(self.shards)) - 1:
            return []
        shard.stage = "advance"
        clocks, whole = shard.step
        return [self._do(Advance(index, shard.tag, clocks, (), whole, shard.authority))]

    # -- a step is made -----------------------------------------------------------------------------------------------
    def _advanced(self, work: Advance, result: tuple[bool, int, float, float, float], now: float) -> Commands:
        self._busy -= 1
        shard = self.shards[work.shard]
        shard.before, shard.applied = shard.applied, work.applied
        finished, iterations, *sums = result
        shard.finished = shard.finished or finished
        shard.authority, shard.partials = -1, 0
        if work.shard == METER:
            self._count(sums, iterations)
        self._progress += 1
        if shard.kind != "primary":
            shard.stage = "collect"  # a learner goes on to the next step before its node is placed
        if not self._open:
            return self._closed(now)
        if shard.kind == "primary":
            shard.stage = "copying"
            sent = [] if self.elementwise else self._send_after(work.shard, shard)
            return [*sent, *self._settle(work.shard, shard, now)]
        if shard.kind == "copy" and not shard.heirs:
            shard.seen = shard.applied  # the primary and this one: all copies hold it
        held: Commands = [Send(shard.primary, Held(self.term, work.shard, shard.tag))]
        return [*held, *self._publish(now)] if shard.kind == "copy" else []

    def _send_after(self, index: int, shard: Shard) -> Commands:
        """Copies of a two-step F get the totals with the sum."""
        copy = Copy(self.term, index, shard.before, shard.applied, shard.step[1])
        return [Send(one, copy) for one in (*shard.heirs, *sorted(shard.learners))]

    def _count(self, sums: list[float], iterations: int) -> None:
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)]
        self._iterations = iterations

    def _settle(self, index: int, shard: Shard, now: float) -> Commands:
        """The step is settled once every copy holds it: say so to all whom it concerns, and begin the next one."""
        tag = shard.tag
        if shard.stage != "copying" or any(shard.acked.get(one, -1) < tag for one in shard.heirs):
            return []
        shard.stage = "collect"
        shard.seen, self._latest = shard.applied, shard.latest
        fresh = shard.viewers if self.rule.eager else ()  # what they get says it as well
        commands: Commands = [
            Send(self._nodes[node], Taken(self.term, index, number, shard.seen))
            for node, number in shard.origins()
            if self._nodes[node] not in fresh
        ]
        shard.batch = []
        if len(shard.heirs) > 1:
            commands += [Send(one, Settled(self.term, index, tag)) for one in shard.heirs]
        commands += [*self._refresh(index, shard), *self._serve(index, shard)]
        return [*commands, *self._publish(now), *self._reached(), *self._try(index, shard)]

    def _refresh(self, index: int, shard: Shard) -> Commands:
        if not shard.viewers:
            return []
        to = shard.viewers if self.rule.eager else [one for one in shard.viewers if one in shard.wanted]
        for one in to:
            shard.wanted.pop(one, None)
        fresh = Fresh(self.term, index, shard.seen, shard.finished)
        return [Send(one, fresh) for one in to]

    # -- copies -------------------------------------------------------------------------------------------------------
    def _copy(self, _sender: Address, message: Copy, _now: float) -> Commands:
        if message.term != self.term or self._standing or self.orphaned or self._placed not in (self.term, -1):
            return []
        shard = self.shards[message.shard]
        if shard.kind == "copy" and self._placed != self.term:
            return []
        if shard.kind not in ("copy", "learner") or not shard.live or shard.stage != "collect":
            return []
        if sum(message.applied) <= shard.tag:
            return [Send(shard.primary, Held(self.term, message.shard, shard.tag))] if shard.kind == "copy" else []
        if message.before != shard.applied:
            return self._missed(message, shard)
        shard.stage = "advance"
        shard.step = (message.applied, message.whole)
        if shard.kind == "copy":
            shard.seen = shard.applied  # the next step is begun only once the last one was settled
        return [self._do(Advance(message.shard, shard.tag, message.applied, (), message.whole, -1))]

    def _missed(self, message: Copy, shard: Shard) -> Commands:
        """A learner that missed a step fetches all again."""
        if shard.kind != "learner" or sum(message.before) < shard.tag:
            return []
        shard.live = False
        return [Send(shard.primary, Fetch(self.term, message.shard))]

    def _held(self, sender: Address, message: Held, now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        if shard.kind != "primary":
            return []
        shard.acked[sender] = max(message.tag, shard.acked.get(sender, -1))
        settled: Commands = []
        if message.tag <= sum(shard.seen):
            settled = [Send(sender, Settled(self.term, message.shard, sum(shard.seen)))]
        elif shard.stage == "copying" and message.tag < shard.tag:
            return self._send_copies(message.shard, shard)
        return [*settled, *self._settle(message.shard, shard, now)]

    def _settled(self, _sender: Address, message: Settled, now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        if shard.kind != "copy" or shard.tag != message.tag or shard.seen == shard.applied:
            return []
        shard.seen = shard.applied
        return self._publish(now)

    # -- views --------------------------------------------------------------------------------------------------------
    def _fresh(self, _sender: Address, message: Fresh, now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        return [*self._let_go(message.shard, shard, message.applied), *self._show(message, shard, now)]

    def _let_go(self, index: int, shard: Shard, applied: Clocks) -> Commands:
        """What left this node and is in fresh values was taken."""
        sent = shard.outbox.sent
        taken = [number for number, (entries, _parts, gone) in sent.items() if gone and reaches(applied, entries)]
        for number in taken:
            del sent[number]
        self._progress += len(taken)
        return [self._do(Forget(index, number)) for number in taken]

    def _show(self, message: Fresh, shard: Shard, now: float) -> Commands:
        if shard.kind == "learner" and shard.live and message.applied in (shard.applied, shard.before):
            shard.seen = max(shard.seen, message.applied, key=sum)
            return self._publish(now)
        if shard.kind != "view" or (shard.live and sum(message.applied) <= sum(shard.seen)):
            return []
        if shard.stage != "collect":
            shard.missed = True  # it is asked for again once the last one is shown
            return []
        shard.stage = "advance"
        shard.finished = message.finished
        return [self._do(Show(message.shard, message.applied))]

    def _shown(self, work: Show, _result: object, now: float) -> Commands:
        self._busy -= 1
        shard = self.shards[work.shard]
        shard.applied = shard.before = shard.seen = work.applied
        shard.live = shard.kind == "view"  # who learns it meanwhile has not what F needs
        if not self._open:
            return self._closed(now)
        shard.stage = "collect"
        self._progress += 1
        shard.expect = list(map(max, shard.expect, work.applied))
        missed, shard.missed = shard.missed, False
        more = self._ask_more(work.shard, shard) if missed or not self.rule.eager else []
        return [*self._publish(now), *more]

    def _ask_more(self, index: int, shard: Shard) -> Commands:
        """Where fresh values come only for the asking: ask if the node's workers will wait for more than this."""
        early = bool(self._start) and sum(shard.seen) < self._start[index]
        if shard.kind not in ("view", "learner") or not (early or self._lags(shard)):
            return []
        shard.asked = sum(shard.seen)
        return [Send(shard.primary, Want(self.term, index, shard.asked))]

    def _lags(self, shard: Shard) -> bool:
        if min(shard.seen) >= self.until:
            return False
        own = [self._pushed[lane] for lane in range(*self._node_range)]
        if not own:
            return min(shard.seen) < self.until
        if min(own) >= self.until:
            return True  # the lease ends here; whoever evaluates needs all of it
        slack = self.rule.slack
        if slack is not None and min(shard.seen) < min(max(own), self.until) - slack:
            return True
        return self.rule.own and any(shard.seen[lane] < self._pushed[lane] for lane in range(*self._node_range))

    def _want(self, sender: Address, message: Want, _now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        if shard.kind != "primary":
            return []
        if sum(shard.seen) <= message.tag or not shard.quiet or shard.seen != shard.applied:
            shard.wanted[sender] = message.tag
            return []
        return [Send(sender, Fresh(self.term, message.shard, shard.seen, shard.finished))]

    def _publish(self, _now: float) -> Commands:
        """Tell this node's workers how far the view is, those to whom it is news."""
        if not self._open or not self._up():
            return []
        seen = self._seen()
        finished = all(one.finished and one.seen == one.applied for one in self.shards)
        first, end = self._node_range
        takes = seen[first:end] if self.rule.own else self._free()
        if self.rule.lanewise:
            takes = self._unread(takes)
        said, self._said = self._said, (takes, seen, finished)
        if said == self._said:
            return self._keep_now()
        floor = min(seen)
        last = self._latest if self.rule.whole else seen.index(floor)
        commands: Commands = []
        for worker, (lo, hi) in self._local:
            view = View(self.term, takes[lo - first : hi - first], floor, last, finished)
            if _is_news(view, self._told.get(worker), self.rule):
                self._told[worker] = view
                commands.append(Send(worker, view))
        return [*commands, *self._keep_now()]

    def _seen(self) -> Clocks:
        """Of each lane: the clocks that all shards show."""
        shards = self.shards
        if len(shards) == 1:
            return shards[0].seen
        if self.rule.whole:
            return min([one.seen for one in shards], key=_first_clock)  # all lanes of a shard are at one clock
        return tuple(map(min, *[one.seen for one in shards]))

    def _up(self) -> bool:
        """Whether the view has come to where the term begins: a node that has just joined knows nothing yet."""
        if self._start and all(sum(one.seen) >= tag for one, tag in zip(self.shards, self._start, strict=True)):
            self._start = []
        return not self._start

    def _free(self) -> Clocks:
        """Of each of this node's lanes: the clocks whose blocks are free, since they were applied here or have left."""
        lo, hi = self._node_range
        clocks = [
            shard.applied[lo:hi] if shard.kind == "primary" else tuple(map(max, gathered[lo:hi], shard.seen[lo:hi]))
            for shard, gathered in zip(self.shards, self._gathered, strict=True)
        ]
        return clocks[0] if len(clocks) == 1 else tuple(map(min, *clocks))

    def _unread(self, takes: Clocks) -> Clocks:
        """A lane that was left out may go on, but not before its late delta has left its block."""
        clocks, first = list(takes), self._node_range.lo
        for shard in self.shards:
            box = shard.outbox
            here = [*box.waiting, *(one for entries, _parts, gone in box.sent.values() if not gone for one in entries)]
            for entry in here:
                for lane in range(*entry.parts[0]):
                    clocks[lane - first] = min(clocks[lane - first], entry.clock)
        return tuple(clocks)

    def _tell_again(self, worker: Address) -> Commands:
        view = self._told.get(worker)
        return [Send(worker, view)] if view is not None else []

    # -- the lease ----------------------------------------------------------------------------------------------------
    def _proceed(self, body: Proceed, now: float) -> Commands:
        commands = super()._proceed(body, now)
        if not self.rule.eager and self._open:  # lanes that came here may be further than this view lets them go on
            for index, shard in enumerate(self.shards):
                commands += self._ask_more(index, shard)
        meter = self.shards[METER]
        if meter.kind != "primary" and min(meter.applied) >= self._leased:  # else it goes on after a term
            self._sums = [0.0, 0.0, 0.0]
        self._leased = body.until
        self._waits_for_lease = any(one.kind == "primary" for one in self.shards)
        if not self._waits_for_lease:
            return [*commands, *self._answer(Done())]
        return [*commands, *self._reached()]

    def _reached(self) -> Commands:
        if not self._waits_for_lease:
            return []
        mine = [one for one in self.shards if one.kind == "primary"]
        if any(min(one.seen) < self.until and not one.finished for one in mine):
            return []
        finished = all(one.finished for one in mine)
        clock = min(min(one.seen) for one in mine)
        if clock < self.until and not (finished and all(one.seen == one.applied for one in mine)):
            return []
        self._waits_for_lease = False
        (rows, weight, loss), self._sums = self._sums, [0.0, 0.0, 0.0]
        return self._answer(Reached(clock, finished, self._iterations, rows, weight, loss))

    def _leave(self, body: Leave, _now: float) -> Commands:
        return [*self._answer(Served(self.dropped)), Stop(body.reason)]

    # -- keep and save ------------------------------------------------------------------------------------------------
    def _keep(self, body: Keep, _now: float) -> Commands:
        self._keep_due = body
        return self._keep_now()

    def _keep_now(self) -> Commands:
        """Keep once the view has come to the clock."""
        due = self._keep_due
        if due is None or any(min(one.seen) < due.clock for one in self.shards):
            return []
        self._keep_due = None
        self._awaited = set(range(len(self.shards)))
        return [self._do(KeepShard(index, due.clock)) for index in range(len(self.shards))]

    def _kept(self, work: KeepShard, _result: object, now: float) -> Commands:
        self._busy -= 1
        return self._closed(now) if self._standing or self.orphaned else self._tick_off(work.shard)

    def _save(self, body: Save, _now: float) -> Commands:
        records = [
            SaveShard(index, body.clock, body.best) for index, one in enumerate(self.shards) if one.kind == "primary"
        ]
        self._awaited = set(records)
        return self._write(records) if records else self._answer(Done())

    def _write(self, records: list[SaveShard]) -> Commands:
        """Write what is not being written already: a term may ask again for a save that a slow disk still works at."""
        fresh = [record for record in records if record not in self._writing]
        self._writing.update(fresh)
        return [Persist(record) for record in fresh]

    def _persisted(self, event: Persisted, _now: float) -> Commands:
        self._writing.discard(event.record)
        if self.orphaned:
            return self._rescued(event)
        if event.error and event.record in self._awaited:  # else it was an orphan's, and its driver's follower is here
            return self._tell_failure(Failed(event.error, "", storage=True))
        return self._tick_off(event.record)

    def _tick_off(self, one: object) -> Commands:
        if one not in self._awaited:
            return []
        self._awaited.discard(one)
        return [] if self._awaited else self._answer(Done())

    # -- rows that workers ask for ------------------------------------------------------------------------------------
    def _seek(self, sender: Address, message: Seek, _now: float) -> Commands:
        if not self._open:
            return []  # it is asked again
        shard, (index, process, number) = self.shards[message.shard], (message.shard, message.process, message.number)
        if sender.node == self.me.node:
            if shard.kind in ("primary", "copy"):
                return [self._do(Serve(index, process, number))]
            return [Send(shard.primary, Seek(self.term, index, process, number))]
        if message.term != self.term or shard.kind != "primary":
            return []
        return [Send(sender, Found(self.term, index, sender.node, process, number))]

    def _found(self, _sender: Address, _message: Found, _now: float) -> Commands:
        return []  # its host has answered

    # -- learners -----------------------------------------------------------------------------------------------------
    def _learn(self, _sender: Address, message: Learn, _now: float) -> Commands:
        if message.term < self.term or self.orphaned:
            return []
        if message.term > self.term:
            if self._placed >= 0:
                return []  # a term that is to come to this server by its own road
            self.term = message.term
        if not self._new and self._placed != self.term:
            return []  # it may be about to hold them
        commands: Commands = []
        over = (message.term, message.round) > self._round
        self._round = max(self._round, (message.term, message.round))
        for index, source in zip(message.shards, message.sources, strict=True):
            shard = self.shards[index]
            if shard.kind in ("primary", "copy") and not self._new:
                continue
            if shard.kind == "learner" and shard.live and index in self._learning and not over:
                continue  # it has caught up, and told so
            shard.kind, shard.live, shard.primary = "learner", False, source
            self._learning[index] = source
            commands.append(Send(source, Fetch(message.term, index)))
        return [*commands, *self._say_learned()]

    def _say_learned(self) -> Commands:
        live = tuple(sorted(i for i in self._learning if self.shards[i].live))
        if not live or len(live) < len(self._learning):
            return []
        return [Send(self.driver, Learned(self.term, live, self._round[1]))]

    def _fetch(self, sender: Address, message: Fetch, _now: float) -> Commands:
        if message.term != self.term or not self._open:
            return []
        shard = self.shards[message.shard]
        if shard.kind != "primary":
            return []
        if sender not in shard.fetchers:
            shard.fetchers.append(sender)
        return self._serve(message.shard, shard)

    def _serve(self, index: int, shard: Shard) -> Commands:
        """Send all of the shard to whoever fetches it, between two steps."""
        if not shard.fetchers or shard.stage != "collect":
            return []
        to, shard.fetchers = shard.fetchers, []
        shard.learners |= set(to)
        whole = Whole(self.term, index, shard.applied, shard.applied, shard.finished)
        return [Send(one, whole) for one in to]

    def _whole(self, _sender: Address, message: Whole, _now: float) -> Commands:
        shard = self.shards[message.shard]
        if message.term != self.term or shard.kind != "learner" or shard.stage != "collect" or self._standing:
            return []
        if shard.live and sum(message.applied) <= shard.tag:
            return []
        shard.stage = "advance"
        shard.finished = message.finished
        return [self._do(TakeUp(message.shard, message.applied))]

    def _taken_up(self, work: TakeUp, _result: object, now: float) -> Commands:
        self._busy -= 1
        shard = self.shards[work.shard]
        shard.applied = shard.before = shard.seen = work.applied
        shard.live, shard.stage = True, "collect"
        self._progress += 1
        if self._standing or self.orphaned:
            return self._closed(now)
        return [*self._say_learned(), *self._publish(now)]  # it may be the last that its workers hear of

    def _forgotten(self, _work: Forget, _result: object, now: float) -> Commands:
        self._busy -= 1
        return self._closed(now) if self._standing or self.orphaned else []

    # -- an orphan ----------------------------------------------------------------------------------------------------
    def _rescue(self) -> Commands:
        """Save what was committed, at whole clocks: nobody else will."""
        if self._busy:
            return []
        records = [
            SaveShard(index, clock, -1)
            for index, one in enumerate(self.shards)
            if one.kind == "primary"
            for clock in self._whole_clocks(one)
        ]
        self._awaited = set(records)
        return self._write(records)

    def _whole_clocks(self, shard: Shard) -> list[int]:
        """The clocks of which this copy has a version: the last two, under a whole rule."""
        return sorted({clocks[0] for clocks in (shard.before, shard.applied) if len(set(clocks)) == 1})

    def _rescued(self, event: Persisted) -> Commands:
        if event.record not in self._awaited:
            return []  # asked for by the driver that is gone
        self._awaited.discard(event.record)
        self._unsaved = self._unsaved or event.error
        if self._awaited:
            return []
        told = f"not all could be saved: {self._unsaved}" if self._unsaved else "what was committed is saved"
        self._last_words = f"the driver is gone; {told}"
        return [] if self._adoptable else [Stop(self._last_words)]

    # -- again --------------------------------------------------------------------------------------------------------
    def _resend(self, now: float) -> Commands:
        commands = super()._resend(now)
        if not self._open:
            return [*commands, *self._fetch_again()]
        for index, shard in enumerate(self.shards):
            if shard.kind == "primary":
                commands += self._primary_again(index, shard, now)
            elif shard.kind == "copy" and shard.seen != shard.applied:
                commands.append(Send(shard.primary, Held(self.term, index, shard.tag)))
            else:
                commands += self._ask_more(index, shard)
            for number, (entries, parts, gathered) in shard.outbox.sent.items():
                if gathered:
                    delta = Delta(self.term, index, number, self._outgoing(entries, parts), parts)
                    commands.append(Send(shard.primary, delta))
        return [*commands, *self._fetch_again()]

    def _primary_again(self, index: int, shard: Shard, now: float) -> Commands:
        if shard.stage == "copying":
            return self._send_copies(index, shard)
        if shard.stage == "exchange":
            return self._tell_partial(index, shard, settled=False, now=now)
        return []

    def _fetch_again(self) -> Commands:
        if self.orphaned or self._standing:
            return []
        missing = [i for i in self._learning if self.shards[i].kind == "learner"]
        fetches: Commands = [Send(self._learning[i], Fetch(self.term, i)) for i in missing if not self.shards[i].live]
        return fetches if fetches or not missing else self._say_learned()

    def waits(self) -> bool:
        """In the middle of a lease."""
        return self._open and any(min(one.seen) < self.until for one in self.shards) and self.until > 0

    def validate(self) -> None:
        """What is counted is what is there; nobody reads what is not applied."""
        super().validate()
        for index, shard in enumerate(self.shards):
            mask = 0
            for bundle in shard.pending:
                if mask & bundle.mask and self.rule.whole:
                    raise self.refuse(f"shard {index} counts a lane twice: {shard.pending}")
                mask |= bundle.mask
            if mask != shard.have:
                raise self.refuse(f"shard {index} counts {shard.have:b}, has {mask:b}")
            if shard.live and self._placed == self.term and any(map(int.__lt__, shard.applied, shard.seen)):
                raise self.refuse(f"shard {index} shows {shard.seen}, has applied {shard.applied}")


def _first_clock(clocks: Clocks) -> int:
    return clocks[0]


def _first_lane(entry: Entry) -> int:
    return entry.parts[0].lo


def _is_news(view: View, told: View | None, rule: Rule) -> bool:
    """Whether a worker that was ``told`` one view must hear of this one. Who came last in a clock is told with it."""
    if told is None or rule.slack:
        return told != view
    return (view.term, view.lanes, view.floor, view.finished) != (told.term, told.lanes, told.floor, told.finished)
