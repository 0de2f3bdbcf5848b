"""What hosts of real processes share: the loop that feeds a role and carries its commands out.

Rules
-----
* The role thread alone touches the role. Long computes run on one compute thread, short ones (measured under
  ``INLINE`` seconds) right here, since a hand-over costs more than they do. Records are written on a thread of their
  own: a disk may take its time. A shard is copied before, right here, so that its plane may go on meanwhile.
* The role thread never spins while a compute runs, nor where processes outnumber cores by more than one.
* Each turn of the loop leaves a sign of life on the board; no wait is longer than ``BEAT_EVERY``. A compute on the
  role thread is marked there instead, for a short kind may take long for once.
* A turn looks at the mail, at threads that are done and elsewhere (``poll``), even where events never end.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns, perf_counter
from typing import Any

import msgspec

from trivium.core.exchange import EXCHANGE_WORKS, EXCHANGED
from trivium.core.messages import MESSAGES, WORKS, EvaluateRows
from trivium.core.role import (
    Address,
    Command,
    Compute,
    ComputeFailed,
    ComputeFinished,
    Event,
    Launch,
    Message,
    MessageReceived,
    Persist,
    Persisted,
    Read,
    ReadReady,
    Retire,
    Role,
    Send,
    SetTimer,
    Started,
    Stop,
    TimerFired,
    Work,
)
from trivium.core.spans import IDLE, SEND, WAIT, Spans
from trivium.errors import ProgramError, StorageError
from trivium.runtime import board as boards
from trivium.runtime.base import Plane, Store, as_asked
from trivium.runtime.board import Board
from trivium.runtime.mailbox import Mailboxes

__all__ = ["BEAT_EVERY", "MOST_TRACE", "Aside", "RoleHost", "Trace", "told"]

TURN = 5e-2  # seconds after which a turn ends even where each event leads to another
INLINE = 2e-2  # a hand-over to a thread costs 0.1 to 0.2 ms; signs of life are due each ``BEAT_EVERY``
BEAT_EVERY = 0.1
CODES: dict[type[Work], int] = {work: boards.OPERATIONS.index(work.__name__) for work in (*WORKS, *EXCHANGE_WORKS)}
INLINE_CODES = {work: code + boards.INLINE for work, code in CODES.items()}
END_WITHIN = 0.5
WRITE_WITHIN = 60.0  # seconds that a disk may take for one record
MOST_TRACE = 5000  # characters of a traceback: with its error it must fit in a mailbox
SMOOTH = 0.2  # weight of the newest measurement

Trace = list[tuple[float, Address, Event, list[Command]]]


class RoleHost:
    """Runs one role in this process until it stops. ``addresses[i]`` is the role of process i."""

    def __init__(
        self,
        role: Role,
        me: int,
        addresses: Sequence[Address],
        mail: Mailboxes,
        board: Board,
        *,
        plane: Plane | None,
        store: Store,
        spin: float,
        spans: Spans,
        trace: Trace | None = None,
    ) -> None:
        self.role, self.me = role, me
        self.addresses: Sequence[Address] = tuple(addresses)
        self.mail, self.board, self.plane, self.store = mail, board, plane, store
        self.spin, self.spans, self.trace = spin, spans, trace
        self.stopped: Stop | None = None
        self.beat = BEAT_EVERY
        self._process = {address: i for i, address in enumerate(addresses)}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(_union((*MESSAGES, *EXCHANGED))).decode
        self._handle = role.handle if trace is None else self._traced
        self._feeding = False
        self._turned = perf_counter()
        self._timers: dict[str, float] = {}
        self._next_timer = float("inf")
        self._full: deque[tuple[Mailboxes, int, bytes]] = deque()
        self._events: deque[Event] = deque()
        self._took: dict[type[Work], float] = {}
        self.aside: set[type[Work]] = {EvaluateRows}  # never carried out on the role thread
        self._carry_out: Any = None if plane is None else plane.carry_out
        self._thread: Aside | None = None
        self._writer: Aside | None = None
        self._inline = False  # whether a compute is carried out on the role thread now
        self._computing = 0
        self._last: tuple[Message | None, bytes] = (None, b"")
        self._words = memoryview(board.words[me])
        self._usual: Any = memoryview(board.usual[me])
        self._carry: dict[type[Command], Callable[[Any], None]] = {
            Send: self._send,
            Compute: self._compute,
            Read: self._read,
            Persist: self._persist,
            Retire: self._retire,
            Launch: self._launch,
            SetTimer: self._set_timer,
            Stop: self._stop,
        }

    # -- the loop -----------------------------------------------------------------------------------------------------
    def run(self) -> Stop:
        """Until the role stops."""
        self.feed(Started())
        while self.stopped is None:
            self.turn()
        if self._thread is not None:
            self._thread.close(END_WITHIN)
        if self._writer is not None:
            self._writer.close(END_WITHIN if self.stopped.error else WRITE_WITHIN)
        self.spans.switch(IDLE, perf_counter())
        return self.stopped

    def turn(self) -> None:
        """Handle all there is, then wait for more; the wait is over at once where there is more already."""
        now = self._turned = perf_counter()
        self._words[boards.BEAT] = monotonic_ns()
        for sender, payload in self.mail.receive():
            self._arrived(sender, now)
            self.feed(MessageReceived(self.addresses[sender], self._decode(payload)))
        if self._thread is not None and self._collect():
            return
        if self._writer is not None and self._written():
            return
        if self._next_timer <= now:
            self._fire()
        if self._events:
            self._go_on()
            self.poll()
        elif not self.poll() and self.stopped is None:
            self._wait()

    def poll(self) -> bool:
        """For subclasses: look elsewhere; True if something was handled."""
        return False

    def _arrived(self, sender: int, now: float) -> None:
        spans = self.spans
        if spans.kind == WAIT:
            spans.waited_for(sender, now - spans.since)
            spans.switch(SEND, now)

    def _wait(self) -> None:
        spans = self.spans
        if self._full and self._flush():
            return
        now = perf_counter()
        if not self._computing:
            kind = WAIT if self.role.waits() else IDLE
            if spans.kind != kind:
                spans.switch(kind, now)
        left = self._next_timer - now
        timeout = self.beat if left > self.beat else max(0.0, left)
        if self._full:
            timeout = min(timeout, 0.001)
        self.mail.wait(timeout, 0.0 if self._computing or spans.kind != WAIT else self.spin)

    def feed(self, event: Event) -> None:
        """Hand ``event`` to the role and carry out what it says, and what follows from that at once."""
        self._events.append(event)
        if not self._feeding:  # else called from within; the outer call goes on
            self._go_on()

    def _go_on(self) -> None:
        """Handle what is queued; a turn ends after ``TURN`` seconds even where one short compute leads to another."""
        events, handle, carry = self._events, self._handle, self._carry
        self._feeding = True
        while events:
            now = perf_counter()
            if now - self._turned > TURN:
                break  # the next turn goes on, after a sign of life and a look at the mail
            for command in handle(events.popleft(), now):
                carry[type(command)](command)
        self._feeding = False

    def _traced(self, event: Event, now: float) -> list[Command]:
        commands = self.role.handle(event, now)
        assert self.trace is not None
        self.trace.append((now, self.role.me, event, commands))
        return commands

    # -- commands -----------------------------------------------------------------------------------------------------
    def _send(self, command: Send) -> None:
        message = command.message
        if message is not self._last[0]:
            self._last = (message, self._encode(message))
        to = self._process[command.to]
        if self._full or not self.mail.send(to, self._last[1]):
            self._full.append((self.mail, to, self._last[1]))

    def _flush(self) -> bool:
        """Send what did not fit; True if any of it went."""
        went = False
        for _ in range(len(self._full)):
            mail, to, payload = self._full.popleft()
            if mail.send(to, payload):
                went = True
            else:
                self._full.append((mail, to, payload))
        return went

    def _compute(self, command: Compute) -> None:
        work = command.work
        kind = type(work)
        if self._took.get(kind, 1.0) < INLINE and not self._computing and kind not in self.aside:
            self._short(work, kind)
            return
        if self._thread is None:
            self._thread = Aside("compute", self._timed, lambda: self.mail.ring(self.me))
        self._computing += 1
        self._thread.submit(work)

    def _short(self, work: Work, kind: type[Work]) -> None:
        """Carry ``work`` out here. What it did last time is no promise: the board says what it is at."""
        began, words = perf_counter(), self._words
        self._inline = True
        words[boards.OP] = INLINE_CODES[kind]
        try:
            result = self._carry_out(work)
        except BaseException as error:
            self._after(work, False, told(error))
            return
        finally:
            words[boards.OP] = 0
            self._inline = False
        now = perf_counter()
        self.spans.switch(SEND, now)
        took = self._took[kind]
        self._took[kind] = self._usual[CODES[kind]] = took + (now - began - took) * SMOOTH
        self.computed(work, result, now)
        self._events.append(ComputeFinished(work, result))  # whoever asked for the compute is feeding

    def _timed(self, work: Work) -> tuple[bool, Any]:
        """Carry ``work`` out; (True, result) or (False, (error, traceback))."""
        words, began = self._words, perf_counter()
        words[boards.OP_SINCE] = monotonic_ns()
        words[boards.OP] = CODES[type(work)]
        try:
            assert self.plane is not None
            result = (True, self.plane.carry_out(work))
        except BaseException as error:
            result = (False, told(error))
        words[boards.OP] = 0
        now = perf_counter()
        self.spans.switch(SEND, now)
        kind, took = type(work), now - began
        took = took if kind not in self._took else self._took[kind] * (1 - SMOOTH) + took * SMOOTH
        self._took[kind] = took
        self._usual[CODES[kind]] = took
        return result

    def alive(self) -> None:
        """A work of many parts has got on: called between them, from whatever thread it is on."""
        now = self._words[boards.OP_SINCE] = monotonic_ns()
        if self._inline:
            self._words[boards.BEAT] = now

    def _collect(self) -> bool:
        assert self._thread is not None
        done = self._thread.done
        if not done:
            return False
        while done:
            work, outcome = done.popleft()
            self._computing -= 1
            self._after(work, *outcome)
        return True

    def _after(self, work: Work, fine: bool, result: Any) -> None:
        if fine:
            self.computed(work, result, perf_counter())
            self.feed(ComputeFinished(work, result))
        else:
            self.feed(ComputeFailed(work, *result))

    def computed(self, work: Work, result: Any, now: float) -> None:
        """For subclasses: ``work`` is done, before the role hears of it."""

    def _read(self, command: Read) -> None:
        self.plane.read(command.clock)  # type: ignore[union-attr]
        self._words[boards.CLOCK] = command.clock
        self.feed(ReadReady(command.clock))

    def _persist(self, command: Persist) -> None:
        record = command.record
        try:
            held = as_asked(record, self.plane)
        except Exception as error:
            self.feed(Persisted(record, _why_not(record, error)))
            return
        if self._writer is None:
            self._writer = Aside("write", self._write, lambda: self.mail.ring(self.me))
        self._writer.submit((record, held))

    def _write(self, asked: tuple[Work, Any]) -> Persisted:
        """Write one record, on the writing thread; whatever happens is said."""
        record, held = asked
        self._words[boards.WRITE_SINCE] = monotonic_ns()
        try:
            self.store.write(record, held)
            return Persisted(record)
        except BaseException as error:
            return Persisted(record, _why_not(record, error))
        finally:
            self._words[boards.WRITE_SINCE] = 0

    def _written(self) -> bool:
        assert self._writer is not None
        done = self._writer.done
        if not done:
            return False
        while done:
            _asked, persisted = done.popleft()
            self.feed(persisted)
        return True

    def _retire(self, command: Retire) -> None:
        raise AssertionError(f"only a driver's host can {command}")

    def _launch(self, command: Launch) -> None:
        raise AssertionError(f"only a driver's host can {command}")

    def _set_timer(self, command: SetTimer) -> None:
        self._timers[command.name] = command.at
        self._next_timer = min(self._timers.values())

    def _fire(self) -> None:
        now = perf_counter()
        due = [name for name, at in self._timers.items() if at <= now]
        for name in due:
            del self._timers[name]
        self._next_timer = min(self._timers.values(), default=float("inf"))
        for name in due:
            self.feed(TimerFired(name))

    def _stop(self, command: Stop) -> None:
        self.stopped = command
        deadline = perf_counter() + 0.5
        while self._full and perf_counter() < deadline:
            self._flush()


def _why_not(record: Work, error: BaseException) -> str:
    if isinstance(error, StorageError):
        return str(error)
    return f"cannot write {type(record).__name__}: {told(error)[0]}"


class Aside:
    """One daemon thread that carries works out in order and rings when each is done."""

    def __init__(self, name: str, carry_out: Callable[[Any], Any], ring: Callable[[], None]) -> None:
        self.done: deque[tuple[Any, Any]] = deque()
        self._todo: deque[Any] = deque()
        self._wake = threading.Semaphore(0)
        self._carry_out, self._ring = carry_out, ring
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Any) -> None:
        """Queue ``work``, which is not None."""
        self._todo.append(work)
        self._wake.release()

    def close(self, within: float) -> None:
        """Let the thread end after what is queued; waits, since it holds memory or files until then."""
        self._todo.append(None)
        self._wake.release()
        self._thread.join(within)

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            work = self._todo.popleft()
            if work is None:
                return
            self.done.append((work, self._carry_out(work)))
            self._ring()


def told(error: BaseException) -> tuple[str, str]:
    """The error that is being handled, where it was, and its traceback, short enough for a mailbox."""
    words, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    if isinstance(error, ProgramError):  # it says itself what was raised and where
        words, trace = str(error), error.traceback or trace
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("lane")]
    return "\n".join([words[: MOST_TRACE // 4], *notes]), trace[-MOST_TRACE:]


def _union(types: Sequence[type]) -> Any:
    union: Any = types[0]
    for one in types[1:]:
        union |= one
    return union
