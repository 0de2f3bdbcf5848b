"""What persons ask of a run that goes on, and what came of each: done, or why not."""

from __future__ import annotations

from dataclasses import dataclass, field

from trivium.core.role import Event

__all__ = ["Came", "Wishes"]


@dataclass(frozen=True)
class Came:
    """``wish`` was ``done``, or not; ``text`` says how, or why not, to a person."""

    wish: Event
    done: bool
    text: str


@dataclass
class Wishes:
    """Those that are under way, and what came of the others. Wishes are told apart by identity: two may be alike."""

    open: list[Event] = field(default_factory=list)
    came: list[Came] = field(default_factory=list)

    def settle(self, kind: type[Event], done: bool, text: str) -> None:
        """``text`` came of those of ``kind`` that are under way."""
        self.came += [Came(one, done, text) for one in self.open if isinstance(one, kind)]
        self.open = [one for one in self.open if not isinstance(one, kind)]

    def refuse(self, wish: Event, text: str) -> None:
        """Nothing will come of ``wish``."""
        self.came.append(Came(wish, False, text))

    def of(self, wish: Event) -> Came | None:
        """What came of ``wish``; None while it is under way."""
        return next((one for one in self.came if one.wish is wish), None)
