import pytest

from trivium.cli import speeds
from trivium.errors import StorageError
from trivium.runtime import atomics, memory


def test_products_and_copies_have_a_speed():
    assert speeds.multiplied(1, order=64, budget=0.0) > 0.01
    assert speeds.copied(1 << 20, budget=0.0) > 0.01


def test_a_disk_is_written_and_read_and_left_as_it_was(tmp_path):
    wrote, read = speeds.disk(tmp_path, nbytes=8 << 20)
    assert wrote > 0
    assert read > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        speeds.disk(tmp_path / "missing")


def test_shared_memory_works_where_the_tests_do():
    assert speeds.shared_memory() is None


def test_what_fails_of_shared_memory_is_said(monkeypatch):
    def refuse(*_):
        raise StorageError("no room")

    monkeypatch.setattr(memory.Segment, "create", refuse)
    assert "memfd_create): no room" in speeds.shared_memory()
    monkeypatch.setattr(atomics, "supported", lambda: False)
    assert "Linux on x86-64 or aarch64" in speeds.shared_memory()


def test_an_addition_that_is_not_atomic_is_noticed(monkeypatch):
    monkeypatch.setattr(atomics, "fetch_add", lambda words, index, value: 0)
    assert "atomic addition" in speeds.shared_memory()
