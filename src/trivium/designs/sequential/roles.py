"""One process that runs all lanes and holds all of A; it sends no message but to the driver."""

from __future__ import annotations

from typing import final

from trivium.core.holder import Holder
from trivium.core.membership import Members
from trivium.core.role import Address
from trivium.core.runner import Runner

__all__ = ["Solo", "topology"]


@final
class Solo(Holder, Runner):
    """Everything in one place."""


def topology(_workers: int, _shards: int) -> tuple[Members, dict[Address, str]]:
    """The one worker in slot 1; slot 0 is the driver's."""
    one = Address(0, 1)
    return Members((one,), (one,)), {one: "worker 0"}
