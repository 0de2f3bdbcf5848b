from types import SimpleNamespace

import pytest

from trivium.errors import RunError
from trivium.runtime import pool as pools
from trivium.runtime.pool import Pool, Seat


@pytest.fixture
def pool(monkeypatch):
    """A pool whose children are names; none of them ever dies."""
    count = iter(range(100))
    monkeypatch.setattr(Pool, "_ready", lambda _: None)
    monkeypatch.setattr(Pool, "_fork", lambda *_: Seat(SimpleNamespace(pid=next(count)), None, -1))
    monkeypatch.setattr(Pool, "_answered", lambda *_: True)
    monkeypatch.setattr(Seat, "gone", lambda *_: False)
    return Pool(())


def taken(pool, threads):
    seats = pool.take(threads)
    pool.give_back(seats, clean=True)
    return [seat.pid for seat in seats]


def test_children_are_used_again(pool):
    assert taken(pool, [1, 1, None]) == [0, 1, 2]
    assert taken(pool, [1, 1, None]) == [0, 1, 2]


def test_a_child_never_changes_the_threads_of_xla(pool):
    assert taken(pool, [1, 1]) == [0, 1]
    assert taken(pool, [2]) == [2]
    assert taken(pool, [1, 2, 1]) == [0, 2, 1]


def test_a_child_without_xla_takes_any_threads_and_one_with_it_serves_who_needs_none(pool):
    assert taken(pool, [None]) == [0]
    assert taken(pool, [2]) == [0]
    assert taken(pool, [None, None]) == [0, 1]
    assert taken(pool, [None]) == [1]


def test_all_are_ended_before_it_is_said_who_would_not_die(pool, monkeypatch):
    killed, closed = [], []
    monkeypatch.setattr(Seat, "kill", lambda seat: killed.append(seat.pid))
    monkeypatch.setattr(Seat, "close", lambda seat: closed.append(seat.pid))
    monkeypatch.setattr(Seat, "gone", lambda seat, within: seat.pid != 0)
    monkeypatch.setattr(pools, "END_WITHIN", 0.0)
    with pytest.raises(RunError, match="process 0 does not die"):
        pool.give_back(pool.take([1, 1, 1]), clean=False)
    assert killed == closed == [0, 1, 2]
    assert taken(pool, [1]) == [3]


def test_who_was_killed_is_not_used_again_however_long_it_takes_to_die(pool, monkeypatch):
    monkeypatch.setattr(Seat, "kill", lambda seat: None)
    monkeypatch.setattr(Seat, "close", lambda seat: None)
    (seat,) = pool.take([1])
    seat.killed = "silent"
    monkeypatch.setattr(Seat, "gone", lambda seat, within: True)
    pool.give_back([seat], clean=True)
    assert pool._idle == []
