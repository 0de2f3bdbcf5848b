"""Plants bugs in the coordination, to show that the verification finds them.

A bug is data: a module, a piece of its source, and what stands there instead. It is planted in fresh copies of the
modules, so that nothing outside of the ``with`` block knows of it. A bug whose old text is not there exactly once fails
loudly: it has to be planted anew where the code has moved.

Prior art: mutation testing (DeMillo, Lipton, Sayward, *Hints on test data selection*, 1978).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from trivium.errors import ProtocolError, UsageError

__all__ = ["Bug", "found_at", "planted"]

FRESH = ("core", "designs", "runtime", "testing")  # rooms of which the copies are made


@dataclass(frozen=True)
class Bug:
    """``old``, found once in the source of ``module``, becomes ``new``; ``scenarios`` is the room that runs it."""

    name: str
    module: str
    old: str
    new: str
    scenarios: str = "scenarios"

    def source(self, text: str) -> str:
        """``text`` with the bug in it."""
        if text.count(self.old) != 1:
            raise UsageError(
                f"bug {self.name!r} cannot be planted: its old text is {text.count(self.old)} times in {self.module}, "
                "must be once; plant it anew where the code has moved"
            )
        return text.replace(self.old, self.new)


class _Loader(importlib.abc.Loader):
    def __init__(self, bug: Bug, path: Path) -> None:
        self.bug, self.path = bug, path

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        del spec

    def exec_module(self, module: ModuleType) -> None:
        source = self.bug.source(self.path.read_text(encoding="utf-8"))
        exec(compile(source, f"{self.path} with {self.bug.name!r}", "exec"), module.__dict__)  # noqa: S102 - our own source


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, bug: Bug) -> None:
        self.bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.bug.module or not path:
            return None
        file = Path(path[0]) / f"{fullname.rsplit('.', 1)[1]}.py"
        return importlib.util.spec_from_loader(fullname, _Loader(self.bug, file), origin=str(file))


def _is_fresh(name: str) -> bool:
    return any(name == f"trivium.{room}" or name.startswith(f"trivium.{room}.") for room in FRESH)


@contextmanager
def planted(bug: Bug) -> Iterator[ModuleType]:
    """The scenarios of ``bug``, with it in what they run."""
    import trivium

    held = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_fresh(name)}
    rooms = {room: getattr(trivium, room) for room in FRESH if hasattr(trivium, room)}
    finder = _Finder(bug)
    sys.meta_path.insert(0, finder)
    try:
        scenarios = importlib.import_module(f"trivium.testing.{bug.scenarios}")
        if bug.module not in sys.modules:
            raise UsageError(f"bug {bug.name!r} is in {bug.module}, which no scenario runs")
        yield scenarios
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _is_fresh(name)]:
            del sys.modules[name]
        sys.modules.update(held)
        for room, module in rooms.items():
            setattr(trivium, room, module)


def found_at(bug: Bug, seeds: Sequence[int]) -> tuple[int, str] | None:
    """The first of ``seeds`` whose scenario shows ``bug``, and what it showed; None if none does."""
    with planted(bug) as scenarios:
        for seed in seeds:
            try:
                scenarios.run(scenarios.draw(seed))
            except (AssertionError, ProtocolError) as error:
                return seed, str(error).splitlines()[0]
    return None
