"""BLAS threads are held for a call and given back, whoever else holds them."""

import threading

import pytest

from trivium.program.kernels import blas


@pytest.fixture
def threads():
    """What BLAS has now, one number a library; and a check that it is so again at the end."""
    now = blas.held().now
    before = now()
    assert before, "NumPy brings one"
    yield now
    assert now() == before


def test_holds_nest(threads):
    with blas.held().at(1), blas.held().at(1):
        assert set(threads()) == {1}


def test_an_error_gives_back(threads):
    with pytest.raises(ValueError, match="inner"), blas.held().at(1):
        raise ValueError("inner")


def test_the_last_of_overlapping_holds_restores(threads):
    first, second = blas.held().at(1), blas.held().at(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)


def test_another_thread_may_be_the_last_one_out(threads):
    first, second = blas.held().at(1), blas.held().at(2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    last = threading.Thread(target=second.__exit__, args=(None, None, None))
    last.start()
    last.join()


def test_many_threads_at_once(threads):
    def hold():
        for _ in range(200):
            with blas.held().at(1):
                assert set(threads()) == {1}

    workers = [threading.Thread(target=hold) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_there_is_one_of_a_process():
    assert blas.held() is blas.held()
