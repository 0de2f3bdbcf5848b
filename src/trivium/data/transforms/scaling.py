"""Steps that change the size of numbers: ``log1p``, ``normalize``, ``standardize``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.data.transforms.base import Matrix, Transform
from trivium.data.transforms.columns import as_floats, check_width, place_of, row_sums, with_values
from trivium.data.transforms.moments import moments_of
from trivium.errors import DataError

__all__ = ["Log1p", "Normalize", "Standardize", "unit_rows"]


@dataclass(frozen=True, eq=False)
class Log1p(Transform):
    """log(1 + x) of each element, which must be above -1: for counts and sums of money.

    >>> Log1p().apply(np.array([[0.0, np.e - 1]]))
    array([[0., 1.]])
    """

    never_after: ClassVar[frozenset[str]] = frozenset({"standardize"})

    @property
    def name(self) -> str:
        """Always ``log1p``."""
        return "log1p"

    def apply(self, x: Matrix) -> Matrix:
        """Raises ``DataError`` where an element is -1 or less."""
        x = as_floats(x)
        values = x.values if isinstance(x, Csr) else x
        if values.size and np.fmin.reduce(values, axis=None) <= -1:
            at = int(np.flatnonzero(values.reshape(-1) <= -1)[0])
            raise DataError(
                f"log1p: {place_of(x, at)} is {values.reshape(-1)[at]:g}, expected more than -1; use standardize, or "
                "leave log1p out"
            )
        done = np.log1p(values)
        return with_values(x, done) if isinstance(x, Csr) else done


@dataclass(frozen=True, eq=False)
class Normalize(Transform):
    """Each row over its Euclidean length; a row of zeros stays. As scikit-learn's ``Normalizer``.

    >>> Normalize().apply(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """

    @property
    def name(self) -> str:
        """Always ``normalize``."""
        return "normalize"

    def apply(self, x: Matrix) -> Matrix:
        """Rows of length 1."""
        return unit_rows(as_floats(x))


def unit_rows(x: Matrix) -> Matrix:
    """The rows of ``x`` (as ``as_floats`` gives it) over their Euclidean lengths, which are summed up in float64."""
    if isinstance(x, Csr):
        norms = np.sqrt(row_sums(x, np.square(x.values, dtype=np.float64)))
        norms[norms == 0] = 1
        factor = np.repeat(1 / norms, np.diff(x.indptr))
        return with_values(x, (x.values * factor).astype(x.values.dtype))
    norms = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    norms[norms == 0] = 1
    return np.asarray(x * (1 / norms)[:, None], x.dtype)


@dataclass(frozen=True, eq=False)
class Standardize(Transform):
    """Each feature less its mean and over its standard deviation in the training rows (if that is not 0).

    Sparse rows are not centred, which would fill them: x / standard deviation, as scikit-learn's ``StandardScaler``
    does with ``with_mean=False``. Mean and variance are of Chan, Golub, LeVeque (1983), see ``moments``.

    >>> step = Standardize().fit([np.array([[1.0], [3.0]])])
    >>> step.apply(np.array([[2.0], [4.0]]))
    array([[0.],
           [2.]])
    """

    needs_fit: ClassVar[bool] = True
    mean: NDArray[np.float64] | None = field(default=None, repr=False)
    deviation: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Always ``standardize``."""
        return "standardize"

    def fit(self, pieces: Iterable[Matrix]) -> Standardize:
        """Raises ``DataError`` where a number is missing or infinite."""
        moments = moments_of(self.name, pieces)
        gaps = np.flatnonzero((moments.count < moments.rows) | ~np.isfinite(moments.mean))
        if len(gaps):
            raise DataError(
                f"standardize: feature {int(gaps[0]) + 1} has missing or infinite numbers; put impute before it"
            )
        variance, eps = moments.variance, np.finfo(np.float64).eps
        # as scikit-learn: what rounding alone may have made of a constant feature is no spread
        bound = moments.rows * eps * variance + (moments.rows * moments.mean * eps) ** 2
        deviation = np.where(variance <= bound, 1.0, np.sqrt(variance))
        return dataclasses.replace(self, mean=moments.mean, deviation=deviation)

    def apply(self, x: Matrix) -> Matrix:
        """Centred (dense only) and scaled."""
        assert self.mean is not None, "fit comes first"
        assert self.deviation is not None, "fit comes first"
        check_width(self.name, x, len(self.mean))
        x = as_floats(x)
        if isinstance(x, Csr):
            return with_values(x, (x.values / self.deviation[x.indices]).astype(x.values.dtype))
        return ((x - self.mean) / self.deviation).astype(x.dtype, copy=False)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """``mean`` and ``deviation``, float64 (features,)."""
        if self.mean is None or self.deviation is None:
            return {}
        return {"mean": self.mean, "deviation": self.deviation}

    def restored(self, state: Mapping[str, NDArray[Any]]) -> Standardize:
        """With the ``mean`` and ``deviation`` of ``state``."""
        return dataclasses.replace(self, mean=state["mean"], deviation=state["deviation"])
