import pytest

from trivium.data import encode  # noqa: F401 - the first import takes longest


def _table():
    import importlib.util
    import sys
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("bad_inputs", Path(__file__).with_name("bad_inputs.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["bad_inputs"] = module
    spec.loader.exec_module(module)
    return module


bad_inputs = _table()


@pytest.mark.parametrize("bad", bad_inputs.BAD, ids=lambda bad: bad.name)
def test_each_bad_input_has_one_error_that_says_where_and_what_to_do(bad, tmp_path):
    said = bad_inputs.fault_of(bad, tmp_path).replace(str(tmp_path), "{at}")
    expected = bad.says
    assert said.startswith(expected) if expected.endswith((" after", " data", "(")) else said == expected
