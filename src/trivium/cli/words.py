"""Messages of the library in the words of the command line: ``lanes=8`` becomes ``--lanes 8``, "lower lanes" too.

The library speaks to whoever calls it from Python. What is quoted, or part of a path, is the person's own and stays.
"""

from __future__ import annotations

import re
from dataclasses import fields

__all__ = ["in_options"]

PLAIN = ("model", "data", "run", "rows", "config", "as_json")  # words that are arguments, or more often just words
OWN = r"(?<![\w/.'\"-])"  # what comes before a word that is not part of a path or a quotation
QUOTES = "'\""
FLAGS = ("True",)  # what a flag says by being there
VERBS = "raise|lower|give|leave|set|change|say|use"


def _options() -> list[str]:
    from trivium.cli.asked import Asked
    from trivium.cli.further import Evaluated, Predicted

    names = {one.name for kind in (Asked, Predicted, Evaluated) for one in fields(kind)}
    return sorted(names - set(PLAIN), key=len, reverse=True)


def in_options(message: str) -> str:
    """``message`` with the options' names as they are typed.

    >>> in_options("lanes=8 but only 5 training rows: lower lanes and workers")
    '--lanes 8 but only 5 training rows: lower --lanes and --workers'
    >>> in_options("t/label=3/part.csv: format='csv', but it is a PDF; leave format out")
    't/label=3/part.csv: --format csv, but it is a PDF; leave --format out'
    """
    names = "|".join(_options())
    bare = "|".join(name for name in _options() if "_" in name)  # no other word is written so
    value = r"'[^']*'|\"[^\"]*\"|[^\s,;:()'\"/]+(?![^\s,;:()])"

    def said(found: re.Match[str]) -> str:
        value = (found[2] or "").strip(QUOTES)
        return f"{_typed(found[1])} {'' if value in FLAGS else value}".rstrip()

    message = message.replace("classes=()", "--regression").replace("leave classes out", "leave it out")
    message = message.replace("filters=", "filter=")  # one option takes them all
    message = re.sub(rf"{OWN}({names})=({value})?(?![\[{{(])", said, message)
    asked = re.compile(rf"\b({VERBS}) ({names})\b(?![=.-])(?! of\b)")
    message = asked.sub(lambda found: f"{found[1]} {_typed(found[2])}", message)
    listed = re.compile(rf"(--[a-z0-9-]+) (and|or) ({names})\b(?![=.-])")
    message = listed.sub(lambda found: f"{found[1]} {found[2]} {_typed(found[3])}", message)
    message = re.sub(rf"{OWN}({bare})\b(?![=./])", lambda found: _typed(found[1]), message)
    return re.sub(r"(--[a-z0-9-]+ \S+) \(\1\)", r"\1", message)  # what said both words says one twice now


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
