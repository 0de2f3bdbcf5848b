"""What every model asks of its data and options before it sees a row."""

from __future__ import annotations

import numpy as np

from trivium.data.table import DataSpec
from trivium.errors import DataError, PlanError

__all__ = ["classes_of", "features_of", "float_type", "switch", "targets_of"]

FEATURES = ("float32", "float64", "uint8")
FLOATS = ("float32", "float64")


def float_type(dtype: str) -> str:
    """``dtype`` where it is a type of parameters; PlanError else."""
    if dtype not in FLOATS:
        raise PlanError(f"dtype {dtype!r}: parameters are float32 or float64")
    return dtype


def switch(name: str, value: object) -> None:
    """PlanError unless ``value`` is True or False: a type or a name in its place would count as True."""
    if not isinstance(value, bool | int | np.bool_):
        raise PlanError(f"{name}={value!r}: True or False")


def classes_of(spec: DataSpec, model: str) -> int:
    """Number of classes, at least two; DataError where there are no rows, no labels, or only one class."""
    if spec.rows < 1:
        raise DataError(f"the data have no rows; {model} needs at least two, of different classes")
    _labelled(spec, model)
    if not spec.classes:
        raise DataError(f"the labels are numbers, not classes; {model} is a classifier: give integer or text labels")
    if len(spec.classes) == 1:
        raise DataError(f"the labels have one class, {spec.classes[0]}; {model} needs two")
    return len(spec.classes)


def targets_of(spec: DataSpec, model: str, *, many: bool = False) -> int:
    """Number of values that each row is to be answered with: 1, or the width of ``y`` where ``many`` are allowed.

    DataError where there are no rows, no labels, or labels that are classes.
    """
    if spec.rows < 1:
        raise DataError(f"the data have no rows; {model} needs at least one")
    _labelled(spec, model)
    if spec.classes:
        shown = ", ".join(map(str, spec.classes[:5])) + (", …" if len(spec.classes) > 5 else "")
        raise DataError(
            f"the labels are classes ({shown}); {model} fits numbers: read the data with classes=(), "
            "or use a classifier: logistic, svm, softmax"
        )
    dtype, shape = spec.columns["y"]
    if dtype not in FLOATS:
        raise DataError(f"the labels are {dtype}; {model} reads float32 or float64: convert them with astype")
    if shape and not (many and len(shape) == 1 and shape[0] >= 1):
        wanted = "(rows,) or (rows, targets)" if many else "(rows,): fit one model a target"
        raise DataError(f"the labels of one row have shape {shape}; {model} wants y of shape {wanted}")
    return shape[0] if shape else 1


def _labelled(spec: DataSpec, model: str) -> None:
    if "y" not in spec.columns:
        raise DataError(
            f"the data have no labels (no column 'y'); {model} learns from labelled rows: name the label column"
        )


def features_of(spec: DataSpec, model: str) -> int:
    """Number of features, at least one, of a type that the kernels read."""
    if "x" not in spec.columns or spec.features < 1:
        raise DataError(f"the data have no features (column 'x'); {model} needs at least one column beside the label")
    dtype = spec.columns["x"][0]
    if dtype not in FEATURES:
        raise DataError(f"the features are {dtype}; {model} reads {', '.join(FEATURES)}: convert them with astype")
    return spec.features
