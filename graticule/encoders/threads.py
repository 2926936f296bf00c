"""Work shared out over threads, each of which lets torch use one core."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(worker: Callable[[], Callable[[Item], Result]], items: Sequence[Item]) -> Iterator[Result]:
    """`worker()(item)` for every item, in order and without gradients; each thread makes a worker of its own.

    As many threads as torch is set to use, at most one an item; a few items are worked on ahead of what is asked for.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        work = torch.inference_mode()(worker())
        yield from map(work, items)
        return
    own = threading.local()

    def start() -> None:
        torch.set_num_threads(1)
        own.work = torch.inference_mode()(worker())

    before, waiting = torch.get_num_threads(), deque[Future[Result]]()
    try:
        with ThreadPoolExecutor(threads, initializer=start) as pool:
            for item in items:
                waiting.append(pool.submit(lambda item: own.work(item), item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(before)  # some libraries under torch have one number for all threads
