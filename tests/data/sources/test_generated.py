import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from trivium.data.sources.generated import GeneratedSource
from trivium.data.table import Csr
from trivium.errors import DataError

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = np.arange(10) % 2


def batches():
    yield X[:4], Y[:4]
    yield X[4:], Y[4:]


def rows():
    yield from zip(X, Y.tolist(), strict=True)


def named():
    for x, y in zip(X, Y, strict=True):
        yield {"a": x[0], "b": float(x[1]), "label": f"class {y}"}


def whole(source, name):
    return np.concatenate([frame.columns[name] for frame in source.frames()])


@pytest.mark.parametrize("make", [batches, rows, lambda: list(rows())])
def test_pairs_of_rows_or_batches(make):
    source = GeneratedSource(make)
    for _ in range(2):  # each pass calls it anew
        np.testing.assert_array_equal(whole(source, "x"), X)
        np.testing.assert_array_equal(whole(source, "label"), Y)
    assert source.label == "label"
    assert [(one.name, one.kind, one.shape) for one in source.fields()] == [
        ("x", "pixels", (3,)),
        ("label", "number", ()),
    ]
    assert whole(source, "x").dtype == np.float32
    np.testing.assert_array_equal(source.read(source.partitions()[0]).columns["x"], X)


def test_mappings_are_tables():
    source = GeneratedSource(named)
    np.testing.assert_array_equal(whole(source, "b"), X[:, 1])
    assert [one.kind for one in source.fields()] == ["number", "number", "category"]
    (frame,) = source.frames(("label",))
    assert frame.columns["label"].to_pylist()[:2] == ["class 0", "class 1"]
    columns = GeneratedSource(lambda: [{"a": X[:, 0], "label": Y}, {"a": X[:, 1], "label": Y}])
    assert [frame.first for frame in columns.frames()] == [1, 11]


def test_sparse_batches_and_rows_without_labels():
    x = csr_array(random_array((6, 5), density=0.4, rng=np.random.default_rng(1)))
    source = GeneratedSource(lambda: [(x, np.ones(6))])
    (frame,) = source.frames()
    found = frame.columns["x"]
    assert isinstance(found, Csr)
    np.testing.assert_array_equal(
        csr_array((found.values, found.indices, found.indptr), x.shape).toarray(), x.toarray()
    )
    assert GeneratedSource(lambda: [x]).label is None
    assert whole(GeneratedSource(lambda: iter(X)), "x").shape == (10, 3)


def test_what_it_gives_may_be_used_again():
    def reusing():
        buffer = np.empty((1, 2))
        for at in range(3):
            buffer[:] = at
            yield buffer, np.array([at])

    frames = list(GeneratedSource(reusing).frames())
    assert [frame.columns["x"][0, 0] for frame in frames] == [0, 1, 2]


def test_long_runs_of_rows_become_several_frames():
    source = GeneratedSource(lambda: (([i, 1], i % 2) for i in range(10_000)))
    frames = list(source.frames())
    assert [frame.first for frame in frames] == [1, 4097, 8193]
    np.testing.assert_array_equal(whole(source, "x")[:, 0], np.arange(10_000))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (rows(), "expected a function that gives a new iterator at each call"),
        (lambda: 3, "gave 'int', expected an iterable"),
        (list, "gave no row"),
        (lambda: [(X[:3], Y[:2])], "row 1: columns of one length expected, found x 3, label 2"),
        (
            lambda: [(X, Y), (X[:, :2], Y)],
            r"row 11: column 'x' is pixels of shape \(2,\), expected pixels of shape \(3,\)",
        ),
        (lambda: [{"a": 1, "label": 0}, {"b": 1, "label": 0}], "row 2: has b, label, expected a, label"),
        (lambda: [([1, 2], 0), ([1], 0)], "row 1: column 'x' is no array"),
        (lambda: [{"a": X[:, 0]}, {"b": X[:, 0]}], "row 11: column 'a' is missing, expected number"),
        (lambda: [{"a": object(), "label": 0}], "row 1: column 'a'"),
        (lambda: [{"a": 1j, "label": 0}], "holds complex128, expected numbers or text"),
    ],
)
def test_what_makes_no_rows(make, words):
    with pytest.raises(DataError, match=words):
        list(GeneratedSource(make).frames())
