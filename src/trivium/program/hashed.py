"""Models whose parameters are rows of a table: logistic regression and factorization machines on hashed features.

    logistic   ŷ = b + Σᵢ wᵢxᵢ                                        a row is w          (width 1)
    fm:K       ŷ = b + Σᵢ wᵢxᵢ + Σ_{i<j} ⟨vᵢ, vⱼ⟩ xᵢxⱼ                a row is w, v       (width 1 + K)

Column i of the data is key i of the table. A batch names the rows that it reads (``read``), gets these and no others,
and gives a delta for each: Σ weight·gradient. The bias is dense, beside the table, and free of penalty. The arithmetic
is that of the dense models, by the same compiled loops, on rows numbered within the batch.

McMahan et al., *Ad click prediction*, KDD 2013; Rendle, *Factorization machines*, ICDM 2010; Weinberger et al.,
*Feature hashing for large scale multitask learning*, ICML 2009 (``transforms.Hash`` makes such columns).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.batches import Batch
from trivium.errors import DataError, PlanError
from trivium.program.kernels.rows import resolve
from trivium.program.tables import Keys, TableSpec

__all__ = ["HashedFM", "HashedLogistic", "HashedModel", "HashedRows", "RowDelta"]

Flat = NDArray[Any]
TILE = 256  # rows whose margins are taken together
MOST_FACTORS = 1 << 12


@dataclass(frozen=True)
class HashedRows:
    """A batch made ready: the ``keys`` that it reads, ascending; its non-zeros by their place among these.

    ``indptr`` (rows + 1,), ``inverse`` and ``values`` (non-zeros,); ``y`` and ``weight`` (rows,), or None.
    """

    keys: Keys
    inverse: NDArray[np.int32]
    indptr: NDArray[np.int64]
    values: Flat
    y: Flat | None
    weight: Flat | None

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def labels(self) -> Flat:
        """The labels; DataError where there are none."""
        if self.y is None:
            raise DataError("the rows have no labels (no column 'y'); prediction needs none, training does")
        return self.y


@dataclass(frozen=True)
class RowDelta:
    """Σ weight·gradient of each row read, (keys, width), and of the bias; how many rows of data, weight and loss."""

    deltas: Flat
    bias: float
    rows: float
    weight: float
    loss: float


@dataclass(frozen=True)
class HashedModel(abc.ABC):
    """Pure functions of a batch and of the rows that it reads. ``table`` says what the rows are."""

    table: TableSpec

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As on the command line."""

    def read(self, batch: Batch) -> HashedRows:
        """Gather the batch's sparse rows; DataError where they are dense, or have columns that the table has not."""
        from trivium.program.kernels.keys import gather_csr, unique_sorted

        found = resolve(batch, sparse=True)
        assert found.csr is not None
        csr = found.csr
        indptr, columns, values = gather_csr(csr.indptr, csr.indices, csr.values, found.start, found.index, found.count)
        keys, inverse = unique_sorted(columns)
        pick = slice(found.start, found.start + found.count) if found.index is None else found.index
        y, weight = (None if one is None else one[pick] for one in (found.y, found.weight))
        return HashedRows(self.table.checked(keys), inverse, indptr, values, y, weight)

    def reads(self, batch: Batch) -> dict[str, Keys]:
        """The keys of each table whose rows ``batch`` needs."""
        return {self.table.name: self.read(batch).keys}

    @abc.abstractmethod
    def delta(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> RowDelta:
        """Δ, given the rows of ``ready.keys``."""

    @abc.abstractmethod
    def margins(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> NDArray[np.float64]:
        """ŷ of each row of data."""

    def evaluate(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> NDArray[np.float64]:
        """Sums of rows, weight, log loss and right answers."""
        from trivium.program.kernels import factors

        sums = factors.score(self.margins(rows, ready, bias), 0, None, ready.labels(), ready.weight, True)
        return np.array([len(ready), *sums])

    def predict(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> NDArray[np.float64]:
        """Probabilities of the two classes, (rows, 2)."""
        from scipy.special import expit

        margins = self.margins(rows, ready, bias)
        return np.stack([expit(-margins), expit(margins)], axis=1)

    def _checked(self, rows: Flat, ready: HashedRows) -> None:
        if rows.shape != (len(ready.keys), self.table.width):
            raise DataError(
                f"table {self.table.name!r}: rows of shape {rows.shape} for {len(ready.keys)} keys: expected "
                f"({len(ready.keys)}, {self.table.width}), one for each of ready.keys"
            )


@dataclass(frozen=True)
class HashedLogistic(HashedModel):
    """Logistic regression of two classes; a row of ``table`` is one weight.

    >>> HashedLogistic(TableSpec("w", rows=2**20, update="ftrl", l1=1.0)).name
    'logistic'
    """

    def __post_init__(self) -> None:
        if self.table.width != 1:
            raise PlanError(f"table {self.table.name!r}: width={self.table.width}; logistic has rows of width 1")

    @property
    def name(self) -> str:
        """``logistic``."""
        return "logistic"

    def delta(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> RowDelta:
        """Σ weight·(p − y)·x."""
        from trivium.program.kernels import linear
        from trivium.program.losses import CODES

        self._checked(rows, ready)
        sums, y = np.zeros(len(rows)), ready.labels()
        weight, loss, slope = linear.sparse_delta(
            ready.indptr, ready.inverse, ready.values, 0, None, len(ready), y, ready.weight, CODES["log"], 0.0,
            _weights(rows), bias, sums, np.zeros((3, TILE)),
        )  # fmt: skip
        return RowDelta(sums.astype(self.table.dtype)[:, None], slope, float(len(ready)), weight, loss)

    def margins(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> NDArray[np.float64]:
        """The bias + x·w."""
        from trivium.program.kernels import linear

        self._checked(rows, ready)
        out = np.empty(len(ready))
        linear.sparse_margins(ready.indptr, ready.inverse, ready.values, 0, None, len(ready), _weights(rows), bias, out)
        return out


def _weights(rows: Flat) -> Flat:
    """The first column; one 0 where there are no rows, for the loops look at the type of the first."""
    return np.ascontiguousarray(rows[:, 0]) if len(rows) else np.zeros(1, rows.dtype)


@dataclass(frozen=True)
class HashedFM(HashedModel):
    """Factorization machine of two classes; a row of ``table`` is a weight, then its factors.

    The factors must begin apart from 0 (``init="zeros:1+normal:0.01"``): at 0 they would never move.

    >>> HashedFM(TableSpec("wv", width=1 + 8, init="zeros:1+normal:0.01")).name
    'fm:8'
    """

    def __post_init__(self) -> None:
        if not 2 <= self.table.width <= MOST_FACTORS + 1:
            raise PlanError(
                f"table {self.table.name!r}: width={self.table.width}; fm:K has rows of width 1 + K, K from 1 to "
                f"{MOST_FACTORS:,}"
            )
        if self.table.initial.kind == "zeros":
            raise PlanError(
                f"table {self.table.name!r}: init={self.table.init!r}; factors that begin at 0 never move: use "
                "init='zeros:1+normal:0.01'"
            )

    @property
    def factors(self) -> int:
        """K."""
        return self.table.width - 1

    @property
    def name(self) -> str:
        """``fm:`` and the factors."""
        return f"fm:{self.factors}"

    def _parts(self, rows: Flat) -> tuple[Flat, Flat, NDArray[np.float64]]:
        return np.ascontiguousarray(rows[:, 0]), rows[:, 1:].reshape(-1), np.zeros(self.factors)

    def delta(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> RowDelta:
        """Σ weight·slope·(x, x(q − vx))."""
        from trivium.program.kernels import factors

        self._checked(rows, ready)
        slope_w, slope_v = np.zeros(len(rows)), np.zeros(len(rows) * self.factors)
        w, v, q = self._parts(rows)
        weight, loss, slope = factors.sparse_delta(
            ready.indptr, ready.inverse, ready.values, 0, None, len(ready), ready.labels(), ready.weight, True,
            bias, w, v, q, slope_w, slope_v,
        )  # fmt: skip
        deltas = np.empty(rows.shape, self.table.dtype)
        deltas[:, 0], deltas[:, 1:] = slope_w, slope_v.reshape(-1, self.factors)
        return RowDelta(deltas, slope, float(len(ready)), weight, loss)

    def margins(self, rows: Flat, ready: HashedRows, bias: float = 0.0) -> NDArray[np.float64]:
        """ŷ."""
        from trivium.program.kernels import factors

        self._checked(rows, ready)
        out = np.empty(len(ready))
        factors.sparse_margins(
            ready.indptr, ready.inverse, ready.values, 0, None, len(ready), bias, *self._parts(rows), out
        )
        return out
