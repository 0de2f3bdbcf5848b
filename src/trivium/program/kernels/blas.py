"""How many threads BLAS takes, held for the length of a call and given back as it was.

Rules
-----
* A process's BLAS belongs to the person: nothing is set when a kernel is made, and nothing stays set after a call.
* Small products need no holding: OpenBLAS multiplies with one thread where rows·columns·depth is at most ``ALONE``.
  Kernels cut their tiles to that where they can, and pay nothing; else they hold, for some five microseconds a call.
* Calls may overlap, from several threads of the process: the first in sets, the last out restores.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from types import TracebackType
from typing import Any

__all__ = ["ALONE", "Held", "held"]

ALONE = 1 << 18  # multiplications of one product that OpenBLAS does not share among threads


class Held:
    """Holds the process's BLAS at ``threads`` while any ``with`` of it is entered; nested ones keep the first's."""

    def __init__(self) -> None:
        import numpy  # noqa: F401  each brings a BLAS of its own, which is found only once it is loaded
        import scipy.linalg  # noqa: F401
        from threadpoolctl import ThreadpoolController

        self._lock = threading.Lock()
        self._libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
        # later versions let only the first thread that ever set it set it again: the last one out is often another
        self._set = [getattr(one, "_real_set_num_threads", one.set_num_threads) for one in self._libraries]
        self._before: list[int] = []
        self._depth = 0

    def at(self, threads: int) -> _Hold:
        """A context in which BLAS takes ``threads`` threads."""
        return _Hold(self, threads)

    def now(self) -> list[int]:
        """Threads that each library takes."""
        return [one.get_num_threads() for one in self._libraries]

    def enter(self, threads: int) -> None:
        """Set, unless it is set already."""
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._before = self.now()
                self._make([threads] * len(self._before))

    def leave(self) -> None:
        """Restore, unless others are still in."""
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._make(self._before)

    def _make(self, wanted: list[int]) -> None:
        for change, count, now in zip(self._set, wanted, self.now(), strict=True):
            if now != count:
                change(count)


class _Hold:
    def __init__(self, held: Held, threads: int) -> None:
        self._held, self._threads = held, threads

    def __enter__(self) -> None:
        self._held.enter(self._threads)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._held.leave()


@lru_cache(maxsize=1)
def held() -> Held:
    """The one of this process: the setting is the process's, so is the count of those who hold it."""
    return Held()
