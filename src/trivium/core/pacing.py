"""When to go on, look, keep, save and stop: the driver's agenda as a pure value.

The agenda is asked ``next`` at a clock boundary at which nothing runs, and answers with one action. All decisions that
shape the result (evaluation points, patience, target) fall on clocks that follow from the plan alone, so that they do
not depend on the number of workers or on timing; only ``max_time``, checkpoints and a person's wish look at time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from trivium.core.messages import BEST

__all__ = ["Action", "Agenda", "Evaluated", "Finish", "KeepBest", "Look", "Pace", "Run", "SaveNow"]


class Run(msgspec.Struct, frozen=True):
    """Train until clock ``until``."""

    until: int


class Look(msgspec.Struct, frozen=True):
    """Evaluate ``sets`` with the parameters of ``clock`` (``BEST``: the kept ones)."""

    clock: int
    sets: tuple[str, ...]


class KeepBest(msgspec.Struct, frozen=True):
    """Remember the parameters of ``clock``."""

    clock: int


class SaveNow(msgspec.Struct, frozen=True):
    """Write a checkpoint of ``clock``."""

    clock: int
    best: int


class Finish(msgspec.Struct, frozen=True):
    """End; ``why`` is the stopping rule that held."""

    why: str


Action = Run | Look | KeepBest | SaveNow | Finish


class Evaluated(msgspec.Struct, frozen=True):
    """Mean loss and accuracy (None of numbers) of one set at one clock; ``best`` means the kept parameters."""

    clock: int
    name: str
    rows: float
    weight: float
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class Pace:
    """What the agenda follows.

    ``total`` clocks at most (None: until F finishes or a halt); look every ``every`` clocks at ``watch`` ("valid",
    "sample" or "" for never); ``last_sets`` are evaluated at the end. ``tries``: F tries points and takes them back (a
    line search), so that a loss in the middle need not be finite.
    """

    total: int | None
    every: int
    watch: str
    last_sets: tuple[str, ...]
    target_loss: float | None = None
    patience: int | None = None
    keep_best: bool = False
    why_total: str = "epochs"
    tries: bool = False


@dataclass
class Agenda:
    """The state of the agenda; everything that a resumed run must know is in ``memory``."""

    pace: Pace
    clock: int = 0
    finished: bool = False
    halted: str = ""  # why a person or the clock on the wall wants an end
    brief: bool = False  # halt without a last look
    save_due: bool = False
    best_clock: int = -1
    best_loss: float = math.inf
    since_best: int = 0
    looked: int = -1  # the last clock that was evaluated
    kept: int = -1
    began: int = 0  # the clock at which this life of the run began: what it is timed from
    ended: str = ""
    saved: int = -1
    history: list[Evaluated] = field(default_factory=list)
    last: dict[str, Evaluated] = field(default_factory=dict)

    def next(self) -> Action:
        """What to do now, at ``clock``, with nothing running."""
        pace = self.pace
        if self.halted and self.brief:
            return self._close(self.halted)
        if self._look_due():
            return Look(self.clock, (pace.watch,))
        if pace.keep_best and self.best_clock == self.clock and self.kept != self.clock:
            return KeepBest(self.clock)
        why = self._why_end()
        if why:
            self.ended = why
            at = BEST if pace.keep_best and self.best_clock >= 0 and self.best_clock != self.clock else self.clock
            sets = tuple(name for name in pace.last_sets if name not in self.last)
            return Look(at, sets) if sets else self._close(why)
        if self.save_due and self.saved != self.clock:
            return SaveNow(self.clock, self.kept)
        self.save_due = False
        return Run(self._until())

    def _close(self, why: str) -> Action:
        return Finish(why) if self.saved == self.clock else SaveNow(self.clock, self.kept)

    def _look_due(self) -> bool:
        pace = self.pace
        if not pace.watch or self.clock in (self.looked, 0) or self.ended:
            return False
        return self.clock % pace.every == 0 or self.finished or self.clock == pace.total or bool(self.halted)

    def _why_end(self) -> str:
        pace = self.pace
        if self.ended:
            return self.ended
        if pace.target_loss is not None and self.history and self.history[-1].loss <= pace.target_loss:
            return "target_loss"
        if pace.patience is not None and self.since_best >= pace.patience:
            return "patience"
        if self.finished:
            return "converged"
        if pace.total is not None and self.clock >= pace.total:
            return pace.why_total
        return self.halted

    def _until(self) -> int:
        pace = self.pace
        until = pace.total if pace.total is not None else self.clock + 1_000_000
        if pace.watch:
            until = min(until, (self.clock // pace.every + 1) * pace.every)
        return until

    # -- what came of the actions -------------------------------------------------------------------------------------
    def reached(self, clock: int, finished: bool) -> None:
        """The members have committed ``clock``."""
        self.clock, self.finished = clock, finished

    def evaluated(self, look: Look, results: tuple[Evaluated, ...]) -> None:
        """The sums of ``look`` are in."""
        if self.ended:
            self.last.update({one.name: one for one in results})
            return
        self.looked = look.clock
        (one,) = results
        self.history.append(one)
        if one.loss < self.best_loss:
            self.best_loss, self.best_clock, self.since_best = one.loss, self.clock, 0
        else:
            self.since_best += 1

    def diverged(self, results: tuple[Evaluated, ...]) -> str:
        """What to say where a loss is not finite; nothing where all are, or where F may still turn back."""
        for one in results:
            if not math.isfinite(one.loss) and (self.ended or not self.pace.tries):
                return (
                    f"diverged: the {one.name} loss is {one.loss} after clock {self.clock}; start anew with a lower "
                    "learning rate (lr), or scale the columns"
                )
        return ""

    def keep_done(self, clock: int) -> None:
        """The best parameters are those of ``clock``."""
        self.kept = clock

    def save_done(self, clock: int) -> None:
        """``clock`` is on disk."""
        self.saved, self.save_due = clock, False

    def halt(self, why: str, *, brief: bool) -> None:
        """End at the next boundary; ``brief``: without evaluating."""
        self.halted, self.brief = self.halted or why, self.brief or brief

    def memory(self) -> bytes:
        """What a resumed run must know, as JSON."""
        return msgspec.json.encode(
            {
                "clock": self.clock,
                "finished": self.finished,
                "best_clock": self.best_clock,
                "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
                "since_best": self.since_best,
                "looked": self.looked,
                "kept": self.kept,
                "history": self.history,
            }
        )

    @classmethod
    def resumed(cls, pace: Pace, memory: bytes, saved: Iterable[int]) -> Agenda:
        """The agenda of a run whose driver is gone, at the clock that it goes on from.

        ``memory`` is that of the newest whole manifest (empty: there is none), ``saved`` the clocks of which every
        shard is on disk. Orphans may have saved later clocks than the manifest's; the latest of them counts, but none
        beyond the lease that would come next, since what the lost driver decided at its end is not known. The kept
        parameters are the manifest's.
        """
        agenda = cls.remembered(pace, memory) if memory else cls(pace)
        action = agenda.next()
        most = action.until if isinstance(action, Run) else agenda.clock
        agenda.clock = max((clock for clock in saved if agenda.clock <= clock <= most), default=agenda.clock)
        return agenda

    @classmethod
    def followed(cls, pace: Pace, memory: bytes) -> Agenda:
        """The agenda of a driver that takes a live run over, as the lost one had it when it granted its last lease.

        How far the members have come since is theirs to say: never beyond that lease, at whose end something may be
        due. Whatever was decided after it was not acted upon, and comes out the same when it is decided again.
        """
        agenda = cls.remembered(pace, memory)
        agenda.saved = -1  # what is remembered need not be on disk
        return agenda

    @classmethod
    def remembered(cls, pace: Pace, memory: bytes) -> Agenda:
        """The agenda of a run that goes on from ``memory``."""
        held = msgspec.json.decode(memory)
        history = msgspec.convert(held.pop("history"), list[Evaluated])
        best = held.pop("best_loss")
        return cls(pace, history=history, best_loss=math.inf if best is None else best, saved=held["clock"], **held)
