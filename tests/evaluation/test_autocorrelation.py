"""Moran's I against loops and esda; Geo-Bias Scores where errors cluster and where they do not."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from graticule.errors import DataError, SettingError
from graticule.evaluation.autocorrelation import geo_bias_score, morans_i, nearest_rows
from graticule.geo.coords import great_circle_km, lonlat, offset_km, uniform_places, unit_sphere


def weights_by_loop(points, neighbours):
    n = len(points)
    weights = np.zeros((n, n))
    for i in range(n):
        others = sorted((great_circle_km(points[i], points[j]), j) for j in range(n) if j != i)
        for _, j in others[:neighbours]:
            weights[i, j] = 1 / neighbours
    return weights


def moran_by_loop(x, w):
    """I, and its moments under randomisation, from the sums in Cliff and Ord (1981)."""
    n, z = len(x), x - x.mean()
    s0 = w.sum()
    i = n / s0 * sum(w[a, b] * z[a] * z[b] for a in range(n) for b in range(n)) / (z**2).sum()
    s1 = sum((w[a, b] + w[b, a]) ** 2 for a in range(n) for b in range(n)) / 2
    s2 = sum((w[a].sum() + w[:, a].sum()) ** 2 for a in range(n))
    b2 = n * (z**4).sum() / (z**2).sum() ** 2
    second = n * ((n * n - 3 * n + 3) * s1 - n * s2 + 3 * s0**2) - b2 * ((n * n - n) * s1 - 2 * n * s2 + 6 * s0**2)
    variance = second / ((n - 1) * (n - 2) * (n - 3) * s0**2) - 1 / (n - 1) ** 2
    return i, -1 / (n - 1), (i + 1 / (n - 1)) / np.sqrt(variance)


@pytest.mark.parametrize(("n", "neighbours"), [(60, 8), (40, 1), (12, 5)])
def test_equals_a_loop(n, neighbours):
    points = uniform_places(n)
    x = np.random.default_rng(n).exponential(size=n) + np.sin(np.radians(points[:, 1]))
    found = morans_i(x, points, neighbours)
    assert (found.i, found.expected, found.z) == pytest.approx(moran_by_loop(x, weights_by_loop(points, neighbours)))


def test_equals_esda():
    libpysal, esda = pytest.importorskip("libpysal"), pytest.importorskip("esda")
    points = uniform_places(300, seed=2)
    x = unit_sphere(points)[:, 0] + np.random.default_rng(0).normal(size=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = libpysal.weights.KNN(unit_sphere(points), k=8)
        theirs = esda.Moran(x, weights, transformation="r", permutations=0)
    found = morans_i(x, points)
    expected = (theirs.I, theirs.EI, theirs.z_rand, theirs.p_rand)
    assert (found.i, found.expected, found.z, found.p_value) == pytest.approx(expected)


def test_moments_are_those_of_shuffled_values():
    points, rng = uniform_places(50), np.random.default_rng(0)
    x = rng.exponential(size=50)
    shuffled = np.array([morans_i(rng.permutation(x), points).z for _ in range(2000)])
    assert abs(shuffled.mean()) < 0.08
    assert shuffled.std() == pytest.approx(1, abs=0.06)


def test_p_values_are_uniform_without_a_pattern_and_tiny_with_one():
    points, rng = uniform_places(200), np.random.default_rng(1)
    assert kstest([morans_i(rng.normal(size=200), points).p_value for _ in range(300)], "uniform").pvalue > 0.01
    pattern = morans_i(np.cos(np.radians(points[:, 1])), points)
    assert pattern.i > 0.7
    assert pattern.p_value < 1e-10


@settings(max_examples=25, deadline=None)
@given(st.floats(-180, 180), st.floats(0.1, 50), st.integers(0, 99))
def test_does_not_depend_on_where_longitude_starts_or_on_the_unit(turn, scale, seed):
    points = uniform_places(40, seed=seed)
    x = np.random.default_rng(seed).normal(size=40)
    turned = lonlat(lon=points[:, 0] + turn, lat=points[:, 1])
    assert morans_i(scale * x + turn, turned).i == pytest.approx(morans_i(x, points).i)


def test_neighbours_over_the_antimeridian_and_the_pole():
    points = lonlat(lon=[179.9, -179.9, 178, 0, 180, 90, 0], lat=[0, 0, 0, 89, 89, 0, -89])
    assert nearest_rows(points, 1)[:5, 0].tolist() == [1, 0, 0, 4, 3]


def test_duplicates_are_neighbours_and_no_row_is_its_own():
    points = np.concatenate([np.tile(lonlat(lon=[5], lat=[5]), (20, 1)), uniform_places(10)])
    found = nearest_rows(points, 4)
    assert found.shape == (30, 4)
    assert not (found == np.arange(30)[:, None]).any()
    assert all(len(set(row)) == 4 for row in found.tolist())
    assert (found[:20] < 20).all()
    assert np.isfinite(morans_i(np.arange(30.0), points, 4).z)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_not_defined_for_few_rows(n):
    assert np.isnan(list(vars(morans_i(np.arange(float(n)), uniform_places(n))).values())).all()


def test_not_defined_for_equal_values_or_when_all_are_neighbours():
    constant = morans_i(np.full(30, 0.1), uniform_places(30))
    assert np.isnan([constant.i, constant.z, constant.p_value]).all()
    complete = morans_i(np.arange(6.0), uniform_places(6))
    assert complete.i == pytest.approx(complete.expected)
    assert np.isnan([complete.z, complete.p_value]).all()


def test_what_cannot_be_is_refused():
    points = uniform_places(5)
    with pytest.raises(DataError, match="4 values and 5 places"):
        morans_i(np.ones(4), points)
    with pytest.raises(DataError, match="1 of 5 are not, first at row 2"):
        morans_i(np.array([1, 2, np.nan, 4, 5]), points)
    with pytest.raises(SettingError, match="neighbour"):
        morans_i(np.ones(5), points, 0)
    with pytest.raises(DataError, match="3 rows and 5 places"):
        geo_bias_score(points, np.ones(3, bool))
    with pytest.raises(SettingError, match="positive radius"):
        geo_bias_score(points, np.ones(5, bool), radius_km=0)


# -- Geo-Bias Score


def town(n=300, lon=179.8, lat=60.0, spread_km=250.0):
    east, north = np.random.default_rng(0).uniform(-1, 1, (2, n)) * spread_km
    return offset_km(lonlat(lon=[lon], lat=[lat]), east, north)[0]


def test_clustered_errors_score_higher_than_the_same_number_anywhere():
    points = town()
    clustered = great_circle_km(points, points[0]) > np.median(great_circle_km(points, points[0]))
    scattered = np.random.default_rng(1).permutation(clustered)
    together, apart = (geo_bias_score(points, right, centres=40) for right in (clustered, scattered))
    assert together.marked > 2 * apart.marked
    assert together.neighbourhoods <= 40


def test_the_unmarked_score_reads_places_only():
    points = town()
    right = np.random.default_rng(1).random(300) < 0.5
    a, b = (geo_bias_score(points, r, centres=20) for r in (right, ~right))
    assert a.unmarked == pytest.approx(b.unmarked)
    dense = geo_bias_score(town(spread_km=30), right, centres=20)
    assert dense.unmarked > a.unmarked


def test_scores_do_not_depend_on_the_meridian():
    right = np.random.default_rng(1).random(300) < 0.5
    a, b = (geo_bias_score(town(lon=lon), right, centres=20) for lon in (179.8, 10.0))
    assert (a.unmarked, a.marked) == pytest.approx((b.unmarked, b.marked), rel=0.02)


def test_neighbourhoods_without_an_error_do_not_count():
    points = town(20)
    assert geo_bias_score(points, np.ones(20, bool)).neighbourhoods == 0
    assert np.isnan(geo_bias_score(points, np.ones(20, bool)).marked)
    assert geo_bias_score(uniform_places(0), np.zeros(0, bool)).neighbourhoods == 0


def test_one_row_duplicates_and_a_pole():
    one = geo_bias_score(lonlat(lon=[0], lat=[90]), np.array([False]))
    assert one.neighbourhoods == 1
    assert one.marked == pytest.approx(one.unmarked)
    same = geo_bias_score(np.tile(lonlat(lon=[180], lat=[-90]), (12, 1)), np.arange(12) % 2 == 0)
    assert np.isfinite([same.unmarked, same.marked]).all()
