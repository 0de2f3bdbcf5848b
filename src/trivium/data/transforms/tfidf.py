"""Word counts weighed by how rare a word is."""

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
from trivium.data.transforms.scaling import unit_rows
from trivium.errors import DataError

__all__ = ["Tfidf"]


@dataclass(frozen=True, eq=False)
class Tfidf(Transform):
    """count × (ln((1 + rows) / (1 + rows with the feature)) + 1), then each row over its length.

    As scikit-learn's ``TfidfTransformer`` with its defaults (smoothed, l2). Jones, *A statistical interpretation of
    term specificity and its application in retrieval*, 1972.

    >>> step = Tfidf().fit([np.array([[2.0, 0.0], [1.0, 1.0]])])
    >>> step.apply(np.array([[1.0, 0.0]]))
    array([[1., 0.]])
    """

    needs_fit: ClassVar[bool] = True
    never_after: ClassVar[frozenset[str]] = frozenset({"standardize"})
    idf: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Always ``tfidf``."""
        return "tfidf"

    def fit(self, pieces: Iterable[Matrix]) -> Tfidf:
        """Counts the rows that have each feature."""
        rows, having = 0, np.zeros(0)
        for piece in pieces:
            found = _having(as_floats(piece))
            width = max(len(having), len(found))
            having = np.pad(having, (0, width - len(having))) + np.pad(found, (0, width - len(found)))
            rows += len(piece)
        if not rows:
            raise DataError("tfidf: there is no row to fit it on; give training rows")
        return dataclasses.replace(self, idf=np.log((1 + rows) / (1 + having)) + 1)

    def apply(self, x: Matrix) -> Matrix:
        """Weighed rows of length 1."""
        assert self.idf is not None, "fit comes first"
        check_width(self.name, x, len(self.idf))
        x = as_floats(x)
        if isinstance(x, Csr):
            return unit_rows(with_values(x, (x.values * self.idf[x.indices]).astype(x.values.dtype)))
        return unit_rows((x * self.idf).astype(x.dtype))

    def state(self) -> Mapping[str, NDArray[Any]]:
        """``idf``, float64 (features,)."""
        return {} if self.idf is None else {"idf": self.idf}

    def restored(self, state: Mapping[str, NDArray[Any]]) -> Tfidf:
        """With the ``idf`` of ``state``."""
        return dataclasses.replace(self, idf=state["idf"])


def _having(x: Matrix) -> NDArray[np.float64]:
    """In how many rows each feature is not 0."""
    if not isinstance(x, Csr):
        return np.asarray(np.count_nonzero(x, axis=0), np.float64)
    return np.bincount(x.indices[x.values != 0], minlength=x.width).astype(np.float64)
