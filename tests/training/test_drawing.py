"""The next batch is made in a thread: the same batches, their errors where they are taken, and what waiting costs."""

import threading
import time

import numpy as np
import pytest
import torch

from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.training.drawing import Ahead, Watch, on_device, on_host
from tests import region_tokens


def test_results_come_in_order_and_one_is_made_ahead():
    made = []
    with Ahead(lambda number: made.append(number) or 10 * number, 3, 7) as ahead:
        for number in range(3, 7):
            assert ahead.take() == 10 * number
            assert len(made) <= number - 3 + 2
    assert made == [3, 4, 5, 6]
    assert not any("next batch" in thread.name for thread in threading.enumerate())


def test_nothing_is_made_where_nothing_is_left():
    made = []
    with Ahead(made.append, 4, 4):
        pass
    assert made == []


def test_an_error_is_raised_where_its_result_is_taken():
    def make(number):
        if number == 1:
            raise ValueError("row 17 is damaged")
        return number

    with Ahead(make, 0, 5) as ahead:
        assert ahead.take() == 0
        with pytest.raises(ValueError, match="row 17 is damaged"):
            ahead.take()


def test_the_share_of_waiting():
    watch = Watch(torch.device("cpu"))
    assert watch.waited() == 0
    for _ in range(3):
        with watch.waiting():
            time.sleep(0.02)
        time.sleep(0.005)
    assert 0.3 < watch.waited() <= 1
    time.sleep(0.001)
    assert watch.waited() == 0


def test_rows_become_tensors_of_the_same_kind():
    places = uniform_places(4, seed=0)
    rows = Placed(places, np.arange(8, dtype=np.float16).reshape(4, 2), np.array(list("abcd")), whole=places[:3])
    batch = on_device({"text": on_host(rows, pinned=False)}, torch.device("cpu"))
    made = batch["text"]
    assert made.lonlat.dtype == torch.float64
    assert made.features.dtype == torch.float16
    assert torch.equal(made.features, torch.arange(8, dtype=torch.float16).reshape(4, 2))
    assert np.array_equal(made.everywhere.numpy(), places[:3])
    assert made.ids.tolist() == list("abcd")


def test_tokens_become_tensors():
    tokens = region_tokens.planted(5, side=2)
    made = on_device({"osm": on_host(Placed(np.zeros((5, 2)), tokens), pinned=False)}, torch.device("cpu"))["osm"]
    for name, array in tokens.arrays().items():
        assert np.array_equal(getattr(made.features, name).numpy(), array), name
    assert made.everywhere is made.lonlat
