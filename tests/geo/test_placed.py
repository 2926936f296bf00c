import numpy as np
import pytest

from graticule.errors import DataError
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.geo.tokens import Tokens


def test_placed_take_keeps_rows_together():
    places = uniform_places(5, seed=0)
    rows = Placed(places, np.arange(10).reshape(5, 2), np.array(list("abcde")))
    taken = rows.take(np.array([3, 3, 0]))
    assert len(taken) == 3
    np.testing.assert_array_equal(taken.lonlat, places[[3, 3, 0]])
    assert taken.features.tolist() == [[6, 7], [6, 7], [0, 1]]
    assert taken.ids.tolist() == ["d", "d", "a"]


def test_placed_take_of_ragged_tokens():
    offsets = np.array([0, 1, 2, 2, 4, 5])
    tokens = Tokens(offsets, np.arange(5), np.eye(5), np.eye(5)[:, :2], np.eye(5))
    taken = Placed(uniform_places(5), tokens).take(np.array([3, 2, 0]))
    assert (len(taken), len(taken.features)) == (3, 3)
    np.testing.assert_array_equal(taken.features.geometry, np.eye(5)[[2, 3, 0]])


@pytest.mark.parametrize(
    ("features", "ids", "what"),
    [(np.zeros(4), None, "4 features"), (np.zeros(5), np.array(["a"]), "1 ids"), (np.zeros(1), None, "1 features")],
)
def test_placed_refuses_columns_of_other_lengths(features, ids, what):
    with pytest.raises(DataError, match=f"5 places, {what}"):
        Placed(uniform_places(5), features, ids)
