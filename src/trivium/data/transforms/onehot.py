"""A feature for each value that a category takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trivium.data.table import Csr
from trivium.data.transforms.base import Matrix, Transform
from trivium.data.transforms.columns import as_floats, check_width, place_of
from trivium.data.transforms.hashing import NUMERIC
from trivium.errors import DataError, unknown

__all__ = ["OneHot"]

MOST = 1 << 20  # values of one column: beyond, hash it
UNSEEN = ("error", "ignore")


@dataclass(frozen=True, eq=False)
class OneHot(Transform):
    """Columns of whole numbers, which are codes: one feature of 0 or 1 a code, in the order of the codes.

    As scikit-learn's ``OneHotEncoder``; rows come out sparse. A code that the training rows did not have is an error
    with ``unseen="error"`` and gives zeros with ``"ignore"``. Where there are category columns the encoding does this
    for them, and numbers stay numbers.

    >>> step = OneHot().fit([np.array([[3.0], [7.0]])])
    >>> step.apply(np.array([[7.0]])).indices
    array([1], dtype=int32)
    """

    needs_fit: ClassVar[bool] = True
    never_after: ClassVar[frozenset[str]] = NUMERIC | {"hash"}
    unseen: str = "error"
    codes: NDArray[np.float64] | None = field(default=None, repr=False)  # of all columns after one another
    bounds: NDArray[np.int64] | None = field(default=None, repr=False)  # those of column j: bounds[j] to bounds[j + 1]

    def __post_init__(self) -> None:
        if self.unseen not in UNSEEN:
            raise DataError(f"onehot: {unknown('way with unseen codes', self.unseen, UNSEEN)}")

    @property
    def name(self) -> str:
        """``onehot``, or ``onehot:ignore``."""
        return "onehot" if self.unseen == "error" else f"onehot:{self.unseen}"

    def consumed(self, kinds: Collection[str]) -> bool:
        """The encoding makes features of categories."""
        return "category" in kinds

    def fit(self, pieces: Iterable[Matrix]) -> OneHot:
        """Raises ``DataError`` where an element is no whole number, or a column has more than 2²⁰ codes."""
        known: list[NDArray[np.float64]] = []
        for piece in pieces:
            x = self._dense(piece)
            known = known or [np.empty(0)] * x.shape[1]
            known = [np.union1d(codes, x[:, at].astype(np.float64)) for at, codes in enumerate(known)]
            crowded = next((at for at, codes in enumerate(known) if len(codes) > MOST), None)
            if crowded is not None:
                raise DataError(f"onehot: feature {crowded + 1} has more than {MOST} codes; leave it out, or hash it")
        if not known:
            raise DataError("onehot: there is no row to fit it on; give training rows")
        bounds = np.concatenate([[0], np.cumsum([len(codes) for codes in known])]).astype(np.int64)
        return dataclasses.replace(self, codes=np.concatenate(known), bounds=bounds)

    def apply(self, x: Matrix) -> Csr:
        """CSR of ones."""
        assert self.codes is not None, "fit comes first"
        assert self.bounds is not None, "fit comes first"
        check_width(self.name, x, len(self.bounds) - 1)
        dense = self._dense(x)
        indices = np.empty(dense.shape, np.int32)
        found = np.empty(dense.shape, np.bool_)
        for at in range(dense.shape[1]):
            codes = self.codes[self.bounds[at] : self.bounds[at + 1]]
            place = np.minimum(np.searchsorted(codes, dense[:, at]), len(codes) - 1)
            found[:, at] = codes[place] == dense[:, at]
            indices[:, at] = place + self.bounds[at]
        if self.unseen == "error" and not found.all():
            at = int(np.flatnonzero(~found.reshape(-1))[0])
            raise DataError(
                f"onehot: {place_of(dense, at)} is {dense.reshape(-1)[at]:g}, a code that no training row has; "
                "use onehot:ignore to make it zeros"
            )
        indptr = np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int64)
        return Csr(indptr, indices[found], np.ones(int(indptr[-1]), dense.dtype), len(self.codes))

    def width(self, features: int) -> int:
        """All codes of all columns."""
        return features if self.codes is None else len(self.codes)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """``codes`` float64 and ``bounds`` int64 (features + 1,)."""
        return {} if self.codes is None or self.bounds is None else {"codes": self.codes, "bounds": self.bounds}

    def restored(self, state: Mapping[str, NDArray[Any]]) -> OneHot:
        """With the ``codes`` and ``bounds`` of ``state``."""
        return dataclasses.replace(self, codes=state["codes"], bounds=state["bounds"])

    @staticmethod
    def _dense(x: Matrix) -> NDArray[Any]:
        if isinstance(x, Csr):
            raise DataError("onehot: the rows are sparse, expected columns of codes; leave onehot out, or use hash")
        dense = as_floats(x)
        assert not isinstance(dense, Csr)
        bad = dense != np.rint(dense)
        if bad.any():
            at = int(np.flatnonzero(bad.reshape(-1))[0])
            raise DataError(
                f"onehot: {place_of(dense, at)} is {dense.reshape(-1)[at]:g}, expected a whole number as a code; say "
                "which columns are categories, or leave onehot out"
            )
        return dense
