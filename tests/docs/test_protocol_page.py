import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
TESTS = DOCS.parent / "tests"
PAGES = ("protocol.md", "parameter-server.md")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_diagrams", DOCS / "make_diagrams.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(name):
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(script, name):
    assert set(script.MADE) == set(PAGES)
    assert text(name) == script.filled(name, text(name)), "run python docs/make_diagrams.py"


def test_the_page_shows_every_phase():
    page = text("protocol.md")
    assert "recording --> fencing" in page
    assert "pushed --> idle: every shard has committed, or a term began" in page


def test_a_push_is_shown_from_its_block_to_the_views():
    page = text("parameter-server.md")
    words = ["Push: ", "Delta: ", "Copy: ", "Held: ", "Taken", "Fresh: ", "View: clock 0 is in\n```"]
    places = [page.index(word, page.index("<!-- push -->")) for word in words]
    assert places == sorted(places)


def test_a_page_without_its_place_is_an_error(script):
    with pytest.raises(SystemExit, match="0 places for the diagram 'phases'"):
        script.filled("protocol.md", "nothing")


@pytest.mark.parametrize("name", ["test_roles.py", "test_reduce.py", "test_stages.py", "test_protocol_machine.py"])
def test_the_tests_it_names_are_there(name):
    assert name in text("protocol.md")
    assert (TESTS / "core" / name).exists()


def test_every_test_and_file_that_the_page_on_the_parameter_server_names_is_there():
    page = text("parameter-server.md")
    defined = set()
    for path in TESTS.rglob("test_*.py"):
        defined.update(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 30
    assert named <= defined, named - defined
    for path in re.findall(r"`((?:tests|designs|core|runtime|testing)/[\w/]+\.\w+)`", page):
        root = DOCS.parent if path.startswith("tests/") else DOCS.parent / "src" / "trivium"
        assert (root / path).exists(), path
    for path in re.findall(r"\]\(([\w./-]+)\)", page):
        assert (DOCS / path).exists(), path
