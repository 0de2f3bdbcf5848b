"""A block of LIBSVM text to arrays, or to the reason why not: the errors of the reader, and the rows it passes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.data.sources import labels as labelling
from trivium.data.sources.lines import Bad, Fault, shown

__all__ = ["HIGHEST_INDEX", "HIGHEST_UNASKED", "BlockParser", "Piece"]

HIGHEST_INDEX = 2**31 - 2
HIGHEST_UNASKED = 2**27  # without ``features``: beyond this an index is more likely a slip than a column
_SHOWN = 40
_FLOAT32_END = 2.0**128 - 2.0**103  # from here on float32 rounds to infinity


@dataclass(frozen=True)
class Piece:
    """The rows of one block. ``labels`` float64, or int32 class indices where the classes were known.

    ``indptr`` int64 (rows + 1,), ``top`` the highest index from 1, ``lines`` and ``size`` (bytes) of the text,
    ``offsets`` the line of each row from 0 (None where each line is a row).
    """

    labels: NDArray[Any]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    top: int
    qids: int
    lines: int
    size: int
    offsets: NDArray[np.int64] | None = None
    bad: tuple[Bad, ...] = ()


@dataclass(frozen=True)
class BlockParser:
    """Parses blocks of whole lines; runs on any thread.

    ``limit`` is the highest index allowed, ``classes`` what the labels may be (None: any number), ``most_bad`` how many
    lines at fault are passed over (one more is noted, and nothing behind it parsed).
    """

    limit: int = HIGHEST_UNASKED
    classes: tuple[float | str, ...] | None = None
    most_bad: int = 0

    def __call__(self, block: bytes) -> Piece | Fault:
        """The rows of ``block``, which ends with a newline."""
        found = self._parse(block)
        if isinstance(found, Piece) or not self.most_bad:
            return found
        return self._around(block, found)

    def _around(self, block: bytes, fault: Fault) -> Piece:
        """The rows without the lines at fault. What stands before a fault is parsed twice, nothing more often."""
        done: list[tuple[int, Piece]] = []
        bad: list[Bad] = []
        first = 0  # the line with which what is left of the block begins
        found: Piece | Fault = fault
        while isinstance(found, Fault):
            start, end = block.rfind(b"\n", 0, found.at) + 1, block.index(b"\n", found.at) + 1
            bad.append(Bad(first + found.line, found.text, shown(block[start : end - 1])))
            if start and isinstance(head := self._parse(block[:start]), Piece):
                done.append((first, head))
            first += found.line + 1
            block = block[end:]
            if len(bad) > self.most_bad or not block:
                break
            found = self._parse(block)
        else:
            done.append((first, found))
        return _joined(done, tuple(bad), first + block.count(b"\n"))

    def _parse(self, block: bytes) -> Piece | Fault:
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
        piece = Piece(
            labels[:rows],
            indptr[: rows + 1],
            indices[:stored],
            values[:stored],
            top,
            qids,
            lines,
            len(block),
            None if rows == lines else np.searchsorted(np.flatnonzero(text == ord("\n")), starts[:rows]),
        )
        return piece if self.classes is None else self._encoded(piece, block, starts)

    def _encoded(self, piece: Piece, block: bytes, starts: NDArray[np.int64]) -> Piece | Fault:
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


def _settle(block: bytes, slow: NDArray[np.int64], labels: NDArray[Any], values: NDArray[Any]) -> Fault | None:
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


def _fault(block: bytes, at: int, text: str) -> Fault:
    return Fault(block.count(b"\n", 0, at), text, at)


def _joined(found: Sequence[tuple[int, Piece]], bad: tuple[Bad, ...], lines: int) -> Piece:
    """One piece of several, each with the line it begins on."""
    pieces = [piece for _, piece in found]
    stored = np.cumsum([0, *(len(piece.values) for piece in pieces)])
    indptr = [piece.indptr[1:] + before for piece, before in zip(pieces, stored[:-1], strict=True)]
    offsets = [first + (np.arange(len(one.labels)) if one.offsets is None else one.offsets) for first, one in found]
    kind = pieces[0].labels.dtype if pieces else np.float64
    return Piece(
        np.concatenate([np.empty(0, kind), *(piece.labels for piece in pieces)]),
        np.concatenate([np.zeros(1, np.int64), *indptr]),
        np.concatenate([np.empty(0, np.int32), *(piece.indices for piece in pieces)]),
        np.concatenate([np.empty(0, np.float32), *(piece.values for piece in pieces)]),
        max((piece.top for piece in pieces), default=0),
        sum(piece.qids for piece in pieces),
        lines,
        sum(piece.size for piece in pieces),
        np.concatenate([np.empty(0, np.int64), *offsets]),
        bad,
    )
