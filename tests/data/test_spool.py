"""Spools give back what was put in, from files or from memory alike."""

import errno
import os

import numpy as np
import pytest
from scipy import sparse

from trivium.data.spool import DiskSpool, MemorySpool, digest_of
from trivium.data.table import Csr
from trivium.errors import DataError, StorageError


def csr(matrix):
    return Csr(np.asarray(matrix.indptr, np.int64), np.asarray(matrix.indices, np.int32), matrix.data, matrix.shape[1])


@pytest.fixture(params=["disk", "memory"])
def spool(request, tmp_path):
    made = DiskSpool(tmp_path) if request.param == "disk" else MemorySpool()
    yield made
    if isinstance(made, DiskSpool):
        made.close()


def test_dense_pieces_come_back_whole(spool):
    x = np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)
    for lo, hi in ((0, 4), (4, 4), (4, 10)):
        spool.add({"x": x[lo:hi], "weight": np.arange(lo, hi, dtype=np.float32)})
    spool.put("y", np.arange(10, dtype=np.int32))
    columns, mapped = spool.finish()
    np.testing.assert_array_equal(columns["x"], x)
    np.testing.assert_array_equal(columns["weight"], np.arange(10))
    np.testing.assert_array_equal(columns["y"], np.arange(10))
    assert set(mapped) in (set(), {"x", "weight", "y"})


def test_sparse_pieces_are_joined_and_the_widest_counts(spool):
    whole = sparse.random(30, 9, 0.3, "csr", random_state=1, dtype=np.float64)
    narrow = whole[:12, :5].tocsr()
    spool.add({"x": csr(narrow)})
    spool.add({"x": csr(whole[12:].tocsr())})
    x = spool.finish()[0]["x"]
    assert x.width == 9
    got = sparse.csr_matrix((x.values, x.indices, x.indptr), (30, 9)).toarray()
    expected = whole.toarray()
    expected[:12, 5:] = 0
    np.testing.assert_array_equal(got, expected)


def test_a_cut_of_a_larger_csr_is_taken_as_it_is(spool):
    whole = csr(sparse.random(20, 4, 0.5, "csr", random_state=2))
    spool.add({"x": Csr(whole.indptr[5:12], whole.indices, whole.values, 4)})
    x = spool.finish()[0]["x"]
    assert x.indptr[0] == 0 and len(x) == 6
    np.testing.assert_array_equal(x.values, whole.values[whole.indptr[5] : whole.indptr[11]])


def test_pieces_of_another_kind_are_refused(spool):
    spool.add({"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(DataError, match=r"float64 of shape \(3,\) from row 3 on"):
        spool.add({"x": np.zeros((2, 3), np.float64)})


def test_the_fingerprint_is_that_of_the_pieces(tmp_path):
    marks = set()
    for number, values in enumerate(([1.0, 2.0], [1.0, 2.0], [1.0, 3.0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        spool = DiskSpool(folder)
        piece = {"x": np.array(values)}
        spool.add(piece, digest_of(piece))
        spool.finish()
        marks.add(spool.fingerprint)
    assert len(marks) == 2


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    class Full:
        def write(self, _view):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            pass

    spool = DiskSpool(tmp_path)
    spool._files["x"] = Full()
    with pytest.raises(StorageError, match="No space left"):
        spool.add({"x": np.zeros(3)})


def test_mapped_arrays_are_compiled_like_those_in_memory_and_writes_stay_private(tmp_path):
    spool = DiskSpool(tmp_path)
    spool.add({"x": np.zeros(1000)})
    columns, mapped = spool.finish()
    assert columns["x"].flags.writeable
    columns["x"][0] = 1.0
    assert mapped["x"].open()[0] == 0.0
