"""The table of options that do not go together: what is said, word by word (docs/bad-input.md is made from it)."""

import importlib.util
import sys
from pathlib import Path

import pytest

from trivium.cli import main

SPEC = importlib.util.spec_from_file_location("bad_options", Path(__file__).with_name("bad_options.py"))
table = sys.modules.setdefault("bad_options", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(table)


@pytest.mark.parametrize("bad", table.BAD, ids=lambda bad: bad.name)
def test_one_error_in_the_words_of_the_command_line(session, capsys, tmp_path, bad):
    assert main(["train", bad.model, "d", *bad.line.split()]) == 2
    assert capsys.readouterr() == ("", f"trivium: {bad.says}\n")
    assert session.jobs == []
    assert list(tmp_path.iterdir()) == []


def test_names_are_said_once():
    names = [bad.name for bad in table.BAD]
    assert len(set(names)) == len(names) > 15
