"""Numbers in the place of missing ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.data.transforms.base import Matrix, Transform
from trivium.data.transforms.columns import as_floats, check_width, with_values
from trivium.data.transforms.hashing import NUMERIC
from trivium.data.transforms.moments import moments_of
from trivium.errors import DataError, unknown

__all__ = ["Impute"]

STRATEGIES = ("mean", "zero", "constant")


@dataclass(frozen=True, eq=False)
class Impute(Transform):
    """Each NaN becomes the mean of its feature in the training rows, 0, or a constant.

    As scikit-learn's ``SimpleImputer``; the zeros that sparse rows do not store count as values. There is no median: it
    does not follow from pieces without keeping all values.

    >>> step = Impute().fit([np.array([[1.0], [np.nan], [3.0]])])
    >>> step.apply(np.array([[np.nan]]))
    array([[2.]])
    """

    takes_missing: ClassVar[bool] = True
    never_after: ClassVar[frozenset[str]] = NUMERIC | {"hash", "onehot"}
    strategy: str = "mean"
    constant: float = 0.0
    mean: NDArray[np.float64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.strategy == "median":
            raise DataError("impute:median: a median needs all values of a column at once; use impute:mean")
        if self.strategy not in STRATEGIES:
            raise DataError(f"impute: {unknown('strategy', self.strategy, STRATEGIES)}")
        if not np.isfinite(self.constant):
            raise DataError(f"impute:constant:{self.constant}: expected a finite number")

    @property
    def needs_fit(self) -> bool:  # type: ignore[override]  # it depends on the strategy
        """Whether the strategy is the mean."""
        return self.strategy == "mean"

    @property
    def name(self) -> str:
        """``impute:mean``, ``impute:zero`` or ``impute:constant:NUMBER``."""
        return f"impute:constant:{self.constant!r}" if self.strategy == "constant" else f"impute:{self.strategy}"

    def fit(self, pieces: Iterable[Matrix]) -> Impute:
        """Raises ``DataError`` where a feature has no value in any row."""
        if self.strategy != "mean":
            return self
        moments = moments_of(self.name, pieces)
        empty = np.flatnonzero(moments.count == 0)
        if len(empty):
            raise DataError(
                f"impute: feature {int(empty[0]) + 1} has no value in any training row; leave its column out, or use "
                "impute:zero"
            )
        return dataclasses.replace(self, mean=moments.mean)

    def apply(self, x: Matrix) -> Matrix:
        """Without NaN."""
        x = as_floats(x)
        values = x.values if isinstance(x, Csr) else x
        missing = np.isnan(values)
        if self.mean is not None:
            check_width(self.name, x, len(self.mean))
        if not missing.any():
            return x
        filled = values.copy()
        if self.strategy != "mean":
            filled[missing] = self.constant if self.strategy == "constant" else 0
        else:
            assert self.mean is not None, "fit comes first"
            columns = x.indices[missing] if isinstance(x, Csr) else np.nonzero(missing)[1]
            filled[missing] = self.mean[columns]
        return with_values(x, filled) if isinstance(x, Csr) else filled

    def state(self) -> Mapping[str, NDArray[Any]]:
        """``mean``, float64 (features,), where that is the strategy."""
        return {} if self.mean is None else {"mean": self.mean}

    def restored(self, state: Mapping[str, NDArray[Any]]) -> Impute:
        """With the ``mean`` of ``state``."""
        return dataclasses.replace(self, mean=state.get("mean"))
