from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from graticule import blas
from graticule.blas import single_threaded


class Library:
    """What threadpoolctl offers of a library."""

    def __init__(self, threads):
        self.threads = threads

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, number):
        self.threads = number


@pytest.fixture
def library(monkeypatch):
    one = Library(6)
    monkeypatch.setattr(blas, "_libraries", lambda: [one])
    return one


def test_one_thread_while_it_lasts(library):
    with single_threaded() as threads:
        assert (threads, library.threads) == (6, 1)
        with single_threaded() as inner:
            assert (inner, library.threads) == (6, 1)
        assert library.threads == 1
    assert library.threads == 6


def test_an_error_sets_it_back(library):
    with pytest.raises(ZeroDivisionError), single_threaded():
        _ = 1 / 0
    assert library.threads == 6


def test_the_last_of_several_users_sets_it_back(library):
    together = Barrier(4)

    def use(_):
        with single_threaded() as threads:
            together.wait(10)
            assert library.threads == 1
        return threads

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(4))) == [6] * 4
    assert library.threads == 6


def test_a_library_that_cannot_be_told_counts_as_one(monkeypatch):
    monkeypatch.setattr(blas, "_libraries", list)
    with single_threaded() as threads:
        assert threads == 1


def test_the_library_of_numpy_is_found():
    assert all(library.get_num_threads() >= 1 for library in blas._libraries())
