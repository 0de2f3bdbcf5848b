import doctest

import pytest

from trivium.observe import figures, page, progress, summary


@pytest.mark.parametrize("module", [figures, page, progress, summary])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0994, "99 ms"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (86400, "24 h 00 min"),
    ],
)
def test_durations_never_show_sixty_of_anything(seconds, text):
    assert figures.duration(seconds) == text


def test_what_is_not_finite_is_said_not_raised():
    assert figures.duration(float("inf")) == "?"
    assert figures.count(float("nan")) == "nan"


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**50, "5120.0 TiB")]
)
def test_sizes(nbytes, text):
    assert figures.size(nbytes) == text


def test_long_curves_are_thinned_to_their_ends():
    line = figures.spark([float(n) for n in range(1000)], width=10)
    assert (len(line), line[0], line[-1]) == (10, "▁", "█")
    assert figures.spark([1.0, float("nan"), 1.0]) == "▁▁"
    assert figures.spark([]) == ""
