import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import SettingError
from graticule.geo.cells import MERCATOR_LAT, _bands, cell_centres, equal_area_cells, slippy_tiles, tile_bounds
from graticule.geo.coords import EARTH_RADIUS_KM, lonlat, uniform_places

EARTH_KM2 = 4 * math.pi * EARTH_RADIUS_KM**2
sizes = st.floats(150, 30_000)
places = st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=30)


@settings(deadline=None)
@given(sizes)
def test_bands_cut_the_sphere_into_exactly_equal_cells(size_km):
    edges, counts = _bands(size_km)
    assert edges[0] == -1
    assert edges[-1] == 1
    share = np.diff(edges) / 2 / counts  # of the sphere: the area between two latitudes goes with the sine
    np.testing.assert_allclose(share, 1 / counts.sum(), rtol=1e-9)


@pytest.mark.parametrize("size_km", [100, 250, 500, 1000])
def test_cells_are_about_as_large_as_asked(size_km):
    assert EARTH_KM2 / len(cell_centres(size_km)) == pytest.approx(size_km**2, rel=0.02)


def test_uniform_places_fall_evenly_into_cells():
    size_km, n = 2500, 60_000
    counts = np.bincount(equal_area_cells(uniform_places(n, seed=0), size_km), minlength=len(cell_centres(size_km)))
    expected = n / len(counts)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - len(counts)) < 5 * math.sqrt(2 * len(counts))


@settings(deadline=None, max_examples=40)
@given(sizes)
def test_centres_map_to_their_own_cell(size_km):
    centres = cell_centres(size_km)
    np.testing.assert_array_equal(equal_area_cells(centres, size_km), np.arange(len(centres)))


@settings(deadline=None)
@given(places, sizes)
def test_every_place_has_a_cell_that_holds_it(rows, size_km):
    points = lonlat(lon=[r[0] for r in rows], lat=[r[1] for r in rows])
    cells = equal_area_cells(points, size_km)
    edges, counts = _bands(size_km)
    assert cells.dtype == np.int64
    assert (cells >= 0).all()
    assert (cells < counts.sum()).all()
    first = np.concatenate([[0], np.cumsum(counts)])
    for (lon, lat), cell in zip(points, cells, strict=True):
        band = int(np.searchsorted(first, cell, side="right")) - 1
        column = cell - first[band]
        assert edges[band] - 1e-12 <= math.sin(math.radians(lat)) <= edges[band + 1] + 1e-12
        assert column <= (lon + 180) / 360 * counts[band] + 1e-9
        assert (lon + 180) / 360 * counts[band] <= column + 1 + 1e-9


@pytest.mark.parametrize("size_km", [200, 1234.5, 1e6])
def test_poles_and_antimeridian_have_cells(size_km):
    points = np.array([[-180.0, 90], [179.999999, 90], [180.0, 0], [-180, 0], [0, -90], [180, -90]])
    cells = equal_area_cells(points, size_km)
    assert cells.min() >= 0
    assert cells.max() < len(cell_centres(size_km))


@pytest.mark.parametrize("size_km", [0, -5, math.nan])
def test_impossible_sizes_are_refused(size_km):
    with pytest.raises(SettingError, match="positive size"):
        equal_area_cells(np.zeros((1, 2)), size_km)


def wiki_tile(lon, lat, zoom):
    """https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames: deg2num."""
    radians = math.radians(lat)
    n = 1 << zoom
    return int((lon + 180) / 360 * n), int((1 - math.asinh(math.tan(radians)) / math.pi) / 2 * n)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 179.999), st.floats(-85, 85)), min_size=1, max_size=20), st.integers(0, 19))
def test_tiles_are_those_of_the_osm_wiki(rows, zoom):
    points = np.array(rows)
    assert slippy_tiles(points, zoom).tolist() == [list(wiki_tile(lon, lat, zoom)) for lon, lat in rows]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 179.999), st.floats(-85, 85)), min_size=1, max_size=20), st.integers(0, 19))
def test_bounds_of_a_tile_hold_its_points(rows, zoom):
    points = np.array(rows)
    west, south, east, north = tile_bounds(slippy_tiles(points, zoom), zoom).T
    assert (west - 1e-9 <= points[:, 0]).all()
    assert (points[:, 0] <= east + 1e-9).all()
    assert (south - 1e-9 <= points[:, 1]).all()
    assert (points[:, 1] <= north + 1e-9).all()


def test_tiles_at_the_edges_of_the_map():
    points = np.array([[-180, 90], [180, -90], [0, MERCATOR_LAT], [0, -MERCATOR_LAT]], dtype=float)
    assert slippy_tiles(points, 3).tolist() == [[0, 0], [7, 7], [4, 0], [4, 7]]
    assert slippy_tiles(points, 0).tolist() == [[0, 0]] * 4
    np.testing.assert_allclose(tile_bounds(np.array([[0, 0]]), 0), [[-180, -MERCATOR_LAT, 180, MERCATOR_LAT]])


def test_neighbouring_tiles_share_their_edges():
    tiles = np.array([[4, 5], [5, 5], [4, 6]])
    here, right, below = tile_bounds(tiles, 4)
    assert here[2] == right[0]
    assert here[1] == below[3]
