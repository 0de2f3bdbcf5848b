"""What columns mean: the ``Encoding``, which turns the frames of a source into rows that a program sees.

Rules
-----
* ``x`` has the features in the order of the source's columns; a number is one column, a category one for each value of
  its vocabulary (sorted), text one for each word (sorted). Hashed categories and text share the buckets at the end.
* ``x`` is dense if there are only numbers, or at most 256 columns of which a row fills an eighth or more; a compiled
  kernel takes eight numbers at once, so sparser rows are faster compressed. Else it is CSR.
* A time is a number of days since 1970-01-01 (UTC where it has a zone): float32 tells minutes apart.
* A missing number is an error unless a step fills it in; a missing category or text is a row of zeros in its columns.
* A matrix (pixels, LIBSVM) passes as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data import encode_columns as columns
from trivium.data import encode_rows as rows
from trivium.data.encode_columns import BadValueError
from trivium.data.encode_labels import label_column, weight_column
from trivium.data.frame import BadRow, Frame, Source
from trivium.data.table import Csr
from trivium.errors import DataError

__all__ = ["Encoding", "Feature", "Piece", "dense_is_cheaper"]

WIDEST_DENSE = 256  # columns of dense rows where some stand for categories
LANES = 8  # numbers that a kernel takes at once
_MOST_NAMED = 8


@dataclass(frozen=True)
class Feature:
    """A column of the source. ``kind``: "number", "time", "category", "text" or "matrix"; ``vocabulary`` of a category
    or text, None where it is hashed.
    """

    name: str
    kind: str
    vocabulary: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """Columns of x that it takes, hashed ones aside."""
        return 1 if self.kind in ("number", "time") else len(self.vocabulary or ())

    @property
    def hashed(self) -> bool:
        """Whether its values go to the common buckets."""
        return self.kind in ("category", "text") and self.vocabulary is None


@dataclass(frozen=True)
class Piece:
    """The rows of one frame: ``x`` (rows, …) or CSR, ``label`` float64 (rows,), an Arrow array of text, or None,
    ``weight`` float32 (rows,) or None, further ``columns``, and the rows that were passed over.
    """

    x: NDArray[Any] | Csr
    label: Any
    weight: NDArray[np.float32] | None
    columns: Mapping[str, Any]
    skipped: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class _Rest(Frame):
    """The rows of another frame that are left."""

    base: Frame | None = None
    kept: Any = None

    def line(self, row: int) -> int:
        assert self.base is not None
        return _number(self.base, int(self.kept[row]))


@dataclass(frozen=True)
class Encoding:
    """See the module. ``classes`` is None until the labels are settled, () for regression; ``width`` None where only
    all rows tell (LIBSVM). ``missing``: NaN may pass; ``ignored``: columns that were there and are not used.
    """

    features: tuple[Feature, ...]
    label: str | None = None
    label_kind: str = "number"
    weight: str | None = None
    classes: tuple[float | str, ...] | None = None
    dtype: str | None = None
    width: int | None = None
    sparse: bool = False
    buckets: int = 0
    unseen: str = "error"
    missing: bool = False
    ignored: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    source: str = field(default="the training data", compare=False)

    # -- saved with a model -------------------------------------------------------------------------------------------
    def as_json(self) -> dict[str, Any]:
        """What JSON can hold; ``from_json`` takes it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Encoding:
        """What ``as_json`` gave."""
        given = dict(about)
        given["features"] = tuple(
            Feature(one["name"], one["kind"], None if one["vocabulary"] is None else tuple(one["vocabulary"]))
            for one in given["features"]
        )
        for name in ("classes", "ignored", "shape"):
            given[name] = None if given[name] is None else tuple(given[name])
        return cls(**given)

    # -- what it says -------------------------------------------------------------------------------------------------
    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns to read."""
        names = [one.name for one in self.features] + [name for name in (self.label, self.weight) if name]
        return tuple(dict.fromkeys(names))

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """The columns to read where labels and weights do not matter: for prediction."""
        return tuple(one.name for one in self.features)

    @property
    def types(self) -> dict[str, str]:
        """Column to type, as another file must be read to mean the same."""
        kinds = {one.name: one.kind for one in self.features if one.kind != "matrix"}
        if self.label is not None and kinds:
            kinds[self.label] = "category" if self.label_kind == "text" else "number"
        return kinds

    def names(self) -> list[str]:
        """A name for each column of x: ``age``, ``city=Rome``, ``word``; of buckets and matrices a number from 1."""
        if self._matrix:
            return [f"x{at}" for at in range(1, (self.width or 0) + 1)]
        texts = sum(one.kind == "text" for one in self.features)
        made: list[str] = []
        for one in self.features:
            if one.kind in ("number", "time"):
                made.append(one.name)
            elif one.vocabulary is not None:
                start = "" if one.kind == "text" and texts == 1 and len(self.features) == 1 else f"{one.name}="
                made += [start + value for value in one.vocabulary]
        return made + [f"bucket{at}" for at in range(1, self.buckets + 1)]

    def check(self, source: Source, labelled: bool = False) -> None:
        """DataError unless ``source`` has the columns that are needed, and no others; read ``labelled`` rows if so."""
        given = [one.name for one in source.fields()]
        self._check_there(source.name, given, labelled)
        known = {*self.inputs, *self.ignored}
        extra = [name for name in given if name not in known]
        if extra and not self._matrix:
            raise DataError(
                f"{source.name}: has {len(extra)} column{'s' * (len(extra) > 1)} more than the training rows: "
                f"{_list(extra)}, expected {_list([one.name for one in self.features])}; leave them out"
            )

    def _check_there(self, where: str, given: Sequence[str], labelled: bool) -> None:
        needed = [one.name for one in self.features]
        if labelled:
            needed += [name for name in (self.label, self.weight) if name]
        absent = [name for name in needed if name not in given]
        if absent:
            import difflib

            free = [name for name in given if name not in self.inputs]
            near = difflib.get_close_matches(absent[0], free or given, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise DataError(
                f"{where}: has no column {absent[0]!r}{hint}{more}, which the training rows had; "
                f"it has {_list(list(given))}: rename or add the column"
            )

    @property
    def _matrix(self) -> bool:
        return any(one.kind == "matrix" for one in self.features)

    # -- rows ---------------------------------------------------------------------------------------------------------
    def encode(self, frame: Frame, *, labelled: bool = True, max_bad_rows: int = 0) -> Piece:
        """The rows of ``frame``; without label and weight unless ``labelled``.

        Rows with a missing or infinite value, an unknown label or a negative weight are passed over, at most
        ``max_bad_rows`` of them. Raises ``DataError``: where, found, expected, what to do.
        """
        self._check_there(frame.file, list(frame.columns), labelled)
        skipped: list[BadRow] = []
        while True:
            try:
                piece = self._encode(frame, labelled)
            except BadValueError as fault:
                if len(skipped) + len(fault.rows) > max_bad_rows:
                    raise
                skipped += [BadRow(frame.file, _number(frame, int(row)), fault.why) for row in fault.rows]
                frame = _without(frame, fault.rows)
            else:
                skipped.sort(key=lambda one: one.line)
                return dataclasses.replace(piece, skipped=tuple(skipped))

    def _encode(self, frame: Frame, labelled: bool) -> Piece:
        label = weight = None
        if labelled and self.label is not None:
            label = label_column(frame, self.label, self.label_kind, self.classes)
        if labelled and self.weight is not None:
            weight = weight_column(frame, self.weight)
        if self._matrix:
            further = {name: frame.columns[name] for name in frame.columns if name not in (*self.inputs, *self.ignored)}
            return Piece(self._passed(frame), label, weight, further)
        return Piece(self._compressed(frame) if self.sparse else self._dense(frame), label, weight, {})

    def _passed(self, frame: Frame) -> NDArray[Any] | Csr:
        """A matrix as it is, its width checked."""
        x = frame.columns[self.features[0].name]
        values = x.values if isinstance(x, Csr) else x
        if values.dtype != np.uint8:
            values = values.astype(self.dtype or _float_type(values.dtype), copy=False)
        if values.dtype.kind == "f" and not self.missing:
            _check_finite(frame, x, values)
        if not isinstance(x, Csr):
            self._check_shape(frame, x.shape[1:])
            return np.asarray(values)
        if self.width is not None and x.width > self.width:
            wide = x.indices >= self.width
            if wide.any():
                at = int(np.argmax(wide))
                row = int(np.searchsorted(x.indptr, at, side="right")) - 1
                raise DataError(
                    f"{columns.place_of(frame, row)}: found feature {int(x.indices[at]) + 1}, expected at most "
                    f"{self.width} as in {self.source}; leave the feature out, or train with more features"
                )
        return Csr(x.indptr, x.indices, values, self.width if self.width is not None else x.width)

    def _check_shape(self, frame: Frame, shape: tuple[int, ...]) -> None:
        if self.shape and shape != self.shape:
            raise DataError(
                f"{frame.file}: its rows have shape {shape}, expected {self.shape} as in {self.source}; "
                "bring them to that shape"
            )

    def _dense(self, frame: Frame) -> NDArray[Any]:
        plain = all(one.kind in ("number", "time") for one in self.features)
        x = (np.empty if plain else np.zeros)((frame.rows, self.width or 0), self.dtype or "float32")
        numeric: list[tuple[int, NDArray[Any]]] = []
        names: list[str] = []
        every = np.arange(frame.rows)
        at = 0
        for one in self.features:
            if one.kind in ("number", "time"):
                numeric.append((at, columns.numbers(frame, one.name)))
            else:
                codes = self._codes(frame, one)
                there = codes >= 0
                x[every[there], codes[there] + at] = 1
            names += [one.name] * one.width
            at += one.width
        rows.fill(frame, x, numeric, names, self.missing)
        return x

    def _codes(self, frame: Frame, one: Feature) -> NDArray[np.int64]:
        import pyarrow as pa

        return columns.category_codes(frame, one.name, pa.array(one.vocabulary, pa.string()), self.unseen)

    def _compressed(self, frame: Frame) -> Csr:
        blocks: list[Csr] = []
        firsts: list[int] = []
        run: list[tuple[str, int, NDArray[Any], bool]] = []
        dtype = self.dtype or "float32"
        at = 0
        for one in self.features:
            if one.kind in ("number", "time"):
                run.append((one.name, at, columns.numbers(frame, one.name), False))
            elif one.kind == "category" and not one.hashed:
                run.append((one.name, at, self._codes(frame, one), True))
            elif not one.hashed:
                if run:
                    blocks.append(rows.fixed(frame, run, dtype, self.missing))
                    firsts.append(0)
                    run = []
                blocks.append(self._words(frame, one))
                firsts.append(at)
            at += one.width
        if run:
            blocks.append(rows.fixed(frame, run, dtype, self.missing))
            firsts.append(0)
        if self.buckets:
            blocks.append(self._hashed(frame))
            firsts.append(at)
        return rows.beside(blocks, firsts, self.width or 0)

    def _words(self, frame: Frame, one: Feature) -> Csr:
        """Counts of the words of the vocabulary; others are passed over."""
        import pyarrow as pa
        import pyarrow.compute as pc

        bounds, index, words = columns.tokens(frame.columns[one.name])
        place = pc.index_in(words, value_set=pa.array(one.vocabulary, pa.string())).fill_null(-1)
        places = place.to_numpy(zero_copy_only=False)[index] if len(index) else index
        return rows.counted(bounds, places, np.ones(len(places), self.dtype or "float32"), one.width)

    def _hashed(self, frame: Frame) -> Csr:
        """All hashed columns, in the same buckets."""
        from trivium.data.transforms import Hash

        step = Hash(self.buckets)
        blocks = []
        for one in self.features:
            if not one.hashed:
                continue
            if one.kind == "text":
                bounds, index, words = columns.tokens(frame.columns[one.name])
            else:
                index, words = columns.levels(frame.columns[one.name])
                bounds = np.concatenate([[0], np.cumsum(index >= 0)])
                index = index[index >= 0]
            bucket, sign = step.places(columns.hash_keys(one.name, words))
            blocks.append(Csr(bounds, bucket[index], sign[index].astype(self.dtype or "float32"), self.buckets))
        whole = rows.beside(blocks, [0] * len(blocks), self.buckets)
        return rows.counted(whole.indptr, whole.indices, whole.values, self.buckets)


def _float_type(kind: np.dtype[Any]) -> np.dtype[Any]:
    """The float type that holds what ``kind`` holds, as far as one does."""
    if kind in (np.float32, np.float64):
        return kind
    return np.dtype(np.float32 if kind.kind == "b" or kind.itemsize <= 2 else np.float64)


def dense_is_cheaper(features: Sequence[Feature]) -> bool:
    """Whether rows of one-hot categories and numbers are better kept dense."""
    width = sum(one.width for one in features)
    return width <= WIDEST_DENSE and width <= LANES * len(features)


def _check_finite(frame: Frame, x: NDArray[Any] | Csr, values: NDArray[Any]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(values)):
            return
    wrong = ~np.isfinite(values)
    if not wrong.any():
        return
    at = int(np.flatnonzero(wrong.reshape(-1))[0])
    if isinstance(x, Csr):
        row, feature = int(np.searchsorted(x.indptr, at, side="right")) - 1, int(x.indices[at]) + 1
        bad = np.zeros(frame.rows, bool)
        bad[np.searchsorted(x.indptr, np.flatnonzero(wrong), side="right") - 1] = True
    else:
        row, feature = at // (values.size // len(values)), at % (values.size // len(values)) + 1
        bad = wrong.reshape(len(values), -1).any(axis=1)
    raise BadValueError(
        columns.place_of(frame, row),
        np.flatnonzero(bad),
        f"feature {feature}: found {values.reshape(-1)[at]}, expected a finite number",
        "correct it, or use prep='impute' (--prep impute)",
    )


def _number(frame: Frame, row: int) -> int:
    """The line or row number of ``row`` (from 0) of ``frame`` in its file."""
    return int(frame.line(row))


def _without(frame: Frame, bad: NDArray[np.int64]) -> Frame:
    """``frame`` less some rows, which still knows where each stood."""
    kept = np.delete(np.arange(frame.rows, dtype=np.int64), bad)
    left = {name: _taken(column, kept) for name, column in frame.columns.items()}
    return _Rest(left, len(kept), frame.file, frame.first, frame.unit, frame.skipped, frame, kept)


def _taken(column: Any, kept: NDArray[np.int64]) -> Any:
    if isinstance(column, np.ndarray):
        return column[kept]
    if isinstance(column, Csr):
        from trivium.data.table import Table

        return Table({"x": column}).rows(kept).columns["x"]
    import pyarrow as pa

    return column.take(pa.array(kept))


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown}, … ({len(names)} in all)" if len(names) > _MOST_NAMED else shown
