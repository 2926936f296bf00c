"""As many threads as the library of matrix products would take, but of ours, each with products of one thread.

Numpy shares out matrix products over the cores and nothing else, and at every product its threads wait for one another.
A thread for each block of rows shares out all there is to do, and waits once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_users = 0
_before: list[int] = []


@contextmanager
def single_threaded() -> Iterator[int]:
    """Matrix products of numpy take one thread while it lasts; gives the number they would take otherwise.

    That is the number of cores, or what OMP_NUM_THREADS or OPENBLAS_NUM_THREADS say; 1 where numpy was built on a
    library that cannot be told. For the whole process, so that of several users the last one sets it back.
    """
    global _users
    with _lock:
        if _users == 0:
            _before[:] = [library.get_num_threads() for library in _libraries()]
            for library in _libraries():
                library.set_num_threads(1)
        _users += 1
        threads = max(_before, default=1)
    try:
        yield threads
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for library, number in zip(_libraries(), _before, strict=True):
                    library.set_num_threads(number)


@cache
def _libraries() -> list[Any]:
    """Those that are loaded together with numpy."""
    import numpy  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
