"""Processes side by side on this machine, one thread each, that write shards."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait as wait_for
from typing import Any

from graticule.bulk.job import Job, Shard
from graticule.bulk.shard import job_model, write_shard
from graticule.embed import Model
from graticule.errors import GraticuleError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AHEAD = 2  # shards handed out for each worker
Record = tuple[Shard, dict[str, Any]]
_here: list[Job] = []  # in a worker: the job it was started for


def side_by_side(job: Job, shards: Sequence[Shard], workers: int) -> Iterator[Record]:
    """Write shards in `workers` processes; yields each when it is done.

    Workers end with this process, however it ends. A worker that is killed ends the job with a GraticuleError.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(shards))
    with (
        _one_thread(),
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(job,)) as pool,
    ):
        running: dict[Future[dict[str, Any]], Shard] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers * AHEAD:
                    shard = waiting.pop()
                    running[pool.submit(_write, shard)] = shard
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise GraticuleError(
                f"A worker process was killed, perhaps because memory ran out. {len(waiting) + len(running):,} shards "
                "are left, the others are kept: run the same command again to go on, with fewer --workers if memory is "
                "short."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(job: Job) -> None:
    """In a worker, when it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here[:] = [job]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


@cache
def _model() -> Model:
    return job_model(_here[0])


def _write(shard: Shard) -> dict[str, Any]:
    return write_shard(_model(), _here[0], shard)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start meanwhile compute with one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
