import pytest

from trivium.cli.words import in_options

SAID = [
    ("workers=9 is more than lanes=8: raise lanes", "--workers 9 is more than --lanes 8: raise --lanes"),
    ("lower lanes and workers", "lower --lanes and --workers"),
    ("batch_size=4 is less than lanes=8", "--batch-size 4 is less than --lanes 8"),
    ("use prep='impute' (prep='impute')", "use --prep impute"),
    ("pass over such rows with max_bad_rows", "pass over such rows with --max-bad-rows"),
    ("for regression give classes=()", "for regression give --regression"),
    ("say it: format='libsvm', 'csv'", "say it: --format libsvm, 'csv'"),
    ("label='clickd': unknown column", "--label clickd: unknown column"),
    ("use threads=, or another", "use --threads, or another"),
    ("filters=int8: raise nodes or lower copies", "--filter int8: raise --nodes or lower --copies"),
    ("balance=True: use design='ps'", "--balance: use --design ps"),
    ("nodes=3 is more than workers=2", "--nodes 3 is more than --workers 2"),
    ("a node holds one copy", "a node holds one copy"),
]  # fmt: skip
OWN = [
    "year=1/label=3/part.csv: no such file",
    "column 'label=x' is missing",
    "/tmp/seed=4.csv is empty",
    "types={'city': 'category'}",
    "out of memory; lower weight of things",
]


@pytest.mark.parametrize(("python", "typed"), SAID)
def test_arguments_of_python_are_options(python, typed):
    assert in_options(python) == typed


@pytest.mark.parametrize("text", OWN)
def test_what_is_the_persons_own_stays(text):
    assert in_options(text) == text
