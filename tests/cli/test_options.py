import pytest
import typer

from trivium.cli.asked import validation
from trivium.cli.options import batch, number, seed, whole
from trivium.errors import UsageError


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (whole(1), "0", "1 or more"),
        (whole(1), "-3", "1 or more"),
        (whole(1), "2.5", "not a whole number"),
        (whole(1), "", "not a whole number"),
        (number(above=0), "0", "above 0"),
        (number(above=0), "nan", "not finite"),
        (number(least=0), "inf", "not finite"),
        (number(least=0), "-1e-9", "0 or more"),
        (number(least=0), "ten", "not a number"),
        (batch, "half", "not a whole number"),
        (batch, "0", "1 or more"),
        (seed, "-1", "0 or more"),
        (seed, str(2**63), "below 2**63"),
    ],
)
def test_what_is_refused_says_what_is_allowed(parse, text, words):
    with pytest.raises(typer.BadParameter, match=words.replace("*", r"\*")):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (whole(0), "0", 0),
        (number(least=0), "0", 0.0),
        (number(above=0), "1e-5", 1e-5),
        (batch, "full", "full"),
        (batch, "256", 256),
        (seed, str(2**63 - 1), 2**63 - 1),
    ],
)
def test_what_is_taken(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(("text", "value"), [(None, None), ("0.1", 0.1), ("0", 0.0), ("rows.libsvm", "rows.libsvm")])
def test_validation_is_a_share_or_a_source(text, value):
    assert validation(text) == value


@pytest.mark.parametrize("text", ["1", "1.5", "-0.1", "nan"])
def test_a_share_lies_between_0_and_1(text):
    with pytest.raises(UsageError, match="between 0 and 1"):
        validation(text)
