import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.data.sources import libsvm_kernel as kernel


def run(text: bytes, limit: int = 2**31 - 2, late: int = 64):
    array = np.frombuffer(text, np.uint8)
    lines, colons = kernel.count(array)
    guard = 8  # room beyond the bounds, to see that it is left alone
    labels, starts = np.full(lines + guard, np.nan), np.full(lines + guard, -7)
    indptr = np.full(lines + 1 + guard, -7)
    indices, values = np.full(colons + guard, -7, np.int32), np.full(colons + guard, np.nan, np.float32)
    result = kernel.parse(array, limit, labels, starts, indptr, indices, values, np.empty((late, 3), np.int64))
    assert np.isnan(labels[lines:]).all()
    assert (starts[lines:] == -7).all()
    assert (indptr[lines + 1 :] == -7).all()
    assert (indices[colons:] == -7).all()
    assert np.isnan(values[colons:]).all()
    return result


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text("01239:.+-e #\t\r\nqid", max_size=80).map(str.encode)))
def test_any_bytes_stay_within_the_bounds(text):
    text += b"\n"
    assert kernel.count(np.frombuffer(text, np.uint8)) == (text.count(b"\n"), text.count(b":"))
    rows, stored, _late, top, qids, code, at = run(text)
    assert rows <= text.count(b"\n")
    assert stored + qids <= text.count(b":")
    assert at == len(text) if code == kernel.OK else at < len(text)
    assert top >= 0


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        (b"1 1:1\n", kernel.OK, 6),
        (b"x\n", kernel.BAD_LABEL, 0),
        (b"1 1:1\n2 x\n", kernel.BAD_TOKEN, 8),
        (b"1 1:x\n", kernel.BAD_VALUE, 2),
        (b"1 0:1\n", kernel.LOW_INDEX, 2),
        (b"1 6:1\n", kernel.HIGH_INDEX, 2),
        (b"1 3:1 2:1\n", kernel.UNORDERED, 6),
        (b"1 1:1.00000000000000000000000000 2:16777217.00000000000000000\n", kernel.FULL, 33),
    ],
)
def test_codes_and_where_it_stopped(text, code, at):
    assert run(text, limit=5, late=0)[-2:] == (code, at)
