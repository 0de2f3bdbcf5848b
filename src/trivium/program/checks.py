"""What every classifier asks of its data before it sees a row."""

from __future__ import annotations

from trivium.data.table import DataSpec
from trivium.errors import DataError

__all__ = ["classes_of", "features_of"]

FEATURES = ("float32", "float64", "uint8")


def classes_of(spec: DataSpec, model: str) -> int:
    """Number of classes, at least two; DataError where there are no rows, no labels, or only one class."""
    if spec.rows < 1:
        raise DataError(f"the data have no rows; {model} needs at least two, of different classes")
    if "y" not in spec.columns:
        raise DataError(
            f"the data have no labels (no column 'y'); {model} learns from labelled rows: name the label column"
        )
    if not spec.classes:
        raise DataError(f"the labels are numbers, not classes; {model} is a classifier: give integer or text labels")
    if len(spec.classes) == 1:
        raise DataError(f"the labels have one class, {spec.classes[0]}; {model} needs two")
    return len(spec.classes)


def features_of(spec: DataSpec, model: str) -> int:
    """Number of features, at least one, of a type that the kernels read."""
    if "x" not in spec.columns or spec.features < 1:
        raise DataError(f"the data have no features (column 'x'); {model} needs at least one column beside the label")
    dtype = spec.columns["x"][0]
    if dtype not in FEATURES:
        raise DataError(f"the features are {dtype}; {model} reads {', '.join(FEATURES)}: convert them with astype")
    return spec.features
