"""Members: what every role but the driver has in common, and the two things a member may do.

``Member`` answers the driver's requests and keeps the term. ``Holder`` owns shards of A: it admits deltas, applies F
and commits. ``Runner`` runs lanes: it reads A, computes Δ and pushes. The designs differ only in who is what: a
parameter server is a Holder and its workers are Runners, a peer of an allreduce is both, a sequential run is one that
is both.

Rules under BSP
---------------
1. A runner starts clock c when every shard has committed c, and pushes all its parts of c to every owner.
2. A holder applies clock c once it has every lane's part, exactly once: parts of lanes that it has are dropped, pushes
   of clocks that it has applied are answered with ``Committed`` and change nothing.
3. Shards are therefore never more than one clock apart, and the last two versions of each stay readable.
4. A term fences: a holder answers ``Fence`` only when no sum is being computed, and forgets what is not committed. All
   lanes then compute the least committed clock again; shards that are ahead refuse it (rule 2).
5. Where F has two steps and one shard is ahead, its recorded totals bind the others (``Partials.settled``): otherwise a
   line search could accept in one shard and reject in another.
6. An assignment is answered only when the gradient of the old term is done: until then it writes its lanes' blocks,
   which may be another runner's by now. A holder that is fenced and not assigned yet may save and say how far the lease
   came, since all that needs no lane.
7. Nothing is sent again on suspicion of slowness alone but after ``retry`` seconds without progress; whatever is sent
   again is harmless by rules 2 and 4. A failure is told until somebody ends this process.
8. Without a driver nothing new is begun, and what was committed is saved. A driver of another node may be followed by
   another one: it is told by its host (``PeerJoined``) and known by its higher term. It finds all as the lost one left
   it; if none comes until ``orphan_timeout``, this process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trivium.core.messages import (
    Adopt,
    Ahead,
    Answer,
    Apply,
    Assign,
    Committed,
    Done,
    Evaluate,
    EvaluateRows,
    Failed,
    Fence,
    Fold,
    Gradient,
    Keep,
    KeepShard,
    Leave,
    Partials,
    Place,
    Proceed,
    Push,
    Reply,
    Request,
    Save,
    Stand,
)
from trivium.core.role import (
    Address,
    Commands,
    ComputeFailed,
    ComputeFinished,
    MessageReceived,
    PeerJoined,
    PeerLost,
    Persisted,
    ReadReady,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    TimerFired,
)

__all__ = ["BSP_LEAD", "Member"]

BSP_LEAD = 1  # how far one shard may be ahead of another


class Member(Role):
    """Keeps the term and answers the driver. Subclasses mix in ``Holder``, ``Runner`` or both."""

    def __init__(
        self, me: Address, driver: Address, lanes: int, *, reproducible: bool, retry: float, orphan_timeout: float
    ) -> None:
        super().__init__(me)
        self.driver, self.lanes, self.reproducible = driver, lanes, reproducible
        self.retry, self.orphan_timeout = retry, orphan_timeout
        self.term = 0
        self.until = 0
        self.workers: tuple[Address, ...] = ()
        self.owners: tuple[Address, ...] = ()
        self.orphaned = False
        self._followed = False  # whether another driver is there
        self._last_words = "the driver is gone"
        self._ticket = -1
        self._reply: Reply | None = None
        self._failure: Reply | None = None
        self._retry_set = False
        self._progress = 0
        self._progress_seen = -1
        self._handlers = {
            Started: self._started,
            MessageReceived: self._message,
            ComputeFinished: self._finished,
            ComputeFailed: self._failed,
            ReadReady: self._read_ready,
            Persisted: self._persisted,
            TimerFired: self._timer,
            PeerLost: self._lost,
            PeerJoined: self._joined,
        }
        self._on_message: dict[type[Any], Callable[[Address, Any, float], Commands]] = {
            Request: self._request,
            Push: self._push,
            Committed: self._committed,
            Partials: self._partials,
        }
        self._on_request: dict[type[Any], Callable[[Any, float], Commands]] = {
            Fence: self._fence,
            Assign: self._assign,
            Proceed: self._proceed,
            Evaluate: self._evaluate,
            Keep: self._keep,
            Save: self._save,
            Leave: self._leave,
        }
        self._on_work: dict[type[Any], Callable[[Any, Any, float], Commands]] = {
            Gradient: self._gradient_done,
            EvaluateRows: self._evaluated,
            Ahead: self._ahead_done,
            Adopt: self._adopted,
            Fold: self._folded,
            Apply: self._applied,
            KeepShard: self._kept,
        }

    # -- events -------------------------------------------------------------------------------------------------------
    def _started(self, _event: Started, now: float) -> Commands:
        return [SetTimer("retry", now + self.retry)]

    def _joined(self, event: PeerJoined, _now: float) -> Commands:
        """Another driver is there; what it wants, it says in a term of its own."""
        if event.peer == self.driver and self.orphaned and self._adoptable:
            self._followed = True
        return []

    def _message(self, event: MessageReceived, now: float) -> Commands:
        return self._on_message[type(event.message)](event.sender, event.message, now)

    def _finished(self, event: ComputeFinished, now: float) -> Commands:
        return self._on_work[type(event.work)](event.work, event.result, now)

    def _failed(self, event: ComputeFailed, _now: float) -> Commands:
        out_of_room = event.error.startswith("StorageError: ")  # as hosts tell errors: rows that found no memory
        return self._tell_failure(Failed(event.error, event.traceback, storage=out_of_room))

    def _tell_failure(self, failure: Failed) -> Commands:
        self._failure = Reply(self.term, -1, failure)
        return [Send(self.driver, self._failure)]

    def _lost(self, event: PeerLost, now: float) -> Commands:
        if event.peer != self.driver:
            return []
        timer = SetTimer("orphan", now + self.orphan_timeout)
        self._followed = False
        if self.orphaned:
            return [timer]  # whoever came to take over is gone as well
        self.orphaned = True
        return [timer, *self._rescue()]

    @property
    def _adoptable(self) -> bool:
        """Whether another driver may come: one of this node would be of the process that started this one."""
        return self.driver.node != self.me.node

    def _rescue(self) -> Commands:
        return []

    def _timer(self, event: TimerFired, now: float) -> Commands:
        if event.name == "orphan":
            return [Stop(self._last_words)] if self.orphaned and not self._followed else []
        again = self._resend(now) if self._progress == self._progress_seen else []
        if self._failure is not None:
            again.append(Send(self.driver, self._failure))
        self._progress_seen = self._progress
        return [*again, SetTimer("retry", now + self.retry)]

    def _resend(self, _now: float) -> Commands:
        return []

    # -- the driver's requests ----------------------------------------------------------------------------------------
    def _request(self, sender: Address, message: Request, now: float) -> Commands:
        known = (message.term, message.ticket) <= (self.term, self._ticket)  # another driver has tickets of its own
        if known or (self.orphaned and not (self._followed and message.term > self.term)):
            if message.ticket == self._ticket and self._reply is not None:
                return [Send(sender, self._reply)]
            return []
        if message.term > self.term and not isinstance(message.body, Fence | Assign | Leave | Stand | Place):
            return []  # a term begins with a fence or an assignment; the driver asks again
        self.orphaned = False
        self.term, self._ticket, self._reply = message.term, message.ticket, None
        return self._on_request[type(message.body)](message.body, now)

    def _answer(self, body: Answer) -> Commands:
        self._reply = Reply(self.term, self._ticket, body)
        return [Send(self.driver, self._reply)]

    def _leave(self, body: Leave, _now: float) -> Commands:
        return [*self._answer(Done()), Stop(body.reason)]

    # -- filled in by Holder and Runner -------------------------------------------------------------------------------
    def _unexpected(self, what: object) -> Commands:
        raise self.refuse(f"did not expect {what}")

    def _fence(self, body: Fence, _now: float) -> Commands:
        return self._unexpected(body)

    def _assign(self, body: Assign, _now: float) -> Commands:
        self._take_up(body)
        return self._answer(Done())

    def _take_up(self, body: Assign) -> None:
        self.workers, self.owners, self.until = body.workers, body.owners, body.clock

    def _proceed(self, body: Proceed, _now: float) -> Commands:
        self.until = body.until  # that of an old term may have been further
        return []

    def _evaluate(self, body: Evaluate, _now: float) -> Commands:
        return self._unexpected(body)

    def _keep(self, body: Keep, _now: float) -> Commands:
        return self._unexpected(body)

    def _save(self, body: Save, _now: float) -> Commands:
        return self._unexpected(body)

    def _push(self, _sender: Address, message: Push, _now: float) -> Commands:
        return self._unexpected(message)

    def _committed(self, _sender: Address, message: Committed, _now: float) -> Commands:
        return self._unexpected(message)

    def _partials(self, _sender: Address, message: Partials, _now: float) -> Commands:
        return self._unexpected(message)

    def _gradient_done(self, work: Gradient, _result: object, _now: float) -> Commands:
        return self._unexpected(work)

    def _ahead_done(self, _work: Ahead, _result: object, _now: float) -> Commands:
        return []

    def _evaluated(self, work: EvaluateRows, _result: object, _now: float) -> Commands:
        return self._unexpected(work)

    def _adopted(self, work: Adopt, _result: tuple[int, bool], _now: float) -> Commands:
        return self._unexpected(work)

    def _folded(self, work: Fold, _result: object, _now: float) -> Commands:
        return self._unexpected(work)

    def _applied(self, work: Apply, _result: tuple[bool, int, float, float, float], _now: float) -> Commands:
        return self._unexpected(work)

    def _kept(self, work: KeepShard, _result: object, _now: float) -> Commands:
        return self._unexpected(work)

    def _read_ready(self, event: ReadReady, _now: float) -> Commands:
        return self._unexpected(event)

    def _persisted(self, event: Persisted, _now: float) -> Commands:
        return self._unexpected(event)
