"""Writes the diagrams of docs/protocol.md from the tables that the code goes by: ``python docs/make_diagrams.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trivium.core import holder, runner
from trivium.core.membership import PHASES

PAGE = Path(__file__).with_name("protocol.md")


def diagram(first: str, rows: list[tuple[str, str, str]]) -> str:
    """A Mermaid state diagram of (from, to, why) that begins at ``first``."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}" + (f": {why}" if why else "") for before, after, why in rows]
    return "\n".join([*lines, "```"])


def stages(table: Mapping[str, Mapping[str, str]]) -> str:
    """The diagram of a table of stages with reasons."""
    rows = [(before, after, why) for before, follow in table.items() for after, why in follow.items()]
    return diagram(next(iter(table)), rows)


def phases() -> str:
    """The diagram of the driver's phases; every one may end in ``stopped``."""
    order = list(PHASES)
    rows = [(before, after, "") for before in order for after in sorted(PHASES[before], key=order.index)]
    return diagram(order[0], rows)


def filled(page: str) -> str:
    """``page`` with each diagram between its marks."""
    made = {"phases": phases(), "runner": stages(runner.STAGES), "holder": stages(holder.STAGES)}
    for name, text in made.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        page, count = re.subn(pattern, lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"docs/protocol.md has {count} places for the diagram {name!r}, must have one")
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
