"""Sources whose rows are a matrix already: LIBSVM text, IDX images, and what is made or comes with scikit-learn."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trivium.data.frame import Field, Frame, Partition, Source
from trivium.data.sources import idx, synthetic
from trivium.data.sources.libsvm import WANTS, highest_index
from trivium.data.sources.libsvm_block import BlockParser
from trivium.data.sources.lines import Fault, LineSource, Rows, picked
from trivium.data.sources.places import Places
from trivium.data.table import Csr, Table
from trivium.errors import DataError, unknown

__all__ = ["IdxSource", "LibsvmSource", "SklearnSource", "SyntheticSource"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LibsvmSource(LineSource):
    r"""LIBSVM text: columns ``x`` (CSR, float32) and ``label`` (float64).

    ``features``: how many columns there are; without it an index above 2²⁷ is an error, and the ``x`` of a frame is as
    wide as its highest index. At most ``max_bad_rows`` lines are passed over.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from trivium.data.sources.places import resolve
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows")
    ...     _ = path.write_text("-1 1:0.5 3:2\n+1 2:1\n")
    ...     frame = next(LibsvmSource(resolve(path)).frames(threads=1))
    >>> frame.columns["x"].indices, frame.columns["label"]
    (array([0, 2, 1], dtype=int32), array([-1.,  1.]))
    """

    features: int | None = None
    format: str = "libsvm"
    label: str | None = "label"
    wants: ClassVar[str] = WANTS

    def __post_init__(self) -> None:
        highest_index(self.features)

    @property
    def options(self) -> tuple[Any, ...]:
        """The number of columns."""
        return (self.features,)

    def fields(self) -> tuple[Field, ...]:
        """``x``, whose shape is empty unless ``features`` was given, and ``label``."""
        self.head()
        shape = () if self.features is None else (self.features,)
        return Field("x", "sparse", "float32", shape), Field("label", "number", "float64")

    def parse(self, block: bytes, columns: Sequence[str] | None, start: bool) -> Rows | Fault:  # noqa: ARG002
        """The rows of ``block``."""
        piece = BlockParser(highest_index(self.features), most_bad=self.max_bad_rows)(block)
        if isinstance(piece, Fault):
            return piece
        if piece.qids:
            log.warning("%s: passed over qid: in %d rows; ranking is not supported", self.name, piece.qids)
        x = Csr(piece.indptr, piece.indices, piece.values, self.features or piece.top)
        found = {"x": x, "label": piece.labels}
        return Rows(picked(found, columns), len(piece.labels), piece.lines, piece.offsets, piece.bad)


@dataclass(frozen=True)
class IdxSource(Source):
    """Images in an IDX file and labels in another: columns ``x`` uint8 (rows, pixels) and ``label`` (float64).

    ``places``: a folder with ``train-images*`` and ``train-labels*`` (``t10k-…`` for ``part="test"``), the file of
    images with that of labels beside it, or both files.
    """

    places: Places
    part: str = "train"
    format: str = "idx"
    label: str | None = "label"
    scale: float = 1 / 255
    streams: bool = True

    def __post_init__(self) -> None:
        if self.part not in idx.PREFIXES:
            raise DataError(unknown("part", self.part, idx.PREFIXES))

    @property
    def name(self) -> str:
        """What the person named."""
        return self.places.name

    def stamp(self) -> str:
        """Paths, sizes and times of both files."""
        labels = idx.labels_beside(self._images)
        beside = "" if labels is None else f"{labels} {labels.stat().st_size} {labels.stat().st_mtime_ns}"
        told = f"idx 1 {self.places.stamp()} {self.part} {self._images} {beside}"
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """``x``, a row of pixels an image, and ``label``, which is missed only where it is read."""
        _, pixels = self._shape
        return Field("x", "pixels", "uint8", (pixels,)), Field("label", "number", "float64")

    def partitions(self) -> tuple[Partition, ...]:
        """One: the file is packed, most often, and read from its beginning."""
        rows, _ = self._shape
        return (Partition(str(self._images), 0, rows, rows, self._images.stat().st_size),)

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:  # noqa: ARG002 - the only one
        """All images."""
        parts = list(self.frames(columns))
        joined = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        return Frame(joined, sum(part.rows for part in parts), str(self._images))

    def frames(self, columns: Sequence[str] | None = None, threads: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """Images in order, some megabytes at a time."""
        rows, _ = self._shape
        labels: Any = None
        if columns is None or "label" in columns:
            labels = idx.read_labels(self._images, rows).astype(np.float64)
        at = 0
        for x in idx.image_pieces(self._images):
            found = {"x": x} if labels is None else {"x": x, "label": labels[at : at + len(x)]}
            yield Frame(picked(found, columns), len(x), str(self._images), at + 1)
            at += len(x)

    @property
    def _images(self) -> Path:
        if not self.places.local:
            raise DataError(f"{self.name}: IDX files are read from this machine's disks only; copy them here")
        if self.places.root is not None:
            return idx.find_images(Path(self.places.root), self.part)
        paths = [Path(place.path) for place in self.places.files]
        images = [path for path in paths if "images" in path.name] or paths
        if len(images) > 1:
            images = [path for path in images if path.name.startswith(idx.PREFIXES[self.part])] or images
        return images[0]

    @property
    def _shape(self) -> tuple[int, int]:
        return idx.image_sizes(self._images)


@dataclass(frozen=True)
class _Made(Source):
    """What is made from a name: ``synthetic:…`` and ``sklearn:…``."""

    places: Places
    part: str = "train"
    cacheable: bool = False
    label: str | None = "label"

    def __post_init__(self) -> None:
        if self.part not in synthetic.PARTS:
            raise DataError(unknown("part", self.part, synthetic.PARTS))

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self.places.name


@dataclass(frozen=True)
class SyntheticSource(_Made):
    """``synthetic:ROWSxCOLUMNS[:SEED]``: the rows of ``synthetic.make_two_class``, a partition at a time.

    >>> from trivium.data.sources.places import resolve
    >>> [one.rows for one in SyntheticSource(resolve("synthetic:3000x4")).partitions()]
    [3000]
    """

    format: str = "synthetic"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cacheable", self._size.partitions > 1)

    def stamp(self) -> str:
        """Of the name: the rows follow from it."""
        return hashlib.sha256(f"synthetic 2 {self._size!r} {self.part}".encode()).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """``x`` float32 and ``label``."""
        return Field("x", "pixels", "float32", (self._size.columns,)), Field("label", "number", "float64")

    def partitions(self) -> tuple[Partition, ...]:
        """Some megabytes of rows each; each has its own random stream."""
        size = self._size
        bounds = (size.bounds(at) for at in range(size.partitions))
        return tuple(
            Partition(self.name, start, stop, stop - start, (stop - start) * size.columns * 4, at)
            for at, (start, stop) in enumerate(bounds)
        )

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """The rows of ``partition``, the same each time."""
        x, y = synthetic.made_rows(self._size, partition.detail, self.part)
        found = {"x": x, "label": np.where(y, 1.0, -1.0)}
        return Frame(picked(found, columns), len(x), self.name, partition.start + 1)

    @property
    def _size(self) -> synthetic.Size:
        return synthetic.size_of(self.name)


@dataclass(frozen=True)
class SklearnSource(_Made):
    """``sklearn:digits`` and ``sklearn:breast_cancer``, which lie in scikit-learn's installation."""

    format: str = "sklearn"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scale", synthetic.scale_of(self.name))

    def stamp(self) -> str:
        """Of the name and the version of scikit-learn."""
        from importlib.metadata import version

        told = f"sklearn 1 {self.name} {self.part} {version('scikit-learn')}"
        return hashlib.sha256(told.encode()).hexdigest()

    def fields(self) -> tuple[Field, ...]:
        """``x`` and ``label``."""
        x = self._table.columns["x"]
        assert not isinstance(x, Csr)
        return Field("x", "pixels", str(x.dtype), x.shape[1:]), Field("label", "number", "float64")

    def partitions(self) -> tuple[Partition, ...]:
        """One."""
        rows = len(self._table)
        return (Partition(self.name, 0, rows, rows, self._table.nbytes),)

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> Frame:
        """All rows."""
        table = self._table
        labels = np.asarray(table.classes, np.float64)[np.asarray(table.columns["y"])]
        found = {"x": table.columns["x"], "label": labels}
        return Frame(picked(found, columns), partition.rows or 0, self.name)

    @property
    def _table(self) -> Table:
        return synthetic.read_sklearn(self.name, self.part)
