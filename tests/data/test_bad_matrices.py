import pytest

from tests.data.bad_matrices import BAD, fault_of


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_answered_with_one_error(tmp_path, bad):
    assert fault_of(bad, tmp_path) == bad.says


def test_each_error_says_what_to_do():
    for bad in BAD:
        assert ";" in bad.says or "expected" in bad.says
        assert bad.says.startswith("{at}")
    assert len({bad.name for bad in BAD}) == len(BAD)
