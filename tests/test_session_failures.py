"""Which error a run that failed raises."""

import pytest

from trivium.core.role import Stop
from trivium.errors import LostError, ProgramError, RunError, StoppedError, StorageError
from trivium.live import failure


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("program", ProgramError),
        ("storage", StorageError),
        ("lost", LostError),
        ("stopped", StoppedError),
        ("run", RunError),
    ],
)
def test_the_kind_decides_and_not_the_words(kind, error):
    words = "worker 0: OSError: cannot write, no space, silent, it alone held the parameters"
    made = failure(Stop("failed", words, 1, "", kind), "; a hint")
    assert type(made) is error
    assert str(made).startswith(words)


def test_a_failure_of_the_program_carries_its_traceback():
    made = failure(Stop("failed", "worker 0: ValueError: no", 1, "Traceback …", "program"))
    assert isinstance(made, ProgramError)
    assert made.traceback == "Traceback …"
