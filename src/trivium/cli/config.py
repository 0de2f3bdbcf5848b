"""``--config FILE``: options from a TOML file, under their own names; what is typed on the line wins.

    design = "ps"              [data]                        [stop]
    workers = 4                label = "clicked"             epochs = 5
                               types = { age = "float" }     max-time = 60

Sections are for the reader: they may have any name, and an option may stand in any of them, once. The file becomes the
parser's table of defaults, so each value is checked as if it had been typed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from trivium.errors import UsageError, unknown

__all__ = ["load", "take"]

UNASKED = ("config", "help")  # not to be said in the file
TABLES = ("types",)  # options whose value may be a table


def take(context: typer.Context, path: Path | None) -> Path | None:
    """Make the file's options the defaults of this call; called by the parser before it looks at any other option."""
    if path is not None and not context.resilient_parsing:
        spelled: dict[str, Any] = {}
        for one in context.command.params:
            if one.name not in UNASKED:
                words = [word for word in one.opts if word.startswith("--")] or [str(one.name)]
                spelled |= {_name(word): one for word in words}
        found = load(path, {word: str(one.name) for word, one in spelled.items()})
        context.default_map = {}
        for key, (value, where) in found.items():
            option = spelled[_name(key)]
            said = value.split(",") if option.multiple else value  # such an option is typed as often as wanted
            _checked(context, option, said, where)
            context.default_map[str(option.name)] = said
    return path


def _checked(context: typer.Context, parameter: Any, value: Any, where: str) -> None:
    """UsageError that names the place in the file where the parser would refuse ``value``."""
    try:
        parameter.type_cast_value(context, value)
    except typer.BadParameter as error:
        raise UsageError(f"{where}: {error.message}") from None


def load(path: Path, known: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """The options in ``path``: key → (value as it would have been typed, where it stands).

    ``known``: spelling, with ``_`` → option. Raises UsageError: file, line, the nearest name.
    """
    text = _text(path)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f'{path} is not TOML: {error}; write lines such as label = "clicked"') from None
    found: dict[str, tuple[Any, str]] = {}
    said: dict[str, str] = {}
    for section, key, value in _flat(tree):
        where = f"{path}, line {_line(text, section, key)}"
        name = known.get(_name(key))
        if name is None:
            raise UsageError(f"{where}: {unknown('option', key, [word.replace('_', '-') for word in known])}")
        if name in said:
            raise UsageError(f"{where}: {key} was said before in this file, in {said[name]}; say it once")
        said[name] = f"line {_line(text, section, key)}"
        found[key] = _typed(value, f"{where}: {key}"), f"{where}: {key}"
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}; give a TOML file of options") from None
    except UnicodeDecodeError:
        raise UsageError(f"--config {path}: not text in UTF-8; give a TOML file of options") from None


def _name(word: str) -> str:
    return word.lstrip("-").replace("-", "_")


def _flat(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(section, key, value) of all options; a table is a section, but for the few options that are tables."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and _name(key) not in TABLES:
            for inner, one in value.items():
                yield key, inner, one
        else:
            yield "", key, value


def _line(text: str, section: str, key: str) -> int:
    """The line of ``key`` in ``section``; 1 where it is written in a way that is not found."""
    here = ""
    header = re.compile(r"\s*\[\s*[\"']?([^\"'\]]+?)[\"']?\s*\]")
    wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
    for number, line in enumerate(text.splitlines(), 1):
        begins = header.match(line)
        if begins:
            here = begins.group(1)
            if here == key and not section:
                return number
        elif here == section and wanted.match(line):
            return number
    return next((n for n, line in enumerate(text.splitlines(), 1) if key in line), 1)


def _typed(value: Any, where: str) -> Any:
    """``value`` as it would have been typed; a flag stays true or false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ",".join(map(str, value))
    if isinstance(value, dict) and all(isinstance(one, str) for one in value.values()):
        return ",".join(f"{name}={one}" for name, one in value.items())
    raise UsageError(f"{where} is {type(value).__name__} {value!r}; give a text, a number, true, or a list of them")
