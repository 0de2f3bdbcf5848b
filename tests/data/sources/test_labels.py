import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.multiclass import type_of_target

from trivium.data.sources.labels import checked_classes, class_names, encode, encode_as, recode
from trivium.errors import DataError


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, 7.0, 0.5, 1e6]), min_size=1, max_size=20))
def test_what_is_a_class_agrees_with_sklearn(labels):
    y, classes = encode(np.array(labels))
    if type_of_target(labels) == "continuous":
        assert (classes, y.dtype) == ((), np.float32)
        np.testing.assert_array_equal(y, np.float32(labels))
    else:
        assert classes == tuple(sorted(set(labels)))
        assert [classes[index] for index in y] == labels


@given(st.lists(st.integers(-3, 9), max_size=20), st.permutations([4, -1, 7, 0]))
def test_encoding_by_given_classes(labels, classes):
    index = encode_as(np.array(labels, float), [float(name) for name in classes])
    assert index.dtype == np.int32
    assert index.tolist() == [classes.index(label) if label in classes else -1 for label in labels]


def test_recoding():
    y = np.int32([0, 1, 1])
    same, classes = recode("t", y, (2.0, 5.0), None)
    assert (same is y, classes) == (True, (2.0, 5.0))
    np.testing.assert_array_equal(recode("t", y, (2.0, 5.0), (5, 3, 2))[0], [2, 0, 0])
    np.testing.assert_array_equal(recode("t", y, (2.0, 5.0), ())[0], np.float32([2, 5, 5]))
    np.testing.assert_array_equal(recode("t", y, ("a", "b"), ("b", "a"))[0], [1, 0, 0])
    with pytest.raises(DataError, match=r"^t: label 5\.0 is none of classes=\(2, 3\)"):
        recode("t", y, (2.0, 5.0), (2, 3))
    with pytest.raises(DataError, match=r"the labels are text \(a, b\)"):
        recode("t", y, ("a", "b"), ())
    with pytest.raises(DataError, match="numbers to be predicted"):
        recode("t", np.float32([0.5]), (), (1, 2))


def test_names_are_shortened_for_messages():
    assert class_names(("a", 1.0, 2.5)) == "(a, 1, 2.5)"
    assert class_names(tuple(range(20))) == "(0, 1, 2, 3, 4, 5, 6, 7, …)"


@pytest.mark.parametrize(("classes", "words"), [((1, 1.0), "twice"), (("a", 1), "mixes"), ("ab", "sequence")])
def test_classes_that_are_none(classes, words):
    with pytest.raises(DataError, match=words):
        checked_classes(classes)
