"""The cache: whole entries or none, kept by use, dropped when they cannot be trusted."""

import json
import os

import numpy as np
import pytest

from trivium.data import cache as room
from trivium.data.cache import Cache
from trivium.data.spool import DiskSpool
from trivium.data.table import Table
from trivium.errors import StorageError


def put(cache, key, rows=10, extra=None):
    with cache.draft(key) as draft:
        spool = DiskSpool(draft.folder)
        spool.add({"x": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)})
        columns, mapped = spool.finish()
        table = Table(columns, ("a", "b"), 0.5, "rows", spool.fingerprint, ("a note",), mapped)
        return draft.commit(table, extra or {})


def test_what_was_put_is_found_whole(tmp_path):
    cache = Cache(tmp_path / "rows")
    assert cache.find("k" * 64) is None
    put(cache, "k" * 64, extra={"more": [1]})
    table, extra = cache.find("k" * 64)
    np.testing.assert_array_equal(table.columns["x"], np.arange(20).reshape(10, 2))
    assert (table.classes, table.scale, table.name, table.notes) == (("a", "b"), 0.5, "rows", ("a note",))
    assert extra == {"more": [1]} and set(table.mapped) == {"x"}


def test_a_draft_that_fails_leaves_nothing(tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError), cache.draft("k" * 64) as draft:
        (draft.folder / "x.bin").write_bytes(b"1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["cut", "torn", "missing"])
def test_a_damaged_entry_is_dropped(tmp_path, harm):
    cache = Cache(tmp_path)
    put(cache, "k" * 64)
    place = tmp_path / ("k" * 64)
    if harm == "cut":
        os.truncate(place / "x.bin", 8)
    elif harm == "torn":
        (place / "entry.json").write_text('{"version"')
    else:
        (place / "x.bin").unlink()
        (place / "entry.json").touch()
    assert cache.find("k" * 64) is None


def test_what_another_boot_did_not_flush_does_not_count(tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    put(cache, "k" * 64)
    put(cache, "f" * 64)
    monkeypatch.setattr(room, "SETTLED", -1.0)
    assert cache.find("f" * 64) is not None  # flushed now
    monkeypatch.setattr(room, "_boot", lambda: "another")
    assert cache.find("f" * 64) is not None
    assert cache.find("k" * 64) is None


def test_the_entries_used_longest_ago_go_first(tmp_path):
    cache = Cache(tmp_path, limit=4000)
    for number, key in enumerate("abc"):
        put(cache, key * 64, rows=100)
        os.utime(tmp_path / (key * 64) / "entry.json", (1000 + number, 1000 + number))
    cache.find("a" * 64)  # used just now
    put(cache, "d" * 64, rows=100)
    kept = {place.name[0] for place, _, _ in cache.entries()}
    assert "b" not in kept and "d" in kept and "a" in kept


def test_two_writers_of_one_entry_do_not_disturb_each_other(tmp_path):
    cache = Cache(tmp_path)
    with cache.draft("k" * 64) as slow:
        spool = DiskSpool(slow.folder)
        spool.add({"x": np.zeros((3, 2), np.float32)})
        columns, mapped = spool.finish()
        put(cache, "k" * 64, rows=3)
        table = slow.commit(Table(columns, mapped=mapped), {})
    assert len(table) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"), Cache(tmp_path / "file" / "rows").draft("k"):
        pass


def test_the_entry_says_in_json_what_it_holds(tmp_path):
    put(Cache(tmp_path), "k" * 64)
    about = json.loads((tmp_path / ("k" * 64) / "entry.json").read_text())
    assert about["arrays"]["x"] == {"file": "x.bin", "dtype": "float32", "shape": [10, 2]}
