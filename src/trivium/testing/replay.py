"""Replays a recorded run through fresh roles, which must give the same commands.

A recording is what hosts keep when asked to trace: ``(now, address, event, commands)`` for every event that a role was
told. Roles are pure, so that the same events at the same times lead to the same commands on any host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from trivium.core.role import Address, Command, Event, Role

__all__ = ["Difference", "Entry", "replay"]

Entry: TypeAlias = tuple[float, Address, Event, Sequence[Command]]


class Difference(AssertionError):  # noqa: N818 - it names what was found
    """A role gave other commands than the recording has."""


def replay(recording: Iterable[Entry], roles: Mapping[Address, Role]) -> int:
    """Feed ``recording`` to ``roles``, as fresh as they were when it began; returns the number of events.

    Raises Difference at the first event that leads to other commands, with the role's story.
    """
    number = 0
    for now, address, event, commands in recording:
        if address not in roles:
            raise Difference(f"event {number} is for {tuple(address)}, which has no role; there are {sorted(roles)}")
        role = roles[address]
        given = role.handle(event, now)
        if given != list(commands):
            story = "\n".join(f"  {line}" for line in role.story())
            raise Difference(f"event {number}, {event}: recorded {list(commands)}, now {given}\n{story}")
        number += 1
    return number
