"""Data that comes with the installation: a generated two-class problem, and two small sets of scikit-learn.

Names: ``synthetic:ROWSxCOLUMNS[:SEED]``, ``sklearn:digits``, ``sklearn:breast_cancer``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Table
from trivium.errors import DataError, unknown

__all__ = ["PARTS", "SKLEARN_NAMES", "make_two_class", "read_sklearn", "read_synthetic"]

PARTS = ("train", "test")
_NAME = re.compile(r"synthetic:([0-9]{1,12})x([0-9]{1,9})(?::([0-9]{1,18}))?")
_STEEPNESS = 4.0
_TEST_SHARE = 0.2
_SPLIT_SEED = 20170800


def make_two_class(rows: int, columns: int, seed: int = 0, dtype: str = "float32", part: str = "train") -> Table:
    """Two noisy classes on either side of a random hyperplane through the origin.

    x ~ N(0, 1) in each of ``columns`` features; u a random unit vector; P(y = +1 | x) = 1 / (1 + exp(-4 u·x)). Labels
    are drawn, so the classes overlap (the best possible accuracy is 87 %) and, given many more rows than columns, the
    log loss has its minimum at finite weights near 4u, without any penalty.

    ``part="test"`` gives as many other rows on the same hyperplane. Returns ``x`` (rows, columns) of ``dtype``, ``y``
    int32, classes (-1, 1). The same arguments give the same bits (same CPU type and versions). Raises
    ``DataError``.

    >>> make_two_class(100, 5, seed=1).spec.classes
    (-1.0, 1.0)
    """
    if rows < 2 or columns < 1:
        raise DataError(f"{rows} rows and {columns} columns: expected at least 2 rows and 1 column")
    if dtype not in ("float32", "float64"):
        raise DataError(f"dtype={dtype!r}: expected 'float32' or 'float64'")
    if seed < 0:
        raise DataError(f"seed={seed}: expected 0 or more")
    _check_part(part)
    _check_memory(rows * columns * np.dtype(dtype).itemsize)
    plane = np.random.default_rng([seed, 0]).standard_normal(columns)
    plane /= np.linalg.norm(plane)
    stream = np.random.default_rng([seed, 1 + PARTS.index(part)])
    x = np.empty((rows, columns), dtype)
    if dtype == "float32":
        stream.standard_normal(dtype=np.float32, out=x)
    else:
        stream.standard_normal(dtype=np.float64, out=x)
    chance = 1 / (1 + np.exp(-_STEEPNESS * (x @ plane.astype(dtype)).astype(np.float64)))
    y = (stream.random(rows) < chance).astype(np.int32)
    if y.min() == y.max():  # a handful of rows may fall on one side
        y[0] = 1 - y[0]
    name = f"synthetic:{rows}x{columns}:{seed}"
    return Table({"x": x, "y": y}, (-1.0, 1.0), name=name, fingerprint=_fingerprint(f"{name}:{dtype}:{part}"))


def read_synthetic(name: str, part: str = "train") -> Table:
    """The generated table called ``synthetic:ROWSxCOLUMNS[:SEED]``. Raises ``DataError``."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise DataError(
            f"{name!r}: expected synthetic:ROWSxCOLUMNS or synthetic:ROWSxCOLUMNS:SEED, as synthetic:10000x100"
        )
    rows, columns, seed = (int(group or 0) for group in found.groups())
    return make_two_class(rows, columns, seed, part=part)


def read_sklearn(name: str, part: str = "train") -> Table:
    """A set that scikit-learn carries: ``sklearn:digits`` or ``sklearn:breast_cancer``.

    A fixed fifth of the rows is the test part. Raises ``DataError``.
    """
    _check_part(part)
    short = name.removeprefix("sklearn:")
    if short not in _LOADERS:
        raise DataError(unknown("scikit-learn set", short, _LOADERS))
    return _LOADERS[short](part)


def _digits(part: str) -> Table:
    """8×8 images of digits (1,797 rows), uint8 from 0 to 16."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    mine = _part_rows(len(y), part)
    return _bundled("digits", part, np.asarray(x, np.uint8)[mine], y[mine], 10, 1 / 16)


def _breast_cancer(part: str) -> Table:
    """30 measures of 569 tumours, each less its mean and over its standard deviation in the training part."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    train = x[_part_rows(len(y), "train")]
    x = ((x - train.mean(axis=0)) / train.std(axis=0)).astype(np.float32)
    mine = _part_rows(len(y), part)
    return _bundled("breast_cancer", part, x[mine], y[mine], 2, 1.0)


_LOADERS: dict[str, Callable[[str], Table]] = {"breast_cancer": _breast_cancer, "digits": _digits}
SKLEARN_NAMES = tuple(f"sklearn:{name}" for name in _LOADERS)


def _bundled(
    name: str,
    part: str,
    x: NDArray[np.floating] | NDArray[np.uint8],
    y: NDArray[np.integer],
    classes: int,
    scale: float,
) -> Table:
    columns = {"x": np.ascontiguousarray(x), "y": y.astype(np.int32)}
    names = tuple(float(label) for label in range(classes))
    full = f"sklearn:{name}"
    return Table(columns, names, scale, full, _fingerprint(f"{full}:{part}", x.tobytes(), y.tobytes()))


def _part_rows(rows: int, part: str) -> NDArray[np.int64]:
    order = np.random.default_rng(_SPLIT_SEED).permutation(rows)
    cut = rows - round(rows * _TEST_SHARE)
    return np.sort(order[:cut] if part == "train" else order[cut:])


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise DataError(unknown("part", part, PARTS))


def _check_memory(size: int) -> None:
    import psutil

    free = int(psutil.virtual_memory().available)
    if size > free:
        raise DataError(f"would take {size / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are free; ask for fewer rows")


def _fingerprint(name: str, *content: bytes) -> str:
    total = hashlib.sha256(name.encode())
    for part in content:
        total.update(part)
    return total.hexdigest()
