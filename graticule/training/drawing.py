"""From row numbers to tensors on the device: the next batch is made while the last one is learned from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from graticule.geo.placed import Batch, Placed
from graticule.geo.tokens import Tokens

T = TypeVar("T")


class Ahead(Generic[T]):
    """What `make` makes of start, start + 1, ... up to `stop`: each in a thread, while the one before is used.

    What goes wrong there is raised where its result is taken.
    """

    def __init__(self, make: Callable[[int], T], start: int, stop: int) -> None:
        self.make, self.number, self.stop = make, start, stop
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="next batch")
        self.next: Future[T] | None = self._begin()

    def _begin(self) -> Future[T] | None:
        return self.thread.submit(self.make, self.number) if self.number < self.stop else None

    def take(self) -> T:
        """The next result; StopIteration after the last."""
        if self.next is None:
            raise StopIteration
        made = self.next.result()
        self.number += 1
        self.next = self._begin()
        return made

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.shutdown(cancel_futures=True)


class Watch:
    """What share of the time a device stands still because it waits for data.

    On CUDA the marks are events of the stream, so that work still queued there is no waiting; elsewhere the clock's.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.began, self.waits = self._mark(), list[tuple[Any, Any]]()

    def _mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done within it is waiting for data."""
        start = self._mark()
        yield
        self.waits.append((start, self._mark()))

    def waited(self) -> float:
        """The share, 0 to 1, of the time since the last call, or since the beginning."""
        now = self._mark()
        if self.cuda:
            now.synchronize()
        seconds = sum(_between(*wait) for wait in self.waits)
        share = seconds / max(_between(self.began, now), 1e-9)
        self.began, self.waits = now, []
        return float(share)


def _between(start: Any, end: Any) -> float:
    return float(end - start if isinstance(start, float) else start.elapsed_time(end) / 1000)


def on_host(rows: Placed, pinned: bool) -> Placed:
    """Rows of arrays as tensors in memory, for CUDA pinned there: places in float64, features as they are stored."""

    def tensor(array: Any) -> Tensor:
        made = torch.from_numpy(np.ascontiguousarray(array))
        return made.pin_memory() if pinned else made

    return _changed(rows, tensor)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device; the copy of pinned memory goes on while the program does."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return {name: _changed(rows, move) for name, rows in batch.items()}


def _changed(rows: Placed, change: Callable[[Any], Tensor]) -> Placed:
    """The same rows with all their arrays changed."""
    features: Any
    if isinstance(rows.features, Tokens):
        features = Tokens(**{name: change(part) for name, part in rows.features.arrays().items()})
    else:
        features = change(rows.features)
    basis, whole = (None if part is None else change(part) for part in (rows.basis, rows.whole))
    return Placed(change(rows.lonlat), features, rows.ids, basis, whole)
