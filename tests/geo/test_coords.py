import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graticule.errors import CoordinateError
from graticule.geo.arrays import namespace
from graticule.geo.coords import (
    EARTH_RADIUS_KM,
    chord,
    fibonacci_lattice,
    from_unit_sphere,
    great_circle_km,
    local_km,
    lonlat,
    offset_km,
    uniform_places,
    unit_sphere,
)

HALF_WAY_ROUND_KM = math.pi * EARTH_RADIUS_KM

longitudes = st.floats(-360, 360)
latitudes = st.floats(-90, 90)
places = st.tuples(st.floats(-180, 180), latitudes)


def one(lon, lat):
    return lonlat(lon=[lon], lat=[lat])


@settings(deadline=None)
@given(st.lists(st.tuples(longitudes, latitudes), max_size=20))
def test_longitudes_are_wrapped_by_whole_turns_and_latitudes_left_alone(rows):
    lon, lat = np.array(rows, dtype=float).reshape(-1, 2).T
    points = lonlat(lon=lon, lat=lat)
    assert points.shape == (len(rows), 2)
    assert points.dtype == np.float64
    assert ((points[:, 0] >= -180) & (points[:, 0] < 180)).all()
    turns = (points[:, 0] - lon) / 360
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-12)
    np.testing.assert_array_equal(points[:, 1], lat)
    inside = (lon >= -180) & (lon < 180)
    np.testing.assert_array_equal(points[inside, 0], lon[inside])


@pytest.mark.parametrize(
    ("lon", "wrapped"),
    [(190, -170), (-190, 170), (180, -180), (-180, -180), (360, 0), (-360, 0), (np.nextafter(-180, -360), -180)],
)
def test_wrapping_at_the_seam(lon, wrapped):
    assert one(lon, 5)[0].tolist() == [wrapped, 5]


@settings(deadline=None)
@given(st.floats(360, 1e12, exclude_min=True), st.sampled_from([-1, 1]), st.integers(0, 4))
def test_longitudes_beyond_a_turn_are_refused_with_their_row(lon, sign, row):
    column = np.zeros(5)
    column[row] = sign * lon
    with pytest.raises(CoordinateError, match=rf"row {row} has lon=.*metres"):
        lonlat(lon=column, lat=np.zeros(5))


@settings(deadline=None)
@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.booleans(), st.integers(0, 4))
def test_numbers_that_are_not_finite_are_refused_and_counted(bad, in_lon, row):
    columns = np.zeros((2, 5))
    columns[0 if in_lon else 1, row] = bad
    with pytest.raises(CoordinateError, match=rf"points.csv:row {row} has .* 1 of 5 rows"):
        lonlat(lon=columns[0], lat=columns[1], where="points.csv:row")


def test_a_latitude_that_proves_a_swap_says_so():
    with pytest.raises(CoordinateError, match=r"row 1 has lat=113.4. Are lon and lat swapped\?"):
        lonlat(lon=[48, 23.1], lat=[11, 113.4])


@pytest.mark.parametrize(("lon", "lat"), [([100, 5], [10, 91]), ([10], [4_000_000]), ([120], [91])])
def test_a_latitude_that_proves_no_swap_does_not_say_so(lon, lat):
    with pytest.raises(CoordinateError, match=r"lat must lie in \[-90, 90\]") as caught:
        lonlat(lon=lon, lat=lat)
    assert "swapped" not in str(caught.value)


def test_unequal_lengths_and_words_are_refused():
    with pytest.raises(CoordinateError, match="got 3 and 2"):
        lonlat(lon=[1, 2, 3], lat=[1, 2])
    with pytest.raises(CoordinateError, match="must be numbers"):
        lonlat(lon=["east"], lat=[1])


def test_no_rows_and_scalars():
    assert lonlat(lon=[], lat=[]).shape == (0, 2)
    assert lonlat(lon=7, lat=8.5).tolist() == [[7, 8.5]]


def test_coordinates_enter_by_name_only():
    with pytest.raises(TypeError):
        lonlat([1], [2])  # type: ignore[misc]


def exact_km(a, b):
    """The spherical law of cosines with 50 digits."""
    with mpmath.workdps(50):
        (lon_a, lat_a), (lon_b, lat_b) = ([mpmath.radians(mpmath.mpf(v)) for v in p] for p in (a, b))
        cosine = mpmath.sin(lat_a) * mpmath.sin(lat_b)
        cosine += mpmath.cos(lat_a) * mpmath.cos(lat_b) * mpmath.cos(lon_b - lon_a)
        return float(mpmath.mpf(EARTH_RADIUS_KM) * mpmath.acos(max(-1, min(1, cosine))))


@settings(deadline=None)
@given(places, places)
def test_great_circle_is_the_law_of_cosines_and_symmetric(a, b):
    here, there = np.array([a]), np.array([b])
    km = great_circle_km(here, there)[0]
    assert km == pytest.approx(exact_km(a, b), rel=1e-7, abs=1e-6)
    assert km == great_circle_km(there, here)[0]


@settings(deadline=None)
@given(st.lists(st.tuples(places, places), min_size=1, max_size=8))
def test_great_circle_of_numpy_is_that_of_torch(pairs):
    a, b = np.array(pairs).transpose(1, 0, 2)
    torched = great_circle_km(torch.from_numpy(a), torch.from_numpy(b))
    assert isinstance(torched, torch.Tensor)
    np.testing.assert_allclose(torched.numpy(), great_circle_km(a, b), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ((179.5, 0), (-179.5, 0), HALF_WAY_ROUND_KM / 180),
        ((0, 90), (123, 90), 0),
        ((17, 90), (-60, -90), HALF_WAY_ROUND_KM),
        ((0, 0), (180, 0), HALF_WAY_ROUND_KM),
        ((5, 89), (-175, 89), 2 * HALF_WAY_ROUND_KM / 180),
    ],
)
def test_great_circle_at_the_seams(a, b, km):
    assert great_circle_km(np.array(a, float), np.array(b, float)) == pytest.approx(km, abs=1e-6)


def test_great_circle_broadcasts():
    a, b = uniform_places(3, seed=1), uniform_places(4, seed=2)
    table = great_circle_km(a[:, None], b[None])
    assert table.shape == (3, 4)
    assert table[2, 1] == great_circle_km(a[2], b[1])


@settings(deadline=None)
@given(places, places)
def test_chord_is_the_straight_line_of_a_great_circle(a, b):
    here, there = np.array([a]), np.array([b])
    straight = np.linalg.norm(unit_sphere(here) - unit_sphere(there))
    assert chord(great_circle_km(here, there)[0]) == pytest.approx(straight, abs=1e-9)


def test_a_chord_longer_than_half_way_round_is_the_diameter():
    assert chord(1e9) == pytest.approx(2)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-180, 179.99), st.floats(-89.9, 89.9)), min_size=1, max_size=8), st.floats(1e-3, 1e3)
)
def test_unit_sphere_round_trip_of_any_length(rows, length):
    points = np.array(rows)
    xyz = unit_sphere(points)
    np.testing.assert_allclose(np.linalg.norm(xyz, axis=-1), 1, rtol=1e-14)
    back = from_unit_sphere(length * xyz)
    assert great_circle_km(points, back).max() < 1e-6
    np.testing.assert_allclose(unit_sphere(torch.from_numpy(points)).numpy(), xyz, atol=1e-15)


def test_unit_sphere_keeps_the_library_and_the_precision():
    single = unit_sphere(torch.zeros(2, 2, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert unit_sphere(np.zeros((2, 2), np.float32)).dtype == np.float32
    assert namespace(np.zeros(1)) is np
    assert namespace(torch.zeros(1)) is torch


def test_uniform_places_are_uniform_by_area():
    n = 40_000
    points = uniform_places(n, seed=3)
    tenths = np.histogram(np.sin(np.radians(points[:, 1])), bins=10, range=(-1, 1))[0]
    meridians = np.histogram(points[:, 0], bins=12, range=(-180, 180))[0]
    for counts in (tenths, meridians):
        expected = n / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < 35  # chi square with about 10 degrees of freedom
    assert np.linalg.norm(unit_sphere(points).mean(0)) < 4 / math.sqrt(n)
    np.testing.assert_array_equal(points, uniform_places(n, seed=3))
    assert not np.array_equal(points, uniform_places(n, seed=4))
    assert uniform_places(0).shape == (0, 2)


@pytest.mark.parametrize("n", [50, 500, 1500])
def test_fibonacci_lattice_is_even(n):
    points = fibonacci_lattice(n)
    assert points.shape == (n, 2)
    distance = great_circle_km(points[:, None], points[None])
    np.fill_diagonal(distance, np.inf)
    own_area_km = math.sqrt(4 * math.pi / n) * EARTH_RADIUS_KM
    nearest = distance.min(axis=1)
    assert nearest.min() > 0.7 * own_area_km
    assert nearest.max() < 1.1 * own_area_km
    everywhere = uniform_places(2000, seed=5)
    assert great_circle_km(everywhere[:, None], points[None]).min(axis=1).max() < own_area_km
    sines = np.sort(np.sin(np.radians(points[:, 1])))
    np.testing.assert_allclose(np.diff(sines), 2 / n, rtol=1e-6)


def test_fibonacci_lattice_of_none_and_one():
    assert fibonacci_lattice(0).shape == (0, 2)
    assert fibonacci_lattice(1)[0].tolist() == [0, 0]


@settings(deadline=None)
@given(places, st.floats(-5000, 5000), st.floats(-5000, 5000))
def test_an_offset_leads_as_far_as_it_says(place, east, north):
    point = np.array([place])
    reached = offset_km(point, [east], [north])
    assert reached.shape == (1, 1, 2)
    assert great_circle_km(point, reached[0])[0] == pytest.approx(math.hypot(east, north), rel=1e-6, abs=1e-3)
    assert -180 <= reached[0, 0, 0] < 180
    assert -90 <= reached[0, 0, 1] <= 90


@settings(deadline=None)
@given(st.tuples(st.floats(-180, 180), st.floats(-80, 80)), st.floats(0.1, 1000))
def test_an_offset_goes_where_it_says(place, km):
    """North keeps the meridian, east leaves it at a right angle: the spherical Pythagoras."""
    (north, east), start = offset_km(np.array([place]), [0, km], [km, 0])[0], np.array(place)
    assert north[1] == pytest.approx(place[1] + math.degrees(km / EARTH_RADIUS_KM), abs=1e-6)
    assert math.remainder(north[0] - place[0], 360) == pytest.approx(0, abs=1e-6)
    assert math.remainder(east[0] - place[0], 360) > 0
    along = math.cos(km / EARTH_RADIUS_KM)
    between = float(great_circle_km(north, east)) / EARTH_RADIUS_KM
    assert math.cos(between) == pytest.approx(along * along, abs=1e-9)
    assert great_circle_km(start, east) == pytest.approx(km, rel=1e-6)


def test_offsets_over_the_pole_and_the_antimeridian():
    degree = HALF_WAY_ROUND_KM / 180
    over = offset_km(np.array([[30.0, 89.0]]), [0], [2 * degree])[0, 0]
    np.testing.assert_allclose(over, [-150, 89], atol=1e-6)
    across = offset_km(np.array([[179.5, 0.0]]), [degree], [0])[0, 0]
    np.testing.assert_allclose(across, [-179.5, 0], atol=1e-9)
    from_pole = offset_km(np.array([[0.0, 90.0]]), [degree, 0, -degree, 0], [0, degree, 0, -degree])[0]
    np.testing.assert_allclose(from_pole[:, 1], 89, atol=1e-6)
    np.testing.assert_allclose(from_pole[[0, 2, 3], 0], [90, -90, 0], atol=1e-6)
    assert abs(from_pole[1, 0]) == pytest.approx(180)


def test_offsets_broadcast_and_zero_stays():
    points = uniform_places(5, seed=6)
    reached = offset_km(points, np.zeros(3), np.zeros(3))
    assert reached.shape == (5, 3, 2)
    np.testing.assert_allclose(reached, np.broadcast_to(points[:, None], (5, 3, 2)), atol=1e-7)


@given(places, st.floats(-15_000, 15_000), st.floats(-12_000, 12_000))
def test_local_km_is_the_way_back(place, east, north):
    centre = np.array([place])
    assume(abs(place[1]) < 89.9999)  # at a pole itself east has no direction
    there = offset_km(centre, [east], [north])[0]
    np.testing.assert_allclose(local_km(there, centre), [[east, north]], atol=0.02)


def test_local_km_beyond_the_antimeridian_and_of_no_points():
    centre = one(179.99, 10)
    np.testing.assert_allclose(
        local_km(np.array([[180.01, 10.0]]), centre), local_km(one(-179.99, 10), centre), atol=1e-9
    )
    assert local_km(np.empty((0, 2)), centre).shape == (0, 2)
    np.testing.assert_allclose(local_km(centre, centre), [[0, 0]], atol=1e-9)
