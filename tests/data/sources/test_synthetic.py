import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from trivium.data.sources.synthetic import make_two_class, read_sklearn, read_synthetic
from trivium.errors import DataError


def test_the_same_arguments_give_the_same_table():
    one, two = make_two_class(50, 4, seed=3), read_synthetic("synthetic:50x4:3")
    np.testing.assert_array_equal(one.columns["x"], two.columns["x"])
    np.testing.assert_array_equal(one.columns["y"], two.columns["y"])
    assert one.fingerprint == two.fingerprint
    assert not np.array_equal(one.columns["x"], make_two_class(50, 4, seed=4).columns["x"])
    assert make_two_class(50, 4, seed=4).fingerprint != one.fingerprint


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_and_classes(dtype):
    table = make_two_class(20, 3, dtype=dtype)
    assert (str(table.columns["x"].dtype), str(table.columns["y"].dtype)) == (dtype, "int32")
    assert table.classes == (-1.0, 1.0)
    assert set(table.columns["y"].tolist()) == {0, 1}


def test_the_optimum_is_finite_and_the_test_part_shares_the_hyperplane():
    train, test = (make_two_class(20_000, 10, seed=1, part=part) for part in ("train", "test"))
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(train.columns["x"], train.columns["y"])
    assert np.linalg.norm(model.coef_) == pytest.approx(4, rel=0.05)
    assert model.score(test.columns["x"], test.columns["y"]) == pytest.approx(0.871, abs=0.01)
    assert not np.array_equal(train.columns["x"], test.columns["x"])


def test_few_rows_still_have_two_classes():
    for seed in range(20):
        assert set(make_two_class(2, 1, seed=seed).columns["y"].tolist()) == {0, 1}


@pytest.mark.parametrize("name", ["synthetic:", "synthetic:5", "synthetic:5x", "synthetic:-5x2", "synthetic:5x2:a"])
def test_names_that_are_none(name):
    with pytest.raises(DataError, match="expected synthetic:ROWSxCOLUMNS"):
        read_synthetic(name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rows": 1, "columns": 1}, "at least 2 rows"),
        ({"rows": 9, "columns": 0}, "1 column"),
        ({"rows": 9, "columns": 1, "seed": -1}, "seed=-1"),
        ({"rows": 9, "columns": 1, "dtype": "int8"}, "dtype='int8'"),
        ({"rows": 9, "columns": 1, "part": "valid"}, "unknown part 'valid'"),
        ({"rows": 10**12, "columns": 10**6}, r"would take .* GiB"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words):
    with pytest.raises(DataError, match=words):
        make_two_class(**arguments)


@pytest.mark.parametrize(("name", "rows", "features"), [("digits", 1797, 64), ("breast_cancer", 569, 30)])
def test_bundled_sets_are_cut_into_two_fixed_parts(name, rows, features):
    train, test = (read_sklearn(f"sklearn:{name}", part) for part in ("train", "test"))
    assert len(train) + len(test) == rows
    assert len(test) == round(rows / 5)
    assert train.spec.features == test.spec.features == features
    assert train.classes == test.classes
    np.testing.assert_array_equal(train.columns["x"], read_sklearn(name).columns["x"])
    assert train.fingerprint != test.fingerprint
    x = [np.asarray(side.columns["x"], np.float64) * side.scale for side in (train, test)]
    model = LogisticRegression(max_iter=2000).fit(x[0], train.columns["y"])
    assert model.score(x[1], test.columns["y"]) > 0.93


def test_breast_cancer_is_standardised_by_its_training_part():
    x = read_sklearn("breast_cancer").columns["x"]
    np.testing.assert_allclose(x.mean(axis=0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0, dtype=float), 1, atol=1e-6)


def test_unknown_sets_are_answered_with_the_known():
    with pytest.raises(DataError, match=r"unknown scikit-learn set 'digit' .*allowed: breast_cancer, digits"):
        read_sklearn("sklearn:digit")
