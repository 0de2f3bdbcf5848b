"""Data that comes with the installation: a generated two-class problem, and two small sets of scikit-learn.

Names: ``synthetic:ROWSxCOLUMNS[:SEED]``, ``sklearn:digits``, ``sklearn:breast_cancer``.

Generated rows come in partitions of 2²³ numbers, each with a random stream of its own, so that there may be more than
memory holds, and threads make them side by side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Table
from trivium.errors import DataError, unknown

__all__ = [
    "PARTS",
    "SKLEARN_NAMES",
    "Size",
    "made_rows",
    "make_two_class",
    "read_sklearn",
    "read_synthetic",
    "scale_of",
    "size_of",
]

PARTS = ("train", "test")
_NAME = re.compile(r"synthetic:([0-9]{1,12})x([0-9]{1,9})(?::([0-9]{1,18}))?")
_PARTITION = 1 << 23  # numbers
_STEEPNESS = 4.0
_DIGITS_SCALE = 1 / 16
_TEST_SHARE = 0.2
_SPLIT_SEED = 20170800


@dataclass(frozen=True)
class Size:
    """How many generated rows there are, how wide, and from which seed."""

    rows: int
    columns: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 2 or self.columns < 1:
            raise DataError(f"{self.rows} rows and {self.columns} columns: expected at least 2 rows and 1 column")
        if self.seed < 0:
            raise DataError(f"seed={self.seed}: expected 0 or more")

    @property
    def name(self) -> str:
        """``synthetic:ROWSxCOLUMNS:SEED``."""
        return f"synthetic:{self.rows}x{self.columns}:{self.seed}"

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return -(-self.rows // self._share)

    def bounds(self, at: int) -> tuple[int, int]:
        """The rows of partition ``at``: the first, and the one behind the last."""
        return at * self._share, min((at + 1) * self._share, self.rows)

    @property
    def _share(self) -> int:
        return max(1, _PARTITION // self.columns)


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
    size = Size(rows, columns, seed)
    if dtype not in ("float32", "float64"):
        raise DataError(f"dtype={dtype!r}: expected 'float32' or 'float64'")
    _check_part(part)
    _check_memory(rows * columns * np.dtype(dtype).itemsize)
    x, y = np.empty((rows, columns), dtype), np.empty(rows, np.int32)
    for at in range(size.partitions):
        start, stop = size.bounds(at)
        _, y[start:stop] = made_rows(size, at, part, x[start:stop])
    cut = f":{_PARTITION}" if size.partitions > 1 else ""
    mark = _fingerprint(f"{size.name}:{dtype}:{part}{cut}")
    return Table({"x": x, "y": y}, (-1.0, 1.0), name=size.name, fingerprint=mark)


def made_rows(
    size: Size, at: int, part: str = "train", x: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Partition ``at``: ``x`` (filled if given, else float32) and class indices 0 and 1.

    >>> x, y = made_rows(Size(100, 5), 0)
    >>> x.shape, x.dtype
    ((100, 5), dtype('float32'))
    """
    start, stop = size.bounds(at)
    x = np.empty((stop - start, size.columns), np.float32) if x is None else x
    plane = np.random.default_rng([size.seed, 0]).standard_normal(size.columns)
    plane /= np.linalg.norm(plane)
    stream = np.random.default_rng([size.seed, 1 + PARTS.index(part), *([at] if at else [])])
    stream.standard_normal(dtype=x.dtype.type, out=x)
    chance = 1 / (1 + np.exp(-_STEEPNESS * (x @ plane.astype(x.dtype)).astype(np.float64)))
    y = (stream.random(len(x)) < chance).astype(np.int32)
    if size.partitions == 1 and y.min() == y.max():  # a handful of rows may fall on one side
        y[0] = 1 - y[0]
    return x, y


def read_synthetic(name: str, part: str = "train") -> Table:
    """The generated table called ``synthetic:ROWSxCOLUMNS[:SEED]``. Raises ``DataError``."""
    size = size_of(name)
    return make_two_class(size.rows, size.columns, size.seed, part=part)


def size_of(name: str) -> Size:
    """What ``synthetic:ROWSxCOLUMNS[:SEED]`` says. Raises ``DataError``.

    >>> size_of("synthetic:10000x100:7")
    Size(rows=10000, columns=100, seed=7)
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise DataError(
            f"{name!r}: expected synthetic:ROWSxCOLUMNS or synthetic:ROWSxCOLUMNS:SEED, as synthetic:10000x100"
        )
    rows, columns, seed = (int(group or 0) for group in found.groups())
    return Size(rows, columns, seed)


def read_sklearn(name: str, part: str = "train") -> Table:
    """A set that scikit-learn carries: ``sklearn:digits`` or ``sklearn:breast_cancer``.

    A fixed fifth of the rows is the test part. Raises ``DataError``.
    """
    _check_part(part)
    return _LOADERS[_short(name)](part)


def scale_of(name: str) -> float:
    """What an element of a scikit-learn set is multiplied by. Raises ``DataError``.

    >>> scale_of("sklearn:digits")
    0.0625
    """
    return _DIGITS_SCALE if _short(name) == "digits" else 1.0


def _short(name: str) -> str:
    short = name.removeprefix("sklearn:")
    if short not in _LOADERS:
        raise DataError(unknown("scikit-learn set", short, _LOADERS))
    return short


def _digits(part: str) -> Table:
    """8×8 images of digits (1,797 rows), uint8 from 0 to 16."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    mine = _part_rows(len(y), part)
    return _bundled("digits", part, np.asarray(x, np.uint8)[mine], y[mine], 10, _DIGITS_SCALE)


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
