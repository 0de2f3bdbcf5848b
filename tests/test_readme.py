import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
import typer

from trivium.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/glossary.md")
COMMANDS = re.findall(r"^    trivium (\w+ .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_tour_has_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_readme_can_be_parsed(line):
    name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    assert command.make_context(name, arguments).params


@pytest.mark.parametrize("line", ["train logistic data --no-such-option", "train"])
def test_what_is_no_command_cannot_be(line):
    name, *arguments = shlex.split(line)
    with pytest.raises(Exception, match=r"(?i)no such option|missing"):
        typer.main.get_command(app).commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_each_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"\bmake ([a-z]+)\b(?=`|  |$| PYTHON)", (ROOT / page).read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_words_of_the_glossary_are_in_order_and_once():
    lines = (ROOT / "docs/glossary.md").read_text().split("## The rooms")[0].splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    words = [re.split(r"[ †(,]", row)[0].lower() for row in rows]
    assert words == sorted(words)
    assert len(set(rows)) == len(rows)


def used_as_in_the_tour(folder, monkeypatch):
    """A folder with the examples, as the README has them."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text()
    block = re.search(r"^    import trivium as tv\n(?:    .*\n|\n)+", text, re.MULTILINE).group(0)
    used_as_in_the_tour(tmp_path, monkeypatch)
    names = {}
    exec(textwrap.dedent(block), names)
    assert names["again"].metrics["valid_accuracy"] > 0.9
    assert "log_loss" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "wine.html").read_text()


@pytest.mark.slow
def test_four_commands_go_from_a_table_to_answers(tmp_path, monkeypatch, capsys):
    from trivium.cli import main

    used_as_in_the_tour(tmp_path, monkeypatch)
    for line in COMMANDS[:4]:
        assert main(shlex.split(line)) == 0, capsys.readouterr().err
    answers = (tmp_path / "answers.csv").read_text().splitlines()
    assert answers[0] == "prediction,p_barbera,p_barolo,p_grignolino"
    assert len(answers) == len((tmp_path / "examples/wine_new.csv").read_text().splitlines())


def test_the_contributors_page_has_the_layers_of_the_contract():
    import tomllib

    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = [re.findall(r"trivium\.(\w+)", layer)[0] for layer in layers]
    written = re.search(r"`errors, plan, record ← ([^`]*)`", (ROOT / "CONTRIBUTING.md").read_text()).group(1)
    expected = [room for room in dict.fromkeys(reversed(rooms)) if room not in ("errors", "plan")]
    assert written.split(" ← ") == expected
