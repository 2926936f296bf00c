import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graticule.errors import DataError
from graticule.geo.bounds import Bounds
from graticule.geo.coords import lonlat


def box(*points, pieces=1):
    bounds = Bounds()
    for part in np.array_split(np.array(points, dtype=float), pieces):
        bounds.add(part[:, 0], part[:, 1], part[:, 0], part[:, 1])
    return bounds.box()


def test_points():
    assert box((13.4, 52.5), (11.6, 48.1), (9.99, 53.5)) == (9.99, 48.1, 13.4, 53.5)
    assert box((13.4, 52.5)) == (13.4, 52.5, 13.4, 52.5)
    assert box((-180.0, 90.0), (-180.0, -90.0)) == (-180.0, -90.0, -180.0, 90.0)


def test_the_short_way_over_the_antimeridian():
    assert box((179.5, -17), (-179.5, -16), (178, -18)) == (178, -18, -179.5, -16)
    assert box((179.99, 0), (-179.99, 0)) == (179.99, 0, -179.99, 0)
    assert box((-80, 0), (80, 1)) == (-80, 0, 80, 1)
    assert box((-100, 0), (100, 1)) == (100, 0, -100, 1)


def test_the_whole_world():
    assert box(*((lon, lon / 3) for lon in np.arange(-180, 180, 0.05))) == (-180, -60, 180, pytest.approx(60, abs=0.1))


def test_boxes():
    bounds = Bounds()
    bounds.add([10, 170, 175], [0, 1, 2], [20, -170, 190], [5, 6, 7])
    assert bounds.box() == (10, 0, -170, 7)
    bounds.add([-179], [0], [15], [0])
    assert bounds.box() == (170, 0, 20, 7)


def test_nothing():
    bounds = Bounds()
    bounds.add([], [], [], [])
    with pytest.raises(DataError, match="No places were given"):
        bounds.box()


@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=20), st.integers(1, 3))
def test_every_place_is_inside_and_no_box_is_much_narrower(places, pieces):
    places = lonlat(lon=[p[0] for p in places], lat=[p[1] for p in places])
    west, south, east, north = box(*places, pieces=pieces)
    lon = places[:, 0]
    inside = (west <= lon) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
    assert inside.all()
    assert (south, north) == (places[:, 1].min(), places[:, 1].max())
    around = np.sort(lon)
    gaps = np.diff(np.append(around, around[0] + 360))
    assert (east - west) % 360 == pytest.approx(360 - gaps.max(), abs=0.2) or gaps.max() < 0.3
