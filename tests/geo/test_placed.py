import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed, Ragged


def ragged(rows):
    offsets = np.cumsum([0, *map(len, rows)])
    return Ragged(np.array([v for row in rows for v in row], dtype=np.int64), offsets)


def unpacked(rows):
    return [rows.values[rows.offsets[i] : rows.offsets[i + 1]].tolist() for i in range(len(rows))]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-9, 9), max_size=5), min_size=1, max_size=8), st.data())
def test_ragged_take_is_a_list_of_rows(rows, data):
    taken = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    result = ragged(rows).take(np.array(taken, dtype=np.int64))
    assert len(result) == len(taken)
    assert unpacked(result) == [rows[i] for i in taken]


def test_ragged_take_of_tensors_and_matrices():
    rows = Ragged(torch.arange(12).reshape(6, 2), np.array([0, 1, 1, 6]))
    taken = rows.take(np.array([2, 0]))
    assert taken.values.tolist() == [[2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [0, 1]]
    assert taken.offsets.tolist() == [0, 5, 6]


def test_placed_take_keeps_rows_together():
    places = uniform_places(5, seed=0)
    rows = Placed(places, np.arange(10).reshape(5, 2), np.array(list("abcde")))
    taken = rows.take(np.array([3, 3, 0]))
    assert len(taken) == 3
    np.testing.assert_array_equal(taken.lonlat, places[[3, 3, 0]])
    assert taken.features.tolist() == [[6, 7], [6, 7], [0, 1]]
    assert taken.ids.tolist() == ["d", "d", "a"]
    assert Placed(places, ragged([[1], [2], [], [4], [5]])).take(np.array([3, 2])).features.values.tolist() == [4]


@pytest.mark.parametrize(
    ("features", "ids", "what"),
    [(np.zeros(4), None, "4 features"), (np.zeros(5), np.array(["a"]), "1 ids"), (ragged([[1]]), None, "1 features")],
)
def test_placed_refuses_columns_of_other_lengths(features, ids, what):
    with pytest.raises(DataError, match=f"5 places, {what}"):
        Placed(uniform_places(5), features, ids)
