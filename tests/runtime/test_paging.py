"""What is asked of the system: whole pages of mapped rows, and nothing of what lies in memory."""

import mmap
from pathlib import Path

import numpy as np

from trivium.data.spool import DiskSpool
from trivium.data.table import Csr, Table
from trivium.runtime.paging import OVER, PAGE, SOON, RowPager


def mapped(tmp_path, columns):
    spool = DiskSpool(tmp_path)
    spool.add(columns)
    whole, files = spool.finish()
    return Table(whole, mapped=files)


def test_ranges_become_whole_pages(tmp_path):
    table = mapped(tmp_path, {"x": np.zeros((10 * PAGE // 8, 1))})
    asked = []
    pager = RowPager(table, lambda *one: asked.append(one))
    start, rows = table.columns["x"].ctypes.data, PAGE // 8
    pager.soon([(rows // 2, 3 * rows)])
    pager.over([(rows // 2, 3 * rows)])
    pager.over([(1, 2)])  # less than a page
    assert asked == [(start, 3 * PAGE, SOON), (start + PAGE, 2 * PAGE, OVER)]


def test_sparse_rows_are_found_by_their_pointers(tmp_path):
    rows = 5 * PAGE
    x = Csr(np.arange(rows + 1), np.zeros(rows, np.int32), np.ones(rows, np.float32), 1)
    table = mapped(tmp_path, {"x": x})
    asked = []
    RowPager(table, lambda *one: asked.append(one)).over([(0, 2 * PAGE)])
    assert [size for _, size, _ in asked] == [2 * PAGE * 8, 2 * PAGE * 4, 2 * PAGE * 4]


def test_memory_is_left_alone():
    asked = []
    pager = RowPager(Table({"x": np.zeros((PAGE, 4))}), lambda *one: asked.append(one))
    pager.over([(0, PAGE)])
    assert asked == []


def resident():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_rows_that_are_over_leave_the_process_and_can_be_read_again(tmp_path):
    size = 64 << 20
    (tmp_path / "x.bin").write_bytes(np.arange(size // 8, dtype=np.int64).tobytes())
    from trivium.data.table import Mapped

    one = Mapped(str(tmp_path / "x.bin"), "int64", (size // 8,))
    table = Table({"x": one.open()}, mapped={"x": one})
    pager, before = RowPager(table), resident()
    total = int(table.columns["x"].sum())
    assert resident() - before > size // 2
    pager.over([(0, len(table))])
    assert resident() - before < size // 8
    assert int(table.columns["x"].sum()) == total
    assert mmap.PAGESIZE == PAGE
