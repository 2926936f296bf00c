"""Soft Voronoi cells against their formula written out, and the promises: no step anywhere, sites that can move."""

import math

import numpy as np
import pytest
import torch

from graticule.encoders import voronoi as module
from graticule.encoders.voronoi import FADED, Voronoi, land_first, voronoi
from graticule.encoders.weighted_rows import WeightedRows
from graticule.errors import SettingError
from graticule.geo.coarse_land import mostly_land
from graticule.geo.coords import great_circle_km, uniform_places, unit_sphere

PLACES = uniform_places(60)
POLES_AND_SEAM = np.array([[0.0, 90.0], [120.0, 90.0], [7.0, -90.0], [180.0, 10.0], [-180.0, 10.0]])


def drawn(sites, features, seed=0):
    """Directions of any length, sharpness and values."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(sites, 3)), rng.uniform(0.5, 40, sites), rng.normal(size=(sites, features))


def naive_voronoi(point, sites, sharpness, values, nearest):
    """One point: sort all sites by distance, weigh the nearest, divide by the sum."""
    squares = []
    for site in sites:
        length = math.sqrt(sum(c * c for c in site))
        squares.append(sum((p - c / length) ** 2 for p, c in zip(point, site, strict=True)))
    order = sorted(range(len(sites)), key=squares.__getitem__)[:nearest]
    total, weights = np.zeros(values.shape[1]), 0.0
    for j in order:
        share = squares[j] / squares[order[-1]]
        weight = (1 + FADED - share) * math.exp(-sharpness[j] * (share - squares[order[0]] / squares[order[-1]]))
        total += weight * values[j]
        weights += weight
    return total / weights


@pytest.mark.parametrize("nearest", [4, 7, 40])
def test_voronoi_is_the_loop(nearest):
    sites, sharpness, values = drawn(40, 3)
    xyz = unit_sphere(np.concatenate([PLACES, POLES_AND_SEAM]))
    expected = np.array([naive_voronoi(point, sites, sharpness, values, nearest) for point in xyz])
    np.testing.assert_allclose(voronoi(xyz, sites, sharpness, values, nearest), expected, atol=1e-9)


def largest_step(steps, nearest=6):
    """Between neighbours on a great circle that crosses the antimeridian and passes 10 degrees from the poles."""
    angle = np.linspace(0, 2 * np.pi, steps + 1)[:, None]
    circle = np.cos(angle) * [0, -1, 0] + np.sin(angle) * [math.cos(1.4), 0, math.sin(1.4)]
    return abs(np.diff(voronoi(circle, *drawn(300, 4, seed=2), nearest), axis=0)).max()


def test_a_site_that_enters_or_leaves_the_nearest_makes_no_step(monkeypatch):
    assert 8 < largest_step(4000) / largest_step(40_000) < 12
    monkeypatch.setattr(module, "FADED", 1e6)  # no fade
    assert largest_step(4000) / largest_step(40_000) < 1.5


def test_poles_and_the_antimeridian_are_places_like_others():
    out = Voronoi(sites=64, dtype="float64")(POLES_AND_SEAM)
    np.testing.assert_allclose(out[0], out[1], atol=1e-12)
    np.testing.assert_allclose(out[3], out[4], atol=1e-12)


def test_equal_values_give_that_value_and_very_sharp_sites_the_nearest_value():
    sites, sharpness, values = drawn(50, 3)
    xyz = unit_sphere(PLACES)
    np.testing.assert_allclose(voronoi(xyz, sites, sharpness, np.full((50, 2), 3.0), 8), 3.0, atol=1e-12)
    hard = voronoi(xyz, sites, np.full(50, 1e5), values, 8)
    unit = sites / np.linalg.norm(sites, axis=1, keepdims=True)
    np.testing.assert_allclose(hard, values[(xyz @ unit.T).argmax(1)], atol=1e-3)


def test_sharpness_moves_no_border_and_ends_a_site_sooner_outside_its_cell():
    sites, sharpness, _ = drawn(50, 1)
    unit = sites / np.linalg.norm(sites, axis=1, keepdims=True)
    values, xyz = np.eye(50), unit_sphere(uniform_places(3000))
    first, second = np.argsort(-(xyz @ unit.T), axis=1)[:, :2].T
    normal = unit[first] - unit[second]
    border = xyz - (xyz * normal).sum(1, keepdims=True) / (normal**2).sum(1, keepdims=True) * normal
    border /= np.linalg.norm(border, axis=1, keepdims=True)
    rows = np.flatnonzero((border @ unit.T).max(1) < (border * unit[first]).sum(1) + 1e-9)  # no third site is nearer
    assert len(rows) > 2000
    weights = voronoi(border, sites, sharpness, values, 8)
    np.testing.assert_allclose(weights[rows, first[rows]], weights[rows, second[rows]], atol=1e-7)
    even = voronoi(xyz, sites, np.full(50, 8.0), values, 8)
    sharp = voronoi(xyz, sites, np.where(np.arange(50) == 0, 80.0, 8.0), values, 8)
    assert sharp[first == 0, 0] == pytest.approx(even[first == 0, 0])
    outside = first != 0
    assert sharp[outside, 0].mean() < 0.5 * even[outside, 0].mean()


def test_the_length_of_a_site_means_nothing_and_few_rows_are_no_special_case():
    sites, sharpness, values = drawn(30, 2)
    xyz = unit_sphere(PLACES)
    whole = voronoi(xyz, sites, sharpness, values, 5)
    np.testing.assert_allclose(voronoi(xyz, 7 * sites, sharpness, values, 5), whole, atol=1e-12)
    np.testing.assert_allclose(voronoi(xyz[3:4], sites, sharpness, values, 5), whole[3:4], atol=1e-12)
    assert voronoi(xyz[:0], sites, sharpness, values, 5).shape == (0, 2)


def test_sites_on_one_spot_are_averaged():
    sites, sharpness, values = drawn(30, 2)
    sites[:6] = sites[0]
    at_them = sites[:1] / np.linalg.norm(sites[0])
    for xyz in (at_them, -at_them, unit_sphere(PLACES)):
        assert np.isfinite(voronoi(xyz, sites, sharpness, values, 6)).all()
    np.testing.assert_allclose(voronoi(at_them, sites, sharpness, values, 6)[0], values[:6].mean(0), atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    parameters = [torch.from_numpy(array).requires_grad_() for array in drawn(20, 2)]
    xyz = torch.from_numpy(unit_sphere(PLACES[:5]))
    assert torch.autograd.gradcheck(lambda *arrays: voronoi(xyz, *arrays, 6), parameters)


def test_weighted_rows_pass_gradients_to_rows_and_weights():
    rng = np.random.default_rng(0)
    table, weight = (torch.from_numpy(rng.normal(size=size)).requires_grad_() for size in ((9, 3), (5, 4)))
    index = torch.from_numpy(rng.integers(0, 9, (5, 4)))
    assert torch.autograd.gradcheck(lambda t, w: WeightedRows.apply(t, index, w), (table, weight))


def test_moved_sites_are_found_where_they_are():
    basis = Voronoi(sites=40, nearest=5, site_features=3, dtype="float64")
    sites, _, values = drawn(40, 3, seed=4)
    moved = {"sites": sites, "log_sharpness": np.full(40, math.log(2)), "values": values}
    np.testing.assert_allclose(basis(PLACES, moved), voronoi(unit_sphere(PLACES), sites, np.full(40, 16.0), values, 5))
    moved = {name: array.astype(np.float32) for name, array in moved.items()}
    in_torch = basis(torch.from_numpy(PLACES), {name: torch.from_numpy(array) for name, array in moved.items()})
    np.testing.assert_allclose(in_torch.numpy(), basis(PLACES, moved), atol=1e-12)


def test_sites_start_on_land_and_evenly():
    places = land_first(4096, 0.25)
    land = mostly_land(places)
    assert land.mean() == pytest.approx(0.285 / (0.285 + 0.25 * 0.715), abs=0.02)
    assert mostly_land(land_first(4096, 1)).mean() == pytest.approx(0.285, abs=0.01)
    everywhere = uniform_places(2000)
    far = np.array([great_circle_km(place, places).min() for place in everywhere])
    assert far[mostly_land(everywhere)].max() < 350
    assert far.max() < 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nearest": 3}, "nearest=3"),
        ({"sites": 8}, "sites=8"),
        ({"site_features": 0}, "site_features=0"),
        ({"sharpness": 0}, "got 0 and"),
        ({"sea_density": 0}, "and 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        Voronoi(**options)
