"""Each step beside its peer in scikit-learn, dense and sparse, whole and in pieces."""

import json

import numpy as np
import pytest
from scipy.sparse import csr_array, csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler

from trivium.data.table import Csr
from trivium.data.transforms import (
    Hash,
    Impute,
    Log1p,
    Normalize,
    OneHot,
    Standardize,
    Tfidf,
    load_prep,
    parse_prep,
    save_prep,
)
from trivium.data.transforms.hashing import mixed
from trivium.errors import DataError

SHAPE = (57, 11)


def counts(seed: int = 0, dtype: str = "float64") -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.poisson(2, SHAPE) * (rng.random(SHAPE) < 0.4)).astype(dtype)


def as_csr(x: np.ndarray) -> Csr:
    rows = csr_array(x)
    return Csr(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data, x.shape[1])


def as_dense(x) -> np.ndarray:
    if not isinstance(x, Csr):
        return x
    for start, stop in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        assert np.all(np.diff(x.indices[start:stop]) > 0)
    return csr_array((x.values, x.indices, x.indptr), (len(x), x.width)).toarray()


def pieces(x, cut: int = 20):
    if isinstance(x, Csr):
        dense = as_dense(x)
        return [as_csr(dense[:cut]), as_csr(dense[cut:])]
    return [x[:cut], x[cut:]]


FORMS = {"dense": lambda x: x, "sparse": as_csr}
both = pytest.mark.parametrize("form", FORMS)
types = pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 3e-6)])


def applied(step, form, x):
    given = FORMS[form](x)
    before = as_dense(given).copy()
    made = step.fit(pieces(given)).apply(given)
    np.testing.assert_array_equal(as_dense(given), before)  # nothing is written to
    assert (made.values if isinstance(made, Csr) else made).dtype == x.dtype
    return as_dense(made)


@both
@types
def test_log1p(form, dtype, rtol):
    np.testing.assert_allclose(applied(Log1p(), form, counts(0, dtype)), np.log1p(counts()), rtol=rtol)


@both
@types
def test_normalize_is_scikit_learns(form, dtype, rtol):
    x = counts(1, dtype)
    x[3] = x[-1] = 0
    np.testing.assert_allclose(applied(Normalize(), form, x), Normalizer().transform(x), rtol=rtol)


@types
def test_standardize_is_scikit_learns_on_dense_rows(dtype, rtol):
    x = (np.random.default_rng(2).normal(size=SHAPE) * 10.0 ** np.arange(-3, 8) + 5).astype(dtype)
    x[:, 4] = 7
    peer = StandardScaler().fit(x.astype(np.float64))
    np.testing.assert_allclose(
        applied(Standardize(), "dense", x), peer.transform(x.astype(float)), rtol=rtol, atol=rtol
    )


@types
def test_standardize_does_not_centre_sparse_rows(dtype, rtol):
    x = counts(3, dtype)
    x[:, 2] = 0
    peer = StandardScaler(with_mean=False).fit(csr_matrix(x.astype(float)))
    np.testing.assert_allclose(applied(Standardize(), "sparse", x), peer.transform(csr_matrix(x)).toarray(), rtol=rtol)


def test_the_variance_survives_a_mean_that_is_far_from_zero():
    x = np.random.default_rng(4).normal(size=(4000, 2)) + np.array([1e8, -1e9])
    step = Standardize().fit(np.array_split(x, 13))
    np.testing.assert_allclose(step.deviation, (x - x.mean(axis=0)).std(axis=0), rtol=1e-7)
    np.testing.assert_allclose(step.mean, x.mean(axis=0), rtol=1e-14)


def test_sparse_pieces_may_reach_less_far_than_others():
    x = counts(5)
    x[:20, 8:] = 0
    narrow = as_csr(x[:20, :8])
    for order in ([narrow, as_csr(x[20:])], [as_csr(x[20:]), narrow]):
        for step, key in ((Standardize(), "deviation"), (Tfidf(), "idf")):
            whole = step.fit([as_csr(x)]).state()[key]
            np.testing.assert_allclose(step.fit(order).state()[key], whole, rtol=1e-12)


@both
@types
def test_tfidf_is_scikit_learns(form, dtype, rtol):
    x = counts(6, dtype)
    x[5] = 0
    x[:, 7] = 0
    expected = TfidfTransformer().fit_transform(csr_matrix(x.astype(float))).toarray()
    np.testing.assert_allclose(applied(Tfidf(), form, x), expected, rtol=rtol)


@both
@pytest.mark.parametrize(
    ("step", "peer"),
    [
        (Impute(), {"strategy": "mean"}),
        (Impute("zero"), {"strategy": "constant", "fill_value": 0}),
        (Impute("constant", 2.5), {"strategy": "constant", "fill_value": 2.5}),
    ],
)
def test_impute_is_scikit_learns(form, step, peer):
    x = counts(7)
    x[np.random.default_rng(8).random(SHAPE) < 0.2] = np.nan
    np.testing.assert_allclose(applied(step, form, x), SimpleImputer(**peer).fit_transform(x), rtol=1e-12)


@types
def test_onehot_is_scikit_learns(dtype, rtol):
    x = np.random.default_rng(9).integers(-3, 6, SHAPE).astype(dtype)
    made = applied(OneHot(), "dense", x)
    np.testing.assert_array_equal(made, OneHotEncoder(sparse_output=False).fit_transform(x))
    assert made.shape[1] == OneHot().fit([x]).width(SHAPE[1])


def test_onehot_and_codes_that_were_not_seen():
    seen, other = np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[2.0, 4.0]])
    peer = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(seen)
    np.testing.assert_array_equal(as_dense(OneHot("ignore").fit([seen]).apply(other)), peer.transform(other))
    with pytest.raises(
        DataError, match=r"row 1, feature 2 of these rows is 4, a code that no training row has; .*ignore"
    ):
        OneHot().fit([seen]).apply(other)


@both
def test_hash_keeps_inner_products_on_average(form):
    x = counts(10)
    x[2] = 0
    products, expected = np.zeros((SHAPE[0], SHAPE[0])), x @ x.T
    for shift in range(300):  # other columns, other hashes
        wide = np.zeros((SHAPE[0], SHAPE[1] + shift))
        wide[:, shift:] = x
        made = as_dense(Hash(16).apply(FORMS[form](wide)))
        products += made @ made.T / 300
    assert np.abs(products - expected).max() < 0.25 * expected.max()
    assert np.abs((products - expected).mean()) < 0.03 * expected.mean()


def test_hash_is_the_same_for_dense_and_sparse_and_sums_what_collides():
    x = counts(11, "float32")
    dense, sparse = Hash(3).apply(x), Hash(3).apply(as_csr(x))
    np.testing.assert_array_equal(as_dense(dense), as_dense(sparse))
    buckets, signs = Hash(3).places(np.arange(SHAPE[1]))
    expected = np.zeros((SHAPE[0], 3))
    np.add.at(expected.T, buckets, (x * signs).T)
    np.testing.assert_allclose(as_dense(dense), expected)
    assert dense.values.dtype == np.float32


def test_the_hash_spreads_keys_and_signs_evenly():
    buckets, signs = Hash(64).places(np.arange(64_000))
    assert np.abs(np.bincount(buckets, minlength=64) - 1000).max() < 150  # almost five standard deviations
    assert abs(signs.sum()) < 1000
    flipped = mixed(np.arange(2000)) ^ mixed(np.arange(2000) ^ 1)
    assert np.mean([int(bits).bit_count() for bits in flipped]) == pytest.approx(32, abs=0.5)


def test_a_part_of_a_matrix_is_taken_as_one_that_begins_there():
    x = counts(12)
    whole = as_csr(x)
    part = Csr(whole.indptr[10:31], whole.indices, whole.values, whole.width)
    for step in (Normalize(), Tfidf().fit([whole]), Standardize().fit([whole]), Log1p(), Hash(8)):
        np.testing.assert_array_equal(as_dense(step.apply(part)), as_dense(step.apply(as_csr(x[10:30]))))
    np.testing.assert_array_equal(Standardize().fit([part]).mean, Standardize().fit([as_csr(x[10:30])]).mean)


def test_pixels_become_floats():
    x = np.array([[0, 3], [255, 4]], np.uint8)
    for step in (Log1p(), Normalize(), Standardize().fit([x])):
        assert step.apply(x).dtype == np.float32
    np.testing.assert_allclose(Normalize().apply(x)[1], [255 / 255.0313706, 4 / 255.0313706], rtol=1e-6)


FAULTS = {
    "log1p of -1": (
        lambda: Log1p().apply(np.array([[1.0], [-1.0]])),
        "row 2, feature 1 of these rows is -1, expected more",
    ),
    "sparse log1p": (
        lambda: Log1p().apply(as_csr(np.array([[0.0, 0], [0, -2]]))),
        "row 2, feature 2 of these rows is -2",
    ),
    "standardize a gap": (lambda: Standardize().fit([np.array([[1.0, np.nan]])]), "feature 2 has missing.*put impute"),
    "standardize nothing": (lambda: Standardize().fit([]), "no row to fit it on"),
    "tfidf of nothing": (lambda: Tfidf().fit([]), "no row to fit it on"),
    "other width": (lambda: Standardize().fit([np.eye(3)]).apply(np.eye(2)), "have 2 features, but .* rows with 3"),
    "wider sparse": (lambda: Tfidf().fit([np.eye(3)]).apply(as_csr(np.eye(4))), "have 4 features, but .* rows with 3"),
    "no code": (
        lambda: OneHot().fit([np.array([[1.0, 0.5]])]),
        "row 1, feature 2 of these rows is 0.5, expected a whole",
    ),
    "sparse onehot": (lambda: OneHot().fit([as_csr(np.eye(2))]), "onehot: the rows are sparse"),
    "no value at all": (lambda: Impute().fit([np.array([[np.nan]])]), "feature 1 has no value in any training row"),
    "no bucket": (lambda: Hash(0), "expected 1 to"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_say_where_and_what_to_do(fault):
    call, words = FAULTS[fault]
    with pytest.raises(DataError, match=words) as caught:
        call()
    assert "; " in str(caught.value) or "expected" in str(caught.value)


@pytest.mark.parametrize("separator", [",", "|", ", ", " | "])
def test_names_are_separated_by_commas_or_bars(separator):
    steps = parse_prep(separator.join(["impute", "onehot", "hash:2^20", "tfidf", "standardize", "normalize"]))
    assert [type(step) for step in steps] == [Impute, OneHot, Hash, Tfidf, Standardize, Normalize]
    assert steps[2] == Hash(1 << 20)


def test_steps_may_be_objects_names_or_both():
    assert parse_prep([Log1p(), "normalize"]) == parse_prep("log1p,normalize") == (Log1p(), Normalize())
    assert parse_prep(None) == parse_prep("") == ()
    assert parse_prep(Hash(9)) == (Hash(9),)
    assert parse_prep("hash:2**4") == parse_prep("hash:16") == (Hash(16),)
    assert parse_prep("hash") == (Hash(),)
    assert parse_prep("impute:constant:-1.5") == (Impute("constant", -1.5),)


@pytest.mark.parametrize(
    ("prep", "words"),
    [
        ("log1q", r"unknown step of prep 'log1q' \(did you mean 'log1p'\?\); allowed: hash, impute"),
        ("log1p,,normalize", "unknown step of prep ''"),
        ("log1p:3", "log1p takes no argument"),
        ("hash:many", "expected a number of buckets, as hash:1048576 or hash:2\\^20"),
        ("hash:0", "expected a number of buckets"),
        ("hash:2^40", "expected 1 to"),
        ("impute:median", "use impute:mean"),
        ("impute:mode", "unknown strategy 'mode'.*allowed: constant, mean, zero"),
        ("impute:constant", "expected a number"),
        ("impute:constant:nan", "expected a finite number"),
        ("impute:zero:3", "only a constant takes a number; write impute:constant:3"),
        ("onehot:drop", "unknown way with unseen codes 'drop'"),
        ("log1p,log1p", "log1p is there twice"),
        ("tfidf,hash", "hash comes after tfidf.*write hash,tfidf"),
        ("hash,log1p", "hash and log1p do not go together"),
        ("log1p,hash", "hash and log1p do not go together"),
        ("hash,onehot", "onehot comes after hash.*write onehot,hash"),
        ("standardize,impute", "missing numbers are filled in before anything.*write impute,standardize"),
        ("standardize,tfidf", "tfidf comes after standardize.*negative"),
        ([3], "3 is no step"),
    ],
)
def test_preparations_that_make_no_sense(prep, words):
    with pytest.raises(DataError, match=words):
        parse_prep(prep)


def test_what_was_fitted_is_saved_and_comes_back():
    x = np.random.default_rng(13).integers(0, 4, (20, 3)).astype(float)
    steps, rows = [], x
    for step in parse_prep("impute,onehot:ignore,hash:2^5,tfidf|standardize,normalize"):
        fitted = step.fit([rows])
        steps.append(fitted)
        assert fitted.fitted
        rows = fitted.apply(rows)
    about, arrays = save_prep(steps)
    again = load_prep(json.loads(json.dumps(about)), {key: array.copy() for key, array in arrays.items()})
    assert again == tuple(steps)
    assert not parse_prep("standardize")[0].fitted
    assert parse_prep("standardize")[0] != again[4]
    np.testing.assert_array_equal(as_dense(again[0].apply(x)), as_dense(steps[0].apply(x)))


def test_which_steps_the_encoding_does_itself():
    assert OneHot().consumed({"category", "number"}) and not OneHot().consumed({"number"})
    assert Hash().consumed({"text"}) and not Hash().consumed({"sparse"})
    assert not Tfidf().consumed({"text"})
    assert Impute().takes_missing and not Standardize().takes_missing
