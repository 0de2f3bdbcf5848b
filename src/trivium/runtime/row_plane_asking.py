"""Rows that are on another node: a worker asks its server, that the shard's primary; the answer comes to its memory.

Rules
-----
* A worker asks one question at a time, in a range of memory of its own: ``number``, keys, and room for the rows. Its
  server reads the keys there and lays the rows beside them; then it stores the number as answered, and wakes.
* A question is asked again until it is answered: roles drop what comes at the wrong time, and reading changes nothing.
* What a primary says includes all that its node has settled: a view that has come to a clock was told so by a primary,
  or by one before it, whose settled steps the later one has. So what is read is as new as the rule promises.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.core.exchange import Found, Seek
from trivium.errors import RunError
from trivium.program.tables import Keys, TableSpec
from trivium.runtime.atomics import futex_wait, futex_wake, load, store
from trivium.runtime.row_plane_memory import Lodging, Plot, Yard

__all__ = ["ASK_WORDS", "Asking"]

Flat = NDArray[Any]
NUMBER, OFFSET, NBYTES, COUNT, ANSWERED = 0, 1, 2, 3, 8  # of a process; the last on a line of its own
ASK_WORDS = 16
AGAIN = 0.25  # seconds
WITHIN = 60.0  # seconds until somebody must have answered
LOOK_NS = 20_000_000
WAKE_ALL = 1 << 30


class Asking:
    """Both ends of questions of one node's workers, and the primary's. ``send`` hands a Seek to this node's server."""

    def __init__(self, words: NDArray[np.int64], yard: Yard, me: int, send: Callable[[Seek], None]) -> None:
        self._words, self._yard, self._me, self._send = words, yard, me, send
        self._mine: Plot | None = None
        self._plots: dict[int, Plot] = {}  # of the node's workers, as its server has them
        self._sought: dict[tuple[int, int], tuple[int, Keys]] = {}  # questions of other nodes: (node, process)

    # -- the worker ---------------------------------------------------------------------------------------------------
    def ask(self, shard: int, spec: TableSpec, keys: Keys) -> Flat:
        """The rows of ``keys`` from wherever ``shard`` is; RunError where nobody answers for long."""
        words = self._words[self._me]
        item = np.dtype(spec.dtype).itemsize
        need = keys.nbytes + len(keys) * spec.width * item
        if self._mine is None or self._mine.nbytes < need:
            if self._mine is not None:
                self._mine.free()
            self._mine = self._yard.take(2 * need)
        plot = self._mine
        plot.raw[: keys.nbytes] = keys.view(np.uint8)
        number = int(words[NUMBER]) + 1
        words[OFFSET], words[NBYTES], words[COUNT] = plot.offset, plot.nbytes, len(keys)
        store(words, NUMBER, number)
        self._await(words, Seek(-1, shard, self._me, number))
        rows = plot.raw[keys.nbytes : need].view(spec.dtype).reshape(len(keys), spec.width)
        return rows.copy()

    def _await(self, words: NDArray[np.int64], question: Seek) -> None:
        began = asked = monotonic()
        self._send(question)
        while (answered := int(load(words, ANSWERED))) != question.number:
            now = monotonic()
            if now > began + WITHIN:
                raise RunError(
                    f"nobody has answered for {WITHIN:g} s what rows of shard {question.shard} are; is the node that "
                    "holds them alive?"
                )
            if now > asked + AGAIN:
                asked = now
                self._send(question)
            futex_wait(words, ANSWERED, answered, LOOK_NS)

    # -- its server ---------------------------------------------------------------------------------------------------
    def keys(self, process: int, number: int) -> Keys | None:
        """What ``process`` of this node asks for; None where it has had its answer, and asks something else."""
        raw, count = self._range(process)
        keys: Keys = raw[: 8 * count].view(np.int64).copy()
        return keys if self._asks(process, number) else None

    def _asks(self, process: int, number: int) -> bool:
        words = self._words[process]
        return int(load(words, NUMBER)) == number and int(load(words, ANSWERED)) != number

    def _range(self, process: int) -> tuple[NDArray[np.uint8], int]:
        words = self._words[process]
        offset, nbytes, count = words[OFFSET : COUNT + 1].tolist()
        plot = self._plots.get(process)
        if plot is None or (plot.offset, plot.nbytes) != (offset, nbytes):
            plot = self._plots[process] = self._yard.open(offset, nbytes)
        return plot.raw, count

    def serve(self, process: int, number: int, lodging: Lodging) -> None:
        """Answer ``process`` of this node from the rows that are here."""
        keys = self.keys(process, number)
        if keys is not None:
            self._lay(process, number, lodging.reach(keys))

    def answer(self, message: Found, rows: Flat) -> None:
        """What another node has found."""
        if self._asks(message.process, message.number):
            self._lay(message.process, message.number, rows)

    def _lay(self, process: int, number: int, rows: Flat) -> None:
        words = self._words[process]
        raw, count = self._range(process)
        if len(rows) != count:
            raise RunError(f"process {process} asked for {count} rows, and {len(rows)} came")
        raw[8 * count : 8 * count + rows.nbytes] = rows.reshape(-1).view(np.uint8)
        store(words, ANSWERED, number)
        futex_wake(words, ANSWERED, WAKE_ALL)

    # -- the primary --------------------------------------------------------------------------------------------------
    def sought(self, node: int, message: Seek, keys: Keys) -> None:
        """A question of another node came."""
        self._sought[node, message.process] = (message.number, keys)

    def found(self, message: Found, lodging: Lodging) -> Flat | None:
        """Its answer; None where another question has come since: whoever asked has been answered."""
        number, keys = self._sought.get((message.node, message.process), (-1, None))
        return None if number != message.number or keys is None else lodging.reach(keys)
