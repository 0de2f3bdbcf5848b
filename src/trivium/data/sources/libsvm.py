"""LIBSVM (SVMlight) text: ``label index:value index:value … [# comment]``, indices from 1 and increasing in a row.

The file is cut into blocks at line ends; threads parse blocks without the GIL while this one reads, unpacks and hashes
the next. Blank lines and comment lines are passed over, ``qid:`` too, with a note. Values become float32 by way of the
correctly rounded float64. Pipelined like this a packed file takes as long as its unpacking.

Prior art: LIBSVM (Chang and Lin, *LIBSVM: A library for support vector machines*, 2011), SVMlight (Joachims, 1999).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.sources import labels as labelling
from trivium.data.sources.growing import Growing
from trivium.data.sources.stream import ByteStream
from trivium.data.table import Csr, Table
from trivium.errors import DataError

__all__ = ["HIGHEST_INDEX", "read_libsvm"]

HIGHEST_INDEX = 2**31 - 2
HIGHEST_UNASKED = 2**27  # without ``features``: beyond this an index is more likely a slip than a column
_BLOCK = 1 << 20
_BLOCKS_A_THREAD = 2  # parsed or waiting at one time; bounds memory when unpacking is faster than parsing
_PATIENCE = 600.0  # seconds for a block of a megabyte: only a stopped process reaches it
_SHOWN = 40
_FLOAT32_END = 2.0**128 - 2.0**103  # from here on float32 rounds to infinity


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
    limit = _limit(features)
    known = None if classes is None else labelling.checked_classes(classes)
    if known and isinstance(known[0], str):
        raise DataError(f"classes={labelling.class_names(known)}: labels of a LIBSVM file are numbers; give numbers")
    count = threads if threads is not None else len(os.sched_getaffinity(0))
    if count < 1:
        raise DataError(f"threads={threads}: expected 1 or more")
    stream = ByteStream(path)
    return _table(stream, _gather(stream, _Work(limit, known or None), count, features), features, known)


def _limit(features: int | None) -> int:
    if features is None:
        return HIGHEST_UNASKED
    if not 1 <= features <= HIGHEST_INDEX:
        raise DataError(f"features={features}: expected 1 to {HIGHEST_INDEX}")
    return features


@dataclass(frozen=True)
class _Piece:
    """The rows of one block. ``labels`` float64, or int32 class indices where the classes were known."""

    labels: NDArray[Any]
    counts: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    top: int
    qids: int
    lines: int
    size: int  # bytes of the text


@dataclass(frozen=True)
class _Fault:
    """Why a block could not be parsed; ``line`` counts from 0 within the block."""

    line: int
    text: str


@dataclass(frozen=True)
class _Work:
    """Parses blocks; runs on any thread."""

    limit: int
    classes: tuple[float | str, ...] | None

    def __call__(self, block: bytes) -> _Piece | _Fault:
        from trivium.data.sources import libsvm_kernel as kernel

        text = np.frombuffer(block, np.uint8)
        lines, colons = kernel.count(text)
        labels, starts = np.empty(lines), np.empty(lines, np.int64)
        indptr = np.empty(lines + 1, np.int64)
        indices, values = np.empty(colons, np.int32), np.empty(colons, np.float32)
        slow = np.empty((64, 3), np.int64)
        while True:
            rows, stored, late, top, qids, code, at = kernel.parse(
                text, self.limit, labels, starts, indptr, indices, values, slow
            )
            if code != kernel.FULL:
                break
            slow = np.empty((lines + colons, 3), np.int64)
        fault = _settle(block, slow[:late], labels, values)
        if fault is not None:
            return fault
        if code != kernel.OK:
            return _fault(block, at, self._reason(block, at, code))
        piece = _Piece(
            labels[:rows],
            np.diff(indptr[: rows + 1]),
            indices[:stored],
            values[:stored],
            top,
            qids,
            lines,
            len(block),
        )
        return piece if self.classes is None else self._encoded(piece, block, starts)

    def _encoded(self, piece: _Piece, block: bytes, starts: NDArray[np.int64]) -> _Piece | _Fault:
        assert self.classes is not None
        y = labelling.encode_as(piece.labels, self.classes)
        if len(y) and y.min() < 0:
            row = int(np.argmin(y))
            return _fault(
                block,
                int(starts[row]),
                f"label {_token(block, int(starts[row]))!r} is none of classes={labelling.class_names(self.classes)}; "
                "give all classes, or leave the option out",
            )
        return replace(piece, labels=y)

    def _reason(self, block: bytes, at: int, code: int) -> str:
        from trivium.data.sources import libsvm_kernel as kernel

        token = _token(block, at)
        index, _, value = token.partition(":")
        if code == kernel.BAD_LABEL:
            return _label_reason(token)
        if code == kernel.LOW_INDEX:
            return f"found {token!r}, expected indices from 1; the file counts from 0: add 1 to every index"
        if code == kernel.UNORDERED:
            return f"found {token!r} behind an index as high or higher, expected increasing indices; sort each row"
        if code == kernel.HIGH_INDEX:
            return self._high_reason(index)
        if code == kernel.BAD_VALUE:
            return _value_reason(token, value)
        return f"found {token!r}, expected index:value with a whole number from 1 before the colon; correct the line"

    def _high_reason(self, index: str) -> str:
        if self.limit == HIGHEST_INDEX:
            return f"found index {index}, expected at most {HIGHEST_INDEX}; number the columns anew"
        if self.limit == HIGHEST_UNASKED:
            return (
                f"found index {index}, expected at most {HIGHEST_UNASKED} where the number of columns is not given; "
                "correct the index, number the columns anew, or read the file with features="
            )
        return (
            f"found index {index}, expected at most features={self.limit}; raise features (for the training set too) "
            "or remove the column"
        )


def _settle(block: bytes, slow: NDArray[np.int64], labels: NDArray[Any], values: NDArray[Any]) -> _Fault | None:
    """Round the few numbers that the kernel left open."""
    for first, after, place in slow.tolist():
        number = float(block[first:after])
        if place < 0:
            labels[-1 - place] = number
            if abs(number) >= _FLOAT32_END:
                return _fault(block, first, _label_reason(_token(block, first)))
            continue
        if abs(number) >= _FLOAT32_END:
            return _fault(block, first, _value_reason(_token(block, first), _token(block, first)))
        values[place] = number
    return None


def _token(block: bytes, at: int) -> str:
    """What stands at ``at`` up to the next blank, shortened for a message."""
    word = block[at : at + 4 * _SHOWN].split(b"\n", 1)[0].split(b"#", 1)[0].split(None, 1)
    text = (word[0] if word else b"").decode("utf-8", "backslashreplace")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _label_reason(token: str) -> str:
    if "," in token:
        return f"label {token!r} is several, expected one number; keep one label a row"
    if ":" in token:
        return f"found {token!r} where the label should be, expected a number; put the label first"
    return f"label {token!r} is no finite float32 number, expected 'label index:value …'; correct the line"


def _value_reason(token: str, value: str) -> str:
    try:
        float(value)
    except ValueError:
        return f"found {token!r}, expected a number behind the colon; correct the line"
    if "n" in value.lower():  # nan, inf
        return f"found {token!r}, expected a finite value; leave the column out of the row or fill it in"
    return f"found {token!r}, expected a value below 3.4e38 in size (float32); scale the column"


def _fault(block: bytes, at: int, text: str) -> _Fault:
    return _Fault(block.count(b"\n", 0, at), text)


class _Rows:
    """What was parsed so far."""

    def __init__(self) -> None:
        self.labels: list[NDArray[Any]] = []
        self.counts: list[NDArray[np.int64]] = []
        self.indices, self.values = Growing(np.int32), Growing(np.float32)
        self.lines = self.stored = self.size = self.top = self.qids = 0

    def add(self, piece: _Piece, whole: float) -> None:
        """Take ``piece`` in, of a text of ``whole`` bytes."""
        self.labels.append(piece.labels)
        self.counts.append(piece.counts)
        self.lines += piece.lines
        self.stored += len(piece.values)
        self.size += piece.size
        self.qids += piece.qids
        self.top = max(self.top, piece.top)
        expected = self.stored * whole / self.size
        self.indices.append(piece.indices, expected)
        self.values.append(piece.values, expected)


def _gather(stream: ByteStream, work: _Work, threads: int, features: int | None) -> _Rows:
    """All rows in order; the first fault in the file is raised."""
    rows = _Rows()
    for result in _results(_blocks(stream), work, threads):
        if isinstance(result, _Fault):
            raise DataError(f"{stream.path}: line {rows.lines + result.line + 1}: {result.text}")
        rows.add(result, stream.expected)
    if not any(map(len, rows.labels)):
        raise DataError(f"{stream.path}: has no row in {rows.lines} lines, expected 'label index:value …'")
    if features is None and not rows.top:
        raise DataError(f"{stream.path}: no row has an index:value, expected at least one; or give features=")
    return rows


def _results(blocks: Iterable[bytes], work: _Work, threads: int) -> Iterator[_Piece | _Fault]:
    if threads == 1:
        yield from map(work, blocks)
        return
    pending: deque[Future[_Piece | _Fault]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="libsvm") as pool:
        for block in blocks:
            pending.append(pool.submit(work, block))
            if len(pending) > threads * _BLOCKS_A_THREAD:
                yield pending.popleft().result(_PATIENCE)
        while pending:
            yield pending.popleft().result(_PATIENCE)


def _blocks(stream: ByteStream) -> Iterator[bytes]:
    """Pieces of whole lines of about a megabyte; the last line gets its newline if it lacks it."""
    parts: list[bytes] = []
    size, first = 0, True
    for piece in stream:
        if first:
            _check_text(stream, piece)
            first = False
        end = piece.rfind(b"\n") + 1
        if size + end >= _BLOCK and end:
            yield b"".join([*parts, piece[:end]])
            parts, size = [], 0
            piece = piece[end:]  # noqa: PLW2901 - what is left of it
        parts.append(piece)
        size += len(piece)
    if size:
        yield b"".join([*parts, b"" if parts[-1].endswith(b"\n") else b"\n"])


def _check_text(stream: ByteStream, piece: bytes) -> None:
    start = piece[:4096]
    if b"\0" in start:
        raise DataError(
            f"{stream.path}: starts with {start[:8]!r} and is not text, expected lines of 'label index:value …'; check "
            "the file's format"
        )


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
