"""Pairs by distance and the semivariogram: all pairs by loops, closed forms on the sphere."""

import numpy as np
import pytest

from graticule.errors import DataError, SettingError
from graticule.geo.coords import EARTH_RADIUS_KM, great_circle_km, lonlat, offset_km, uniform_places, unit_sphere
from graticule.geo.variogram import FIT_KM, Semivariogram, near_pairs, semivariogram

WORLD = (0, 500, 1000, 2000, 4000, 8000, 12_000, 20_016)


def all_pairs(points, low, high):
    n = range(len(points))
    km = [great_circle_km(point, points).tolist() for point in points]
    return {(i, j) for i in n for j in n if i < j and low <= km[i][j] < high}


@pytest.mark.parametrize(("low", "high"), [(0, 300), (500, 900), (0, 21_000), (19_000, 20_016)])
def test_all_pairs_are_found_where_there_are_few(low, high):
    points = np.vstack(
        [uniform_places(40), lonlat(lon=[179.9, -179.9, 5, 100, 7, 7], lat=[0, 0, 90, 90, -89.9, -89.9])]
    )
    found = near_pairs(points, low, high)
    assert set(map(tuple, found.tolist())) == all_pairs(points, low, high)
    assert len(found) == len(all_pairs(points, low, high))


def test_near_pairs_are_limited_and_spread_over_places():
    points = uniform_places(3000)
    found = near_pairs(points, 100, 1000, pairs=400)
    assert found.shape == (400, 2)
    km = great_circle_km(points[found[:, 0]], points[found[:, 1]])
    assert ((km >= 100) & (km < 1000)).all()
    assert len(np.unique(found)) > 500
    assert near_pairs(points[:1], 0, 100).shape == near_pairs(points[:0], 0, 100).shape == (0, 2)


def test_gamma_is_half_the_mean_squared_difference_of_all_near_pairs():
    points = uniform_places(300, seed=1)
    vectors = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) + unit_sphere(points)[:, [2]] * 3
    found = semivariogram(points, vectors, (0, 300, 600, 1200))
    for i, (low, high) in enumerate([(0, 300), (300, 600), (600, 1200)]):
        pairs = all_pairs(points, low, high)
        squares = [np.square(vectors[i] - vectors[j]).sum() for i, j in pairs]
        assert found.pairs[i] == len(pairs)
        assert found.gamma[i] == pytest.approx(np.mean(squares) / 2 / vectors.var(0).sum(), rel=1e-5)
        assert found.mean_km[i] == pytest.approx(np.mean([great_circle_km(points[a], points[b]) for a, b in pairs]))


def test_closed_form_on_the_sphere():
    """Of the unit vectors themselves: half the squared chord is 1 - cos(angle), their variance 1."""
    points = uniform_places(4000)
    found = semivariogram(points, unit_sphere(points), WORLD)
    np.testing.assert_allclose(found.gamma, 1 - np.cos(found.mean_km / EARTH_RADIUS_KM), atol=0.04)
    assert found.half_sill_km == pytest.approx(np.pi / 3 * EARTH_RADIUS_KM, rel=0.04)
    assert (found.pairs == 5000).all()


def test_noise_is_at_the_sill_at_once():
    points = uniform_places(2000)
    found = semivariogram(points, np.random.default_rng(0).normal(size=(2000, 30)), WORLD)
    np.testing.assert_allclose(found.gamma, 1, atol=0.05)
    assert found.half_sill_km == pytest.approx(found.mean_km[0] / 2 / found.gamma[0])


def test_empty_bins_equal_vectors_and_two_places():
    points = lonlat(lon=[0, 1], lat=[0, 0])
    found = semivariogram(points, np.array([[0.0], [2.0]]), (0, 50, 200, 400))
    np.testing.assert_array_equal(found.pairs > 0, [False, True, False])
    assert found.gamma[1] == pytest.approx(2)
    assert np.isnan(found.mean_km[[0, 2]]).all()
    flat = semivariogram(uniform_places(50), np.full((50, 3), 0.1, dtype=np.float32), WORLD)
    assert np.nanmax(flat.gamma) == 0
    assert flat.half_sill_km is None


def test_half_sill_is_read_off_straight_lines():
    variogram = Semivariogram(np.array([10, np.nan, 30, 50]), np.array([0.2, np.nan, 0.4, 0.8]), np.array([3, 0, 3, 3]))
    assert variogram.half_sill_km == pytest.approx(35)
    assert variogram._replace(gamma=variogram.gamma / 2).half_sill_km is None


@pytest.mark.parametrize(("a", "nugget", "sill"), [(20, 0, 1), (150, 0.4, 0.7), (900, 0.1, 2)])
def test_the_range_of_an_exponential_curve_is_found(a, nugget, sill):
    km = np.array([3, 8, 18, 40, 75, 150, 300, 600, 1200, 2400.0])
    gamma = nugget + sill * (1 - np.exp(-km / a))
    found = Semivariogram(km, gamma, np.full(10, 5000)).range_km
    assert found == pytest.approx(a, rel=0.02)
    assert Semivariogram(km, 3 * gamma, np.full(10, 50)).range_km == pytest.approx(found)


@pytest.mark.parametrize("a", [50, 300])
def test_the_range_of_a_planted_field(a):
    """Cosines of Cauchy frequencies have the covariance exp(-h / a); half as much noise is the nugget."""
    rng = np.random.default_rng(0)
    spread = rng.normal(0, 200, (2, 150, 20))
    places = offset_km(uniform_places(150, seed=2), *spread).reshape(-1, 2)
    frequencies = rng.normal(size=(3, 2000)) / np.abs(rng.normal(size=2000)) * EARTH_RADIUS_KM / a
    waves = np.cos(unit_sphere(places) @ frequencies + rng.uniform(0, 2 * np.pi, 2000))
    field = waves @ rng.normal(size=(2000, 40)) * (2 / 2000) ** 0.5
    field += rng.normal(0, 0.5**0.5, field.shape)
    assert semivariogram(places, field, FIT_KM).range_km == pytest.approx(a, rel=0.25)


def test_no_range_without_a_pattern_or_without_pairs():
    km = np.array([10, 20, 40, 80.0])
    for gamma in (np.ones(4), np.zeros(4), np.array([1, 0.9, 0.8, 0.7])):
        assert Semivariogram(km, gamma, np.full(4, 9)).range_km is None
    rising = Semivariogram(km, np.array([0.2, 0.4, 0.6, 0.8]), np.array([9, 0, 0, 9]))
    assert rising.range_km is None
    assert rising._replace(pairs=np.array([9, 9, 9, 0])).range_km is not None
    at_one_place = semivariogram(np.zeros((9, 2)), np.eye(9), FIT_KM)
    assert at_one_place.range_km is None


def test_bad_input():
    points = uniform_places(5)
    for edges in [(0,), (5, 5), (-1, 3), (3, 1)]:
        with pytest.raises(SettingError, match="edges_km"):
            semivariogram(points, np.ones((5, 2)), edges)
    with pytest.raises(DataError, match="got 5, 4"):
        semivariogram(points, np.ones((4, 2)), WORLD)
    with pytest.raises(DataError, match="at least 2"):
        semivariogram(points[:1], np.ones((1, 2)), WORLD)
