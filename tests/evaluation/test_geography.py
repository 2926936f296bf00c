"""Geography of errors against loops, at poles and the antimeridian, and where a pattern was planted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError, SettingError
from graticule.evaluation.geography import (
    by_distance,
    by_group,
    error_grid,
    geo_bias,
    nearest_km,
    quantile_edges,
)
from graticule.evaluation.predictors import score
from graticule.evaluation.uncertainty import resampling_blocks
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import great_circle_km, lonlat, uniform_places

CORNERS = lonlat(lon=[-180, 180, 179.99, -179.99, 0, 90, 0, 0], lat=[0, 0, 0, 0, 90, 90, -90, 0])


def planted(n=800, seed=0):
    """Errors that grow with the latitude."""
    points, rng = uniform_places(n, seed=seed), np.random.default_rng(seed)
    truth = rng.normal(size=n)
    return points, truth, truth + rng.normal(size=n) * np.abs(points[:, 1]) / 60


# -- distance


@pytest.mark.parametrize("neighbour", [1, 3])
def test_nearest_equals_a_loop(neighbour):
    points = np.concatenate([CORNERS, uniform_places(60)])
    to = np.concatenate([uniform_places(40, seed=1), CORNERS[:3]])
    expected = [sorted(great_circle_km(p, q) for q in to)[neighbour - 1] for p in points]
    np.testing.assert_allclose(nearest_km(points, to, neighbour), expected, atol=1e-6)


def test_nearest_at_the_edges_of_the_map():
    np.testing.assert_allclose(nearest_km(CORNERS[:1], CORNERS[1:2]), 0)
    assert nearest_km(CORNERS[2:3], CORNERS[3:4])[0] == pytest.approx(0.02 * 111.195, rel=1e-3)
    assert nearest_km(CORNERS[4:5], CORNERS[5:6])[0] == pytest.approx(0, abs=1e-6)  # one pole, two longitudes
    assert nearest_km(CORNERS[4:5], CORNERS[6:7])[0] == pytest.approx(20015.1, abs=0.1)


def test_nearest_without_others_is_infinite():
    none = uniform_places(0)
    np.testing.assert_array_equal(nearest_km(CORNERS, none), np.inf)
    np.testing.assert_array_equal(nearest_km(CORNERS, CORNERS[:2], neighbour=3), np.inf)
    assert nearest_km(none, CORNERS).shape == nearest_km(none, none).shape == (0,)
    with pytest.raises(SettingError, match="number 1, got 0"):
        nearest_km(CORNERS, CORNERS, 0)


@pytest.mark.parametrize("classes", [0, 2])
def test_bins_equal_a_loop(classes):
    points, truth, predicted = planted()
    if classes:
        truth, predicted = (truth > 0).astype(int), (predicted > 0).astype(int)
    distance = nearest_km(points, uniform_places(20, seed=9))
    edges = [200.0, 500, 900, 2000]
    found = by_distance(truth, predicted, distance, resampling_blocks(points), classes, edges)
    for b in range(3):
        rows = (distance >= edges[b]) & ((distance < edges[b + 1]) | (b == 2) & (distance <= edges[3]))
        loss = (truth != predicted) if classes else np.square(truth - predicted) / truth.var()
        assert found.skill[b] == pytest.approx(1 - loss[rows].mean())
        assert found.rows[b] == rows.sum()
        assert found.low[b] < found.skill[b] < found.high[b]
    assert found.outside == len(truth) - found.rows.sum() > 0


def test_a_planted_decay_is_found():
    points, truth, predicted = planted(3000)
    found = by_distance(truth, predicted, np.abs(points[:, 1]) * 111, resampling_blocks(points))
    assert (np.diff(found.skill[1:]) < 0.1).all()
    assert found.skill[0] > 0.95
    assert found.high[-1] < found.low[0]
    assert found.outside == 0
    assert np.ptp(found.rows) <= 1


def test_one_bin_over_all_rows_is_the_score():
    points, truth, predicted = planted(100)
    found = by_distance(truth, predicted, np.arange(100.0), resampling_blocks(points), edges_km=[0, 1e9])
    assert found.skill[0] == pytest.approx(score(truth, predicted))


def test_bins_of_few_rows():
    one = by_distance(np.ones(1), np.ones(1), np.zeros(1), np.zeros(1, int))
    assert (one.edges_km.tolist(), one.rows.tolist(), one.skill.tolist()) == ([0, 0], [1], [1])
    none = by_distance(*np.zeros((3, 0)), np.zeros(0, int), edges_km=[0, 1, 2])
    assert none.rows.tolist() == [0, 0]
    assert np.isnan([none.skill, none.low, none.high]).all()
    empty_bin = by_distance(np.arange(4.0), np.arange(4.0), np.zeros(4), np.arange(4), edges_km=[0, 1, 2])
    assert empty_bin.rows.tolist() == [4, 0]
    assert np.isnan(empty_bin.low[1])


def test_infinite_distances_are_outside():
    found = by_distance(np.arange(3.0), np.arange(3.0), np.array([1.0, 2, np.inf]), np.arange(3))
    assert (int(found.rows.sum()), found.outside) == (2, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 20000), min_size=1, max_size=40), st.integers(1, 9))
def test_edges_increase_and_hold_all_rows(distance, bins):
    distance = np.array(distance)
    edges = quantile_edges(distance, bins)
    found = by_distance(distance, distance, distance, np.zeros(len(distance), int), edges_km=edges)
    assert len(edges) <= bins + 1
    assert found.outside <= (len(distance) if edges[-1] < distance.max() else 0)
    assert edges[-1] >= distance.max() * (1 - 1e-12)


def test_edges_are_even():
    np.testing.assert_allclose(quantile_edges(np.arange(101.0), 4), [0, 25, 50, 75, 100])
    assert quantile_edges(np.array([0.0, 0, 0, 0, 8]), 4).tolist() == [0, 8]


@pytest.mark.parametrize("edges", [[1.0], [1, 1, 2], [2, 1], [[1, 2]], [0, np.nan, 2]])
def test_edges_that_cannot_be(edges):
    with pytest.raises(SettingError, match="two or more increasing"):
        by_distance(np.ones(2), np.ones(2), np.ones(2), np.ones(2, int), edges_km=edges)


def test_what_has_no_bins():
    with pytest.raises(DataError, match="got 0 and 8"):
        quantile_edges(np.full(3, np.inf))
    with pytest.raises(DataError, match="same number of rows"):
        by_distance(np.ones(3), np.ones(3), np.ones(2), np.ones(3, int))


# -- groups


def test_groups_equal_a_loop():
    _, truth, predicted = planted(500)
    region = np.random.default_rng(0).integers(-1, 5, 500)
    found = by_group(truth, predicted, region)
    skill, rows = [], []
    for name in found.names:
        inside = region == int(name)
        skill.append(1 - np.mean(np.square(truth - predicted)[inside]) / truth.var())
        rows.append(inside.sum())
    assert found.names == ("0", "1", "2", "3", "4")
    np.testing.assert_allclose(found.skill, skill)
    assert found.gap == pytest.approx(max(skill) - min(skill))
    mean = np.dot(rows, skill) / sum(rows)
    assert found.deviation == pytest.approx(np.sqrt(np.dot(rows, (np.array(skill) - mean) ** 2) / sum(rows)))
    assert found.outside == (region == -1).sum()


def test_small_groups_and_those_without_a_name_are_left_out():
    truth = np.array([0, 1, 1, 0, 1])
    found = by_group(truth, truth, np.array(["a", "a", "b", "", "a"], dtype=object), 2, least_rows=2)
    assert (found.names, found.rows.tolist(), found.outside) == (("a",), [3], 2)
    assert (found.gap, found.deviation) == (0, 0)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_no_groups(n):
    found = by_group(np.ones(n), np.ones(n), np.full(n, -1))
    assert (found.names, found.outside) == ((), n)
    assert np.isnan([found.gap, found.deviation]).all()


def test_a_planted_bias_is_found_and_none_where_there_is_none():
    points, truth, predicted = planted(4000)
    zone = np.where(np.abs(points[:, 1]) < 20, "tropics", "elsewhere")
    spacing = np.abs(points[:, 1])
    biased = geo_bias(truth, predicted, zone, spacing)
    assert biased.region.names == ("elsewhere", "tropics")
    assert biased.region.skill[0] < biased.region.skill[1] - 0.3
    assert biased.density.names == ("1 densest", "2", "3", "4", "5 sparsest")
    assert (np.diff(biased.density.skill) < 0).all()
    assert biased.density.rows.tolist() == [800] * 5
    even = geo_bias(truth, truth + np.random.default_rng(1).normal(size=4000) / 2, zone, spacing)
    assert max(even.region.gap, even.density.gap) < 0.1 < 0.3 < min(biased.region.gap, biased.density.gap)


def test_bias_where_density_is_equal_or_unknown():
    truth = np.arange(40.0)
    same = geo_bias(truth, truth, np.zeros(40, int), np.zeros(40))
    assert (same.density.names, same.density.rows.tolist()) == (("1 densest",), [40])
    unknown = geo_bias(truth, truth, np.zeros(40, int), np.full(40, np.inf))
    assert (unknown.density.names, unknown.density.outside) == ((), 40)
    nothing = geo_bias(*np.zeros((2, 0)), np.zeros(0, int), np.zeros(0))
    assert nothing.region.names == nothing.density.names == ()


# -- grid


def test_grid_equals_a_loop():
    points = np.concatenate([CORNERS, uniform_places(700)])
    loss = np.random.default_rng(0).random(len(points))
    centres, mean, rows = error_grid(points, loss, 2000)
    cells = equal_area_cells(points, 2000)
    expected = {int(cell): loss[cells == cell] for cell in np.unique(cells)}
    np.testing.assert_allclose(mean, [values.mean() for values in expected.values()])
    np.testing.assert_array_equal(rows, [len(values) for values in expected.values()])
    np.testing.assert_array_equal(equal_area_cells(centres, 2000), list(expected))
    assert np.dot(mean, rows) == pytest.approx(loss.sum())


def test_grid_of_few_rows():
    centres, mean, rows = error_grid(uniform_places(0), np.zeros(0))
    assert (centres.shape, mean.shape, rows.shape) == ((0, 2), (0,), (0,))
    _, mean, rows = error_grid(CORNERS[:2], np.array([1.0, 3]))
    assert (mean.tolist(), rows.tolist()) == ([2], [2])
