"""From columns to rows: as scikit-learn's encoders make them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import OneHotEncoder

from trivium.data.encode import Encoding, Feature, fit_encoding, settle_labels
from trivium.data.encode_columns import hash_keys, tokens
from trivium.data.encoding import dense_is_cheaper
from trivium.data.frame import Field, Frame, Partition, Source
from trivium.data.sources.inmemory import InMemorySource
from trivium.data.table import Csr
from trivium.data.transforms import parse_prep
from trivium.errors import DataError


def pieces(columns, prep="", max_bad_rows=0, **options):
    source = columns if isinstance(columns, Source) else InMemorySource(pa.table(columns))
    encoding = fit_encoding(source, prep=parse_prep(prep), **options)
    again = Encoding.from_json(json.loads(json.dumps(encoding.as_json())))
    assert again == encoding
    return encoding, [again.encode(frame, max_bad_rows=max_bad_rows) for frame in source.frames()]


def matrix(x) -> np.ndarray:
    if isinstance(x, Csr):
        assert (x.indptr.dtype, x.indices.dtype) == (np.int64, np.int32)
        made = csr_array((x.values, x.indices, x.indptr), (len(x), x.width))
        made.check_format()
        assert made.has_canonical_format
        return made.toarray()
    return x


class Matrix(Source):
    """A source of one frame that is a matrix."""

    label = "label"

    def __init__(self, fields, *frames):
        self.given, self.frames_ = fields, frames

    name = "matrix"

    def stamp(self):
        return ""

    def fields(self):
        return self.given

    def partitions(self):
        return tuple(Partition("m", at) for at in range(len(self.frames_)))

    def read(self, partition, columns=None):
        return self.frames_[partition.start]


# -- numbers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("width", [1, 7, 300])
def test_numbers_become_dense_rows(dtype, width):
    draw = np.random.default_rng(0)
    given = {f"c{at}": draw.normal(size=3000) for at in range(width)}
    encoding, (piece,) = pieces({**given, "y": draw.integers(0, 2, 3000)}, dtype=dtype)
    expected = np.column_stack(list(given.values())).astype(dtype or "float32")
    np.testing.assert_array_equal(piece.x, expected)
    assert piece.x.dtype == expected.dtype and piece.x.flags.c_contiguous
    assert encoding.names() == list(given) and encoding.width == width and encoding.label == "y"


def test_every_type_of_number_is_one():
    given = {
        "a": pa.array([1, 2], pa.int8()),
        "b": pa.array([True, False]),
        "c": pa.array([1.5, 2.5], pa.float32()),
        "d": pa.array([1, 2]).cast(pa.decimal128(25, 2)),
        "e": pa.array([1, 1]).dictionary_encode(),
        "f": pa.array([0, 86_400_000 * 3 // 2], pa.timestamp("ms")),
        "g": pa.array([0, 20_000], pa.date32()),
        "h": pa.array([0, 43_200], pa.time32("s")),
        "i": pa.array([1, 2], pa.uint64()),
        "y": [0, 1],
    }
    encoding, (piece,) = pieces(given, features=list("abcdfghi"))
    expected = [[1, 1, 1.5, 1, 0, 0, 0, 1], [2, 0, 2.5, 2, 1.5, 20_000, 0.5, 2]]
    np.testing.assert_array_equal(piece.x, expected)
    assert encoding.ignored == ("e",)


def test_missing_numbers_pass_only_where_a_step_fills_them_in():
    given = {"a": pa.array([1, None, 3]), "b": [1.0, 2.0, np.nan], "y": [0, 1, 0]}
    with pytest.raises(DataError, match="row 2: column 'a': found no value"):
        pieces(given)
    _, (piece,) = pieces(given, "impute")
    np.testing.assert_array_equal(piece.x, [[1, 1], [np.nan, 2], [3, np.nan]])
    _, (piece,) = pieces(given, max_bad_rows=2)
    np.testing.assert_array_equal(piece.x, [[1, 1]])
    assert [(bad.line, bad.why) for bad in piece.skipped] == [
        (2, "column 'a': found no value, expected a number"),
        (3, "column 'b': found no value, expected a number"),
    ]
    with pytest.raises(DataError, match="row 3: column 'b'"):
        pieces(given, max_bad_rows=1)
    with pytest.raises(DataError, match="row 1: column 'a': found inf"):
        pieces({"a": [np.inf, 1.0], "y": [0, 1]}, "impute")


# -- categories and text ---------------------------------------------------------------------------------------------
def people(rows=400, cities=5):
    draw = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "age": draw.integers(0, 3, rows).astype(float),
            "city": draw.choice([f"city {at:03d}" for at in range(cities)], rows),
            "job": pd.Categorical(draw.choice(["baker", "smith"], rows), categories=["smith", "none", "baker"]),
            "label": draw.choice(["no", "yes"], rows),
        }
    )


@pytest.mark.parametrize(("cities", "sparse"), [(5, False), (40, True), (300, True)])
def test_categories_are_those_of_one_hot_encoding(cities, sparse):
    frame = people(2000, cities)
    encoding, (piece,) = pieces(InMemorySource(frame))
    assert isinstance(piece.x, Csr) is sparse is encoding.sparse
    encoder = OneHotEncoder().fit(frame[["city", "job"]].astype(str))
    hot = encoder.transform(frame[["city", "job"]].astype(str)).toarray()
    np.testing.assert_array_equal(matrix(piece.x), np.column_stack([frame["age"], hot]))
    names = [name.replace("_", "=", 1) for name in encoder.get_feature_names_out(["city", "job"])]
    assert encoding.names() == ["age", *names]
    if sparse:
        assert piece.x.nnz == np.count_nonzero(matrix(piece.x))


def test_whole_numbers_can_be_categories_and_missing_ones_are_zeros():
    columns = {"k": pa.array([10, 2, None, 2]), "y": [0, 1, 0, 1]}
    encoding, (piece,) = pieces(InMemorySource(pa.table(columns), types={"k": "category"}))
    assert encoding.features == (Feature("k", "category", ("2", "10")),)
    np.testing.assert_array_equal(piece.x, [[0, 1], [1, 0], [0, 0], [1, 0]])


def test_unseen_categories_are_an_error_or_zeros():
    train = pa.table({"c": ["a", "b"], "d": ["p", "q"], "y": [0, 1]})
    other = Frame({"c": pa.array(["b", "z"]), "d": pa.array(["p", None])}, 2, "new.csv", 5)
    encoding = fit_encoding(InMemorySource(train))
    with pytest.raises(DataError, match=r"new.csv: row 6: column 'c': found 'z', expected one of a, b as in training"):
        encoding.encode(other, labelled=False)
    encoding = fit_encoding(InMemorySource(train), prep=parse_prep("onehot:ignore"))
    np.testing.assert_array_equal(encoding.encode(other, labelled=False).x, [[0, 1, 1, 0], [0, 0, 0, 0]])


_DOCUMENTS = [
    "The cat sat on the mat. The CAT!",
    "",
    "naïve Ärger über 3 x10 a_b, c++ don't",
    None,
    "Hello\tworld\nhello—WORLD ½ ² привет мир",
    "cat",
]


def test_words_are_those_of_count_vectorizer():
    columns = {"text": pa.array(_DOCUMENTS), "y": [0, 1, 0, 1, 0, 1]}
    encoding, (piece,) = pieces(InMemorySource(pa.table(columns), types={"text": "text"}))
    reference = CountVectorizer().fit([one or "" for one in _DOCUMENTS])
    counts = reference.transform([one or "" for one in _DOCUMENTS])
    assert encoding.names() == list(reference.get_feature_names_out())
    np.testing.assert_array_equal(matrix(piece.x), counts.toarray())
    new = ["cat dog cat", "dog"]
    other = encoding.encode(Frame({"text": pa.array(new, pa.large_string())}, 2, "new"), labelled=False)
    np.testing.assert_array_equal(matrix(other.x), reference.transform(new).toarray())


def test_text_beside_numbers_and_categories():
    frame = people(6)[["age", "city", "job", "label"]]
    table = pa.Table.from_pandas(frame.assign(text=[one or "" for one in _DOCUMENTS], z=range(6)))
    encoding, (piece,) = pieces(InMemorySource(table, types={"text": "text"}))
    hot = OneHotEncoder().fit_transform(frame[["city", "job"]].astype(str))
    words = CountVectorizer().fit_transform([one or "" for one in _DOCUMENTS])
    expected = hstack([frame[["age"]].to_numpy(), hot, words, np.arange(6)[:, None]]).toarray()
    np.testing.assert_array_equal(matrix(piece.x), expected)
    assert len(encoding.names()) == encoding.width == expected.shape[1]


def test_hashed_values_share_the_buckets_and_keep_inner_products():
    frame = people(300, 100)
    encoding, (piece,) = pieces(InMemorySource(frame), "hash:4096")
    assert encoding.width == 4097 and encoding.features[1].vocabulary is None
    hot = OneHotEncoder().fit_transform(frame[["city", "job"]].astype(str)).toarray()
    x = matrix(piece.x)
    np.testing.assert_array_equal(x[:, 0], frame["age"])
    gram, expected = x[:, 1:] @ x[:, 1:].T, hot @ hot.T
    assert np.mean(gram == expected) > 0.95
    assert encoding.names()[:2] == ["age", "bucket1"]
    again = encoding.encode(next(InMemorySource(frame[150:]).frames()))
    np.testing.assert_array_equal(matrix(again.x), x[150:])


def test_hash_keys_are_fnv1a():
    def reference(text: bytes) -> int:
        value = 0xCBF29CE484222325
        for one in text:
            value = (value ^ one) * 0x100000001B3 % 2**64
        return value

    words = pa.array(["a", "", "naïve", "b" * 100]).slice(1)
    assert hash_keys("c", words).tolist() == [reference(b"c\0" + one.encode()) for one in words.to_pylist()]


def test_tokens_of_a_slice_are_those_of_its_rows():
    whole = pa.array(["one two", "three", None, "two two x"])
    bounds, index, words = tokens(whole.slice(1))
    assert bounds.tolist() == [0, 1, 1, 3]
    assert [words[at].as_py() for at in index] == ["three", "two", "two"]


def test_too_many_values_are_told(monkeypatch):
    from trivium.data import encode_fit

    monkeypatch.setattr(encode_fit, "MOST_VALUES", 3)
    columns = {"c": ["a", "b", "c", "d"], "y": [0, 1, 0, 1]}
    with pytest.raises(DataError, match=r"column 'c' has more than 3 values.*--prep hash:2\^20"):
        pieces(columns)
    assert pieces(columns, "hash:16")[0].buckets == 16


def test_dense_rows_are_chosen_where_they_are_cheaper():
    few = Feature("a", "category", tuple("abcdefgh"))
    assert dense_is_cheaper([few, few])
    assert not dense_is_cheaper([Feature("a", "category", tuple("abcdefghi"))])
    assert not dense_is_cheaper([few] * 33)


# -- matrices --------------------------------------------------------------------------------------------------------
def test_pixels_pass_as_they_are():
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    frame = Frame({"x": x, "label": np.array([1.0, 0.0])}, 2, "m")
    fields = (Field("x", "pixels", "uint8", (3, 4)), Field("label", "number", "float64"))
    encoding, (piece,) = pieces(Matrix(fields, frame))
    assert piece.x is x and encoding.width == 12 and piece.label.tolist() == [1, 0]
    assert encoding.names()[0] == "x1"
    with pytest.raises(DataError, match=r"rows have shape \(4, 3\), expected \(3, 4\)"):
        encoding.encode(Frame({"x": x.reshape(2, 4, 3), "label": np.zeros(2)}, 2, "m"))


def test_sparse_rows_may_reach_less_far_but_not_further():
    def rows(width, dtype="float32"):
        x = Csr(np.array([0, 1, 2]), np.array([0, width - 1], np.int32), np.ones(2, dtype), width)
        return Frame({"x": x, "label": np.array([1.0, 0.0])}, 2, "m.txt", 10, "line")

    fields = (Field("x", "sparse", "float32"), Field("label", "number", "float64"))
    encoding, (piece,) = pieces(Matrix(fields, rows(5)))
    assert encoding.width is None and piece.x.width == 5 and encoding.sparse
    encoding = dataclasses.replace(encoding, width=5)
    assert encoding.encode(rows(3)).x.width == 5
    with pytest.raises(DataError, match=r"m.txt: line 11: found feature 9, expected at most 5"):
        encoding.encode(rows(9))
    assert fit_encoding(Matrix(fields, rows(5)), features=7).width == 7
    encoding, (piece,) = pieces(Matrix(fields, rows(5)), dtype="float64")
    assert piece.x.values.dtype == np.float64


@pytest.mark.parametrize(("given", "made"), [("bool", "float32"), ("int16", "float32"), ("int64", "float64")])
def test_a_matrix_of_whole_numbers_becomes_floats(given, made):
    fields = (Field("x", "number", given, (2,)), Field("label", "number", "float64"))
    _, (piece,) = pieces(Matrix(fields, Frame({"x": np.ones((3, 2), given), "label": np.zeros(3)}, 3, "m")))
    assert piece.x.dtype == made and (piece.x == 1).all()


def test_a_matrix_holds_finite_numbers():
    x = np.ones((3, 2), np.float32)
    x[1, 1] = np.nan
    fields = (Field("x", "number", "float32", (2,)), Field("label", "number", "float64"))
    frame = Frame({"x": x, "label": np.zeros(3)}, 3, "m")
    with pytest.raises(DataError, match="m: row 2: feature 2: found nan, expected a finite number"):
        pieces(Matrix(fields, frame))
    _, (piece,) = pieces(Matrix(fields, frame), max_bad_rows=1)
    assert piece.x.shape == (2, 2) and piece.skipped[0].line == 2
    assert pieces(Matrix(fields, frame), "impute")[1][0].x is x


# -- labels, weights, columns ----------------------------------------------------------------------------------------
def test_the_label_is_named_or_has_a_name_that_says_so():
    columns = {"Y": [0, 1], "Target": [1, 0], "a": [1, 2]}
    assert fit_encoding(InMemorySource(pa.table(columns))).label == "Target"
    encoding = fit_encoding(InMemorySource(pa.table(columns)), label="a")
    assert encoding.label == "a" and [one.name for one in encoding.features] == ["Y", "Target"]
    with pytest.raises(DataError, match="no column is called label"):
        fit_encoding(InMemorySource(pa.table({"a": [1], "b": [2]})))
    with pytest.raises(DataError, match="beside the label"):
        fit_encoding(InMemorySource(pa.table({"y": [1]})))


def test_features_can_be_chosen_and_counted():
    source = InMemorySource(pa.table({"a": [1, 2], "b": [3, 4], "y": [0, 1]}))
    encoding = fit_encoding(source, features=["b"])
    assert encoding.inputs == ("b", "y") and encoding.ignored == ("a",)
    encoding.check(source)
    assert fit_encoding(source, features=2).width == 2
    for features, words in (
        (3, "features=3: its columns make 2"),
        (["c"], "unknown column 'c'"),
        (["y"], "is the label"),
        (["a", "a"], "each once"),
        ([], "one column or more"),
    ):
        with pytest.raises(DataError, match=words):
            fit_encoding(source, features=features)


def test_types_tell_how_another_file_is_to_be_read():
    encoding = fit_encoding(InMemorySource(people()))
    assert encoding.types == {"age": "number", "city": "category", "job": "category", "label": "category"}


def test_weights_are_float32_and_not_negative():
    encoding, (piece,) = pieces({"a": [1, 2], "w": [0.5, 2], "y": [0, 1]}, weight="w")
    assert piece.weight.dtype == np.float32 and piece.weight.tolist() == [0.5, 2]
    with pytest.raises(DataError, match="unknown column 'v'"):
        pieces({"a": [1, 2], "w": [0.5, 2], "y": [0, 1]}, weight="v")
    unlabelled = encoding.encode(Frame({"a": pa.array([1.0])}, 1, "new"), labelled=False)
    assert unlabelled.weight is None and unlabelled.label is None


def test_labels_are_settled_over_all_pieces():
    y, classes, notes = settle_labels([pa.array(["no"]), pa.array(["yes", "no"])], None)
    assert y.tolist() == [0, 1, 0] and y.dtype == np.int32 and classes == ("no", "yes") and notes == ()
    y, classes, _ = settle_labels([np.array([1.5, 2.0])], None)
    assert y.dtype == np.float32 and y.tolist() == [1.5, 2.0] and classes == ()
    y, classes, _ = settle_labels([np.array([1.0, 3.0])], (), "float64")
    assert y.dtype == np.float64 and y.tolist() == [1, 3]
    y, classes, _ = settle_labels([np.array([3.0, 1.0])], (3, 1, 2))
    assert y.tolist() == [0, 1] and classes == (3.0, 1.0, 2.0)
    y, classes, notes = settle_labels([np.repeat(np.arange(150.0), 3)], None)
    assert len(classes) == 150 and "classes=()" in notes[0]


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([pa.array(["a"]), np.array([1.0])], None, "text in some files"),
        ([pa.array(["a"])], (), "asks for numbers"),
        ([pa.array(["a"])], ("b", "c"), "label 'a' is none"),
        ([np.array([1.0])], (2, 3), "label 1 is none"),
        ([np.array([1.0])], ("x", "y"), "label 1 is none"),
        ([np.arange(500.0)], None, r"500 distinct whole-number labels in 500 rows.*classes=\(\)"),
        ([pa.array([str(at) for at in range(500)])], None, "500 distinct text labels in 500 rows"),
    ],
)
def test_labels_that_make_no_sense_are_told(labels, classes, words):
    with pytest.raises(DataError, match=words):
        settle_labels(labels, classes)


def test_columns_must_be_those_of_training():
    encoding = fit_encoding(InMemorySource(people()))
    with pytest.raises(DataError, match=r"has no column 'city' \(did you mean 'cty'\?\)"):
        encoding.check(InMemorySource(people().rename(columns={"city": "cty"})))
    with pytest.raises(DataError, match="1 column more than the training rows: extra"):
        encoding.check(InMemorySource(people().assign(extra=1)))
    encoding.check(InMemorySource(people().drop(columns="label")))
    with pytest.raises(DataError, match="has no column 'label'"):
        encoding.check(InMemorySource(people().drop(columns="label")), labelled=True)


@pytest.mark.parametrize(
    "words",
    [
        "ascii words only",
        "über\u2014\u0130stanbul \U0001f600x1 caf\u00e9\u0301s",
        "\u0928\u092e\u0938\u094d\u0924\u0947 ok",
    ],
)
def test_words_of_other_alphabets_are_those_of_count_vectorizer(words):
    documents = [words, "Plain TEXT, here_too", "a\x00b\x1fcc dd", words[::-1]]
    _, index, found = tokens(pa.array(documents).slice(1, 3))
    reference = CountVectorizer(lowercase=False).build_analyzer()
    import pyarrow.compute as pc

    lower = pc.utf8_lower(pa.array(documents[1:])).to_pylist()  # Python's own differs in a few letters
    assert [found[at].as_py() for at in index] == [word for one in lower for word in reference(one)]
