"""Writes docs/bad-input.md from the tables that the tests go by: ``python docs/make_bad_input.py``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).with_name("bad-input.md")
TESTS = Path(__file__).parents[1] / "tests"
OPENING = """# What is said of bad input

One error each: where, what was found, what was expected, what to do. This page is made from the tables that the tests
go by, which make each of these inputs, read it, and compare the words (`tests/data/bad_inputs.py`, `bad_matrices.py`,
`tests/cli/bad_options.py`; `python docs/make_bad_input.py`).
"""
SECTIONS = (
    ("data/bad_inputs.py", "Tables of columns", "input"),
    ("data/bad_matrices.py", "LIBSVM, IDX, images, text, ratings", "input"),
    ("cli/bad_options.py", "Options of the parameter server", "options"),
)


def table(file: str) -> ModuleType:
    """The module ``file`` of the tests' tables."""
    path = TESTS / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(bad: Any) -> str:
    """One row of the page."""
    said = bad.says.replace("{at}/", "").replace("{at}", "folder").replace("|", "\\|").replace("\n", " ")
    said += " …" if said.endswith((" after", " data", "(")) else ""
    return f"| {bad.name} | {said} |"


def page() -> str:
    """The whole page."""
    parts = [OPENING]
    for file, title, what in SECTIONS:
        rows = [line(bad) for bad in table(file).BAD]
        parts.append("\n".join([f"## {title}", "", f"| {what} | error |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
