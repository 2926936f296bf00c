import numpy as np
import pytest

from graticule.encoders.nearest_sites import halving, nearest_sites
from graticule.geo.coords import uniform_places, unit_sphere

POLES = [(lon, lat) for lat in (-90.0, 90.0) for lon in (-180.0, 0.0, 33.3)]
SEAM = [(lon, lat) for lat in (-40.0, 0.0, 66.6) for lon in (-180.0, np.nextafter(180, 0))]
rng = np.random.default_rng(0)
TOWN = unit_sphere(np.array([11.5, 48.1]) + rng.normal(0, 0.01, (700, 2)))
EVEN = unit_sphere(np.concatenate([uniform_places(3000, seed=1), POLES, SEAM]))


def naive(xyz, sites, nearest):
    return np.array([sorted(((x - s) ** 2).sum() for s in sites)[:nearest] for x in xyz])


@pytest.mark.parametrize("search", [halving, nearest_sites])
@pytest.mark.parametrize("nearest", [1, 4, 12])
@pytest.mark.parametrize(
    "sites", [unit_sphere(uniform_places(40, seed=2)), np.concatenate([TOWN[:300], EVEN[:50]])], ids=["few", "dense"]
)
def test_they_are_the_nearest_in_their_order(search, nearest, sites):
    xyz = np.concatenate([EVEN[-20:], TOWN[-10:], sites[:3]])
    found = search(xyz, sites, nearest)
    assert found.shape == (len(xyz), nearest)
    squares = ((xyz[:, None] - sites[found]) ** 2).sum(-1)
    np.testing.assert_allclose(squares, naive(xyz, sites, nearest), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("xyz", "sites"),
    [
        (EVEN, unit_sphere(uniform_places(2000, seed=3))),
        (np.concatenate([TOWN, EVEN]), np.concatenate([TOWN[:400], EVEN[::7]])),
        (np.repeat(EVEN[:1], 3000, axis=0), EVEN),
        (EVEN, TOWN),
    ],
    ids=["even", "towns", "one place", "all sites in one town"],
)
def test_numpy_finds_what_the_tree_finds(xyz, sites):
    ours, tree = (np.sort(search(xyz, sites, 12), axis=1) for search in (halving, nearest_sites))
    differ = (ours != tree).any(axis=1)
    for row in np.flatnonzero(differ):  # only where two are equally far
        a, b = (np.sort(((xyz[row] - sites[found[row]]) ** 2).sum(-1)) for found in (ours, tree))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_no_places_and_all_sites():
    assert halving(EVEN[:0], EVEN, 5).shape == (0, 5)
    sites = EVEN[:7]
    np.testing.assert_array_equal(np.sort(halving(EVEN[:40], sites, 7), axis=1), np.tile(np.arange(7), (40, 1)))
