"""The compiled part of the LIBSVM reader: text to arrays at hundreds of megabytes a second, without the GIL.

Rules
-----
* ``text`` ends with a newline. Every inner loop stops at it, so none checks the end of the buffer.
* ``count`` gives upper bounds (comments and ``qid:`` hold colons too); ``parse`` never writes beyond them.
* Loops over the text stay in line: numba counts references of an array handed to a function that loops, two atomic
  operations a call, which would halve the speed.
* The kernel makes no message: it returns a code and the byte where it stopped; the caller words the error.

Numbers
-------
A decimal of at most 2^53 in its digits times a power of ten up to 10^22 is one product or quotient of two exact
float64, hence correctly rounded (Clinger, *How to read floating point numbers accurately*, 1990). Any other is computed
from its first 18 digits with a relative error below 2^-51; where both ends of that interval round to the same float32,
that is the float32 of the correctly rounded float64, since rounding is monotone. What is left (about one in 2^26) is
listed in ``slow``, and the caller asks Python's ``float``.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAD_LABEL",
    "BAD_TOKEN",
    "BAD_VALUE",
    "FULL",
    "HIGH_INDEX",
    "LOW_INDEX",
    "OK",
    "UNORDERED",
    "count",
    "parse",
]

OK, BAD_LABEL, BAD_TOKEN, BAD_VALUE, LOW_INDEX, HIGH_INDEX, UNORDERED, FULL = range(8)

_NEWLINE, _HASH, _COLON, _PLUS, _MINUS, _DOT, _ZERO = (ord(c) for c in "\n#:+-.0")
_EXACT, _NEAR, _FAR, _MALFORMED = range(4)
_MOST_DIGITS = 10**17  # below it one more digit fits an int64
_EXACT_INTEGER = 2**53
_EXACT_TEN = 22
_FAR_TEN = 100
_TENS = np.array([float(f"1e{power}") for power in range(_FAR_TEN + 1)])
_SLACK = 2.0**-50


@nb.njit(nogil=True, cache=True)
def count(text: NDArray[np.uint8]) -> tuple[int, int]:
    """Newlines and colons of ``text``: upper bounds of its rows and of its stored elements."""
    lines, colons = 0, 0
    for at in range(text.size):
        lines += text[at] == _NEWLINE
        colons += text[at] == _COLON
    return lines, colons


@nb.njit(nogil=True, cache=True)
def _is_blank(byte: int) -> bool:
    """Space, tab, carriage return, form feed or vertical tab: not a newline."""
    return byte == 32 or (9 <= byte <= 13 and byte != _NEWLINE)


@nb.njit(nogil=True, cache=True)
def _ends_token(byte: int) -> bool:
    return _is_blank(byte) or byte in (_NEWLINE, _HASH)


@nb.njit(nogil=True, cache=True)
def _digit(text: NDArray[np.uint8], at: int) -> int:
    """The digit at ``at``, or a number outside 0 to 9. By way of int64: uint64 less int64 would be a float."""
    return int(np.int64(text[at])) - _ZERO


@nb.njit(nogil=True, cache=True)
def _exponent(text: NDArray[np.uint8], at: int) -> tuple[int, int, bool]:
    """The signed integer after an ``e``: value (a far one stops growing), byte after, whether there was a digit."""
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    value, first = 0, at
    digit = _digit(text, at)
    while 0 <= digit <= 9:
        if value < 1_000_000:
            value = value * 10 + digit
        at += 1
        digit = _digit(text, at)
    return (-value if negative else value), at, at > first


@nb.njit(nogil=True, cache=True, error_model="numpy")
def _number(text: NDArray[np.uint8], at: int) -> tuple[float, int, int]:  # noqa: PLR0912 - loops stay in line, see Rules
    """The decimal at ``at``: its value, the byte after it, and how far the value may be trusted."""
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    digits, power, first, cut = 0, 0, at, False
    digit = _digit(text, at)
    while 0 <= digit <= 9:
        if digits < _MOST_DIGITS:
            digits = digits * 10 + digit
        else:
            power += 1
            cut |= digit != 0
        at += 1
        digit = _digit(text, at)
    seen = at - first
    if text[at] == _DOT:
        at += 1
        first = at
        digit = _digit(text, at)
        while 0 <= digit <= 9:
            if digits < _MOST_DIGITS:
                digits = digits * 10 + digit
                power -= 1
            else:
                cut |= digit != 0
            at += 1
            digit = _digit(text, at)
        seen += at - first
    if seen == 0:
        return 0.0, at, _MALFORMED
    if text[at] | 32 == 101:  # e or E
        exponent, at, good = _exponent(text, at + 1)
        if not good:
            return 0.0, at, _MALFORMED
        power += exponent
    value, trust = float(digits), _EXACT
    if digits != 0 and (power != 0 or digits > _EXACT_INTEGER):
        if power > _FAR_TEN or power < -_FAR_TEN:
            return 0.0, at, _FAR
        value = value * _TENS[power] if power >= 0 else value / _TENS[-power]
        if cut or digits > _EXACT_INTEGER or power > _EXACT_TEN or power < -_EXACT_TEN:
            trust = _NEAR
    return (-value if negative else value), at, trust


@nb.njit(nogil=True, cache=True)
def _is_qid(text: NDArray[np.uint8], at: int) -> bool:
    """Whether ``qid:`` begins at ``at``; a newline ends the comparison before the buffer does."""
    return bool(text[at] == 113 and text[at + 1] == 105 and text[at + 2] == 100 and text[at + 3] == _COLON)


@nb.njit(nogil=True, cache=True)
def _is_settled(value: float, trust: int) -> bool:
    """Whether float32(value) is sure although the float64 is not exact."""
    if trust == _EXACT:
        return True
    return trust == _NEAR and np.float32(value * (1 - _SLACK)) == np.float32(value * (1 + _SLACK))


@nb.njit(nogil=True, cache=True)
def _index_fault(index: int, before: int, limit: int) -> int:
    """The code of an index that may not follow ``before``."""
    if index == 0:
        return LOW_INDEX
    if index > limit:
        return HIGH_INDEX
    return UNORDERED if index <= before else OK


@nb.njit(nogil=True, cache=True)
def _features(  # noqa: PLR0912 - loops stay in line, see Rules
    text: NDArray[np.uint8],
    at: int,
    limit: int,
    element: int,
    late: int,
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    slow: NDArray[np.int64],
) -> tuple[int, int, int, int, int, int]:
    """The ``index:value`` pairs of one row from ``at`` on.

    Returns the byte where it stopped, stored elements, entries of ``slow``, the last index, ``qid:`` seen, a code.
    """
    before, qids = 0, 0
    while True:
        while _is_blank(text[at]):
            at += 1
        token = at
        if text[token] == _NEWLINE or text[token] == _HASH:
            return token, element, late, before, qids, OK
        index = 0
        digit = _digit(text, at)
        while 0 <= digit <= 9:
            if index <= limit:  # beyond, it is wrong already and must not overflow
                index = index * 10 + digit
            at += 1
            digit = _digit(text, at)
        if text[at] != _COLON or at == token:
            if before == 0 and _is_qid(text, token):
                qids += 1
                while not _ends_token(text[at]):
                    at += 1
                continue
            return token, element, late, before, qids, BAD_TOKEN
        if index <= before or index > limit:
            return token, element, late, before, qids, _index_fault(index, before, limit)
        before, first, whole = index, at + 1, 0
        at = first
        digit = _digit(text, at)
        while 0 <= digit <= 9 and at < first + 15:  # most values are short integers
            whole = whole * 10 + digit
            at += 1
            digit = _digit(text, at)
        value, trust = float(whole), _EXACT
        if at == first or not _ends_token(text[at]):
            value, at, trust = _number(text, first)
        single = np.float32(value)
        if trust == _MALFORMED or not _ends_token(text[at]) or np.isinf(single):
            return token, element, late, before, qids, BAD_VALUE
        if not _is_settled(value, trust):
            if late == slow.shape[0]:
                return token, element, late, before, qids, FULL
            slow[late, 0], slow[late, 1], slow[late, 2] = first, at, element
            late += 1
        indices[element], values[element] = index - 1, single
        element += 1


@nb.njit(nogil=True, cache=True)
def parse(
    text: NDArray[np.uint8],
    limit: int,
    labels: NDArray[np.float64],
    starts: NDArray[np.int64],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    slow: NDArray[np.int64],
) -> tuple[int, int, int, int, int, int, int]:
    """Fill the arrays from ``text``; indices become 0-based.

    ``labels``, ``starts`` (byte of each row's label) and ``indptr[1:]`` have room for ``count``'s newlines, ``indices``
    and ``values`` for its colons. ``limit`` is the highest 1-based index allowed. ``slow`` takes (first byte, byte
    after, place): a place of 0 or more is an element of ``values``, -1 - row a label.

    Returns rows, stored elements, entries of ``slow``, highest 1-based index, ``qid:`` seen, a code, the byte where it
    stopped.
    """
    row, element, late, top, qids, at = 0, 0, 0, 0, 0, 0
    indptr[0] = 0
    while at < text.size:
        while _is_blank(text[at]):
            at += 1
        if text[at] != _NEWLINE and text[at] != _HASH:
            labels[row], after, trust = _number(text, at)
            starts[row] = at
            if trust == _MALFORMED or not _ends_token(text[after]) or np.isinf(np.float32(labels[row])):
                return row, element, late, top, qids, BAD_LABEL, at
            if trust != _EXACT:  # classes are told apart in float64
                if late == slow.shape[0]:
                    return row, element, late, top, qids, FULL, at
                slow[late, 0], slow[late, 1], slow[late, 2] = at, after, -1 - row
                late += 1
            at, element, late, last, seen, code = _features(text, after, limit, element, late, indices, values, slow)
            if code != OK:
                return row, element, late, top, qids, code, at
            top = max(top, last)
            qids += seen
            row += 1
            indptr[row] = element
        while text[at] != _NEWLINE:  # the rest is a comment
            at += 1
        at += 1
    return row, element, late, top, qids, OK, at
