from types import SimpleNamespace

import pytest

from trivium.errors import LostError, RunError
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


class Dying:
    """A zygote that is dead from its ``lives``th fork on."""

    def __init__(self, pid, lives):
        self.pid, self.lives = pid, lives

    def alive(self):
        return self.lives > 0


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_zygote_that_died_unseen_is_replaced_once(pool, monkeypatch, caplog, wanted):
    zygotes = [Dying(7, 0), Dying(8, 5)]
    monkeypatch.setattr(Pool, "_ready", lambda _: zygotes[0])

    def fork(zygote):
        if not zygote.alive():
            zygotes.pop(0)
            raise LostError("does not listen any more")
        return Seat(SimpleNamespace(pid=zygote.pid), None, -1)

    monkeypatch.setattr(Pool, "_fork", staticmethod(fork))
    assert taken(pool, [1] * wanted) == [8] * wanted
    assert "process 7) died" in caplog.text


def test_a_living_zygote_that_cannot_fork_is_not_replaced(pool, monkeypatch):
    monkeypatch.setattr(Pool, "_ready", lambda _: Dying(7, 1))

    def fork(_zygote):
        raise LostError("no process could be made")

    monkeypatch.setattr(Pool, "_fork", staticmethod(fork))
    with pytest.raises(LostError, match="no process could be made"):
        pool.take([1])
