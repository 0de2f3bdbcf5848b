"""A data set that is read when it is needed: a source, what its columns mean, and what is done to them.

From source to table
--------------------
1. The **encoding** is fitted: which column is what. Only categories and text take a pass over the data for that.
2. Partitions are read and encoded in parallel, in bounded memory, into a spool: files in the cache, or memory.
3. **Shares** of the rows are taken, one of the other, as they were asked for; then the **steps** are fitted, one
   after the other, on the rows that are left, and applied.

The tables of 2 and 3 are kept in the cache under keys that say all they follow from. A table from the cache is mapped,
not read: processes that train on it share its pages, and rows that do not fit memory pass through it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.cache import VERSION, Cache, Draft
from trivium.data.frame import BadRow, Field, Frame, Partition, Source, in_order
from trivium.data.reading import Reading, prepared
from trivium.data.spool import DiskSpool, MemorySpool, Spool, digest_of
from trivium.data.table import Csr, DataSpec, Table
from trivium.data.transforms.base import Transform
from trivium.errors import DataError, StorageError

if TYPE_CHECKING:
    from trivium.data.encode import Encoding
    from trivium.data.sources.places import Places

__all__ = ["Dataset", "Share", "Wanted", "share_index"]

log = logging.getLogger(__name__)
STRIP_BYTES = 8 << 20  # of rows that are prepared at a time by one thread
SMALL = 256 << 20  # bytes of a table of which a share is taken in memory
MOST_ROWS = 1 << 20  # of a strip
UNPACKED = 8  # times a file's bytes, and its rows are in memory


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None: found out. ``features``: how many there are, or which columns."""

    label: str | None = None
    weight: str | None = None
    features: int | tuple[str, ...] | None = None
    classes: tuple[float | str, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Share:
    """One side of a random split: "train", or the ``fraction`` of the rows that is held out, "valid"."""

    fraction: float
    seed: int
    side: str


@dataclass
class _Made:
    """What was found out or read so far; filled once."""

    lock: Any = field(default_factory=threading.RLock)
    raw: Table | None = None
    table: Table | None = None
    encoded: Reading | None = None  # how the raw rows were encoded
    reading: Reading | None = None  # with the steps
    skipped: tuple[BadRow, ...] = ()


@dataclass(frozen=True, repr=False)
class Dataset:
    """Rows of a source; made by ``trivium.read`` and its kin.

    ``fit`` is what the rows of another data set were read with, which these are to be read with too; else that follows
    from ``wanted`` and ``steps``. ``shares`` are taken one of the other; of held-out rows ``parent`` is the other side,
    on which their steps are fitted. ``asked`` is what ``read`` was asked for.

    >>> import trivium as tv
    >>> data = tv.read("synthetic:1000x20")
    >>> data.spec.rows, data.spec.features, len(data.take(3))
    (1000, 20, 3)
    """

    source: Source
    wanted: Wanted = field(default_factory=Wanted)
    steps: tuple[Transform, ...] = ()
    fit: Reading | None = None
    shares: tuple[Share, ...] = ()
    parent: Dataset | None = None
    cache: Cache | None = None
    threads: int | None = None
    asked: Mapping[str, Any] | None = field(default=None, compare=False)
    made: _Made = field(default_factory=_Made, compare=False, repr=False)

    def __repr__(self) -> str:
        """Its name, and what is known of it so far; nothing is read."""
        table, steps = self.made.table, ", ".join(step.name for step in self.steps)
        known = f", {len(table):,} rows × {table.spec.features:,} features" if table is not None else ", not read yet"
        label = f", label {self.wanted.label}" if self.wanted.label else ""
        return f"<Dataset {self.name}: {self.source.format}{known}{label}{', ' + steps if steps else ''}>"

    # -- looking ------------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    def fields(self) -> tuple[Field, ...]:
        """The columns as they are in the source; DataError where it cannot be read."""
        return self.source.fields()

    def partitions(self) -> tuple[Partition, ...]:
        """The parts that are read by themselves; nothing but heads and footers is looked at."""
        return self.source.partitions()

    def take(self, rows: int) -> Table:
        """The first ``rows`` rows, as a program sees them."""
        table = self.table()
        return table.rows(np.arange(min(rows, len(table)), dtype=np.int64))

    @property
    def spec(self) -> DataSpec:
        """Shapes and classes; reads the data if that has not been done."""
        return self.table().spec

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the rows; reads the data if that has not been done."""
        return self.table().fingerprint

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """Rows that were passed over."""
        self.table()
        return self.made.skipped

    @property
    def reading(self) -> Reading:
        """What another data set must be read with to mean the same."""
        self.table()
        assert self.made.reading is not None
        return self.made.reading

    def __len__(self) -> int:
        return len(self.table())

    # -- making others ------------------------------------------------------------------------------------------------
    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Without, and with, a random ``fraction`` of these rows. Steps are fitted on the first; the second uses them.

        Raises ``DataError`` where either would be empty.

        >>> import trivium as tv
        >>> rest, test = tv.read("synthetic:1000x20").split(0.2)
        >>> [len(side) for side in rest.split(0.25)]
        [600, 200]
        """
        sides = [(*self.shares, Share(fraction, seed, side)) for side in ("train", "valid")]
        share_index(len(self._raw()), sides[0])
        train = dataclasses.replace(self, shares=sides[0], made=self._undone())
        parent = self.parent if self.parent is not None else train
        return train, dataclasses.replace(self, shares=sides[1], parent=parent, made=self._undone())

    def _undone(self) -> _Made:
        """What holds of other shares of the same rows as well."""
        return _Made(raw=self._raw(), encoded=self.made.encoded, skipped=self.made.skipped)

    def prepared_by(self, *steps: Transform) -> Dataset:
        """The same rows with further ``steps``, as ``trivium.transforms`` has them.

        Raises ``DataError`` for rows that are read like others: what is done to those is done to them.
        """
        if self.fit is not None:
            raise DataError(f"{self.name} is read like other rows (like=…); prepare those, and read it like them")
        parent = None if self.parent is None else self.parent.prepared_by(*steps)
        return dataclasses.replace(self, steps=(*self.steps, *steps), parent=parent, made=_Made())

    def of_amounts(self) -> Dataset:
        """These rows with labels that are numbers to be predicted, even where they are whole; as they are where it was
        said what the labels are.
        """
        if self.fit is not None or self.wanted.classes is not None or self.shares:
            return self
        return dataclasses.replace(self, wanted=dataclasses.replace(self.wanted, classes=()), made=_Made())

    def recipe(self) -> dict[str, Any] | None:
        """How the same rows can be read again (``trivium.data.read.from_recipe``), in JSON's types; None where they
        lie in memory only.
        """
        if self.asked is None:
            return None
        return {**self.asked, "name": self.name, "shares": [dataclasses.asdict(one) for one in self.shares]}

    # -- reading ------------------------------------------------------------------------------------------------------
    def table(self) -> Table:
        """All rows, as a program sees them: mapped from the cache, or in memory where there is none."""
        with self.made.lock:
            if self.made.table is None:
                raw = self._raw()
                self.made.table = self._prepare(raw) if self.shares or self._steps else raw
            return self.made.table

    def tables(self) -> Iterator[Table]:
        """The rows a piece at a time, without labels and, but for shares, without the cache: for prediction."""
        if self.shares:
            table = self.table()
            for rows in _strips(table, None):
                part = table.rows(rows)
                yield dataclasses.replace(part, columns={"x": part.columns["x"]})
            return
        fit = self.fit or self.reading
        fit.encoding.check(self.source)
        yield from fit.tables(self.source.frames(fit.encoding.feature_columns, self.threads))

    @property
    def _steps(self) -> tuple[Transform, ...]:
        """What is left to do to the rows as they were encoded; only after that."""
        if self.fit is not None:
            return self.fit.steps
        assert self.made.encoded is not None
        kinds = {one.kind for one in self.made.encoded.encoding.features}
        return tuple(step for step in self.steps if not step.consumed(kinds))

    def _raw(self) -> Table:
        with self.made.lock:
            if self.made.raw is None:
                self.made.raw = self._read()
            return self.made.raw

    def _read(self) -> Table:
        from trivium.data.encode import Encoding

        cache = self.cache if self.source.cacheable else None
        if cache is None:
            return self._fill(MemorySpool(), self._encoding(), None)
        about = self.fit.encoding.as_json() if self.fit is not None else dataclasses.asdict(self.wanted)
        steers = [step.name for step in self.steps]  # some say what becomes of categories and missing numbers
        key = _key("raw", self.source.stamp(), about, steers)
        if (found := cache.find(key)) is not None:
            table, extra = found
            skipped = tuple(BadRow(**one) for one in extra["skipped"])
            self._remember(Encoding.from_json(extra["encoding"]), table.scale, skipped)
            return table
        encoding = self._encoding()
        try:
            with cache.draft(key) as draft:
                return self._fill(DiskSpool(draft.folder), encoding, draft)
        except StorageError as error:
            self._small_enough(error)
            return self._fill(MemorySpool(), encoding, None)

    def _small_enough(self, error: StorageError) -> None:
        """Whether the rows may be read into memory where the cache takes them not; else raises ``error``."""
        import psutil

        nbytes = sum(one.nbytes for one in self.source.partitions())
        if UNPACKED * nbytes > psutil.virtual_memory().available:
            raise error
        log.warning("%s; reading into memory", error)

    def _encoding(self) -> Any:
        from trivium.data.encode import fit_encoding

        if self.fit is not None:
            self.fit.encoding.check(self.source, labelled=True)
            return self.fit.encoding
        wanted = self.wanted
        return fit_encoding(
            self.source,
            label=wanted.label,
            weight=wanted.weight,
            features=wanted.features,
            classes=() if wanted.classes is None and self.source.amounts else wanted.classes,
            dtype=wanted.dtype,
            prep=self.steps,
            threads=self.threads,
        )

    def _fill(self, spool: Spool, encoding: Any, draft: Draft | None) -> Table:
        """Read everything into ``spool``."""
        from trivium.data.encode import settle_labels

        labels: list[Any] = []
        skipped: list[BadRow] = []
        places: Places | None = getattr(self.source, "places", None)
        try:
            for columns, label, digest, bad in self._pieces(encoding):
                skipped += bad
                self._check_bad(skipped)
                if columns is not None:
                    spool.add(columns, digest)
                    labels.append(label)
            if places is not None:
                places.check()
            if not spool.rows:
                raise DataError(f"{self.name}: has no row, expected at least one; check how it was written")
            notes: tuple[str, ...] = ()
            classes: tuple[float | str, ...] = ()
            if labels[0] is not None:
                y, classes, notes = settle_labels(labels, encoding.classes, encoding.dtype or "float32")
                spool.put("y", y)
        except BaseException:
            if isinstance(spool, DiskSpool):
                spool.close()
            raise
        columns, mapped = spool.finish()
        notes += () if places is None else places.notes
        weight = columns.get("weight")
        if isinstance(weight, np.ndarray) and not weight.any():
            raise DataError(f"{self.name}: the weight is 0 in every row, expected some above 0")
        if skipped:
            notes += (f"passed over {len(skipped)} bad rows",)
        x = columns.get("x")
        width = x.width if isinstance(x, Csr) else None
        if isinstance(x, Csr) and encoding.width:
            columns["x"] = dataclasses.replace(x, width=encoding.width)
            width = encoding.width
        encoding = dataclasses.replace(encoding, classes=classes, width=width if width is not None else encoding.width)
        table = Table(columns, classes, self.source.scale, self.name, spool.fingerprint, notes, mapped)
        self._remember(encoding, self.source.scale, tuple(skipped))
        if draft is None:
            return table
        extra = {"encoding": encoding.as_json(), "skipped": [dataclasses.asdict(one) for one in skipped]}
        return draft.commit(table, extra)

    def _remember(self, encoding: Encoding, scale: float, skipped: tuple[BadRow, ...]) -> None:
        self.made.encoded = Reading(encoding, (), scale)
        self.made.reading = self.fit or self.made.encoded
        self.made.skipped = skipped

    def _pieces(self, encoding: Any) -> Iterator[tuple[dict[str, Any] | None, Any, bytes, tuple[BadRow, ...]]]:
        """Columns, labels, digest and bad rows of each frame, in order; encoded by the threads that read."""
        source, inputs = self.source, encoding.inputs

        def encoded(frame: Frame) -> tuple[dict[str, Any] | None, Any, bytes, tuple[BadRow, ...]]:
            if not frame.rows:
                return None, None, b"", frame.skipped
            piece = encoding.encode(frame, max_bad_rows=source.max_bad_rows)
            bad = (*frame.skipped, *piece.skipped)
            columns = {"x": piece.x, **piece.columns}
            if piece.weight is not None:
                columns["weight"] = piece.weight
            return (columns, piece.label, digest_of(columns), bad) if len(piece.x) else (None, None, b"", bad)

        if source.streams:
            yield from map(encoded, source.frames(inputs, self.threads))
        else:
            yield from in_order(lambda one: encoded(source.read(one, inputs)), source.partitions(), self.threads)

    def _check_bad(self, skipped: list[BadRow]) -> None:
        most = self.source.max_bad_rows
        if len(skipped) > most:
            first = skipped[0]
            raise DataError(
                f"{first.file}: line {first.line}: {first.why} (and {len(skipped) - 1} more such rows so far); at most "
                f"{most} bad rows are allowed"
            )

    # -- preparing ----------------------------------------------------------------------------------------------------
    def _prepare(self, raw: Table) -> Table:
        """The share's rows after the steps, fitted where they are not."""
        assert self.made.encoded is not None
        index = share_index(len(raw), self.shares) if self.shares else None
        encoding, steps = (self.fit or self.made.encoded).encoding, self._fitted(raw, index)
        self.made.reading = Reading(encoding, steps, raw.scale)
        shares = [dataclasses.asdict(one) for one in self.shares]
        mark = _key("prepared", raw.fingerprint, shares, self.made.reading.mark)
        if index is not None and not steps and (raw.nbytes < SMALL or not raw.mapped):
            return dataclasses.replace(raw.rows(index), fingerprint=mark)
        if not raw.mapped or self.cache is None:
            return self._apply(raw, index, steps, MemorySpool(), mark)
        found = self.cache.find(mark)
        if found is not None:
            return found[0]
        try:
            with self.cache.draft(mark) as draft:
                return draft.commit(self._apply(raw, index, steps, DiskSpool(draft.folder), mark), {})
        except StorageError as error:
            self._small_enough(error)
            return self._apply(raw, index, steps, MemorySpool(), mark)

    def _fitted(self, raw: Table, index: NDArray[np.int64] | None) -> tuple[Transform, ...]:
        if self.fit is not None:
            return self.fit.steps
        if self.parent is not None:
            return self.parent.reading.steps
        done: list[Transform] = []
        for step in self._steps:
            if step.fitted:
                done.append(step)
            else:
                done.append(step.fit(prepared(x, raw.scale, done) for x in _matrices(raw, index, bool(done))))
        return tuple(done)

    def _apply(
        self, raw: Table, index: NDArray[np.int64] | None, steps: tuple[Transform, ...], spool: Spool, mark: str
    ) -> Table:
        def strip(rows: NDArray[np.int64]) -> dict[str, Any]:
            part = raw.rows(rows)
            return {**part.columns, "x": prepared(part.columns["x"], raw.scale, steps)}

        for columns in in_order(strip, _strips(raw, index), self.threads):
            spool.add(columns, b"-")  # its mark says what it is
        columns, mapped = spool.finish()
        scale = 1.0 if steps else raw.scale
        return Table(columns, raw.classes, scale, raw.name, mark, raw.notes, mapped)


def share_index(rows: int, shares: Sequence[Share]) -> NDArray[np.int64]:
    """Which of ``rows`` rows are in ``shares``, each of the one before; they keep their order.

    Raises ``DataError`` where a side would be empty.

    >>> len(share_index(1000, [Share(0.1, 0, "train"), Share(0.5, 0, "valid")]))
    450
    """
    index = _side(rows, shares[0])
    for share in shares[1:]:
        index = index[_side(len(index), share)]
    return index


def _side(rows: int, share: Share) -> NDArray[np.int64]:
    """One side of a split of ``rows`` rows: a seeded permutation decides."""
    fraction = share.fraction
    if not 0 < fraction < 1:
        raise DataError(f"a validation part of {fraction} of the rows: expected a number between 0 and 1, as 0.1")
    held = round(rows * fraction)
    if not 0 < held < rows:
        raise DataError(f"a validation part of {fraction} of {rows} rows leaves one side empty; change it or add rows")
    order = np.random.default_rng(share.seed).permutation(rows)
    return np.sort(order[held:] if share.side == "train" else order[:held])


def _strips(table: Table, index: NDArray[np.int64] | None) -> Iterator[NDArray[np.int64]]:
    """The rows of ``index`` (None: all) in runs of about ``STRIP_BYTES``."""
    total = len(table) if index is None else len(index)
    rows = int(max(1, min(MOST_ROWS, STRIP_BYTES * len(table) // max(table.nbytes, 1))))
    for lo in range(0, total, rows):
        hi = min(lo + rows, total)
        yield np.arange(lo, hi, dtype=np.int64) if index is None else index[lo:hi]


def _matrices(table: Table, index: NDArray[np.int64] | None, scaled: bool) -> Iterator[Any]:
    """The features of ``table`` in strips, scaled unless a step does that."""
    for rows in _strips(table, index):
        x = table.rows(rows).columns["x"]
        if not scaled and not isinstance(x, Csr):
            x = x.reshape(len(x), -1)
            if x.dtype == np.uint8 or table.scale != 1.0:
                x = x.astype(np.float32) * np.float32(table.scale)
        yield x


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts], sort_keys=True, default=str).encode()).hexdigest()
