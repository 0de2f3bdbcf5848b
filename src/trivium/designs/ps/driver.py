"""The driver of a parameter server over nodes: places shards and lanes, repairs copies, grows and shrinks the run.

What is different from ``core.membership``, whose phases it keeps: a term first lets all servers stand, and decides who
holds what once it knows what each of them has. The copy that is furthest becomes or stays the primary; copies that are
a step behind get that step again. Another consistency begins where all lanes are at one clock: the lease is cut short
there first. So do the lanes of joiners under a rule that reads exact clocks, since they have no older version.

* A lost server takes its node's workers with it; its shards' other copies go on.
* Where copies are missing, a server learns the shard while training goes on, and counts from a later term.
* A joiner is started, warm and has its copies before the term that counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from trivium.core.consistency import Rule
from trivium.core.exchange import Dropped, Learn, Learned, Tempo
from trivium.core.lanes import Part, share
from trivium.core.membership import Driver, Members
from trivium.core.messages import (
    Copied,
    Decided,
    Done,
    Failed,
    Leave,
    Left,
    Place,
    Proceed,
    Reply,
    Request,
    Served,
    Stand,
    Stands,
)
from trivium.core.pacing import KeepBest, Run
from trivium.core.role import (
    Address,
    Commands,
    Launch,
    MessageReceived,
    PeerJoined,
    PeerLost,
    PeerSilent,
    Persist,
    Persisted,
    Retire,
    ScaleRequested,
    Send,
    SwitchRequested,
    TimerFired,
)
from trivium.designs.ps.change import Change, resized, sized
from trivium.designs.ps.wishes import Wishes

__all__ = ["NodesDriver"]


@final
class NodesDriver(Driver):
    """Owns membership of nodes. ``members.holders`` are the servers, one a node; ``copies`` counts the primary.

    ``balance`` (None: lanes stay) says when lanes shall move, see ``core.balance``. ``standing``: the last placement of
    a driver that is lost, whose run this one takes over; ``members`` are those of it that live.
    """

    def __init__(
        self,
        me: Address,
        members: Members,
        *,
        rule: Rule,
        copies: int,
        balance: Any = None,
        standing: Place | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(me, members, **settings)
        self.rule, self.copies, self.balance = rule, copies, balance
        servers = members.holders
        self.holders = tuple(
            tuple(servers[(shard + i) % len(servers)] for i in range(min(copies, len(servers))))
            for shard in range(self.shards)
        )
        self.owners = tuple(one[0] for one in self.holders)
        self._acking = (servers,) * self.shards  # who holds all that was acknowledged; at first all hold what there is
        self.ranges: tuple[Part, ...] = ()
        self.counts: tuple[int, ...] | None = None  # lanes of each worker, where they are not cut evenly
        self.left: dict[Address, Left] = {}
        self._after, self._decided = self.term, b""
        self._takes_over = standing is not None
        if standing is not None:
            self._stand_as(standing)
        self.dropped = 0  # deltas of lanes that were left out, as servers told when they left
        self.change: Change | None = None  # under way: somebody is being started, or learns
        self.switch: Rule | None = None  # from the next even boundary on
        self.wishes = Wishes()
        self._term_began = 0.0
        self._standings: dict[Address, dict[int, Copied]] = {}
        self._applied: tuple[tuple[int, ...], ...] = ()
        self._behind: tuple[int, ...] = ()
        self._learning: dict[Address, tuple[int, ...]] = {}
        self._learned: dict[Address, tuple[int, ...]] = {}
        self._leaving: tuple[Address, ...] = ()
        self._dismissed: dict[Address, Request] = {}  # who does not count any more, until it is gone
        self._servers_only = False
        self._round = 0  # of learning: what was kept since it began must be learned as well
        self._shares: dict[Address, tuple[int, ...]] = {}  # the shards that each of those who learn shall hold
        self._heirs: dict[int, list[Address]] = {}  # of each shard whose holders leave: who learned it
        self._recut = False  # whether joiners get lanes at the next even boundary
        self._fresh: set[int] = set()  # nodes that were not in the last term
        self._goal = 0  # where the lease of the action ends, if it is not cut short
        self._handlers |= {ScaleRequested: self._scale_requested, SwitchRequested: self._switch_requested}
        self._on_answer |= {Stands: self._stands_at, Left: self._told_at_leave, Served: self._told_at_leave}

    def _stand_as(self, standing: Place) -> None:
        """What the lost driver placed last holds: nothing was acknowledged but by these."""
        self.holders = self._acking = standing.holders
        there = self.members.holders
        self.owners = tuple(next((one for one in held if one in there), there[0]) for held in self.holders)
        if standing.workers == self.members.workers:
            self.counts = tuple(hi - lo for lo, hi in standing.ranges)

    # -- a term -------------------------------------------------------------------------------------------------------
    def _fence(self, _now: float) -> Commands:
        self._go("fencing")
        self._standings, self._learning, self._learned = {}, {}, {}
        return self._ask(self.members.holders, Stand())

    def _stands_at(self, sender: Address, body: Stands, now: float) -> Commands:
        if self.phase != "fencing":
            return []
        self._standings[sender] = {one.shard: one for one in body.copies}
        return self._answered(sender, now, self._stood)

    def _stood(self, now: float) -> Commands:
        lost = self._place_shards()
        if lost:
            return self._fail(f"no copy is left of {lost} of the {self.shards} shards", "lost")
        even = len(self._clocks()) == 1
        trains = self._action is None or isinstance(self._action, Run)
        if even and (self._ends or (trains and self.agenda.save_due)):
            self._servers_only = True
            return self._place(self.members.holders)
        return self._assign(now)

    def _clocks(self) -> set[int]:
        return {clock for shard in self._applied for clock in shard}

    def _place_shards(self) -> int:
        """Who holds each shard in this term; the number of shards of which nobody has a copy."""
        holders, applied, behind = [], [], []
        led: dict[Address, int] = dict.fromkeys(self.members.holders, 0)
        for shard in range(self.shards):
            copies = {server: held[shard] for server, held in self._standings.items() if shard in held}
            counted = [one for one in self._acking[shard] if one in copies]  # who holds all that was acknowledged
            if not counted:
                return max(1, sum(not set(held) & self._standings.keys() for held in self._acking))
            best = max((copies[one].applied for one in counted), key=sum)
            first = self._primary(shard, [one for one in copies if copies[one].applied == best], led)
            led[first] += 1
            source = copies[first]
            near = [one for one in copies if one != first and copies[one].applied == best]
            near += [  # who counted may lack the last step, which is at hand as long as it is not settled
                one
                for one in self._acking[shard]
                if one in copies and one not in (first, *near) and copies[one].applied == source.before
            ]
            near.sort(key=lambda one: (one not in self.holders[shard], one))
            chosen = (first, *near[: self.copies - 1])
            chosen += tuple(one for one in self._heirs.get(shard, ()) if one in near and one not in chosen)
            holders.append(chosen)
            applied.append(best)
            if any(copies[one].applied != best for one in chosen):
                behind.append(shard)
        self.holders, self._applied, self._behind = tuple(holders), tuple(applied), tuple(behind)
        self._heirs = {}
        self.owners, self._acking = tuple(one[0] for one in holders), self.holders
        self.standing = {shard: min(clocks) for shard, clocks in enumerate(applied)}
        return 0

    def _primary(self, shard: int, able: Sequence[Address], led: dict[Address, int]) -> Address:
        """The primary as it was; else, of those that hold the shard, whoever leads the fewest."""
        held = [one for one in self.holders[shard] if one in able]
        if self.owners[shard] in held:
            return self.owners[shard]
        return min(held or able, key=lambda one: (led[one], one))

    def _assign(self, _now: float) -> Commands:
        """Those that leave are placed once more, without lanes: their last gradients write blocks that others get."""
        self._servers_only = False
        homes = _nodes_of(self.members)
        leavers = [one for one in self._leaving if one.node in homes and one in self.joined]
        return self._place((*self.members.all, *leavers))

    def _place(self, members: Sequence[Address]) -> Commands:
        self._go("assigning")
        workers = self.members.workers
        self.ranges = self._cut(workers)
        if self.balance is not None:
            self.balance.changed(workers, self.ranges, self._now)
        place = Place(
            self.rule,
            workers,
            self.ranges,
            self.holders,
            self.members.holders,
            self._applied,
            self._behind,
            self.balance is not None,
        )
        return self._ask(members, place)

    def _cut(self, workers: Sequence[Address]) -> tuple[Part, ...]:
        """Lanes of each worker: as balance has it, else evenly; none for joiners where shards are a clock apart."""
        counts = self.counts
        late = [one for one in workers if one.node in self._fresh]
        if self.rule.exact and late and len(self._clocks()) > 1:
            self._recut = True
            counts = _spread_over(self.lanes, [one not in late for one in workers])
        else:
            self._fresh = set()
        if counts is None or len(counts) != len(workers):
            return tuple(share(self.lanes, len(workers)))
        ends = [sum(counts[: i + 1]) for i in range(len(workers))]
        return tuple(Part(end - n, end) for end, n in zip(ends, counts, strict=True))

    def _assigned(self, now: float) -> Commands:
        if not self._servers_only:
            return [*self._dismiss(), *self._manned_again(now)]
        self._go("acting")
        if isinstance(self._action, KeepBest):
            return self._perform(self._action, now)  # some servers may have kept it: then all must before a save
        if self._action is not None and not isinstance(self._action, Run):
            return self._act(now)
        return self._ask(self.members.holders, Proceed(self._clocks().pop()))  # what the lease that was cut came to

    def _manned_again(self, now: float) -> Commands:
        """Take up what the term interrupted. Lanes go to the foremost one's clock first where all must be at one."""
        self._go("acting")
        self._manned = True
        self._moved = False
        self._tell_wishes(now)
        if self._action is not None and not isinstance(self._action, Run):
            return self._perform(self._action, now)
        foremost = max(self._clocks())
        boundary = self.rule.whole or self.agenda.save_due or bool(self.agenda.halted) or self._at_boundary
        if self._action is None or boundary or foremost >= self._goal:
            return self._lease(foremost)
        return self._lease(self._goal)

    def _tell_wishes(self, now: float) -> None:
        """What was asked for is so by now, as far as nothing of it is under way."""
        members, since = self.members, f"from clock {max(self._clocks())} on"
        paused = f"the others paused for {1e3 * (now - self._term_began):.0f} ms"
        if self.change is None:
            self.wishes.settle(ScaleRequested, True, f"{sized(members)} {since}; {paused}")
        if self.switch is None:
            self.wishes.settle(SwitchRequested, True, f"{self.rule} {since}; {paused}")

    def _new_term(self, why: str) -> Commands:
        self._term_began = self._now
        return super()._new_term("taken over" if self._takes_over and self.phase == "joining" else why)

    def _lease(self, until: int) -> Commands:
        return [*super()._lease(until), *self._repair()]

    @property
    def _at_boundary(self) -> bool:
        """Whether something waits for an even boundary."""
        return self.switch is not None or self._recut

    def _perform(self, action: Any, now: float) -> Commands:
        if isinstance(action, Run):
            if self._at_boundary:
                self.rule, self.switch = self.switch or self.rule, None
                self._recut, self._action = False, None
                return self._new_term("lanes and rule are set anew")
            self._goal = action.until
            decided = self.agenda.memory()
            if self._may_be_followed and decided != self._decided:
                self._account(now)
                self._action = action
                return [Persist(Decided(self.term, self.agenda.clock, decided))]
        return super()._perform(action, now)

    @property
    def _may_be_followed(self) -> bool:
        """Whether members outlive this process, and could be taken over by another."""
        return any(one.node != self.me.node for one in self.members.holders)

    def _persisted(self, event: Persisted, now: float) -> Commands:
        record = event.record
        if not isinstance(record, Decided) or event.error:
            return super()._persisted(event, now)
        self._decided = record.pace
        return self._act(now) if self.phase == "acting" and record.term == self.term else []

    # -- copies -------------------------------------------------------------------------------------------------------
    def _repair(self) -> Commands:
        """Let servers learn the shards that have too few copies."""
        if self.change is not None:
            return self._prepare() if set(self.change.joins) <= self.joined else []
        if self._learning:
            return []
        wanted: dict[Address, list[int]] = {}
        for shard, holders in enumerate(self.holders):
            missing = min(self.copies, len(self.members.holders)) - len(holders)
            free = [one for one in self.members.holders if one not in holders]
            free.sort(key=lambda one: (len(wanted.get(one, ())) + sum(one in held for held in self.holders), one))
            for one in free[:missing]:
                wanted.setdefault(one, []).append(shard)
        self._learning = {one: tuple(shards) for one, shards in wanted.items()}
        return self._teach()

    def _teach(self) -> Commands:
        return [
            Send(one, Learn(self.term, shards, tuple(self.owners[shard] for shard in shards), self._round))
            for one, shards in self._learning.items()
            if self._learned.get(one) != shards
        ]

    def _carried_out(self, now: float) -> Commands:
        again: Commands = []
        if isinstance(self._action, KeepBest) and self._learning:
            self._round += 1
            self._learned = {}
            again = self._teach()
        return [*again, *super()._carried_out(now)]

    def _has_learned(self, sender: Address, message: Learned, now: float) -> Commands:
        current = message.term == self.term and message.round == self._round and self.phase == "acting"
        if not current or self._learning.get(sender) != message.shards:
            return []
        if self._learned.get(sender) == message.shards:
            return []
        self._learned[sender] = message.shards
        if any(self._learned.get(one) != shards for one, shards in self._learning.items()):
            return []
        if self.change is not None:
            return self._make_change()
        self._note(now, f"{self.copies} copies of all shards again")
        return self._new_term("copies are complete")

    # -- changes ------------------------------------------------------------------------------------------------------
    def _scale_requested(self, event: ScaleRequested, now: float) -> Commands:
        why_not = self._no_scale(event)
        if why_not:
            self._note(now, f"scale to {event.workers} workers: {why_not}")
            self.wishes.refuse(event, why_not)
            return []
        change = resized(self.members, self.names, event.workers, event.nodes or len(self.members.holders))
        self.wishes.open.append(event)
        if change is None:
            self.wishes.settle(ScaleRequested, True, f"there are {event.workers} workers already")
            return []
        self.change = change
        self._note(now, change.why)
        for one in change.joins:
            self.names.setdefault(one, change.names[one])
        if change.joins:
            return [Launch(change.joins)]
        return self._prepare() if self.phase == "acting" and self._manned else []  # else once lanes are placed

    def _no_scale(self, event: ScaleRequested) -> str:
        """Why ``event`` cannot be met now; empty where it can."""
        if self.phase == "joining":
            return "the run has not begun yet; ask again"
        if self.phase in {"leaving", "stopped"} or self.agenda.halted:
            return "the run is at its end"
        if self.change is not None:
            return "another change is under way; ask again"
        if event.workers > self.lanes:
            return f"there are {self.lanes} lanes, a worker needs one"
        return ""

    def _switch_requested(self, event: SwitchRequested, now: float) -> Commands:
        rule = Rule.parse(event.consistency)
        if self.phase in {"leaving", "stopped"}:
            self.wishes.refuse(event, "the run is at its end")
            return []
        self.wishes.open.append(event)
        if rule == self.rule and self.switch is None:
            self.wishes.settle(SwitchRequested, True, f"it is {rule} already")
            return []
        self.switch = rule
        self._note(now, f"consistency is {rule} from clock {self.agenda.clock} on, or soon after")
        return self._interrupt(now, f"consistency {rule}")

    def _peer_joined(self, event: PeerJoined, now: float) -> Commands:
        change = self.change
        if change is None or event.peer not in change.joins:
            return super()._peer_joined(event, now)
        self.joined.add(event.peer)
        return self._prepare() if set(change.joins) <= self.joined and self.phase == "acting" else []

    def _prepare(self) -> Commands:
        """All joiners are warm: new servers get copies first, and shards that would lose their last one."""
        change = self.change
        assert change is not None
        servers = change.members.holders
        target = min(self.copies, len(servers))
        joiners = [one for one in servers if one not in self.members.holders]
        fair = self.shards * target / len(servers)  # shards that each server holds, if all hold as many
        wanted: dict[Address, list[int]] = {one: [] for one in servers}
        for shard, holders in enumerate(self.holders):
            missing = target - sum(one in servers for one in holders)
            able = [one for one in joiners if len(wanted[one]) < fair]
            if missing > 0:
                able += [one for one in servers if one not in holders and one not in joiners]
                able += [one for one in joiners if one not in able]
            for one in able[: max(1, missing)]:
                wanted[one].append(shard)
        self._shares = {one: tuple(shards) for one, shards in wanted.items() if shards}
        everything = tuple(range(self.shards))  # its workers read all of A, and evaluate what was kept
        self._learning = self._shares | dict.fromkeys(joiners, everything)
        self._learned = {}
        return self._teach() if self._learning else self._make_change()

    def _make_change(self) -> Commands:
        """The next term has the new members."""
        change = self.change
        assert change is not None
        servers = set(change.members.holders)
        target = min(self.copies, len(servers))
        leaves = not set(self.members.holders) <= servers
        fewest = min(len(servers & set(held)) for held in self._acking)
        if leaves and (fewest == 0 or (fewest < target and not change.handed)):
            return self._hand_over(change)
        self.change, self.counts = None, None
        self._leaving += tuple(one for one in self.members.all if one not in change.members.all)
        self._fresh |= {one.node for one in change.members.holders if one not in self.members.holders}
        self._prefer(change)
        self.members = change.members
        return self._new_term(change.why)

    def _hand_over(self, change: Change) -> Commands:
        """A term in which those that leave and those that learned from them both count; the next one is without."""
        self._heirs = {
            shard: [
                one for one, shards in self._learned.items() if shard in shards and shard in self._shares.get(one, ())
            ]
            for shard in range(self.shards)
        }
        old = self.members
        self.members = Members(old.workers, tuple(sorted({*old.holders, *change.members.holders})))
        self._fresh |= _nodes_of(self.members) - _nodes_of(old)
        self.change = Change(change.members, change.why, handed=True)
        return self._new_term(f"{change.why}: handing over")

    def _prefer(self, change: Change) -> None:
        """Let those that have learned count, and those that leave not: placement prefers whom it finds here."""
        servers = change.members.holders
        holders = []
        for shard, held in enumerate(self.holders):
            learned = [one for one in self._learned if shard in self._shares.get(one, ()) and one in servers]
            stay = [one for one in held if one in servers]
            target = min(self.copies, len(servers))
            joined = [one for one in learned if one not in stay]
            kept = stay[: max(1, target - len(joined))] if joined else stay
            holders.append(tuple([*kept, *joined][:target]))
        self.holders = tuple(one or held for one, held in zip(holders, self.holders, strict=True))
        self.owners = self._spread(self.holders)

    def _spread(self, holders: Sequence[tuple[Address, ...]]) -> tuple[Address, ...]:
        """Primaries such that no server leads many more shards than another; who leads already, rather stays."""
        led: dict[Address, int] = {}
        owners = []
        for shard, held in enumerate(holders):
            one = min(held, key=lambda server: (led.get(server, 0), server != self.owners[shard], server))
            led[one] = led.get(one, 0) + 1
            owners.append(one)
        return tuple(owners)

    def _dismiss(self) -> Commands:
        """Whoever does not count any more may go."""
        leaving, self._leaving = self._leaving, ()
        return self._send_away(leaving, "it was scaled away")

    def _send_away(self, peers: Sequence[Address], why: str) -> Commands:
        if not peers:
            return []
        if self.phase in ("recording", "fencing"):  # under a term that is announced
            self._leaving += tuple(peers)
            return []
        self._ticket += 1
        self._dismissed |= dict.fromkeys(peers, Request(self.term, self._ticket, Leave(why)))
        return [Send(one, self._dismissed[one]) for one in peers]

    # -- speed --------------------------------------------------------------------------------------------------------
    def _message(self, event: MessageReceived, now: float) -> Commands:
        message = event.message
        if isinstance(message, Reply):
            if message.term <= self._after and not isinstance(message.body, Failed):
                return []  # to a driver before this one
            if event.sender in self._dismissed and message.ticket == self._dismissed[event.sender].ticket:
                del self._dismissed[event.sender]
                self._remember(event.sender, message.body)
            return super()._message(event, now)
        if isinstance(message, Learned):
            return self._has_learned(event.sender, message, now)
        if isinstance(message, Tempo | Dropped):
            return self._heard(event.sender, message, now)
        raise self.refuse(f"did not expect {message}")

    def _heard(self, sender: Address, message: Tempo | Dropped, now: float) -> Commands:
        if self.balance is None or message.term != self.term or self.phase != "acting":
            return []
        if isinstance(message, Tempo):
            if sender in self.members.workers:
                self.balance.heard(sender, message.seconds, now)
        else:
            for lane in message.lanes:
                self.balance.dropped(lane, now)
        if not isinstance(self._action, Run) or not self._manned or self._at_boundary:
            return []
        counts = self.balance.advice(now)
        if counts is None:
            return []
        self.counts = tuple(counts)
        self._note(now, f"lanes move: {', '.join(str(one) for one in counts)} for {len(counts)} workers")
        return self._new_term("balance")

    def _told_at_leave(self, sender: Address, body: Left | Served, now: float) -> Commands:
        self._remember(sender, body)
        return self._done(sender, Done(), now)

    def _remember(self, sender: Address, body: object) -> None:
        if isinstance(body, Left):
            self.left[sender] = body
        elif isinstance(body, Served):
            self.dropped += body.dropped

    # -- losses -------------------------------------------------------------------------------------------------------
    def _peer_silent(self, event: PeerSilent, now: float) -> Commands:
        if event.peer in self._leaving:
            return [Retire(event.peer, f"silent for {event.seconds:.1f} s while {event.doing}")]
        return super()._peer_silent(event, now)

    def _peer_lost(self, event: PeerLost, now: float) -> Commands:  # noqa: PLR0912 - each loss has its own words
        peer = event.peer
        self._dismissed.pop(peer, None)
        change = self.change
        if change is not None and peer in change.joins:
            return self._call_off(event, now)
        if peer in self._leaving and peer not in self.members.all:
            self._leaving = tuple(one for one in self._leaving if one != peer)
            waited = self.phase == "assigning" and peer in self._asked
            return self._answered(peer, now, self._assigned) if waited else []
        if peer not in self.members.all or self.phase in {"leaving", "stopped"}:
            return super()._peer_lost(event, now)
        is_server = peer in self.members.holders
        if change is not None and is_server and any(one.node == peer.node for one in change.joins):
            return [*self._call_off(event, now), *self._peer_lost(event, now)]
        if change is not None:
            self.change = change.without(peer)
            if not self.change.members.workers or not self.change.members.holders:
                self.change = None
                told = f"{change.why} is called off: nobody would be left"
                self._note(now, told)
                self.wishes.settle(ScaleRequested, False, told)
        with_it = tuple(one for one in self.members.workers if one.node == peer.node) if is_server else ()
        who = f"{self.name(peer)} died ({event.how})" + (f" while {event.doing}" if event.doing else "")
        self.counts = None
        for one in (peer, *with_it):
            self.members = self.members.without(one)
            self.joined.discard(one)
        self._learned.pop(peer, None)
        self._learning.pop(peer, None)
        if not self.members.holders:
            return self._fail(f"{who}; it alone held the parameters", "lost")
        if not self.members.workers:
            return self._fail(f"{who}; no worker is left to take its lanes over", "lost")
        moved = sum(owner == peer for owner in self.owners)
        what = [who]
        if with_it:
            what.append(f"its node's {len(with_it)} workers went with it")
        if moved:
            what.append(f"other copies take over {moved} of its shards")
        if with_it or not is_server:
            what.append(f"its lanes went to {', '.join(self.name(one) for one in self.members.workers)}")
        self._note(now, "; ".join(what))
        if self.phase == "joining":
            return self._new_term(who) if self.joined >= set(self.members.all) else []
        return self._new_term(who)

    def _call_off(self, event: PeerLost, now: float) -> Commands:
        """A joiner died before it counted: the change is off, the run goes on as it is."""
        change, self.change = self.change, None
        assert change is not None
        self._learning, self._learned = {}, {}
        told = f"{self.name(event.peer)} died ({event.how}) before it joined: {change.why} is called off"
        self._note(now, told)
        self.wishes.settle(ScaleRequested, False, told)
        return self._send_away([one for one in change.joins if one != event.peer], "the change was called off")

    def _timer(self, event: TimerFired, now: float) -> Commands:
        self._now = now
        again: Commands = []
        if event.name == "retry":
            again = [Send(one, request) for one, request in self._dismissed.items()]
            if self.phase == "acting":
                again += self._teach()
        return [*super()._timer(event, now), *again]

    def handle(self, event: Any, now: float) -> Commands:
        """As any role; the time is kept for placements."""
        self._now = now
        return super().handle(event, now)

    _now = 0.0

    def validate(self) -> None:
        """Each shard has a living primary among its holders once it is placed."""
        if self.phase in {"acting"} and self._manned and not set(self.owners) <= set(self.members.holders):
            raise self.refuse(f"primaries {self.owners} of servers {self.members.holders}")


def _spread_over(lanes: int, able: Sequence[bool]) -> tuple[int, ...]:
    """Lanes cut evenly over those that are able.

    >>> _spread_over(8, [True, False, True])
    (4, 0, 4)
    """
    parts = iter(share(lanes, sum(able)))
    return tuple([(part := next(parts)).hi - part.lo if one else 0 for one in able])


def _nodes_of(members: Members) -> set[int]:
    """The nodes of ``members``."""
    return {one.node for one in members.holders}
