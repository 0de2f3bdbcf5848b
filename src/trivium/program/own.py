"""Programs of one's own, by where they are written: ``my_program.py:program`` or ``package.module:name``.

The name after the colon is a ``Program``, or a function without arguments that makes one. A file is run anew each time,
under a name of its own, with its folder first on the path of imports. What it imports from that folder goes to the
workers with it, by value: they need not find the file.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from trivium.errors import TriviumError, UsageError, unknown
from trivium.program.mistakes import place_of
from trivium.program.program import Program

__all__ = ["is_reference", "load_program"]

FORM = "my_program.py:program, or package.module:name"


def is_reference(text: str) -> bool:
    """Whether ``text`` names a program of one's own: a path to a Python file, or a module, before the colon.

    >>> is_reference("my_program.py:program"), is_reference("package.module:make"), is_reference("mlp:100")
    (True, True, False)
    """
    where, _, _ = text.rpartition(":")
    return (where or text).endswith(".py") or "." in where or "/" in where


def load_program(reference: str) -> Program:
    """The program that ``reference`` names. UsageError: what was looked for, where, what went wrong, what to do."""
    where, colon, name = reference.rpartition(":")
    if not colon:
        where, name = reference, ""
    if where.endswith(".py") or "/" in where:
        module = _from_file(Path(where).expanduser(), reference)
    else:
        module = _from_package(where, reference)
    found = _attribute(module, name, where)
    if isinstance(found, Program):
        return found
    if isinstance(found, type) or not callable(found):
        raise UsageError(
            f"{reference}: {name} is {_kind(found)}, expected a Program, or a function that returns one: "
            "make one with tv.models or tv.Program.from_loss"
        )
    return _made(found, reference, name)


def _attribute(module: ModuleType, name: str, where: str) -> Any:
    names = [one for one, value in vars(module).items() if not one.startswith("_") and _may_be(module, value)]
    if not name:
        there = f"; it has {', '.join(sorted(names))}" if names else ""
        raise UsageError(f"{where}: which program? Write {where}:NAME, as in {FORM}{there}")
    if hasattr(module, name):
        return getattr(module, name)
    if not names:
        raise UsageError(
            f"{where} has no {name!r}, nor any program; define one, as in {name} = tv.Program.from_loss(…)"
        )
    near = difflib.get_close_matches(name, names, n=1)
    raise UsageError(f"{where}: {unknown('program', name, near + names if near else names)}")


def _may_be(module: ModuleType, value: Any) -> bool:
    """Whether ``value`` is a program, or a function of the module that could make one."""
    if isinstance(value, Program):
        return True
    return inspect.isfunction(value) and value.__module__ == module.__name__ and not _needed(value)


def _needed(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments that ``function`` cannot do without."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [one.name for one in given if one.default is one.empty and one.kind not in kinds]


def _made(function: Callable[[], Any], reference: str, name: str) -> Program:
    """What ``function`` returns, if that is a program."""
    needed = _needed(function)
    if needed:
        raise UsageError(
            f"{reference}: {name} takes the arguments {', '.join(needed)}; it must work without any: give them defaults"
        )
    try:
        found = function()
    except TriviumError:
        raise
    except Exception as error:  # it is the person's function
        raise UsageError(_raised(f"{reference}: {name}() raised", error)) from error
    if not isinstance(found, Program):
        raise UsageError(f"{reference}: {name}() returned {_kind(found)}, expected a Program: return the program")
    return found


# -- modules ----------------------------------------------------------------------------------------------------------
def _from_file(path: Path, reference: str) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        files = sorted(one.name for one in folder.glob("*.py")) if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, files, n=1)
        hint = f"; did you mean {folder / near[0]}?" if near else f"; programs are named as in {FORM}"
        raise UsageError(f"{reference}: there is no file {path}{hint}")
    path = path.resolve()
    name = f"trivium_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    loader = spec.loader if spec is not None else None
    if spec is None or loader is None:
        raise UsageError(f"{reference}: {path} is not a Python file; programs are named as in {FORM}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        with _on_path(path.parent), _sent_along(path.parent):
            _guarded(lambda: loader.exec_module(module), path, reference)
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    _by_value(module)
    return module


def _from_package(where: str, reference: str) -> ModuleType:
    if not where or not all(part.isidentifier() for part in where.split(".")):
        raise UsageError(f"{reference!r} names no program; write {FORM}")
    here = Path.cwd()
    found: list[ModuleType] = []
    with _on_path(here), _sent_along(here):
        _guarded(lambda: found.append(importlib.import_module(where)), Path(where), reference)
    return found[0]


def _guarded(work: Callable[[], Any], path: Path, reference: str) -> None:
    """Run the person's module; whatever it raises is told with its line."""
    try:
        work()
    except TriviumError:
        raise
    except SyntaxError as error:
        text = f":\n    {error.text.strip()}" if error.text else ""
        raise UsageError(
            f"{error.filename or path}:{error.lineno}: {error.msg}{text}\ncorrect it and try again"
        ) from error
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and missing == reference.partition(":")[0].partition(".")[0]:
            advice = f"start where it can be imported, or give the file: {FORM}"
            raise UsageError(f"{reference}: there is no module {error.name}; {advice}") from error
        advice = f"install {missing!r}, or put it beside the program" if missing else "correct the import"
        raise UsageError(f"{_raised(f'{reference} cannot be imported:', error)}\n{advice}") from error
    except Exception as error:
        raise UsageError(_raised(f"{reference} cannot be imported:", error)) from error
    except SystemExit as error:
        raise UsageError(
            f"{reference} ended itself (exit {error.code}) when it was imported; "
            'put what is not the program under if __name__ == "__main__":'
        ) from error


def _raised(head: str, error: BaseException) -> str:
    place = place_of(error)
    return f"{head} {type(error).__name__}: {error}" + (f"\nat {place}" if place is not None else "")


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Imports look into ``folder`` first, as they do for a script that lies there."""
    place = str(folder)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(place)


@contextlib.contextmanager
def _sent_along(folder: Path) -> Iterator[None]:
    """What is imported from ``folder`` meanwhile goes to workers by value."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        module, root = sys.modules[name], Path(getattr(sys.modules[name], "__file__", None) or "/")
        if root.is_relative_to(folder) and not _installed(root):
            _by_value(module)


def _by_value(module: ModuleType) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _installed(path: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(path.is_relative_to(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
