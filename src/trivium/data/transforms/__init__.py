"""Steps between file and program; fitted on the training rows, saved with the model."""

from trivium.data.transforms.base import Matrix, Transform
from trivium.data.transforms.hashing import Hash
from trivium.data.transforms.impute import Impute
from trivium.data.transforms.onehot import OneHot
from trivium.data.transforms.prep import check_order, load_prep, parse_prep, save_prep
from trivium.data.transforms.scaling import Log1p, Normalize, Standardize
from trivium.data.transforms.tfidf import Tfidf

__all__ = [
    "Hash",
    "Impute",
    "Log1p",
    "Matrix",
    "Normalize",
    "OneHot",
    "Standardize",
    "Tfidf",
    "Transform",
    "check_order",
    "load_prep",
    "parse_prep",
    "save_prep",
]
