import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("make_diagrams", DOCS / "make_diagrams.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script):
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.filled(page), "run python docs/make_diagrams.py"


def test_the_page_shows_every_phase(script):
    page = script.PAGE.read_text(encoding="utf-8")
    assert "recording --> fencing" in page
    assert "pushed --> idle: every shard has committed, or a term began" in page


def test_a_page_without_its_place_is_an_error(script):
    with pytest.raises(SystemExit, match="0 places for the diagram 'phases'"):
        script.filled("nothing")


@pytest.mark.parametrize("name", ["test_roles.py", "test_reduce.py", "test_stages.py", "test_protocol_machine.py"])
def test_the_tests_it_names_are_there(name):
    assert name in (DOCS / "protocol.md").read_text(encoding="utf-8")
    assert (DOCS.parent / "tests" / "core" / name).exists()
