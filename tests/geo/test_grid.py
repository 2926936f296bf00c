"""Grids are told from other places exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.geo.coords import lonlat, uniform_places
from graticule.geo.grid import Axes, grid_axes, grid_points

AXES = Axes(np.array([-180.0, -60.0, 0.25, 179.5]), np.array([90.0, 10.0, -90.0]))


def naive_points(axes):
    return np.array([[lon, lat] for lat in axes.lat for lon in axes.lon])


def test_points_of_a_grid_are_the_loop():
    np.testing.assert_array_equal(grid_points(AXES), naive_points(AXES))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-180, 179), min_size=2, max_size=6),
    st.lists(st.floats(-90, 90), min_size=1, max_size=5, unique=True),
)
def test_axes_come_back(lon, lat):
    axes = grid_axes(naive_points(Axes(lon, lat)))
    np.testing.assert_array_equal(axes.lon, lon)
    np.testing.assert_array_equal(axes.lat, lat)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 11), st.integers(0, 1))
def test_one_changed_number_makes_it_none_or_another_grid(row, axis):
    points = grid_points(AXES)
    points[row, axis] = np.nextafter(points[row, axis], 7)
    axes = grid_axes(points)
    assert axes is None or np.array_equal(grid_points(axes), points)


@pytest.mark.parametrize(
    "points",
    [
        lonlat(lon=[], lat=[]),
        lonlat(lon=[1], lat=[2]),
        uniform_places(100),
        grid_points(AXES)[:-1],  # the last row falls short
        grid_points(AXES)[1:],
        grid_points(AXES).reshape(3, 4, 2).swapaxes(0, 1).reshape(-1, 2),  # column after column
        np.concatenate([grid_points(AXES), np.add(grid_points(AXES)[:4], [1.0, 0.0])]),  # one row beside the others
    ],
)
def test_what_is_no_grid(points):
    assert grid_axes(points) is None


def test_one_row_and_duplicates_are_grids():
    one = grid_axes(lonlat(lon=[3, 1, 3], lat=[5, 5, 5]))
    np.testing.assert_array_equal(one.lon, [3, 1, 3])
    np.testing.assert_array_equal(one.lat, [5])
    twice = grid_points(Axes(AXES.lon, np.repeat(AXES.lat, 2)))
    np.testing.assert_array_equal(grid_points(grid_axes(twice)), twice)
