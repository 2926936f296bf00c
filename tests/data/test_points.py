import numpy as np
import pytest

from graticule.data.points import points, uniform_points
from graticule.data.source import Row
from graticule.errors import CoordinateError, DataError


def test_points_are_rows_that_carry_nothing():
    source = points(lon=[190, 2], lat=[3, 4], ids=["a", "b"], licence="CC0-1.0")
    assert list(source.records(0)) == [Row("a", -170.0, 3.0, None), Row("b", 2.0, 4.0, None)]
    assert list(source.records(1)) == [Row("b", 2.0, 4.0, None)]
    assert (source.kind, source.total, source.licence) == ("point", 2, "CC0-1.0")
    assert [row.id for row in points(lon=[1, 2], lat=[3, 4]).rows()] == ["0", "1"]


def test_what_was_asked_for_tells_points_apart():
    one, same, other = (points(lon=[x], lat=[4]).about for x in (1, 1, 2))
    assert one == same != other
    assert points(lon=[1], lat=[4], ids=["z"]).about != one


def test_bad_points_are_refused():
    with pytest.raises(CoordinateError, match="swapped"):
        points(lon=[22.5], lat=[113.4])
    with pytest.raises(DataError, match="1 places, 2 ids"):
        points(lon=[1], lat=[2], ids=["a", "b"])
    with pytest.raises(DataError, match="-1"):
        uniform_points(-1)


def test_uniform_points_are_uniform_by_area_and_seeded():
    rows = list(uniform_points(4000, seed=3).rows())
    assert rows == list(uniform_points(4000, seed=3).rows())
    assert rows != list(uniform_points(4000, seed=4).rows())
    sin_lat = np.sin(np.radians([row.lat for row in rows]))
    assert abs(sin_lat.mean()) < 0.04
    assert abs(np.mean(sin_lat**2) - 1 / 3) < 0.02  # closed form of the uniform sine
    assert list(uniform_points(0).records(0)) == []
