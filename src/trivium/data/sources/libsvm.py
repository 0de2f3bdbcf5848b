"""LIBSVM (SVMlight) text: ``label index:value index:value … [# comment]``, indices from 1 and increasing in a row.

The file is cut into blocks at line ends; threads parse blocks without the GIL while this one reads and unpacks the
next. Blank lines, comment lines and a byte order mark are passed over, ``qid:`` too, with a note. Values become float32
by way of the correctly rounded float64. Pipelined like this a packed file takes as long as its unpacking.

Prior art: LIBSVM (Chang and Lin, *LIBSVM: A library for support vector machines*, 2011), SVMlight (Joachims, 1999).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.frame import in_order
from trivium.data.sources import labels as labelling
from trivium.data.sources.growing import Growing
from trivium.data.sources.libsvm_block import HIGHEST_INDEX, HIGHEST_UNASKED, BlockParser, Piece
from trivium.data.sources.lines import Fault, blocks
from trivium.data.sources.stream import ByteStream
from trivium.data.table import Csr, Table
from trivium.errors import DataError

__all__ = ["HIGHEST_INDEX", "WANTS", "highest_index", "read_libsvm"]

WANTS = "lines of 'label index:value …'"


def read_libsvm(
    path: str | os.PathLike[str],
    *,
    features: int | None = None,
    classes: Sequence[float | str] | None = None,
    threads: int | None = None,
) -> Table:
    """Read a LIBSVM file, plain, gzip or xz, into CSR.

    ``features``: number of columns (default: the highest index, at most 2²⁷ then). ``classes``: what the labels are, in
    order (default: the sorted labels if all are integers, else regression); the empty tuple asks for regression. Read a
    test set with ``features`` and ``classes`` of the training set. ``threads`` at most (default: all allowed cores).

    Returns a table with ``x`` CSR (indices int32 from 0, values float32) and ``y`` (int32 class index, or float32).
    Raises ``DataError`` with file, line, what was found and what was expected.
    """
    limit = highest_index(features)
    known = None if classes is None else labelling.checked_classes(classes)
    if known and isinstance(known[0], str):
        raise DataError(f"classes={labelling.class_names(known)}: labels of a LIBSVM file are numbers; give numbers")
    if threads is not None and threads < 1:
        raise DataError(f"threads={threads}: expected 1 or more")
    stream = ByteStream(path)
    found = in_order(BlockParser(limit, known or None), blocks(stream, stream.path, WANTS), threads)
    return _table(stream, _gather(stream, found, features), features, known)


def highest_index(features: int | None) -> int:
    """The highest index a file may hold that is read with ``features``. Raises ``DataError``."""
    if features is None:
        return HIGHEST_UNASKED
    if not 1 <= features <= HIGHEST_INDEX:
        raise DataError(f"features={features}: expected 1 to {HIGHEST_INDEX}")
    return features


class _Rows:
    """What was parsed so far."""

    def __init__(self) -> None:
        self.labels: list[NDArray[Any]] = []
        self.counts: list[NDArray[np.int64]] = []
        self.indices, self.values = Growing(np.int32), Growing(np.float32)
        self.lines = self.stored = self.size = self.top = self.qids = 0

    def add(self, piece: Piece, whole: float) -> None:
        """Take ``piece`` in, of a text of ``whole`` bytes."""
        self.labels.append(piece.labels)
        self.counts.append(np.diff(piece.indptr))
        self.lines += piece.lines
        self.stored += len(piece.values)
        self.size += piece.size
        self.qids += piece.qids
        self.top = max(self.top, piece.top)
        expected = self.stored * whole / self.size
        self.indices.append(piece.indices, expected)
        self.values.append(piece.values, expected)


def _gather(stream: ByteStream, found: Iterable[Piece | Fault], features: int | None) -> _Rows:
    """All rows in order; the first fault in the file is raised."""
    rows = _Rows()
    for result in found:
        if isinstance(result, Fault):
            raise DataError(f"{stream.path}: line {rows.lines + result.line + 1}: {result.text}")
        rows.add(result, stream.expected)
    if not any(map(len, rows.labels)):
        raise DataError(f"{stream.path}: has no row in {rows.lines} lines, expected 'label index:value …'")
    if features is None and not rows.top:
        raise DataError(f"{stream.path}: no row has an index:value, expected at least one; or give features=")
    return rows


def _table(stream: ByteStream, rows: _Rows, features: int | None, known: tuple[float | str, ...] | None) -> Table:
    labels = np.concatenate(rows.labels)
    indptr = np.zeros(len(labels) + 1, np.int64)
    np.cumsum(np.concatenate(rows.counts), out=indptr[1:])
    y, classes = _labels(labels, known)
    width = features if features is not None else rows.top
    notes = labelling.many_classes_note(classes) if known is None else ()
    if rows.qids:
        notes += (f"passed over qid: in {rows.qids} rows; ranking is not supported",)
    return Table(
        {"x": Csr(indptr, rows.indices.result(), rows.values.result(), width), "y": y},
        classes,
        name=_name(stream),
        fingerprint=stream.fingerprint,
        notes=notes,
    )


def _labels(
    labels: NDArray[Any], known: tuple[float | str, ...] | None
) -> tuple[NDArray[Any], tuple[float | str, ...]]:
    if known is None:
        return labelling.encode(labels)
    return (labels, known) if known else (labels.astype(np.float32), known)


def _name(stream: ByteStream) -> str:
    name = stream.path.name
    return name.removesuffix(".gz").removesuffix(".xz")
