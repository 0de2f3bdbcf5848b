"""Programs in trouble: any program with a fault in its Δ, at a place that a test chooses.

A fault strikes before the ``after``-th call of ``delta`` in a process, of which the first is the trial at the start.
The result is that of the program itself wherever the fault lets it go on, so that bits can be compared.
"""

from __future__ import annotations

import abc
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.data.table import DataSpec
from trivium.program.params import Layout
from trivium.program.program import Defaults, Kernel, Program

__all__ = ["Endless", "Gate", "Paced", "Raising", "Trouble", "Troubled"]


class Trouble(abc.ABC):
    """What happens in Δ."""

    @abc.abstractmethod
    def strike(self, calls: int) -> None:
        """Told before each delta how many calls there were in this process, this one included."""


@final
@dataclass(frozen=True)
class Gate(Trouble):
    """Processes wait before call ``after`` while ``shut`` is held: a fault can strike while all are in the middle."""

    path: Path
    after: int

    def strike(self, calls: int) -> None:
        """Wait while the gate is shut."""
        if calls >= self.after:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Shut it; the kernel opens it again if this process dies."""
        with self.path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@final
@dataclass(frozen=True)
class Paced(Trouble):
    """Each call takes ``seconds`` more while the file ``path`` is there: a run lasts as long as a test wants it to."""

    path: Path
    seconds: float = 0.01

    def strike(self, calls: int) -> None:
        """Take the time; the trial at the start is not held up."""
        if calls > 1 and self.path.exists():
            time.sleep(self.seconds)


@final
@dataclass(frozen=True)
class Raising(Trouble):
    """Each process raises at call ``after``."""

    after: int
    text: str = "this program fails"

    def strike(self, calls: int) -> None:
        """Raise ValueError."""
        if calls >= self.after:
            raise ValueError(self.text)


@final
@dataclass(frozen=True)
class Endless(Trouble):
    """One process, the first that takes ``claim``, never comes back from call ``after``."""

    claim: Path
    after: int

    def strike(self, calls: int) -> None:
        """Turn for ever, if this is the one."""
        if calls != self.after:
            return
        try:
            os.close(os.open(self.claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        self.turn()

    def turn(self) -> None:
        """The loop without an end."""
        while True:
            pass


@final
@dataclass(frozen=True)
class Troubled(Program):
    """``program`` with ``trouble``."""

    program: Program
    trouble: Trouble

    @property
    def xla(self) -> bool:
        """As the program."""
        return self.program.xla

    @property
    def name(self) -> str:
        """As the program."""
        return self.program.name

    @property
    def defaults(self) -> Defaults:
        """As the program."""
        return self.program.defaults

    def for_data(self, spec: DataSpec) -> Troubled:
        """The program for ``spec``, in the same trouble."""
        return replace(self, program=self.program.for_data(spec))

    @property
    def layout(self) -> Layout:
        """As the program."""
        return self.program.layout

    def init(self, seed: int) -> NDArray[Any]:
        """As the program."""
        return self.program.init(seed)

    def kernel(self, threads: int, rows: int, reproducible: bool) -> Kernel:
        """The program's kernel, watched."""
        return _TroubledKernel(self.program.kernel(threads, rows, reproducible), self.trouble)


class _TroubledKernel(Kernel):
    def __init__(self, kernel: Kernel, trouble: Trouble) -> None:
        self._kernel, self._trouble, self._calls = kernel, trouble, 0
        self.random = kernel.random

    def read(self, batch: Batch) -> Any:
        return self._kernel.read(batch)

    def delta(self, a: NDArray[Any], ready: Any, out: NDArray[Any], key: int) -> tuple[float, float, float]:
        self._calls += 1
        self._trouble.strike(self._calls)
        return self._kernel.delta(a, ready, out, key)

    def evaluate(self, a: NDArray[Any], ready: Any) -> NDArray[Any]:
        return self._kernel.evaluate(a, ready)

    def predict(self, a: NDArray[Any], ready: Any) -> NDArray[Any]:
        return self._kernel.predict(a, ready)

    def release(self) -> None:
        self._kernel.release()

    def refresh(self, a: NDArray[Any]) -> None:
        self._kernel.refresh(a)
