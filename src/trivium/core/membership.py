"""The driver: the only one that changes membership, and the keeper of the agenda.

Phases
------
::

    joining ─ all joined ─▶ recording ─ term on disk ─▶ fencing ─ all stand ─▶ assigning ─ all assigned ─▶ acting
       ▲                        ▲                                   └─ holders suffice ─▶ acting ◀─ lanes ┘  │
       │                        └───── a member was lost, a halt or a checkpoint is due ◀────────────────────┤
       └ start                                                          Finish ─▶ leaving ─▶ (Stop) ◀────────┘

Each change of membership is a **term**, on disk before it is announced. A term fences the holders first, so that
nothing is being summed when lanes move, learns where each shard stands, and starts all lanes at the least committed
clock. A halt or a checkpoint in the middle of a lease uses the same road: a term without a loss, whose lease ends where
the foremost shard stands. Every request is asked again after ``retry`` seconds until all have answered.

An assignment waits for the gradients of the old term, however long they take. What needs holders only does not: where
all shards stand at one clock, a checkpoint is saved right after the fence, under the new term and before its lanes are
assigned, and after a brief halt the run ends without assigning them at all. Nobody is assigned then, so that nothing is
pushed, summed or committed until somebody is.

No wait is for ever. Whoever is dead or silent is retired by its host's watch, as is one whose compute is without
progress. Where a process lives and beats, and yet does not answer what needs no long compute, the run ends after
``OVERDUE`` with one error that names it; likewise where the driver's own record is never written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from trivium.core.lanes import share
from trivium.core.messages import (
    Asked,
    Assign,
    Done,
    Evaluate,
    Failed,
    Fence,
    Keep,
    Leave,
    Manifest,
    Proceed,
    Reached,
    Reply,
    Request,
    Save,
    Standing,
    Sums,
    TermRecord,
)
from trivium.core.pacing import Action, Agenda, Evaluated, Finish, KeepBest, Look, Run, SaveNow
from trivium.core.reduce import sum_in_order
from trivium.core.role import (
    Address,
    Commands,
    MessageReceived,
    PeerJoined,
    PeerLost,
    PeerSilent,
    Persist,
    Persisted,
    Retire,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    StopRequested,
    TimerFired,
)

__all__ = ["FIRST_CHECKPOINT", "Driver", "Members", "Note"]


@dataclass(frozen=True)
class Members:
    """Who takes part: ``workers`` run lanes, ``holders`` own shards; a peer of an allreduce is in both."""

    workers: tuple[Address, ...]
    holders: tuple[Address, ...]

    @property
    def all(self) -> tuple[Address, ...]:
        """Each address once, workers first."""
        return tuple(dict.fromkeys((*self.workers, *self.holders)))

    def without(self, peer: Address) -> Members:
        """After the loss of ``peer``."""
        return Members(
            tuple(one for one in self.workers if one != peer), tuple(one for one in self.holders if one != peer)
        )


@dataclass(frozen=True)
class Note:
    """Something a person should know, with its time."""

    now: float
    text: str


FIRST_CHECKPOINT = 3.0  # seconds of the first lease
OVERDUE = 60.0  # seconds without any answer, or ten times the patience if that is longer
IN_WORDS = {
    Fence: "to stand still for a new term",
    Assign: "to take its lanes",
    Keep: "to keep the best parameters",
    Leave: "to leave",
}
PHASES = {
    "joining": {"recording", "stopped"},
    "recording": {"recording", "fencing", "stopped"},
    "fencing": {"recording", "assigning", "acting", "stopped"},
    "assigning": {"recording", "acting", "stopped"},
    "acting": {"acting", "recording", "assigning", "leaving", "stopped"},
    "leaving": {"stopped"},
    "stopped": set(),
}


class Driver(Role):
    """Owns membership and the agenda. ``names`` are for people; ``max_time`` counts from the first lease."""

    def __init__(
        self,
        me: Address,
        members: Members,
        *,
        lanes: int,
        shards: int,
        agenda: Agenda,
        retry: float,
        patience: float,
        names: dict[Address, str],
        max_time: float | None = None,
        checkpoint_every: float | None = None,
        term: int = 0,
    ) -> None:
        super().__init__(me)
        self.members, self.lanes, self.shards, self.agenda = members, lanes, shards, agenda
        self.retry, self.patience, self.names = retry, patience, names
        self.max_time, self.checkpoint_every = max_time, checkpoint_every
        self.term = term
        self.phase = "joining"
        self.owners = tuple(members.holders[shard % len(members.holders)] for shard in range(shards))
        self.standing: dict[int, int] = {}
        self.iterations = 0
        self.segments: list[Reached] = []
        self.notes: list[Note] = []
        self.joined: set[Address] = set()
        self.fault: Stop | None = None
        self._action: Action | None = None
        self._manned = False  # whether the lanes of this term are assigned
        self._moved = False  # whether shards have heirs that have not adopted them
        self._rounds = 0  # how often was asked again since anybody answered; a count, since a process may be stopped
        self._ticket = 0
        self._counted: set[int] = set()  # the tickets of the segments
        self._asked: dict[Address, Request] = {}
        self._sums: dict[int, Sums] = {}
        self._until = 0
        self._why = "start"
        self._leave = ""
        self._armed, self._armed_at, self._interval = False, -1, 0.0  # of the checkpoint timer
        self._started_at: float | None = None
        self.spent: dict[str, float] = {}  # seconds in each kind of action, recovery included
        self.since = 0.0  # when the present action began
        self._handlers: dict[type[Any], Callable[[Any, float], Commands]] = {
            Started: self._started,
            MessageReceived: self._message,
            PeerJoined: self._peer_joined,
            PeerLost: self._peer_lost,
            PeerSilent: self._peer_silent,
            Persisted: self._persisted,
            TimerFired: self._timer,
            StopRequested: self._stop_requested,
        }
        self._on_answer: dict[type[Any], Callable[[Address, Any, float], Commands]] = {
            Standing: self._stands,
            Done: self._done,
            Reached: self._reached,
            Sums: self._summed,
            Failed: self._member_failed,
        }

    # -- phases -------------------------------------------------------------------------------------------------------
    def _go(self, phase: str) -> None:
        if phase not in PHASES[self.phase]:
            raise self.refuse(f"from {self.phase} to {phase}")
        self.phase = phase

    def _note(self, now: float, text: str) -> None:
        self.notes.append(Note(now, text))

    def name(self, peer: Address) -> str:
        """The name of ``peer`` for people."""
        return self.names.get(peer, f"process {peer.slot} on node {peer.node}")

    def _started(self, _event: Started, now: float) -> Commands:
        return [SetTimer("retry", now + self.retry)]

    def _peer_joined(self, event: PeerJoined, _now: float) -> Commands:
        self.joined.add(event.peer)
        if self.phase == "joining" and self.joined >= set(self.members.all):
            return self._new_term("start")
        return []

    def _new_term(self, why: str) -> Commands:
        self.term += 1
        self._why = why
        self._manned = False
        self._asked.clear()
        self._rounds = 0
        self._go("recording")
        return [Persist(TermRecord(self.term, self.members.workers, self.owners, why))]

    def _persisted(self, event: Persisted, now: float) -> Commands:
        record = event.record
        if self.phase == "stopped":
            return []
        if event.error:
            return self._fail(event.error, "storage")
        if isinstance(record, TermRecord):
            return self._fence(now) if record.term == self.term and self.phase == "recording" else []
        if isinstance(record, Manifest) and self.phase == "acting" and record.term == self.term:
            self.agenda.save_done(record.clock)
            return self._act(now)
        return []

    def _fence(self, _now: float) -> Commands:
        self._go("fencing")
        self.standing = {}
        return self._ask(self.members.holders, Fence(self.owners))

    def _stands(self, sender: Address, body: Standing, now: float) -> Commands:
        if self.phase != "fencing":
            return []
        self.standing.update(dict(body.shards))
        return self._answered(sender, now, self._stood)

    def _stood(self, now: float) -> Commands:
        """Go on without lanes where holders suffice: see the top of this file."""
        clocks, self._moved = self._clocks(), False
        trains = self._action is None or isinstance(self._action, Run)
        if len(clocks) > 1 or not (self._ends or (trains and self.agenda.save_due)):
            return self._assign(now)
        self._go("acting")
        if isinstance(self._action, KeepBest):
            return self._perform(self._action, now)  # some holders may have kept it: then all must before a save
        if not trains:
            return self._act(now)
        return self._ask(self.members.holders, Proceed(clocks.pop()))  # what the lease that was cut short came to

    def _clocks(self) -> set[int]:
        """Where the shards stand; refused unless all do."""
        if self.standing.keys() != set(range(self.shards)):
            raise self.refuse(f"shards {sorted(self.standing)} stand of {self.shards}")
        return set(self.standing.values())

    @property
    def _ends(self) -> bool:
        """Whether no lane is needed any more."""
        return bool(self.agenda.halted) and self.agenda.brief

    def _assign(self, _now: float) -> Commands:
        self._go("assigning")
        base = min(self._clocks())
        ranges = tuple(share(self.lanes, len(self.members.workers)))
        return self._ask(self.members.all, Assign(self.members.workers, ranges, self.owners, base))

    def _assigned(self, now: float) -> Commands:
        """Take up the action that the term interrupted; training goes on from where the foremost shard stands."""
        self._go("acting")
        self._manned = True
        if isinstance(self._action, Run) or self._action is None:
            return self._lease(max(self.standing.values()))
        return self._perform(self._action, now)

    # -- actions ------------------------------------------------------------------------------------------------------
    def _act(self, now: float) -> Commands:
        return self._perform(self.agenda.next(), now)

    def _perform(self, action: Action, now: float) -> Commands:
        self._account(now)
        self._action = action
        if not self._manned and isinstance(action, Run | Look):
            return self._assign(now)
        if isinstance(action, Run):
            return [*self._first_lease(now), *self._arm_checkpoint(now), *self._lease(action.until)]
        if isinstance(action, Look):
            self._sums = {}
            return self._ask(self.members.workers, Evaluate(action.clock, action.sets))
        if isinstance(action, KeepBest):
            return self._ask(self.members.holders, Keep(action.clock))
        if isinstance(action, SaveNow):
            return self._ask(self.members.holders, Save(action.clock, action.best))
        return self._finish(action)

    def _account(self, now: float) -> None:
        if self._action is not None:
            kind = type(self._action).__name__
            self.spent[kind] = self.spent.get(kind, 0.0) + now - self.since
        self.since = now

    def _first_lease(self, now: float) -> Commands:
        if self._started_at is not None:
            return []
        self._started_at = now
        timers: Commands = []
        if self.max_time is not None:
            timers.append(SetTimer("max_time", now + self.max_time))
        return timers

    def _arm_checkpoint(self, now: float) -> Commands:
        """Soon at first, so that an early death finds something saved; then as asked.

        A clock that takes longer would be cut short for ever: then the interval is doubled.
        """
        if self.checkpoint_every is None or self._armed:
            return []
        if self._armed_at < 0:
            self._interval = min(self.checkpoint_every, FIRST_CHECKPOINT)
        elif self.agenda.clock > self._armed_at:
            self._interval = self.checkpoint_every
        else:
            self._interval = max(self.checkpoint_every, 2 * self._interval)
        self._armed, self._armed_at = True, self.agenda.clock
        return [SetTimer("checkpoint", now + self._interval)]

    def _lease(self, until: int) -> Commands:
        self._until = until
        return self._ask(self.members.all, Proceed(until))

    def _finish(self, action: Finish) -> Commands:
        self._go("leaving")
        self._leave = action.why
        commands = self._ask(self.members.all, Leave(action.why))
        if not self._manned:  # a runner may be at an old gradient still, whose result nobody wants
            self._asked = {one: request for one, request in self._asked.items() if one in self.members.holders}
        return commands

    # -- answers ------------------------------------------------------------------------------------------------------
    def _ask(self, members: Iterable[Address], body: Asked) -> Commands:
        self._ticket += 1
        self._rounds = 0
        request = Request(self.term, self._ticket, body)
        self._asked = dict.fromkeys(members, request)
        return [Send(member, request) for member in self._asked]

    def _message(self, event: MessageReceived, now: float) -> Commands:
        reply = event.message
        if not isinstance(reply, Reply):
            raise self.refuse(f"did not expect {reply}")
        if isinstance(reply.body, Failed):
            return self._member_failed(event.sender, reply.body, now)
        if isinstance(reply.body, Reached):
            self._count(event.sender, reply.ticket, reply.body)
        asked = self._asked.get(event.sender)
        if asked is None or reply.ticket != asked.ticket or reply.term != self.term:
            return []
        return self._on_answer[type(reply.body)](event.sender, reply.body, now)

    def _answered(self, sender: Address, now: float, then: Callable[[float], Commands]) -> Commands:
        self._asked.pop(sender, None)
        self._rounds = 0
        return [] if self._asked else then(now)

    def _done(self, sender: Address, _body: Done, now: float) -> Commands:
        if self.phase == "assigning":
            return self._answered(sender, now, self._assigned)
        if self.phase == "leaving":
            return self._answered(sender, now, self._left)
        if isinstance(self._asked[sender].body, Proceed):
            return self._answered(sender, now, self._lease_used)
        return self._answered(sender, now, self._carried_out)

    def _count(self, sender: Address, ticket: int, body: Reached) -> None:
        """Rows of a lease count once, even where a new term overtook the answer."""
        if sender == self.owners[0] and ticket not in self._counted:
            self._counted.add(ticket)
            self.segments.append(body)

    def _reached(self, sender: Address, body: Reached, now: float) -> Commands:
        if sender == self.owners[0]:
            self.iterations = body.iterations
            self.agenda.reached(body.clock, body.finished)
        return self._answered(sender, now, self._lease_used)

    def _lease_used(self, now: float) -> Commands:
        return self._act(now)

    def _carried_out(self, now: float) -> Commands:
        action = self._action
        if isinstance(action, KeepBest):
            self.agenda.keep_done(action.clock)
            return self._act(now)
        if isinstance(action, SaveNow):
            return [Persist(Manifest(self.term, action.clock, action.best, self.agenda.memory()))]
        raise self.refuse(f"an answer to {action}")

    def _summed(self, sender: Address, body: Sums, now: float) -> Commands:
        if not isinstance(self._action, Look):
            return []
        if body.sums:
            self._sums[body.lo] = body
        return self._answered(sender, now, self._looked)

    def _looked(self, now: float) -> Commands:
        look = self._action
        assert isinstance(look, Look)
        results = []
        for index, name in enumerate(look.sets):
            rows = [lane for lo in sorted(self._sums) for lane in self._sums[lo].sums[index]]
            count, weight, loss, correct = sum_in_order(rows)
            scale = 1.0 / weight if weight else 0.0
            right = correct * scale if math.isfinite(correct) else None  # numbers are not right or wrong
            results.append(Evaluated(look.clock, name, count, weight, loss * scale, right))
        wrong = self.agenda.diverged(tuple(results))
        if wrong:
            return self._fail(wrong)
        self.agenda.evaluated(look, tuple(results))
        return self._act(now)

    def _left(self, _now: float) -> Commands:
        self._go("stopped")
        return [Stop(self._leave)]

    # -- what goes wrong ----------------------------------------------------------------------------------------------
    def _fail(self, error: str, kind: str = "run", traceback: str = "") -> Commands:
        if self.phase == "stopped":
            return []
        self._go("stopped")
        self.fault = Stop("failed", error, 3 if kind == "lost" else 1, traceback, kind)
        return [self.fault]

    def _member_failed(self, sender: Address, body: Failed, _now: float) -> Commands:
        kind = "storage" if body.storage else "program"
        return self._fail(f"{self.name(sender)}: {body.error}", kind, body.traceback)

    def _peer_silent(self, event: PeerSilent, now: float) -> Commands:
        if event.peer not in self.members.all or event.seconds < self.patience:
            return []
        self._note(now, f"{self.name(event.peer)} gave no sign of life for {event.seconds:.1f} s while {event.doing}")
        return [Retire(event.peer, f"silent for {event.seconds:.1f} s while {event.doing}")]

    def _peer_lost(self, event: PeerLost, now: float) -> Commands:
        peer = event.peer
        if peer not in self.members.all or self.phase in {"leaving", "stopped"}:
            if self.phase == "leaving" and peer in self._asked:
                return self._answered(peer, now, self._left)
            return []
        ran = peer in self.members.workers
        self.members = self.members.without(peer)
        self.joined.discard(peer)
        who = f"{self.name(peer)} died ({event.how})" + (f" while {event.doing}" if event.doing else "")
        if not self.members.workers:
            return self._fail(f"{who}; no worker is left to take its lanes over", "lost")
        if not self.members.holders:
            return self._fail(f"{who}; it alone held the parameters", "lost")
        moved = sum(owner == peer for owner in self.owners)
        self._moved = self._moved or moved > 0
        heirs = self.members.holders
        what = []
        if ran:
            what.append(f"its lanes went to {', '.join(self.name(one) for one in self.members.workers)}")
        if moved:
            what.append(f"{moved} of its shards went to {', '.join(self.name(one) for one in heirs)}")
        self.owners = tuple(
            heirs[shard % len(heirs)] if owner == peer else owner for shard, owner in enumerate(self.owners)
        )
        self._note(now, "; ".join([who, *what]))
        if self.phase == "joining":
            return self._new_term(who) if self.joined >= set(self.members.all) else []
        return self._new_term(who)

    def _stop_requested(self, event: StopRequested, now: float) -> Commands:
        if self.agenda.halted or self.phase in {"leaving", "stopped"}:
            return []
        self.agenda.halt(event.reason, brief=True)
        if self.phase == "joining":
            return self._fail(f"{event.reason} before the start", "stopped")
        return self._interrupt(now, event.reason)

    def _interrupt(self, _now: float, why: str) -> Commands:
        """Cut a lease short, through a term; a brief halt cuts everything short that waits for runners."""
        waits = self.phase == "acting" and self._manned and isinstance(self._action, Run)
        if self._ends:
            waits = waits or self.phase == "assigning" or (self.phase == "acting" and isinstance(self._action, Look))
        return self._new_term(why) if waits else []

    def _timer(self, event: TimerFired, now: float) -> Commands:
        if event.name == "max_time":
            self.agenda.halt("max_time", brief=False)
            return self._interrupt(now, "max_time")
        if event.name == "checkpoint":
            self._armed = False
            self.agenda.save_due = True
            return self._interrupt(now, "checkpoint")
        self._rounds += 1
        if self._writes and self._rounds * self.retry > self._bound:
            seconds = self._rounds * self.retry
            return self._fail(f"cannot write: the run directory took no record for {seconds:.0f} s", "storage")
        overdue = self._overdue()
        if overdue:
            return self._fail(overdue)
        again = [Send(member, request) for member, request in self._asked.items()]
        return [*again, SetTimer("retry", now + self.retry)]

    @property
    def _bound(self) -> float:
        return max(OVERDUE, 10 * self.patience)

    @property
    def _writes(self) -> bool:
        """Whether a record of the driver's own is on its way to the disk: then nobody is asked."""
        return not self._asked and self.phase in {"recording", "acting"}

    def _overdue(self) -> str:
        """Who has not answered for far too long although no compute keeps it from it, and what; empty: nobody."""
        seconds = self._rounds * self.retry
        late = [one for one, request in self._asked.items() if self._prompt(one, request.body)]
        if not late or seconds <= self._bound:
            return ""
        what = IN_WORDS[type(self._asked[late[0]].body)]
        return f"{', '.join(map(self.name, late))} did not answer for {seconds:.0f} s when asked {what}, though alive"

    def _prompt(self, member: Address, body: Asked) -> bool:
        """Whether the answer is due at once: it waits for no gradient, not even for one of an old term."""
        idle = member not in self.members.workers or self._started_at is None
        if isinstance(body, Fence):
            return idle or not self._moved
        if isinstance(body, Keep):
            return idle or self._manned
        return isinstance(body, Leave) or (isinstance(body, Assign) and idle)

    @property
    def running(self) -> bool:
        """Whether a lease is going on."""
        return self.phase != "joining" and isinstance(self._action, Run)

    def waiting(self) -> tuple[str, ...]:
        """Whom the driver waits for, by name."""
        return tuple(self.name(member) for member in self._asked)

    def validate(self) -> None:
        """Each shard has a living owner; whoever is asked is a member."""
        super().validate()
        if self.phase not in {"stopped", "leaving"}:
            if not set(self.owners) <= set(self.members.holders):
                raise self.refuse(f"owners {self.owners} of holders {self.members.holders}")
            if not self._asked.keys() <= set(self.members.all):
                raise self.refuse(f"asks {sorted(self._asked)}, members are {self.members.all}")
